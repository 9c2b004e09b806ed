//! Every statement on tenants and keys. The tenant 0 is the service itself,
//! which is none of those that are looked after here.

use std::time::Duration;

use uuid::Uuid;

use super::types::{Cohort, KeyRow, Status, TenantRow};
use super::{NewKey, Update, UsableKey};
use crate::auth::{Mac, Mark, Scopes, Tenant};
use crate::clock::Timestamp;
use crate::db::{Error, Row, RowError, SqlType, Tx, params};
use crate::limits::Quota;
use crate::net::{Network, WebOrigin};

const TENANT: &str = "no, id, name, status, cohort, created_at, updated_at";
const KEY: &str = "k.no, k.id, k.name, k.secret_mark, k.test, k.scopes, k.created_at, k.expires_at, \
                   k.revoked_at, k.last_used_at, k.allowed_ips, k.rotated_from, k.replaced_by";

fn tenant(row: &Row<'_>) -> Result<TenantRow, RowError> {
    Ok(TenantRow {
        no: row.get(0)?,
        id: row.get(1)?,
        name: row.get(2)?,
        status: Status::from_name(row.get_ref(3)?.as_str()?),
        cohort: Cohort::from_name(row.get_ref(4)?.as_str()?),
        created_at: Timestamp::from_micros(row.get(5)?),
        updated_at: Timestamp::from_micros(row.get(6)?),
    })
}

fn key(row: &Row<'_>) -> Result<KeyRow, RowError> {
    let time = |column| Ok::<_, RowError>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros));
    Ok(KeyRow {
        no: row.get(0)?,
        id: row.get(1)?,
        name: row.get(2)?,
        secret_mark: row.get(3)?,
        test: row.get(4)?,
        scopes: Scopes::from_column(row.get_ref(5)?.as_str()?),
        created_at: Timestamp::from_micros(row.get(6)?),
        expires_at: time(7)?,
        revoked_at: time(8)?,
        last_used_at: time(9)?,
        allowed_ips: networks(row, 10)?,
        rotated_from: row.get(11)?,
        replaced_by: row.get(12)?,
    })
}

/// What cannot be read must not count as no list at all.
fn networks(row: &Row<'_>, column: usize) -> Result<Vec<Network>, RowError> {
    let list: Option<String> = row.get(column)?;
    let networks = list.iter().flat_map(|list| list.split(' ')).map(Network::parse);
    networks.collect::<Result<_, _>>().map_err(|fault| unreadable(column, fault))
}

fn unreadable(column: usize, fault: String) -> RowError {
    RowError::FromSqlConversionFailure(column, SqlType::Text, fault.into())
}

fn handle(no: i64, id: &str) -> Tenant {
    Tenant { no, id: Uuid::parse_str(id).unwrap_or_default() }
}

pub(super) fn insert(tx: &Tx<'_>, id: Uuid, name: &str, cohort: Cohort, now: Timestamp) -> Result<TenantRow, Error> {
    let sql = format!(
        "INSERT INTO tenants (id, name, status, cohort, created_at, updated_at)
         VALUES (?1, ?2, 'active', ?3, ?4, ?4) RETURNING {TENANT}"
    );
    let row = tx.one(&sql, params![id.to_string(), name, cohort.name(), now.micros()], tenant)?;
    row.ok_or_else(|| Error::Sql("an inserted tenant was not returned".into()))
}

/// The tenant of the single legacy key, made when it is not there.
pub(super) fn ensure_default(tx: &Tx<'_>, id: Uuid, now: Timestamp) -> Result<Tenant, Error> {
    tx.execute(
        "INSERT INTO tenants (id, name, status, cohort, is_default, created_at, updated_at)
         VALUES (?1, 'default', 'active', ?2, 1, ?3, ?3) ON CONFLICT DO NOTHING",
        params![id.to_string(), Cohort::default().name(), now.micros()],
    )?;
    let sql = "SELECT no, id FROM tenants WHERE is_default = 1";
    let found = tx.one(sql, [], |row| Ok(handle(row.get(0)?, row.get_ref(1)?.as_str()?)))?;
    found.ok_or_else(|| Error::Sql("the default tenant is missing".into()))
}

pub(super) fn get(tx: &Tx<'_>, id: &str) -> Result<Option<TenantRow>, Error> {
    let sql = format!("SELECT {TENANT} FROM tenants WHERE id = ?1 AND no > 0 AND status <> 'deleted'");
    tx.one(&sql, [id], tenant)
}

pub(super) fn tenant_of(tx: &Tx<'_>, id: &str) -> Result<Option<Tenant>, Error> {
    Ok(get(tx, id)?.map(|row| row.handle()))
}

/// Newest first.
pub(super) fn list(tx: &Tx<'_>, before: Option<i64>, limit: usize) -> Result<Vec<TenantRow>, Error> {
    let sql = format!(
        "SELECT {TENANT} FROM tenants WHERE no < ?1 AND no > 0 AND status <> 'deleted' ORDER BY no DESC LIMIT ?2"
    );
    tx.all(&sql, params![before.unwrap_or(i64::MAX), limit], tenant)
}

pub(super) fn live(tx: &Tx<'_>) -> Result<Vec<TenantRow>, Error> {
    tx.all(&format!("SELECT {TENANT} FROM tenants WHERE no > 0 AND status <> 'deleted'"), [], tenant)
}

pub(super) fn deleted(tx: &Tx<'_>) -> Result<Vec<i64>, Error> {
    tx.all("SELECT no FROM tenants WHERE status = 'deleted'", [], |row| row.get(0))
}

pub(super) fn update(tx: &Tx<'_>, id: &str, update: &Update, now: Timestamp) -> Result<Option<TenantRow>, Error> {
    let sql = format!(
        "UPDATE tenants SET name = coalesce(?2, name), status = coalesce(?3, status),
             cohort = coalesce(?4, cohort), updated_at = ?5
         WHERE id = ?1 AND no > 0 AND status <> 'deleted' RETURNING {TENANT}"
    );
    let status = update.status.map(Status::name);
    let cohort = update.cohort.map(Cohort::name);
    tx.one(&sql, params![id, update.name, status, cohort, now.micros()], tenant)
}

/// Marks a tenant deleted and takes its keys away; its row number.
pub(super) fn mark_deleted(tx: &Tx<'_>, id: &str, now: Timestamp) -> Result<Option<i64>, Error> {
    let no = tx.one(
        "UPDATE tenants SET status = 'deleted', is_default = 0, updated_at = ?2
         WHERE id = ?1 AND no > 0 AND status <> 'deleted' RETURNING no",
        params![id, now.micros()],
        |row| row.get::<_, i64>(0),
    )?;
    if let Some(no) = no {
        tx.execute("DELETE FROM api_keys WHERE tenant_no = ?1", [no])?;
    }
    Ok(no)
}

/// Removes the row of a deleted tenant to which nothing refers any more.
pub(super) fn forget(tx: &Tx<'_>, no: i64) -> Result<(), Error> {
    tx.execute("DELETE FROM tenants WHERE no = ?1 AND status = 'deleted'", [no])?;
    Ok(())
}

pub(super) fn insert_key(
    tx: &Tx<'_>,
    tenant_no: i64,
    id: &str,
    new: &NewKey,
    mac: &Mac,
    mark: Mark,
    now: Timestamp,
) -> Result<KeyRow, Error> {
    let sql = format!(
        "INSERT INTO api_keys AS k (id, tenant_no, name, hash, secret_mark, test, scopes, created_at, expires_at,
             allowed_ips, rotated_from)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) RETURNING {}",
        KEY.replace("k.", "")
    );
    let expires = new.expires_at.map(Timestamp::micros);
    let networks = new.allowed_ips.iter().map(Network::to_string).collect::<Vec<_>>().join(" ");
    let params = params![
        id,
        tenant_no,
        new.name,
        mac,
        mark,
        new.test,
        new.scopes.to_column(),
        now.micros(),
        expires,
        (!networks.is_empty()).then_some(networks),
        new.rotated_from
    ];
    let row = tx.one(&sql, params, key)?;
    row.ok_or_else(|| Error::Sql("an inserted key was not returned".into()))
}

pub(super) fn get_key(tx: &Tx<'_>, tenant_id: &str, key_id: &str) -> Result<Option<KeyRow>, Error> {
    let sql = format!(
        "SELECT {KEY} FROM api_keys k JOIN tenants t ON t.no = k.tenant_no
         WHERE k.id = ?2 AND t.id = ?1 AND t.status <> 'deleted'"
    );
    tx.one(&sql, [tenant_id, key_id], key)
}

/// Newest first.
pub(super) fn list_keys(tx: &Tx<'_>, tenant_no: i64, before: Option<i64>, limit: usize) -> Result<Vec<KeyRow>, Error> {
    let sql = format!("SELECT {KEY} FROM api_keys k WHERE k.tenant_no = ?1 AND k.no < ?2 ORDER BY k.no DESC LIMIT ?3");
    tx.all(&sql, params![tenant_no, before.unwrap_or(i64::MAX), limit], key)
}

/// Revoking twice keeps the first moment.
pub(super) fn revoke_key(tx: &Tx<'_>, tenant_id: &str, key_id: &str, now: Timestamp) -> Result<Option<KeyRow>, Error> {
    tx.execute(
        "UPDATE api_keys SET revoked_at = ?3 WHERE id = ?2 AND revoked_at IS NULL AND tenant_no IN
             (SELECT no FROM tenants WHERE id = ?1 AND no > 0 AND status <> 'deleted')",
        params![tenant_id, key_id, now.micros()],
    )?;
    get_key(tx, tenant_id, key_id)
}

pub(super) fn set_last_used(tx: &Tx<'_>, key_id: &str, at: Timestamp) -> Result<(), Error> {
    tx.execute("UPDATE api_keys SET last_used_at = ?2 WHERE id = ?1", params![key_id, at.micros()])?;
    Ok(())
}

/// What is kept of a key, made with another key-hash secret.
pub(super) fn renew_key(tx: &Tx<'_>, key_id: &str, mac: &Mac, mark: Mark) -> Result<(), Error> {
    tx.execute("UPDATE api_keys SET hash = ?2, secret_mark = ?3 WHERE id = ?1", params![key_id, mac, mark])?;
    Ok(())
}

/// Keys that have not been revoked, with what proves them.
pub(super) fn usable_keys(tx: &Tx<'_>) -> Result<Vec<UsableKey>, Error> {
    let sql = format!(
        "SELECT {KEY}, k.hash, t.no, t.id FROM api_keys k JOIN tenants t ON t.no = k.tenant_no
         WHERE k.revoked_at IS NULL AND t.status <> 'deleted'"
    );
    tx.all(&sql, [], |row| {
        let found = key(row)?;
        Ok(UsableKey { row: found, mac: row.get(13)?, tenant: handle(row.get(14)?, row.get_ref(15)?.as_str()?) })
    })
}

const QUOTA: &str = "requests_per_minute, queued_jobs, concurrent_jobs, jobs_per_day, weight, retention_days";

fn read_quota(row: &Row<'_>, first: usize) -> Result<Quota, RowError> {
    Ok(Quota {
        requests_per_minute: row.get(first)?,
        queued_jobs: row.get(first + 1)?,
        concurrent_jobs: row.get(first + 2)?,
        jobs_per_day: row.get(first + 3)?,
        weight: row.get(first + 4)?,
        retention_days: row.get(first + 5)?,
    })
}

pub(super) fn quota(tx: &Tx<'_>, tenant_no: i64) -> Result<Quota, Error> {
    let sql = format!("SELECT {QUOTA} FROM quotas WHERE tenant_no = ?1");
    Ok(tx.one(&sql, [tenant_no], |row| read_quota(row, 0))?.unwrap_or_default())
}

/// The quotas of all tenants that have one.
pub(super) fn quotas(tx: &Tx<'_>) -> Result<Vec<(i64, Quota)>, Error> {
    let sql = format!(
        "SELECT tenant_no, {QUOTA} FROM quotas q JOIN tenants t ON t.no = q.tenant_no WHERE t.status <> 'deleted'"
    );
    tx.all(&sql, [], |row| Ok((row.get(0)?, read_quota(row, 1)?)))
}

pub(super) fn set_quota(tx: &Tx<'_>, tenant_no: i64, quota: &Quota, now: Timestamp) -> Result<(), Error> {
    let sql = format!(
        "INSERT OR REPLACE INTO quotas (tenant_no, {QUOTA}, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
    );
    let params = params![
        tenant_no,
        quota.requests_per_minute,
        quota.queued_jobs,
        quota.concurrent_jobs,
        quota.jobs_per_day,
        quota.weight,
        quota.retention_days,
        now.micros()
    ];
    tx.execute(&sql, params)?;
    Ok(())
}

/// Lets a key end, now or after a while, because another has taken its place;
/// when that is.
pub(super) fn replace_key(
    tx: &Tx<'_>,
    old: &KeyRow,
    by: &str,
    grace: Duration,
    now: Timestamp,
) -> Result<Timestamp, Error> {
    if grace.is_zero() {
        let sql = "UPDATE api_keys SET revoked_at = ?2, replaced_by = ?3 WHERE no = ?1";
        tx.execute(sql, params![old.no, now.micros(), by])?;
        return Ok(now);
    }
    let after = now.plus(grace);
    let end = old.expires_at.map_or(after, |end| end.min(after));
    let sql = "UPDATE api_keys SET expires_at = ?2, replaced_by = ?3 WHERE no = ?1";
    tx.execute(sql, params![old.no, end.micros(), by])?;
    Ok(end)
}

fn read_origin(row: &Row<'_>, column: usize) -> Result<WebOrigin, RowError> {
    WebOrigin::parse(row.get_ref(column)?.as_str()?).map_err(|fault| unreadable(column, fault))
}

pub(super) fn origins(tx: &Tx<'_>, tenant_no: i64) -> Result<Vec<WebOrigin>, Error> {
    let sql = "SELECT origin FROM origins WHERE tenant_no = ?1 ORDER BY origin";
    tx.all(sql, [tenant_no], |row| read_origin(row, 0))
}

/// The origins of all tenants that have some.
pub(super) fn all_origins(tx: &Tx<'_>) -> Result<Vec<(i64, Vec<WebOrigin>)>, Error> {
    let sql = "SELECT o.tenant_no, o.origin FROM origins o JOIN tenants t ON t.no = o.tenant_no
               WHERE t.status <> 'deleted' ORDER BY o.tenant_no, o.origin";
    let rows = tx.all(sql, [], |row| Ok((row.get::<_, i64>(0)?, read_origin(row, 1)?)))?;
    let mut lists: Vec<(i64, Vec<WebOrigin>)> = Vec::new();
    for (tenant, origin) in rows {
        match lists.last_mut() {
            Some((last, list)) if *last == tenant => list.push(origin),
            _ => lists.push((tenant, vec![origin])),
        }
    }
    Ok(lists)
}

pub(super) fn set_origins(tx: &Tx<'_>, tenant_no: i64, origins: &[WebOrigin]) -> Result<(), Error> {
    tx.execute("DELETE FROM origins WHERE tenant_no = ?1", [tenant_no])?;
    for origin in origins {
        let sql = "INSERT INTO origins (tenant_no, origin) VALUES (?1, ?2)";
        tx.execute(sql, params![tenant_no, origin.as_str()])?;
    }
    Ok(())
}
