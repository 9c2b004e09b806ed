-- People who administer the service, and where they are signed in.
--
-- Only additions: the binary before this one works on the schema as it is now.

CREATE TABLE users (
    -- AUTOINCREMENT: the number of a deleted user must never be another's.
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    -- What they sign in with: lower case, never changed.
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role = 'viewer' OR role = 'operator' OR role = 'admin'),
    -- Argon2id with its parameters and salt, as a PHC string.
    password TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    password_changed_at INTEGER NOT NULL,
    last_login_at INTEGER
) STRICT;

CREATE TABLE user_sessions (
    -- HMAC-SHA256 of the cookie's token with the key-hash secret.
    token BLOB PRIMARY KEY,
    user_no INTEGER NOT NULL REFERENCES users (no) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    -- However much it is used.
    ends_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX user_sessions_by_user ON user_sessions (user_no, created_at);
