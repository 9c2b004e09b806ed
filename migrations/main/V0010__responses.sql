-- Responses of language models that are kept: to be read again, gone on from, and
-- made in the background.
--
-- Only additions: the binary before this one works on the schema as it is now.

CREATE TABLE responses (
    -- The number inside the id, by which rows lie in the order in which they were made.
    no INTEGER PRIMARY KEY,
    -- A UUID; clients see resp_ and its digits.
    id BLOB NOT NULL,
    tenant_no INTEGER NOT NULL REFERENCES tenants (no) ON DELETE CASCADE,
    status TEXT NOT NULL
        CHECK (status IN ('queued', 'in_progress', 'completed', 'incomplete', 'failed', 'cancelled')),
    -- The response that this one goes on from. It may have been deleted since.
    previous_no INTEGER,
    -- The job that makes it in the background; NULL for one that was made at once.
    job_id BLOB,
    -- Whether the provider may have been asked already: it is never asked twice.
    called INTEGER NOT NULL DEFAULT 0,
    -- Who pays for what is made in the background.
    key_id TEXT,
    session TEXT,
    test INTEGER NOT NULL DEFAULT 0,
    finished_at INTEGER,
    -- The last of its events, from 0; NULL where events are not kept.
    last_event INTEGER,
    -- Bytes of input and response, so that what a chain comes to is known without reading it.
    bytes INTEGER NOT NULL,
    -- What was asked, without the input; only of what is made in the background.
    request TEXT,
    -- JSON: the list of items that were new in this turn.
    input TEXT NOT NULL,
    -- JSON: the response as clients see it.
    response TEXT NOT NULL
) STRICT;

CREATE INDEX responses_by_tenant ON responses (tenant_no, no);
-- Whether anything goes on from a response.
CREATE INDEX responses_by_previous ON responses (previous_no) WHERE previous_no IS NOT NULL;

-- Events of responses made in the background, those that came together in one row.
CREATE TABLE response_events (
    response_no INTEGER NOT NULL REFERENCES responses (no) ON DELETE CASCADE,
    -- The number of the last one in the row.
    seq INTEGER NOT NULL,
    -- JSON: a list of them.
    events TEXT NOT NULL,
    PRIMARY KEY (response_no, seq)
) STRICT, WITHOUT ROWID;
