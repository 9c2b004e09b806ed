//! Reading the configuration again while the service runs: what can count at
//! once does, what needs a restart is named, and where anything is wrong nothing
//! changes. See docs/decisions/0026.

use std::collections::BTreeMap;
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
use crate::clock::Clock;
use crate::config::{self, Config, Fault, Loaded, Shown, Sources, TlsMode};
use crate::http::openapi::Answer;
use crate::http::query::NoQuery;
use crate::http::{FieldError, Problem, Routes, TrustedProxies};
use crate::telemetry::log;
use crate::tls;
use crate::tls::acme::{Acme, SettingsError};

/// Within this a reload has happened or failed. Whoever asked for it waits
/// somewhat longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// Keys that count without a restart, beside those of `[acme]`.
pub(super) const LIVE: &[&str] = &[
    "auth.metrics_token",
    "auth.metrics_token_file",
    "cors.credentials",
    "cors.headers",
    "cors.max_age",
    "cors.methods",
    "cors.origins",
    "limits.rate",
    "limits.requests_per_minute",
    "log.level",
    "server.trusted_proxies",
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
struct Reloaded {
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
    /// Where the certificate comes from until the next restart.
    pub mode: TlsMode,
    pub clock: Clock,
}

/// Every key with what tells one value from another; of secrets only a hash.
type Values = BTreeMap<&'static str, String>;

/// Reads the configuration again. One per process, behind an `Arc`.
pub(super) struct Reloader {
    sources: Sources,
    live: Live,
    /// What counts now. Whoever reloads holds it.
    counts: Mutex<Values>,
}

impl Reloader {
    /// Over the sources that the process was started with and what they said.
    ///
    /// # Errors
    /// When a secret cannot be read.
    pub(super) fn new(sources: Sources, config: &Config, shown: Vec<Shown>, live: Live) -> Result<Self, String> {
        Ok(Self { sources, live, counts: Mutex::new(values(config, shown)?) })
    }

    async fn reload(&self) -> Result<Reloaded, Problem> {
        // What is abandoned has changed nothing: from the first change on there
        // is no place to be interrupted at.
        let outcome = timeout(DEADLINE, async {
            let mut counts = self.counts.lock().await;
            let (loaded, values) = self.read().await?;
            self.apply(&mut counts, loaded, values).await
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
    async fn read(&self) -> Result<(Loaded, Values), Problem> {
        let (sources, clock) = (self.sources.clone(), self.live.clock.clone());
        let (answer, read) = oneshot::channel();
        std::thread::spawn(move || {
            let _ = answer.send(read_all(&sources, &clock));
        });
        read.await.map_err(Problem::internal)?
    }

    async fn apply(&self, counts: &mut Values, loaded: Loaded, new: Values) -> Result<Reloaded, Problem> {
        let Loaded { config, warnings, .. } = loaded;
        let same_mode = config.tls.mode == self.live.mode;
        let is_live = |key: &str| LIVE.contains(&key) || (same_mode && key.starts_with("acme."));
        let differs = |key: &&&'static str| counts.get(**key) != new.get(**key);
        let (mut changed, needs_restart): (Vec<_>, Vec<_>) =
            new.keys().filter(differs).copied().partition(|key| is_live(key));
        let token = config.auth.metrics_token.resolve().map_err(Problem::internal)?;
        if same_mode {
            let fault = |error: SettingsError| refused(&[("acme".into(), error.to_string())]);
            self.live.acme.configure(self.live.mode, &config.acme).await.map_err(fault)?;
        }
        let files = ["tls.mode", "tls.cert_file", "tls.key_file"];
        let same_files = !needs_restart.iter().any(|key| files.contains(key));
        // They have just been read and found good, and are looked at again.
        if let Some(files) = self.live.kept.files().filter(|_| same_files)
            && files.reload().map_err(|fault| refused(&[("tls.cert_file".into(), fault)]))?
        {
            changed.push("tls.cert_file");
        }
        // After this nothing can fail.
        log::set_level(&config.log).map_err(Problem::internal)?;
        self.live.auth.set_metrics_token(token.as_deref());
        self.live.auth.limits().set_for_each_key(config.limits.requests_per_minute);
        self.live.auth.cors().configure(config.cors);
        self.live.proxies.set(config.server.trusted_proxies);
        counts.extend(new.into_iter().filter(|(key, _)| is_live(key)));
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(changed = changed.join(","), needs_restart = needs_restart.join(","), "configuration reloaded");
        Ok(Reloaded { changed, needs_restart, warnings })
    }
}

fn read_all(sources: &Sources, clock: &Clock) -> Result<(Loaded, Values), Problem> {
    let told = |fault: &Fault| (fault.place().to_owned(), fault.what().to_owned());
    let loaded = config::load(sources).map_err(|faults| refused(&faults.iter().map(told).collect::<Vec<_>>()))?;
    if loaded.config.tls.mode == TlsMode::Files {
        let fault = |fault: tls::Fault| refused(&[("tls.cert_file".into(), fault.to_string())]);
        tls::files::load(&loaded.config.tls, clock.now()).map_err(fault)?;
    }
    let values = values(&loaded.config, loaded.shown.clone()).map_err(Problem::internal)?;
    Ok((loaded, values))
}

fn values(config: &Config, shown: Vec<Shown>) -> Result<Values, String> {
    let mut values: Values = shown.into_iter().map(|shown| (shown.key, shown.value)).collect();
    for (key, secret) in config.secrets() {
        let text = secret.resolve()?;
        values.insert(key, text.map_or_else(String::new, |text| format!("{:?}", digest(&SHA256, text.as_bytes()))));
    }
    Ok(values)
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
