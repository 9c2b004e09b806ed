-- What tenants may spend and have spent. Money is in nano-USD, 10⁻⁹ US dollars.
--
-- Only additions: the binary before this one works on the schema as it is now.

-- What a tenant may spend. A tenant without a row has no limits of its own.
CREATE TABLE budgets (
    tenant_no INTEGER PRIMARY KEY REFERENCES tenants (no) ON DELETE CASCADE,
    -- NULL is no limit; for a session it is the service's own.
    day INTEGER,
    month INTEGER,
    session INTEGER,
    on_exhausted TEXT NOT NULL CHECK (
        on_exhausted = 'reject' OR on_exhausted = 'clamp' OR on_exhausted = 'downgrade' OR on_exhausted = 'pause'),
    updated_at INTEGER NOT NULL
) STRICT;

-- What may be spent with a key, over all its time.
CREATE TABLE key_budgets (
    tenant_no INTEGER NOT NULL REFERENCES tenants (no) ON DELETE CASCADE,
    key_id TEXT NOT NULL,
    total INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_no, key_id)
) STRICT, WITHOUT ROWID;

-- Calls of models, a row each: money reserved before the call, what it cost
-- after it. No row refers to a tenant by a key: those of a deleted tenant are
-- cleared away in pieces.
CREATE TABLE model_calls (
    -- From the same source as the numbers of jobs, so the order is that of time.
    no INTEGER PRIMARY KEY,
    tenant_no INTEGER NOT NULL,
    key_id TEXT,
    session TEXT,
    job_no INTEGER,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    purpose TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state = 'reserved' OR state = 'settled'),
    reserved INTEGER NOT NULL,
    -- The rest is known when it is settled.
    cost INTEGER,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    cached_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens INTEGER NOT NULL DEFAULT 0,
    counted_by_provider INTEGER,
    -- over: it cost more than was reserved; assumed: nobody said what it cost;
    -- recovered: the process ended before anybody could.
    flag TEXT CHECK (flag IS NULL OR flag = 'over' OR flag = 'assumed' OR flag = 'recovered'),
    created_at INTEGER NOT NULL,
    settled_at INTEGER
) STRICT;

-- A tenant's calls, oldest first.
CREATE INDEX model_calls_by_tenant ON model_calls (tenant_no);
-- What the next start has to settle.
CREATE INDEX model_calls_reserved ON model_calls (no) WHERE state = 'reserved';

-- Money by windows of five minutes. The tenant -1 is the service as a whole.
CREATE TABLE spend (
    tenant_no INTEGER NOT NULL,
    -- Windows since 1970-01-01 UTC.
    bucket INTEGER NOT NULL,
    nano INTEGER NOT NULL,
    PRIMARY KEY (tenant_no, bucket)
) STRICT, WITHOUT ROWID;

CREATE INDEX spend_by_bucket ON spend (bucket);

-- Money over all time, of what has no window.
CREATE TABLE spend_totals (
    kind TEXT NOT NULL CHECK (kind = 'key' OR kind = 'session' OR kind = 'job'),
    tenant_no INTEGER NOT NULL,
    id TEXT NOT NULL,
    nano INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (kind, tenant_no, id)
) STRICT, WITHOUT ROWID;

-- A key's total counts as long as there is the key; the others grow old.
CREATE INDEX spend_totals_by_age ON spend_totals (updated_at) WHERE kind <> 'key';

-- What was used, by day, for reports.
CREATE TABLE spend_daily (
    tenant_no INTEGER NOT NULL,
    -- Days since 1970-01-01 UTC.
    day INTEGER NOT NULL,
    -- Empty for work without a key.
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    purpose TEXT NOT NULL,
    calls INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    nano INTEGER NOT NULL,
    PRIMARY KEY (tenant_no, day, key_id, model, provider, purpose)
) STRICT, WITHOUT ROWID;

-- Budgets of which much or all was spent.
CREATE TABLE budget_alerts (
    no INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    scope TEXT NOT NULL,
    -- NULL for the service as a whole.
    tenant_no INTEGER,
    key_id TEXT,
    percent INTEGER NOT NULL,
    cap INTEGER NOT NULL,
    spent INTEGER NOT NULL
) STRICT;
