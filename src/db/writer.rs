//! The writer: one thread, one write connection, group commit.
//!
//! Callers hand over a closure and what to do with its outcome. The thread
//! takes all that wait, runs them in one transaction, commits once, and only
//! then tells each its outcome, so an acknowledgement means "on disk". Alone, a
//! write waits for no one; under load many share one `fsync`.
//!
//! Closures first run without savepoints, which cost more than most writes do.
//! When one fails, everything is rolled back and run again with a savepoint
//! each, so that it fails alone; that is why closures must be re-runnable.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{Error, Health, Metrics, Tx, limit};

/// At most this many writes share a commit, so that a batch stays short.
const MAX_BATCH: usize = 512;

thread_local! {
    /// Pages in the write-ahead log after this thread's last commit. SQLite's
    /// hook takes a plain function, so the number travels through here.
    static WAL_PAGES: Cell<u64> = const { Cell::new(0) };
}

/// A write of any type: run in a transaction, then told how it ended.
pub(super) trait Write: Send {
    fn run(&mut self, tx: &Tx<'_>) -> Result<(), Error>;
    fn finish(self: Box<Self>, outcome: Result<(), Error>);
}

/// The usual write: a closure, the value it made, and who waits for it.
struct Closure<T, F, D> {
    work: F,
    value: Option<T>,
    done: D,
}

impl<T, F, D> Write for Closure<T, F, D>
where
    T: Send,
    F: FnMut(&Tx<'_>) -> Result<T, Error> + Send,
    D: FnOnce(Result<T, Error>) + Send,
{
    fn run(&mut self, tx: &Tx<'_>) -> Result<(), Error> {
        let work = AssertUnwindSafe(|| (self.work)(tx));
        self.value = Some(catch_unwind(work).unwrap_or_else(|panic| Err(panic_error(&*panic)))?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), Error>) {
        let Self { value, done, .. } = *self;
        let answer = outcome.and_then(|()| value.ok_or(Error::Closed));
        if catch_unwind(AssertUnwindSafe(|| done(answer))).is_err() {
            tracing::error!("what was to happen after a commit panicked");
        }
    }
}

pub(super) fn closure<T, F, D>(work: F, done: D) -> Box<dyn Write>
where
    T: Send + 'static,
    F: FnMut(&Tx<'_>) -> Result<T, Error> + Send + 'static,
    D: FnOnce(Result<T, Error>) + Send + 'static,
{
    Box::new(Closure { work, value: None, done })
}

pub(super) fn panic_error(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    Error::Panicked(text.unwrap_or_else(|| "no message".into()))
}

/// Writes that wait for the thread.
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    bound: usize,
}

#[derive(Default)]
struct Waiting {
    writes: VecDeque<Box<dyn Write>>,
    asleep: bool,
    closed: bool,
}

impl Inbox {
    pub(super) fn new(bound: usize) -> Self {
        Self { waiting: Mutex::default(), filled: Condvar::new(), bound }
    }

    /// Hands a write over. When the inbox is full or closed the write is told
    /// so at once; with `must` it is taken even when full, for writes whose
    /// number something else bounds.
    pub(super) fn put(&self, write: Box<dyn Write>, must: bool) {
        let mut waiting = self.lock();
        let refusal = if waiting.closed {
            Some(Error::Closed)
        } else if !must && waiting.writes.len() >= self.bound {
            Some(Error::Overloaded)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            drop(waiting);
            write.finish(Err(refusal));
            return;
        }
        waiting.writes.push_back(write);
        let wake = std::mem::take(&mut waiting.asleep);
        drop(waiting);
        if wake {
            self.filled.notify_one();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().writes.len()
    }

    /// No more writes; the thread ends after those that wait.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Fills `batch` with what waits; false when closed and empty.
    fn take(&self, batch: &mut Vec<Box<dyn Write>>) -> bool {
        let mut waiting = self.lock();
        while waiting.writes.is_empty() {
            if waiting.closed {
                return false;
            }
            waiting.asleep = true;
            waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let count = waiting.writes.len().min(MAX_BATCH);
        batch.extend(waiting.writes.drain(..count));
        true
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the writer's thread owns.
pub(super) struct Writer {
    pub open: Box<dyn Fn() -> Result<Connection, Error> + Send>,
    pub database: PathBuf,
    pub inbox: Arc<Inbox>,
    pub health: Arc<Health>,
    pub metrics: Metrics,
    /// Above this many pages in the log the writer itself restarts it.
    pub wal_bound_pages: u64,
}

impl Writer {
    /// Runs until the inbox is closed and empty, then checkpoints.
    pub(super) fn run(self, connection: Connection) {
        let mut connection = Some(Self::prepare(connection));
        let mut batch = Vec::with_capacity(MAX_BATCH);
        let mut restart_above = self.wal_bound_pages;
        while self.inbox.take(&mut batch) {
            let outcomes = self.batch_on(&mut connection, &mut batch);
            for (write, outcome) in batch.drain(..).zip(outcomes) {
                write.finish(outcome);
            }
            self.health.batch_done();
            let pages = WAL_PAGES.get();
            self.health.set_wal_pages(pages);
            if pages < self.wal_bound_pages {
                restart_above = self.wal_bound_pages;
            }
            if let Some(connection) = &connection
                && pages > restart_above
                && !self.health.is_copied()
            {
                restart_above = self.restart_wal(connection, pages);
            }
        }
        if let Some(connection) = connection {
            let _ = checkpoint(&connection, "TRUNCATE");
            let _ = connection.execute_batch("PRAGMA optimize");
        }
    }

    /// Our hook in place of SQLite's own, which would checkpoint inside
    /// somebody's commit.
    fn prepare(connection: Connection) -> Connection {
        connection.wal_hook(Some(|_, pages| {
            WAL_PAGES.set(u64::try_from(pages).unwrap_or(0));
            Ok(())
        }));
        connection
    }

    fn batch_on(&self, connection: &mut Option<Connection>, batch: &mut [Box<dyn Write>]) -> Vec<Result<(), Error>> {
        let opened = match connection.take() {
            Some(connection) => Ok(connection),
            None => (self.open)().map(Self::prepare),
        };
        let outcome = opened.and_then(|open| {
            let start = Instant::now();
            let outcome = run_batch(&open, batch);
            self.metrics.batch(batch.len(), start.elapsed());
            // A rollback that failed would leave every later write inside it.
            let whole = open.is_autocommit();
            if whole && !matches!(&outcome, Err(error) if error.spoils_connection()) {
                *connection = Some(open);
            }
            outcome
        });
        let outcome = outcome.map_err(|error| limit::explain(error, &self.database));
        self.health.writes(outcome.as_ref().err());
        outcome.unwrap_or_else(|error| {
            self.metrics.failed_batches.inc();
            vec![Err(error); batch.len()]
        })
    }

    /// Starts the log over; the bound to use next. Readers that are in the
    /// middle of something can make this fail: then the log may grow a little
    /// further before the next attempt.
    fn restart_wal(&self, connection: &Connection, pages: u64) -> u64 {
        let start = Instant::now();
        let restarted = checkpoint(connection, "RESTART");
        self.metrics.wal_restart_seconds.observe(start.elapsed().as_secs_f64());
        match restarted {
            Ok(true) => {
                WAL_PAGES.set(0);
                self.wal_bound_pages
            }
            Ok(false) | Err(_) => pages + self.wal_bound_pages / 4,
        }
    }
}

/// Checkpoints in the given mode; whether it reached its end.
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> Result<bool, Error> {
    // Waiting for readers is bounded, because commits wait meanwhile.
    connection.busy_timeout(Duration::from_millis(100))?;
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let busy = connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
    connection.busy_timeout(super::BUSY_TIMEOUT)?;
    Ok(busy? == 0)
}

/// Each write's outcome, or the error for which none of them happened.
fn run_batch(connection: &Connection, batch: &mut [Box<dyn Write>]) -> Result<Vec<Result<(), Error>>, Error> {
    match run_together(connection, batch) {
        Ok(()) => Ok(vec![Ok(()); batch.len()]),
        Err(error) => {
            roll_back(connection);
            if error.is_batch_wide() { Err(error) } else { run_apart(connection, batch) }
        }
    }
}

fn run_together(connection: &Connection, batch: &mut [Box<dyn Write>]) -> Result<(), Error> {
    execute(connection, "BEGIN IMMEDIATE")?;
    let tx = Tx::new(connection);
    for write in batch {
        write.run(&tx)?;
        still_open(connection)?;
    }
    execute(connection, "COMMIT")
}

fn run_apart(connection: &Connection, batch: &mut [Box<dyn Write>]) -> Result<Vec<Result<(), Error>>, Error> {
    let run = || {
        execute(connection, "BEGIN IMMEDIATE")?;
        let tx = Tx::new(connection);
        let mut outcomes = Vec::with_capacity(batch.len());
        for write in batch {
            execute(connection, "SAVEPOINT one")?;
            let outcome = write.run(&tx);
            if let Err(error) = &outcome {
                if error.is_batch_wide() {
                    return Err(error.clone());
                }
                still_open(connection)?;
                execute(connection, "ROLLBACK TO one")?;
            }
            still_open(connection)?;
            execute(connection, "RELEASE one")?;
            outcomes.push(outcome);
        }
        execute(connection, "COMMIT")?;
        Ok(outcomes)
    };
    let outcomes = run();
    if outcomes.is_err() {
        roll_back(connection);
    }
    outcomes
}

/// A full disk or an I/O error can make SQLite roll the transaction back
/// beneath a closure that swallowed the error.
fn still_open(connection: &Connection) -> Result<(), Error> {
    if connection.is_autocommit() {
        return Err(Error::Io("the transaction was rolled back by the engine".into()));
    }
    Ok(())
}

fn roll_back(connection: &Connection) {
    if !connection.is_autocommit() {
        let _ = execute(connection, "ROLLBACK");
    }
}

fn execute(connection: &Connection, sql: &str) -> Result<(), Error> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}
