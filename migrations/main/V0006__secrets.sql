-- Secrets sealed with the master key, which is not in this database.
--
-- Only additions: the binary before this one works on the schema as it is now.
-- It finds no private keys in its own columns, so it registers and orders anew;
-- what it writes there is sealed and taken away at the next start of this one.

CREATE TABLE secrets (
    -- What it is and which row it belongs to, parted by a space; sealed in with
    -- the value, so that no value can take another's place.
    name TEXT PRIMARY KEY,
    -- sealed:1:<id of the master key>:<base64>. The row 'check' is always there
    -- and tells which master key the database belongs to.
    sealed TEXT NOT NULL
) STRICT, WITHOUT ROWID;
