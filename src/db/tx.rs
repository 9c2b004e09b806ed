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

    /// Does something that deletes, so that what is deleted is overwritten in the
    /// file too. Not always on: it makes every deletion write as much as it frees.
    ///
    /// # Errors
    /// What `work` answers.
    pub fn overwriting<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let set = |sql| self.all(sql, [], |_| Ok(()));
        set("PRAGMA secure_delete = ON")?;
        let outcome = work();
        set("PRAGMA secure_delete = OFF")?;
        outcome
    }

    /// Writes all rows of a small table anew, to which no other refers, so that
    /// its pages have nothing left of what was deleted from it before: emptying a
    /// table as a whole overwrites its pages as a whole.
    ///
    /// # Errors
    /// What SQLite answers.
    pub fn rewrite(&self, table: &'static str) -> Result<(), Error> {
        let steps = [
            format!("CREATE TEMP TABLE rewritten AS SELECT * FROM {table}"),
            format!("DELETE FROM {table}"),
            format!("INSERT INTO {table} SELECT * FROM temp.rewritten"),
            "DROP TABLE temp.rewritten".to_owned(),
        ];
        self.overwriting(|| steps.iter().try_for_each(|sql| self.execute(sql, []).map(drop)))
    }
}
