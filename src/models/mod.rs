//! The way to language models: which provider a call goes to, what it may cost,
//! what happens when one fails.

mod admin;
mod attempt;
mod audio;
pub mod batches;
mod breaker;
mod call;
mod echo;
mod embeddings;
pub mod estimate;
mod failure;
pub mod files;
pub mod form;
mod frames;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod headers;
mod json;
mod list;
mod metrics;
mod payer;
pub mod price;
mod provider;
mod relay;
mod request;
pub mod responses;
mod routes;
mod setup;
mod sql;
#[cfg(test)]
mod testing;
pub mod tokens;
pub mod usage;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;

pub use form::Form;
pub use headers::headers;
pub use payer::payer;
pub use routes::routes;

use crate::budgets::{Budgets, OnExhausted, Payer};
use crate::clock::Clock;
use crate::db::{self, Db};
use crate::http::Problem;
use crate::money::Usd;
use crate::outbound::{Outbound, OutboundError};
use crate::vault::Vault;
use breaker::State;
use metrics::Metrics;
use price::Prices;
use provider::{Provider, Settings, Table};

/// What is asked of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the interface")]
pub enum Endpoint {
    ChatCompletions,
    Responses,
    Embeddings,
    AudioTranscriptions,
    AudioSpeech,
}

/// What is sent to it.
#[derive(Clone, Debug)]
pub enum Body {
    /// A JSON object with the field `model`.
    Json(Bytes),
    /// A form with the field `model`.
    Form(Form),
}

/// A call as a client made it.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is asked for.
    pub endpoint: Endpoint,
    /// With what.
    pub body: Body,
    /// Who pays.
    pub payer: Payer,
    /// Whether it goes to the built-in echo model and costs nothing.
    pub test: bool,
}

/// What is known of a call when it has been answered.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// What it cost; `None` while the answer is still coming.
    pub cost: Option<Usd>,
    /// The model that answered, by the provider's name for it.
    pub model: Arc<str>,
    /// The provider that did.
    pub provider: Arc<str>,
    /// How many were asked before it in vain.
    pub fallbacks: u32,
    /// The least that any budget of the payer has left.
    pub left: Option<Usd>,
    /// Time that was not spent waiting for providers.
    pub overhead: Duration,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The provider's status: success, or an error that is the client's own and
    /// passed on as it is.
    pub status: u16,
    /// Its type.
    pub content_type: String,
    /// As the provider gave it.
    pub body: Bytes,
    /// What it was.
    pub receipt: Receipt,
}

/// An answer in pieces, passed on as they come. Dropping it ends the call at
/// the provider too; what was used is settled all the same.
pub struct Streamed {
    /// Its type.
    pub content_type: String,
    /// The pieces. A stream that breaks ends with an event that says so.
    pub pieces: BoxStream<'static, Bytes>,
    /// What is known when it begins.
    pub receipt: Receipt,
}

/// What comes of a call.
pub enum Reply {
    /// All of it.
    Whole(Answer),
    /// Only for a body with `"stream": true`.
    Stream(Streamed),
}

impl Reply {
    /// The same, after so many had been asked in vain.
    fn after(mut self, fallbacks: u32) -> Self {
        match &mut self {
            Self::Whole(answer) => answer.receipt.fallbacks = fallbacks,
            Self::Stream(streamed) => streamed.receipt.fallbacks = fallbacks,
        }
        self
    }
}

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
