//! Every statement on providers and routes.

use super::provider::{Settings, Target};
use crate::clock::Timestamp;
use crate::db::{Error, Tx, params};

/// What cannot be read has been written by hand.
fn read<T: serde::de::DeserializeOwned>(what: &str, name: &str, json: &str) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|error| Error::Sql(format!("{what} {name:?} cannot be read: {error}")))
}

fn write(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Sql(error.to_string()))
}

pub(super) fn providers(tx: &Tx<'_>) -> Result<Vec<(String, Settings)>, Error> {
    let rows: Vec<(String, String)> =
        tx.all("SELECT name, settings FROM model_providers ORDER BY name", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.into_iter().map(|(name, json)| read("provider", &name, &json).map(|settings| (name, settings))).collect()
}

pub(super) fn put_provider(tx: &Tx<'_>, name: &str, settings: &Settings, now: Timestamp) -> Result<(), Error> {
    let sql = "INSERT OR REPLACE INTO model_providers (name, settings, updated_at) VALUES (?1, ?2, ?3)";
    tx.execute(sql, params![name, write(settings)?, now.micros()])?;
    Ok(())
}

pub(super) fn remove_provider(tx: &Tx<'_>, name: &str) -> Result<bool, Error> {
    Ok(tx.execute("DELETE FROM model_providers WHERE name = ?1", [name])? > 0)
}

pub(super) fn routes(tx: &Tx<'_>) -> Result<Vec<(String, Vec<Target>)>, Error> {
    let rows: Vec<(String, String)> =
        tx.all("SELECT alias, targets FROM model_routes ORDER BY alias", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.into_iter().map(|(alias, json)| read("route", &alias, &json).map(|targets| (alias, targets))).collect()
}

pub(super) fn put_route(tx: &Tx<'_>, alias: &str, targets: &[Target], now: Timestamp) -> Result<(), Error> {
    let sql = "INSERT OR REPLACE INTO model_routes (alias, targets, updated_at) VALUES (?1, ?2, ?3)";
    tx.execute(sql, params![alias, write(&targets)?, now.micros()])?;
    Ok(())
}

pub(super) fn remove_route(tx: &Tx<'_>, alias: &str) -> Result<bool, Error> {
    Ok(tx.execute("DELETE FROM model_routes WHERE alias = ?1", [alias])? > 0)
}
