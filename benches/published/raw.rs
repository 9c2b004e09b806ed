//! SQLite alone on a database that agentd made: its schema, its indexes, its
//! durability, and none of its code.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::service::Service;

/// A connection with the settings of agentd's writer.
pub struct RawSqlite {
    connection: Connection,
    next: i64,
}

/// What is written for a job.
#[derive(Clone, Copy)]
pub enum Rows {
    /// Its own row.
    Job,
    /// Its own and that of its first events, as a submission writes them.
    JobAndEvents,
}

impl RawSqlite {
    /// Lets agentd make a database in `folder`, and opens it.
    pub fn create(folder: &Path) -> Self {
        Service::start(folder).stop();
        let raw = Self::open(folder);
        raw.connection
            .execute_batch(
                "INSERT INTO tenants (no, id, name, status, cohort, created_at, updated_at)
                 VALUES (1000, 'x', 'x', 'active', 'everyone', 0, 0)",
            )
            .expect("a tenant");
        raw
    }

    /// Opens a database that agentd made.
    pub fn open(folder: &Path) -> Self {
        let connection = Connection::open(folder.join("agentd.db")).expect("opens");
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
                 PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192",
            )
            .expect("settings");
        Self { connection, next: 1 }
    }

    /// For statements that measure nothing.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Commits of so many jobs each, for so long: their times, sorted.
    pub fn commits(&mut self, jobs: usize, rows: Rows, time: Duration) -> (Vec<Duration>, Duration) {
        let start = Instant::now();
        let mut times = Vec::new();
        while start.elapsed() < time {
            let one = Instant::now();
            self.commit(jobs, rows);
            times.push(one.elapsed());
        }
        let elapsed = start.elapsed();
        times.sort_unstable();
        (times, elapsed)
    }

    fn commit(&mut self, jobs: usize, rows: Rows) {
        let transaction = self.connection.transaction().expect("a transaction");
        for _ in 0..jobs {
            self.next += 1;
            let mut insert = transaction
                .prepare_cached(
                    "INSERT INTO jobs (no, id, tenant_no, tool, status, priority, attempt, interruptions, last_event,
                         due_at, created_at, options, input)
                     VALUES (?1, ?2, 1000, 'echo', 'waiting', 0, 0, 0, 2, ?3, ?3, '{}', ?4)",
                )
                .expect("a statement");
            let id = u128::try_from(self.next).expect("positive").to_be_bytes();
            insert.execute(params![self.next, id, self.next, super::INPUT]).expect("a row");
            if matches!(rows, Rows::JobAndEvents) {
                let mut insert = transaction
                    .prepare_cached("INSERT INTO job_events (job_no, seq, at, events) VALUES (?1, 2, ?1, ?2)")
                    .expect("a statement");
                insert.execute(params![self.next, FIRST_EVENTS]).expect("a row");
            }
        }
        transaction.commit().expect("a commit");
    }
}

const FIRST_EVENTS: &str =
    r#"[["job.queued",{}],["job.waiting",{"for":"time","until":"2030-01-01T00:00:00.000000Z"}]]"#;
