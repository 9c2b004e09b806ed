//! Every statement on batches.

use super::types::{Batch, BatchId, Counts, LineEnd, OpenLine, Place, Status, Times};
use crate::clock::Timestamp;
use crate::db::{Error, Row, RowError, SqlType, Tx, params};
use crate::models::files::FileId;
use crate::models::files::sql::uuid;

/// Rows that one write deletes at most.
const SOME: usize = 250;

const COLUMNS: &str = "id, tenant_no, key_id, session, test, input_id, endpoint, metadata, keep_output, status, ending, \
                       created_at, expires_at, in_progress_at, finalizing_at, cancelling_at, ended_at, \
                       total, completed, failed, next_line, next_start, errors, output_id, error_id";

fn status(row: &Row<'_>, column: usize) -> Result<Status, RowError> {
    let name = row.get_ref(column)?.as_str()?;
    Status::from_name(name).ok_or_else(|| {
        RowError::FromSqlConversionFailure(column, SqlType::Text, format!("{name:?} is no status").into())
    })
}

fn time(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, RowError> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros))
}

fn file(row: &Row<'_>, column: usize) -> Result<Option<FileId>, RowError> {
    Ok(row.get::<_, Option<[u8; 16]>>(column)?.map(|bytes| FileId(uuid::Uuid::from_bytes(bytes))))
}

fn read(row: &Row<'_>) -> Result<Batch, RowError> {
    Ok(Batch {
        id: BatchId(uuid(row, 0)?),
        tenant: row.get(1)?,
        key: row.get(2)?,
        session: row.get(3)?,
        test: row.get(4)?,
        input: FileId(uuid(row, 5)?),
        endpoint: row.get(6)?,
        metadata: row.get(7)?,
        keep_output: row.get(8)?,
        status: status(row, 9)?,
        ending: row.get_ref(10)?.as_str_or_null()?.and_then(Status::from_name),
        times: Times {
            created: Timestamp::from_micros(row.get(11)?),
            expires: Timestamp::from_micros(row.get(12)?),
            in_progress: time(row, 13)?,
            finalizing: time(row, 14)?,
            cancelling: time(row, 15)?,
            ended: time(row, 16)?,
        },
        counts: Counts { total: row.get(17)?, completed: row.get(18)?, failed: row.get(19)? },
        next: Place { line: row.get(20)?, start: row.get(21)? },
        errors: row.get(22)?,
        output: file(row, 23)?,
        error: file(row, 24)?,
    })
}

/// Batches of a tenant that have not ended.
pub(super) fn open_of(tx: &Tx<'_>, tenant: i64) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM batches INDEXED BY batches_open WHERE due_at IS NOT NULL AND tenant_no = ?1";
    Ok(tx.one(sql, [tenant], |row| row.get(0))?.unwrap_or(0))
}

pub(super) fn insert(tx: &Tx<'_>, batch: &Batch) -> Result<(), Error> {
    let sql = "INSERT INTO batches (no, id, tenant_no, key_id, session, test, input_id, input_no, endpoint, metadata,
                   keep_output, status, created_at, expires_at, due_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?13)";
    let params = params![
        batch.id.no(),
        batch.id.0.as_bytes(),
        batch.tenant,
        batch.key,
        batch.session,
        batch.test,
        batch.input.0.as_bytes(),
        batch.input.no(),
        batch.endpoint,
        batch.metadata,
        batch.keep_output,
        batch.status.name(),
        batch.times.created.micros(),
        batch.times.expires.micros(),
    ];
    tx.execute(sql, params)?;
    Ok(())
}

/// A tenant's batch.
pub(super) fn get(tx: &Tx<'_>, tenant: i64, id: BatchId) -> Result<Option<Batch>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM batches WHERE no = ?1 AND id = ?2 AND tenant_no = ?3");
    tx.one(&sql, params![id.no(), id.0.as_bytes(), tenant], read)
}

/// Any batch, for whoever works on it.
pub(super) fn of_no(tx: &Tx<'_>, no: i64) -> Result<Option<Batch>, Error> {
    tx.one(&format!("SELECT {COLUMNS} FROM batches WHERE no = ?1"), [no], read)
}

pub(super) fn list(tx: &Tx<'_>, tenant: i64, after: Option<BatchId>, limit: usize) -> Result<Vec<Batch>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM batches INDEXED BY batches_by_tenant
         WHERE tenant_no = ?1 AND no < ?2 ORDER BY no DESC LIMIT ?3"
    );
    tx.all(&sql, params![tenant, after.map_or(i64::MAX, BatchId::no), limit], read)
}

/// Batches that are to be worked on, those of suspended tenants left out.
pub(super) fn due(tx: &Tx<'_>, now: Timestamp, limit: usize) -> Result<Vec<BatchId>, Error> {
    let sql = "SELECT b.id FROM batches b INDEXED BY batches_open JOIN tenants t ON t.no = b.tenant_no
               WHERE b.due_at <= ?1 AND t.status = 'active' ORDER BY b.due_at LIMIT ?2";
    tx.all(sql, params![now.micros(), limit], |row| Ok(BatchId(uuid(row, 0)?)))
}

/// When the next one is due after `now`.
pub(super) fn next_due(tx: &Tx<'_>, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let sql = "SELECT min(due_at) FROM batches INDEXED BY batches_open WHERE due_at > ?1";
    Ok(tx.one(sql, [now.micros()], |row| time(row, 0))?.flatten())
}

/// Has an open batch worked on again from then on.
pub(super) fn set_due(tx: &Tx<'_>, no: i64, due: Timestamp) -> Result<(), Error> {
    let sql = "UPDATE batches SET due_at = ?2 WHERE no = ?1 AND due_at IS NOT NULL AND status <> 'cancelling'";
    tx.execute(sql, params![no, due.micros()])?;
    Ok(())
}

/// The input is right; nothing when somebody has cancelled meanwhile.
pub(super) fn validated(tx: &Tx<'_>, no: i64, total: u64, now: Timestamp) -> Result<(), Error> {
    let sql = "UPDATE batches SET status = 'in_progress', in_progress_at = ?3, total = ?2
               WHERE no = ?1 AND status = 'validating'";
    tx.execute(sql, params![no, total, now.micros()])?;
    Ok(())
}

/// The input is wrong; nothing when somebody has cancelled meanwhile.
pub(super) fn invalid(tx: &Tx<'_>, no: i64, errors: &str, now: Timestamp) -> Result<(), Error> {
    let sql = "UPDATE batches SET status = 'failed', ended_at = ?3, due_at = NULL, errors = ?2
               WHERE no = ?1 AND status = 'validating'";
    tx.execute(sql, params![no, errors, now.micros()])?;
    Ok(())
}

/// Wishes a batch's end; the batch as it is then.
pub(super) fn cancel(tx: &Tx<'_>, tenant: i64, id: BatchId, now: Timestamp) -> Result<Option<Batch>, Error> {
    let sql = "UPDATE batches SET status = 'cancelling', cancelling_at = ?3, due_at = ?3
               WHERE no = ?1 AND tenant_no = ?2 AND status IN ('validating', 'in_progress')";
    tx.execute(sql, params![id.no(), tenant, now.micros()])?;
    get(tx, tenant, id)
}

/// Lines in one of the two open states: `calling` or `waiting`.
pub(super) fn open_lines(tx: &Tx<'_>, no: i64, state: &'static str) -> Result<Vec<OpenLine>, Error> {
    let sql = "SELECT line, start, length, attempts, coalesce(due_at, 0) FROM batch_lines INDEXED BY batch_lines_open
               WHERE batch_no = ?1 AND state = ?2 AND (state = 'calling' OR state = 'waiting') ORDER BY line";
    tx.all(sql, params![no, state], |row| {
        Ok(OpenLine {
            place: Place { line: row.get(0)?, start: row.get(1)? },
            length: row.get(2)?,
            attempts: row.get(3)?,
            due: Timestamp::from_micros(row.get(4)?),
        })
    })
}

/// A new line is about to be called.
pub(super) fn begin_line(tx: &Tx<'_>, no: i64, line: &OpenLine, next: Place) -> Result<(), Error> {
    let sql = "INSERT INTO batch_lines (batch_no, line, start, length, state, attempts)
               VALUES (?1, ?2, ?3, ?4, 'calling', 0)";
    tx.execute(sql, params![no, line.place.line, line.place.start, line.length])?;
    let sql = "UPDATE batches SET next_line = ?2, next_start = ?3 WHERE no = ?1";
    tx.execute(sql, params![no, next.line, next.start])?;
    Ok(())
}

/// A line that waited is about to be called.
pub(super) fn call_again(tx: &Tx<'_>, no: i64, line: u64) -> Result<(), Error> {
    let sql = "UPDATE batch_lines SET state = 'calling', due_at = NULL WHERE batch_no = ?1 AND line = ?2";
    tx.execute(sql, params![no, line])?;
    Ok(())
}

/// A line is tried again later.
pub(super) fn wait_line(tx: &Tx<'_>, no: i64, line: &OpenLine) -> Result<(), Error> {
    let sql = "UPDATE batch_lines SET state = 'waiting', attempts = ?3, due_at = ?4 WHERE batch_no = ?1 AND line = ?2";
    tx.execute(sql, params![no, line.place.line, line.attempts, line.due.micros()])?;
    Ok(())
}

/// A line has ended. It counts once, however often this is said.
pub(super) fn end_line(tx: &Tx<'_>, no: i64, line: u64, end: &LineEnd) -> Result<(), Error> {
    let sql = "UPDATE batch_lines SET state = ?3, result = ?4, due_at = NULL
               WHERE batch_no = ?1 AND line = ?2 AND (state = 'calling' OR state = 'waiting')";
    let state = if end.succeeded { "done" } else { "failed" };
    let ended = tx.execute(sql, params![no, line, state, end.result])?;
    let sql = "UPDATE batches SET completed = completed + ?2, failed = failed + ?3 WHERE no = ?1";
    let (good, bad) = if end.succeeded { (ended, 0) } else { (0, ended) };
    tx.execute(sql, params![no, good, bad])?;
    Ok(())
}

/// Nothing more is called; what the batch becomes, which a wish for its end decides.
pub(super) fn finalize(tx: &Tx<'_>, no: i64, ending: Status, now: Timestamp) -> Result<(), Error> {
    let sql = "UPDATE batches SET
                   ending = CASE WHEN status = 'cancelling' THEN 'cancelled' ELSE ?2 END,
                   finalizing_at = CASE WHEN status = 'cancelling' THEN NULL ELSE ?3 END,
                   status = CASE WHEN status = 'cancelling' THEN status ELSE 'finalizing' END
               WHERE no = ?1 AND due_at IS NOT NULL AND ending IS NULL";
    tx.execute(sql, params![no, ending.name(), now.micros()])?;
    Ok(())
}

/// Some lines that have ended so, behind a line.
pub(super) fn results(
    tx: &Tx<'_>,
    no: i64,
    succeeded: bool,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, String)>, Error> {
    let sql = "SELECT line, result FROM batch_lines
               WHERE batch_no = ?1 AND state = ?2 AND line > ?3 AND result IS NOT NULL ORDER BY line LIMIT ?4";
    let state = if succeeded { "done" } else { "failed" };
    tx.all(sql, params![no, state, after, limit], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// The end, with what was written and how many lines were never called.
pub(super) fn end(
    tx: &Tx<'_>,
    no: i64,
    files: [Option<FileId>; 2],
    never_called: u64,
    now: Timestamp,
) -> Result<(), Error> {
    let sql = "UPDATE batches SET status = ending, ended_at = ?5, due_at = NULL, failed = failed + ?4,
                   output_id = ?2, error_id = ?3
               WHERE no = ?1 AND due_at IS NOT NULL AND ending IS NOT NULL";
    let [output, error] = files.map(|file| file.map(|file| *file.0.as_bytes()));
    tx.execute(sql, params![no, output, error, never_called, now.micros()])?;
    Ok(())
}

/// Deletes some lines of batches that have ended, then batches that ended before
/// `before`; whether there were any.
pub(super) fn clear(tx: &Tx<'_>, before: Timestamp) -> Result<bool, Error> {
    let sql = "DELETE FROM batch_lines WHERE rowid IN (
                   SELECT l.rowid FROM batches b INDEXED BY batches_ended JOIN batch_lines l ON l.batch_no = b.no
                   WHERE b.ended_at IS NOT NULL AND b.cleared = 0 LIMIT ?1)";
    if tx.execute(sql, [SOME])? > 0 {
        return Ok(true);
    }
    tx.execute("UPDATE batches SET cleared = 1 WHERE ended_at IS NOT NULL AND cleared = 0", [])?;
    let sql = "DELETE FROM batches WHERE no IN (
                   SELECT no FROM batches INDEXED BY batches_ended WHERE ended_at < ?1 AND cleared = 1 LIMIT ?2)";
    Ok(tx.execute(sql, params![before.micros(), SOME])? > 0)
}

/// Whether [`clear`] has something to do.
pub(super) fn has_rubbish(tx: &Tx<'_>, before: Timestamp) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM batches INDEXED BY batches_ended
               WHERE ended_at IS NOT NULL AND (cleared = 0 OR ended_at < ?1) LIMIT 1";
    Ok(tx.one(sql, [before.micros()], |_| Ok(()))?.is_some())
}

/// Deletes some of what a tenant has; whether something is left.
pub(super) fn clear_tenant(tx: &Tx<'_>, tenant: i64) -> Result<bool, Error> {
    let sql = "DELETE FROM batch_lines WHERE rowid IN (
                   SELECT l.rowid FROM batches b INDEXED BY batches_by_tenant JOIN batch_lines l ON l.batch_no = b.no
                   WHERE b.tenant_no = ?1 LIMIT ?2)";
    if tx.execute(sql, params![tenant, SOME])? > 0 {
        return Ok(true);
    }
    let sql = "DELETE FROM batches WHERE no IN (
                   SELECT no FROM batches INDEXED BY batches_by_tenant WHERE tenant_no = ?1 LIMIT ?2)";
    Ok(tx.execute(sql, params![tenant, SOME])? > 0)
}
