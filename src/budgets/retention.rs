//! What is not kept for ever, and what a deleted tenant leaves.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Budgets, sql};
use crate::db::{self, Tx};

/// Rows that one write deletes of each table at most.
const CHUNK: usize = 250;
/// How often it is looked for what is old.
const EVERY: Duration = Duration::from_secs(600);
/// How often what is in memory is looked through.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// Between two pieces the writer is left alone for so many times as long as the
/// last one took.
const REST_FACTOR: u32 = 5;
/// How long sums are kept that budgets are held against, and the totals of
/// sessions and jobs after their last call. No clock that is wrong by less can
/// make a budget forget.
const KEEP_SUMS: Duration = Duration::from_secs(400 * 86_400);

impl Budgets {
    /// Forgets what is old, again and again, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut looked = Instant::now();
        while stop.run_until_cancelled(tokio::time::sleep(TIDY_EVERY)).await.is_some() {
            let all_written = self.0.settlements.waiting() == 0;
            self.0.ledger().tidy(self.0.clock.steady_now(), all_written);
            if looked.elapsed() < EVERY {
                continue;
            }
            looked = Instant::now();
            if let Some(Err(error)) = stop.run_until_cancelled(self.forget_old()).await {
                tracing::warn!(%error, "old calls of models could not be deleted");
            }
        }
    }

    async fn forget_old(&self) -> Result<(), db::Error> {
        let keep_calls = self.0.ledger().settings().keep_calls;
        let old = sql::Old::at(self.0.clock.steady_now(), keep_calls, KEEP_SUMS);
        // Most looks find nothing; those need not wait for the writer.
        while self.0.db.read(move |tx| sql::has_old(tx, old)).await? {
            let work = move |tx: &Tx<'_>| {
                let began = Instant::now();
                sql::forget(tx, old, CHUNK)?;
                Ok(began.elapsed())
            };
            let took = self.0.db.write(work).await?;
            tokio::time::sleep(took * REST_FACTOR).await;
        }
        Ok(())
    }

    /// Clears away what is known of a deleted tenant, piece by piece. What the
    /// service has spent for it stays spent.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn clear_tenant(&self, tenant: i64) -> Result<(), db::Error> {
        self.0.ledger().remove_tenant(tenant);
        while self.0.db.write(move |tx| sql::clear_tenant(tx, tenant, CHUNK)).await? {}
        Ok(())
    }
}
