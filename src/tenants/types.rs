//! What a tenant and a key are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::auth::{KeyFacts, Mark, Proof, Scopes, Tenant};
use crate::clock::Timestamp;
use crate::net::Network;

/// Whether a tenant's keys count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Status {
    /// They do.
    Active,
    /// They do not, and its jobs wait.
    Suspended,
    /// Gone for everyone; rows are still being cleared away.
    #[serde(skip_deserializing)]
    Deleted,
}

impl Status {
    /// As kept in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }

    pub(super) fn from_name(name: &str) -> Self {
        match name {
            "active" => Self::Active,
            "suspended" => Self::Suspended,
            _ => Self::Deleted,
        }
    }
}

/// How early a tenant gets what is being rolled out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Cohort {
    /// Our own people, first.
    Internal,
    /// Those who agreed to try.
    Pilot,
    /// Everyone else.
    #[default]
    Everyone,
}

impl Cohort {
    /// As kept in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Pilot => "pilot",
            Self::Everyone => "everyone",
        }
    }

    pub(super) fn from_name(name: &str) -> Self {
        match name {
            "internal" => Self::Internal,
            "pilot" => Self::Pilot,
            _ => Self::Everyone,
        }
    }
}

/// A tenant's row.
#[derive(Clone, Debug)]
pub struct TenantRow {
    /// Row number.
    pub no: i64,
    /// Public id.
    pub id: String,
    /// For people.
    pub name: String,
    /// Whether its keys count.
    pub status: Status,
    /// How early it gets what is new.
    pub cohort: Cohort,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl TenantRow {
    /// What other rooms know it by.
    #[must_use]
    pub fn handle(&self) -> Tenant {
        Tenant { no: self.no, id: Uuid::parse_str(&self.id).unwrap_or_default() }
    }
}

/// A key's row, without what proves it.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// Row number.
    pub no: i64,
    /// Public id, part of the key's text.
    pub id: String,
    /// For people.
    pub name: String,
    /// Which key-hash secret it was made with.
    pub secret_mark: Mark,
    /// `agk_test_…` instead of `agk_live_…`.
    pub test: bool,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops counting.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to within some seconds.
    pub last_used_at: Option<Timestamp>,
    /// From where it counts; from everywhere when empty.
    pub allowed_ips: Vec<Network>,
    /// The id of the key whose place it took.
    pub rotated_from: Option<String>,
    /// The id of the key that took its place.
    pub replaced_by: Option<String>,
}

impl KeyRow {
    /// What the keyring is told of it.
    pub(super) fn facts(&self, tenant: Tenant, proof: Proof) -> KeyFacts {
        KeyFacts {
            id: self.id.clone(),
            tenant,
            proof,
            scopes: self.scopes.clone(),
            expires_at: self.expires_at,
            allowed_ips: self.allowed_ips.clone(),
            test: self.test,
        }
    }
}
