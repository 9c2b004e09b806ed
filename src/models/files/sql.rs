//! Every statement on files.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::db::{Error, Row, RowError, Tx, params};

use super::types::{FileId, FileRow, ListRequest, NewFile};

/// Files that are deleted one after the other are found so many at a time.
const SOME: i64 = 100;

const COLUMNS: &str = "id, name, purpose, bytes, created_at, expires_at";

fn read(row: &Row<'_>) -> Result<FileRow, RowError> {
    Ok(FileRow {
        id: FileId(uuid(row, 0)?),
        name: row.get(1)?,
        purpose: row.get(2)?,
        bytes: row.get(3)?,
        created_at: Timestamp::from_micros(row.get(4)?),
        expires_at: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_micros),
    })
}

/// An id of 16 bytes.
pub(in crate::models) fn uuid(row: &Row<'_>, column: usize) -> Result<uuid::Uuid, RowError> {
    Ok(uuid::Uuid::from_bytes(row.get(column)?))
}

/// The greatest row number in use, by files and batches.
pub(in crate::models) fn last_no(tx: &Tx<'_>) -> Result<i64, Error> {
    let sql = "SELECT max(coalesce((SELECT max(no) FROM files), 0), coalesce((SELECT max(no) FROM batches), 0))";
    Ok(tx.one(sql, [], |row| row.get(0))?.unwrap_or(0))
}

/// Files of a tenant, and their bytes.
pub(super) fn kept(tx: &Tx<'_>, tenant: i64) -> Result<(u64, u64), Error> {
    let sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM files INDEXED BY files_by_tenant
               WHERE tenant_no = ?1 AND state IN ('writing', 'ready')";
    Ok(tx.one(sql, [tenant], |row| Ok((row.get(0)?, row.get(1)?)))?.unwrap_or_default())
}

pub(super) fn begin(tx: &Tx<'_>, id: FileId, new: &NewFile, now: Timestamp) -> Result<(), Error> {
    let sql = "INSERT INTO files (no, id, tenant_no, name, purpose, state, bytes, created_at, expires_at)
               VALUES (?1, ?2, ?3, ?4, ?5, 'writing', 0, ?6, ?7)";
    let end = new.keep.map(|keep| now.plus(keep).micros());
    tx.execute(sql, params![id.no(), id.0.as_bytes(), new.tenant, new.name, new.purpose, now.micros(), end])?;
    Ok(())
}

/// Adds a piece to a file that is being written; whether it still is.
pub(super) fn append(tx: &Tx<'_>, no: i64, seq: i64, data: &[u8]) -> Result<bool, Error> {
    let sql = "UPDATE files SET bytes = bytes + ?2 WHERE no = ?1 AND state = 'writing'";
    if tx.execute(sql, params![no, data.len()])? == 0 {
        return Ok(false);
    }
    tx.execute("INSERT INTO file_chunks (file_no, seq, data) VALUES (?1, ?2, ?3)", params![no, seq, data])?;
    Ok(true)
}

/// Says what a file is for, and how long it is kept from its beginning on.
pub(super) fn describe(tx: &Tx<'_>, no: i64, purpose: &str, keep: Option<Duration>) -> Result<(), Error> {
    let micros = keep.map(|keep| i64::try_from(keep.as_micros()).unwrap_or(i64::MAX));
    let sql = "UPDATE files SET purpose = ?2, expires_at = created_at + ?3 WHERE no = ?1";
    tx.execute(sql, params![no, purpose, micros])?;
    Ok(())
}

/// Makes a file ready; `None` when it is no longer being written.
pub(in crate::models) fn complete(tx: &Tx<'_>, no: i64, sha256: &[u8]) -> Result<Option<FileRow>, Error> {
    let sql = format!(
        "UPDATE files SET state = 'ready', sha256 = ?2 WHERE no = ?1 AND state = 'writing' RETURNING {COLUMNS}"
    );
    tx.one(&sql, params![no, sha256], read)
}

/// A file that a tenant has.
pub(in crate::models) fn get(tx: &Tx<'_>, tenant: i64, id: FileId, now: Timestamp) -> Result<Option<FileRow>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM files WHERE no = ?1 AND id = ?2 AND tenant_no = ?3 AND state = 'ready'
         AND (expires_at IS NULL OR expires_at > ?4)"
    );
    tx.one(&sql, params![id.no(), id.0.as_bytes(), tenant, now.micros()], read)
}

pub(super) fn list(tx: &Tx<'_>, tenant: i64, wanted: &ListRequest, now: Timestamp) -> Result<Vec<FileRow>, Error> {
    let (beyond, order, from) = if wanted.newest_first { ("<", "DESC", i64::MAX) } else { (">", "ASC", i64::MIN) };
    let sql = format!(
        "SELECT {COLUMNS} FROM files INDEXED BY files_by_tenant
         WHERE tenant_no = ?1 AND state = 'ready' AND no {beyond} ?2 AND (?3 IS NULL OR purpose = ?3)
         AND (expires_at IS NULL OR expires_at > ?4) ORDER BY no {order} LIMIT ?5"
    );
    let after = wanted.after.map_or(from, FileId::no);
    tx.all(&sql, params![tenant, after, wanted.purpose, now.micros(), wanted.limit], read)
}

/// Whether an open batch reads the file.
pub(super) fn is_read(tx: &Tx<'_>, no: i64) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM batches INDEXED BY batches_open WHERE due_at IS NOT NULL AND input_no = ?1 LIMIT 1";
    Ok(tx.one(sql, [no], |_| Ok(()))?.is_some())
}

/// From now on it is not there; its pieces are deleted later.
pub(super) fn delete(tx: &Tx<'_>, no: i64) -> Result<(), Error> {
    tx.execute("UPDATE files SET state = 'gone' WHERE no = ?1", [no])?;
    Ok(())
}

/// The same for one that is still being written, and for no other.
pub(super) fn give_up(tx: &Tx<'_>, no: i64) -> Result<(), Error> {
    tx.execute("UPDATE files SET state = 'gone' WHERE no = ?1 AND state = 'writing'", [no])?;
    Ok(())
}

/// A piece of a file.
pub(super) fn chunk(tx: &Tx<'_>, no: i64, seq: u64) -> Result<Option<Vec<u8>>, Error> {
    tx.one("SELECT data FROM file_chunks WHERE file_no = ?1 AND seq = ?2", params![no, seq], |row| row.get(0))
}

/// Gives up what a lost process was writing.
pub(super) fn recover(tx: &Tx<'_>) -> Result<usize, Error> {
    tx.execute(
        "UPDATE files INDEXED BY files_unready SET state = 'gone' WHERE state <> 'ready' AND state = 'writing'",
        [],
    )
}

/// Gives up files whose time is over, unless an open batch reads them.
pub(super) fn expire(tx: &Tx<'_>, now: Timestamp) -> Result<usize, Error> {
    let sql = "UPDATE files SET state = 'gone' WHERE no IN (
                   SELECT no FROM files INDEXED BY files_by_end
                   WHERE expires_at <= ?1 AND state = 'ready'
                   AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.due_at IS NOT NULL AND b.input_no = files.no)
                   LIMIT ?2)";
    tx.execute(sql, params![now.micros(), SOME])
}

/// Whether a piece of work is left for [`expire`] or [`clear`].
pub(super) fn has_rubbish(tx: &Tx<'_>, now: Timestamp) -> Result<bool, Error> {
    let gone = tx.one(
        "SELECT 1 FROM files INDEXED BY files_unready WHERE state <> 'ready' AND state = 'gone' LIMIT 1",
        [],
        |_| Ok(()),
    )?;
    let sql = "SELECT 1 FROM files INDEXED BY files_by_end WHERE expires_at <= ?1 AND state = 'ready'
               AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.due_at IS NOT NULL AND b.input_no = files.no) LIMIT 1";
    Ok(gone.is_some() || tx.one(sql, [now.micros()], |_| Ok(()))?.is_some())
}

/// Deletes some pieces of files that are gone; whether there were any.
pub(super) fn clear(tx: &Tx<'_>, pieces: usize) -> Result<bool, Error> {
    let sql = "SELECT no FROM files INDEXED BY files_unready WHERE state <> 'ready' AND state = 'gone' LIMIT 1";
    let Some(no) = tx.one(sql, [], |row| row.get::<_, i64>(0))? else { return Ok(false) };
    let sql = "DELETE FROM file_chunks WHERE file_no = ?1 AND seq IN (
                   SELECT seq FROM file_chunks WHERE file_no = ?1 ORDER BY seq LIMIT ?2)";
    if tx.execute(sql, params![no, pieces])? < pieces {
        tx.execute("DELETE FROM files WHERE no = ?1", [no])?;
    }
    Ok(true)
}

/// Gives up all files of a tenant; whether rows of it are left.
pub(super) fn give_up_tenant(tx: &Tx<'_>, tenant: i64) -> Result<bool, Error> {
    let sql = "UPDATE files SET state = 'gone' WHERE no IN (
                   SELECT no FROM files INDEXED BY files_by_tenant
                   WHERE tenant_no = ?1 AND state IN ('writing', 'ready') LIMIT ?2)";
    tx.execute(sql, params![tenant, SOME])?;
    let sql = "SELECT 1 FROM files INDEXED BY files_by_tenant WHERE tenant_no = ?1 LIMIT 1";
    Ok(tx.one(sql, [tenant], |_| Ok(()))?.is_some())
}
