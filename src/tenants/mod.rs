//! Tenants and their API keys: made, changed, suspended and deleted by the
//! administrator. This room owns their rows and keeps the keyring of `auth` in
//! step with them before it answers.

mod first;
mod origins;
mod quota;
mod rotate;
mod routes;
mod sql;
mod types;
mod usage;

use std::sync::{Arc, OnceLock};

pub use first::{FirstTenant, MadeTenant};
pub use routes::routes;
pub use types::{Cohort, KeyRow, Status, TenantRow};

use crate::auth::{ApiKey, Auth, Mac, Proof, Scopes, Tenant};
use crate::clock::{Clock, Timestamp};
use crate::db::{self, Db, Tx};
use crate::http::idempotency::{Created, IdempotencyKey, Stored, once};
use crate::id::IdSource;
use crate::limits::Quota;
use crate::net::Network;

/// What `tenants` tells the rooms above it, on the writer's thread right after
/// the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The tenant's row number.
    pub tenant: i64,
    /// What it is now.
    pub status: Status,
    /// What it may use now.
    pub quota: Quota,
}

type Listener = Box<dyn Fn(Change) + Send + Sync>;

/// A key that takes the place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    /// The row number of the tenant of both.
    pub tenant: i64,
    /// The id of the old one.
    pub old: String,
    /// The id of the new one.
    pub new: String,
}

/// What hands over what others keep of a key: in the transaction of the
/// rotation, and right after its commit.
type Heirs =
    (Box<dyn Fn(&Tx<'_>, &Succession) -> Result<(), db::Error> + Send + Sync>, Box<dyn Fn(&Succession) + Send + Sync>);

/// The service. One per process, behind an `Arc`.
pub struct Tenants {
    db: Db,
    clock: Clock,
    ids: IdSource,
    auth: Arc<Auth>,
    listener: Arc<OnceLock<Listener>>,
    heirs: Arc<OnceLock<Heirs>>,
}

/// What is asked of a new key.
struct NewKey {
    name: String,
    scopes: Scopes,
    expires_at: Option<Timestamp>,
    test: bool,
    allowed_ips: Vec<Network>,
    rotated_from: Option<String>,
}

/// What is to change about a tenant.
#[derive(Clone, Debug, Default)]
struct Update {
    name: Option<String>,
    status: Option<Status>,
    cohort: Option<Cohort>,
}

/// What was loaded at start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Keys that can be used.
    pub keys: usize,
    /// Those of them that only the key-hash secret before proves.
    pub before: usize,
    /// Keys that were made with another key-hash secret and cannot be proven.
    pub unusable: usize,
}

impl Tenants {
    /// The service over a database.
    #[must_use]
    pub fn new(db: Db, clock: Clock, ids: IdSource, auth: Arc<Auth>) -> Self {
        Self { db, clock, ids, auth, listener: Arc::default(), heirs: Arc::default() }
    }

    /// Who is told of every change of a tenant's status or quota. Set once, by `app`.
    pub fn on_change(&self, listener: impl Fn(Change) + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    /// Who hands over what it keeps of a key that is rotated: in the transaction,
    /// and on the writer's thread after the commit. Set once, by `app`.
    pub fn on_rotation(
        &self,
        within: impl Fn(&Tx<'_>, &Succession) -> Result<(), db::Error> + Send + Sync + 'static,
        after: impl Fn(&Succession) + Send + Sync + 'static,
    ) {
        let _ = self.heirs.set((Box::new(within), Box::new(after)));
    }

    /// Fills the keyring from the database and, when a single legacy key is
    /// configured, gives it the default tenant to act for.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub async fn load(&self, legacy_key: Option<&str>) -> Result<Loaded, db::Error> {
        let (tenants, keys) = self.db.read(|tx| Ok((sql::live(tx)?, sql::usable_keys(tx)?))).await?;
        for tenant in &tenants {
            self.auth.keyring.add_tenant(tenant.handle());
            self.auth.keyring.set_suspended(tenant.no, tenant.status == Status::Suspended);
        }
        self.load_quotas().await?;
        self.load_origins().await?;
        let mut loaded = Loaded::default();
        for key in keys {
            let Some(proof) = self.auth.hasher().proof(key.mac, key.row.secret_mark) else {
                loaded.unusable += 1;
                continue;
            };
            self.auth.keyring.add(key.row.facts(key.tenant, proof));
            loaded.keys += 1;
            loaded.before += usize::from(matches!(proof, Proof::Before(_)));
        }
        if let Some(key) = legacy_key {
            let tenant = self.default_tenant().await?;
            self.set_legacy(Some((tenant, key)));
        }
        Ok(loaded)
    }

    /// The tenant that the single legacy key acts for, made when it is not there.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn default_tenant(&self) -> Result<Tenant, db::Error> {
        let (id, now) = (self.ids.next(), self.clock.now());
        let tenant = self.db.write(move |tx| sql::ensure_default(tx, id, now)).await?;
        self.auth.keyring.add_tenant(tenant);
        Ok(tenant)
    }

    /// Sets the single legacy key and whom it acts for, or takes it away.
    pub fn set_legacy(&self, key: Option<(Tenant, &str)>) {
        match key {
            Some((tenant, key)) => self.auth.keyring.set_legacy(tenant, self.auth.hasher().mac(key)),
            None => self.auth.keyring.remove_legacy(),
        }
    }

    /// Deleted tenants whose rows have not all been cleared away.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn deleted(&self) -> Result<Vec<i64>, db::Error> {
        self.db.read(sql::deleted).await
    }

    /// Removes the last trace of a deleted tenant, once nothing refers to it.
    pub async fn forget(&self, tenant: i64) {
        if let Err(error) = self.db.write(move |tx| sql::forget(tx, tenant)).await {
            tracing::warn!(%error, tenant, "a deleted tenant is left for the next start");
        }
        // Jobs that ended since have counted for it again.
        self.auth.limits().remove(tenant);
    }

    /// Suspended tenants, whose jobs wait.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn suspended(&self) -> Result<Vec<i64>, db::Error> {
        let live = self.db.read(sql::live).await?;
        let suspended = live.into_iter().filter(|row| row.status == Status::Suspended);
        Ok(suspended.map(|row| row.no).collect())
    }

    /// Writes when keys were last used, all of them at once, and what was hashed
    /// anew because the key-hash secret has changed.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn flush_last_used(&self) -> Result<(), db::Error> {
        self.flush_renewed().await?;
        let used = self.auth.keyring.take_used();
        if used.is_empty() {
            return Ok(());
        }
        self.db.write(move |tx| used.iter().try_for_each(|(id, at)| sql::set_last_used(tx, id, *at))).await
    }

    async fn flush_renewed(&self) -> Result<(), db::Error> {
        let renewed = self.auth.keyring.renewed();
        if renewed.is_empty() {
            return Ok(());
        }
        let (mark, written) = (self.auth.hasher().mark(), renewed.clone());
        self.db.write(move |tx| renewed.iter().try_for_each(|(id, mac)| sql::renew_key(tx, id, mac, mark))).await?;
        let left = self.auth.keyring.renewals_written(&written);
        tracing::info!(keys = written.len(), left, "keys were used and hashed anew with the new key-hash secret");
        Ok(())
    }

    async fn create(
        &self,
        name: String,
        key: Option<IdempotencyKey>,
        answer: impl Fn(&TenantRow) -> Stored + Send + 'static,
    ) -> Result<Created<TenantRow>, db::Error> {
        let (id, now) = (self.ids.next(), self.clock.now());
        let work = move |tx: &db::Tx<'_>| {
            once(tx, key.as_ref(), now, &answer, || sql::insert(tx, id, &name, Cohort::default(), now).map(Some))
        };
        let keyring = self.auth.keyring.clone();
        let after = move |made: &Option<Created<TenantRow>>| {
            if let Some(Created::New(row)) = made {
                keyring.add_tenant(row.handle());
            }
        };
        let created = self.db.write_then(work, after).await?;
        created.ok_or(db::Error::Closed)
    }

    async fn update(&self, id: String, update: Update) -> Result<Option<TenantRow>, db::Error> {
        let now = self.clock.now();
        let (auth, listener) = (self.auth.clone(), self.listener.clone());
        let work = move |tx: &db::Tx<'_>| sql::update(tx, &id, &update, now);
        let after = move |row: &Option<TenantRow>| {
            if let Some(row) = row {
                auth.keyring.set_suspended(row.no, row.status == Status::Suspended);
                let quota = auth.limits().quota(row.no);
                tell(&listener, Change { tenant: row.no, status: row.status, quota });
            }
        };
        self.db.write_then(work, after).await
    }

    async fn delete(&self, id: String) -> Result<bool, db::Error> {
        let now = self.clock.now();
        let (auth, listener) = (self.auth.clone(), self.listener.clone());
        let work = move |tx: &db::Tx<'_>| sql::mark_deleted(tx, &id, now);
        let after = move |tenant: &Option<i64>| {
            if let Some(tenant) = *tenant {
                auth.keyring.remove_tenant(tenant);
                auth.limits().remove(tenant);
                auth.cors().set(tenant, Vec::new());
                tell(&listener, Change { tenant, status: Status::Deleted, quota: Quota::default() });
            }
        };
        Ok(self.db.write_then(work, after).await?.is_some())
    }

    async fn create_key(
        &self,
        tenant_id: String,
        new: NewKey,
        key: Option<IdempotencyKey>,
        answer: impl Fn(&KeyRow) -> Stored + Send + 'static,
    ) -> Result<Option<(Created<KeyRow>, ApiKey)>, db::Error> {
        let api_key = ApiKey::generate(new.test);
        let mac = self.auth.hasher().mac(api_key.reveal());
        let mark = self.auth.hasher().mark();
        let (id, now) = (api_key.id().to_owned(), self.clock.now());
        let keyring = self.auth.keyring.clone();
        let work = move |tx: &db::Tx<'_>| {
            let Some(tenant) = sql::tenant_of(tx, &tenant_id)? else { return Ok(None) };
            let made = once(tx, key.as_ref(), now, &answer, || {
                sql::insert_key(tx, tenant.no, &id, &new, &mac, mark, now).map(Some)
            })?;
            Ok(made.map(|created| (created, tenant)))
        };
        let after = move |made: &Option<(Created<KeyRow>, Tenant)>| {
            if let Some((Created::New(row), tenant)) = made {
                keyring.add(row.facts(*tenant, Proof::Now(mac)));
            }
        };
        let made = self.db.write_then(work, after).await?;
        Ok(made.map(|(created, _)| (created, api_key)))
    }

    async fn revoke_key(&self, tenant_id: String, key_id: String) -> Result<Option<KeyRow>, db::Error> {
        let now = self.clock.now();
        let keyring = self.auth.keyring.clone();
        let work = move |tx: &db::Tx<'_>| sql::revoke_key(tx, &tenant_id, &key_id, now);
        let after = move |row: &Option<KeyRow>| {
            if let Some(row) = row {
                keyring.remove(&row.id);
            }
        };
        self.db.write_then(work, after).await
    }

    /// What a key is worth now.
    fn key_state(&self, row: &KeyRow) -> &'static str {
        if row.revoked_at.is_some() {
            "revoked"
        } else if row.expires_at.is_some_and(|end| self.clock.now() >= end) {
            "expired"
        } else if self.auth.hasher().proof(Mac::default(), row.secret_mark).is_none() {
            "unusable"
        } else {
            "active"
        }
    }

    /// The later of what is on disk and what the keyring knows.
    fn last_used(&self, row: &KeyRow) -> Option<Timestamp> {
        let fresh = self.auth.keyring.get(&row.id).and_then(|entry| entry.last_used());
        row.last_used_at.max(fresh)
    }
}

/// The tenant with this public id, for the transaction of a room above.
///
/// # Errors
/// When the database cannot be read.
pub fn find(tx: &db::Tx<'_>, id: &str) -> Result<Option<Tenant>, db::Error> {
    sql::tenant_of(tx, id)
}

/// The row number of the tenant with this public id and a key with that one,
/// for the transaction of a room above.
///
/// # Errors
/// When the database cannot be read.
pub fn find_with_key(tx: &db::Tx<'_>, id: &str, key_id: &str) -> Result<Option<i64>, db::Error> {
    let Some(tenant) = sql::tenant_of(tx, id)? else { return Ok(None) };
    Ok(sql::get_key(tx, id, key_id)?.map(|_| tenant.no))
}

fn tell(listener: &OnceLock<Listener>, change: Change) {
    if let Some(listener) = listener.get() {
        listener(change);
    }
}

/// A key as the keyring needs it.
struct UsableKey {
    row: KeyRow,
    tenant: Tenant,
    mac: Mac,
}
