//! How an attempt fails.

use std::borrow::Cow;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Whether another attempt can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// It may: a network fault, an overloaded server.
    Retryable,
    /// It cannot: a wrong input, a missing page.
    Permanent,
    /// It may, but not before this long.
    RateLimited(Duration),
    /// There was no money, and may be from then on. The attempt does not count.
    Unpaid(Option<Timestamp>),
}

/// The code of a failure for want of money.
pub(super) const UNPAID: &str = crate::budgets::EXCEEDED;

/// How an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether another attempt can help.
    pub class: ErrorClass,
    /// Stable, for programs.
    pub code: Cow<'static, str>,
    /// For people; must hold no secret.
    pub message: String,
}

impl Failure {
    /// A failure that another attempt would meet again.
    pub fn permanent(code: &'static str, message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Permanent, code: code.into(), message: message.into() }
    }

    /// A failure that may pass.
    pub fn retryable(code: &'static str, message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Retryable, code: code.into(), message: message.into() }
    }

    /// A failure that may pass, but not before so long.
    pub fn rate_limited(code: &'static str, after: Duration, message: impl Into<String>) -> Self {
        Self { class: ErrorClass::RateLimited(after), code: code.into(), message: message.into() }
    }

    /// A budget cannot pay: the job waits until `until`, or until a budget is
    /// changed, and no attempt is used up.
    #[must_use]
    pub fn budget(until: Option<Timestamp>) -> Self {
        let message = "a budget cannot pay; the job waits until it is in funds".into();
        Self { class: ErrorClass::Unpaid(until), code: UNPAID.into(), message }
    }

    /// As kept in the database and written in answers.
    #[must_use]
    pub fn to_json(&self) -> String {
        let retryable = self.class != ErrorClass::Permanent;
        let json = FailureJson { code: (&*self.code).into(), message: (&*self.message).into(), retryable };
        serde_json::to_string(&json).unwrap_or_default()
    }

    /// Reads back what [`to_json`](Self::to_json) wrote.
    #[must_use]
    pub fn from_json(text: &str) -> Self {
        let read = serde_json::from_str(text);
        let json = read.unwrap_or(FailureJson { code: "internal".into(), message: "".into(), retryable: false });
        let class = if json.retryable { ErrorClass::Retryable } else { ErrorClass::Permanent };
        Self { class, code: json.code.into_owned().into(), message: json.message.into_owned() }
    }
}

/// Why a job or a step failed.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "JobError")]
pub(super) struct FailureJson<'a> {
    /// What it is, for programs.
    code: Cow<'a, str>,
    /// The same for people.
    message: Cow<'a, str>,
    /// Whether another attempt could help.
    retryable: bool,
}
