//! What a batch is.

use std::fmt;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::id;
use crate::models::Endpoint;
use crate::models::files::{FileId, parse};

/// How ids of batches begin.
const PREFIX: &str = "batch_";

/// A batch's id; its row number is inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchId(pub Uuid);

impl BatchId {
    /// The row number.
    pub(super) fn no(self) -> i64 {
        id::row_number(self.0)
    }

    /// Reads an id as a client sends it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        parse(PREFIX, text).map(Self)
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0.simple())
    }
}

/// Endpoints that a batch can call, by their paths.
pub(super) const ENDPOINTS: [(&str, Endpoint); 3] = [
    ("/v1/chat/completions", Endpoint::ChatCompletions),
    ("/v1/responses", Endpoint::Responses),
    ("/v1/embeddings", Endpoint::Embeddings),
];

/// The path of such an endpoint, and what it is.
pub(super) fn endpoint(path: &str) -> Option<(&'static str, Endpoint)> {
    ENDPOINTS.into_iter().find(|(known, _)| *known == path)
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum Status {
    /// Its input is being looked through.
    Validating,
    /// Its input is wrong.
    Failed,
    /// Its lines are being called.
    InProgress,
    /// Its output is being written.
    Finalizing,
    /// All lines have been called.
    Completed,
    /// Its window ended before all lines had been called.
    Expired,
    /// Somebody wants its end.
    Cancelling,
    /// It has been ended.
    Cancelled,
}

impl Status {
    const ALL: [Self; 8] = [
        Self::Validating,
        Self::Failed,
        Self::InProgress,
        Self::Finalizing,
        Self::Completed,
        Self::Expired,
        Self::Cancelling,
        Self::Cancelled,
    ];

    /// As kept in the database and written in answers.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::Failed => "failed",
            Self::InProgress => "in_progress",
            Self::Finalizing => "finalizing",
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of that name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether nothing will change any more.
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Completed | Self::Expired | Self::Cancelled)
    }
}

/// A batch.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub id: BatchId,
    pub tenant: i64,
    /// The key that made it, and the session that it named: who pays.
    pub key: Option<String>,
    pub session: Option<String>,
    /// Its calls go to the built-in model.
    pub test: bool,
    pub input: FileId,
    /// The path that its lines name.
    pub endpoint: String,
    /// JSON.
    pub metadata: Option<String>,
    /// Seconds that its output is kept; the usual time when not set.
    pub keep_output: Option<u64>,
    pub status: Status,
    /// What it becomes when it has been finalized.
    pub ending: Option<Status>,
    pub times: Times,
    pub counts: Counts,
    /// The first line that has not been begun.
    pub next: Place,
    /// JSON: what is wrong with the input.
    pub errors: Option<String>,
    pub output: Option<FileId>,
    pub error: Option<FileId>,
}

/// When a batch came to where it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub created: Timestamp,
    pub expires: Timestamp,
    pub in_progress: Option<Timestamp>,
    pub finalizing: Option<Timestamp>,
    pub cancelling: Option<Timestamp>,
    pub ended: Option<Timestamp>,
}

/// Lines of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[schemars(rename = "BatchRequestCounts")]
pub(super) struct Counts {
    /// Of the input.
    pub total: u64,
    /// With an answer of success.
    pub completed: u64,
    /// With an error.
    pub failed: u64,
}

/// A place in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1, as an editor counts.
    pub line: u64,
    /// Bytes before it.
    pub start: u64,
}

impl Place {
    /// Where the input begins.
    pub(super) const BEGIN: Self = Self { line: 1, start: 0 };
}

/// A line that has been begun and has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenLine {
    pub place: Place,
    pub length: u64,
    /// Times that it has been called.
    pub attempts: u32,
    /// When it is tried again.
    pub due: Timestamp,
}

/// How a line ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LineEnd {
    /// Whether it goes to the output file.
    pub succeeded: bool,
    /// The line there or in the error file.
    pub result: String,
}
