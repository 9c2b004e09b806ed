-- Steps that a job takes itself, as agents do, beside those that are attempts.
-- Columns are only added, so that the version before can still work here.

-- Which of the job's own steps it is, from 1; NULL for an attempt.
ALTER TABLE job_steps ADD COLUMN ordinal INTEGER;
-- JSON; NULL for an attempt, whose input is the job's.
ALTER TABLE job_steps ADD COLUMN input TEXT;

-- Of a tenant's jobs with the same key one runs at a time.
ALTER TABLE jobs ADD COLUMN concurrency_key TEXT;
-- The newest job that does this one again.
ALTER TABLE jobs ADD COLUMN retried_by BLOB;

CREATE INDEX jobs_by_concurrency_key ON jobs (tenant_no, concurrency_key)
    WHERE concurrency_key IS NOT NULL AND finished_at IS NULL;
