//! What may be spent: read at start, set by the administrator, and in memory
//! before the setting is answered.

use std::sync::Arc;

use super::ledger::Ledger;
use super::types::TenantBudget;
use super::{Budgets, Inner, sql};
use crate::db::{self, Tx};
use crate::money::Usd;
use crate::tenants;

/// Every limit that somebody has set.
pub(super) struct Limits {
    tenants: Vec<(i64, TenantBudget)>,
    keys: Vec<(i64, Arc<str>, Usd)>,
}

pub(super) fn read_all(tx: &Tx<'_>) -> Result<Limits, db::Error> {
    Ok(Limits { tenants: sql::tenant_budgets(tx)?, keys: sql::key_budgets(tx)? })
}

impl Limits {
    pub fn put_into(self, ledger: &mut Ledger) {
        for (tenant, budget) in self.tenants {
            ledger.set_budget(tenant, budget);
        }
        for (tenant, key, total) in self.keys {
            ledger.set_key_limit(tenant, &key, Some(total));
        }
    }
}

impl Inner {
    /// Tells whoever waits for money that a budget is another now.
    pub(super) fn changed(&self) {
        if let Some(told) = self.on_change.get() {
            told(());
        }
    }
}

impl Budgets {
    /// What a tenant may spend, by its public id; `None` when there is none.
    pub(super) async fn tenant_budget(&self, id: String) -> Result<Option<TenantBudget>, db::Error> {
        let read = move |tx: &Tx<'_>| {
            let Some(tenant) = tenants::find(tx, &id)? else { return Ok(None) };
            sql::tenant_budget(tx, tenant.no).map(Some)
        };
        self.0.db.read(read).await
    }

    /// Sets what a tenant may spend, which counts once this returns; whether
    /// there is such a tenant.
    pub(super) async fn set_tenant_budget(&self, id: String, budget: TenantBudget) -> Result<bool, db::Error> {
        let (inner, now) = (self.0.clone(), self.0.clock.now());
        let work = move |tx: &Tx<'_>| {
            let Some(tenant) = tenants::find(tx, &id)? else { return Ok(None) };
            sql::set_tenant_budget(tx, tenant.no, &budget, now)?;
            Ok(Some(tenant.no))
        };
        let after = move |found: &Option<i64>| {
            if let Some(tenant) = *found {
                inner.ledger().set_budget(tenant, budget);
                inner.changed();
            }
        };
        Ok(self.0.db.write_then(work, after).await?.is_some())
    }

    /// Gives the budget of a key to the one that takes its place, in the
    /// transaction that makes it.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn pass_on(&self, tx: &Tx<'_>, succession: &tenants::Succession) -> Result<(), db::Error> {
        let tenants::Succession { tenant, old, new } = succession;
        sql::pass_on_key_budget(tx, *tenant, old, new, self.0.clock.now())
    }

    /// The same in memory, after the commit.
    pub fn passed_on(&self, succession: &tenants::Succession) {
        let tenants::Succession { tenant, old, new } = succession;
        let mut ledger = self.0.ledger();
        let limit = ledger.key_limit(*tenant, &old.as_str().into());
        if limit.is_some() {
            ledger.set_key_limit(*tenant, &new.as_str().into(), limit);
        }
    }

    /// What may be spent with a key; `None` when there is no such key.
    pub(super) async fn key_budget(&self, id: String, key: String) -> Result<Option<Option<Usd>>, db::Error> {
        let read = move |tx: &Tx<'_>| {
            let Some(tenant) = tenants::find_with_key(tx, &id, &key)? else { return Ok(None) };
            sql::key_budget(tx, tenant, &key).map(Some)
        };
        self.0.db.read(read).await
    }

    /// Sets what may be spent with a key, which counts once this returns; whether
    /// there is such a key.
    pub(super) async fn set_key_budget(&self, id: String, key: String, total: Option<Usd>) -> Result<bool, db::Error> {
        let (inner, now) = (self.0.clone(), self.0.clock.now());
        let name: Arc<str> = key.as_str().into();
        let work = move |tx: &Tx<'_>| {
            let Some(tenant) = tenants::find_with_key(tx, &id, &key)? else { return Ok(None) };
            sql::set_key_budget(tx, tenant, &key, total, now)?;
            Ok(Some(tenant))
        };
        let after = move |found: &Option<i64>| {
            if let Some(tenant) = *found {
                inner.ledger().set_key_limit(tenant, &name, total);
                inner.changed();
            }
        };
        Ok(self.0.db.write_then(work, after).await?.is_some())
    }
}
