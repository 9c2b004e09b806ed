//! Who is calling, and what they may do.
//!
//! The keyring holds every usable key in memory, so a request is authenticated
//! without the database; `tenants`, which owns the keys' rows, keeps it in step
//! before it answers. Handlers name their authorisation in their signature:
//! `Admin`, `Caller`, `MetricsReader`.

mod caller;
mod hasher;
mod key;
mod keyring;
mod scope;
mod throttle;

use std::sync::Arc;

pub use caller::{Admin, Caller, MetricsReader};
pub use hasher::{KeyHasher, Mac};
pub use key::ApiKey;
pub(crate) use key::prefix as key_prefix;
pub use keyring::{KeyEntry, Keyring, Tenant};
pub use scope::{JobsRead, JobsWrite, Scope, Scopes};

use crate::clock::Clock;

/// Everything that the extractors consult. One per process, behind an `Arc`.
pub struct Auth {
    /// Keys of tenants.
    pub keyring: Arc<Keyring>,
    hasher: KeyHasher,
    clock: Clock,
    admin: Mac,
    metrics_token: Option<Mac>,
    throttle: throttle::Throttle,
}

impl Auth {
    /// `admin_key` and `metrics_token` are kept as their MACs only.
    #[must_use]
    pub fn new(hasher: KeyHasher, clock: Clock, admin_key: &str, metrics_token: Option<&str>) -> Self {
        Self {
            keyring: Arc::default(),
            admin: hasher.mac(admin_key),
            metrics_token: metrics_token.map(|token| hasher.mac(token)),
            throttle: throttle::Throttle::default(),
            hasher,
            clock,
        }
    }

    /// What hashes keys.
    #[must_use]
    pub fn hasher(&self) -> &KeyHasher {
        &self.hasher
    }

    /// The entry of a key that counts now: known, proven, not expired.
    fn authenticate(&self, presented: &str) -> Option<Arc<KeyEntry>> {
        // The MAC is computed whether or not the id is known, so that the time
        // taken does not tell.
        let mac = self.hasher.mac(presented);
        let entry = self.keyring.find(presented)?;
        let proven = self.hasher.same(&mac, &entry.mac);
        let now = self.clock.now();
        let valid = proven && entry.expires_at.is_none_or(|end| now < end);
        valid.then(|| {
            entry.used(now);
            entry
        })
    }
}
