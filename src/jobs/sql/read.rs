//! What looks at jobs.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::db::{Error, Row, RowError, SqlType, Tx, Value, params};
use crate::id;
use crate::jobs::event::{Event, Kind};
use crate::jobs::types::{JobId, JobRow, Status};
use crate::money::Usd;
use serde_json::value::RawValue;

const JOB: &str = "id, tenant_no, tool, status, priority, attempt, interruptions, due_at, created_at, \
                   started_at, finished_at, cancel_requested_at IS NOT NULL, options, metadata, retry_of, input, result, error, \
                   concurrency_key, retried_by, \
                   (SELECT nano FROM spend_totals WHERE kind = 'job' AND spend_totals.tenant_no = jobs.tenant_no \
                        AND spend_totals.id = CAST(jobs.no AS TEXT))";

fn job(row: &Row<'_>) -> Result<JobRow, RowError> {
    let time = |column| Ok::<_, RowError>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros));
    let status = row.get_ref(3)?.as_str()?;
    Ok(JobRow {
        id: JobId(Uuid::from_bytes(row.get(0)?)),
        tenant: row.get(1)?,
        tool: row.get(2)?,
        status: Status::from_name(status).ok_or_else(|| wrong(3, format!("status {status}")))?,
        priority: row.get(4)?,
        attempt: row.get(5)?,
        interruptions: row.get(6)?,
        due_at: Timestamp::from_micros(row.get(7)?),
        created_at: Timestamp::from_micros(row.get(8)?),
        started_at: time(9)?,
        finished_at: time(10)?,
        cancel_requested: row.get(11)?,
        options: serde_json::from_str(row.get_ref(12)?.as_str()?).map_err(|error| wrong(12, error))?,
        metadata: match row.get_ref(13)?.as_str_or_null()? {
            Some(text) => Some(serde_json::from_str(text).map_err(|error| wrong(13, error))?),
            None => None,
        },
        retry_of: row.get::<_, Option<[u8; 16]>>(14)?.map(|id| JobId(Uuid::from_bytes(id))),
        input: raw(row.get(15)?).map_err(|error| wrong(15, error))?,
        result: raw_or_none(row, 16)?,
        error: raw_or_none(row, 17)?,
        concurrency_key: row.get_ref(18)?.as_str_or_null()?.map(Into::into),
        retried_by: row.get::<_, Option<[u8; 16]>>(19)?.map(|id| JobId(Uuid::from_bytes(id))),
        cost: Usd::from_nano(row.get::<_, Option<i64>>(20)?.unwrap_or(0)),
    })
}

fn raw(text: String) -> Result<Box<RawValue>, serde_json::Error> {
    RawValue::from_string(text)
}

fn raw_or_none(row: &Row<'_>, column: usize) -> Result<Option<Box<RawValue>>, RowError> {
    let text: Option<String> = row.get(column)?;
    text.map(raw).transpose().map_err(|error| wrong(column, error))
}

fn wrong(column: usize, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RowError {
    RowError::FromSqlConversionFailure(column, SqlType::Text, error.into())
}

/// A tenant's job.
pub(in crate::jobs) fn get(tx: &Tx<'_>, tenant: i64, id: JobId) -> Result<Option<JobRow>, Error> {
    let sql = format!("SELECT {JOB} FROM jobs WHERE no = ?1 AND id = ?2 AND tenant_no = ?3");
    tx.one(&sql, params![id.no(), id.0.as_bytes(), tenant], job)
}

/// Anybody's job.
pub(in crate::jobs) fn get_any(tx: &Tx<'_>, id: JobId) -> Result<Option<JobRow>, Error> {
    let sql = format!("SELECT {JOB} FROM jobs WHERE no = ?1 AND id = ?2");
    tx.one(&sql, params![id.no(), id.0.as_bytes()], job)
}

/// A tenant's row number.
pub(in crate::jobs) fn tenant_no(tx: &Tx<'_>, id: &str) -> Result<Option<i64>, Error> {
    tx.one("SELECT no FROM tenants WHERE id = ?1 AND status <> 'deleted'", [id], |row| row.get(0))
}

/// The jobs, each with its tenant's id; those of a tenant that is being cleared
/// away are left out.
pub(in crate::jobs) fn with_tenants(tx: &Tx<'_>, rows: Vec<JobRow>) -> Result<Vec<(JobRow, String)>, Error> {
    let mut ids: HashMap<i64, Option<String>> = HashMap::new();
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let id = match ids.entry(row.tenant) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let sql = "SELECT id FROM tenants WHERE no = ?1 AND status <> 'deleted'";
                new.insert(tx.one(sql, [row.tenant], |row| row.get(0))?)
            }
        };
        if let Some(id) = id.clone() {
            found.push((row, id));
        }
    }
    Ok(found)
}

/// How many [`to_redrive`] finds, up to `limit`.
pub(in crate::jobs) fn count_to_redrive(tx: &Tx<'_>, wanted: &Redrive, limit: usize) -> Result<usize, Error> {
    let counted = redrive(tx, wanted, "no", limit, |_| Ok(()))?;
    Ok(counted.len())
}

/// A tenant's jobs that did not succeed and have not been done again, the
/// oldest first.
pub(in crate::jobs) fn to_redrive(tx: &Tx<'_>, wanted: &Redrive, limit: usize) -> Result<Vec<JobRow>, Error> {
    redrive(tx, wanted, JOB, limit, job)
}

/// Which of a tenant's jobs are to be done again.
#[derive(Clone, Debug)]
pub(in crate::jobs) struct Redrive {
    pub tenant: i64,
    pub status: Status,
    /// Names, as a JSON array: what this version does not have stays as it is.
    pub tools: String,
    pub created_after: Option<Timestamp>,
    pub created_before: Option<Timestamp>,
}

fn redrive<T>(
    tx: &Tx<'_>,
    wanted: &Redrive,
    columns: &str,
    limit: usize,
    read: impl FnMut(&Row<'_>) -> Result<T, RowError>,
) -> Result<Vec<T>, Error> {
    let sql = format!(
        "SELECT {columns} FROM jobs INDEXED BY jobs_unsuccessful
         WHERE tenant_no = ?1 AND status = '{}' AND retried_by IS NULL
             AND tool IN (SELECT value FROM json_each(?2)) AND no >= ?3 AND created_at >= ?4 AND created_at < ?5
         ORDER BY no LIMIT ?6",
        wanted.status.name()
    );
    let micros = |time: Option<Timestamp>, otherwise| time.map_or(otherwise, Timestamp::micros);
    let from = wanted.created_after.map_or(0, id::first_row_number);
    let (after, before) = (micros(wanted.created_after, 0), micros(wanted.created_before, i64::MAX));
    tx.all(&sql, params![wanted.tenant, wanted.tools, from, after, before, limit], read)
}

/// Where a tenant's job stands and the number of its last event.
pub(in crate::jobs) fn standing(tx: &Tx<'_>, tenant: i64, id: JobId) -> Result<Option<(Status, i64)>, Error> {
    tx.one(
        "SELECT status, last_event FROM jobs WHERE no = ?1 AND id = ?2 AND tenant_no = ?3",
        params![id.no(), id.0.as_bytes(), tenant],
        |row| Ok((Status::from_name(row.get_ref(0)?.as_str()?).unwrap_or(Status::Dead), row.get(1)?)),
    )
}

/// What a list is narrowed to.
#[derive(Clone, Debug, Default)]
pub(in crate::jobs) struct Filter {
    pub status: Option<Status>,
    pub tool: Option<String>,
    pub created_after: Option<Timestamp>,
    pub created_before: Option<Timestamp>,
    pub metadata: Vec<(String, String)>,
}

/// Rows that a page looks at before it ends, however few of them fit.
const SCAN_LIMIT: usize = 20_000;

/// Jobs, newest first, before row `before`: a tenant's, or everybody's. A page
/// can end early, with the row to go on from, when very few rows fit the filter.
pub(in crate::jobs) fn list(
    tx: &Tx<'_>,
    tenant: Option<i64>,
    filter: &Filter,
    before: Option<i64>,
    limit: usize,
) -> Result<(Vec<JobRow>, Option<i64>), Error> {
    let until = before.unwrap_or(i64::MAX);
    let (index, status) = by_status(tenant, filter.status);
    let whose = whose(tenant);
    // A row number is never less than the time at which it was given out.
    let from = filter.created_after.map_or(0, id::first_row_number);
    let stop = scan_stop(tx, tenant, filter, index, &status, until)?.filter(|stop| *stop > from);
    let mut conditions = String::new();
    let mut values =
        vec![tenant.map_or(Value::Null, Value::Integer), Value::Integer(until), Value::Integer(stop.unwrap_or(from))];
    let mut narrow = |condition: &str, value: Value| {
        values.push(value);
        conditions.push_str(&condition.replace('?', &format!("?{}", values.len())));
    };
    if let Some(tool) = &filter.tool {
        narrow(" AND tool = ?", Value::Text(tool.clone()));
    }
    if let Some(after) = filter.created_after {
        narrow(" AND created_at >= ?", Value::Integer(after.micros()));
    }
    if let Some(before) = filter.created_before {
        narrow(" AND created_at < ?", Value::Integer(before.micros()));
    }
    for (key, value) in &filter.metadata {
        let path = format!("$.{}", serde_json::to_string(key).unwrap_or_default());
        narrow(" AND metadata ->> ?", Value::Text(path));
        narrow(" = ?", Value::Text(value.clone()));
    }
    let sql = format!(
        "SELECT {JOB} FROM jobs {index}
         WHERE {whose} AND no < ?2 AND no >= ?3 {status} {conditions}
         ORDER BY no DESC LIMIT {}",
        limit + 1
    );
    let values: Vec<&dyn crate::db::ToSql> = values.iter().map(|value| value as _).collect();
    let mut rows = tx.all(&sql, &*values, job)?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more { rows.last().map(|row| row.id.no()) } else { stop };
    Ok((rows, next))
}

/// The index in which jobs of a status are few, and the condition that it needs.
fn by_status(tenant: Option<i64>, status: Option<Status>) -> (&'static str, String) {
    let named = |status: Status| format!(" AND status = '{}'", status.name());
    match (tenant, status) {
        (None, status) => ("NOT INDEXED", status.map(named).unwrap_or_default()),
        (_, None) => ("INDEXED BY jobs_by_tenant", String::new()),
        (_, Some(Status::Succeeded)) => ("INDEXED BY jobs_by_tenant", named(Status::Succeeded)),
        (_, Some(status @ (Status::Queued | Status::Running | Status::Waiting))) => {
            ("INDEXED BY jobs_open", format!(" AND finished_at IS NULL{}", named(status)))
        }
        (_, Some(status)) => ("INDEXED BY jobs_unsuccessful", named(status)),
    }
}

fn whose(tenant: Option<i64>) -> &'static str {
    if tenant.is_some() { "tenant_no = ?1" } else { "?1 IS NULL" }
}

/// The row at which a page must end even when few rows fit the filter; `None`
/// when there are not so many rows.
fn scan_stop(
    tx: &Tx<'_>,
    tenant: Option<i64>,
    filter: &Filter,
    index: &str,
    status: &str,
    until: i64,
) -> Result<Option<i64>, Error> {
    let Filter { status: by_status, tool, created_before, metadata, .. } = filter;
    if by_status.is_none() && tool.is_none() && created_before.is_none() && metadata.is_empty() {
        return Ok(None);
    }
    // What the index is for is left in; the rest is what is looked through.
    let status = if index.ends_with("by_tenant") || tenant.is_none() { "" } else { status };
    let sql = format!(
        "SELECT no FROM jobs {index} WHERE {} AND no < ?2 {status}
         ORDER BY no DESC LIMIT 1 OFFSET ?3",
        whose(tenant)
    );
    tx.one(&sql, params![tenant, until, SCAN_LIMIT], |row| row.get(0))
}

/// A job's events after number `after`.
pub(in crate::jobs) fn events(tx: &Tx<'_>, id: JobId, after: i64, limit: usize) -> Result<Vec<Event>, Error> {
    tx.all(
        // A row is found by its last event, so the first one can hold some that
        // are not asked for.
        "SELECT e.seq - json_array_length(e.events) + 1 + x.key AS seq, x.value ->> 0 AS type, e.at, x.value -> 1,
             CASE x.value ->> 0 WHEN 'job.succeeded' THEN j.result END
         FROM job_events e JOIN jobs j ON j.no = e.job_no, json_each(e.events) x
         WHERE e.job_no = ?1 AND e.seq > ?2 AND e.seq - json_array_length(e.events) + 1 + x.key > ?2
         ORDER BY 1 LIMIT ?3",
        params![id.no(), after, limit],
        |row| {
            let name = row.get_ref(1)?.as_str()?;
            let kind = Kind::from_name(name).ok_or_else(|| wrong(1, format!("event {name}")))?;
            let data = match row.get_ref(4)?.as_str_or_null()? {
                Some(result) => format!(r#"{{"result":{result}}}"#),
                None => row.get(3)?,
            };
            Ok(Event::new(id, row.get(0)?, kind, Timestamp::from_micros(row.get(2)?), data))
        },
    )
}

/// A finished step.
#[derive(Debug)]
pub(in crate::jobs) struct StepRow {
    pub seq: i64,
    pub kind: String,
    pub name: String,
    pub attempt: u32,
    pub status: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub input: Option<Box<RawValue>>,
    pub output: Option<Box<RawValue>>,
    pub error: Option<Box<RawValue>>,
}

/// A job's finished steps in order.
pub(in crate::jobs) fn steps(tx: &Tx<'_>, id: JobId) -> Result<Vec<StepRow>, Error> {
    tx.all(
        "SELECT s.seq, s.kind, s.name, s.attempt, s.status, s.started_at, s.finished_at,
             CASE WHEN s.status = 'succeeded' THEN coalesce(s.output, j.result) END, s.error, s.input
         FROM job_steps s JOIN jobs j ON j.no = s.job_no WHERE s.job_no = ?1 ORDER BY s.seq LIMIT 10000",
        [id.no()],
        |row| {
            Ok(StepRow {
                seq: row.get(0)?,
                kind: row.get(1)?,
                name: row.get(2)?,
                attempt: row.get(3)?,
                status: row.get(4)?,
                started_at: Timestamp::from_micros(row.get(5)?),
                finished_at: Timestamp::from_micros(row.get(6)?),
                output: raw_or_none(row, 7)?,
                error: raw_or_none(row, 8)?,
                input: raw_or_none(row, 9)?,
            })
        },
    )
}

/// When the job became due that has waited longest for a place. Those of
/// suspended tenants wait for something else.
pub(in crate::jobs) fn oldest_waiting(tx: &Tx<'_>, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let sql = "SELECT min(due_at) FROM jobs INDEXED BY jobs_open
               WHERE finished_at IS NULL AND (status = 'queued' OR status = 'waiting') AND due_at <= ?1
                   AND tenant_no IN (SELECT no FROM tenants WHERE status = 'active')";
    let found = tx.one(sql, [now.micros()], |row| row.get::<_, Option<i64>>(0))?;
    Ok(found.flatten().map(Timestamp::from_micros))
}
