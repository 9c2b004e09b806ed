//! Has batches worked on when they are due, and deletes what is left of those
//! that have ended.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Batches, Inner, job, sql};
use crate::clock::Timestamp;
use crate::db;
use crate::jobs::Jobs;

/// How often it is looked whether something is due, when nothing says so.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How soon it is looked again when a batch is due whose last job has not ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Batches that are looked at together.
const SOME: usize = 100;
/// How long a batch is kept after its end.
const KEEP: Duration = Duration::from_secs(30 * 86_400);

impl Batches {
    /// Has batches worked on, again and again, until `stop`.
    pub async fn run(&self, jobs: Jobs, stop: &CancellationToken) {
        if self.0.jobs.set(jobs.clone()).is_err() {
            return;
        }
        let work = async {
            loop {
                let look = self.0.look.notified();
                let pause = self.0.look(&jobs).await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "batches could not be looked at");
                    LOOK_EVERY
                });
                if let Err(error) = self.0.clear().await {
                    tracing::warn!(%error, "what is left of ended batches could not be cleared away");
                }
                let _ = tokio::time::timeout(pause, look).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Clears away all batches of a deleted tenant, before its files. What cannot
    /// be is left for the next start.
    pub async fn clear_tenant(&self, tenant: i64) {
        // What is being worked on must write no more rows.
        while self.0.stop_working(tenant) > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let work = async {
            while self.0.db.write(move |tx| sql::clear_tenant(tx, tenant)).await? {}
            Ok::<_, db::Error>(())
        };
        if let Err(error) = work.await {
            tracing::warn!(%error, tenant, "the batches of a deleted tenant could not be cleared away");
        }
    }
}

impl Inner {
    /// Tells the work on a tenant's batches to stop; how many have not yet.
    fn stop_working(&self, tenant: i64) -> usize {
        let running = self.running();
        let of_tenant = running.values().filter(|running| running.tenant == tenant);
        of_tenant.inspect(|running| running.stop.cancel()).count()
    }

    /// Submits what is due; how long it may be until something is again.
    async fn look(&self, jobs: &Jobs) -> Result<Duration, db::Error> {
        let now = self.clock.now();
        let (due, next) = self.db.read(move |tx| Ok((sql::due(tx, now, SOME)?, sql::next_due(tx, now)?))).await?;
        let mut pause = next.map_or(LOOK_EVERY, |next: Timestamp| next.since(now).min(LOOK_EVERY));
        for id in due {
            if self.running().contains_key(&id.no()) {
                continue;
            }
            let input = json!({ "batch_id": id.to_string() });
            match jobs.submit_own(job::RUN, &input, format!("batch:{id}")).await {
                Ok(Some(_)) => {}
                Ok(None) => pause = pause.min(LOOK_AGAIN),
                Err(problem) => {
                    tracing::warn!(batch = %id, "a batch could not be submitted: {problem}");
                    break;
                }
            }
        }
        Ok(pause)
    }

    async fn clear(&self) -> Result<(), db::Error> {
        loop {
            let keep = i64::try_from(KEEP.as_micros()).unwrap_or(i64::MAX);
            let before = Timestamp::from_micros(self.clock.steady_now().micros().saturating_sub(keep));
            if !self.db.read(move |tx| sql::has_rubbish(tx, before)).await? {
                return Ok(());
            }
            let began = Instant::now();
            self.db.write(move |tx| sql::clear(tx, before)).await?;
            tokio::time::sleep(began.elapsed() * 2).await;
        }
    }
}
