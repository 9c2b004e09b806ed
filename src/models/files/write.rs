//! Writing a file, piece by piece, so that neither memory nor the writer ever
//! holds the whole.

use std::time::Duration;

use actix_web::http::StatusCode;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};

use super::types::{CHUNK, FileId, FileRow, NewFile};
use super::{Files, MAX_FILES, sql};
use crate::db::{self, Tx};
use crate::http::Problem;

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub(in crate::models) enum WriteError {
    /// It is longer than a file may be.
    #[error("a file may have {0} bytes")]
    TooLarge(u64),
    /// The tenant's files would be more than they may be.
    #[error("all files of a tenant may have {0} bytes together")]
    TenantFull(u64),
    /// There are too many of them.
    #[error("a tenant may have {MAX_FILES} files")]
    TooMany,
    /// The file was deleted while it was written: its tenant was.
    #[error("the file was deleted while it was written")]
    Gone,
    /// New work is refused so that running work can end.
    #[error("the disk is nearly full")]
    DiskNearlyFull,
    /// It could not be written.
    #[error(transparent)]
    Database(#[from] db::Error),
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        let detail = error.to_string();
        match error {
            WriteError::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail),
            WriteError::TenantFull(_) | WriteError::TooMany => {
                let problem = Self::new(StatusCode::PAYLOAD_TOO_LARGE, "files_full", detail);
                problem.with_hint("delete files that are no longer needed")
            }
            WriteError::Gone => Self::not_found("file"),
            WriteError::DiskNearlyFull => {
                let detail = "the disk is nearly full; new files are refused so that running work can end";
                Self::unavailable("disk_nearly_full", detail, 30)
            }
            WriteError::Database(error) => error.into(),
        }
    }
}

/// What bounds a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::models) enum Bound {
    /// What a client sends.
    Client,
    /// What the service writes for a client: it counts, and is never refused.
    Own,
}

/// A file that is being written. Dropped before its end it goes away again.
pub(in crate::models) struct FileWriter {
    files: Files,
    id: FileId,
    tenant: i64,
    bound: Bound,
    seq: i64,
    bytes: u64,
    waiting: BytesMut,
    digest: Context,
    kept: bool,
}

/// A file that is on disk as a whole and not yet there for anybody.
pub(in crate::models) struct Written {
    writer: FileWriter,
    sha256: [u8; 32],
}

impl Files {
    /// Begins a file.
    ///
    /// # Errors
    /// When the tenant may have no more.
    pub(in crate::models) async fn begin(&self, new: NewFile, bound: Bound) -> Result<FileWriter, WriteError> {
        let (id, tenant, now) = (FileId(self.0.ids.next()), new.tenant, self.0.clock.now());
        let limit = self.0.limits.bytes_per_tenant;
        self.may_write(bound)?;
        let work = move |tx: &Tx<'_>| {
            let (files, bytes) = sql::kept(tx, new.tenant)?;
            if bound == Bound::Client && files >= MAX_FILES {
                return Ok(Err(WriteError::TooMany));
            }
            if bound == Bound::Client && bytes >= limit {
                return Ok(Err(WriteError::TenantFull(limit)));
            }
            sql::begin(tx, id, &new, now).map(Ok)
        };
        // It goes away again if nobody waits for the answer.
        let digest = Context::new(&SHA256);
        let (files, waiting) = (self.clone(), BytesMut::with_capacity(CHUNK));
        let mut writer = FileWriter { files, id, tenant, bound, seq: 0, bytes: 0, waiting, digest, kept: false };
        match self.0.db.write(work).await {
            Ok(Ok(())) => Ok(writer),
            refused => {
                writer.kept = true;
                Err(refused.map_or_else(WriteError::Database, |refused| refused.err().unwrap_or(WriteError::Gone)))
            }
        }
    }

    fn may_write(&self, bound: Bound) -> Result<(), WriteError> {
        let full = bound == Bound::Client && self.0.db.nearly_full();
        if full { Err(WriteError::DiskNearlyFull) } else { Ok(()) }
    }
}

impl FileWriter {
    /// Its id, under which nothing is there yet.
    #[cfg(test)]
    pub(in crate::models) fn id(&self) -> FileId {
        self.id
    }

    /// Adds to it.
    ///
    /// # Errors
    /// See [`WriteError`]; the file then goes away.
    pub(in crate::models) async fn write(&mut self, mut piece: &[u8]) -> Result<(), WriteError> {
        self.bytes += piece.len() as u64;
        let most = self.files.0.limits.file_bytes;
        if self.bound == Bound::Client && self.bytes > most {
            return Err(WriteError::TooLarge(most));
        }
        self.digest.update(piece);
        while self.waiting.len() + piece.len() >= CHUNK {
            let (now, later) = piece.split_at(CHUNK - self.waiting.len());
            self.waiting.extend_from_slice(now);
            piece = later;
            self.put().await?;
        }
        self.waiting.extend_from_slice(piece);
        Ok(())
    }

    /// Puts the last of it on disk.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(in crate::models) async fn finish(mut self) -> Result<Written, WriteError> {
        if !self.waiting.is_empty() {
            self.put().await?;
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.digest.clone().finish().as_ref());
        Ok(Written { writer: self, sha256 })
    }

    async fn put(&mut self) -> Result<(), WriteError> {
        self.files.may_write(self.bound)?;
        let data: Bytes = self.waiting.split().freeze();
        let (no, seq, tenant, bound) = (self.id.no(), self.seq, self.tenant, self.bound);
        let limit = self.files.0.limits.bytes_per_tenant;
        let work = move |tx: &Tx<'_>| {
            if bound == Bound::Client && sql::kept(tx, tenant)?.1 + data.len() as u64 > limit {
                return Ok(Err(WriteError::TenantFull(limit)));
            }
            Ok(if sql::append(tx, no, seq, &data)? { Ok(()) } else { Err(WriteError::Gone) })
        };
        self.files.0.db.write(work).await??;
        self.seq += 1;
        Ok(())
    }
}

impl Written {
    /// Its id.
    pub(in crate::models) fn id(&self) -> FileId {
        self.writer.id
    }

    /// Makes it ready, once it is known what it is for and how long it is kept.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub(in crate::models) async fn publish_as(
        mut self,
        purpose: &'static str,
        keep: Option<Duration>,
    ) -> Result<FileRow, WriteError> {
        let complete = self.completion();
        let no = self.id().no();
        let work = move |tx: &Tx<'_>| {
            sql::describe(tx, no, purpose, keep)?;
            complete(tx)
        };
        let row = self.writer.files.0.db.write(work).await?;
        // Dropped while this waits, it goes away again, and nobody was told its id.
        self.writer.kept = true;
        row.ok_or(WriteError::Gone)
    }

    /// What makes it ready, as part of a transaction; [`keep`](Self::keep) has to
    /// follow.
    pub(in crate::models) fn completion(
        &self,
    ) -> impl Fn(&Tx<'_>) -> Result<Option<FileRow>, db::Error> + Send + 'static {
        let (no, sha256) = (self.writer.id.no(), self.sha256);
        move |tx| sql::complete(tx, no, &sha256)
    }

    /// It has become ready.
    pub(in crate::models) fn keep(mut self) {
        self.writer.kept = true;
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (files, no) = (self.files.clone(), self.id.no());
        let work = move |tx: &Tx<'_>| sql::give_up(tx, no);
        self.files.0.db.write_always(work, move |given_up| match given_up {
            Ok(()) => files.0.rubbish.notify_one(),
            Err(error) => tracing::warn!(%error, "half a file is left for the next start"),
        });
    }
}
