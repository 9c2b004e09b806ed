//! Every statement on sealed values.

use super::key::KeyId;
use super::sealed::SecretName;
use crate::db::{Error, Tx, params};

/// Which master key a database is sealed with; `None` where nothing is sealed
/// yet, as in databases from before there was one.
///
/// # Errors
/// When the database cannot be read.
pub fn key_id(tx: &Tx<'_>) -> Result<Option<KeyId>, Error> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'secrets'";
    if tx.one(sql, [], |_| Ok(()))?.is_none() {
        return Ok(None);
    }
    let sql = "SELECT substr(sealed, 10, 16) FROM secrets ORDER BY name <> 'check' LIMIT 1";
    let text = tx.one(sql, [], |row| row.get::<_, String>(0))?;
    let unreadable = || Error::Sql("the table secrets has something in it that is not sealed".into());
    text.map(|text| KeyId::parse(&text).ok_or_else(unreadable)).transpose()
}

/// Which master key a start needs: where it seals nothing but its own mark,
/// another is as good, and nobody should be kept from their data for it.
///
/// # Errors
/// When the database cannot be read.
pub fn needed_key(tx: &Tx<'_>) -> Result<Option<KeyId>, Error> {
    let Some(id) = key_id(tx)? else { return Ok(None) };
    let check = SecretName::check();
    let sealed = tx.one("SELECT 1 FROM secrets WHERE name <> ?1 LIMIT 1", [check.as_str()], |_| Ok(()))?;
    Ok(sealed.map(|()| id))
}

pub(super) fn get(tx: &Tx<'_>, name: &SecretName) -> Result<Option<String>, Error> {
    tx.one("SELECT sealed FROM secrets WHERE name = ?1", [name.as_str()], |row| row.get(0))
}

pub(super) fn put(tx: &Tx<'_>, name: &SecretName, sealed: &str) -> Result<(), Error> {
    tx.execute("INSERT OR REPLACE INTO secrets (name, sealed) VALUES (?1, ?2)", params![name.as_str(), sealed])?;
    Ok(())
}

pub(super) fn remove(tx: &Tx<'_>, name: &SecretName) -> Result<(), Error> {
    tx.execute("DELETE FROM secrets WHERE name = ?1", [name.as_str()])?;
    Ok(())
}

/// Everything that is sealed; some per certificate and account.
pub(super) fn all(tx: &Tx<'_>) -> Result<Vec<(SecretName, String)>, Error> {
    tx.all("SELECT name, sealed FROM secrets", [], |row| Ok((SecretName::kept(row.get(0)?), row.get(1)?)))
}

/// Takes everything away that is sealed; how many secrets that were.
///
/// # Errors
/// When the database cannot be written.
pub fn forget(tx: &Tx<'_>) -> Result<usize, Error> {
    let check = SecretName::check();
    let secrets = tx.one("SELECT count(*) FROM secrets WHERE name <> ?1", [check.as_str()], |row| row.get(0))?;
    tx.overwriting(|| tx.execute("DELETE FROM secrets", []))?;
    Ok(secrets.unwrap_or_default())
}

/// Whether the last start had a master key of the configuration, not the one in
/// the data folder.
pub(super) fn was_configured(tx: &Tx<'_>) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM meta WHERE key = 'master_key_configured' AND value = '1'";
    Ok(tx.one(sql, [], |_| Ok(()))?.is_some())
}

pub(super) fn set_configured(tx: &Tx<'_>, configured: bool) -> Result<(), Error> {
    let sql = "INSERT OR REPLACE INTO meta (key, value) VALUES ('master_key_configured', ?1)";
    tx.execute(sql, [if configured { "1" } else { "0" }])?;
    Ok(())
}
