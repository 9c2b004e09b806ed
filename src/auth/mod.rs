//! Who is calling, and what they may do.
//!
//! The keyring holds every usable key in memory, so a request is authenticated
//! without the database; `tenants`, which owns the keys' rows, keeps it in step
//! before it answers. Handlers name their authorisation in their signature:
//! `Admin`, `Operator`, `SignedIn`,
//! `Caller`, `MetricsReader`, `OnThisMachine`.

mod admin;
mod caller;
mod hasher;
mod key;
mod keyring;
mod local;
mod role;
mod scope;
mod sessions;
mod throttle;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

pub use admin::{Admin, OnThisMachine, Operator, Presented, SignedIn, set_cookie, too_many_attempts};
pub use caller::{Caller, MetricsReader};
pub use hasher::{KeyHasher, Mac, Mark, Proof};
pub use key::ApiKey;
pub(crate) use key::prefix as key_prefix;
pub use keyring::{KeyEntry, KeyFacts, Keyring, Tenant};
pub use role::Role;
pub use scope::{JobsRead, JobsWrite, ModelsUse, Scope, ScopeName, Scopes, UsageRead};
pub use sessions::{IDLE, LONGEST, Session, SessionToken, Sessions};
pub use throttle::Throttle;

use crate::clock::{Clock, Timestamp};
use crate::http::cors::Cors;
use crate::limits::Limits;

/// Everything that the extractors consult. One per process, behind an `Arc`.
pub struct Auth {
    /// Keys of tenants.
    pub keyring: Arc<Keyring>,
    /// Where people are signed in.
    pub sessions: Arc<Sessions>,
    hasher: KeyHasher,
    clock: Clock,
    /// Whether the service speaks TLS.
    secure: bool,
    admin: RwLock<Mac>,
    metrics_token: RwLock<Option<Mac>>,
    throttle: Throttle,
    limits: Arc<Limits>,
    cors: Arc<Cors>,
}

impl Auth {
    /// `admin_key` and `metrics_token` are kept as their MACs only.
    #[must_use]
    pub fn new(
        hasher: KeyHasher,
        clock: Clock,
        limits: Arc<Limits>,
        cors: Arc<Cors>,
        admin_key: &str,
        metrics_token: Option<&str>,
        secure: bool,
    ) -> Self {
        Self {
            secure,
            keyring: Arc::new(Keyring::new(limits.clone())),
            admin: RwLock::new(hasher.mac(admin_key)),
            metrics_token: RwLock::new(metrics_token.map(|token| hasher.mac(token))),
            sessions: Arc::default(),
            throttle: Throttle::default(),
            hasher,
            clock,
            limits,
            cors,
        }
    }

    /// Sets what the administrator presents.
    pub fn set_admin_key(&self, key: &str) {
        *self.admin.write().unwrap_or_else(PoisonError::into_inner) = self.hasher.mac(key);
    }

    fn is_admin_key(&self, presented: &str) -> bool {
        let key = *self.admin.read().unwrap_or_else(PoisonError::into_inner);
        self.hasher.same(&self.hasher.mac(presented), &key)
    }

    /// Sets what may read the metrics from another machine.
    pub fn set_metrics_token(&self, token: Option<&str>) {
        let token = token.map(|token| self.hasher.mac(token));
        *self.metrics_token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    fn is_metrics_token(&self, presented: &str) -> bool {
        let token = *self.metrics_token.read().unwrap_or_else(PoisonError::into_inner);
        token.is_some_and(|token| self.hasher.same(&self.hasher.mac(presented), &token))
    }

    /// What tenants may use.
    #[must_use]
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Which web pages may call.
    #[must_use]
    pub fn cors(&self) -> &Arc<Cors> {
        &self.cors
    }

    /// What hashes keys.
    #[must_use]
    pub fn hasher(&self) -> &KeyHasher {
        &self.hasher
    }

    /// The entry of a key that counts now and there: known, proven, not expired,
    /// allowed from this address.
    fn authenticate(&self, presented: &str, from: IpAddr, now: Timestamp) -> Option<Arc<KeyEntry>> {
        // The MAC is computed whether or not the id is known, so that the time
        // taken does not tell.
        let (mac, before) = (self.hasher.mac(presented), self.hasher.mac_before(presented));
        let entry = self.keyring.find(presented)?;
        let proven = entry.is_proven(&self.hasher, &mac, before.as_ref());
        let valid = proven && !entry.is_expired(now) && entry.allows(from);
        valid.then(|| {
            entry.used(now);
            entry
        })
    }
}
