-- Certificates by ACME (RFC 8555), and the tenant whose jobs renew them.

-- The service itself: what it does on its own account is a job of this tenant.
-- It has no keys, is in no list, and cannot be changed.
INSERT INTO tenants (no, id, name, status, cohort, created_at, updated_at)
VALUES (0, '00000000-0000-0000-0000-000000000000', 'system', 'active', 'everyone', 0, 0);

CREATE TABLE acme_accounts (
    -- URL of the directory.
    directory TEXT PRIMARY KEY,
    -- JSON: the account's URL and its private key.
    credentials TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE certificates (
    name TEXT PRIMARY KEY,
    -- What is shown: PEM, none before the first was issued.
    chain TEXT,
    private_key TEXT,
    -- Where it was issued, and when.
    directory TEXT,
    issued_at INTEGER,
    revoked_at INTEGER,
    -- When the authority suggests to renew it (RFC 9773), and when to ask again.
    window_start INTEGER,
    window_end INTEGER,
    ask_window_at INTEGER,
    -- The order under way, which a restart goes on with.
    order_directory TEXT,
    order_url TEXT,
    order_challenge TEXT,
    order_key TEXT,
    -- Failures since the last success.
    failures INTEGER NOT NULL DEFAULT 0,
    failing_since INTEGER,
    next_attempt_at INTEGER,
    problem TEXT,
    problem_at INTEGER
) STRICT, WITHOUT ROWID;
