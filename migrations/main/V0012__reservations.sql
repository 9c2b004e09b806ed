-- Money that is held for calls under way, apart from the record of those that
-- have ended. A call waits for its reservation, and here that is one page: few
-- are open at a time, and no index is kept of them.
--
-- Only additions: the binary before this one goes on reserving in `model_calls`,
-- from where this one takes what it finds.
CREATE TABLE model_reservations (
    -- That of the call.
    no INTEGER PRIMARY KEY,
    tenant_no INTEGER NOT NULL,
    key_id TEXT,
    session TEXT,
    job_no INTEGER,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    purpose TEXT NOT NULL,
    -- Nano-USD.
    amount INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
