//! Steps that a job takes itself: recorded as they begin and end, read back
//! when the job is taken up again.

use std::sync::Arc;

use super::write::{Draft, events, insert_events};
use crate::clock::Timestamp;
use crate::db::{Error, Tx, params};
use crate::jobs::event::{Event, Kind};
use crate::jobs::types::Claim;

/// A step of a job's own, as it is recorded.
#[derive(Debug)]
pub(in crate::jobs) struct Step {
    /// Which of the job's own steps it is, from 1.
    pub ordinal: u32,
    pub kind: &'static str,
    pub name: String,
    /// JSON on one line.
    pub input: Arc<str>,
    pub started_at: Timestamp,
}

/// How a step ended: JSON, or the failure as JSON.
pub(in crate::jobs) type StepEnd = Result<Arc<str>, String>;

/// A step that has begun.
pub(in crate::jobs) struct Begun {
    pub number: i64,
    pub events: Vec<Arc<Event>>,
}

/// A step as found on disk.
#[derive(Debug)]
pub(in crate::jobs) struct Recorded {
    pub ordinal: u32,
    pub kind: String,
    pub name: String,
    pub input: String,
    pub attempt: u32,
    pub end: Result<String, String>,
}

/// The job's steps of its own that have ended, the latest of each.
pub(in crate::jobs) fn recorded(tx: &Tx<'_>, job: i64) -> Result<Vec<Recorded>, Error> {
    tx.all(
        "SELECT ordinal, kind, name, input, attempt, output, error FROM job_steps
         WHERE job_no = ?1 AND ordinal IS NOT NULL AND (output IS NOT NULL OR error IS NOT NULL) ORDER BY seq",
        [job],
        |row| {
            let (output, error): (Option<String>, Option<String>) = (row.get(5)?, row.get(6)?);
            Ok(Recorded {
                ordinal: row.get(0)?,
                kind: row.get(1)?,
                name: row.get(2)?,
                input: row.get(3)?,
                attempt: row.get(4)?,
                end: output.ok_or_else(|| error.unwrap_or_default()),
            })
        },
    )
}

/// Notes that a step begins; `None` when the lease is no longer ours.
pub(in crate::jobs) fn begin(tx: &Tx<'_>, claim: &Claim, step: &Step, now: Timestamp) -> Result<Option<Begun>, Error> {
    let Some(last) = last_event(tx, claim)? else { return Ok(None) };
    let number = last + 1;
    let draft = (Kind::StepStarted, data(step, number, ""));
    let events = add(tx, claim, last, now, draft)?;
    Ok(Some(Begun { number, events }))
}

/// Keeps what came of a step; the events, or `None` when the lease is no longer
/// ours.
pub(in crate::jobs) fn end(
    tx: &Tx<'_>,
    claim: &Claim,
    step: &Step,
    number: i64,
    end: &StepEnd,
    now: Timestamp,
) -> Result<Option<Vec<Arc<Event>>>, Error> {
    let Some(last) = last_event(tx, claim)? else { return Ok(None) };
    let (status, output, error) = match end {
        Ok(output) => ("succeeded", Some(&**output), None),
        Err(error) => ("failed", None, Some(error)),
    };
    tx.execute(
        "INSERT INTO job_steps (job_no, seq, kind, name, attempt, status, started_at, finished_at, output, error,
             ordinal, input)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            claim.id.no(),
            number,
            step.kind,
            step.name,
            claim.attempt,
            status,
            step.started_at.micros(),
            now.micros(),
            output,
            error,
            step.ordinal,
            &*step.input,
        ],
    )?;
    let draft = match end {
        Ok(_) => (Kind::StepFinished, data(step, number, "")),
        Err(error) => (Kind::StepFailed, data(step, number, &format!(r#","error":{error}"#))),
    };
    add(tx, claim, last, now, draft).map(Some)
}

/// Notes that a budget is nearly or wholly spent; nothing when the lease is no
/// longer ours.
pub(in crate::jobs) fn budget_reached(
    tx: &Tx<'_>,
    claim: &Claim,
    data: &str,
    now: Timestamp,
) -> Result<Vec<Arc<Event>>, Error> {
    let Some(last) = last_event(tx, claim)? else { return Ok(Vec::new()) };
    add(tx, claim, last, now, (Kind::BudgetReached, data.to_owned()))
}

/// The number of the job's last event while the lease is ours.
pub(super) fn last_event(tx: &Tx<'_>, claim: &Claim) -> Result<Option<i64>, Error> {
    let sql = "SELECT last_event FROM jobs WHERE no = ?1 AND lease = ?2";
    tx.one(sql, params![claim.id.no(), claim.lease], |row| row.get(0))
}

fn add(tx: &Tx<'_>, claim: &Claim, last: i64, now: Timestamp, draft: Draft) -> Result<Vec<Arc<Event>>, Error> {
    let (no, drafts) = (claim.id.no(), vec![draft]);
    tx.execute("UPDATE jobs SET last_event = ?2 WHERE no = ?1", params![no, last + 1])?;
    insert_events(tx, no, last + 1, now, &drafts)?;
    Ok(events(claim.id, last + 1, now, drafts))
}

fn data(step: &Step, number: i64, more: &str) -> String {
    // Whoever gives an agent its goal can name a tool that is none.
    let name = serde_json::to_string(&step.name).unwrap_or_default();
    format!(r#"{{"step":{number},"kind":"{}","name":{name}{more}}}"#, step.kind)
}
