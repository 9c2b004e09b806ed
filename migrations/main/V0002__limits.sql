-- What tenants may use and have used, who may call from where, rotation of keys.
--
-- Only additions: the binary before this one works on the schema as it is now.

-- What a tenant may use. A tenant without a row has the defaults.
CREATE TABLE quotas (
    tenant_no INTEGER PRIMARY KEY REFERENCES tenants (no) ON DELETE CASCADE,
    -- NULL is no limit of its own.
    requests_per_minute INTEGER,
    queued_jobs INTEGER,
    concurrent_jobs INTEGER,
    jobs_per_day INTEGER,
    -- Its share of the places, against the others' weights.
    weight INTEGER NOT NULL DEFAULT 1,
    -- NULL is the service's own.
    retention_days INTEGER,
    updated_at INTEGER NOT NULL
) STRICT;

-- Web pages that may call with a tenant's keys: scheme, host and port.
CREATE TABLE origins (
    tenant_no INTEGER NOT NULL REFERENCES tenants (no) ON DELETE CASCADE,
    origin TEXT NOT NULL,
    PRIMARY KEY (tenant_no, origin)
) STRICT, WITHOUT ROWID;

-- What a tenant has used, a row a day, written together every few seconds.
CREATE TABLE usage_daily (
    tenant_no INTEGER NOT NULL REFERENCES tenants (no) ON DELETE CASCADE,
    -- Days since 1970-01-01 UTC.
    day INTEGER NOT NULL,
    requests INTEGER NOT NULL DEFAULT 0,
    rate_limited INTEGER NOT NULL DEFAULT 0,
    jobs_submitted INTEGER NOT NULL DEFAULT 0,
    jobs_succeeded INTEGER NOT NULL DEFAULT 0,
    jobs_failed INTEGER NOT NULL DEFAULT 0,
    -- Time that attempts took.
    run_micros INTEGER NOT NULL DEFAULT 0,
    -- Submitted on that day and deleted since: what counting rows would miss.
    jobs_deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_no, day)
) STRICT, WITHOUT ROWID;

-- Networks from which a key counts, parted by spaces; NULL for all.
ALTER TABLE api_keys ADD COLUMN allowed_ips TEXT;
-- The ids of the key that this one took the place of, and of the one that took its.
ALTER TABLE api_keys ADD COLUMN rotated_from TEXT;
ALTER TABLE api_keys ADD COLUMN replaced_by TEXT;
