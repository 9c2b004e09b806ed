//! Forgets jobs that ended long ago, in pieces so small and so far apart that
//! other writes hardly notice.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::sql::care::{self, Expired};
use super::{Inner, Jobs};
use crate::clock::Timestamp;
use crate::db;

/// Rows that one write looks at and deletes at most.
const CHUNK: usize = 250;
/// How often it is looked for jobs whose time is over.
const EVERY: Duration = Duration::from_secs(30);
/// Between two pieces the writer is left alone for so many times as long as the
/// last one took, so that the others keep most of it.
const REST_FACTOR: u32 = 5;

/// How long each tenant's jobs are kept.
pub(super) struct Retention {
    default: Option<Duration>,
    own: Mutex<HashMap<i64, Duration>>,
    changed: Notify,
}

impl Retention {
    pub(super) fn new(default: Option<Duration>) -> Self {
        Self { default, own: Mutex::default(), changed: Notify::new() }
    }

    fn of(&self, tenant: i64) -> Option<Duration> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).get(&tenant).copied().or(self.default)
    }

    /// Nobody has a time, so there is nothing to look for.
    fn is_off(&self) -> bool {
        self.default.is_none() && self.own.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Jobs {
    /// Sets how long a tenant's finished jobs are kept; `None` for as long as
    /// the service's own setting says.
    pub fn set_retention(&self, tenant: i64, keep: Option<Duration>) {
        let retention = &self.0.retention;
        {
            let mut own = retention.own.lock().unwrap_or_else(PoisonError::into_inner);
            match keep {
                Some(keep) => own.insert(tenant, keep),
                None => own.remove(&tenant),
            };
        }
        retention.changed.notify_one();
    }
}

impl Inner {
    /// Forgets what is over, again and again.
    pub(super) async fn expire(&self) {
        loop {
            let changed = self.retention.changed.notified();
            if !self.retention.is_off()
                && let Err(error) = self.expire_all().await
            {
                tracing::warn!(%error, "old jobs could not be deleted");
            }
            let _ = tokio::time::timeout(EVERY, changed).await;
        }
    }

    async fn expire_all(&self) -> Result<(), db::Error> {
        let now = self.clock.steady_now();
        let tenants = self.db.read(care::tenants_with_jobs).await?;
        for tenant in tenants {
            let Some(keep) = self.retention.of(tenant) else { continue };
            let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
            self.expire_tenant(tenant, Timestamp::from_micros(now.micros().saturating_sub(keep))).await?;
        }
        Ok(())
    }

    async fn expire_tenant(&self, tenant: i64, before: Timestamp) -> Result<(), db::Error> {
        let (mut after, mut total) = (0, 0_usize);
        loop {
            // Most looks find nothing; those need not wait for the writer.
            if !self.db.read(move |tx| care::has_expired(tx, tenant, after, before)).await? {
                break;
            }
            let work = move |tx: &db::Tx<'_>| {
                let began = Instant::now();
                let expired = care::expire(tx, tenant, after, before, CHUNK)?;
                Ok((expired, began.elapsed()))
            };
            let (Expired { deleted, last }, took) = self.db.write(work).await?;
            self.metrics.expired.inc_by(deleted as u64);
            total += deleted;
            let Some(last) = last else { break };
            after = last;
            tokio::time::sleep(took * REST_FACTOR).await;
        }
        if total > 0 {
            tracing::info!(tenant, jobs = total, "deleted jobs that ended long ago");
        }
        Ok(())
    }
}
