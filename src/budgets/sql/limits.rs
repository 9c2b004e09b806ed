//! What may be spent.

use std::sync::Arc;

use crate::budgets::types::{OnExhausted, TenantBudget};
use crate::clock::Timestamp;
use crate::db::{Error, Row, RowError, Tx, params};
use crate::money::Usd;

const BUDGET: &str = "day, month, session, on_exhausted";

fn budget(row: &Row<'_>, first: usize) -> Result<TenantBudget, RowError> {
    let usd = |column| Ok::<_, RowError>(row.get::<_, Option<i64>>(column)?.map(Usd::from_nano));
    Ok(TenantBudget {
        day_usd: usd(first)?,
        month_usd: usd(first + 1)?,
        session_usd: usd(first + 2)?,
        on_exhausted: OnExhausted::from_name(row.get_ref(first + 3)?.as_str()?),
    })
}

pub(in crate::budgets) fn tenant_budget(tx: &Tx<'_>, tenant: i64) -> Result<TenantBudget, Error> {
    let sql = format!("SELECT {BUDGET} FROM budgets WHERE tenant_no = ?1");
    Ok(tx.one(&sql, [tenant], |row| budget(row, 0))?.unwrap_or_default())
}

/// Of all tenants that have one.
pub(in crate::budgets) fn tenant_budgets(tx: &Tx<'_>) -> Result<Vec<(i64, TenantBudget)>, Error> {
    tx.all(&format!("SELECT tenant_no, {BUDGET} FROM budgets"), [], |row| Ok((row.get(0)?, budget(row, 1)?)))
}

pub(in crate::budgets) fn set_tenant_budget(
    tx: &Tx<'_>,
    tenant: i64,
    budget: &TenantBudget,
    now: Timestamp,
) -> Result<(), Error> {
    let sql =
        format!("INSERT OR REPLACE INTO budgets (tenant_no, {BUDGET}, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
    let TenantBudget { day_usd, month_usd, session_usd, on_exhausted } = budget;
    let [day, month, session] = [day_usd, month_usd, session_usd].map(|limit| limit.map(Usd::nano));
    tx.execute(&sql, params![tenant, day, month, session, on_exhausted.name(), now.micros()])?;
    Ok(())
}

pub(in crate::budgets) fn key_budget(tx: &Tx<'_>, tenant: i64, key: &str) -> Result<Option<Usd>, Error> {
    let sql = "SELECT total FROM key_budgets WHERE tenant_no = ?1 AND key_id = ?2";
    tx.one(sql, params![tenant, key], |row| row.get(0).map(Usd::from_nano))
}

/// Of all keys that have one.
pub(in crate::budgets) fn key_budgets(tx: &Tx<'_>) -> Result<Vec<(i64, Arc<str>, Usd)>, Error> {
    let sql = "SELECT tenant_no, key_id, total FROM key_budgets";
    tx.all(sql, [], |row| Ok((row.get(0)?, row.get::<_, String>(1)?.into(), Usd::from_nano(row.get(2)?))))
}

/// Gives a key's budget to the one that takes its place.
pub(in crate::budgets) fn pass_on_key_budget(
    tx: &Tx<'_>,
    tenant: i64,
    old: &str,
    new: &str,
    now: Timestamp,
) -> Result<(), Error> {
    match key_budget(tx, tenant, old)? {
        Some(total) => set_key_budget(tx, tenant, new, Some(total), now),
        None => Ok(()),
    }
}

pub(in crate::budgets) fn set_key_budget(
    tx: &Tx<'_>,
    tenant: i64,
    key: &str,
    total: Option<Usd>,
    now: Timestamp,
) -> Result<(), Error> {
    match total {
        Some(total) => tx.execute(
            "INSERT OR REPLACE INTO key_budgets (tenant_no, key_id, total, updated_at) VALUES (?1, ?2, ?3, ?4)",
            params![tenant, key, total.nano(), now.micros()],
        )?,
        None => tx.execute("DELETE FROM key_budgets WHERE tenant_no = ?1 AND key_id = ?2", params![tenant, key])?,
    };
    Ok(())
}
