//! Brings a database to the schema of this binary, and refuses what it cannot.
//!
//! Rules for migrations: never edit one that has been released (a test freezes
//! their checksums), name them `V0000__what.sql` with the next number and an upper-case V, and let
//! the binary before it still work on the schema after it (`expand.rs` holds them to it).

use std::path::{Path, PathBuf};

pub use refinery::Migration;
use refinery::{Runner, Target};
use rusqlite::{Connection, OptionalExtension as _};

use super::place::plain_name;
use super::{Error, OpenError, Progress, connect, prepared};

mod embedded {
    refinery::embed_migrations!("migrations/main");
}

/// The migrations inside this binary.
#[must_use]
pub fn embedded() -> Vec<Migration> {
    embedded::migrations::runner().get_migrations().clone()
}

/// The schema version of this binary, with migrations after its own.
#[must_use]
pub fn newest(more: &[Migration]) -> i32 {
    embedded().iter().chain(more).map(Migration::version).max().unwrap_or(0)
}

/// What [`run`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Schema version before; 0 for a new database.
    pub from: i32,
    /// Schema version now.
    pub to: i32,
    /// The checked copy of the database as it was before an upgrade.
    pub snapshot: Option<PathBuf>,
}

/// Applies what is missing. Before an upgrade a snapshot is taken into
/// `snapshots` and checked, or the one that is `ready` is taken; a failure leaves the version before it in place.
///
/// # Errors
/// When the file is no database of agentd, is newer than this binary, was
/// migrated by other texts than this binary's, or a migration fails.
pub fn run(
    connection: &mut Connection,
    migrations: Vec<Migration>,
    snapshots: &Path,
    ready: Option<PathBuf>,
    progress: &Progress,
) -> Result<Report, OpenError> {
    progress.watch(connection).map_err(Error::from)?;
    let from = version(connection)?;
    let to = migrations.iter().map(Migration::version).max().unwrap_or(0);
    if from > to {
        let snapshot = newest_snapshot(snapshots, to);
        return Err(OpenError::Newer { found: from, known: to, snapshot });
    }
    let mut report = Report { from, to, snapshot: None };
    // Migrations and the check behind them read most of a large database once,
    // which takes half the time when its pages are not copied.
    connection.execute_batch("PRAGMA mmap_size = 2147418112").map_err(Error::from)?;
    if from > 0 && from < to {
        report.snapshot = Some(match prepared::take(ready, from) {
            Some(path) => path,
            None => snapshot(connection, snapshots, from, progress)?,
        });
    }
    // Inside a transaction this pragma does nothing, so it is set around all
    // migrations, and what it would have caught is looked for afterwards.
    connection.execute_batch("PRAGMA foreign_keys = OFF").map_err(Error::from)?;
    // A runner checks the order of what it is given.
    let mut migrations = migrations;
    migrations.sort_by_key(Migration::version);
    Runner::new(&migrations)
        .set_abort_divergent(true)
        .set_abort_missing(true)
        // All or none: what the version before has left is what it finds again.
        .set_grouped(true)
        .set_target(Target::Latest)
        .run(connection)
        .map_err(|error| failed(&error, report.snapshot.clone()))?;
    // The check reads every row, so the schema version for which it was passed
    // is kept, and a start without a migration does without it.
    if checked_version(connection)? != to {
        if let Some(table) = broken_reference(connection)? {
            return Err(OpenError::Inconsistent { table, snapshot: newest_snapshot(snapshots, to - 1) });
        }
        connection.execute_batch(&format!("PRAGMA user_version = {to}")).map_err(Error::from)?;
    }
    connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA mmap_size = 0").map_err(Error::from)?;
    Progress::leave(connection).map_err(Error::from)?;
    Ok(report)
}

fn checked_version(connection: &Connection) -> Result<i32, Error> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

pub(super) fn broken_reference(connection: &Connection) -> Result<Option<String>, Error> {
    Ok(connection.query_row("PRAGMA foreign_key_check", [], |row| row.get(0)).optional()?)
}

fn failed(error: &refinery::Error, snapshot: Option<PathBuf>) -> OpenError {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        // What the disk or the file is to blame for says what to do about it.
        let of_database = cause.downcast_ref::<rusqlite::Error>().map(Error::of);
        if let Some(error) = of_database.filter(Error::is_batch_wide) {
            return error.into();
        }
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    OpenError::Migration { reason, snapshot }
}

/// Refuses a database that another program made, without changing a byte of it.
///
/// # Errors
/// When it has tables and none of them is ours, or cannot be read.
pub(super) fn refuse_foreign(connection: &Connection) -> Result<(), OpenError> {
    version(connection).map(drop)
}

/// The version of the schema in a database; 0 when it is new.
pub(super) fn version(connection: &Connection) -> Result<i32, OpenError> {
    let tables = |name: &str| -> Result<i64, Error> {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name LIKE ?1";
        Ok(connection.query_row(sql, [name], |row| row.get(0))?)
    };
    if tables("refinery_schema_history")? == 0 {
        if tables("%")? > 0 {
            return Err(OpenError::Foreign);
        }
        return Ok(0);
    }
    let sql = "SELECT coalesce(max(version), 0) FROM refinery_schema_history";
    Ok(connection.query_row(sql, [], |row| row.get(0)).map_err(Error::from)?)
}

/// A copy of the database, whole and checked, under a name that tells its
/// schema version: one for each, so that attempts again and again do not fill
/// the disk.
fn snapshot(connection: &Connection, folder: &Path, version: i32, progress: &Progress) -> Result<PathBuf, OpenError> {
    let io = |source| OpenError::Folder { folder: folder.into(), source };
    std::fs::create_dir_all(folder).map_err(io)?;
    let path = folder.join(format!("agentd-schema{version:04}.db"));
    let partial = Unfinished::new(plain_name(&path.with_extension("partial")));
    connection.execute("VACUUM INTO ?1", [partial.0.to_string_lossy()]).map_err(Error::from)?;
    let copy = connect::plain(&partial.0)?;
    progress.watch(&copy).map_err(Error::from)?;
    intact(&copy)?;
    drop(copy);
    std::fs::File::open(&partial.0).and_then(|file| file.sync_all()).map_err(io)?;
    std::fs::rename(&partial.0, &path).map_err(io)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    Ok(path)
}

/// A copy that is not whole. It goes away again: the service works on the same
/// disk.
pub(super) struct Unfinished(pub PathBuf);

impl Unfinished {
    /// Nothing is there yet.
    pub(super) fn new(path: PathBuf) -> Self {
        let _ = std::fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether every page of a database is as it should be, as far as SQLite can tell.
pub(super) fn intact(connection: &Connection) -> Result<(), OpenError> {
    let verdict = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
    let verdict = verdict.map_err(Error::from)?;
    if verdict == "ok" { Ok(()) } else { Err(OpenError::Damaged { verdict }) }
}

/// The latest snapshot that a binary with schema version `known` can use.
pub(super) fn newest_snapshot(folder: &Path, known: i32) -> Option<PathBuf> {
    let schema = |path: &Path| -> Option<i32> {
        let name = path.file_name()?.to_str()?.strip_prefix("agentd-schema")?;
        path.extension().filter(|extension| *extension == "db")?;
        name.get(..4)?.parse().ok()
    };
    let paths = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let usable = paths.filter(|path| schema(path).is_some_and(|version| version <= known));
    usable.max_by_key(|path| std::fs::metadata(path).and_then(|found| found.modified()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration(name: &str, sql: &str) -> Migration {
        Migration::unapplied(name, sql).expect("a valid name")
    }

    fn first() -> Migration {
        migration("V0001__first", "CREATE TABLE a (x INTEGER PRIMARY KEY) STRICT;")
    }

    struct Place {
        folder: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().expect("a folder") }
        }

        fn open(&self) -> Connection {
            connect::fresh(&self.folder.path().join("agentd.db")).expect("opens")
        }

        fn run(&self, migrations: Vec<Migration>) -> Result<Report, OpenError> {
            run(&mut self.open(), migrations, &self.folder.path().join("snapshots"), None, &Progress::default())
        }
    }

    #[test]
    fn every_file_is_embedded_and_no_released_one_has_changed() {
        let files = std::fs::read_dir("migrations/main").expect("the folder").count();
        let embedded = embedded();
        assert_eq!(embedded.len(), files, "a file is not named V0000__what.sql");
        let frozen = [
            (1, "spine", 12_855_228_017_383_073_484_u64),
            (2, "limits", 8_560_705_090_479_645_430),
            (3, "queue", 2_700_125_687_165_265_234),
            (4, "certificates", 5_717_299_114_315_881_094),
            (5, "users", 18_216_480_705_190_812_284),
            (6, "secrets", 2_309_353_971_366_038_773),
            (7, "budgets", 14_517_050_944_544_798_316),
            (8, "models", 4_314_829_480_389_819_296),
            (9, "prices", 11_358_988_390_729_550_384),
            (10, "responses", 4_338_740_253_360_849_614),
            (11, "files", 9_027_375_174_026_954_671),
            (12, "reservations", 2_415_481_791_375_483_849),
        ];
        for (version, name, checksum) in frozen {
            let found = embedded.iter().find(|found| found.version() == version);
            let found = found.expect("a released migration is gone");
            assert_eq!((found.name(), found.checksum()), (name, checksum), "V{version:04} changed");
        }
        assert_eq!(embedded.len(), frozen.len(), "freeze the new migration here");
    }

    #[test]
    fn an_upgrade_is_preceded_by_a_snapshot_that_opens() {
        let place = Place::new();
        let report = place.run(vec![first()]).expect("a new database");
        assert_eq!(report, Report { from: 0, to: 1, snapshot: None });
        place.open().execute("INSERT INTO a VALUES (7)", []).expect("a row");

        let second = migration("V0002__second", "ALTER TABLE a ADD COLUMN y TEXT;");
        let report = place.run(vec![first(), second]).expect("an upgrade");
        let snapshot = connect::plain(&report.snapshot.expect("a snapshot")).expect("opens");
        let kept: i64 = snapshot.query_row("SELECT x FROM a", [], |row| row.get(0)).expect("the row");
        assert_eq!((kept, version(&snapshot).expect("a version")), (7, 1));
    }

    #[test]
    fn a_newer_database_is_refused_and_the_snapshot_named() {
        let place = Place::new();
        place.run(vec![first()]).expect("a new database");
        let second = migration("V0002__second", "CREATE TABLE b (x INTEGER) STRICT;");
        place.run(vec![first(), second]).expect("an upgrade");
        match place.run(vec![first()]) {
            Err(OpenError::Newer { found: 2, known: 1, snapshot: Some(path) }) => {
                assert!(path.ends_with("snapshots/agentd-schema0001.db"));
            }
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn a_failing_migration_leaves_the_version_before_it() {
        let place = Place::new();
        place.run(vec![first()]).expect("a new database");
        let bad = migration("V0002__bad", "CREATE TABLE c (x INTEGER) STRICT; SELECT nonsense;");
        let error = place.run(vec![first(), bad]).expect_err("it fails");
        assert!(error.to_string().contains("nonsense"), "{error}");
        assert_eq!(version(&place.open()).expect("a version"), 1);
        place.run(vec![first()]).expect("the version before it still starts");
    }

    #[test]
    fn of_several_migrations_all_are_applied_or_none() {
        let place = Place::new();
        place.run(vec![first()]).expect("a new database");
        let good = || migration("V0002__good", "CREATE TABLE b (x INTEGER) STRICT;");
        let bad = migration("V0003__bad", "SELECT nonsense;");
        assert!(place.run(vec![first(), good(), bad]).is_err());
        assert_eq!(version(&place.open()).expect("a version"), 1);
        place.run(vec![first()]).expect("the version before it still starts");
        place.run(vec![first(), good()]).expect("and so does one that comes between");
    }

    #[test]
    fn an_edited_migration_and_a_foreign_database_are_refused() {
        let place = Place::new();
        place.run(vec![first()]).expect("a new database");
        let edited = migration("V0001__first", "CREATE TABLE a (z INTEGER) STRICT;");
        assert!(matches!(place.run(vec![edited]), Err(OpenError::Migration { .. })));

        let other = Place::new();
        other.open().execute_batch("CREATE TABLE theirs (x)").expect("a table");
        assert!(matches!(other.run(vec![first()]), Err(OpenError::Foreign)));
    }

    #[test]
    fn a_migration_that_breaks_a_reference_is_found() {
        let place = Place::new();
        let bad = "CREATE TABLE p (x INTEGER PRIMARY KEY); \
                   CREATE TABLE c (x INTEGER REFERENCES p(x)); INSERT INTO c VALUES (1);";
        for _ in 0..2 {
            let error = place.run(vec![migration("V0001__bad", bad)]).expect_err("it is found, also the next time");
            assert!(error.to_string().contains("\"c\""), "{error}");
        }
    }
}
