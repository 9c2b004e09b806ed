//! Where a database lies: whether it can be used there, and what a start finds
//! that is no first one.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::Access;
use rustix::io::Errno;

use super::{Error, OpenError};
use crate::text::visible;

/// Bytes of a path that SQLite takes (`MAX_PATHNAME`), less those that the log's
/// name and those of snapshots have beside the database's.
const LONGEST_PATH: usize = 512 - 8 - "snapshots/agentd-schema0000.preparing".len();
/// Bytes of a path that the system takes (`PATH_MAX`), and of a name in it.
const LONGEST_OF_ALL: usize = 4095;
const LONGEST_NAME: usize = 255;

/// The folder that a file lies in: `.` for a bare name.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A path in a message, which a long one must not fill.
pub(super) fn shown(path: &Path) -> String {
    visible(&path.to_string_lossy())
}

/// A file beside the database that belongs to it, such as `-wal`.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// A path as SQLite takes it for one: `file:…` would be a URI, `:memory:` no file.
pub(super) fn plain_name(path: &Path) -> PathBuf {
    if path.is_absolute() { path.into() } else { Path::new(".").join(path) }
}

/// Refuses a database that cannot be used where it lies, before anything is made.
///
/// # Errors
/// See [`OpenError`].
pub fn refuse_unusable(database: &Path) -> Result<(), OpenError> {
    let unusable = |why: String| Err(OpenError::Place { database: database.into(), why });
    let real = folder_of(database).canonicalize().unwrap_or_else(|_| folder_of(database).into());
    let length = real.join(database.file_name().unwrap_or_default()).as_os_str().len();
    if length > LONGEST_PATH {
        return unusable(format!(
            "its path has {length} bytes, SQLite takes {LONGEST_PATH}; choose a shorter data.dir"
        ));
    }
    match std::fs::metadata(database) {
        Ok(found) if found.is_dir() => {
            unusable("it is a folder; name a file in it with data.database, or set data.dir".into())
        }
        Ok(found) if !found.is_file() => unusable("it is not a file; name another with data.database".into()),
        Ok(found) if found.nlink() > 1 => unusable(format!(
            "it has {} names (hard links), so two services could open it at once: remove the others, or put a copy in \
             its place (cp agentd.db agentd.copy && mv agentd.copy agentd.db)",
            found.nlink()
        )),
        Ok(found) if found.len() == 0 => Err(OpenError::Empty { database: database.into() }),
        Ok(_) => match rustix::fs::access(database, Access::READ_OK | Access::WRITE_OK) {
            Ok(()) => Ok(()),
            Err(Errno::ROFS) => unusable("its file system is mounted read-only; mount it for writing".into()),
            Err(error) => unusable(format!(
                "{}; it must be a file that the user of the service can read and write",
                io::Error::from(error)
            )),
        },
        // It is not there, or its folder is none, which is told of that.
        Err(_) => Ok(()),
    }
}

/// Makes an empty database, whole or not at all: a process that is killed at its
/// first start leaves no file of zero bytes.
pub(super) fn make(database: &Path) -> Result<(), Error> {
    let io = |error: io::Error| Error::from_io(database, &error);
    let partial = beside(database, ".partial");
    for left in ["", "-wal", "-shm", "-journal"] {
        match std::fs::remove_file(beside(&partial, left)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(plain_name(&partial), flags)?;
    // Only what is written before the first table counts.
    connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA user_version = 1; PRAGMA user_version = 0;")?;
    drop(connection);
    std::fs::File::open(&partial).and_then(|file| file.sync_all()).map_err(io)?;
    std::fs::rename(&partial, database).map_err(io)?;
    std::fs::File::open(folder_of(database)).and_then(|folder| folder.sync_all()).map_err(io)
}

/// What is left of a database that is not there: a start beside it is no first
/// one. Each with what it is.
#[must_use]
pub fn remains_of(database: &Path) -> Vec<String> {
    // Beside one that is there they are its own.
    let suffixes: &[&str] = if database.exists() { &[] } else { &["-wal", "-shm", "-journal"] };
    let files = suffixes.iter().map(|suffix| beside(database, suffix));
    let mut found: Vec<_> =
        files.filter(|path| path.symlink_metadata().is_ok()).map(|path| path.display().to_string()).collect();
    found.extend(filled(&folder_of(database).join("snapshots")));
    found
}

/// A folder with something in it, as `path (3 files)`.
#[must_use]
pub fn filled(folder: &Path) -> Option<String> {
    // Where a volume begins, its file system has a folder of its own.
    let entries = std::fs::read_dir(folder).ok()?.flatten().filter(|entry| entry.file_name() != "lost+found");
    let count = entries.count();
    let files = if count == 1 { "file" } else { "files" };
    (count > 0).then(|| format!("{} ({count} {files})", folder.display()))
}

/// Why a folder cannot be used, and what to do.
pub(super) fn why_not(folder: &Path, error: &io::Error) -> String {
    let generic = "it must be a folder that this user can write";
    if let Some(why) = in_the_way(folder) {
        return why;
    }
    match error.kind() {
        ErrorKind::InvalidFilename => {
            let length = folder.as_os_str().len();
            format!(
                "its path is too long: it has {length} bytes, the system takes {LONGEST_OF_ALL}, and {LONGEST_NAME} for \
                 each name in it; choose a shorter data.dir"
            )
        }
        ErrorKind::ReadOnlyFilesystem => {
            format!("its file system is mounted read-only; mount it for writing, or set data.dir: {generic}")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!("{error}; make space, and start again"),
        ErrorKind::FileTooLarge => format!("{error}; {}", super::limit::advice()),
        ErrorKind::PermissionDenied => format!("{error}; {generic}: chown it to the user that the service runs as"),
        _ => format!("{error}; {generic}"),
    }
}

/// What stands on the way to a folder and is none.
fn in_the_way(folder: &Path) -> Option<String> {
    let set = "set data.dir to a folder";
    for path in folder.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        let Ok(found) = path.symlink_metadata() else { continue };
        let name = if path == folder { "it".into() } else { format!("{}", path.display()) };
        if found.is_symlink() && path.metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            let to = path.read_link().unwrap_or_default();
            return Some(format!(
                "{name} is a link to {}, which does not exist: mount or make that, remove the link, or {set}",
                to.display()
            ));
        }
        let is_dir = path.metadata().is_ok_and(|found| found.is_dir());
        return (!is_dir && path.metadata().is_ok()).then(|| format!("{name} is a file, not a folder; {set}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_lies_in_the_present_folder() {
        for (path, folder) in
            [("jobs.db", "."), ("./jobs.db", "."), ("/jobs.db", "/"), ("a/jobs.db", "a"), ("a/b/", "a"), ("", ".")]
        {
            assert_eq!(folder_of(Path::new(path)), Path::new(folder), "{path}");
        }
        assert_eq!(plain_name(Path::new("file:x")), Path::new("./file:x"));
        assert_eq!(plain_name(Path::new(":memory:")), Path::new("./:memory:"));
        assert_eq!(plain_name(Path::new("/file:x")), Path::new("/file:x"));
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let place = tempfile::tempdir().expect("a folder");
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("file"), "").expect("written");
        std::os::unix::fs::symlink(at("nothing"), at("link")).expect("a link");
        std::os::unix::fs::symlink(place.path(), at("good")).expect("a link");
        let why = |path: PathBuf| why_not(&path, &io::Error::from(ErrorKind::NotADirectory));
        assert!(why(at("file")).starts_with("it is a file, not a folder"));
        assert!(why(at("file/below")).contains("/file is a file, not a folder"));
        assert!(why(at("link")).contains("is a link to") && why(at("link/below")).contains("/link is a link to"));
        assert!(why(at("good/below")).contains("must be a folder that this user can write"));
        let long = why_not(&at(&"x".repeat(5_000)), &io::Error::from(ErrorKind::InvalidFilename));
        assert!(long.contains("is too long") && long.contains("4095"), "{long}");
    }

    #[test]
    fn a_database_is_made_whole() {
        let place = tempfile::tempdir().expect("a folder");
        let database = place.path().join("agentd.db");
        std::fs::write(beside(&database, ".partial"), "left by a process that was killed").expect("written");
        make(&database).expect("made");
        assert!(std::fs::metadata(&database).expect("a file").len() > 0);
        let mode: i64 = Connection::open(&database)
            .and_then(|it| it.query_row("PRAGMA auto_vacuum", [], |row| row.get(0)))
            .expect("a database");
        assert_eq!(mode, 2, "incremental");
        assert_eq!(std::fs::read_dir(place.path()).expect("a folder").count(), 1, "nothing else is left");
        refuse_unusable(&database).expect("usable");
    }

    #[test]
    fn what_is_no_database_of_its_own_is_refused() {
        let place = tempfile::tempdir().expect("a folder");
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("empty.db"), "").expect("written");
        assert!(matches!(refuse_unusable(&at("empty.db")), Err(OpenError::Empty { .. })));
        std::fs::write(at("one.db"), "x").expect("written");
        std::fs::hard_link(at("one.db"), at("two.db")).expect("a link");
        let said = refuse_unusable(&at("two.db")).expect_err("refused").to_string();
        assert!(said.contains("2 names (hard links)"), "{said}");
        let said = refuse_unusable(place.path()).expect_err("refused").to_string();
        assert!(said.contains("it is a folder"), "{said}");
        let said = refuse_unusable(&at(&format!("{}/a.db", "d".repeat(600)))).expect_err("refused").to_string();
        assert!(said.contains("SQLite takes"), "{said}");
        refuse_unusable(&at("none.db")).expect("it can be made");
    }
}
