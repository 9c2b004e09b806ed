//! From a request to a job on disk.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix_web::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::oneshot;

use super::executor::Slot;
use super::sql::write::Cancel;
use super::types::{Claim, JobId, NewJob, OnConflict};
use super::{Inner, Jobs, sql};
use crate::clock::Timestamp;
use crate::db;
use crate::http::Problem;
use crate::http::idempotency::{IdempotencyKey, Seen, Stored, reused};
use crate::http::page::Page;
use crate::limits::Admission;

/// What a submission is answered with, also when it is asked again.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AcceptedJob")]
pub(super) struct Accepted {
    job_id: JobId,
    /// `waiting` when it has a delay.
    #[schemars(extend("enum" = ["queued", "waiting"]))]
    status: &'static str,
    created_at: Timestamp,
}

impl Accepted {
    fn of(job: &NewJob) -> Self {
        let status = if job.is_delayed() { "waiting" } else { "queued" };
        Self { job_id: job.id, status, created_at: job.created_at }
    }
}

/// A submission on disk.
pub(super) struct Submitted {
    /// The status and body to answer with.
    pub answer: Stored,
    /// Whether it had been there before.
    pub replayed: bool,
}

/// What came of a write of jobs.
enum Written {
    /// They are on disk; what they replaced, in the same order.
    New(Vec<Replaced>),
    Before(Stored),
    Otherwise,
    /// The job at this place is refused for this open one.
    Conflict(usize, JobId),
}

/// Jobs that a new one with their concurrency key has cancelled, as
/// [`cancel`](sql::write::cancel) found each.
pub(super) type Replaced = Vec<(JobId, Cancel)>;

impl Jobs {
    /// Refuses new work where it could not be done.
    pub(super) fn admit(&self, jobs: usize) -> Result<(), Problem> {
        let inner = &self.0;
        if self.is_draining() {
            return Err(Problem::unavailable("draining", "the service is shutting down", 5));
        }
        if inner.db.nearly_full() {
            let detail = "the disk is nearly full; new work is refused so that running work can end";
            return Err(Problem::unavailable("disk_nearly_full", detail, 30));
        }
        let waiting = {
            let queue = inner.queue();
            queue.ready() + queue.delayed()
        };
        if waiting + jobs > inner.limits.queue {
            let detail = format!("{waiting} jobs are waiting already");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", detail).with_retry_after(5));
        }
        Ok(())
    }

    /// Puts a job on disk and hands it to the queue, or starts it. What follows
    /// the commit happens on the writer's thread, so it happens also when the
    /// client has gone away.
    pub(super) async fn submit(&self, job: NewJob, key: Option<IdempotencyKey>) -> Result<Submitted, Problem> {
        self.admit(1)?;
        let body = serde_json::to_string(&Accepted::of(&job)).map_err(Problem::internal)?;
        let slot = if job.is_delayed() { None } else { self.reserve(&job)? };
        match self.admit_tenant(job.tenant, 1, slot.is_none(), job.created_at) {
            Ok(admission) => self.write(vec![job], None, key, body, (admission, slot)).await,
            Err(refusal) => self.replay_or(key, job.created_at, refusal).await,
        }
    }

    /// Puts many jobs on disk in one transaction: all of them or none.
    pub(super) async fn submit_all(
        &self,
        jobs: Vec<NewJob>,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted, Problem> {
        self.admit(jobs.len())?;
        let data = jobs.iter().map(Accepted::of).collect();
        let body = serde_json::to_string(&Page::new(data, None)).map_err(Problem::internal)?;
        let Some(first) = jobs.first() else { return Err(Problem::invalid("/jobs", "is empty")) };
        match self.admit_tenant(first.tenant, jobs.len(), true, first.created_at) {
            Ok(admission) => self.write(jobs, Some("/jobs"), key, body, (admission, None)).await,
            Err(refusal) => self.replay_or(key, first.created_at, refusal).await,
        }
    }

    /// Has an internal handler do something, as a job of the service's own,
    /// which is not held back by a full queue or disk; the job. `None` while
    /// another with the same `key` is not done.
    ///
    /// # Errors
    /// When the service stops or the database cannot be used.
    pub async fn submit_own(
        &self,
        handler: &'static str,
        input: &serde_json::Value,
        key: String,
    ) -> Result<Option<JobId>, Problem> {
        if self.is_draining() {
            return Err(Problem::unavailable("draining", "the service is shutting down", 5));
        }
        let job = self.0.own(handler, input, key);
        let id = job.id;
        let slot = self.reserve(&job)?;
        let admission = self.admit_tenant(job.tenant, 1, slot.is_none(), job.created_at)?;
        match self.write(vec![job], None, None, String::new(), (admission, slot)).await {
            Ok(_) => Ok(Some(id)),
            Err(problem) if problem.code() == "concurrency_conflict" => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// An id for a job that is yet to be submitted, so that it can be written down
    /// before.
    #[must_use]
    pub fn new_id(&self) -> JobId {
        JobId(self.0.ids.next())
    }

    /// Has an internal handler do something for a tenant: as its job, within its
    /// quota.
    ///
    /// # Errors
    /// As for any other submission.
    pub async fn submit_for(
        &self,
        tenant: i64,
        id: JobId,
        handler: &'static str,
        input: &serde_json::Value,
    ) -> Result<(), Problem> {
        self.admit(1)?;
        let job = self.0.of_tenant(tenant, id, handler, input);
        let slot = self.reserve(&job)?;
        let admission = self.admit_tenant(tenant, 1, slot.is_none(), job.created_at)?;
        self.write(vec![job], None, None, String::new(), (admission, slot)).await.map(drop)
    }

    /// Asks the tenant's quota; those that do not start at once wait.
    pub(super) fn admit_tenant(
        &self,
        tenant: i64,
        jobs: usize,
        they_wait: bool,
        now: Timestamp,
    ) -> Result<Admission, Problem> {
        let waiting = they_wait.then(|| self.waiting_of(tenant));
        self.0.quotas.of(tenant).admit_jobs(u32::try_from(jobs).unwrap_or(u32::MAX), waiting, now)
    }

    fn reserve(&self, job: &NewJob) -> Result<Option<Slot>, Problem> {
        let tool = self.0.registry.find(job.tool).ok_or_else(|| Problem::internal("a tool has gone"))?;
        Ok(self.0.reserve((&job.entry(tool)).into()))
    }

    /// `list` is where in the request's body the jobs stand, if they are a list.
    async fn write(
        &self,
        jobs: Vec<NewJob>,
        list: Option<&'static str>,
        key: Option<IdempotencyKey>,
        body: String,
        (admission, slot): (Admission, Option<Slot>),
    ) -> Result<Submitted, Problem> {
        let inner = self.0.clone();
        let lease = slot.is_some().then(|| inner.lease());
        let answer = Stored { status: StatusCode::ACCEPTED.as_u16(), body };
        let jobs: Arc<[NewJob]> = jobs.into();
        let (to_write, to_store, to_cancel) = (jobs.clone(), key.map(|key| (key, answer.clone())), inner.clone());
        let work = move |tx: &db::Tx<'_>| {
            let now = to_write.first().map_or_else(|| to_cancel.clock.now(), |job| job.created_at);
            match to_store.as_ref().map(|(key, _)| key.seen(tx, now)).transpose()? {
                Some(Seen::Before(stored)) => return Ok(Written::Before(stored)),
                Some(Seen::Otherwise) => return Ok(Written::Otherwise),
                Some(Seen::Never) | None => {}
            }
            if let Some((place, open)) = conflict(tx, &to_write)? {
                return Ok(Written::Conflict(place, open));
            }
            if let Some((key, answer)) = &to_store {
                key.store(tx, now, answer)?;
            }
            let insert = |job: &NewJob| {
                let replaced = to_cancel.replace(tx, job)?;
                sql::write::insert(tx, job, lease)?;
                Ok(replaced)
            };
            to_write.iter().map(insert).collect::<Result<_, db::Error>>().map(Written::New)
        };
        let (sender, receiver) = oneshot::channel();
        let place = lease.zip(slot);
        let submitted = jobs.clone();
        inner.db.clone().write_with(work, move |written| {
            if let Ok(Written::New(replaced)) = &written {
                inner.on_disk(&submitted, replaced, place);
                admission.on_disk();
            }
            let _ = sender.send(written);
        });
        match receiver.await.unwrap_or(Err(db::Error::Closed))? {
            Written::New(_) => Ok(Submitted { answer, replayed: false }),
            Written::Before(stored) => Ok(Submitted { answer: stored, replayed: true }),
            Written::Otherwise => Err(reused()),
            Written::Conflict(place, open) => {
                let detail = format!("job {open} with this concurrency_key has not ended");
                let problem = Problem::conflict("concurrency_conflict", detail)
                    .with_hint("wait for it, or choose on_conflict \"enqueue\" or \"replace\"");
                Err(match list {
                    Some(list) => problem.within(&format!("{list}/{place}")),
                    None => problem,
                })
            }
        }
    }

    /// A refusal must not hide that the same request has been taken before.
    pub(super) async fn replay_or(
        &self,
        key: Option<IdempotencyKey>,
        now: Timestamp,
        refusal: Problem,
    ) -> Result<Submitted, Problem> {
        let Some(key) = key else { return Err(refusal) };
        match self.0.db.read(move |tx| key.seen(tx, now)).await? {
            Seen::Before(answer) => Ok(Submitted { answer, replayed: true }),
            Seen::Otherwise | Seen::Never => Err(refusal),
        }
    }
}

/// The first job that must not be where another open one with its key is.
fn conflict(tx: &db::Tx<'_>, jobs: &[NewJob]) -> Result<Option<(usize, JobId)>, db::Error> {
    for (place, job) in jobs.iter().enumerate() {
        let Some(key) = job.concurrency_key.as_deref().filter(|_| job.on_conflict == OnConflict::Reject) else {
            continue;
        };
        let beside = jobs[..place].iter().find(|other| other.concurrency_key.as_deref() == Some(key));
        let open = match beside {
            Some(other) => Some(other.id),
            None => sql::write::with_key(tx, job.tenant, key)?,
        };
        if let Some(open) = open {
            return Ok(Some((place, open)));
        }
    }
    Ok(None)
}

impl Inner {
    /// Cancels what the job replaces.
    fn replace(&self, tx: &db::Tx<'_>, job: &NewJob) -> Result<Replaced, db::Error> {
        let Some(key) = job.concurrency_key.as_deref().filter(|_| job.on_conflict == OnConflict::Replace) else {
            return Ok(Vec::new());
        };
        let open = sql::write::all_with_key(tx, job.tenant, key)?;
        let cancel = |id: JobId| Ok((id, sql::write::cancel(tx, &self.registry, job.tenant, id, job.created_at)?));
        open.into_iter().map(cancel).collect()
    }

    /// Right after the commit: tell followers, then start or queue the jobs. A
    /// place is only ever held for a single one.
    pub(super) fn on_disk(self: &Arc<Self>, jobs: &[NewJob], replaced: &[Replaced], mut place: Option<(i64, Slot)>) {
        let starts = place.is_some();
        for job in jobs {
            self.metrics.submitted(job.tool);
            let no = job.id.no();
            if self.hub.has(no) {
                self.hub.publish(no, &sql::write::insert_events_of(job, starts));
            }
            let Some(tool) = self.registry.find(job.tool) else { continue };
            match place.take() {
                Some((lease, slot)) => self.start(first_claim(job, tool, lease), slot),
                None => self.put_in_queue(job.entry(tool)),
            }
        }
        // After them: a job of a batch can replace one that came before it there.
        for (id, found) in replaced.iter().flatten() {
            self.cancelled(*id, found);
        }
        if !starts {
            self.pump();
        }
    }
}

fn first_claim(job: &NewJob, tool: usize, lease: i64) -> Claim {
    Claim {
        id: job.id,
        tool,
        tenant: job.tenant,
        lease,
        attempt: 1,
        step: sql::write::FIRST_STEP,
        started_at: job.created_at,
        first_started_at: job.created_at,
        interruptions: 0,
        took_steps: AtomicBool::new(false),
        due_at: job.due_at,
        concurrency_key: job.concurrency_key.clone(),
        metadata: job.metadata.clone(),
        retry_of: job.retry_of,
        created_at: job.created_at,
        options: job.options.clone(),
        priority: job.priority,
        input: job.input.clone(),
    }
}
