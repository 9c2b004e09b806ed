//! Files for language models: uploaded, listed, fetched, deleted; kept in the
//! database in pieces, so that they are in every backup and go with their tenant.

mod care;
mod routes;
pub(super) mod sql;
#[cfg(test)]
mod tests;
mod types;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

pub use routes::routes;
pub(super) use routes::seconds;
pub(super) use types::{BATCH, BATCH_OUTPUT, CHUNK, FileId, FileRow, KEEP, KEEP_OUTPUT, NewFile, parse};
pub(super) use write::{Bound, FileWriter, WriteError, Written};

use crate::clock::Clock;
use crate::config::FilesSection;
use crate::db::{self, Db};
use crate::http::Problem;
use crate::id::IdSource;
use types::ListRequest;

/// Files that a tenant may have.
const MAX_FILES: u64 = 10_000;

/// The service. Clones share it.
#[derive(Clone)]
pub struct Files(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    ids: IdSource,
    limits: FilesSection,
    /// There may be something to delete.
    rubbish: Notify,
}

/// The greatest row number in use, from which ids go on.
///
/// # Errors
/// When the database cannot be read.
pub async fn last_no(db: &Db) -> Result<i64, db::Error> {
    db.read(sql::last_no).await
}

impl Files {
    /// The service; it deletes nothing before [`run`](Self::run).
    #[must_use]
    pub fn new(db: Db, clock: Clock, ids: IdSource, limits: FilesSection) -> Self {
        Self(Arc::new(Inner { db, clock, ids, limits, rubbish: Notify::new() }))
    }

    /// A tenant's file.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(super) async fn get(&self, tenant: i64, id: FileId) -> Result<Option<FileRow>, db::Error> {
        let now = self.0.clock.now();
        self.0.db.read(move |tx| sql::get(tx, tenant, id, now)).await
    }

    /// One of its pieces, which all have [`CHUNK`] bytes but the last; `None`
    /// beyond that.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(super) async fn chunk(&self, no: i64, seq: u64) -> Result<Option<Bytes>, db::Error> {
        Ok(self.0.db.read(move |tx| sql::chunk(tx, no, seq)).await?.map(Bytes::from))
    }

    async fn list(&self, tenant: i64, wanted: ListRequest) -> Result<Vec<FileRow>, db::Error> {
        let now = self.0.clock.now();
        self.0.db.read(move |tx| sql::list(tx, tenant, &wanted, now)).await
    }

    /// Deletes a file.
    ///
    /// # Errors
    /// When there is none, or an open batch reads it.
    pub(super) async fn delete(&self, tenant: i64, id: FileId) -> Result<(), Problem> {
        let now = self.0.clock.now();
        let work = move |tx: &db::Tx<'_>| {
            if sql::get(tx, tenant, id, now)?.is_none() {
                return Ok(None);
            }
            if sql::is_read(tx, id.no())? {
                return Ok(Some(false));
            }
            sql::delete(tx, id.no()).map(|()| Some(true))
        };
        match self.0.db.write(work).await? {
            None => Err(Problem::not_found("file")),
            Some(true) => {
                self.0.rubbish.notify_one();
                Ok(())
            }
            Some(false) => Err(Problem::conflict("in_use", "a batch that has not ended reads this file")
                .with_hint("cancel the batch first, or wait for its end")),
        }
    }
}
