//! The job `batch.run`: one go at a batch.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::run::SliceError;
use super::types::BatchId;
use super::{Batches, Inner};
use crate::jobs::{Call, Class, Failure, Handler, Outcome, Run};

pub(super) const RUN: &str = "batch.run";

/// A go ends by itself long before, but for the writing of very long output.
const TIMEOUT: Duration = Duration::from_secs(6 * 3600);
/// Batches that are worked on at the same time; the others take turns.
const TOGETHER: usize = 4;

/// The handler, which is for the service itself. Its jobs are the system
/// tenant's; who pays for the calls is in the batch.
#[must_use]
pub fn handler(batches: &Batches) -> Handler {
    let inner = batches.0.clone();
    Handler {
        name: RUN,
        description: "Calls requests of a batch.",
        class: Class::Write,
        input_schema: json!({
            "type": "object",
            "required": ["batch_id"],
            "additionalProperties": false,
            "properties": { "batch_id": { "type": "string" } },
        }),
        timeout: TIMEOUT,
        concurrency: Some(TOGETHER),
        run: Run::Async(Box::new(move |call| {
            let inner = inner.clone();
            Box::pin(async move { run(&inner, &call).await })
        })),
    }
}

#[derive(Deserialize)]
struct Input {
    batch_id: String,
}

async fn run(inner: &Arc<Inner>, call: &Call) -> Outcome {
    let input: Input = serde_json::from_str(&call.input).map_err(|error| internal(&error))?;
    let id = BatchId::parse(&input.batch_id).ok_or_else(|| internal(&"no id of a batch"))?;
    match inner.work_on(id, &call.stop).await {
        Ok(status) => Ok(json!({ "status": status.name() }).to_string()),
        Err(SliceError::Stopped) => Err(Failure::retryable("stopped", "the service was stopped")),
        Err(error) => {
            tracing::warn!(batch = %id, "a batch could not go on and is tried again: {error}");
            Err(internal(&error))
        }
    }
}

fn internal(error: &impl ToString) -> Failure {
    Failure::permanent("internal", error.to_string())
}
