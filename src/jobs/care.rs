//! Puts things right at start, keeps the time, clears deleted tenants away.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::sql::care::{self, OpenCursor, Recovered};
use super::{Inner, Jobs, Share};
use crate::clock::Timestamp;
use crate::db;
use crate::http::idempotency;

/// Rows that one write touches at most.
const CHUNK: usize = 500;
/// Jobs read at a time when the queue is filled at start.
const PAGE: usize = 5_000;
/// While something waits for its time, the clock is looked at this often, in
/// case somebody set it.
const CLOCK_LOOK: Duration = Duration::from_secs(10);
/// A difference smaller than this is no set clock.
const CLOCK_SET_BY: i64 = 1_000_000;
/// How often old idempotency keys are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(600);

impl Jobs {
    /// The greatest row number in use, from which ids go on.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn last_no(db: &db::Db) -> Result<i64, db::Error> {
        db.read(care::last_no).await
    }

    /// Begins a boot epoch, puts back what a lost process was running, fills
    /// the queue, and lets jobs start. Ends when that is done; the timers go on
    /// until `stop`.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn start(&self, stop: &CancellationToken) -> Result<(), db::Error> {
        let inner = &self.0;
        let epoch = inner.db.write(care::begin_epoch).await?;
        inner.next_lease.store((epoch << 32) + 1, Ordering::Relaxed);
        let recovered = inner.recover(epoch).await?;
        let waiting = inner.load().await?;
        if recovered != Recovered::default() || waiting > 0 {
            tracing::info!(
                epoch,
                waiting,
                requeued = recovered.requeued,
                given_up = recovered.given_up,
                cancelled = recovered.cancelled,
                "took up the jobs of the last run"
            );
        }
        inner.listen_to_budgets();
        inner.started.store(true, Ordering::Release);
        inner.pump();
        let timer = inner.clone();
        inner.runtime.spawn(stop.clone().run_until_cancelled_owned(async move { timer.keep_time().await }));
        let expire = inner.clone();
        inner.runtime.spawn(stop.clone().run_until_cancelled_owned(async move { expire.expire().await }));
        let forget = inner.clone();
        inner.runtime.spawn(stop.clone().run_until_cancelled_owned(async move { forget.forget().await }));
        Ok(())
    }

    /// Clears away everything of a deleted tenant, piece by piece, then says so
    /// to `done`. Goes on at the next start when it is cut off.
    pub fn clear_tenant(&self, tenant: i64, done: impl FnOnce(i64) + Send + 'static) {
        {
            let mut queue = self.0.queue();
            queue.hold(tenant, true);
            queue.remove_tenant(tenant);
        }
        let jobs = self.clone();
        self.0.runtime.clone().spawn(async move {
            loop {
                match jobs.0.clear_some(tenant).await {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(db::Error::Closed) => return,
                    Err(error) => {
                        tracing::warn!(%error, tenant, "a deleted tenant could not be cleared away; trying again");
                        tokio::time::sleep(Duration::from_secs(5)).await;
                    }
                }
            }
            jobs.forget_tenant(tenant);
            done(tenant);
        });
    }

    /// A tenant that has nothing left needs no room in the queue either.
    fn forget_tenant(&self, tenant: i64) {
        self.set_retention(tenant, None);
        let mut queue = self.0.queue();
        queue.remove_tenant(tenant);
        queue.set_share(tenant, Share::default());
        queue.hold(tenant, false);
    }
}

impl Inner {
    async fn recover(&self, epoch: i64) -> Result<Recovered, db::Error> {
        let mut total = Recovered::default();
        loop {
            let now = self.clock.now();
            let some = self.db.write(move |tx| care::recover(tx, epoch, now, CHUNK)).await?;
            if some == Recovered::default() {
                break;
            }
            total.requeued += some.requeued;
            total.given_up += some.given_up;
            total.cancelled += some.cancelled;
        }
        self.metrics.interrupted.inc_by((total.requeued + total.given_up + total.cancelled) as u64);
        Ok(total)
    }

    /// Fills the queue from the database; how many jobs wait.
    async fn load(self: &Arc<Self>) -> Result<usize, db::Error> {
        let (mut after, mut count) = (OpenCursor { tenant: 0, no: 0 }, 0);
        loop {
            let inner = self.clone();
            let find = move |tx: &db::Tx<'_>| care::open(tx, after, PAGE, |name| inner.registry.find(name));
            let page = self.db.read(find).await?;
            let Some(last) = page.last() else { return Ok(count) };
            after = OpenCursor { tenant: last.entry.tenant, no: last.entry.no };
            let now = self.clock.now();
            for open in page {
                if let Some(tool) = open.unknown_tool {
                    let no = open.entry.no;
                    self.db.write(move |tx| care::fail_unknown_tool(tx, no, &tool, now)).await?;
                } else {
                    if open.unpaid {
                        self.unpaid().insert(open.entry.no, open.entry);
                    }
                    self.queue().push(open.entry, now);
                    count += 1;
                }
            }
        }
    }

    /// Wakes jobs when their time has come.
    async fn keep_time(&self) {
        loop {
            let now = self.notice_clock();
            let next = self.queue().wake(now);
            self.pump();
            let changed = self.timer.notified();
            match next {
                Some(due) => {
                    let wait = due.since(now).min(CLOCK_LOOK);
                    let _ = tokio::time::timeout(wait, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// The present moment. When somebody has set the clock, the spans of all
    /// that waits move with it; whoever begins a span asks here first, so that
    /// a span which reckons with the new time already is not moved.
    pub(super) fn notice_clock(&self) -> Timestamp {
        let mut seen = self.clock_seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let ticks = self.clock.ticks();
        let set_by = set_by(*seen, ticks, now);
        *seen = (ticks, now);
        if set_by.abs() >= CLOCK_SET_BY {
            let mut queue = self.queue();
            if queue.delayed() > 0 {
                tracing::warn!(seconds = set_by / 1_000_000, "the clock was set");
                queue.clock_set(set_by);
            }
        }
        now
    }

    async fn forget(&self) {
        loop {
            let now = self.clock.steady_now();
            match self.db.write(move |tx| idempotency::forget_old(tx, now, CHUNK)).await {
                Ok(CHUNK) => {}
                Ok(_) => tokio::time::sleep(FORGET_EVERY).await,
                Err(error) => {
                    tracing::warn!(%error, "old idempotency keys could not be forgotten");
                    tokio::time::sleep(FORGET_EVERY).await;
                }
            }
        }
    }

    /// One piece of a deleted tenant; whether nothing is left.
    async fn clear_some(&self, tenant: i64) -> Result<bool, db::Error> {
        let clear = move |tx: &db::Tx<'_>| {
            let more_keys = idempotency::forget_scope(tx, tenant, CHUNK)? == CHUNK;
            let more_jobs = care::clear_tenant(tx, tenant, CHUNK)?;
            Ok((more_keys || more_jobs, care::has_jobs(tx, tenant)?))
        };
        let (more, left) = self.db.write(clear).await?;
        if !more && left {
            // What is left is running: it is told to stop and waited for.
            let running = self.db.read(move |tx| care::running_of(tx, tenant)).await?;
            for no in running {
                self.stop_running(no);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(!left && !more)
    }
}

/// By how many microseconds the clock was set since `seen`.
fn set_by((then, clock_then): (Duration, Timestamp), ticks: Duration, now: Timestamp) -> i64 {
    let passed = i64::try_from(ticks.saturating_sub(then).as_micros()).unwrap_or(i64::MAX);
    now.micros().saturating_sub(clock_then.micros()).saturating_sub(passed)
}
