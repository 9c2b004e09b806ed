//! The words of this room.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::db;
use crate::money::Usd;

/// Who pays for a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Payer {
    /// The tenant's row number.
    pub tenant: i64,
    /// The public id of the API key; `None` for work without one.
    pub key: Option<Arc<str>>,
    /// The session, by the name that the client gave it.
    pub session: Option<Arc<str>>,
    /// The job that makes the call.
    pub job: Option<JobPayer>,
}

impl Payer {
    /// A tenant alone.
    #[must_use]
    pub fn of_tenant(tenant: i64) -> Self {
        Self { tenant, key: None, session: None, job: None }
    }
}

/// A job as a payer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobPayer {
    /// Its row number.
    pub no: i64,
    /// What it may spend over all its attempts.
    pub cap: Option<Usd>,
}

/// What is about to be paid for.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The model, by the provider's name for it.
    pub model: Arc<str>,
    /// The provider.
    pub provider: Arc<str>,
    /// What it is for, such as `chat.completions`, or a tool's name.
    pub purpose: &'static str,
    /// The most that it can cost.
    pub amount: Usd,
}

/// What has been used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of the input, the cached ones included.
    pub input: u64,
    /// Of those, how many the provider had cached.
    pub cached: u64,
    /// Of the output, the reasoning ones included.
    pub output: u64,
    /// Of those, how many were reasoning.
    pub reasoning: u64,
}

/// What came of a call.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// What it cost.
    pub cost: Usd,
    /// What it used.
    pub tokens: Tokens,
    /// Whether the provider counted the tokens; else the service did.
    pub counted_by_provider: bool,
}

/// Which budget it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "BudgetScope")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Scope {
    ServiceDay,
    TenantDay,
    TenantMonth,
    Key,
    Session,
    Job,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 6] =
        [Self::ServiceDay, Self::TenantDay, Self::TenantMonth, Self::Key, Self::Session, Self::Job];

    /// As written in answers and kept in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServiceDay => "service_day",
            Self::TenantDay => "tenant_day",
            Self::TenantMonth => "tenant_month",
            Self::Key => "key",
            Self::Session => "session",
            Self::Job => "job",
        }
    }

    /// The scope of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    /// For people: the budget of what.
    #[must_use]
    pub const fn of_what(self) -> &'static str {
        match self {
            Self::ServiceDay => "the service's budget for a day",
            Self::TenantDay => "the tenant's budget for a day",
            Self::TenantMonth => "the tenant's budget for a month",
            Self::Key => "the API key's budget",
            Self::Session => "the session's budget",
            Self::Job => "the job's budget",
        }
    }
}

/// A budget that cannot pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// Which one.
    pub scope: Scope,
    /// What may be spent.
    pub limit: Usd,
    /// What has been.
    pub spent: Usd,
    /// What is reserved for calls under way.
    pub reserved: Usd,
    /// What the call could have cost.
    pub asked: Usd,
    /// When there will be enough, or the window begins anew; `None` where that
    /// never happens by itself.
    pub resets_at: Option<Timestamp>,
}

/// Why nothing was reserved.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    /// A budget cannot pay.
    #[error("the budget is exhausted")]
    Exhausted(Box<Exhausted>),
    /// The reservation could not be written.
    #[error(transparent)]
    Database(#[from] db::Error),
}

/// What happens to a call that the budget cannot pay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExhausted {
    /// It is refused.
    #[default]
    Reject,
    /// Its output is limited to what can be paid.
    Clamp,
    /// It goes to the low-cost model.
    Downgrade,
    /// A job waits until there is money; other calls are refused.
    Pause,
}

impl OnExhausted {
    const ALL: [Self; 4] = [Self::Reject, Self::Clamp, Self::Downgrade, Self::Pause];

    /// As kept in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Clamp => "clamp",
            Self::Downgrade => "downgrade",
            Self::Pause => "pause",
        }
    }

    /// What the database says; what it does not know is refused.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|policy| policy.name() == name).unwrap_or_default()
    }
}

/// What a tenant may spend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TenantBudget {
    /// In a day; null is no limit.
    pub day_usd: Option<Usd>,
    /// In a calendar month; null is no limit.
    pub month_usd: Option<Usd>,
    /// In one session; null is what the service allows.
    pub session_usd: Option<Usd>,
    /// What happens to a call that the budget cannot pay.
    pub on_exhausted: OnExhausted,
}

/// A budget of which much or all has been spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Which one.
    pub scope: Scope,
    /// Whose; `None` for the service as a whole.
    pub tenant: Option<i64>,
    /// The key, where it is a key's.
    pub key: Option<Arc<str>>,
    /// How much of it, at least: 80 or 100.
    pub percent: u8,
    /// What may be spent.
    pub limit: Usd,
    /// What has been.
    pub spent: Usd,
    /// When this was seen.
    pub at: Timestamp,
}

/// How a budget stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which one.
    pub scope: Scope,
    /// What may be spent; `None` for no limit.
    pub limit: Option<Usd>,
    /// What has been.
    pub spent: Usd,
    /// What is reserved for calls under way.
    pub reserved: Usd,
    /// When what was spent first no longer counts; `None` where nothing was, or
    /// where that never happens.
    pub resets_at: Option<Timestamp>,
}

impl Standing {
    /// What is left; `None` for no limit.
    #[must_use]
    pub fn left(&self) -> Option<Usd> {
        self.limit.map(|limit| limit.minus(self.spent).minus(self.reserved).max(Usd::ZERO))
    }
}
