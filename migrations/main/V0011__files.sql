-- Files of tenants, and batches of calls to language models that read and write them.
--
-- Only additions: the binary before this one works on the schema as it is now. It can delete no
-- tenant that has files or batches; this one clears those away first.

CREATE TABLE files (
    -- The time and counter bits of the id.
    no INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    tenant_no INTEGER NOT NULL REFERENCES tenants (no) ON DELETE CASCADE,
    name TEXT NOT NULL,
    purpose TEXT NOT NULL,
    -- Only a ready one is there for clients. What is gone has chunks that are still to be deleted.
    state TEXT NOT NULL CHECK (state = 'writing' OR state = 'ready' OR state = 'gone'),
    bytes INTEGER NOT NULL,
    -- Of the whole, once it is ready.
    sha256 BLOB,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;

-- A tenant's list, and the sum of what it keeps.
CREATE INDEX files_by_tenant ON files (tenant_no, state, no, bytes);
CREATE INDEX files_by_end ON files (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX files_unready ON files (state) WHERE state <> 'ready';

-- A file's content, in pieces that all have the same size but the last.
CREATE TABLE file_chunks (
    file_no INTEGER NOT NULL REFERENCES files (no),
    seq INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (file_no, seq)
) STRICT;

CREATE TABLE batches (
    no INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    tenant_no INTEGER NOT NULL REFERENCES tenants (no) ON DELETE CASCADE,
    -- Who pays: the key that made it, and the session that it named.
    key_id TEXT,
    session TEXT,
    -- Made with a test key: its calls go to the built-in model.
    test INTEGER NOT NULL,
    input_id BLOB NOT NULL,
    input_no INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    metadata TEXT,
    -- Seconds that its output is kept; NULL for the usual time.
    keep_output INTEGER,
    status TEXT NOT NULL,
    -- What it becomes when it has been finalized.
    ending TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- When it is to be worked on next; NULL once it has ended.
    due_at INTEGER,
    in_progress_at INTEGER,
    finalizing_at INTEGER,
    -- When it completed, failed, expired or was cancelled.
    ended_at INTEGER,
    cancelling_at INTEGER,
    total INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    -- The first line that has not been begun: its number, and where it stands in the file.
    next_line INTEGER NOT NULL DEFAULT 1,
    next_start INTEGER NOT NULL DEFAULT 0,
    -- JSON: what is wrong with the input.
    errors TEXT,
    output_id BLOB,
    error_id BLOB,
    -- 1 once the lines of an ended one have been deleted.
    cleared INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX batches_by_tenant ON batches (tenant_no, no);
CREATE INDEX batches_ended ON batches (ended_at, cleared) WHERE ended_at IS NOT NULL;
CREATE INDEX batches_open ON batches (due_at) WHERE due_at IS NOT NULL;

-- The lines that have been begun. They go when the batch has ended.
CREATE TABLE batch_lines (
    batch_no INTEGER NOT NULL REFERENCES batches (no),
    -- From 1, as an editor counts.
    line INTEGER NOT NULL,
    -- Where it stands in the input.
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    -- A call that is under way when the process dies may have been paid for.
    state TEXT NOT NULL CHECK (state = 'calling' OR state = 'waiting' OR state = 'done' OR state = 'failed'),
    attempts INTEGER NOT NULL,
    -- When a waiting one is tried again.
    due_at INTEGER,
    -- The line of the output or error file.
    result TEXT,
    PRIMARY KEY (batch_no, line)
) STRICT;

CREATE INDEX batch_lines_open ON batch_lines (batch_no) WHERE state = 'calling' OR state = 'waiting';
