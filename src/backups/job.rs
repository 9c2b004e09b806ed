//! The jobs `backup.create` and `backup.verify`.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::BackupError;
use super::{Backups, Inner};
use crate::jobs::handler::OutcomeFuture;
use crate::jobs::{Call, Class, Failure, Handler, Outcome, Run};

pub(super) const CREATE: &str = "backup.create";
pub(super) const VERIFY: &str = "backup.verify";

/// Long enough for whatever a slow disk and a slow line need.
const TIMEOUT: Duration = Duration::from_secs(6 * 3600);
/// Before the job is ended for its time the work says itself that it took too long.
pub(super) const PATIENCE: Duration = Duration::from_secs(6 * 3600 - 60);

/// The work, or that it took too long, which is a failure like others: it is
/// told, and there is a pause before the next attempt.
pub(super) async fn in_time<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, BackupError>>,
) -> Result<T, BackupError> {
    let late = |_| Err(BackupError::Refused(format!("it took longer than {} minutes", patience.as_secs() / 60)));
    tokio::time::timeout(patience, work).await.unwrap_or_else(late)
}

/// The handlers, which are for the service itself.
#[must_use]
pub fn handlers(backups: &Backups) -> [Handler; 2] {
    let handler = |name, description, run: fn(Arc<Inner>, Call) -> OutcomeFuture| {
        let inner = backups.0.clone();
        Handler {
            name,
            description,
            class: Class::Write,
            input_schema: json!({
                "type": "object",
                "required": ["scheduled"],
                "additionalProperties": false,
                "properties": { "scheduled": { "type": "boolean" }, "name": { "type": ["string", "null"] } },
            }),
            timeout: TIMEOUT,
            concurrency: Some(1),
            run: Run::Async(Box::new(move |call| run(inner.clone(), call))),
        }
    };
    [
        handler(CREATE, "Makes a backup.", |inner, call| Box::pin(async move { create(&inner, &call).await })),
        handler(VERIFY, "Restores a backup as a test.", |inner, call| {
            Box::pin(async move { verify(&inner, &call).await })
        }),
    ]
}

#[derive(Default, Serialize, Deserialize)]
pub(super) struct Input {
    /// Nobody asked for it, so it is done only if it is due.
    pub scheduled: bool,
    /// What is verified; none: the newest.
    pub name: Option<String>,
}

async fn create(inner: &Arc<Inner>, call: &Call) -> Outcome {
    let input: Input = serde_json::from_str(&call.input).map_err(|error| internal(&error))?;
    match in_time(PATIENCE, inner.create(input.scheduled, &call.stop)).await {
        Ok(None) => Ok(json!({ "result": "not_due" }).to_string()),
        Ok(Some(last)) => serde_json::to_string(&last).map_err(|error| internal(&error)),
        Err(BackupError::Stopped) => Err(stopped()),
        Err(error) => {
            let (what, now) = (error.to_string(), call.clock.now());
            inner.metrics.failures.inc();
            tracing::error!("no backup: {what}");
            let kept = what.clone();
            if let Err(error) = inner.change(move |state| state.failed(kept.clone(), now)).await {
                tracing::error!(%error, "what went wrong with a backup could not be written");
            }
            Err(Failure::permanent("no_backup", what))
        }
    }
}

async fn verify(inner: &Arc<Inner>, call: &Call) -> Outcome {
    let input: Input = serde_json::from_str(&call.input).map_err(|error| internal(&error))?;
    match inner.drill(input.name, &call.stop).await {
        Ok(None) => Ok(json!({ "result": "no_backup" }).to_string()),
        Ok(Some(drill)) => match &drill.problem {
            None => {
                tracing::info!(name = drill.name, "a backup was restored as a test, and all is well");
                serde_json::to_string(&drill).map_err(|error| internal(&error))
            }
            Some(what) => {
                inner.metrics.drill_failures.inc();
                tracing::error!(name = drill.name, "a backup could not be restored as a test: {what}");
                Err(Failure::permanent("not_restorable", what))
            }
        },
        Err(BackupError::Stopped) => Err(stopped()),
        Err(error) => Err(internal(&error)),
    }
}

fn stopped() -> Failure {
    Failure::retryable("stopped", "the service was stopped")
}

fn internal(error: &impl ToString) -> Failure {
    Failure::permanent("internal", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_is_a_failure_and_no_stop() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let never = std::future::pending::<Result<(), BackupError>>();
        let ended = runtime.block_on(in_time(Duration::from_millis(1), never));
        assert!(matches!(ended, Err(BackupError::Refused(_))), "{ended:?}");
        assert!(PATIENCE < TIMEOUT);
    }
}
