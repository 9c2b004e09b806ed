//! What can go wrong with a backup, for people.

use std::io;
use std::path::Path;

use crate::db;

/// Why a backup could not be made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file is none, or not one that this binary reads.
    #[error("{0}")]
    NotABackup(String),
    /// It does not hold what it held when it was made.
    #[error("the backup is damaged: {0}; take another one (agentd backup list)")]
    Damaged(String),
    /// Nothing at hand opens it.
    #[error("{0}")]
    Locked(String),
    /// It was made by a newer agentd.
    #[error(
        "the backup has schema version {found}, this agentd knows {known}: install the agentd that made it, or a newer one"
    )]
    Newer {
        /// The schema in the backup.
        found: i32,
        /// The newest that this binary knows.
        known: i32,
    },
    /// Not enough space.
    #[error("{0}")]
    Full(String),
    /// It cannot be done as things are.
    #[error("{0}")]
    Refused(String),
    /// The service stops.
    #[error("the service was stopped")]
    Stopped,
    /// A file or a folder.
    #[error("{what}: {source}")]
    Io {
        /// What was to be done, and where.
        what: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The database in it, or the one that it is made of.
    #[error("the database: {0}")]
    Database(#[from] db::Error),
    /// The copy of the database cannot be used.
    #[error("the database in it: {0}")]
    Copy(#[from] db::OpenError),
}

/// Says what was to be done where.
pub(super) fn io_at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let place = path.display().to_string();
    move |source| {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return BackupError::Full(format!(
                "the disk is full: {place}; free some space, or set backup.dir to another disk"
            ));
        }
        BackupError::Io { what: format!("{what} {place}"), source }
    }
}
