//! The readers: a few threads, each with a read-only connection.
//!
//! A read runs in a transaction of its own, so all its statements see one
//! state, and under a deadline, because a long one would hold the write-ahead
//! log open.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::writer::panic_error;
use super::{Error, Tx};

/// SQLite's instructions between two looks at the deadline.
const DEADLINE_CHECK_EVERY: i32 = 4_000;

/// A read: run on a connection, or told why it could not be.
pub(super) type Read = Box<dyn FnOnce(Result<&Tx<'_>, Error>) -> Option<Error> + Send>;

/// Reads that wait for a thread.
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    bound: usize,
}

#[derive(Default)]
struct Waiting {
    reads: VecDeque<Read>,
    closed: bool,
}

impl Inbox {
    pub(super) fn new(bound: usize) -> Self {
        Self { waiting: Mutex::default(), filled: Condvar::new(), bound }
    }

    pub(super) fn put(&self, read: Read) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.closed || waiting.reads.len() >= self.bound {
            let refusal = if waiting.closed { Error::Closed } else { Error::Overloaded };
            drop(waiting);
            read(Err(refusal));
            return;
        }
        waiting.reads.push_back(read);
        drop(waiting);
        self.filled.notify_one();
    }

    pub(super) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.filled.notify_all();
    }

    fn take(&self) -> Option<Read> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(read) = waiting.reads.pop_front() {
                return Some(read);
            }
            if waiting.closed {
                return None;
            }
            waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Wraps a closure and who waits for its value into a [`Read`].
pub(super) fn read<T, F, D>(work: F, done: D) -> Read
where
    T: Send + 'static,
    F: FnOnce(&Tx<'_>) -> Result<T, Error> + Send + 'static,
    D: FnOnce(Result<T, Error>) + Send + 'static,
{
    Box::new(move |tx| {
        let outcome = tx.and_then(|tx| {
            catch_unwind(AssertUnwindSafe(|| work(tx))).unwrap_or_else(|panic| Err(panic_error(&*panic)))
        });
        let error = outcome.as_ref().err().cloned();
        done(outcome);
        error
    })
}

/// What one reader's thread owns.
pub(super) struct Reader {
    pub open: Arc<dyn Fn() -> Result<Connection, Error> + Send + Sync>,
    pub inbox: Arc<Inbox>,
    pub deadline: Duration,
}

impl Reader {
    /// Runs until the inbox is closed and empty. The connection is opened for
    /// the first read, and anew after an error below SQLite.
    pub(super) fn run(&self) {
        let ends = Arc::new(Mutex::new(Instant::now()));
        let mut connection = None;
        while let Some(read) = self.inbox.take() {
            let open = match connection.take() {
                Some(open) => Ok(open),
                None => self.connect(&ends),
            };
            match open {
                Err(error) => {
                    read(Err(error));
                }
                Ok(open) => {
                    *ends.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + self.deadline;
                    if Self::serve(&open, read) {
                        connection = Some(open);
                    }
                }
            }
        }
    }

    fn connect(&self, ends: &Arc<Mutex<Instant>>) -> Result<Connection, Error> {
        let connection = (self.open)()?;
        let ends = ends.clone();
        let overdue = move || Instant::now() > *ends.lock().unwrap_or_else(PoisonError::into_inner);
        connection.progress_handler(DEADLINE_CHECK_EVERY, Some(overdue))?;
        Ok(connection)
    }

    /// Runs one read; whether the connection is still good.
    fn serve(connection: &Connection, read: Read) -> bool {
        let begin = connection.prepare_cached("BEGIN").and_then(|mut begin| begin.execute([]));
        let error = match begin {
            Ok(_) => read(Ok(&Tx::new(connection))),
            Err(error) => read(Err(error.into())),
        };
        let end = connection.prepare_cached("COMMIT").and_then(|mut end| end.execute([]));
        end.is_ok() && !error.is_some_and(|error| error.spoils_connection())
    }
}

/// An interrupted statement is a deadline that has passed.
pub(super) fn name_deadline<T>(outcome: Result<T, Error>, deadline: Duration) -> Result<T, Error> {
    outcome.map_err(|error| match error {
        Error::Sql(text) if text.contains("interrupt") => Error::Deadline(deadline),
        other => other,
    })
}
