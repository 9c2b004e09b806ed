//! Runs jobs: starts what has a place, watches over each attempt, writes how
//! it ended. The end of one frees its place and starts the next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::event::Event;
use super::failure::Failure;
use super::handler::{Call, Handler, Outcome, Run, shorten};
use super::json::one_line;
use super::queue::Taken;
use super::steps::Steps;
use super::types::{Claim, Ending, QueueEntry, Status};
use super::{Inner, Jobs, retry, sql};
use crate::budgets::Budgets;
use crate::clock::Timestamp;
use crate::db;
use crate::money::Usd;

/// How long a handler that was told to stop may take before it is left behind.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// The pause before a write that failed for want of space is tried again.
const WRITE_AGAIN: Duration = Duration::from_millis(500);
/// Characters that are kept of a failure's message.
const MESSAGE_CHARS: usize = 2_000;
/// Jobs that one write starts at most.
const START_TOGETHER: usize = 32;

/// A job that this process runs and that can be told to stop.
pub(super) struct Running {
    stop: CancellationToken,
    cancelled: bool,
    /// How often budgets had been changed when it began.
    budget_changes: u64,
    pub(super) claim: Arc<Claim>,
}

/// A place among those that may run; given back when dropped.
pub(super) struct Slot {
    inner: Weak<Inner>,
    taken: Taken,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.queue().release(self.taken);
            inner.released.notify_waiters();
            inner.pump();
        }
    }
}

impl Inner {
    /// A place for a job that may start at once.
    pub(super) fn reserve(&self, taken: Taken) -> Option<Slot> {
        let may = self.started.load(Ordering::Acquire) && !self.draining.load(Ordering::Acquire);
        (may && self.queue().reserve(taken)).then(|| Slot { inner: self.me.clone(), taken })
    }

    /// Starts whatever has a place now. Called wherever one may have become
    /// free or something may have become ready.
    pub(super) fn pump(&self) {
        while self.started.load(Ordering::Acquire) && !self.draining.load(Ordering::Acquire) {
            let picked: Vec<QueueEntry> = {
                let mut queue = self.queue();
                std::iter::from_fn(|| queue.pick()).take(START_TOGETHER).collect()
            };
            if picked.is_empty() {
                return;
            }
            self.claim(picked);
        }
    }

    /// Marks jobs running and runs them once that is on disk.
    fn claim(&self, picked: Vec<QueueEntry>) {
        let Some(inner) = self.me.upgrade() else { return };
        let place = |entry: QueueEntry| {
            let slot = Slot { inner: self.me.clone(), taken: (&entry).into() };
            (entry, self.lease(), slot)
        };
        let picked: Vec<_> = picked.into_iter().map(place).collect();
        let wanted: Vec<_> = picked.iter().map(|(entry, lease, _)| (*entry, *lease)).collect();
        let now = self.clock.now();
        let work = {
            let inner = inner.clone();
            move |tx: &db::Tx<'_>| {
                let claim = |(entry, lease): &(QueueEntry, i64)| {
                    sql::write::claim(tx, entry, inner.registry.get(entry.tool).name, *lease, now)
                };
                wanted.iter().map(claim).collect::<Result<Vec<_>, _>>()
            }
        };
        self.db.write_always(work, move |claims| match claims {
            Ok(claims) => {
                for ((entry, _, slot), claim) in picked.into_iter().zip(claims) {
                    // Nothing came back for a job that was cancelled meanwhile.
                    if let Some(claim) = claim {
                        if inner.hub.has(entry.no) {
                            let tool = inner.registry.get(entry.tool).name;
                            inner.hub.publish(entry.no, &sql::write::claim_events(&claim, tool));
                        }
                        inner.start(claim, slot);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "jobs could not be started; trying again");
                inner.runtime.clone().spawn(async move {
                    tokio::time::sleep(WRITE_AGAIN).await;
                    let now = inner.clock.now();
                    for (entry, _, _) in &picked {
                        inner.queue().push(*entry, now);
                    }
                    drop(picked);
                });
            }
        });
    }

    /// Runs a job that is on disk as running.
    pub(super) fn start(self: &Arc<Self>, claim: Claim, slot: Slot) {
        let inner = self.clone();
        let handler = self.registry.get(claim.tool);
        let claim = Arc::new(claim);
        let stop = CancellationToken::new();
        self.unpaid().remove(&claim.id.no());
        if can_pay(&handler) {
            let budget_changes = self.budget_changes.load(Ordering::Acquire);
            let running = Running { stop: stop.clone(), cancelled: false, budget_changes, claim: claim.clone() };
            self.running().insert(claim.id.no(), running);
        }
        self.runtime.spawn(async move {
            let began = Instant::now();
            let ending = inner.attempt(&handler, &claim, stop).await;
            inner.metrics.attempt(handler.name, began.elapsed());
            inner.quotas.of(claim.tenant).job_ran(began.elapsed(), inner.clock.now());
            inner.end(claim, handler, ending, slot);
        });
    }

    async fn attempt(&self, handler: &Arc<Handler>, claim: &Arc<Claim>, stop: CancellationToken) -> Ending {
        let now = claim.started_at;
        let deadline = retry::deadline(&claim.options, claim.created_at);
        if deadline.is_some_and(|deadline| now >= deadline) {
            let message = "the job's total_timeout passed before it could start";
            return Ending::Failed(Failure::permanent("total_timeout", message));
        }
        let call = Call {
            job: claim.id,
            tenant: claim.tenant,
            payer: claim.payer(),
            attempt: claim.attempt,
            input: claim.input.clone(),
            stop: stop.clone(),
            clock: self.clock.clone(),
            steps: Steps::of(self.me.clone(), claim.clone()),
        };
        let task = match &handler.run {
            Run::Inline(run) => {
                let outcome = catch_unwind(AssertUnwindSafe(|| run(&call)));
                return self.judge(claim, outcome.unwrap_or_else(|panic| Err(panicked(&*panic))));
            }
            Run::Blocking(run) => {
                let run = run.clone();
                tokio::task::spawn_blocking(move || run(&call))
            }
            Run::Async(run) => match catch_unwind(AssertUnwindSafe(|| run(call))) {
                Ok(future) => tokio::spawn(future),
                Err(panic) => return self.judge(claim, Err(panicked(&*panic))),
            },
        };
        let own = claim.options.timeout.map_or(handler.timeout, retry::seconds_to_span);
        let whole = deadline.map(|deadline| deadline.since(now));
        let limit = whole.map_or(own, |whole| whole.min(own));
        let timeout = if whole.is_some_and(|whole| whole <= own) { "total_timeout" } else { "timeout" };
        self.watch(claim, task, stop, limit, timeout).await
    }

    /// Waits for an attempt's end, its time limit, or the wish that it stops.
    async fn watch(
        &self,
        claim: &Claim,
        mut task: JoinHandle<Outcome>,
        stop: CancellationToken,
        limit: Duration,
        timeout: &'static str,
    ) -> Ending {
        tokio::select! {
            biased;
            // First, or the error of a handler that obeyed would count as its own.
            () = stop.cancelled() => {}
            joined = &mut task => return self.judge(claim, joined.unwrap_or_else(|error| Err(lost(error)))),
            () = tokio::time::sleep(limit) => {}
        }
        let told = stop.is_cancelled();
        stop.cancel();
        let late = tokio::time::timeout(STOP_GRACE, &mut task).await;
        if late.is_err() {
            task.abort();
            self.metrics.abandoned.inc();
            tracing::warn!(job = %claim.id, "a handler did not stop when told to and was left behind");
        }
        if told {
            let cancelled = self.running().get(&claim.id.no()).is_some_and(|running| running.cancelled);
            return match late {
                _ if cancelled => Ending::Cancelled,
                // It was done just in time; doing it again would be for nothing.
                Ok(Ok(Ok(result))) => self.judge(claim, Ok(result)),
                _ => Ending::PutBack,
            };
        }
        let message = format!("the attempt took longer than {} s", limit.as_secs_f64());
        let failure = if timeout == "timeout" {
            Failure::retryable(timeout, message)
        } else {
            Failure::permanent(timeout, "the job took longer than its total_timeout")
        };
        self.judge(claim, Err(failure))
    }

    fn judge(&self, claim: &Claim, outcome: Outcome) -> Ending {
        let failure = match outcome {
            Ok(result) if result.len() > self.limits.result_bytes => Failure::permanent(
                "result_too_large",
                format!("the result has {} bytes, at most {} are kept", result.len(), self.limits.result_bytes),
            ),
            Ok(result) => match one_line(&result) {
                Ok(result) => return Ending::Succeeded(result),
                Err(error) => Failure::permanent("invalid_result", format!("the result is not JSON: {error}")),
            },
            Err(failure) => Failure { message: shorten(&failure.message, MESSAGE_CHARS), ..failure },
        };
        let random = f64::from(u32::from_ne_bytes(crate::id::random_bytes())) / (f64::from(u32::MAX) + 1.0);
        let now = self.clock.now();
        retry::after_failure(failure, claim.attempt, &claim.options, claim.created_at, now, random)
    }

    /// Writes how an attempt ended, again and again while the disk does not
    /// take it: what has been done must not be lost for want of space.
    fn end(self: &Arc<Self>, claim: Arc<Claim>, handler: Arc<Handler>, ending: Ending, slot: Slot) {
        let now = self.clock.now();
        let (inner, for_write, ending_to_write) = (self.clone(), claim.clone(), ending.clone());
        let (name, pays) = (handler.name, can_pay(&handler));
        if pays {
            // Whoever sees the end sees what it has cost.
            self.budgets.write_settled();
        }
        let work = move |tx: &db::Tx<'_>| {
            let Some(events) = sql::write::finish(tx, &for_write, name, &ending_to_write, now)? else {
                return Ok(None);
            };
            let cost = if pays { Budgets::cost_of_job(tx, for_write.tenant, for_write.id.no())? } else { Usd::ZERO };
            Ok(Some((events, cost)))
        };
        self.db.write_always(work, move |written| match written {
            Ok(written) => inner.ended(&claim, &handler, &ending, now, written, slot),
            Err(error) if error.is_passing() && error != db::Error::Closed => {
                let runtime = inner.runtime.clone();
                runtime.spawn(async move {
                    tokio::time::sleep(WRITE_AGAIN).await;
                    inner.end(claim, handler, ending, slot);
                });
            }
            Err(error) => {
                // It stays running on disk, and the next start puts it back.
                tracing::error!(%error, job = %claim.id, "the end of a job could not be written");
                inner.running().remove(&claim.id.no());
            }
        });
    }

    fn ended(
        &self,
        claim: &Claim,
        handler: &Handler,
        ending: &Ending,
        now: Timestamp,
        written: Option<(Vec<Arc<Event>>, Usd)>,
        slot: Slot,
    ) {
        let running = self.running().remove(&claim.id.no());
        let cancelled = running.as_ref().is_some_and(|running| running.cancelled);
        let Some((events, cost)) = written else {
            tracing::warn!(job = %claim.id, "a job ended under a lease that is no longer valid");
            return;
        };
        match ending {
            Ending::Succeeded(_) => self.quotas.of(claim.tenant).job_ended(true, now),
            Ending::Failed(_) | Ending::Dead(_) => self.quotas.of(claim.tenant).job_ended(false, now),
            Ending::Retry(..) | Ending::Unpaid(..) | Ending::Cancelled | Ending::PutBack => {}
        }
        if self.hub.has(claim.id.no()) {
            if let (Some(last), Some(row)) = (events.last(), claim.ended(handler.name, ending, now, cancelled, cost)) {
                last.set_job_row(row);
            }
            self.hub.publish(claim.id.no(), &events);
        }
        let finished = |status| self.metrics.finished(handler.name, status);
        match ending {
            Ending::Succeeded(_) => finished(Status::Succeeded),
            Ending::Failed(_) => finished(Status::Failed),
            Ending::Dead(_) => finished(Status::Dead),
            Ending::Cancelled => finished(Status::Cancelled),
            Ending::Retry(_, due) => {
                self.metrics.retries.inc();
                self.enqueue(claim.entry(*due));
            }
            Ending::Unpaid(_, due) => {
                // What it waits for has a time; a span would move with the clock.
                let entry = QueueEntry { relative: false, ..claim.entry(*due) };
                self.wait_for_money(entry, running.map(|running| running.budget_changes));
            }
            Ending::PutBack => {
                self.metrics.put_back.inc();
                self.enqueue(claim.entry(claim.due_at));
            }
        }
        // The wish to end it came too late for this attempt and holds for the next.
        if cancelled
            && matches!(ending, Ending::Retry(..) | Ending::Unpaid(..) | Ending::PutBack)
            && let Some(inner) = self.me.upgrade()
        {
            let (jobs, tenant, id) = (Jobs(inner), claim.tenant, claim.id);
            self.runtime.spawn(async move {
                if let Err(error) = jobs.cancel(tenant, id).await {
                    tracing::warn!(%error, job = %id, "a job could not be cancelled");
                }
            });
        }
        drop(slot);
    }

    /// Tells a running job that somebody wants its end.
    pub(super) fn stop_running(&self, no: i64) {
        if let Some(running) = self.running().get_mut(&no) {
            running.cancelled = true;
            running.stop.cancel();
        }
    }
}

impl Jobs {
    /// Takes no more work, gives what runs until `deadline` to end, puts the
    /// rest back into the queue, and ends all streams.
    pub async fn drain(&self, deadline: Duration) {
        let inner = &self.0;
        inner.draining.store(true, Ordering::Release);
        if tokio::time::timeout(deadline, inner.idle()).await.is_err() {
            let left: Vec<_> = inner.running().values().map(|running| running.stop.clone()).collect();
            tracing::info!(jobs = left.len(), "putting running jobs back into the queue");
            for stop in left {
                stop.cancel();
            }
            let _ = tokio::time::timeout(STOP_GRACE * 4, inner.idle()).await;
        }
        inner.hub.close();
    }
}

impl Inner {
    /// Until nothing runs.
    async fn idle(&self) {
        loop {
            let released = self.released.notified();
            if self.queue().running() == 0 {
                return;
            }
            released.await;
        }
    }
}

/// Whether a handler may call what costs something: one that never waits cannot.
pub(super) fn can_pay(handler: &Handler) -> bool {
    !matches!(handler.run, Run::Inline(_))
}

pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    // The message can hold anything, so only the log gets it.
    tracing::error!(panic = text.unwrap_or("no message"), "a handler panicked");
    Failure::permanent("panicked", "the tool met an error of its own; the log has it")
}

pub(super) fn lost(error: tokio::task::JoinError) -> Failure {
    match error.try_into_panic() {
        Ok(panic) => panicked(&*panic),
        Err(_) => Failure::retryable("stopped", "the attempt was stopped"),
    }
}
