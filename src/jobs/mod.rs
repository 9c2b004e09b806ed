//! Jobs: on disk before they are acknowledged, done once their turn comes,
//! followed live, and never lost.
//!
//! This room knows no tool, and of agents only the name of their handler and how
//! one is asked for: it runs handlers from a registry that `app` fills. A job's way: `submit` inserts it in a group commit and, when a
//! place is free, starts it in the same transaction; otherwise the `queue`
//! holds it. The `executor` runs it, and its end frees the place, which starts
//! the next: nothing polls. `care` puts things right at start and over time.

mod admin;
mod bulk;
mod care;
mod describe;
mod event;
mod executor;
mod failure;
pub mod handler;
mod hub;
mod json;
mod metrics;
mod queue;
mod request;
mod retention;
mod retry;
mod routes;
mod sql;
mod steps;
mod stream;
mod submit;
#[cfg(test)]
mod tests;
mod types;
mod unpaid;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

pub use failure::{ErrorClass, Failure};
pub use handler::{AGENT, Call, Class, Handler, Outcome, Registry, Run};
pub use json::one_line;
pub use routes::routes;
pub use steps::Steps;
pub use types::{JobId, Status};

use crate::budgets::Budgets;
use crate::clock::{Clock, Timestamp};
use crate::db::{self, Db};
use crate::id::IdSource;
use executor::Running;
use hub::Hub;
use metrics::Metrics;
use queue::Queue;
pub use queue::Share;
use retention::Retention;
use types::{JobRow, QueueEntry};

/// What bounds the work.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Jobs that run at the same time.
    pub concurrency: usize,
    /// Jobs that may wait, over all tenants, before submissions are refused.
    pub queue: usize,
    /// Bytes of JSON that a job may give back.
    pub result_bytes: usize,
    /// The longest `?wait=`.
    pub wait: Duration,
    /// How long finished jobs are kept; none: for ever.
    pub retention: Option<Duration>,
}

/// What the service is built from.
pub struct Parts {
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// Ids of jobs.
    pub ids: IdSource,
    /// What runs jobs.
    pub registry: Registry,
    /// What bounds the work.
    pub limits: Limits,
    /// What bounds the work of each tenant.
    pub quotas: Arc<crate::limits::Limits>,
    /// What jobs may spend and have spent.
    pub budgets: Budgets,
    /// Where jobs run, apart from the HTTP workers.
    pub runtime: Handle,
}

/// The service. Clones share it.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    ids: IdSource,
    registry: Registry,
    limits: Limits,
    quotas: Arc<crate::limits::Limits>,
    budgets: Budgets,
    /// Those that wait for money.
    unpaid: Mutex<HashMap<i64, QueueEntry>>,
    /// How often budgets were changed.
    budget_changes: AtomicU64,
    runtime: Handle,
    metrics: Metrics,
    queue: Mutex<Queue>,
    running: Mutex<HashMap<i64, Running>>,
    hub: Arc<Hub>,
    /// The next lease: the boot epoch above, a counter below.
    next_lease: AtomicI64,
    started: AtomicBool,
    draining: AtomicBool,
    /// Somebody changed what the timer waits for.
    timer: Notify,
    /// What both clocks said when they were last compared.
    clock_seen: Mutex<(Duration, Timestamp)>,
    /// A place was given back.
    released: Notify,
    retention: Retention,
    me: Weak<Inner>,
}

impl Jobs {
    /// The service, not yet running anything.
    ///
    /// # Errors
    /// When a metric's name is taken.
    pub fn new(parts: Parts, registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let Parts { db, clock, ids, registry: handlers, limits, quotas, budgets, runtime } = parts;
        let tool_limits = handlers.all().map(|handler| handler.concurrency).collect();
        let metrics = Metrics::new(registry)?;
        metrics.begin(handlers.all().map(|handler| handler.name));
        let clock_seen = Mutex::new((clock.ticks(), clock.now()));
        Ok(Self(Arc::new_cyclic(|me| Inner {
            queue: Mutex::new(Queue::new(limits.concurrency, tool_limits)),
            registry: handlers,
            db,
            clock,
            ids,
            limits,
            quotas,
            budgets,
            unpaid: Mutex::default(),
            budget_changes: AtomicU64::new(0),
            runtime,
            metrics,
            running: Mutex::default(),
            hub: Arc::default(),
            next_lease: AtomicI64::new(0),
            started: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            timer: Notify::new(),
            clock_seen,
            released: Notify::new(),
            retention: Retention::new(limits.retention),
            me: me.clone(),
        })))
    }

    /// Whether jobs are being run.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.0.started.load(Ordering::Acquire) && !self.is_draining()
    }

    /// Whether the service is being stopped.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// The handlers.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Jobs that wait for a place, that wait for their time, and that run.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let queue = self.0.queue();
        (queue.ready(), queue.delayed(), queue.running())
    }

    /// Since when the job has waited for a place that waits longest.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn oldest_waiting(&self) -> Result<Option<Timestamp>, db::Error> {
        let now = self.0.clock.now();
        self.0.db.read(move |tx| sql::read::oldest_waiting(tx, now)).await
    }

    /// Refreshes the gauges for somebody who reads the metrics.
    pub fn refresh_metrics(&self) {
        let (ready, delayed, running) = self.counts();
        self.0.metrics.set_gauges(ready, delayed, running, self.0.hub.len());
    }

    /// Where a tenant's job stands; `None` when there is none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn standing(&self, tenant: i64, id: JobId) -> Result<Option<Status>, db::Error> {
        let standing = self.0.db.read(move |tx| sql::read::standing(tx, tenant, id)).await?;
        Ok(standing.map(|(status, _)| status))
    }

    /// Ends a tenant's job if it waits, and tells it to end if it runs.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn stop(&self, tenant: i64, id: JobId) -> Result<(), db::Error> {
        self.cancel(tenant, id).await.map(drop)
    }

    /// Until streams are to end, because the service stops.
    pub async fn closed(&self) {
        self.0.hub.closed().await;
    }

    /// A tenant's job.
    async fn get(&self, tenant: i64, id: JobId) -> Result<Option<JobRow>, db::Error> {
        self.0.db.read(move |tx| sql::read::get(tx, tenant, id)).await
    }

    /// Ends a waiting job at once, asks a running one to end.
    async fn cancel(&self, tenant: i64, id: JobId) -> Result<sql::write::Cancel, db::Error> {
        let now = self.0.clock.now();
        let (inner, after) = (self.0.clone(), self.0.clone());
        let work = move |tx: &db::Tx<'_>| sql::write::cancel(tx, &inner.registry, tenant, id, now);
        self.0.db.write_then(work, move |found| after.cancelled(id, found)).await
    }

    /// Deletes a finished job; its status, `None` when there is no such job.
    async fn delete(&self, tenant: i64, id: JobId) -> Result<Option<Status>, db::Error> {
        self.0.db.write(move |tx| sql::write::delete(tx, tenant, id)).await
    }

    /// Sets a tenant's share of the places.
    pub fn set_share(&self, tenant: i64, share: Share) {
        self.0.queue().set_share(tenant, share);
        self.0.pump();
    }

    /// Jobs of a tenant that wait, for a place or their time.
    #[must_use]
    pub fn waiting_of(&self, tenant: i64) -> usize {
        self.0.queue().waiting_of(tenant)
    }

    /// Holds a tenant's jobs, or lets them start again.
    pub fn hold(&self, tenant: i64, hold: bool) {
        self.0.queue().hold(tenant, hold);
        if !hold {
            self.0.pump();
        }
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<i64, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(&self) -> i64 {
        self.next_lease.fetch_add(1, Ordering::Relaxed)
    }

    /// Right after the commit of a cancellation: what waited leaves the queue,
    /// what runs is told to stop.
    fn cancelled(&self, id: JobId, found: &sql::write::Cancel) {
        use sql::write::Cancel;
        match found {
            Cancel::Ended(entry, events) => {
                self.unpaid().remove(&entry.no);
                self.queue().remove(entry);
                self.metrics.finished(self.registry.get(entry.tool).name, Status::Cancelled);
                self.hub.publish(id.no(), events);
            }
            Cancel::Running => self.stop_running(id.no()),
            Cancel::Missing | Cancel::Finished(_) => {}
        }
    }

    /// Puts a job that is on disk into the queue and starts what may start.
    fn enqueue(&self, entry: QueueEntry) {
        self.put_in_queue(entry);
        self.pump();
    }

    fn put_in_queue(&self, entry: QueueEntry) {
        let now = self.notice_clock();
        let timer = {
            let mut queue = self.queue();
            let before = queue.next_due();
            queue.push(entry, now);
            queue.next_due() != before
        };
        if timer {
            self.timer.notify_one();
        }
    }
}
