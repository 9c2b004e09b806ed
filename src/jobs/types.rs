//! What a job is.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::failure::Failure;
use crate::budgets::{JobPayer, Payer};
use crate::clock::Timestamp;
use crate::id;
use crate::money::Usd;

/// A job's id; its row number is inside it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, with = "String", description = "", extend("format" = "uuid"))]
pub struct JobId(pub Uuid);

impl JobId {
    /// The row number.
    #[must_use]
    pub fn no(self) -> i64 {
        id::row_number(self.0)
    }

    /// Reads an id as a client sends it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::parse_str(text).ok().map(Self)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Status {
    /// Ready to start.
    Queued,
    /// Being done.
    Running,
    /// For its time: a delay, or the pause before another attempt.
    Waiting,
    /// Done.
    Succeeded,
    /// Ended by an error that another attempt would meet again.
    Failed,
    /// Ended by whoever asked for that.
    Cancelled,
    /// Given up after the last attempt.
    Dead,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 7] =
        [Self::Queued, Self::Running, Self::Waiting, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Dead];

    /// As kept in the database and written in answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether nothing will change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Dead)
    }
}

/// How a job is to be run. What a client leaves out has these defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Seconds for one attempt; none: what the tool allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
    /// Seconds from submission to the end, waiting included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_timeout: Option<f64>,
    /// Attempts before the job is given up.
    #[serde(skip_serializing_if = "is_default_attempts")]
    pub max_attempts: u32,
    /// The pauses between attempts.
    #[serde(skip_serializing_if = "Backoff::is_default")]
    pub backoff: Backoff,
    /// What it may spend over all its attempts; none: as much as its tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Usd>,
    /// The session that pays too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Arc<str>>,
    /// The public id of the key that it was submitted with, where its tool can
    /// spend something: the key pays too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
}

const DEFAULT_ATTEMPTS: u32 = 3;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_default_attempts(attempts: &u32) -> bool {
    *attempts == DEFAULT_ATTEMPTS
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: None,
            total_timeout: None,
            max_attempts: DEFAULT_ATTEMPTS,
            backoff: Backoff::default(),
            budget: None,
            session: None,
            key: None,
        }
    }
}

/// Pauses that grow: `initial · factor^(attempt − 1)` seconds, at most `max`,
/// of which a random half is taken off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// Seconds after the first attempt.
    #[schemars(range(min = 0, max = 2_592_000))]
    pub initial: f64,
    /// By how much each pause is longer than the one before.
    #[schemars(range(min = 1, max = 100))]
    pub factor: f64,
    /// Seconds at most.
    #[schemars(range(min = 0, max = 2_592_000))]
    pub max: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: 1.0, factor: 2.0, max: 300.0 }
    }
}

impl Backoff {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens when an open job has the concurrency key of a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnConflict {
    /// The new one waits until the others have ended.
    #[default]
    Enqueue,
    /// The new one is refused.
    Reject,
    /// The others are cancelled.
    Replace,
}

/// The row number of the tenant whose jobs are the service's own.
pub const SYSTEM: i64 = 0;

/// A job to be submitted, checked and complete.
#[derive(Debug)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// Whose it is: row number.
    pub tenant: i64,
    /// What does it: a name in the registry.
    pub tool: &'static str,
    /// Higher starts first within a tenant.
    pub priority: i8,
    /// Not before this moment; `created_at` for at once.
    pub due_at: Timestamp,
    /// Whether `due_at` is a time of the day rather than a span from now.
    pub appointed: bool,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// How it is to be run.
    pub options: Options,
    /// JSON object of strings, for the client's own use.
    pub metadata: Option<String>,
    /// Of the tenant's jobs with the same text one runs at a time.
    pub concurrency_key: Option<Arc<str>>,
    /// What becomes of others with that text.
    pub on_conflict: OnConflict,
    /// The job that this one does again.
    pub retry_of: Option<JobId>,
    /// JSON on one line.
    pub input: Arc<str>,
}

impl NewJob {
    /// The job as the queue keeps it.
    #[must_use]
    pub fn entry(&self, tool: usize) -> QueueEntry {
        QueueEntry {
            no: self.id.no(),
            tenant: self.tenant,
            tool,
            priority: self.priority,
            key: self.key(),
            due_at: self.due_at,
            relative: !self.appointed,
        }
    }

    /// What it must not run beside.
    #[must_use]
    pub fn key(&self) -> Option<ConcurrencyKey> {
        self.concurrency_key.as_deref().map(|text| ConcurrencyKey::of(self.tenant, text))
    }

    /// Whether it has to wait for its time.
    #[must_use]
    pub fn is_delayed(&self) -> bool {
        self.due_at > self.created_at
    }
}

/// A job as it stands in the database.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Whose it is: row number.
    pub tenant: i64,
    /// What does it.
    pub tool: String,
    /// Where it stands.
    pub status: Status,
    /// Higher starts first within a tenant.
    pub priority: i8,
    /// Attempts begun.
    pub attempt: u32,
    /// Attempts cut short by the end of our own process.
    pub interruptions: u32,
    /// Not before this moment.
    pub due_at: Timestamp,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When its first attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Whether somebody asked for its end.
    pub cancel_requested: bool,
    /// How it is to be run.
    pub options: Options,
    /// The client's own.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Of the tenant's jobs with the same text one runs at a time.
    pub concurrency_key: Option<Arc<str>>,
    /// The job that this one does again.
    pub retry_of: Option<JobId>,
    /// The newest job that does this one again.
    pub retried_by: Option<JobId>,
    /// What it has cost so far, over all attempts.
    pub cost: Usd,
    /// What was given.
    pub input: Box<RawValue>,
    /// What came of it.
    pub result: Option<Box<RawValue>>,
    /// Why nothing came of it.
    pub error: Option<Box<RawValue>>,
}

/// What a tenant's jobs that must not run at the same time have in common: a
/// digest of the tenant and its text. Were two digests ever the same, jobs
/// would wait for each other without need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConcurrencyKey(u64);

impl ConcurrencyKey {
    /// The key of a tenant's text.
    #[must_use]
    pub fn of(tenant: i64, text: &str) -> Self {
        let mut hasher = std::hash::DefaultHasher::new();
        (tenant, text).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// What the queue keeps of a job that is not running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// Row number.
    pub no: i64,
    /// Whose it is: row number.
    pub tenant: i64,
    /// Place in the registry.
    pub tool: usize,
    /// Higher starts first within a tenant.
    pub priority: i8,
    /// What it must not run beside.
    pub key: Option<ConcurrencyKey>,
    /// Not before this moment.
    pub due_at: Timestamp,
    /// Whether `due_at` is a span from some moment, such as a pause before
    /// another attempt, and so moves when the clock is set.
    pub relative: bool,
}

/// A job that this process runs.
#[derive(Debug)]
pub struct Claim {
    /// Its id.
    pub id: JobId,
    /// Place of its tool in the registry.
    pub tool: usize,
    /// Whose it is: row number.
    pub tenant: i64,
    /// Only writes with this number count.
    pub lease: i64,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The event that began this attempt's step; also the step's number.
    pub step: i64,
    /// When this attempt began.
    pub started_at: Timestamp,
    /// When the first attempt began.
    pub first_started_at: Timestamp,
    /// Attempts cut short by the end of our own process.
    pub interruptions: u32,
    /// Not before this moment it was to start.
    pub due_at: Timestamp,
    /// When the job was submitted.
    pub created_at: Timestamp,
    /// How it is to be run.
    pub options: Options,
    /// Higher starts first within a tenant.
    pub priority: i8,
    /// The client's own, JSON.
    pub metadata: Option<String>,
    /// Of the tenant's jobs with the same text one runs at a time.
    pub concurrency_key: Option<Arc<str>>,
    /// The job that this one does again.
    pub retry_of: Option<JobId>,
    /// JSON on one line.
    pub input: Arc<str>,
    /// Whether this attempt has taken steps of its own, which add events.
    pub took_steps: AtomicBool,
}

impl Claim {
    /// Who pays for what its attempts do.
    #[must_use]
    pub fn payer(&self) -> Payer {
        Payer {
            tenant: self.tenant,
            key: self.options.key.clone(),
            session: self.options.session.clone(),
            job: Some(JobPayer { no: self.id.no(), cap: self.options.budget }),
        }
    }

    /// The job as the queue keeps it when it is to start again at `due_at`.
    #[must_use]
    pub fn entry(&self, due_at: Timestamp) -> QueueEntry {
        QueueEntry {
            no: self.id.no(),
            tenant: self.tenant,
            tool: self.tool,
            priority: self.priority,
            key: self.concurrency_key.as_deref().map(|text| ConcurrencyKey::of(self.tenant, text)),
            due_at,
            relative: true,
        }
    }

    /// The job as it stands in the database after this ending, so that whoever
    /// waits for it needs no second look; `None` when it goes on.
    #[must_use]
    pub fn ended(
        &self,
        tool: &str,
        ending: &Ending,
        at: Timestamp,
        cancel_requested: bool,
        cost: Usd,
    ) -> Option<JobRow> {
        let (status, result, error) = match ending {
            Ending::Succeeded(result) => (Status::Succeeded, Some(result.to_string()), None),
            Ending::Failed(failure) => (Status::Failed, None, Some(failure.to_json())),
            Ending::Dead(failure) => (Status::Dead, None, Some(failure.to_json())),
            Ending::Cancelled => (Status::Cancelled, None, None),
            Ending::Retry(..) | Ending::Unpaid(..) | Ending::PutBack => return None,
        };
        Some(JobRow {
            id: self.id,
            tenant: self.tenant,
            tool: tool.to_owned(),
            status,
            priority: self.priority,
            attempt: self.attempt,
            interruptions: self.interruptions,
            due_at: self.due_at,
            created_at: self.created_at,
            started_at: Some(self.first_started_at),
            finished_at: Some(at),
            cancel_requested,
            options: self.options.clone(),
            concurrency_key: self.concurrency_key.clone(),
            metadata: self.metadata.as_deref().map(serde_json::from_str).transpose().ok()?,
            retry_of: self.retry_of,
            retried_by: None,
            cost,
            input: RawValue::from_string(self.input.to_string()).ok()?,
            result: result.map(RawValue::from_string).transpose().ok()?,
            error: error.map(RawValue::from_string).transpose().ok()?,
        })
    }
}

/// How an attempt ended, as it goes to the database.
#[derive(Clone, Debug)]
pub enum Ending {
    /// With this JSON on one line.
    Succeeded(Arc<str>),
    /// By an error that ends the job.
    Failed(Failure),
    /// By an error after which there is no attempt left.
    Dead(Failure),
    /// By an error; again at that moment.
    Retry(Failure, Timestamp),
    /// For want of money; again at that moment. The attempt does not count.
    Unpaid(Failure, Timestamp),
    /// By whoever asked for it.
    Cancelled,
    /// Put back because the service is being stopped; the attempt does not count.
    PutBack,
}
