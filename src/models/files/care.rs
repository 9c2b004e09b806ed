//! Deletes what is no longer wanted, in pieces so small that other writes hardly
//! notice.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Files, sql};
use crate::db;

/// Pieces of files that one write deletes at most: 4 MiB.
const PIECES: usize = 16;
/// How often it is looked for files whose time is over.
const EVERY: Duration = Duration::from_secs(30);
/// Between two pieces the writer is left alone for so many times as long as the
/// last one took.
const REST_FACTOR: u32 = 2;

impl Files {
    /// Gives up what a lost process was writing. Nobody must write yet.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn recover(&self) -> Result<(), db::Error> {
        let halves = self.0.db.write(sql::recover).await?;
        if halves > 0 {
            tracing::info!(files = halves, "deleting files whose upload was cut off");
        }
        Ok(())
    }

    /// Deletes what is over, again and again, until `stop`.
    pub async fn run(&self, stop: &CancellationToken) {
        let work = async {
            loop {
                let rubbish = self.0.rubbish.notified();
                if let Err(error) = self.clear().await {
                    tracing::warn!(%error, "deleted files could not be cleared away");
                }
                let _ = tokio::time::timeout(EVERY, rubbish).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Deletes what is over now.
    pub(super) async fn clear(&self) -> Result<(), db::Error> {
        loop {
            let now = self.0.clock.steady_now();
            // Most looks find nothing; those need not wait for the writer.
            if !self.0.db.read(move |tx| sql::has_rubbish(tx, now)).await? {
                return Ok(());
            }
            let began = Instant::now();
            let work = move |tx: &db::Tx<'_>| {
                sql::expire(tx, now)?;
                sql::clear(tx, PIECES)
            };
            self.0.db.write(work).await?;
            tokio::time::sleep(began.elapsed() * REST_FACTOR).await;
        }
    }

    /// Clears away all files of a deleted tenant. What cannot be is left for the
    /// next start.
    pub async fn clear_tenant(&self, tenant: i64) {
        let work = async {
            while self.0.db.write(move |tx| sql::give_up_tenant(tx, tenant)).await? {
                self.clear().await?;
            }
            Ok::<_, db::Error>(())
        };
        if let Err(error) = work.await {
            tracing::warn!(%error, tenant, "the files of a deleted tenant could not be cleared away");
        }
    }
}
