//! What looks at jobs.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::db::{Error, Row, RowError, SqlType, Tx, Value, params};
use crate::id;
use crate::jobs::event::{Event, Kind};
use crate::jobs::types::{JobId, JobRow, Status};
use serde_json::value::RawValue;

const JOB: &str = "id, tenant_no, tool, status, priority, attempt, interruptions, due_at, created_at, \
                   started_at, finished_at, cancel_requested_at IS NOT NULL, options, metadata, retry_of, input, result, error";

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

/// A tenant's jobs, newest first, before row `before`. A page can end early,
/// with the row to go on from, when very few rows fit the filter.
pub(in crate::jobs) fn list(
    tx: &Tx<'_>,
    tenant: i64,
    filter: &Filter,
    before: Option<i64>,
    limit: usize,
) -> Result<(Vec<JobRow>, Option<i64>), Error> {
    let until = before.unwrap_or(i64::MAX);
    let (index, status) = by_status(filter.status);
    // A row number is never less than the time at which it was given out.
    let from = filter.created_after.map_or(0, id::first_row_number);
    let stop = scan_stop(tx, tenant, filter, index, &status, until)?.filter(|stop| *stop > from);
    let mut conditions = String::new();
    let mut values = vec![Value::Integer(tenant), Value::Integer(until), Value::Integer(stop.unwrap_or(from))];
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
        "SELECT {JOB} FROM jobs INDEXED BY {index}
         WHERE tenant_no = ?1 AND no < ?2 AND no >= ?3 {status} {conditions}
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
fn by_status(status: Option<Status>) -> (&'static str, String) {
    match status {
        None => ("jobs_by_tenant", String::new()),
        Some(Status::Succeeded) => ("jobs_by_tenant", " AND status = 'succeeded'".into()),
        Some(status @ (Status::Queued | Status::Running | Status::Waiting)) => {
            ("jobs_open", format!(" AND finished_at IS NULL AND status = '{}'", status.name()))
        }
        Some(status) => ("jobs_unsuccessful", format!(" AND status = '{}'", status.name())),
    }
}

/// The row at which a page must end even when few rows fit the filter; `None`
/// when there are not so many rows.
fn scan_stop(
    tx: &Tx<'_>,
    tenant: i64,
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
    let status = if index == "jobs_by_tenant" { "" } else { status };
    let sql = format!(
        "SELECT no FROM jobs INDEXED BY {index} WHERE tenant_no = ?1 AND no < ?2 {status}
         ORDER BY no DESC LIMIT 1 OFFSET ?3"
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
    pub output: Option<Box<RawValue>>,
    pub error: Option<Box<RawValue>>,
}

/// A job's finished steps in order.
pub(in crate::jobs) fn steps(tx: &Tx<'_>, id: JobId) -> Result<Vec<StepRow>, Error> {
    tx.all(
        "SELECT s.seq, s.kind, s.name, s.attempt, s.status, s.started_at, s.finished_at,
             CASE WHEN s.status = 'succeeded' THEN coalesce(s.output, j.result) END, s.error
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
            })
        },
    )
}
