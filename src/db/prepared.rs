//! The snapshot before an upgrade, copied while the version before it still
//! serves, so that the start which migrates has little left to copy.
//!
//! `agentd migrate prepare` makes a whole and checked copy. The start brings it
//! to the state of the database byte by byte, before anything else is done with
//! either; a copy of a database that nobody writes to any more is as good as one
//! that SQLite makes, and takes a fraction of the time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::Backup;

use super::migrate::{Migration, Unfinished, intact, newest, version};
use super::place::{beside, folder_of, plain_name};
use super::{Error, OpenError, Progress, connect, free_bytes};

const EXTENSION: &str = "prepared";
const UNFINISHED: &str = "preparing";
/// Left free beside the copy, in bytes.
const MARGIN: u64 = 16 << 20;
/// What is compared at once: both pieces fit into a processor's cache.
const PIECE: usize = 128 << 10;

/// Copies a database that the next start would migrate, also while a service
/// works on it; `None` when there is nothing to migrate.
///
/// # Errors
/// When the database cannot be read, is damaged, or the copy cannot be written.
pub fn prepare(database: &Path, more: &[Migration]) -> Result<Option<PathBuf>, OpenError> {
    let from = connect::look(database)?;
    let schema = version(&from)?;
    if schema == 0 || schema >= newest(more) {
        return Ok(None);
    }
    let folder = folder(database);
    let io = |source| OpenError::Folder { folder: folder.clone(), source };
    std::fs::create_dir_all(&folder).map_err(io)?;
    let path = folder.join(format!("agentd-schema{schema:04}.{EXTENSION}"));
    let partial = Unfinished::new(path.with_extension(UNFINISHED));
    enough_space(&folder, database)?;
    let mut copy = Connection::open(plain_name(&partial.0)).map_err(Error::from)?;
    // All in one step: what is written meanwhile would make it begin anew.
    Backup::new(&from, &mut copy).and_then(|backup| backup.step(-1)).map_err(Error::from)?;
    intact(&copy)?;
    drop(copy);
    File::open(&partial.0).and_then(|file| file.sync_all()).map_err(io)?;
    std::fs::rename(&partial.0, &path).map_err(io)?;
    Ok(Some(path))
}

/// The copy takes as much again as the database, and whoever writes meanwhile
/// needs some too.
fn enough_space(folder: &Path, database: &Path) -> Result<(), OpenError> {
    let bytes = std::fs::metadata(database).map_or(0, |found| found.len());
    let free = free_bytes(folder).unwrap_or(u64::MAX);
    if free < bytes + bytes / 10 + MARGIN {
        return Err(Error::Full.into());
    }
    Ok(())
}

/// Brings a copy that was prepared to the state of the database. Nobody may have
/// the database open, this process included: closing the file would take away
/// the locks of SQLite's own.
///
/// Whatever is wrong, the usual snapshot is made instead.
pub(super) fn catch_up(database: &Path, progress: &Progress) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder(database)).ok()?;
    let (unfinished, paths): (Vec<_>, Vec<_>) = entries
        .flatten()
        .map(|entry| entry.path())
        .partition(|path| path.extension().is_some_and(|extension| extension == UNFINISHED));
    // Of one that was killed; the snapshot may need its place.
    for path in unfinished {
        let _ = std::fs::remove_file(path);
    }
    let mut prepared =
        paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
    let copy = prepared.next()?;
    let outcome = if is_folded(database) && prepared.next().is_none() {
        level(database, &copy, progress)
    } else {
        Err(io::Error::other("the service was killed, or there is more than one"))
    };
    match outcome {
        Ok(()) => Some(copy),
        Err(error) => {
            tracing::warn!(path = %copy.display(), %error, "the prepared snapshot is of no use");
            discard(database);
            None
        }
    }
}

/// Makes it the snapshot of a database with this schema version, if it is one.
pub(super) fn take(ready: Option<PathBuf>, schema: i32) -> Option<PathBuf> {
    let ready = ready?;
    let path = ready.with_extension("db");
    let fits = path.file_name().is_some_and(|name| *name == *format!("agentd-schema{schema:04}.db"));
    let folder = folder_of(&path);
    let moved = || std::fs::rename(&ready, &path).and_then(|()| File::open(folder)?.sync_all());
    (fits && moved().is_ok()).then_some(path)
}

/// Removes what was prepared and has not been used.
pub(super) fn discard(database: &Path) {
    for entry in std::fs::read_dir(folder(database)).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == EXTENSION || extension == "preparing") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn folder(database: &Path) -> PathBuf {
    folder_of(database).join("snapshots")
}

/// Whether the file holds everything: its log is folded into it at the end of a
/// service, but not when that is killed.
fn is_folded(database: &Path) -> bool {
    std::fs::metadata(beside(database, "-wal"))
        .map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |log| log.len() == 0)
}

/// Writes into the copy what differs.
fn level(database: &Path, copy: &Path, progress: &Progress) -> io::Result<()> {
    let (mut from, mut to) = (File::open(database)?, OpenOptions::new().read(true).write(true).open(copy)?);
    let (mut wanted, mut found) = (vec![0; PIECE], vec![0; PIECE]);
    let mut place = 0_u64;
    loop {
        let read = fill(&mut from, &mut wanted)?;
        if read == 0 {
            break;
        }
        if fill(&mut to, &mut found)? < read || wanted[..read] != found[..read] {
            to.seek(SeekFrom::Start(place))?;
            to.write_all(&wanted[..read])?;
        }
        place += read as u64;
        progress.one_more();
    }
    to.set_len(place)?;
    to.sync_all()
}

/// Reads until it is full or there is no more.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut full = 0;
    while full < buffer.len() {
        match file.read(&mut buffer[full..])? {
            0 => break,
            read => full += read,
        }
    }
    Ok(full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::connect;
    use crate::db::migrate::{embedded, run};

    /// A database of this binary's schema, open as that of a service is.
    fn place() -> (tempfile::TempDir, PathBuf, Connection) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agentd.db");
        let mut connection = connect::fresh(&path).expect("opens");
        run(&mut connection, embedded(), &folder.path().join("snapshots"), None, &Progress::default()).expect("new");
        (folder, path, connection)
    }

    fn next() -> Vec<Migration> {
        vec![Migration::unapplied("V9000__next", "CREATE TABLE next (x INTEGER) STRICT;").expect("a name")]
    }

    fn fill(connection: &Connection, table: &str) {
        let sql = format!(
            "CREATE TABLE {table} AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 300)
             SELECT x, randomblob(10000) AS y FROM n"
        );
        connection.execute_batch(&sql).expect("rows");
    }

    fn upgrade(path: &Path) -> PathBuf {
        let ready = catch_up(path, &Progress::default());
        let mut connection = connect::fresh(path).expect("opens");
        let migrations = embedded().into_iter().chain(next()).collect();
        let report = run(&mut connection, migrations, &folder(path), ready, &Progress::default()).expect("upgraded");
        report.snapshot.expect("a snapshot")
    }

    fn rows(snapshot: &Path, table: &str) -> i64 {
        let copy = Connection::open(snapshot).expect("opens");
        let verdict: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a verdict");
        assert_eq!(verdict, "ok");
        copy.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a number")
    }

    #[test]
    fn what_is_written_after_the_preparation_is_in_the_snapshot() {
        for shrinks in [false, true] {
            let (_folder, path, connection) = place();
            fill(&connection, "before");
            let prepared = prepare(&path, &next()).expect("prepared").expect("there is something to migrate");
            fill(&connection, "after");
            if shrinks {
                connection.execute_batch("DROP TABLE before; DROP TABLE after; VACUUM").expect("less");
                fill(&connection, "after");
            }
            drop(connection);
            let snapshot = upgrade(&path);
            assert_eq!(rows(&snapshot, "after"), 300);
            assert!(!prepared.exists());
        }
    }

    #[test]
    fn without_something_to_migrate_nothing_is_prepared() {
        let (_folder, path, _connection) = place();
        assert_eq!(prepare(&path, &[]).expect("looked at"), None);
    }

    #[test]
    fn what_the_log_still_holds_makes_it_useless() {
        let (_folder, path, connection) = place();
        let prepared = prepare(&path, &next()).expect("prepared").expect("there is something to migrate");
        fill(&connection, "after");
        assert_eq!(catch_up(&path, &Progress::default()), None);
        assert!(!prepared.exists());
        drop(connection);
        assert_eq!(rows(&upgrade(&path), "after"), 300);
    }

    #[test]
    fn one_of_another_schema_is_not_taken() {
        let (_folder, path, connection) = place();
        let prepared = prepare(&path, &next()).expect("prepared").expect("there is something to migrate");
        drop(connection);
        assert_eq!(take(Some(prepared.clone()), 3), None);
        discard(&path);
        assert!(!prepared.exists());
    }
}
