//! Every statement on what tenants have used.

use super::usage::{Day, Usage};
use crate::db::{Error, Row, RowError, Tx, params};

fn usage(row: &Row<'_>, first: usize) -> Result<Usage, RowError> {
    Ok(Usage {
        requests: row.get(first)?,
        rate_limited: row.get(first + 1)?,
        jobs_submitted: row.get(first + 2)?,
        jobs_succeeded: row.get(first + 3)?,
        jobs_failed: row.get(first + 4)?,
        run_micros: row.get(first + 5)?,
    })
}

/// Adds to a tenant's day; nothing when the tenant is gone.
pub(super) fn add(tx: &Tx<'_>, tenant: i64, day: Day, more: Usage) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO usage_daily (tenant_no, day, requests, rate_limited, jobs_submitted, jobs_succeeded,
             jobs_failed, run_micros)
         SELECT no, ?2, ?3, ?4, ?5, ?6, ?7, ?8 FROM tenants WHERE no = ?1
         ON CONFLICT (tenant_no, day) DO UPDATE SET requests = requests + excluded.requests,
             rate_limited = rate_limited + excluded.rate_limited,
             jobs_submitted = jobs_submitted + excluded.jobs_submitted,
             jobs_succeeded = jobs_succeeded + excluded.jobs_succeeded,
             jobs_failed = jobs_failed + excluded.jobs_failed, run_micros = run_micros + excluded.run_micros",
        params![
            tenant,
            day.0,
            more.requests,
            more.rate_limited,
            more.jobs_submitted,
            more.jobs_succeeded,
            more.jobs_failed,
            more.run_micros
        ],
    )?;
    Ok(())
}

/// A tenant's days from one to another, both included, oldest first.
pub(super) fn days(tx: &Tx<'_>, tenant: i64, from: Day, to: Day) -> Result<Vec<(Day, Usage)>, Error> {
    tx.all(
        "SELECT day, requests, rate_limited, jobs_submitted, jobs_succeeded, jobs_failed, run_micros
         FROM usage_daily WHERE tenant_no = ?1 AND day >= ?2 AND day <= ?3 ORDER BY day",
        params![tenant, from.0, to.0],
        |row| Ok((Day(row.get(0)?), usage(row, 1)?)),
    )
}

/// Remembers that so many jobs of that day are gone from the table of jobs.
pub(super) fn jobs_deleted(tx: &Tx<'_>, tenant: i64, day: Day, jobs: u32) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO usage_daily (tenant_no, day, jobs_deleted) VALUES (?1, ?2, ?3)
         ON CONFLICT (tenant_no, day) DO UPDATE SET jobs_deleted = jobs_deleted + excluded.jobs_deleted",
        params![tenant, day.0, jobs],
    )?;
    Ok(())
}

/// How many jobs a tenant has submitted since a day began, of which the least
/// possible row number is `first`.
pub(super) fn jobs_since(tx: &Tx<'_>, tenant: i64, day: Day, first: i64) -> Result<u32, Error> {
    let count = tx.one(
        "SELECT (SELECT count(*) FROM jobs INDEXED BY jobs_by_tenant WHERE tenant_no = ?1 AND no >= ?3)
             + coalesce((SELECT jobs_deleted FROM usage_daily WHERE tenant_no = ?1 AND day = ?2), 0)",
        params![tenant, day.0, first],
        |row| row.get(0),
    )?;
    Ok(count.unwrap_or(0))
}
