//! What happens to jobs at start and over time, always in bounded pieces.

use uuid::Uuid;

use super::write::{end_waiting, interrupted_events};
use crate::clock::Timestamp;
use crate::db::{Error, Tx, params};
use crate::id;
use crate::jobs::event::Kind;
use crate::jobs::failure::Failure;
use crate::jobs::types::{ConcurrencyKey, JobId, QueueEntry};

/// A job that was running in this many processes that were lost is given up:
/// it may be what killed them.
const MAX_INTERRUPTIONS: u32 = 3;

/// Begins a new epoch: every lease given out before is void.
pub(in crate::jobs) fn begin_epoch(tx: &Tx<'_>) -> Result<i64, Error> {
    let epoch = tx.one(
        "UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'boot_epoch'
         RETURNING CAST(value AS INTEGER)",
        [],
        |row| row.get(0),
    )?;
    epoch.ok_or_else(|| Error::Sql("the boot epoch is missing".into()))
}

/// The greatest row number in use, from which ids go on.
pub(in crate::jobs) fn last_no(tx: &Tx<'_>) -> Result<i64, Error> {
    let last = tx.one("SELECT coalesce(max(no), 0) FROM jobs", [], |row| row.get(0))?;
    Ok(last.unwrap_or(0))
}

/// What became of the jobs that a lost process was running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::jobs) struct Recovered {
    pub requeued: usize,
    pub given_up: usize,
    pub cancelled: usize,
}

/// Puts up to `limit` interrupted jobs back; they are those with a lease of an
/// epoch before `epoch`.
pub(in crate::jobs) fn recover(tx: &Tx<'_>, epoch: i64, now: Timestamp, limit: usize) -> Result<Recovered, Error> {
    let lost = tx.all(
        "SELECT no, id, interruptions, last_event, cancel_requested_at IS NOT NULL FROM jobs INDEXED BY jobs_open
         WHERE finished_at IS NULL AND status = 'running' AND lease < ?1 LIMIT ?2",
        params![epoch << 32, limit],
        |row| {
            let id = JobId(Uuid::from_bytes(row.get(1)?));
            Ok((row.get::<_, i64>(0)?, id, row.get::<_, u32>(2)?, row.get::<_, i64>(3)?, row.get::<_, bool>(4)?))
        },
    )?;
    let mut recovered = Recovered::default();
    for (no, id, interruptions, last, cancelled) in lost {
        let interruptions = interruptions + 1;
        if cancelled {
            end_waiting(tx, id, last, now)?;
            recovered.cancelled += 1;
        } else if interruptions >= MAX_INTERRUPTIONS {
            let message = format!("the service ended {interruptions} times while this job was running");
            give_up(tx, no, last, interruptions, now, &Failure::permanent("interrupted", message))?;
            recovered.given_up += 1;
        } else {
            // The attempt that our own end cut short does not count.
            tx.execute(
                "UPDATE jobs SET status = 'queued', lease = NULL, attempt = attempt - 1, interruptions = ?2,
                     last_event = last_event + 1 WHERE no = ?1",
                params![no, interruptions],
            )?;
            let data = format!(r#"{{"reason":"interrupted","interruptions":{interruptions}}}"#);
            interrupted_events(tx, no, last, now, Kind::Retrying, data)?;
            recovered.requeued += 1;
        }
    }
    Ok(recovered)
}

fn give_up(
    tx: &Tx<'_>,
    no: i64,
    last: i64,
    interruptions: u32,
    now: Timestamp,
    failure: &Failure,
) -> Result<(), Error> {
    let error = failure.to_json();
    tx.execute(
        "UPDATE jobs SET status = 'dead', lease = NULL, interruptions = ?2, finished_at = ?3, error = ?4,
             last_event = last_event + 1 WHERE no = ?1",
        params![no, interruptions, now.micros(), error],
    )?;
    interrupted_events(tx, no, last, now, Kind::Dead, format!(r#"{{"error":{error}}}"#))
}

/// A job that waits, as read at start.
pub(in crate::jobs) struct Open {
    pub entry: QueueEntry,
    /// Whether it waits for money.
    pub unpaid: bool,
    /// The tool's name where the registry does not know it any more.
    pub unknown_tool: Option<String>,
}

/// Where the reading of open jobs goes on.
#[derive(Clone, Copy, Debug)]
pub(in crate::jobs) struct OpenCursor {
    pub tenant: i64,
    pub no: i64,
}

/// A page of the jobs that wait, by tenant and row.
pub(in crate::jobs) fn open(
    tx: &Tx<'_>,
    after: OpenCursor,
    limit: usize,
    find_tool: impl Fn(&str) -> Option<usize>,
) -> Result<Vec<Open>, Error> {
    tx.all(
        "SELECT tenant_no, no, tool, priority, due_at, attempt, concurrency_key,
             status = 'waiting' AND error LIKE '{\"code\":\"budget_exceeded\"%' FROM jobs INDEXED BY jobs_open
         WHERE finished_at IS NULL AND (tenant_no, no) > (?1, ?2) AND status IN ('queued', 'waiting')
         ORDER BY tenant_no, no LIMIT ?3",
        params![after.tenant, after.no, limit],
        |row| {
            let name = row.get_ref(2)?.as_str()?;
            let tool = find_tool(name);
            let (tenant, key) = (row.get(0)?, row.get_ref(6)?.as_str_or_null()?);
            let unpaid = row.get::<_, Option<bool>>(7)?.unwrap_or(false);
            let entry = QueueEntry {
                tenant,
                no: row.get(1)?,
                tool: tool.unwrap_or(0),
                priority: row.get(3)?,
                key: key.map(|text| ConcurrencyKey::of(tenant, text)),
                due_at: Timestamp::from_micros(row.get(4)?),
                relative: row.get::<_, i64>(5)? > 0 && !unpaid,
            };
            Ok(Open { entry, unpaid, unknown_tool: tool.is_none().then(|| name.to_owned()) })
        },
    )
}

/// Ends a job whose tool this version does not have.
pub(in crate::jobs) fn fail_unknown_tool(tx: &Tx<'_>, no: i64, tool: &str, now: Timestamp) -> Result<(), Error> {
    let failure = Failure::permanent("unknown_tool", format!("this version has no tool {tool:?}"));
    let error = failure.to_json();
    let last = tx.one(
        "UPDATE jobs SET status = 'failed', finished_at = ?2, error = ?3, last_event = last_event + 1
         WHERE no = ?1 AND finished_at IS NULL RETURNING last_event",
        params![no, now.micros(), error],
        |row| row.get::<_, i64>(0),
    )?;
    let Some(last) = last else { return Ok(()) };
    interrupted_events(tx, no, last - 1, now, Kind::Failed, format!(r#"{{"error":{error}}}"#))
}

/// Deletes up to `limit` jobs of a deleted tenant; whether there are more. What
/// is running is left for its end.
pub(in crate::jobs) fn clear_tenant(tx: &Tx<'_>, tenant: i64, limit: usize) -> Result<bool, Error> {
    let deleted = tx.execute(
        "DELETE FROM jobs WHERE no IN
             (SELECT no FROM jobs INDEXED BY jobs_by_tenant WHERE tenant_no = ?1 AND status <> 'running' LIMIT ?2)",
        params![tenant, limit],
    )?;
    Ok(deleted == limit)
}

/// Tenants that have jobs.
pub(in crate::jobs) fn tenants_with_jobs(tx: &Tx<'_>) -> Result<Vec<i64>, Error> {
    let sql = "SELECT no FROM tenants t WHERE status <> 'deleted'
               AND EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_by_tenant WHERE tenant_no = t.no)";
    tx.all(sql, [], |row| row.get(0))
}

/// Whether a tenant has a job after row `after` that ended before that moment.
/// A job's row number tells when it was made, so only old rows are looked at.
pub(in crate::jobs) fn has_expired(tx: &Tx<'_>, tenant: i64, after: i64, before: Timestamp) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM jobs INDEXED BY jobs_by_tenant
               WHERE tenant_no = ?1 AND no > ?2 AND no < ?3 AND finished_at < ?4 LIMIT 1";
    let values = params![tenant, after, id::first_row_number(before), before.micros()];
    Ok(tx.one(sql, values, |_| Ok(()))?.is_some())
}

/// What one piece of forgetting did.
#[derive(Debug)]
pub(in crate::jobs) struct Expired {
    pub deleted: usize,
    /// The last row that was looked at; `None` when there are no more.
    pub last: Option<i64>,
}

/// Deletes what [`has_expired`] finds among the next `limit` rows.
pub(in crate::jobs) fn expire(
    tx: &Tx<'_>,
    tenant: i64,
    after: i64,
    before: Timestamp,
    limit: usize,
) -> Result<Expired, Error> {
    let rows = tx.all(
        "SELECT no, coalesce(finished_at < ?4, 0) FROM jobs INDEXED BY jobs_by_tenant
         WHERE tenant_no = ?1 AND no > ?2 AND no < ?3 ORDER BY no LIMIT ?5",
        params![tenant, after, id::first_row_number(before), before.micros(), limit],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?)),
    )?;
    let mut deleted = 0;
    for (no, _) in rows.iter().filter(|(_, over)| *over) {
        deleted += tx.execute("DELETE FROM jobs WHERE no = ?1", [no])?;
    }
    crate::limits::jobs_deleted(tx, tenant, rows.iter().filter(|(_, over)| *over).map(|(no, _)| *no))?;
    let last = rows.last().filter(|_| rows.len() == limit).map(|(no, _)| *no);
    Ok(Expired { deleted, last })
}

/// Whether any job of the tenant is left.
pub(in crate::jobs) fn has_jobs(tx: &Tx<'_>, tenant: i64) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM jobs INDEXED BY jobs_by_tenant WHERE tenant_no = ?1 LIMIT 1";
    Ok(tx.one(sql, [tenant], |_| Ok(()))?.is_some())
}

/// A tenant's running jobs.
pub(in crate::jobs) fn running_of(tx: &Tx<'_>, tenant: i64) -> Result<Vec<i64>, Error> {
    let sql = "SELECT no FROM jobs INDEXED BY jobs_open WHERE tenant_no = ?1 AND finished_at IS NULL
               AND status = 'running' LIMIT 10000";
    tx.all(sql, [tenant], |row| row.get(0))
}
