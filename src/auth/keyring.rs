//! Every usable key, in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use uuid::Uuid;

use super::{ApiKey, Mac, Scopes};
use crate::clock::Timestamp;

/// The tenant behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tenant {
    /// Row number, used inside.
    pub no: i64,
    /// Public id.
    pub id: Uuid,
}

/// A key that has not been revoked.
#[derive(Debug)]
pub struct KeyEntry {
    /// Public id, as in the key's text.
    pub id: String,
    /// Whose it is.
    pub tenant: Tenant,
    /// Proves the key.
    pub mac: Mac,
    /// What it may do.
    pub scopes: Scopes,
    /// When it stops counting.
    pub expires_at: Option<Timestamp>,
    /// Whether the tenant is suspended.
    suspended: Arc<AtomicBool>,
    /// Set when the key is taken away, for what it has opened and still uses.
    removed: AtomicBool,
    last_used: AtomicI64,
    written_used: AtomicI64,
}

impl KeyEntry {
    pub(super) fn used(&self, now: Timestamp) {
        self.last_used.store(now.micros(), Ordering::Relaxed);
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Relaxed)
    }

    /// Whether it still counts at `now`.
    #[must_use]
    pub fn counts(&self, now: Timestamp) -> bool {
        let expired = self.expires_at.is_some_and(|end| now >= end);
        !expired && !self.is_suspended() && !self.removed.load(Ordering::Relaxed)
    }

    /// When it was last used by this process, if it was.
    #[must_use]
    pub fn last_used(&self) -> Option<Timestamp> {
        let micros = self.last_used.load(Ordering::Relaxed);
        (micros > 0).then(|| Timestamp::from_micros(micros))
    }
}

/// The keys. Changed only by `tenants`, in step with the database.
#[derive(Debug, Default)]
pub struct Keyring(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    keys: HashMap<String, Arc<KeyEntry>>,
    /// The single key of the configuration, which has no form of its own.
    legacy: Option<Arc<KeyEntry>>,
    suspended: HashMap<i64, Arc<AtomicBool>>,
}

impl Keyring {
    /// Adds a key.
    pub fn add(&self, id: &str, tenant: Tenant, mac: Mac, scopes: Scopes, expires_at: Option<Timestamp>) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let entry = inner.entry(id, tenant, mac, scopes, expires_at);
        inner.keys.insert(id.to_owned(), entry);
    }

    /// Sets the single key of the configuration.
    pub fn set_legacy(&self, tenant: Tenant, mac: Mac) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let entry = inner.entry("legacy", tenant, mac, Scopes::all(), None);
        inner.legacy = Some(entry);
    }

    /// Takes a key away.
    pub fn remove(&self, id: &str) {
        let removed = self.0.write().unwrap_or_else(PoisonError::into_inner).keys.remove(id);
        if let Some(entry) = removed {
            entry.removed.store(true, Ordering::Relaxed);
        }
    }

    /// Takes all keys of a tenant away.
    pub fn remove_tenant(&self, no: i64) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        inner.keys.retain(|_, entry| {
            let other = entry.tenant.no != no;
            entry.removed.store(!other, Ordering::Relaxed);
            other
        });
        if let Some(entry) = inner.legacy.take_if(|entry| entry.tenant.no == no) {
            entry.removed.store(true, Ordering::Relaxed);
        }
        inner.suspended.remove(&no);
    }

    /// Suspends a tenant's keys, or lets them count again.
    pub fn set_suspended(&self, no: i64, suspended: bool) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        inner.suspension(no).store(suspended, Ordering::Relaxed);
    }

    /// The entry for a presented key; it has still to be proven.
    pub(super) fn find(&self, presented: &str) -> Option<Arc<KeyEntry>> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match ApiKey::public_id(presented) {
            Some(id) => inner.keys.get(id).cloned(),
            None => inner.legacy.clone(),
        }
    }

    /// A key by its id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<KeyEntry>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys.get(id).cloned()
    }

    /// Keys used since they were last asked for here, with the moment.
    #[must_use]
    pub fn take_used(&self) -> Vec<(String, Timestamp)> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let used = inner.keys.values().filter_map(|entry| {
            let last = entry.last_used.load(Ordering::Relaxed);
            let written = entry.written_used.swap(last, Ordering::Relaxed);
            (last != written).then(|| (entry.id.clone(), Timestamp::from_micros(last)))
        });
        used.collect()
    }
}

impl Inner {
    fn entry(
        &mut self,
        id: &str,
        tenant: Tenant,
        mac: Mac,
        scopes: Scopes,
        expires_at: Option<Timestamp>,
    ) -> Arc<KeyEntry> {
        Arc::new(KeyEntry {
            id: id.to_owned(),
            tenant,
            mac,
            scopes,
            expires_at,
            suspended: self.suspension(tenant.no),
            removed: AtomicBool::new(false),
            last_used: AtomicI64::new(0),
            written_used: AtomicI64::new(0),
        })
    }

    fn suspension(&mut self, no: i64) -> Arc<AtomicBool> {
        self.suspended.entry(no).or_default().clone()
    }
}
