//! What changes a job. Each function is part of one transaction, and each
//! change brings its events along.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::clock::Timestamp;
use crate::db::{Error, Tx, params};
use crate::jobs::event::{Event, Kind};
use crate::jobs::failure::Failure;
use crate::jobs::handler::Registry;
use crate::jobs::types::{Claim, ConcurrencyKey, Ending, JobId, NewJob, Options, QueueEntry, Status};
use uuid::Uuid;

/// The event that begins the step of a job that starts at once: it is queued,
/// started, and its step is started.
pub(in crate::jobs) const FIRST_STEP: i64 = 3;

/// An event to be written: its kind and data.
pub(super) type Draft = (Kind, String);

pub(super) fn insert_events(tx: &Tx<'_>, no: i64, first: i64, at: Timestamp, drafts: &[Draft]) -> Result<(), Error> {
    let mut json = String::with_capacity(128);
    for (kind, data) in drafts {
        // The result stands in the job's row; it is not kept twice.
        let data = if *kind == Kind::Succeeded || data.is_empty() { "{}" } else { data };
        let before = if json.is_empty() { '[' } else { ',' };
        let _ = write!(json, r#"{before}["{}",{data}]"#, kind.name());
    }
    json.push(']');
    let last = first - 1 + i64::try_from(drafts.len()).unwrap_or(0);
    tx.execute(
        "INSERT INTO job_events (job_no, seq, at, events) VALUES (?1, ?2, ?3, ?4)",
        params![no, last, at.micros(), json],
    )?;
    Ok(())
}

pub(super) fn events(job: JobId, first: i64, at: Timestamp, drafts: Vec<Draft>) -> Vec<Arc<Event>> {
    let event = |(seq, (kind, data))| Arc::new(Event::new(job, seq, kind, at, data));
    (first..).zip(drafts).map(event).collect()
}

fn started(attempt: u32, step: i64, tool: &str) -> [Draft; 2] {
    [
        (Kind::Started, format!(r#"{{"attempt":{attempt}}}"#)),
        (Kind::StepStarted, format!(r#"{{"step":{step},"name":"{tool}"}}"#)),
    ]
}

fn submitted_drafts(job: &NewJob, starts: bool) -> Vec<Draft> {
    let mut drafts = vec![(Kind::Queued, String::new())];
    if starts {
        drafts.extend(started(1, FIRST_STEP, job.tool));
    } else if job.is_delayed() {
        drafts.push((Kind::Waiting, format!(r#"{{"for":"time","until":"{}"}}"#, job.due_at)));
    }
    drafts
}

/// Inserts a job, already running under `lease` when it starts at once.
pub(in crate::jobs) fn insert(tx: &Tx<'_>, job: &NewJob, lease: Option<i64>) -> Result<(), Error> {
    let drafts = submitted_drafts(job, lease.is_some());
    let status = if lease.is_some() {
        Status::Running
    } else if job.is_delayed() {
        Status::Waiting
    } else {
        Status::Queued
    };
    let options = if job.options == Options::default() {
        "{}".to_owned()
    } else {
        serde_json::to_string(&job.options).map_err(|error| Error::Sql(error.to_string()))?
    };
    let no = job.id.no();
    tx.execute(
        "INSERT INTO jobs (no, id, tenant_no, tool, status, priority, attempt, interruptions, last_event, lease,
             due_at, created_at, started_at, options, metadata, retry_of, input, concurrency_key)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        params![
            no,
            job.id.0.as_bytes(),
            job.tenant,
            job.tool,
            status.name(),
            job.priority,
            i64::from(lease.is_some()),
            drafts.len(),
            lease,
            job.due_at.micros(),
            job.created_at.micros(),
            lease.map(|_| job.created_at.micros()),
            options,
            job.metadata,
            job.retry_of.map(|id| id.0.into_bytes()),
            &*job.input,
            job.concurrency_key.as_deref(),
        ],
    )?;
    if let Some(first) = job.retry_of {
        tx.execute(
            "UPDATE jobs SET retried_by = ?3 WHERE no = ?1 AND tenant_no = ?2",
            params![first.no(), job.tenant, job.id.0.as_bytes()],
        )?;
    }
    insert_events(tx, no, 1, job.created_at, &drafts)
}

/// The events that [`insert`] wrote.
pub(in crate::jobs) fn insert_events_of(job: &NewJob, starts: bool) -> Vec<Arc<Event>> {
    events(job.id, 1, job.created_at, submitted_drafts(job, starts))
}

/// Starts a queued job; `None` when it is no longer there to start.
pub(in crate::jobs) fn claim(
    tx: &Tx<'_>,
    entry: &QueueEntry,
    tool: &str,
    lease: i64,
    now: Timestamp,
) -> Result<Option<Claim>, Error> {
    // Reading and then writing: RETURNING would build a table in memory for
    // its rows, which costs more than the statement itself.
    let claimed = tx.one(
        "SELECT id, attempt + 1, last_event + 2, created_at, options, input, coalesce(started_at, ?2), interruptions,
             due_at, metadata, retry_of, concurrency_key FROM jobs
         WHERE no = ?1 AND status IN ('queued', 'waiting')",
        params![entry.no, now.micros()],
        |row| {
            Ok(Claim {
                id: JobId(Uuid::from_bytes(row.get(0)?)),
                tool: entry.tool,
                tenant: entry.tenant,
                lease,
                attempt: row.get(1)?,
                step: row.get(2)?,
                started_at: now,
                first_started_at: Timestamp::from_micros(row.get(6)?),
                interruptions: row.get(7)?,
                due_at: Timestamp::from_micros(row.get(8)?),
                metadata: row.get(9)?,
                retry_of: row.get::<_, Option<[u8; 16]>>(10)?.map(|id| JobId(Uuid::from_bytes(id))),
                concurrency_key: row.get_ref(11)?.as_str_or_null()?.map(Into::into),
                created_at: Timestamp::from_micros(row.get(3)?),
                options: serde_json::from_str(row.get_ref(4)?.as_str()?).unwrap_or_default(),
                priority: entry.priority,
                input: row.get_ref(5)?.as_str()?.into(),
                took_steps: AtomicBool::new(false),
            })
        },
    )?;
    if let Some(claim) = &claimed {
        tx.execute(
            "UPDATE jobs SET status = 'running', attempt = ?2, lease = ?3, last_event = ?4,
                 started_at = coalesce(started_at, ?5) WHERE no = ?1",
            params![entry.no, claim.attempt, lease, claim.step, now.micros()],
        )?;
        insert_events(tx, entry.no, claim.step - 1, now, &started(claim.attempt, claim.step, tool))?;
    }
    Ok(claimed)
}

/// The events that [`claim`] wrote.
pub(in crate::jobs) fn claim_events(claim: &Claim, tool: &str) -> Vec<Arc<Event>> {
    let drafts = started(claim.attempt, claim.step, tool).into();
    events(claim.id, claim.step - 1, claim.started_at, drafts)
}

fn ending_drafts(claim: &Claim, tool: &str, ending: &Ending) -> Vec<Draft> {
    let step = claim.step;
    let finished = || (Kind::StepFinished, format!(r#"{{"step":{step},"name":"{tool}"}}"#));
    let failed = |error: &str| (Kind::StepFailed, format!(r#"{{"step":{step},"name":"{tool}","error":{error}}}"#));
    let error_of = |failure: &Failure| failure.to_json();
    match ending {
        Ending::Succeeded(result) => vec![finished(), (Kind::Succeeded, format!(r#"{{"result":{result}}}"#))],
        Ending::Failed(failure) => {
            let error = error_of(failure);
            vec![failed(&error), (Kind::Failed, format!(r#"{{"error":{error}}}"#))]
        }
        Ending::Dead(failure) => {
            let (error, attempt) = (error_of(failure), claim.attempt);
            vec![failed(&error), (Kind::Dead, format!(r#"{{"attempt":{attempt},"error":{error}}}"#))]
        }
        Ending::Retry(failure, due) => {
            let (error, attempt) = (error_of(failure), claim.attempt);
            let data = format!(r#"{{"attempt":{attempt},"error":{error},"due_at":"{due}"}}"#);
            vec![failed(&error), (Kind::Retrying, data)]
        }
        Ending::Unpaid(failure, due) => {
            let data = format!(r#"{{"for":"budget","until":"{due}"}}"#);
            vec![failed(&error_of(failure)), (Kind::Waiting, data)]
        }
        Ending::Cancelled => vec![(Kind::Cancelled, String::new())],
        Ending::PutBack => vec![(Kind::Retrying, r#"{"reason":"shutdown"}"#.into())],
    }
}

/// Ends an attempt; the events it made, or `None` when the lease is no longer
/// ours.
pub(in crate::jobs) fn finish(
    tx: &Tx<'_>,
    claim: &Claim,
    tool: &str,
    ending: &Ending,
    now: Timestamp,
) -> Result<Option<Vec<Arc<Event>>>, Error> {
    let drafts = ending_drafts(claim, tool, ending);
    let error = match ending {
        Ending::Failed(failure) | Ending::Dead(failure) | Ending::Retry(failure, _) | Ending::Unpaid(failure, _) => {
            Some(failure.to_json())
        }
        Ending::Succeeded(_) | Ending::Cancelled | Ending::PutBack => None,
    };
    let (status, due) = match ending {
        Ending::Succeeded(_) => (Status::Succeeded, None),
        Ending::Failed(_) => (Status::Failed, None),
        Ending::Dead(_) => (Status::Dead, None),
        Ending::Retry(_, due) | Ending::Unpaid(_, due) => (Status::Waiting, Some(*due)),
        Ending::Cancelled => (Status::Cancelled, None),
        Ending::PutBack => (Status::Queued, None),
    };
    let result = if let Ending::Succeeded(result) = ending { Some(&**result) } else { None };
    let no = claim.id.no();
    // While the lease is ours nobody adds events but the job's own steps.
    let before = if claim.took_steps.load(Ordering::Acquire) {
        let Some(last) = super::steps::last_event(tx, claim)? else { return Ok(None) };
        last
    } else {
        claim.step
    };
    let first = before + 1;
    let last = before + i64::try_from(drafts.len()).unwrap_or(0);
    let updated = tx.execute(
        "UPDATE jobs SET status = ?3, lease = NULL, last_event = ?4, finished_at = ?5,
             due_at = coalesce(?6, due_at), attempt = attempt - ?7, result = ?8, error = ?9
         WHERE no = ?1 AND lease = ?2",
        params![
            no,
            claim.lease,
            status.name(),
            last,
            status.is_final().then_some(now.micros()),
            due.map(Timestamp::micros),
            i64::from(matches!(ending, Ending::PutBack | Ending::Unpaid(..))),
            result,
            error,
        ],
    )?;
    if updated == 0 {
        return Ok(None);
    }
    insert_events(tx, no, first, now, &drafts)?;
    let step_status = match ending {
        Ending::Succeeded(_) => "succeeded",
        Ending::Failed(_) | Ending::Dead(_) | Ending::Retry(..) | Ending::Unpaid(..) => "failed",
        Ending::Cancelled | Ending::PutBack => "cancelled",
    };
    tx.execute(
        "INSERT INTO job_steps (job_no, seq, kind, name, attempt, status, started_at, finished_at, error)
         VALUES (?1, ?2, 'tool', ?3, ?4, ?5, ?6, ?7, ?8)",
        params![no, claim.step, tool, claim.attempt, step_status, claim.started_at.micros(), now.micros(), error],
    )?;
    Ok(Some(events(claim.id, first, now, drafts)))
}

/// What a request to cancel found.
#[derive(Debug)]
pub(in crate::jobs) enum Cancel {
    /// No such job of this tenant.
    Missing,
    /// It had ended.
    Finished(Status),
    /// It was waiting and has ended now.
    Ended(QueueEntry, Vec<Arc<Event>>),
    /// It is running; whoever runs it must be told.
    Running,
}

/// Ends a waiting job, or notes on a running one that it is to end.
pub(in crate::jobs) fn cancel(
    tx: &Tx<'_>,
    registry: &Registry,
    tenant: i64,
    id: JobId,
    now: Timestamp,
) -> Result<Cancel, Error> {
    let found = tx.one(
        "SELECT status, tool, priority, due_at, last_event, concurrency_key FROM jobs
         WHERE no = ?1 AND id = ?2 AND tenant_no = ?3",
        params![id.no(), id.0.as_bytes(), tenant],
        |row| {
            let status = Status::from_name(row.get_ref(0)?.as_str()?).unwrap_or(Status::Dead);
            let key = row.get_ref(5)?.as_str_or_null()?;
            let entry = QueueEntry {
                no: id.no(),
                tenant,
                tool: registry.find(row.get_ref(1)?.as_str()?).unwrap_or(0),
                priority: row.get(2)?,
                key: key.map(|text| ConcurrencyKey::of(tenant, text)),
                due_at: Timestamp::from_micros(row.get(3)?),
                relative: false,
            };
            Ok((status, entry, row.get::<_, i64>(4)?))
        },
    )?;
    let Some((status, entry, last)) = found else { return Ok(Cancel::Missing) };
    match status {
        Status::Running => {
            tx.execute(
                "UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, ?2) WHERE no = ?1",
                params![id.no(), now.micros()],
            )?;
            Ok(Cancel::Running)
        }
        Status::Queued | Status::Waiting => {
            let ended = end_waiting(tx, id, last, now)?;
            Ok(Cancel::Ended(entry, ended))
        }
        _ => Ok(Cancel::Finished(status)),
    }
}

/// The oldest open job with this concurrency key.
pub(in crate::jobs) fn with_key(tx: &Tx<'_>, tenant: i64, key: &str) -> Result<Option<JobId>, Error> {
    tx.one(
        "SELECT id FROM jobs INDEXED BY jobs_by_concurrency_key
         WHERE tenant_no = ?1 AND concurrency_key = ?2 AND finished_at IS NULL ORDER BY no LIMIT 1",
        params![tenant, key],
        |row| Ok(JobId(Uuid::from_bytes(row.get(0)?))),
    )
}

/// Every open job with this concurrency key, the oldest first.
pub(in crate::jobs) fn all_with_key(tx: &Tx<'_>, tenant: i64, key: &str) -> Result<Vec<JobId>, Error> {
    tx.all(
        "SELECT id FROM jobs INDEXED BY jobs_by_concurrency_key
         WHERE tenant_no = ?1 AND concurrency_key = ?2 AND finished_at IS NULL ORDER BY no",
        params![tenant, key],
        |row| Ok(JobId(Uuid::from_bytes(row.get(0)?))),
    )
}

/// Marks a job that is not running cancelled.
pub(in crate::jobs) fn end_waiting(
    tx: &Tx<'_>,
    id: JobId,
    last_event: i64,
    now: Timestamp,
) -> Result<Vec<Arc<Event>>, Error> {
    tx.execute(
        "UPDATE jobs SET status = 'cancelled', finished_at = ?2, last_event = last_event + 1, lease = NULL,
             cancel_requested_at = coalesce(cancel_requested_at, ?2) WHERE no = ?1",
        params![id.no(), now.micros()],
    )?;
    let drafts = vec![(Kind::Cancelled, String::new())];
    insert_events(tx, id.no(), last_event + 1, now, &drafts)?;
    Ok(events(id, last_event + 1, now, drafts))
}

/// Deletes a finished job with all its rows; its status when it is not finished.
pub(in crate::jobs) fn delete(tx: &Tx<'_>, tenant: i64, id: JobId) -> Result<Option<Status>, Error> {
    let status = tx.one(
        "SELECT status FROM jobs WHERE no = ?1 AND id = ?2 AND tenant_no = ?3",
        params![id.no(), id.0.as_bytes(), tenant],
        |row| Ok(Status::from_name(row.get_ref(0)?.as_str()?)),
    )?;
    if let Some(status) = status.flatten() {
        if status.is_final() {
            tx.execute("DELETE FROM jobs WHERE no = ?1", [id.no()])?;
            crate::limits::jobs_deleted(tx, tenant, std::iter::once(id.no()))?;
        }
        return Ok(Some(status));
    }
    Ok(None)
}

/// An event for a job that a lost process was running.
pub(super) fn interrupted_events(
    tx: &Tx<'_>,
    no: i64,
    last: i64,
    now: Timestamp,
    kind: Kind,
    data: String,
) -> Result<(), Error> {
    insert_events(tx, no, last + 1, now, &[(kind, data)])
}
