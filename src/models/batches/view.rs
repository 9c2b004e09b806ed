//! A batch, as `OpenAI`'s interface shows it.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::line::Fault;
use super::types::{Batch, Counts, Status};
use crate::clock::Timestamp;
use crate::models::files::seconds;

/// A batch. Times are in seconds since 1970.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Batch")]
pub(super) struct BatchView {
    id: String,
    #[schemars(extend("const" = "batch"))]
    object: &'static str,
    endpoint: String,
    /// What is wrong with the input, when the status is `failed`.
    errors: Option<Faults>,
    input_file_id: String,
    #[schemars(extend("const" = "24h"))]
    completion_window: &'static str,
    status: Status,
    /// The answers of success, once the batch has ended; null when there are none.
    output_file_id: Option<String>,
    /// The errors, once the batch has ended; null when there are none.
    error_file_id: Option<String>,
    created_at: i64,
    in_progress_at: Option<i64>,
    expires_at: i64,
    finalizing_at: Option<i64>,
    completed_at: Option<i64>,
    failed_at: Option<i64>,
    expired_at: Option<i64>,
    cancelling_at: Option<i64>,
    cancelled_at: Option<i64>,
    request_counts: Counts,
    #[schemars(with = "Option<std::collections::BTreeMap<String, String>>")]
    metadata: Option<Box<RawValue>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BatchErrors")]
struct Faults {
    #[schemars(extend("const" = "list"))]
    object: &'static str,
    /// The first hundred.
    data: Vec<Fault>,
}

impl From<Batch> for BatchView {
    fn from(batch: Batch) -> Self {
        let ended = |status: Status| batch.times.ended.filter(|_| batch.status == status).map(seconds);
        let at = |moment: Option<Timestamp>| moment.map(seconds);
        let faults = batch.errors.as_deref().and_then(|errors| serde_json::from_str(errors).ok());
        Self {
            id: batch.id.to_string(),
            object: "batch",
            errors: faults.map(|data| Faults { object: "list", data }),
            input_file_id: batch.input.to_string(),
            completion_window: "24h",
            status: batch.status,
            output_file_id: batch.output.map(|file| file.to_string()),
            error_file_id: batch.error.map(|file| file.to_string()),
            created_at: seconds(batch.times.created),
            in_progress_at: at(batch.times.in_progress),
            expires_at: seconds(batch.times.expires),
            finalizing_at: at(batch.times.finalizing),
            completed_at: ended(Status::Completed),
            failed_at: ended(Status::Failed),
            expired_at: ended(Status::Expired),
            cancelling_at: at(batch.times.cancelling),
            cancelled_at: ended(Status::Cancelled),
            request_counts: batch.counts,
            metadata: batch.metadata.and_then(|metadata| RawValue::from_string(metadata).ok()),
            endpoint: batch.endpoint,
        }
    }
}
