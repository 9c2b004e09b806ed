//! Events: what happened to a job, in order, without a gap.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::types::{JobId, JobRow};
use crate::clock::Timestamp;
use crate::http::sse;

macro_rules! kinds {
    ($($kind:ident = $name:literal),* $(,)?) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($kind),* }

        impl Kind {
            /// As written in answers.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),* }
            }

            /// The kind of that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$kind),)* _ => None }
            }
        }
    };
}

kinds! {
    Queued = "job.queued",
    Started = "job.started",
    Waiting = "job.waiting",
    Retrying = "job.retrying",
    StepStarted = "step.started",
    StepFinished = "step.finished",
    StepFailed = "step.failed",
    BudgetReached = "budget.reached",
    Succeeded = "job.succeeded",
    Failed = "job.failed",
    Cancelled = "job.cancelled",
    Dead = "job.dead",
}

impl Kind {
    /// Whether no event comes after it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Dead)
    }
}

/// One event of one job.
#[derive(Debug)]
pub struct Event {
    /// Its place among the job's events, from 1.
    pub seq: i64,
    /// What happened.
    pub kind: Kind,
    /// When.
    pub at: Timestamp,
    /// JSON object on one line.
    pub data: Box<RawValue>,
    job: JobId,
    /// Made once, however many follow.
    frame: OnceLock<Bytes>,
    /// The job as its last event left it, for those who wait for that.
    row: OnceLock<JobRow>,
}

/// What happened to a job, as a client sees it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Event")]
pub struct EventView<'a> {
    /// Its place among the job's events, from 1 without a gap.
    id: i64,
    /// What happened, such as `job.started`.
    r#type: &'static str,
    job_id: JobId,
    at: Timestamp,
    /// What there is to say of it, by its type.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    data: &'a RawValue,
}

impl Event {
    /// An event; `data` is JSON on one line, empty for an empty object.
    #[must_use]
    pub fn new(job: JobId, seq: i64, kind: Kind, at: Timestamp, data: String) -> Self {
        let data = if data.is_empty() { None } else { RawValue::from_string(data).ok() };
        let data = data.unwrap_or_else(empty);
        Self { seq, kind, at, data, job, frame: OnceLock::new(), row: OnceLock::new() }
    }

    /// As a client sees it.
    #[must_use]
    pub fn view(&self) -> EventView<'_> {
        EventView { id: self.seq, r#type: self.kind.name(), job_id: self.job, at: self.at, data: &self.data }
    }

    /// Adds the job as this event, its last, left it.
    pub fn set_job_row(&self, row: JobRow) {
        let _ = self.row.set(row);
    }

    /// The job as this event left it, where that is known.
    #[must_use]
    pub fn job_row(&self) -> Option<&JobRow> {
        self.row.get()
    }

    /// As a frame of a stream.
    #[must_use]
    pub fn frame(&self) -> Bytes {
        let make = || {
            let json = serde_json::to_string(&self.view()).unwrap_or_default();
            sse::frame(self.seq, self.kind.name(), &json)
        };
        self.frame.get_or_init(make).clone()
    }
}

fn empty() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_default()
}
