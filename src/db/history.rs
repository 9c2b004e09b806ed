//! What has been done to a database's schema, read without changing a byte.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use refinery::Migration;
use rusqlite::Connection;

use super::migrate::{embedded, newest_snapshot, refuse_foreign, version};
use super::place::folder_of;
use super::{Error, OpenError, connect};

/// One migration, as the database and this binary know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub version: i32,
    /// Its name.
    pub name: String,
    /// When it was done, in RFC 3339.
    pub applied_at: Option<String>,
    /// How it stands.
    pub state: State,
}

/// How a migration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has been done.
    Applied,
    /// The next start does it.
    Pending,
    /// It was done with another text than this binary's.
    Changed,
    /// This binary does not have it.
    Unknown,
}

impl State {
    /// For people and scripts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Pending => "pending",
            Self::Changed => "changed",
            Self::Unknown => "unknown",
        }
    }
}

/// Every migration of a database and of this binary, by number.
///
/// # Errors
/// When the file cannot be read or is no database of agentd.
pub fn read(database: &Path) -> Result<Vec<Entry>, OpenError> {
    let connection = connect::look(database)?;
    refuse_foreign(&connection)?;
    Ok(compare(applied(&connection)?, &embedded()))
}

/// A database that is too new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newer {
    /// Its schema version.
    pub found: i32,
    /// The latest snapshot beside it that would do.
    pub snapshot: Option<PathBuf>,
}

/// Whether a database is newer than what is known; read without changing a byte.
///
/// # Errors
/// When the file cannot be read or is no database of agentd.
pub fn newer_than(database: &Path, known: i32) -> Result<Option<Newer>, OpenError> {
    let found = version(&connect::look(database)?)?;
    let snapshots = folder_of(database).join("snapshots");
    Ok((found > known).then(|| Newer { found, snapshot: newest_snapshot(&snapshots, known) }))
}

struct Applied {
    name: String,
    at: String,
    checksum: String,
}

fn applied(connection: &Connection) -> Result<BTreeMap<i32, Applied>, Error> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'refinery_schema_history'";
    if connection.query_row(sql, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(BTreeMap::new());
    }
    let sql = "SELECT version, name, applied_on, checksum FROM refinery_schema_history";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, Applied { name: row.get(1)?, at: row.get(2)?, checksum: row.get(3)? }))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn compare(mut applied: BTreeMap<i32, Applied>, known: &[Migration]) -> Vec<Entry> {
    let mut entries: Vec<_> = known
        .iter()
        .map(|migration| {
            let found = applied.remove(&migration.version());
            let same = |found: &Applied| found.checksum == migration.checksum().to_string();
            Entry {
                version: migration.version(),
                name: migration.name().to_owned(),
                state: match &found {
                    None => State::Pending,
                    Some(found) if same(found) => State::Applied,
                    Some(_) => State::Changed,
                },
                applied_at: found.map(|found| found.at),
            }
        })
        .collect();
    entries.extend(applied.into_iter().map(|(version, found)| Entry {
        version,
        name: found.name,
        applied_at: Some(found.at),
        state: State::Unknown,
    }));
    entries.sort_by_key(|entry| entry.version);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::migrate;

    fn states(entries: &[Entry]) -> Vec<(i32, State)> {
        entries.iter().map(|entry| (entry.version, entry.state)).collect()
    }

    #[test]
    fn reading_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a database?#%.db");
        let mut connection = connect::fresh(&path).expect("opens");
        migrate::run(&mut connection, embedded(), folder.path(), None, &crate::db::Progress::default())
            .expect("migrates");
        assert!(read(&path).expect("readable while it is open").iter().all(|entry| entry.state == State::Applied));
        drop(connection);
        assert!(read(&path).expect("readable").iter().all(|entry| entry.state == State::Applied));
        let files = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(files, 1, "only the database itself is there");
    }

    #[test]
    fn both_sides_are_compared() {
        let known = |version: i32, sql: &str| Migration::unapplied(&format!("V{version}__a"), sql).expect("a name");
        let migrations = [known(1, "SELECT 1"), known(2, "SELECT 2"), known(3, "SELECT 3")];
        let done = |checksum: String| Applied { name: "a".into(), at: "2026-01-01T00:00:00Z".into(), checksum };
        let applied = BTreeMap::from([
            (1, done(migrations[0].checksum().to_string())),
            (2, done("other".into())),
            (9, done("newer".into())),
        ]);
        let entries = compare(applied, &migrations);
        let expected = [(1, State::Applied), (2, State::Changed), (3, State::Pending), (9, State::Unknown)];
        assert_eq!(states(&entries), expected);
    }
}
