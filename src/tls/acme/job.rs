//! The job `certificate.renew`: one attempt, and what came of it.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::fault::{Fault, Kind};
use super::order::Attempt;
use super::sql::{self, Row, Stored};
use super::{Acme, Inner, next, parsed, policy};
use crate::config::CertName;
use crate::db;
use crate::jobs::{Call, Class, Failure, Handler, Outcome, Run};

pub(super) const NAME: &str = "certificate.renew";

/// The longest attempt: a few directories, a few kinds of proof.
const TIME: Duration = Duration::from_secs(15 * 60);
/// The job may take longer, so that what came of the attempt is always written
/// down and the next one waits its turn.
const JOB_TIME: Duration = Duration::from_secs(TIME.as_secs() + 60);

/// The handler, which is for the service itself.
#[must_use]
pub fn handler(acme: &Acme) -> Handler {
    let inner = acme.0.clone();
    Handler {
        name: NAME,
        description: "Orders or renews the certificate of one name.",
        class: Class::Write,
        input_schema: json!({
            "type": "object",
            "required": ["name", "now"],
            "additionalProperties": false,
            "properties": { "name": { "type": "string" }, "now": { "type": "boolean" } },
        }),
        timeout: JOB_TIME,
        concurrency: Some(4),
        run: Run::Async(Box::new(move |call| {
            let inner = inner.clone();
            Box::pin(async move {
                let stop = call.stop.clone();
                tokio::select! {
                    biased;
                    // What is under way is kept; the next process goes on with it.
                    () = stop.cancelled() => Err(Failure::retryable("stopped", "the attempt was stopped")),
                    outcome = run(&inner, &call) => outcome,
                }
            })
        })),
    }
}

#[derive(Deserialize)]
struct Input {
    name: String,
    /// Whether it is renewed though it is not due.
    now: bool,
}

async fn run(inner: &Arc<Inner>, call: &Call) -> Outcome {
    let input: Input = serde_json::from_str(&call.input).map_err(|error| internal(&error))?;
    let Some(settings) = inner.current() else { return Ok(json!({ "result": "not_configured" }).to_string()) };
    let Some(name) = settings.section.domains.iter().find(|name| name.to_string() == input.name) else {
        return Ok(json!({ "result": "not_configured" }).to_string());
    };
    let row = inner.row(name).await.map_err(|error| internal(&error))?;
    let now = call.clock.now();
    let (due, why) = next(name, &row, now);
    if !input.now && due > now {
        return Ok(json!({ "result": "not_due", "due_at": due }).to_string());
    }
    tracing::info!(%name, ?why, failures = row.failures, "ordering a certificate");
    let replaces = parsed(name, &row).and_then(|parsed| parsed.identifier()).zip(row.issued.as_ref());
    let attempt = Attempt {
        inner,
        settings: &settings,
        name,
        failures: row.failures,
        replaces: replaces.map(|(certificate, stored)| (certificate, stored.directory.clone())),
    };
    let too_long = |_| Err(Fault::new(Kind::Later, format!("the attempt took longer than {} s", TIME.as_secs())));
    match tokio::time::timeout(TIME, attempt.run()).await.unwrap_or_else(too_long) {
        Ok(issued) => succeeded(inner, name, issued).await.map_err(|error| internal(&error)),
        Err(fault) => Err(failed(inner, name, &row, fault).await),
    }
}

fn internal(error: &impl ToString) -> Failure {
    Failure::permanent("internal", error.to_string())
}

async fn succeeded(inner: &Inner, name: &CertName, issued: Stored) -> Result<String, db::Error> {
    let (key, stored, vault) = (name.to_string(), issued.clone(), inner.vault.clone());
    let alone = inner.installing.lock().await;
    inner.db.write(move |tx| sql::succeed(tx, &vault, &key, &stored)).await?;
    let directory = issued.directory.clone();
    let row = Row { issued: Some(issued), ..Row::default() };
    let is_wanted = inner.current().is_some_and(|settings| settings.section.domains.contains(name));
    if is_wanted {
        inner.install(name, &row);
    }
    drop(alone);
    let until = parsed(name, &row).map(|parsed| parsed.validity.until);
    tracing::info!(%name, directory, until = until.map(|until| until.to_string()), "a certificate was issued");
    // So that it is asked for the authority's suggestion.
    inner.changed.notify_one();
    Ok(json!({ "result": "issued", "name": name.to_string(), "not_after": until, "directory": directory }).to_string())
}

async fn failed(inner: &Inner, name: &CertName, row: &Row, fault: Fault) -> Failure {
    let now = inner.clock.now();
    let since = row.failing_since.map_or(Duration::ZERO, |since| now.since(since));
    let failures = row.failures.saturating_add(1);
    let next = now.plus(policy::pause(failures, since, fault.pause));
    inner.metrics.failed(name);
    let validity = parsed(name, row).map(|parsed| parsed.validity);
    let until = validity.map(|validity| validity.until.to_string());
    // Until it hurts, somebody has time to look; then it must be heard.
    if policy::is_grave(validity, since, now) {
        tracing::error!(%name, failures, next_attempt = %next, valid_until = until, "no certificate: {}", fault.what);
    } else {
        tracing::warn!(%name, failures, next_attempt = %next, valid_until = until, "no certificate: {}", fault.what);
    }
    let (key, what) = (name.to_string(), fault.what.clone());
    if let Err(error) = inner.db.write(move |tx| sql::fail(tx, &key, &what, now, next)).await {
        tracing::error!(%name, %error, "what went wrong with a certificate could not be written");
    }
    // So that the next attempt is made in its time.
    inner.changed.notify_one();
    Failure::permanent("no_certificate", fault.what)
}
