//! What is kept in memory of those who pay.

use std::sync::Arc;

use super::types::{Payer, TenantBudget};
use super::window::Windowed;

/// A tenant, or the service as a whole: money by time.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub budget: TenantBudget,
    pub spent: Windowed,
    /// In nano-USD.
    pub reserved: i128,
}

impl Account {
    pub fn give_back(&mut self, amount: i128) {
        self.reserved = (self.reserved - amount).max(0);
    }
}

/// What is summed over all time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum TotalKey {
    Key(i64, Arc<str>),
    Session(i64, Arc<str>),
    Job(i64, i64),
}

impl TotalKey {
    /// Those that a payer's calls are counted in while they are under way. A job
    /// without a cap is counted on disk only.
    pub fn of(payer: &Payer) -> impl Iterator<Item = Self> {
        [Self::key(payer), Self::session(payer), Self::job(payer)].into_iter().flatten()
    }

    pub fn key(payer: &Payer) -> Option<Self> {
        payer.key.as_ref().map(|key| Self::Key(payer.tenant, key.clone()))
    }

    pub fn session(payer: &Payer) -> Option<Self> {
        payer.session.as_ref().map(|session| Self::Session(payer.tenant, session.clone()))
    }

    pub fn job(payer: &Payer) -> Option<Self> {
        payer.job.filter(|job| job.cap.is_some()).map(|job| Self::Job(payer.tenant, job.no))
    }

    /// Whose it is.
    pub fn tenant(&self) -> i64 {
        match self {
            Self::Key(tenant, _) | Self::Session(tenant, _) | Self::Job(tenant, _) => *tenant,
        }
    }

    /// Kind, tenant and name in the database.
    pub fn columns(&self) -> (&'static str, i64, String) {
        match self {
            Self::Key(tenant, id) => ("key", *tenant, id.to_string()),
            Self::Session(tenant, id) => ("session", *tenant, id.to_string()),
            Self::Job(tenant, no) => ("job", *tenant, no.to_string()),
        }
    }
}

/// Money over all time, in nano-USD.
#[derive(Debug)]
pub(super) struct Total {
    pub spent: i128,
    pub reserved: i128,
    /// Calls of which the last word is not on disk. While there are some, the
    /// disk does not know all of `spent`.
    pub open: u32,
    /// Since unused ones were last dropped.
    pub used: bool,
}

impl Total {
    pub fn of(nano: i64) -> Self {
        Self { spent: i128::from(nano), reserved: 0, open: 0, used: true }
    }

    pub fn reserve(&mut self, amount: i128) {
        self.reserved += amount;
        self.open += 1;
        self.used = true;
    }

    pub fn give_back(&mut self, amount: i128) {
        self.reserved = (self.reserved - amount).max(0);
    }
}
