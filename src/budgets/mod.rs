//! What tenants may spend and have spent. Money is reserved in every scope that
//! a call falls into before the call is made, and settled with its cost after
//! it, so that no scope pays more than it may.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::db;
use crate::money::Usd;

/// Who pays for a call.
#[derive(Clone, Debug)]
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

/// A job as a payer.
#[derive(Clone, Copy, Debug)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Scope {
    ServiceDay,
    TenantDay,
    TenantMonth,
    Key,
    Session,
    Job,
}

/// A budget that cannot pay.
#[derive(Clone, Debug)]
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
    /// When its window rolls on; `None` where it never does.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
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

/// The ledger. Clones share it.
#[derive(Clone, Default)]
pub struct Budgets(Arc<()>);

impl Budgets {
    /// Reserves money in every scope of the payer, or in none. When this
    /// returns the reservation is on disk.
    ///
    /// # Errors
    /// The first budget that cannot pay, or that nothing could be written.
    #[expect(clippy::unused_async, reason = "it will wait for the disk")]
    pub async fn reserve(&self, payer: &Payer, planned: Planned) -> Result<Reservation, Refused> {
        let _ = (payer, &self.0);
        Ok(Reservation { amount: planned.amount })
    }

    /// stub
    pub fn problem(&self, _: Refused) -> crate::http::Problem {
        crate::http::Problem::internal("x")
    }

    /// The least that any scope of the payer has left; `None` where nothing is
    /// limited.
    #[must_use]
    pub fn left(&self, payer: &Payer) -> Option<Usd> {
        let _ = (payer, &self.0);
        None
    }

    /// What happens to a tenant's calls that its budget cannot pay.
    #[must_use]
    pub fn on_exhausted(&self, tenant: i64) -> OnExhausted {
        let _ = (tenant, &self.0);
        OnExhausted::Reject
    }
}

/// Money that is held for one call. Dropped without a word it is settled in
/// full, because the call may have been made.
#[must_use = "dropping a reservation settles it in full"]
pub struct Reservation {
    amount: Usd,
}

impl Reservation {
    /// What is held.
    #[must_use]
    pub fn amount(&self) -> Usd {
        self.amount
    }

    /// Settles with what was used. It comes to disk soon; nobody has to wait,
    /// because the reservation is there already.
    pub fn settle(self, spent: Spent) {
        let _ = spent;
    }

    /// Gives the money back: the call was not made, or cost nothing.
    pub fn release(self) {}
}
