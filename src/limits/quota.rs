//! What a tenant may use.

use schemars::JsonSchema;
use serde::Serialize;

/// A tenant's quota; null is no limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Quota {
    /// Requests in a minute, over all its keys together; in the place of the
    /// service's limit for each key.
    pub requests_per_minute: Option<u32>,
    /// Jobs that may wait, for a place or for their time.
    pub queued_jobs: Option<u32>,
    /// Jobs that may run at the same time; more wait.
    pub concurrent_jobs: Option<u32>,
    /// Jobs that may be submitted in a calendar day, UTC.
    pub jobs_per_day: Option<u32>,
    /// Its share of the places, against the weights of the others; 1 to 100.
    pub weight: u32,
    /// Days that finished jobs are kept; null is the service's own setting.
    pub retention_days: Option<u32>,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            requests_per_minute: None,
            queued_jobs: None,
            concurrent_jobs: None,
            jobs_per_day: None,
            weight: 1,
            retention_days: None,
        }
    }
}
