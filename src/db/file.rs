//! A database file that no service works on: a copy, or what a stopped service
//! has left.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{Error, OpenError, Tx, connect, migrate};

/// SQLite's instructions between two rests: a millisecond or so.
const INSTRUCTIONS: i32 = 50_000;
/// A rest is not longer, whatever made the work take long.
const LONGEST_REST: Duration = Duration::from_millis(250);

/// The file. Looking at it changes nothing beside it.
pub struct DbFile {
    path: PathBuf,
    connection: Connection,
}

impl DbFile {
    /// Opens one for reading.
    ///
    /// # Errors
    /// When it cannot be read or is no database of agentd.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = connect::look(path)?;
        migrate::refuse_foreign(&connection)?;
        Ok(Self { path: path.into(), connection })
    }

    /// Lets whatever is asked of it from now on pause for as long as it works.
    ///
    /// # Errors
    /// What SQLite answers.
    pub fn at_half_speed(self) -> Result<Self, Error> {
        let mut since = Instant::now();
        let rest = move || {
            std::thread::sleep(since.elapsed().min(LONGEST_REST));
            since = Instant::now();
            false
        };
        self.connection.progress_handler(INSTRUCTIONS, Some(rest))?;
        Ok(self)
    }

    /// The version of its schema.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn schema(&self) -> Result<i32, OpenError> {
        migrate::version(&self.connection)
    }

    /// Reads every page and every reference, as far as SQLite can tell whether
    /// they are as they should be.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), OpenError> {
        migrate::intact(&self.connection)?;
        match migrate::broken_reference(&self.connection)? {
            Some(table) => Err(OpenError::Inconsistent { table, snapshot: None }),
            None => Ok(()),
        }
    }

    /// Reads from it.
    ///
    /// # Errors
    /// What SQLite or `work` answers.
    pub fn read<T>(&self, work: impl FnOnce(&Tx<'_>) -> Result<T, Error>) -> Result<T, Error> {
        work(&Tx::new(&self.connection))
    }

    /// Changes it, in one transaction; afterwards it is whole on disk, without a
    /// log.
    ///
    /// # Errors
    /// What SQLite or `work` answers; then nothing was changed.
    pub fn change<T>(self, work: impl FnOnce(&Tx<'_>) -> Result<T, Error>) -> Result<T, Error> {
        drop(self.connection);
        let connection = connect::plain(&self.path)?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA journal_mode = DELETE; BEGIN IMMEDIATE")?;
        let value = work(&Tx::new(&connection))?;
        connection.execute_batch("COMMIT")?;
        Ok(value)
    }
}

/// The version of the schema that this binary makes.
#[must_use]
pub fn schema_of_this_binary() -> i32 {
    migrate::embedded().iter().map(super::migrate::Migration::version).max().unwrap_or(0)
}
