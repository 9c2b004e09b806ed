//! The way of a call: which provider it goes to, what is reserved for it, what
//! happens when one fails, and how its answer is passed on.

mod admin;
mod attempt;
mod breaker;
mod cache;
mod call;
mod complaint;
mod early;
mod echo;
mod failure;
mod in_one_piece;
mod metrics;
mod names;
mod pipe;
mod provider;
mod quirks;
mod relay;
mod request;
mod setup;
mod sql;
mod words;

use std::sync::{Arc, PoisonError, RwLock};

pub(super) use admin::routes;
pub(super) use names::{Model, Models, list, one};

use super::price::Prices;
use super::types::{Call, Reply};
use crate::budgets::{Budgets, OnExhausted};
use crate::clock::Clock;
use crate::db::{self, Db};
use crate::http::Problem;
use crate::outbound::{Outbound, OutboundError};
use crate::vault::Vault;
use breaker::State;
use cache::Cache;
use metrics::Metrics;
use provider::{Provider, Settings, Table};

/// What the gateway works with.
pub struct Parts {
    /// Where providers and routes are kept.
    pub db: Db,
    /// Where their keys are.
    pub vault: Vault,
    /// The time.
    pub clock: Clock,
    /// The way out.
    pub outbound: Outbound,
    /// What models cost.
    pub prices: Prices,
    /// Who pays.
    pub budgets: Budgets,
}

/// Why the gateway cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What is kept cannot be read.
    #[error(transparent)]
    Database(#[from] db::Error),
    /// What the configuration says of the provider cannot be used.
    #[error("models.openai_base_url: {0}")]
    Configured(OutboundError),
    /// The provider's key cannot be read.
    #[error("models.openai_api_key: {0}")]
    Key(String),
    /// A metric cannot be registered: a fault of ours.
    #[error(transparent)]
    Metric(#[from] prometheus::Error),
}

/// The gateway. Clones share it.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    db: Db,
    vault: Vault,
    clock: Clock,
    outbound: Outbound,
    prices: Prices,
    budgets: Budgets,
    metrics: Metrics,
    cache: Cache,
    /// How often one provider is asked.
    attempts: usize,
    /// How providers are asked that nobody has said more of.
    usual: Settings,
    table: RwLock<Arc<Table>>,
    /// Held while the table is changed, so that it is in step with the database.
    changing: tokio::sync::Mutex<()>,
}

impl Gateway {
    /// Makes a call.
    ///
    /// # Errors
    /// What the client is to be told, when no provider has answered it.
    pub async fn call(&self, call: Call) -> Result<Reply, Problem> {
        self.0.call(call).await
    }

    /// What models cost.
    pub(super) fn prices(&self) -> &Prices {
        &self.0.prices
    }

    /// The time.
    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Where providers and prices are kept.
    pub(super) fn db(&self) -> &Db {
        &self.0.db
    }

    /// Whether whoever is asked first for a model has the interface of responses.
    #[must_use]
    pub fn has_responses(&self, model: &str) -> bool {
        let route = self.0.table().route(model);
        route.is_ok_and(|route| route.steps.first().is_some_and(|step| step.provider.settings.responses))
    }

    /// Whether the tenant's jobs wait while a budget cannot pay.
    #[must_use]
    pub fn waits_for_money(&self, tenant: i64) -> bool {
        self.0.budgets.on_exhausted(tenant) == OnExhausted::Pause
    }

    /// Providers with models that are left alone for a while because they fail.
    #[must_use]
    pub fn left_alone(&self) -> Vec<(String, Vec<String>)> {
        let (table, now) = (self.0.table(), self.0.clock.now());
        let open = |provider: &Arc<Provider>| {
            let breakers = provider.health.breakers(now).into_iter();
            breakers.filter(|(_, state)| *state != State::Closed).map(|(model, _)| model).collect::<Vec<_>>()
        };
        let all = table.providers.values().map(|provider| (provider.name.to_string(), open(provider)));
        all.filter(|(_, open)| !open.is_empty()).collect()
    }
}

impl Inner {
    fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
