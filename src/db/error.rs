//! What can go wrong with the database, in the words of those who call it.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::ErrorCode;

/// Why a read or a write did not happen. When a write returns any of these,
/// nothing of it is on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No space left on the file system (or over its quota).
    #[error("the disk that holds the database is full")]
    Full,
    /// The file system or the file does not accept writes.
    #[error("the database cannot be written: {0}")]
    ReadOnly(String),
    /// What is in the file is not as SQLite has left it.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// Reading or writing failed below SQLite.
    #[error("the database could not be read or written: {0}")]
    Io(String),
    /// More operations wait than the engine takes.
    #[error("too many database operations are waiting")]
    Overloaded,
    /// A read took longer than its deadline and was stopped.
    #[error("the query took longer than {0:?} and was stopped")]
    Deadline(Duration),
    /// The engine has been stopped.
    #[error("the database is closed")]
    Closed,
    /// The operation panicked; it alone was undone.
    #[error("a database operation panicked: {0}")]
    Panicked(String),
    /// A constraint of the schema refused the row.
    #[error("the database refused the row: {0}")]
    Constraint(String),
    /// Any other answer of SQLite: a fault of ours.
    #[error("the database answered: {0}")]
    Sql(String),
}

impl Error {
    /// Whether the same operation may succeed later without anyone changing
    /// it: the disk may have space again, the queue may be shorter.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        !matches!(self, Self::Panicked(_) | Self::Constraint(_) | Self::Sql(_))
    }

    /// Whether the connection that met this error should be opened anew.
    pub(super) fn spoils_connection(&self) -> bool {
        matches!(self, Self::Io(_) | Self::ReadOnly(_) | Self::Damaged(_))
    }

    /// Whether it belongs to everything that is written together: SQLite may have
    /// rolled all of it back, or the next write would meet the same.
    pub(super) fn is_batch_wide(&self) -> bool {
        matches!(self, Self::Full | Self::ReadOnly(_) | Self::Io(_) | Self::Damaged(_))
    }

    /// What the operating system says of a file.
    pub(super) fn from_io(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::ReadOnly(format!("{}: {error}", path.display()))
            }
            _ => Self::Io(format!("{}: {error}", path.display())),
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::of(&error)
    }
}

impl Error {
    /// What an answer of SQLite means.
    pub(super) fn of(error: &rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly(text),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(text),
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked,
            ) => Self::Io(text),
            Some(ErrorCode::ConstraintViolation) => Self::Constraint(text),
            _ => Self::Sql(text),
        }
    }
}
