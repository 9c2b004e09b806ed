//! Every usable key, in memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use uuid::Uuid;

use super::{ApiKey, KeyHasher, Mac, Proof, Scopes};
use crate::clock::Timestamp;
use crate::limits::{KeyRequests, Limits, TenantLimits};
use crate::net::Network;

/// The tenant behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tenant {
    /// Row number, used inside.
    pub no: i64,
    /// Public id.
    pub id: Uuid,
}

/// The end of what has none.
const NEVER: i64 = i64::MAX;

/// What the keyring is told of a key.
#[derive(Clone, Debug)]
pub struct KeyFacts {
    /// Public id, as in the key's text.
    pub id: String,
    /// Whose it is.
    pub tenant: Tenant,
    /// Proves the key.
    pub proof: Proof,
    /// What it may do.
    pub scopes: Scopes,
    /// When it stops counting.
    pub expires_at: Option<Timestamp>,
    /// From where it counts; from everywhere when empty.
    pub allowed_ips: Vec<Network>,
    /// Whether its model calls go to the built-in echo model.
    pub test: bool,
}

/// A key that has not been revoked.
#[derive(Debug)]
pub struct KeyEntry {
    /// Public id, as in the key's text.
    pub id: String,
    /// Whose it is.
    pub tenant: Tenant,
    /// Proves the key; nothing proves what no key is presented for.
    proof: Option<Proof>,
    /// Its MAC with the secret that counts, where `proof` is by the one before:
    /// once it has been used.
    renewed: OnceLock<Mac>,
    /// Whether the row has that MAC.
    renewal_written: AtomicBool,
    /// What it may do.
    pub scopes: Scopes,
    /// When it stops counting; [`NEVER`] when nothing ends it.
    ends_at: AtomicI64,
    allowed_ips: Vec<Network>,
    /// Whether its model calls go to the built-in echo model and cost nothing.
    pub test: bool,
    /// What its tenant may use.
    pub(super) limits: Arc<TenantLimits>,
    pub(super) requests: KeyRequests,
    /// Whether the tenant is suspended.
    suspended: Arc<AtomicBool>,
    /// Set when the key is taken away, for what it has opened and still uses.
    removed: AtomicBool,
    last_used: AtomicI64,
    written_used: AtomicI64,
}

impl KeyEntry {
    fn local(tenant: Tenant, limits: Arc<TenantLimits>) -> Self {
        Self {
            id: "local".into(),
            tenant,
            proof: None,
            renewed: OnceLock::new(),
            renewal_written: AtomicBool::new(false),
            scopes: Scopes::all(),
            test: false,
            ends_at: AtomicI64::new(NEVER),
            allowed_ips: Vec::new(),
            limits,
            requests: KeyRequests::default(),
            suspended: Arc::default(),
            removed: AtomicBool::new(false),
            last_used: AtomicI64::new(0),
            written_used: AtomicI64::new(0),
        }
    }

    /// Whether a presented key with these MACs is this one. What is proven by the
    /// secret before is from then on by the one that counts.
    pub(super) fn is_proven(&self, hasher: &KeyHasher, mac: &Mac, before: Option<&Mac>) -> bool {
        match (self.proof, self.renewed.get()) {
            (Some(Proof::Now(own)), _) => hasher.same(mac, &own),
            (Some(Proof::Before(_)), Some(own)) => hasher.same(mac, own),
            (Some(Proof::Before(own)), None) => {
                let proven = before.is_some_and(|before| hasher.same(before, &own));
                if proven {
                    let _ = self.renewed.set(*mac);
                }
                proven
            }
            (None, _) => false,
        }
    }

    pub(super) fn used(&self, now: Timestamp) {
        self.last_used.store(now.micros(), Ordering::Relaxed);
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Relaxed)
    }

    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        now.micros() >= self.ends_at.load(Ordering::Relaxed)
    }

    /// Whether it counts when it is presented from there.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        self.allowed_ips.is_empty() || self.allowed_ips.iter().any(|network| network.contains(address))
    }

    /// Whether it still counts at `now`.
    #[must_use]
    pub fn counts(&self, now: Timestamp) -> bool {
        !self.is_expired(now) && !self.is_suspended() && !self.removed.load(Ordering::Relaxed)
    }

    /// When it was last used by this process, if it was.
    #[must_use]
    pub fn last_used(&self) -> Option<Timestamp> {
        let micros = self.last_used.load(Ordering::Relaxed);
        (micros > 0).then(|| Timestamp::from_micros(micros))
    }
}

/// The keys. Changed only by `tenants`, in step with the database.
pub struct Keyring {
    inner: RwLock<Inner>,
    limits: Arc<Limits>,
}

#[derive(Debug, Default)]
struct Inner {
    keys: HashMap<String, Arc<KeyEntry>>,
    /// The single key of the configuration, which has no form of its own.
    legacy: Option<Arc<KeyEntry>>,
    suspended: HashMap<i64, Arc<AtomicBool>>,
    /// Every tenant, with what the local administrator acts for it with, made
    /// when it is first needed.
    tenants: HashMap<Uuid, (i64, Option<Arc<KeyEntry>>)>,
}

impl Keyring {
    /// A keyring without keys.
    #[must_use]
    pub fn new(limits: Arc<Limits>) -> Self {
        Self { inner: RwLock::default(), limits }
    }

    /// Adds a key.
    pub fn add(&self, key: KeyFacts) {
        let limits = self.limits.of(key.tenant.no);
        let mut inner = self.write();
        let entry = inner.entry(key, limits);
        inner.keys.insert(entry.id.clone(), entry);
    }

    /// Sets the single key of the configuration.
    pub fn set_legacy(&self, tenant: Tenant, mac: Mac) {
        let key = KeyFacts {
            id: "legacy".into(),
            tenant,
            proof: Proof::Now(mac),
            scopes: Scopes::all(),
            expires_at: None,
            allowed_ips: Vec::new(),
            test: false,
        };
        let limits = self.limits.of(tenant.no);
        let mut inner = self.write();
        let entry = inner.entry(key, limits);
        if let Some(old) = inner.legacy.replace(entry) {
            old.removed.store(true, Ordering::Relaxed);
        }
    }

    /// Takes the single key of the configuration away.
    pub fn remove_legacy(&self) {
        if let Some(old) = self.write().legacy.take() {
            old.removed.store(true, Ordering::Relaxed);
        }
    }

    /// Lets a key end at a moment, if nothing ends it before.
    pub fn end_at(&self, id: &str, end: Timestamp) {
        if let Some(entry) = self.get(id) {
            entry.ends_at.fetch_min(end.micros(), Ordering::Relaxed);
        }
    }

    /// Takes a key away.
    pub fn remove(&self, id: &str) {
        let removed = self.write().keys.remove(id);
        if let Some(entry) = removed {
            entry.removed.store(true, Ordering::Relaxed);
        }
    }

    /// Tells of a tenant, which may have no key.
    pub fn add_tenant(&self, tenant: Tenant) {
        let mut inner = self.write();
        inner.tenants.entry(tenant.id).or_insert((tenant.no, None));
    }

    /// What the local administrator acts for a tenant with; `None` when there
    /// is no such tenant. No presented key finds it, and it counts while the
    /// tenant is suspended: work that is held up can still be looked at and
    /// cancelled.
    pub(super) fn local(&self, id: Uuid) -> Option<Arc<KeyEntry>> {
        let mut inner = self.write();
        let (no, made) = inner.tenants.get_mut(&id)?;
        let make = || Arc::new(KeyEntry::local(Tenant { no: *no, id }, self.limits.of(*no)));
        let entry = made.get_or_insert_with(make);
        Some(entry.clone())
    }

    /// Takes all keys of a tenant away.
    pub fn remove_tenant(&self, no: i64) {
        let mut inner = self.write();
        inner.keys.retain(|_, entry| {
            let other = entry.tenant.no != no;
            entry.removed.store(!other, Ordering::Relaxed);
            other
        });
        if let Some(entry) = inner.legacy.take_if(|entry| entry.tenant.no == no) {
            entry.removed.store(true, Ordering::Relaxed);
        }
        inner.suspended.remove(&no);
        inner.tenants.retain(|_, (other, made)| {
            if let Some(entry) = made.as_ref().filter(|_| *other == no) {
                entry.removed.store(true, Ordering::Relaxed);
            }
            *other != no
        });
    }

    /// Suspends a tenant's keys, or lets them count again.
    pub fn set_suspended(&self, no: i64, suspended: bool) {
        let mut inner = self.write();
        inner.suspension(no).store(suspended, Ordering::Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry for a presented key; it has still to be proven.
    pub(super) fn find(&self, presented: &str) -> Option<Arc<KeyEntry>> {
        let inner = self.read();
        match ApiKey::public_id(presented) {
            Some(id) => inner.keys.get(id).cloned(),
            None => inner.legacy.clone(),
        }
    }

    /// A key by its id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<KeyEntry>> {
        self.read().keys.get(id).cloned()
    }

    /// Keys that have been proven by the secret before and whose rows do not have
    /// their new MAC yet.
    #[must_use]
    pub fn renewed(&self) -> Vec<(String, Mac)> {
        let inner = self.read();
        let waits = |entry: &&Arc<KeyEntry>| !entry.renewal_written.load(Ordering::Relaxed);
        let renewed = inner.keys.values().filter(waits);
        renewed.filter_map(|entry| Some((entry.id.clone(), *entry.renewed.get()?))).collect()
    }

    /// Tells that the rows of these keys have their new MACs; how many keys are
    /// left that only the secret before proves.
    pub fn renewals_written(&self, ids: &[(String, Mac)]) -> usize {
        let inner = self.read();
        for entry in ids.iter().filter_map(|(id, _)| inner.keys.get(id)) {
            entry.renewal_written.store(true, Ordering::Relaxed);
        }
        let only_before = |entry: &&Arc<KeyEntry>| {
            matches!(entry.proof, Some(Proof::Before(_))) && !entry.renewal_written.load(Ordering::Relaxed)
        };
        inner.keys.values().filter(only_before).count()
    }

    /// Keys used since they were last asked for here, with the moment.
    #[must_use]
    pub fn take_used(&self) -> Vec<(String, Timestamp)> {
        let inner = self.read();
        let used = inner.keys.values().filter_map(|entry| {
            let last = entry.last_used.load(Ordering::Relaxed);
            let written = entry.written_used.swap(last, Ordering::Relaxed);
            (last != written).then(|| (entry.id.clone(), Timestamp::from_micros(last)))
        });
        used.collect()
    }
}

impl Inner {
    fn entry(&mut self, key: KeyFacts, limits: Arc<TenantLimits>) -> Arc<KeyEntry> {
        Arc::new(KeyEntry {
            suspended: self.suspension(key.tenant.no),
            id: key.id,
            tenant: key.tenant,
            proof: Some(key.proof),
            renewed: OnceLock::new(),
            renewal_written: AtomicBool::new(false),
            scopes: key.scopes,
            allowed_ips: key.allowed_ips,
            test: key.test,
            ends_at: AtomicI64::new(key.expires_at.map_or(NEVER, Timestamp::micros)),
            limits,
            requests: KeyRequests::default(),
            removed: AtomicBool::new(false),
            last_used: AtomicI64::new(0),
            written_used: AtomicI64::new(0),
        })
    }

    fn suspension(&mut self, no: i64) -> Arc<AtomicBool> {
        self.suspended.entry(no).or_default().clone()
    }
}
