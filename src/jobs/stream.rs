//! Following a job: first what the database has, then what commits bring, in
//! order, without a gap or a repeat.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Interval, MissedTickBehavior};

use super::hub::Subscription;
use super::types::{JobId, JobRow, Status};
use super::{Jobs, sql};
use crate::auth::KeyEntry;
use crate::db;
use crate::http::sse;

/// Events read from the database at a time.
const PAGE: usize = 200;
/// What a client is told to wait before it comes back to a service that stops.
const COME_BACK_MS: u32 = 2_000;

/// One follower's place.
struct Follow {
    jobs: Jobs,
    job: JobId,
    /// What opened the stream; the stream ends when it no longer counts.
    key: Arc<KeyEntry>,
    subscription: Subscription,
    /// Number of the last event sent or about to be.
    last: i64,
    /// Frames ready to be sent.
    ready: VecDeque<Bytes>,
    /// Whether the database has been read up to what the subscription brings.
    caught_up: bool,
    ended: bool,
    heartbeat: Interval,
}

/// Frames of a job's events after number `after`, until the last one.
pub(super) fn follow(
    jobs: Jobs,
    job: JobId,
    key: Arc<KeyEntry>,
    after: i64,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let mut heartbeat = tokio::time::interval(sse::HEARTBEAT_EVERY);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    // Registered before the database is read, so nothing falls between.
    let subscription = jobs.0.hub.follow(job.no());
    let follow = Follow {
        jobs,
        job,
        key,
        subscription,
        last: after,
        ready: VecDeque::new(),
        caught_up: false,
        ended: false,
        heartbeat,
    };
    futures_util::stream::unfold(
        follow,
        |mut follow| async move { follow.next().await.map(|frame| (Ok(frame), follow)) },
    )
}

impl Follow {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            // Asked before every frame, so at least at every heartbeat.
            if !self.key.counts(self.jobs.0.clock.now()) {
                return None;
            }
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            if !self.caught_up {
                self.catch_up().await;
                continue;
            }
            tokio::select! {
                biased;
                event = self.subscription.events.recv() => match event {
                    Some(event) if event.seq <= self.last => {}
                    Some(event) if event.seq == self.last + 1 => {
                        self.last = event.seq;
                        self.ended = event.kind.is_final();
                        self.ready.push_back(event.frame());
                    }
                    // Fallen behind or a gap: the database has what is missing.
                    Some(_) | None => self.start_over(),
                },
                _ = self.heartbeat.tick() => self.ready.push_back(Bytes::from_static(sse::HEARTBEAT)),
            }
        }
    }

    fn start_over(&mut self) {
        if self.jobs.0.hub.is_closed() {
            self.end_early();
            return;
        }
        self.subscription = self.jobs.0.hub.follow(self.job.no());
        self.caught_up = false;
    }

    async fn catch_up(&mut self) {
        let (job, after) = (self.job, self.last);
        let page = self.jobs.0.db.read(move |tx| sql::read::events(tx, job, after, PAGE)).await;
        match page {
            Ok(events) => {
                self.caught_up = events.len() < PAGE;
                for event in events {
                    self.last = event.seq;
                    self.ended = event.kind.is_final();
                    self.ready.push_back(event.frame());
                }
            }
            Err(error) => {
                tracing::warn!(%error, job = %self.job, "a stream ended early");
                self.end_early();
            }
        }
    }

    fn end_early(&mut self) {
        self.ready.push_back(sse::retry_hint(COME_BACK_MS));
        self.ended = true;
    }
}

impl Jobs {
    /// Begins to listen for a job's end; made before the job is submitted, it
    /// cannot miss it.
    pub(super) fn listen(&self, job: JobId) -> Subscription {
        self.0.hub.follow(job.no())
    }

    /// Waits until a job has ended, at most so long; the job, if it has.
    pub(super) async fn wait(
        &self,
        mut subscription: Subscription,
        tenant: i64,
        job: JobId,
        standing: Status,
        limit: Duration,
    ) -> Result<Option<JobRow>, db::Error> {
        if !standing.is_final() {
            let last = async {
                while let Some(event) = subscription.events.recv().await {
                    if event.kind.is_final() {
                        return Some(event);
                    }
                }
                None
            };
            match tokio::time::timeout(limit.min(self.0.limits.wait), last).await {
                Err(_) => return Ok(None),
                Ok(Some(event)) if event.job_row().is_some() => return Ok(event.job_row().cloned()),
                // Cut off, or ended from outside: look where it stands.
                Ok(_) => {}
            }
        }
        Ok(self.get(tenant, job).await?.filter(|row| row.status.is_final()))
    }
}
