//! Whether a long piece of work gets further.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

/// Instructions of SQLite's machine between two marks: a millisecond or so.
const INSTRUCTIONS: i32 = 50_000;

/// Counts while SQLite gets further with a migration. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// A number that grows while something is done.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one piece of other work.
    pub(super) fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what this connection does from now on.
    pub(super) fn watch(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let count = self.0.clone();
        let go_on = move || {
            count.fetch_add(1, Ordering::Relaxed);
            false
        };
        connection.progress_handler(INSTRUCTIONS, Some(go_on))
    }

    /// Counts it no longer.
    pub(super) fn leave(connection: &Connection) -> Result<(), rusqlite::Error> {
        connection.progress_handler(0, None::<fn() -> bool>)
    }
}
