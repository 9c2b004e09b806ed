//! Providers, the names that stand for their models, and how a call finds one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use actix_web::http::StatusCode;
use hyper::header::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use url::Url;

use super::breaker::{Breaker, State};
use super::quirks::Quirks;
use crate::clock::Timestamp;
use crate::config::OnHangup;
use crate::http::Problem;
use crate::outbound::{Outbound, OutboundError, Pool};

/// What a call without a model asks for.
pub(super) const DEFAULT: &str = "default";
/// Where calls go that are to cost little.
pub(super) const LOW_COST: &str = "low-cost";
/// Models of a provider of which anything is remembered.
const MODELS: usize = 1_000;

/// How a provider is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Where it is, with the path that its routes are below.
    pub base_url: String,
    /// Whether it has `/responses`.
    pub responses: bool,
    /// Calls at a time.
    pub concurrency: usize,
    /// Time to the first byte of a stream.
    pub first_token: Duration,
    /// Time for a whole answer.
    pub total: Duration,
    /// What becomes of a call whose client hangs up.
    pub on_hangup: OnHangup,
}

/// A model of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ModelTarget")]
pub(super) struct Target {
    /// The provider's name.
    pub provider: String,
    /// The model, by the provider's name for it.
    pub model: String,
}

/// A provider that can be asked.
pub(super) struct Provider {
    pub name: Arc<str>,
    pub settings: Settings,
    /// Whether the configuration names it.
    pub configured: bool,
    /// What it is shown.
    pub authorization: Option<HeaderValue>,
    pub pool: Pool,
    pub health: Arc<Health>,
}

/// What is known of a provider by having asked it; outlives a change of its key.
pub(super) struct Health {
    /// Calls that may begin.
    pub places: Arc<Semaphore>,
    breakers: Mutex<HashMap<Arc<str>, Breaker>>,
    quirks: RwLock<HashMap<Arc<str>, Quirks>>,
}

impl Health {
    fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), breakers: Mutex::default(), quirks: RwLock::default() }
    }

    /// Whether a call for a model may go through.
    pub(super) fn admits(&self, model: &str, now: Timestamp) -> bool {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        breakers.get_mut(model).is_none_or(|breaker| breaker.admits(now))
    }

    /// Whether no call for a model would go through.
    pub(super) fn is_shut(&self, model: &str, now: Timestamp) -> bool {
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        breakers.get(model).is_some_and(|breaker| breaker.is_shut(now))
    }

    /// Takes the outcome of a call; whether that closes or opens the breaker.
    pub(super) fn record(&self, model: &Arc<str>, succeeded: bool, now: Timestamp) -> bool {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        if !breakers.contains_key(model) && (succeeded || breakers.len() >= MODELS) {
            return false;
        }
        breakers.entry(model.clone()).or_default().record(succeeded, now)
    }

    /// What a model does not take, as far as it is known.
    pub(super) fn quirks(&self, model: &str) -> Quirks {
        let quirks = self.quirks.read().unwrap_or_else(PoisonError::into_inner);
        quirks.get(model).copied().unwrap_or_default()
    }

    /// Remembers what a model does not take.
    pub(super) fn learn(&self, model: &Arc<str>, learned: Quirks) {
        let mut quirks = self.quirks.write().unwrap_or_else(PoisonError::into_inner);
        if quirks.len() < MODELS || quirks.contains_key(model) {
            quirks.insert(model.clone(), learned);
        }
    }

    /// The models that have failed of late, with where their breakers stand.
    pub(super) fn breakers(&self, now: Timestamp) -> BTreeMap<String, State> {
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        breakers.iter().map(|(model, breaker)| (model.to_string(), breaker.state(now))).collect()
    }
}

impl Provider {
    /// A provider; `before` is what had its name.
    ///
    /// # Errors
    /// When its address cannot be asked.
    pub(super) fn new(
        name: &str,
        settings: Settings,
        key: Option<&str>,
        configured: bool,
        outbound: &Outbound,
        before: Option<&Self>,
    ) -> Result<Self, OutboundError> {
        let base = Url::parse(&settings.base_url).map_err(|error| OutboundError::InvalidUrl(error.to_string()))?;
        let same = before.filter(|before| before.settings.base_url == settings.base_url);
        let health = same.filter(|before| before.settings.concurrency == settings.concurrency);
        let authorization =
            key.and_then(|key| HeaderValue::from_str(&format!("Bearer {key}")).ok()).map(|mut value| {
                value.set_sensitive(true);
                value
            });
        Ok(Self {
            name: name.into(),
            configured,
            authorization,
            pool: same.map_or_else(|| outbound.pool(&base), |before| Ok(before.pool.clone()))?,
            health: health.map_or_else(|| Arc::new(Health::new(settings.concurrency)), |before| before.health.clone()),
            settings,
        })
    }
}

impl Provider {
    /// A text of the provider's without the key, should it be in there.
    pub(super) fn without_key(&self, text: &str) -> String {
        let key = self.authorization.as_ref().and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        match key {
            Some(key) if text.contains(key) => text.replace(key, "[key]"),
            _ => text.to_owned(),
        }
    }
}

/// A name that stands for models.
#[derive(Clone)]
pub(super) struct Alias {
    pub targets: Vec<Target>,
    /// Whether the configuration names it.
    pub configured: bool,
}

/// Everything that a call can go to.
#[derive(Default)]
pub(super) struct Table {
    pub providers: BTreeMap<Arc<str>, Arc<Provider>>,
    pub aliases: BTreeMap<String, Alias>,
}

/// Where a call goes: in order.
#[derive(Clone)]
pub(super) struct Route {
    pub steps: Vec<Step>,
    /// Whether the client has named the model itself, without its provider.
    pub bare: bool,
}

/// One of them.
#[derive(Clone)]
pub(super) struct Step {
    pub provider: Arc<Provider>,
    pub model: Arc<str>,
}

impl Table {
    /// Where a call for this model goes: to what an alias stands for, to
    /// `provider/model`, or else to the usual provider.
    pub(super) fn route(&self, model: &str) -> Result<Route, Problem> {
        if let Some(alias) = self.aliases.get(model) {
            let step = |target: &Target| self.step(&target.provider, &target.model);
            let steps: Vec<_> = alias.targets.iter().filter_map(step).collect();
            return if steps.is_empty() { Err(self.unknown(model)) } else { Ok(Route { steps, bare: false }) };
        }
        let named = model.split_once('/').and_then(|(provider, model)| self.step(provider, model));
        if let Some(step) = named {
            return Ok(Route { steps: vec![step], bare: false });
        }
        let usual = self.usual().map(|provider| Step { provider: provider.clone(), model: model.into() });
        let usual = usual.filter(|_| model != DEFAULT && model != LOW_COST);
        usual.map(|step| Route { steps: vec![step], bare: true }).ok_or_else(|| self.unknown(model))
    }

    fn step(&self, provider: &str, model: &str) -> Option<Step> {
        let provider = self.providers.get(provider)?.clone();
        Some(Step { provider, model: model.into() })
    }

    /// Who is asked for models that belong to nobody: whom the default alias
    /// names first, else whom the configuration names, else the only one.
    fn usual(&self) -> Option<&Arc<Provider>> {
        let default = self.aliases.get(DEFAULT).and_then(|alias| alias.targets.first());
        default
            .and_then(|target| self.providers.get(&*target.provider))
            .or_else(|| self.providers.values().find(|provider| provider.configured))
            .or_else(|| self.providers.values().next().filter(|_| self.providers.len() == 1))
    }

    /// 404 with what there is.
    pub(super) fn unknown(&self, model: &str) -> Problem {
        let shown: String = model.chars().take(100).collect();
        let problem = Problem::new(StatusCode::NOT_FOUND, "model_not_found", format!("there is no model {shown:?}"));
        if self.providers.is_empty() {
            return problem
                .with_hint("no provider of models is set up; PUT /admin/models/providers/{name} sets one up");
        }
        let aliases: Vec<_> = self.aliases.keys().map(String::as_str).collect();
        match aliases.as_slice() {
            [] => problem.with_hint("name it as provider/model"),
            _ => problem.with_hint(format!("there are {}; others are named as provider/model", aliases.join(", "))),
        }
    }
}
