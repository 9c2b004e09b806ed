//! The two types through which features speak SQL.

use rusqlite::{Connection, Params};

use super::Error;

/// One row of an answer.
pub type Row<'a> = rusqlite::Row<'a>;

/// An open transaction: a write one on the writer's thread, a read one on a
/// reader's. Statements are prepared once per connection and kept.
pub struct Tx<'c> {
    connection: &'c Connection,
}

impl<'c> Tx<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection }
    }

    /// Runs a statement; how many rows it changed.
    ///
    /// # Errors
    /// What SQLite answers.
    pub fn execute(&self, sql: &str, params: impl Params) -> Result<usize, Error> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }

    /// The first row of an answer, if there is one.
    ///
    /// # Errors
    /// What SQLite or `read` answers.
    pub fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<Option<T>, Error> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let found = rows.next()?.map(read).transpose()?;
        // A statement with RETURNING takes effect in full only when it is
        // stepped to its end.
        while rows.next()?.is_some() {}
        Ok(found)
    }

    /// All rows of an answer; `sql` must bound them.
    ///
    /// # Errors
    /// What SQLite or `read` answers.
    pub fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<Vec<T>, Error> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params, read)?;
        rows.collect::<Result<_, _>>().map_err(Error::from)
    }
}
