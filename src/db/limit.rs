//! The limit on the size of files that the process may write (`ulimit -f`).
//!
//! It looks like a failing disk: SQLite reports an I/O error. So it is looked for
//! where one is met, and at start.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::Error;
use super::place::beside;

/// A database with its first schema, and a log beside it, need about this.
const SMALLEST: u64 = 4 << 20;
/// So near to the limit, a write does not fit any more.
const MARGIN: u64 = 1 << 20;

/// The limit, where there is one.
#[must_use]
pub fn of_file_size() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}

/// What to do about it.
pub(super) fn advice() -> String {
    let limit = of_file_size().map_or_else(String::new, |limit| format!(" of {limit} bytes"));
    format!("the limit{limit} on the size of files (ulimit -f, LimitFSIZE= of the unit) must be raised")
}

/// The same error, with what really holds it up.
pub(super) fn explain(error: Error, database: &Path) -> Error {
    match error {
        Error::Io(text) if is_reached(database) => Error::Io(format!("{text}: {}", advice())),
        error => error,
    }
}

/// Whether the database can no longer be used because of it.
pub(super) fn is_reached(database: &Path) -> bool {
    let Some(limit) = of_file_size() else { return false };
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    let largest = size(database).max(size(&beside(database, "-wal")));
    limit < SMALLEST || largest.saturating_add(MARGIN) > limit
}
