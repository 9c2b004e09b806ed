//! A tenant with a key that another room makes in a transaction of its own.

use uuid::Uuid;

use super::routes::checked_name;
use super::types::{Cohort, KeyRow, TenantRow};
use super::{NewKey, Tenants, sql};
use crate::auth::{ApiKey, Mac, Proof, Scopes};
use crate::clock::Timestamp;
use crate::db::{self, Tx};
use crate::http::Problem;

/// A tenant and its key before they are written.
pub struct FirstTenant {
    id: Uuid,
    name: String,
    key: NewKey,
    key_id: String,
    mac: Mac,
    mark: [u8; 8],
}

/// A tenant and its key as they were written.
pub struct MadeTenant {
    /// The tenant.
    pub tenant: TenantRow,
    key: KeyRow,
    mac: Mac,
}

impl Tenants {
    /// A tenant with a key that may do everything, to be written.
    ///
    /// # Errors
    /// 400 when it cannot have that name.
    pub fn prepare_first(&self, name: &str) -> Result<(FirstTenant, ApiKey), Problem> {
        let api_key = ApiKey::generate(false);
        let key = NewKey {
            name: "first key".into(),
            scopes: Scopes::all(),
            expires_at: None,
            test: false,
            allowed_ips: Vec::new(),
            rotated_from: None,
        };
        let hasher = self.auth.hasher();
        let first = FirstTenant {
            id: self.ids.next(),
            name: checked_name(name)?,
            key,
            key_id: api_key.id().to_owned(),
            mac: hasher.mac(api_key.reveal()),
            mark: hasher.mark(),
        };
        Ok((first, api_key))
    }

    /// Tells of a tenant that has been written: its key works from now on.
    pub fn made_first(&self, made: &MadeTenant) {
        let tenant = made.tenant.handle();
        self.auth.keyring.add_tenant(tenant);
        self.auth.keyring.add(made.key.facts(tenant, Proof::Now(made.mac)));
    }
}

impl FirstTenant {
    /// Writes it. [`Tenants::made_first`] is told after the commit.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn write(&self, tx: &Tx<'_>, now: Timestamp) -> Result<MadeTenant, db::Error> {
        let tenant = sql::insert(tx, self.id, &self.name, Cohort::default(), now)?;
        let key = sql::insert_key(tx, tenant.no, &self.key_id, &self.key, &self.mac, self.mark, now)?;
        Ok(MadeTenant { tenant, key, mac: self.mac })
    }
}
