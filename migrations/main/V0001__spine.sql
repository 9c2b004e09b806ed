-- Times are microseconds UTC since 1970. Ids are UUIDv7. See ARCHITECTURE.md.
--
-- Conditions that run at every write are chains of OR: SQLite builds a table in
-- memory for an IN list of more than two, at each statement.

-- Facts about this database.
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- How often a process has opened this database; leases carry it.
INSERT INTO meta (key, value) VALUES ('boot_epoch', '0');

CREATE TABLE tenants (
    -- AUTOINCREMENT: the number of a deleted tenant must never be another's.
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    -- A deleted tenant stays as a mark until its rows have been cleared away.
    status TEXT NOT NULL CHECK (status IN ('active', 'suspended', 'deleted')),
    cohort TEXT NOT NULL,
    -- The tenant that the single key of the configuration acts for.
    is_default INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX tenants_default ON tenants (is_default) WHERE is_default = 1;

CREATE TABLE api_keys (
    no INTEGER PRIMARY KEY,
    -- The public part of the key, which finds it.
    id TEXT NOT NULL UNIQUE,
    tenant_no INTEGER NOT NULL REFERENCES tenants (no) ON DELETE CASCADE,
    name TEXT NOT NULL,
    -- HMAC-SHA256 of the whole key with the key-hash secret.
    hash BLOB NOT NULL,
    -- Which key-hash secret made the hash: the first bytes of a MAC of it.
    secret_mark BLOB NOT NULL,
    test INTEGER NOT NULL,
    -- Scopes parted by spaces; '*' for all.
    scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    last_used_at INTEGER
) STRICT;

CREATE INDEX api_keys_by_tenant ON api_keys (tenant_no);

CREATE TABLE jobs (
    -- The time and counter bits of the id: creation order without an index.
    no INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    tenant_no INTEGER NOT NULL REFERENCES tenants (no),
    tool TEXT NOT NULL,
    status TEXT NOT NULL CHECK (
        status = 'queued' OR status = 'running' OR status = 'waiting' OR status = 'succeeded'
        OR status = 'failed' OR status = 'cancelled' OR status = 'dead'),
    priority INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    interruptions INTEGER NOT NULL,
    -- Sequence number of the last event.
    last_event INTEGER NOT NULL,
    -- Who runs it: boot epoch and a counter. Only the holder may write.
    lease INTEGER,
    due_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    cancel_requested_at INTEGER,
    -- JSON: timeouts, attempts, backoff, as submitted and filled in.
    options TEXT NOT NULL,
    metadata TEXT,
    retry_of BLOB,
    input TEXT NOT NULL,
    result TEXT,
    error TEXT
) STRICT;

-- A tenant's jobs in order; the row number is part of every index.
CREATE INDEX jobs_by_tenant ON jobs (tenant_no);
-- What is not finished: small, whatever the table's size.
CREATE INDEX jobs_open ON jobs (tenant_no) WHERE finished_at IS NULL;
-- What did not succeed, which people look for among many that did.
CREATE INDEX jobs_unsuccessful ON jobs (tenant_no, status)
    WHERE status = 'failed' OR status = 'cancelled' OR status = 'dead';

-- The events of one transaction share a row.
CREATE TABLE job_events (
    job_no INTEGER NOT NULL REFERENCES jobs (no) ON DELETE CASCADE,
    -- Number of the row's last event; a job's events are numbered from 1.
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    -- JSON: [[type, data], …], data an object.
    events TEXT NOT NULL,
    PRIMARY KEY (job_no, seq)
) STRICT, WITHOUT ROWID;

-- One row an event, for people who look into the database.
CREATE VIEW job_events_each AS
SELECT
    e.job_no,
    e.seq - json_array_length(e.events) + 1 + x.key AS seq,
    x.value ->> 0 AS type,
    e.at,
    x.value -> 1 AS data
FROM job_events AS e, json_each(e.events) AS x;

CREATE TABLE job_steps (
    job_no INTEGER NOT NULL REFERENCES jobs (no) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status = 'succeeded' OR status = 'failed' OR status = 'cancelled'),
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    -- NULL for the step that ended its job: what it gave is the job's result.
    output TEXT,
    error TEXT,
    PRIMARY KEY (job_no, seq)
) STRICT, WITHOUT ROWID;

-- Answers to requests with an Idempotency-Key, kept for a day.
CREATE TABLE idempotency (
    -- The tenant's number; 0 for the administrator.
    scope INTEGER NOT NULL,
    key TEXT NOT NULL,
    -- SHA-256 of method, path and body.
    fingerprint BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_by_age ON idempotency (created_at);
