//! `/v1/responses`: `OpenAI`'s Responses interface.
//!
//! A provider that has the interface is asked in it (`relay`); for any other the
//! service makes a response out of a chat completion (`translate`). Either way
//! the service keeps the response itself, under an id of its own, and puts the
//! turns before it together: providers are told to keep nothing.
//!
//! A background response is a job of its tenant's (`job`) whose events are on
//! disk before anyone sees them, so that whoever follows them can go on after
//! each, also when the service was restarted in between.

mod background;
mod create;
mod describe;
mod events;
mod follow;
mod followers;
mod id;
mod job;
mod keep;
mod object;
mod reference;
mod relay;
mod request;
mod routes;
mod seal;
mod sql;
#[cfg(test)]
mod tests;
mod translate;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::aead::RandomizedNonceKey;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

pub use id::ResponseId;
pub use job::handler;
pub use object::Status;
pub use routes::routes;

use super::{Call, Gateway, Reply};
use crate::clock::Clock;
use crate::db::{self, Db};
use crate::http::Problem;
use crate::id::{IdSource, random_bytes};
use crate::jobs::Jobs;
use crate::vault::{SecretName, Vault};
use followers::Followers;
use seal::Seal;

/// What calls models: the gateway, and in tests what stands in for it.
pub trait Models: Send + Sync + 'static {
    /// Makes a call.
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Reply, Problem>>;

    /// Whether the provider that is asked first for a model has this interface.
    fn has_responses(&self, model: &str) -> bool;

    /// Whether the tenant's jobs wait while a budget cannot pay.
    fn waits_for_money(&self, tenant: i64) -> bool;
}

impl Models for Gateway {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Reply, Problem>> {
        let gateway = self.clone();
        Box::pin(async move { Self::call(&gateway, call).await })
    }

    fn has_responses(&self, model: &str) -> bool {
        Self::has_responses(self, model)
    }

    fn waits_for_money(&self, tenant: i64) -> bool {
        Self::waits_for_money(self, tenant)
    }
}

/// What the service is built from.
pub struct Parts {
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// Ids of responses.
    pub ids: IdSource,
    /// What calls models.
    pub models: Arc<dyn Models>,
    /// Keeps the key that seals `encrypted_content`.
    pub vault: Vault,
    /// How long responses are kept; none: for ever.
    pub keep: Option<Duration>,
}

/// The service. Clones share it.
#[derive(Clone)]
pub struct Responses(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    ids: IdSource,
    models: Arc<dyn Models>,
    vault: Vault,
    /// The key that seals `encrypted_content`, once it was needed.
    key: OnceCell<Arc<RandomizedNonceKey>>,
    keep: Option<Duration>,
    followers: Arc<Followers>,
    jobs: OnceLock<Jobs>,
}

impl Responses {
    /// The service; nothing is made in the background before [`run`](Self::run).
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { db, clock, ids, models, vault, keep } = parts;
        let (key, followers, jobs) = (OnceCell::new(), Arc::default(), OnceLock::new());
        Self(Arc::new(Inner { db, clock, ids, models, vault, key, keep, followers, jobs }))
    }

    /// Lets responses be made in the background from now on, by these jobs.
    pub fn begin(&self, jobs: Jobs) {
        let _ = self.0.jobs.set(jobs);
    }

    /// Forgets what is over, again and again, until `stop`.
    pub async fn run(&self, stop: &CancellationToken) {
        stop.run_until_cancelled(self.0.forget()).await;
    }

    /// The greatest row number in use, from which ids go on.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn last_no(db: &Db) -> Result<i64, db::Error> {
        db.read(sql::last_no).await
    }

    /// Deletes everything of a deleted tenant, piece by piece.
    ///
    /// # Errors
    /// When the database cannot be used; what is left is for the next start.
    pub async fn clear_tenant(&self, tenant: i64) -> Result<(), db::Error> {
        while self.0.db.write(move |tx| sql::clear_tenant(tx, tenant)).await? {}
        Ok(())
    }
}

impl Inner {
    fn jobs(&self) -> Result<&Jobs, Problem> {
        self.jobs.get().ok_or_else(|| Problem::unavailable("starting", "the service has just been started", 1))
    }

    /// Seals for a tenant. The key is generated when it is needed for the first time.
    async fn seal(&self, tenant: i64) -> Result<Seal, Problem> {
        let make = || async {
            let vault = self.vault.clone();
            let work = move |tx: &db::Tx<'_>| {
                let name = SecretName::new("responses", "seal");
                if let Some(kept) = vault.get(tx, &name)? {
                    return Ok(kept.map(|kept| kept.reveal().to_vec()));
                }
                let key = random_bytes::<{ seal::KEY_BYTES }>();
                vault.put(tx, &name, &key)?;
                Ok(Ok(key.to_vec()))
            };
            let bytes = self.db.write(work).await?.map_err(Problem::internal)?;
            seal::key(&bytes).ok_or_else(|| Problem::internal("the key that seals responses has the wrong length"))
        };
        let key = self.key.get_or_try_init(make).await?;
        Ok(Seal::new(key.clone(), tenant))
    }
}
