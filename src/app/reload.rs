//! Reading the configuration again while the service runs: what can count at
//! once does, what needs a restart is named, and where anything is wrong nothing
//! changes. See docs/decisions/0026.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use actix_web::web;
use aws_lc_rs::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

use crate::auth::{Admin, Auth};
use crate::budgets::Budgets;
use crate::clock::Clock;
use crate::config::{self, Config, Fault, Loaded, SearchProvider, Shown, Sources, TlsMode};
use crate::http::openapi::Answer;
use crate::http::query::NoQuery;
use crate::http::{FieldError, Problem, Routes, TrustedProxies};
use crate::models::{Gateway, OpenError};
use crate::telemetry::log;
use crate::tenants::Tenants;
use crate::tls;
use crate::tls::acme::{Acme, SettingsError};
use crate::tools::web::SearchKey;
use crate::vault::kept;

/// Within this a reload has happened or failed. Whoever asked for it waits
/// somewhat longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// Keys that count without a restart, beside those of `[acme]`.
pub(super) const LIVE: &[&str] = &[
    "auth.admin_key",
    "auth.admin_key_file",
    "auth.api_key",
    "auth.api_key_file",
    "auth.metrics_token",
    "auth.metrics_token_file",
    "budget.exhausted_status",
    "budget.keep_calls",
    "budget.service_day_usd",
    "budget.session_usd",
    "budget.window",
    "budget.zone",
    "cors.credentials",
    "cors.headers",
    "cors.max_age",
    "cors.methods",
    "cors.origins",
    "limits.rate",
    "limits.requests_per_minute",
    "log.level",
    "models.default_model",
    "models.failover_model",
    "models.low_cost_model",
    "models.openai_api_key",
    "models.openai_api_key_file",
    "models.openai_base_url",
    "server.trusted_proxies",
    "web.brave_api_key",
    "web.brave_api_key_file",
    "web.tavily_api_key",
    "web.tavily_api_key_file",
];

/// The routes of this file.
pub(super) fn routes() -> Routes {
    let example = json!({ "changed": ["log.level"], "needs_restart": ["jobs.queue"], "warnings": [] });
    Routes::of("Service", "The service as a whole.").with(Method::POST, "/admin/reload", reload, |it| {
        it.named("reload", "Read the configuration again")
            .about(
                "The same sources are read and checked as at start. When anything is wrong with them, nothing \
                 changes.",
            )
            .answer(StatusCode::OK, Answer::json::<Reloaded>("It counts now.").showing(example))
            .problems(StatusCode::UNPROCESSABLE_ENTITY, &["configuration_invalid"])
            .problems(StatusCode::SERVICE_UNAVAILABLE, &["reload_timeout"])
    })
}

/// What a reload has done.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Reloaded {
    /// Keys whose new values count now.
    changed: Vec<&'static str>,
    /// Keys whose new values count after a restart.
    needs_restart: Vec<&'static str>,
    /// What is legal and probably not meant.
    warnings: Vec<String>,
}

async fn reload(_: Admin, reloader: web::Data<Reloader>, _: NoQuery) -> Result<web::Json<Reloaded>, Problem> {
    reloader.reload().await.map(web::Json)
}

/// What can be told new settings while it runs.
pub(super) struct Live {
    pub auth: Arc<Auth>,
    pub proxies: Arc<TrustedProxies>,
    pub kept: tls::Kept,
    pub acme: Acme,
    pub gateway: Gateway,
    pub tenants: Arc<Tenants>,
    pub budgets: Budgets,
    pub search_key: SearchKey,
    /// Where the certificate comes from until the next restart.
    pub mode: TlsMode,
    pub clock: Clock,
}

/// Every key with what tells one value from another; of secrets only a hash.
type Values = BTreeMap<&'static str, String>;

/// Every secret that is set, by its key, each read once.
struct Secrets(BTreeMap<&'static str, String>);

impl Secrets {
    /// Reads them; an admin key that nobody configured is kept in the data folder,
    /// and made anew where somebody has removed it.
    fn read(config: &Config, data: &Path) -> Result<Self, String> {
        let mut secrets = BTreeMap::new();
        for (key, secret) in config.secrets() {
            if let Some(text) = secret.resolve()? {
                secrets.insert(key, text);
            }
        }
        if !secrets.contains_key(ADMIN_KEY) {
            secrets.insert(ADMIN_KEY, kept::secret(data, "admin.key")?);
        }
        Ok(Self(secrets))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// What tells one from another.
    fn mark(&self, key: &str) -> String {
        self.get(key).map_or_else(String::new, |text| format!("{:?}", digest(&SHA256, text.as_bytes())))
    }
}

/// The keys of secrets that count at once.
const ADMIN_KEY: &str = "auth.admin_key";
const API_KEY: &str = "auth.api_key";
const METRICS_TOKEN: &str = "auth.metrics_token";

/// Reads the configuration again. One per process, behind an `Arc`.
pub(super) struct Reloader {
    sources: Sources,
    live: Live,
    /// Where secrets are kept until the next restart.
    data: PathBuf,
    /// Who answers searches until then.
    provider: Option<SearchProvider>,
    /// What counts now. Whoever reloads holds it.
    counts: Mutex<Values>,
}

impl Reloader {
    /// Over the sources that the process was started with and what they said.
    ///
    /// # Errors
    /// When a secret cannot be read.
    pub(super) fn new(sources: Sources, config: &Config, shown: Vec<Shown>, live: Live) -> Result<Self, String> {
        let data = config.data.dir.clone();
        let counts = values(shown, config, &Secrets::read(config, &data)?);
        Ok(Self { sources, live, data, provider: config.web.provider(), counts: Mutex::new(counts) })
    }

    pub(super) async fn reload(&self) -> Result<Reloaded, Problem> {
        // What is abandoned has changed nothing: from the first change on there
        // is no place to be interrupted at.
        let outcome = timeout(DEADLINE, async {
            let mut counts = self.counts.lock().await;
            let found = self.read().await?;
            self.apply(&mut counts, found).await
        });
        let late = || {
            let seconds = DEADLINE.as_secs();
            let detail = format!("the configuration could not be read within {seconds} s; the one before it counts");
            Problem::unavailable("reload_timeout", detail, 1)
        };
        let outcome = outcome.await.unwrap_or_else(|_| Err(late()));
        if let Err(problem) = &outcome {
            tracing::error!(%problem, "the configuration was not reloaded; the one before it counts");
        }
        outcome
    }

    /// Reads and checks all of it on a thread of its own, since a file may
    /// never answer.
    async fn read(&self) -> Result<Found, Problem> {
        let (sources, clock, data) = (self.sources.clone(), self.live.clock.clone(), self.data.clone());
        let (answer, read) = oneshot::channel();
        std::thread::spawn(move || {
            let _ = answer.send(read_all(&sources, &clock, &data));
        });
        read.await.map_err(Problem::internal)?
    }

    /// Whether a new value of the key counts at once.
    fn is_live(&self, key: &str, config: &Config) -> bool {
        let same_mode = config.tls.mode == self.live.mode;
        let same_provider = config.web.provider() == self.provider;
        (LIVE.contains(&key) && (same_provider || !key.starts_with("web."))) || (same_mode && key.starts_with("acme."))
    }

    async fn apply(&self, counts: &mut Values, found: Found) -> Result<Reloaded, Problem> {
        let Found { loaded: Loaded { config, warnings, .. }, values: new, secrets } = found;
        let differs = |key: &&&'static str| counts.get(**key) != new.get(**key);
        let (mut changed, needs_restart): (Vec<_>, Vec<_>) =
            new.keys().filter(differs).copied().partition(|key| self.is_live(key, &config));
        let live = &self.live;
        let legacy = secrets.get(API_KEY).filter(|_| changed.contains(&API_KEY));
        // Nobody is let in by this.
        let default = if legacy.is_some() { Some(live.tenants.default_tenant().await?) } else { None };
        if config.tls.mode == live.mode {
            let fault = |error: SettingsError| refused(&[("acme".into(), error.to_string())]);
            live.acme.configure(live.mode, &config.acme).await.map_err(fault)?;
        }
        let fault = |error: OpenError| refused(&[("models".into(), error.to_string())]);
        live.gateway.configure(&config.models).await.map_err(fault)?;
        let files = ["tls.mode", "tls.cert_file", "tls.key_file"];
        let same_files = !needs_restart.iter().any(|key| files.contains(key));
        // They have just been read and found good, and are looked at again.
        if let Some(files) = live.kept.files().filter(|_| same_files)
            && files.reload().map_err(|fault| refused(&[("tls.cert_file".into(), fault)]))?
        {
            changed.push("tls.cert_file");
        }
        // After this nothing can fail.
        log::set_level(&config.log).map_err(Problem::internal)?;
        if let Some(key) = secrets.get(ADMIN_KEY) {
            live.auth.set_admin_key(key);
        }
        // What the key has opened ends with it.
        if changed.contains(&API_KEY) {
            live.tenants.set_legacy(default.zip(legacy));
        }
        live.auth.set_metrics_token(secrets.get(METRICS_TOKEN));
        if config.web.provider() == self.provider
            && let Some(key) = config.web.search_key().and_then(|(key, _)| secrets.get(key))
        {
            live.search_key.set(key.to_owned());
        }
        live.budgets.configure(config.budget.clone());
        live.auth.limits().set_for_each_key(config.limits.requests_per_minute);
        live.auth.cors().configure(config.cors.clone());
        live.proxies.set(config.server.trusted_proxies.clone());
        counts.extend(new.into_iter().filter(|(key, _)| self.is_live(key, &config)));
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(changed = changed.join(","), needs_restart = needs_restart.join(","), "configuration reloaded");
        Ok(Reloaded { changed, needs_restart, warnings })
    }
}

/// A configuration as it was read.
struct Found {
    loaded: Loaded,
    values: Values,
    secrets: Secrets,
}

fn read_all(sources: &Sources, clock: &Clock, data: &Path) -> Result<Found, Problem> {
    let told = |fault: &Fault| (fault.place().to_owned(), fault.what().to_owned());
    let loaded = config::load(sources).map_err(|faults| refused(&faults.iter().map(told).collect::<Vec<_>>()))?;
    if loaded.config.tls.mode == TlsMode::Files {
        let fault = |fault: tls::Fault| refused(&[("tls.cert_file".into(), fault.to_string())]);
        tls::files::load(&loaded.config.tls, clock.now()).map_err(fault)?;
    }
    let secrets = Secrets::read(&loaded.config, data).map_err(Problem::internal)?;
    let values = values(loaded.shown.clone(), &loaded.config, &secrets);
    Ok(Found { loaded, values, secrets })
}

fn values(shown: Vec<Shown>, config: &Config, secrets: &Secrets) -> Values {
    let mut values: Values = shown.into_iter().map(|shown| (shown.key, shown.value)).collect();
    values.extend(config.secrets().map(|(key, _)| (key, secrets.mark(key))));
    values
}

/// With the place of each fault and what is wrong there.
fn refused(faults: &[(String, String)]) -> Problem {
    let error = |(place, what): &(String, String)| FieldError { pointer: place.clone(), detail: what.clone() };
    let errors: Vec<_> = faults.iter().map(error).collect();
    let first = errors.first().map(ToString::to_string).unwrap_or_default();
    let more = match faults.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let detail = format!("the configuration was not reloaded, the one before it counts: {first}{more}");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "configuration_invalid", detail).with_errors(errors)
}
