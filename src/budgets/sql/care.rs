//! Alerts that were raised, and rows that are to go.

use std::sync::Arc;
use std::time::Duration;

use crate::budgets::types::{Alert, Scope};
use crate::budgets::window::Bucket;
use crate::clock::Timestamp;
use crate::db::{Error, Row, RowError, Tx, params};
use crate::money::Usd;

pub(in crate::budgets) fn insert_alert(tx: &Tx<'_>, alert: &Alert) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO budget_alerts (at, scope, tenant_no, key_id, percent, cap, spent)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            alert.at.micros(),
            alert.scope.name(),
            alert.tenant,
            alert.key.as_deref(),
            alert.percent,
            alert.limit.nano(),
            alert.spent.nano()
        ],
    )?;
    Ok(())
}

fn alert(row: &Row<'_>) -> Result<Alert, RowError> {
    Ok(Alert {
        at: Timestamp::from_micros(row.get(0)?),
        scope: Scope::from_name(row.get_ref(1)?.as_str()?).unwrap_or(Scope::Job),
        tenant: row.get(2)?,
        key: row.get::<_, Option<String>>(3)?.map(Arc::from),
        percent: row.get(4)?,
        limit: Usd::from_nano(row.get(5)?),
        spent: Usd::from_nano(row.get(6)?),
    })
}

/// The last alerts, newest first.
pub(in crate::budgets) fn alerts(tx: &Tx<'_>, limit: usize) -> Result<Vec<Alert>, Error> {
    let sql = "SELECT at, scope, tenant_no, key_id, percent, cap, spent FROM budget_alerts ORDER BY no DESC LIMIT ?1";
    tx.all(sql, [limit], alert)
}

/// The newest alert of each budget and share.
pub(in crate::budgets) fn newest_alerts(tx: &Tx<'_>) -> Result<Vec<Alert>, Error> {
    let sql = "SELECT max(at), scope, tenant_no, key_id, percent, cap, spent FROM budget_alerts
               GROUP BY scope, tenant_no, key_id, percent";
    tx.all(sql, [], alert)
}

/// Deletes some of a deleted tenant's rows; whether there are more.
pub(in crate::budgets) fn clear_tenant(tx: &Tx<'_>, tenant: i64, chunk: usize) -> Result<bool, Error> {
    let pieces = [
        // What is reserved stays until it is settled, for the service's own sums.
        "DELETE FROM model_calls WHERE no IN (SELECT no FROM model_calls WHERE tenant_no = ?1 LIMIT ?2)",
        "DELETE FROM spend WHERE tenant_no = ?1 AND bucket IN (SELECT bucket FROM spend WHERE tenant_no = ?1 LIMIT ?2)",
        "DELETE FROM spend_daily WHERE tenant_no = ?1 AND day IN
             (SELECT day FROM spend_daily WHERE tenant_no = ?1 LIMIT ?2)",
        "DELETE FROM spend_totals WHERE kind = 'key' AND tenant_no = ?1 AND id IN
             (SELECT id FROM spend_totals WHERE kind = 'key' AND tenant_no = ?1 LIMIT ?2)",
        "DELETE FROM spend_totals WHERE kind = 'session' AND tenant_no = ?1 AND id IN
             (SELECT id FROM spend_totals WHERE kind = 'session' AND tenant_no = ?1 LIMIT ?2)",
        "DELETE FROM spend_totals WHERE kind = 'job' AND tenant_no = ?1 AND id IN
             (SELECT id FROM spend_totals WHERE kind = 'job' AND tenant_no = ?1 LIMIT ?2)",
        "DELETE FROM budget_alerts WHERE tenant_no = ?1 AND ?2 > 0",
        "DELETE FROM budgets WHERE tenant_no = ?1 AND ?2 > 0",
        "DELETE FROM key_budgets WHERE tenant_no = ?1 AND ?2 > 0",
    ];
    for sql in pieces {
        if tx.execute(sql, params![tenant, chunk])? >= chunk {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is older than these times and may go.
#[derive(Clone, Copy, Debug)]
pub(in crate::budgets) struct Old {
    calls_before: Timestamp,
    sums_before: Timestamp,
}

impl Old {
    pub fn at(now: Timestamp, keep_calls: Duration, keep_sums: Duration) -> Self {
        let before = |keep: Duration| {
            Timestamp::from_micros(now.micros().saturating_sub(i64::try_from(keep.as_micros()).unwrap_or(i64::MAX)))
        };
        Self { calls_before: before(keep_calls), sums_before: before(keep_sums) }
    }
}

const OLD_CALLS: &str = "SELECT no FROM model_calls WHERE no < ?1 ORDER BY no LIMIT ?2";
const OLD_BUCKETS: &str = "SELECT tenant_no, bucket FROM spend WHERE bucket < ?1 LIMIT ?2";
/// A key's total counts as long as there is the key.
const OLD_TOTALS: &str =
    "SELECT kind, tenant_no, id FROM spend_totals WHERE kind <> 'key' AND updated_at < ?1 LIMIT ?2";

/// Whether something is old; most looks find nothing.
pub(in crate::budgets) fn has_old(tx: &Tx<'_>, old: Old) -> Result<bool, Error> {
    let calls = tx.one(OLD_CALLS, params![crate::id::first_row_number(old.calls_before), 1], |_| Ok(()))?;
    let totals = tx.one(OLD_TOTALS, params![old.sums_before.micros(), 1], |_| Ok(()))?;
    let buckets = tx.one(OLD_BUCKETS, params![Bucket::of(old.sums_before).0, 1], |_| Ok(()))?;
    Ok(calls.is_some() || totals.is_some() || buckets.is_some())
}

/// Forgets some of what is old; how many rows.
pub(in crate::budgets) fn forget(tx: &Tx<'_>, old: Old, chunk: usize) -> Result<usize, Error> {
    let calls = tx.execute(
        &format!("DELETE FROM model_calls WHERE no IN ({OLD_CALLS})"),
        params![crate::id::first_row_number(old.calls_before), chunk],
    )?;
    let buckets = tx.execute(
        &format!("DELETE FROM spend WHERE (tenant_no, bucket) IN ({OLD_BUCKETS})"),
        params![Bucket::of(old.sums_before).0, chunk],
    )?;
    let totals = tx.execute(
        &format!("DELETE FROM spend_totals WHERE (kind, tenant_no, id) IN ({OLD_TOTALS})"),
        params![old.sums_before.micros(), chunk],
    )?;
    Ok(calls + buckets + totals)
}
