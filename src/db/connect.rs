//! How connections are opened, and the settings that every one of them has.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::place::{beside, plain_name};
use super::{BUSY_TIMEOUT, Error};

/// Prepared statements that a connection keeps.
const STATEMENT_CACHE: usize = 128;

/// The write connection. `synchronous=FULL` makes a commit wait until the log is
/// on disk.
pub(super) fn writer(path: &Path) -> Result<Connection, Error> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -8192;
         PRAGMA journal_size_limit = 67108864;",
    )?;
    Ok(connection)
}

/// The write connection of a database that is made where there is none.
#[cfg(test)]
pub(super) fn fresh(path: &Path) -> Result<Connection, Error> {
    if !path.exists() {
        super::place::make(path)?;
    }
    writer(path)
}

/// A connection that can only read.
pub(super) fn reader(path: &Path) -> Result<Connection, Error> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.execute_batch(
        "PRAGMA query_only = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -1024;",
    )?;
    Ok(connection)
}

/// A connection for checkpoints and for looking at files.
pub(super) fn plain(path: &Path) -> Result<Connection, Error> {
    open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

/// A connection that leaves no trace: reading a database whose log is empty would otherwise make the log's files
/// anew and leave them, with this process's owner, beside it.
pub(super) fn look(database: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = plain_name(database);
    let connection = if beside(&database, "-wal").exists() {
        Connection::open_with_flags(database, flags)?
    } else {
        let uri = format!("file:{}?immutable=1", escaped(&database.to_string_lossy()));
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
    };
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// A path as part of a URI.
fn escaped(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    // One thread at a time owns a connection, so SQLite's own locks are not needed.
    let connection = Connection::open_with_flags(plain_name(path), flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}
