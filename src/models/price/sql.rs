//! Every statement on the administrator's prices.

use super::rate::Sheet;
use crate::clock::Timestamp;
use crate::db::{Error, Tx, params};

/// A price as it is kept.
pub(super) struct Row {
    pub(super) model: String,
    pub(super) from: Timestamp,
    pub(super) sheet: Sheet,
    pub(super) updated_at: Timestamp,
}

pub(super) fn all(tx: &Tx<'_>) -> Result<Vec<Row>, Error> {
    let sql = "SELECT model, effective_from, sheet, updated_at FROM model_prices ORDER BY model, effective_from";
    let rows: Vec<(String, i64, String, i64)> =
        tx.all(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let read = |(model, from, sheet, updated_at): (String, i64, String, i64)| {
        let sheet = serde_json::from_str(&sheet).map_err(|error| unreadable(&model, error))?;
        let (from, updated_at) = (Timestamp::from_micros(from), Timestamp::from_micros(updated_at));
        Ok(Row { model, from, sheet, updated_at })
    };
    rows.into_iter().map(read).collect()
}

/// What cannot be read has been written by hand.
pub(super) fn unreadable(model: &str, error: impl std::fmt::Display) -> Error {
    Error::Sql(format!("the price of {model:?} cannot be read: {error}"))
}

pub(super) fn count(tx: &Tx<'_>) -> Result<u64, Error> {
    let count = tx.one("SELECT count(*) FROM model_prices", [], |row| row.get(0))?;
    Ok(count.unwrap_or(0))
}

pub(super) fn put(tx: &Tx<'_>, row: &Row) -> Result<(), Error> {
    let sheet = serde_json::to_string(&row.sheet).map_err(|error| Error::Sql(error.to_string()))?;
    tx.execute(
        "INSERT OR REPLACE INTO model_prices (model, effective_from, sheet, updated_at) VALUES (?1, ?2, ?3, ?4)",
        params![row.model, row.from.micros(), sheet, row.updated_at.micros()],
    )?;
    Ok(())
}

/// Removes one price, or all that a model has; from which moments they counted.
pub(super) fn remove(tx: &Tx<'_>, model: &str, from: Option<Timestamp>) -> Result<Vec<Timestamp>, Error> {
    tx.all(
        "DELETE FROM model_prices WHERE model = ?1 AND (?2 IS NULL OR effective_from = ?2) RETURNING effective_from",
        params![model, from.map(Timestamp::micros)],
        |row| Ok(Timestamp::from_micros(row.get(0)?)),
    )
}
