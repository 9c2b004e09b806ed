//! Every statement on stored responses.

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::id::ResponseId;
use super::object::{Event, Finished, Status};
use crate::clock::Timestamp;
use crate::db::{Error, Tx, params};
use crate::id::first_row_number;
use crate::jobs::JobId;

/// A response as it comes into the database.
#[derive(Clone, Debug)]
pub(super) struct New {
    pub id: ResponseId,
    pub tenant: i64,
    pub status: Status,
    pub previous: Option<ResponseId>,
    pub background: Option<Background>,
    /// JSON: a list of items.
    pub input: String,
    /// JSON: the object.
    pub object: String,
}

/// What is kept of a response that is made in the background.
#[derive(Clone, Debug)]
pub(super) struct Background {
    pub job: JobId,
    pub key: Option<String>,
    pub session: Option<String>,
    pub test: bool,
    /// JSON: the request without its input.
    pub request: String,
    /// The events that it begins with.
    pub events: Vec<Event>,
}

pub(super) fn insert(tx: &Tx<'_>, new: &New, now: Timestamp) -> Result<(), Error> {
    let (no, background) = (new.id.no(), new.background.as_ref());
    tx.execute(
        "INSERT INTO responses (no, id, tenant_no, status, previous_no, job_id, key_id, session, test, finished_at,
             last_event, bytes, request, input, response)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        params![
            no,
            new.id.0.as_bytes(),
            new.tenant,
            new.status.name(),
            new.previous.map(ResponseId::no),
            background.map(|it| it.job.0.into_bytes()),
            background.and_then(|it| it.key.as_deref()),
            background.and_then(|it| it.session.as_deref()),
            background.is_some_and(|it| it.test),
            new.status.is_final().then(|| now.micros()),
            background.and_then(|it| it.events.last()).map(|event| event.seq),
            new.input.len() + new.object.len(),
            background.map(|it| &it.request),
            new.input,
            new.object,
        ],
    )?;
    background.map_or(Ok(()), |it| insert_events(tx, no, &it.events))
}

fn insert_events(tx: &Tx<'_>, no: i64, events: &[Event]) -> Result<(), Error> {
    let Some(last) = events.last() else { return Ok(()) };
    let data: Vec<_> = events.iter().map(|event| event.data.as_str()).collect();
    let json = format!("[{}]", data.join(","));
    tx.execute(
        "INSERT INTO response_events (response_no, seq, events) VALUES (?1, ?2, ?3)",
        params![no, last.seq, json],
    )?;
    Ok(())
}

/// A stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub status: Status,
    pub job: Option<JobId>,
    /// JSON: the object.
    pub object: String,
}

fn status(name: &str) -> Status {
    Status::from_name(name).unwrap_or(Status::Failed)
}

/// A tenant's response.
pub(super) fn get(tx: &Tx<'_>, tenant: i64, id: ResponseId) -> Result<Option<Stored>, Error> {
    tx.one(
        "SELECT status, job_id, response FROM responses WHERE no = ?1 AND tenant_no = ?2 AND id = ?3",
        params![id.no(), tenant, id.0.as_bytes()],
        |row| {
            let job = row.get::<_, Option<[u8; 16]>>(1)?.map(|bytes| JobId(Uuid::from_bytes(bytes)));
            Ok(Stored { status: status(row.get_ref(0)?.as_str()?), job, object: row.get(2)? })
        },
    )
}

/// The items that were new in a tenant's response.
pub(super) fn input(tx: &Tx<'_>, tenant: i64, id: ResponseId) -> Result<Option<String>, Error> {
    let sql = "SELECT input FROM responses WHERE no = ?1 AND tenant_no = ?2 AND id = ?3";
    tx.one(sql, params![id.no(), tenant, id.0.as_bytes()], |row| row.get(0))
}

/// What comes of looking for the turns before one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chain {
    /// Input and object of each, the oldest first.
    Turns(Vec<(String, String)>),
    /// There is no such response.
    Missing,
    /// It goes on from one that has been deleted.
    Broken,
    /// One of them has not ended, or ended without an answer: that one's status.
    Unusable(Status),
    /// More turns or bytes than are put together.
    TooLong,
}

/// The turns up to a tenant's response.
pub(super) fn chain(
    tx: &Tx<'_>,
    tenant: i64,
    id: ResponseId,
    most_turns: usize,
    most_bytes: usize,
) -> Result<Chain, Error> {
    let first = "SELECT 1 FROM responses WHERE no = ?1 AND tenant_no = ?2 AND id = ?3";
    if tx.one(first, params![id.no(), tenant, id.0.as_bytes()], |_| Ok(()))?.is_none() {
        return Ok(Chain::Missing);
    }
    let (mut numbers, mut bytes, mut next) = (Vec::new(), 0_usize, Some(id.no()));
    while let Some(no) = next {
        let turn = tx.one(
            "SELECT previous_no, bytes, status FROM responses WHERE no = ?1 AND tenant_no = ?2",
            params![no, tenant],
            |row| Ok((row.get(0)?, row.get::<_, usize>(1)?, status(row.get_ref(2)?.as_str()?))),
        )?;
        let Some((previous, size, status)) = turn else { return Ok(Chain::Broken) };
        if !matches!(status, Status::Completed | Status::Incomplete) {
            return Ok(Chain::Unusable(status));
        }
        numbers.push(no);
        bytes = bytes.saturating_add(size);
        if numbers.len() > most_turns || bytes > most_bytes {
            return Ok(Chain::TooLong);
        }
        next = previous;
    }
    let mut turns = Vec::with_capacity(numbers.len());
    for no in numbers.into_iter().rev() {
        let read = |row: &crate::db::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        turns.extend(tx.one("SELECT input, response FROM responses WHERE no = ?1", [no], read)?);
    }
    Ok(Chain::Turns(turns))
}

/// A response's id, input and object.
type Texts = (ResponseId, String, String);

/// The stored ones of these responses of a tenant, up to `most_bytes`.
pub(super) fn stored(tx: &Tx<'_>, tenant: i64, ids: &[ResponseId], most_bytes: usize) -> Result<Vec<Texts>, Error> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for id in ids {
        let row = tx.one(
            "SELECT id, input, response FROM responses WHERE no = ?1 AND tenant_no = ?2 AND id = ?3",
            params![id.no(), tenant, id.0.as_bytes()],
            |row| Ok((ResponseId(Uuid::from_bytes(row.get(0)?)), row.get(1)?, row.get(2)?)),
        )?;
        let row: Option<Texts> = row;
        bytes += row.as_ref().map_or(0, |(_, input, object)| input.len() + object.len());
        found.extend(row);
        if bytes > most_bytes {
            break;
        }
    }
    Ok(found)
}

/// Those of a tenant's newest responses whose input or object `names` accepts. At most
/// `most` rows and `most_bytes` are searched.
pub(super) fn newest(
    tx: &Tx<'_>,
    tenant: i64,
    most: usize,
    most_bytes: usize,
    names: impl Fn(&str) -> bool,
) -> Result<Vec<Texts>, Error> {
    let mut bytes = 0_usize;
    let found = tx.all(
        "SELECT id, input, response, bytes FROM responses INDEXED BY responses_by_tenant
         WHERE tenant_no = ?1 ORDER BY no DESC LIMIT ?2",
        params![tenant, most],
        |row| {
            bytes = bytes.saturating_add(row.get(3)?);
            // SQLite reads long columns only when they are accessed.
            let is_wanted =
                bytes <= most_bytes && (names(row.get_ref(1)?.as_str()?) || names(row.get_ref(2)?.as_str()?));
            let id = ResponseId(Uuid::from_bytes(row.get(0)?));
            if is_wanted { Ok(Some((id, row.get(1)?, row.get(2)?))) } else { Ok(None) }
        },
    )?;
    Ok(found.into_iter().flatten().collect())
}

/// What a job finds of the response that it is to make.
#[derive(Debug)]
pub(super) struct Work {
    pub status: Status,
    pub called: bool,
    pub key: Option<String>,
    pub session: Option<String>,
    pub test: bool,
    pub last_event: i64,
    pub request: String,
    pub input: String,
    pub object: String,
}

pub(super) fn work(tx: &Tx<'_>, tenant: i64, id: ResponseId) -> Result<Option<Work>, Error> {
    tx.one(
        "SELECT status, called, key_id, session, test, coalesce(last_event, -1), coalesce(request, '{}'), input,
             response
         FROM responses WHERE no = ?1 AND tenant_no = ?2 AND id = ?3 AND job_id IS NOT NULL",
        params![id.no(), tenant, id.0.as_bytes()],
        |row| {
            Ok(Work {
                status: status(row.get_ref(0)?.as_str()?),
                called: row.get(1)?,
                key: row.get(2)?,
                session: row.get(3)?,
                test: row.get(4)?,
                last_event: row.get(5)?,
                request: row.get(6)?,
                input: row.get(7)?,
                object: row.get(8)?,
            })
        },
    )
}

/// What is written while a response is made in the background.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub events: Vec<Event>,
    /// Whether the provider may have been asked from now on, when that changes.
    pub called: Option<bool>,
    /// Where it stands, with its object, when that changes.
    pub change: Option<(Status, String)>,
}

impl Step {
    /// Events, the last of which may have ended the response.
    pub fn of(events: Vec<Event>, finished: Option<&Finished>) -> Self {
        let change = finished.map(|finished| (finished.status, finished.object.to_string()));
        Self { events, called: None, change }
    }
}

/// Takes a step; whether the response was there and had not ended before.
pub(super) fn step(tx: &Tx<'_>, no: i64, step: &Step, now: Timestamp) -> Result<bool, Error> {
    let open = "SELECT 1 FROM responses WHERE no = ?1 AND finished_at IS NULL";
    if tx.one(open, [no], |_| Ok(()))?.is_none() {
        return Ok(false);
    }
    insert_events(tx, no, &step.events)?;
    let last = step.events.last().map(|event| event.seq);
    tx.execute(
        "UPDATE responses SET last_event = coalesce(?2, last_event), called = coalesce(?3, called) WHERE no = ?1",
        params![no, last, step.called],
    )?;
    if let Some((status, object)) = &step.change {
        tx.execute(
            "UPDATE responses SET status = ?2, response = ?3, bytes = length(CAST(input AS BLOB)) + ?4, finished_at = ?5,
                 request = CASE WHEN ?5 IS NULL THEN request END
             WHERE no = ?1",
            params![no, status.name(), object, object.len(), status.is_final().then(|| now.micros())],
        )?;
    }
    Ok(true)
}

/// Some of the events after number `after`, in order; none when there are no
/// more for now.
pub(super) fn events(tx: &Tx<'_>, no: i64, after: i64, rows: usize) -> Result<Vec<Event>, Error> {
    let texts = tx.all(
        "SELECT events FROM response_events WHERE response_no = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
        params![no, after, rows],
        |row| row.get::<_, String>(0),
    )?;
    let mut events = Vec::new();
    for text in texts {
        let list: Vec<Box<RawValue>> = serde_json::from_str(&text).map_err(|error| Error::Sql(error.to_string()))?;
        for data in list {
            let event = event(&data)?;
            if event.seq > after {
                events.push(event);
            }
        }
    }
    Ok(events)
}

fn event(data: &RawValue) -> Result<Event, Error> {
    #[derive(Deserialize)]
    struct Read {
        r#type: String,
        sequence_number: i64,
    }
    let read: Read = serde_json::from_str(data.get()).map_err(|error| Error::Sql(error.to_string()))?;
    Ok(Event { seq: read.sequence_number, kind: read.r#type, data: data.get().to_owned() })
}

/// Deletes a tenant's response; what it was, `None` when there was none.
pub(super) fn delete(tx: &Tx<'_>, tenant: i64, id: ResponseId) -> Result<Option<Stored>, Error> {
    let Some(stored) = get(tx, tenant, id)? else { return Ok(None) };
    tx.execute("DELETE FROM responses WHERE no = ?1", [id.no()])?;
    Ok(Some(stored))
}

/// Takes back what could not be begun.
pub(super) fn withdraw(tx: &Tx<'_>, no: i64) -> Result<(), Error> {
    tx.execute("DELETE FROM responses WHERE no = ?1", [no])?;
    Ok(())
}

/// Responses from before that moment from which no kept one goes on.
const EXPIRED: &str = "FROM responses r WHERE no < ?1
    AND NOT EXISTS (SELECT 1 FROM responses later WHERE later.previous_no = r.no)";
/// Responses that one write deletes at most, and their bytes, and rows of events.
const MOST_DELETED: usize = 64;
const MOST_BYTES: usize = 4 << 20;
const MOST_EVENT_ROWS: usize = 64;

/// Whether [`expire`] would find any.
pub(super) fn has_expired(tx: &Tx<'_>, before: Timestamp) -> Result<bool, Error> {
    let sql = format!("SELECT 1 {EXPIRED} LIMIT 1");
    Ok(tx.one(&sql, [first_row_number(before)], |_| Ok(()))?.is_some())
}

/// Deletes some responses from before that moment from which no kept one goes
/// on; how many. None, where their events alone were enough for once.
pub(super) fn expire(tx: &Tx<'_>, before: Timestamp) -> Result<usize, Error> {
    let sql = format!("SELECT no, bytes {EXPIRED} LIMIT ?2");
    let found = tx.all(&sql, params![first_row_number(before), MOST_DELETED], |row| Ok((row.get(0)?, row.get(1)?)))?;
    delete_some(tx, found)
}

/// Deletes some of a tenant's responses; whether there are more.
pub(super) fn clear_tenant(tx: &Tx<'_>, tenant: i64) -> Result<bool, Error> {
    let found = tx.all(
        "SELECT no, bytes FROM responses INDEXED BY responses_by_tenant WHERE tenant_no = ?1 ORDER BY no LIMIT ?2",
        params![tenant, MOST_DELETED],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let wanted = found.len();
    let deleted = delete_some(tx, found)?;
    Ok(deleted < wanted || wanted == MOST_DELETED)
}

fn delete_some(tx: &Tx<'_>, found: Vec<(i64, usize)>) -> Result<usize, Error> {
    let (mut deleted, mut size) = (0, 0);
    for (no, bytes) in found {
        let events = tx.execute(
            "DELETE FROM response_events WHERE response_no = ?1 AND seq IN
                 (SELECT seq FROM response_events WHERE response_no = ?1 ORDER BY seq LIMIT ?2)",
            params![no, MOST_EVENT_ROWS],
        )?;
        if events == MOST_EVENT_ROWS {
            return Ok(deleted);
        }
        deleted += tx.execute("DELETE FROM responses WHERE no = ?1", [no])?;
        size += bytes;
        if size > MOST_BYTES {
            break;
        }
    }
    Ok(deleted)
}

/// The greatest row number in use.
pub(super) fn last_no(tx: &Tx<'_>) -> Result<i64, Error> {
    let last = tx.one("SELECT coalesce(max(no), 0) FROM responses", [], |row| row.get(0))?;
    Ok(last.unwrap_or(0))
}
