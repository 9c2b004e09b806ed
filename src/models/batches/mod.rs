//! Batches: many calls to language models from a file, made while there is time,
//! and what came of them as files again.
//!
//! A batch is worked on in goes of a minute, each a job of the service's own
//! (`batch.run`), so that many batches share the places. Everything that has to
//! be known is in the database: a line is written down as being called before it
//! is, and what came of it before the next one counts. What was under way when
//! the process died may have been paid for, so it is told as an error and never
//! called again. Who pays is whoever made the batch.

mod care;
mod finish;
mod job;
mod line;
mod lines;
mod routes;
mod run;
mod sql;
#[cfg(test)]
mod tests;
mod types;
mod view;
mod work;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

pub use job::handler;
pub use routes::routes;

use super::files::Files;
use super::{Call, Reply};
use crate::clock::Clock;
use crate::db::{self, Db};
use crate::http::Problem;
use crate::http::idempotency::{Created, IdempotencyKey, once};
use crate::id::IdSource;
use crate::jobs::Jobs;
use run::Running;
use types::{Batch, BatchId, Status};

/// What a made-up line and a made-up answer to it would be in the output; `None`
/// when the line is none.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzzing(text: &[u8], answer: &[u8]) -> Option<String> {
    let line = line::read(text, types::ENDPOINTS[0].0).ok()?;
    Some(line::answered(&line.custom_id, 200, answer).result)
}

/// Batches of a tenant that have not ended, at most.
const MOST_OPEN: u64 = 100;

/// What makes a call: the gateway, or what a test puts in its place.
pub type CallFn = Arc<dyn Fn(Call) -> BoxFuture<'static, Result<Reply, Problem>> + Send + Sync>;

/// What batches need.
pub struct Parts {
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// Ids of batches.
    pub ids: IdSource,
    /// Where they are read from and written to.
    pub files: Files,
    /// What makes their calls.
    pub call: CallFn,
    /// Calls of one batch at the same time.
    pub concurrency: usize,
}

/// How fast things go.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How long a batch is worked on before others have their turn.
    slice: Duration,
    /// The pause before a line is called for the second time; it doubles.
    first: Duration,
    /// The longest that it becomes.
    longest: Duration,
    /// How long a line waits when a provider is busy and does not say for how long.
    busy: Duration,
    /// How long a line waits for money before it is looked whether there is some.
    budget: Duration,
    /// The pause after a fault of the service's own.
    after_fault: Duration,
}

impl Pace {
    const USUAL: Self = Self {
        slice: Duration::from_secs(60),
        first: Duration::from_secs(1),
        longest: Duration::from_secs(300),
        busy: Duration::from_secs(5),
        budget: Duration::from_secs(30),
        after_fault: Duration::from_secs(30),
    };

    /// The pause after so many attempts, a random half of it taken off.
    fn pause(&self, attempts: u32) -> Duration {
        let full = self.first.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(self.longest);
        let random = f64::from(u32::from_ne_bytes(crate::id::random_bytes())) / f64::from(u32::MAX);
        full.mul_f64(0.5 + random / 2.0)
    }
}

/// The service. Clones share it.
#[derive(Clone)]
pub struct Batches(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    ids: IdSource,
    files: Files,
    call: CallFn,
    concurrency: usize,
    pace: Pace,
    jobs: OnceLock<Jobs>,
    /// Something may be due.
    look: Notify,
    /// By row number.
    running: Mutex<HashMap<i64, Arc<Running>>>,
}

/// Why a batch is not taken.
enum NotMade {
    /// The tenant has no such file.
    NoFile,
    /// It is for something else.
    OtherPurpose(String),
    /// The tenant has too many that have not ended.
    TooMany,
}

impl Batches {
    /// The service; it works on nothing before [`run`](Self::run).
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self::with_pace(parts, Pace::USUAL)
    }

    fn with_pace(parts: Parts, pace: Pace) -> Self {
        let Parts { db, clock, ids, files, call, concurrency } = parts;
        Self(Arc::new(Inner {
            db,
            clock,
            ids,
            files,
            call,
            concurrency,
            pace,
            jobs: OnceLock::new(),
            look: Notify::new(),
            running: Mutex::default(),
        }))
    }

    /// Lets what is under way of a tenant's batches end and begins nothing more of
    /// them, or lets them go on.
    pub fn hold(&self, tenant: i64, hold: bool) {
        for running in self.0.running().values().filter(|running| running.tenant == tenant) {
            running.rest.store(hold, Ordering::Release);
        }
        self.0.look.notify_one();
    }

    async fn create(
        &self,
        batch: Batch,
        key: Option<IdempotencyKey>,
    ) -> Result<Created<Result<Batch, NotMade>>, db::Error> {
        let now = batch.times.created;
        let insert = move |tx: &db::Tx<'_>| {
            let file = super::files::sql::get(tx, batch.tenant, batch.input, now)?;
            let Some(file) = file else { return Ok(Err(NotMade::NoFile)) };
            if file.purpose != super::files::BATCH {
                return Ok(Err(NotMade::OtherPurpose(file.purpose)));
            }
            if sql::open_of(tx, batch.tenant)? >= MOST_OPEN {
                return Ok(Err(NotMade::TooMany));
            }
            sql::insert(tx, &batch)?;
            Ok(Ok(batch.clone()))
        };
        let answer = |made: &Result<Batch, NotMade>| made.as_ref().ok().map(routes::stored);
        let work = move |tx: &db::Tx<'_>| once(tx, key.as_ref(), now, answer, || insert(tx).map(Some));
        let made = self.0.db.write(work).await?;
        self.0.look.notify_one();
        Ok(made.unwrap_or(Created::KeyReused))
    }

    async fn get(&self, tenant: i64, id: BatchId) -> Result<Option<Batch>, db::Error> {
        self.0.db.read(move |tx| sql::get(tx, tenant, id)).await
    }

    async fn list(&self, tenant: i64, after: Option<BatchId>, limit: usize) -> Result<Vec<Batch>, db::Error> {
        self.0.db.read(move |tx| sql::list(tx, tenant, after, limit)).await
    }

    /// Wishes a batch's end; the batch as it is then.
    async fn cancel(&self, tenant: i64, id: BatchId) -> Result<Option<Batch>, db::Error> {
        let now = self.0.clock.now();
        let found = self.0.db.write(move |tx| sql::cancel(tx, tenant, id, now)).await?;
        if found.as_ref().is_some_and(|batch| batch.status == Status::Cancelling) {
            if let Some(running) = self.0.running().get(&id.no()) {
                running.stop.cancel();
            }
            self.0.look.notify_one();
        }
        Ok(found)
    }
}

impl Inner {
    fn running(&self) -> MutexGuard<'_, HashMap<i64, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_draining(&self) -> bool {
        self.jobs.get().is_some_and(Jobs::is_draining)
    }
}
