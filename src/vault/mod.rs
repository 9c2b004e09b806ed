//! Secrets that the service has to give back, sealed at rest: private keys,
//! credentials with others. The master key that seals them is not in the
//! database, so a copy of the database gives none of them away. See
//! docs/decisions/0032.
//!
//! What only has to be recognised, as API keys and passwords, is hashed instead.

mod choice;
mod examine;
pub mod kept;
mod key;
mod ring;
mod rotate;
mod sealed;
mod sql;

use std::sync::Arc;

pub use choice::{Fault, MASTER_KEY};
pub use examine::{Standing, examine};
pub use key::{Key, KeyFault, KeyId};
pub use rotate::{RotateError, Rotated};
pub use sealed::{Plain, SecretName, Unsealable};
pub use sql::{forget, key_id, needed_key};

use crate::config::DataSection;
use crate::db::{self, Db, Tx};
use choice::{Choice, Keys, kept_file, next_file};
use ring::Ring;

/// What the row `check` holds.
const CHECK: &[u8] = b"agentd";

/// The vault. Clones share it.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    db: Db,
    data: DataSection,
    ring: Ring,
    /// Held while the master key is changed.
    rotating: tokio::sync::Mutex<()>,
}

impl Vault {
    /// Finds the master key that the database belongs to; where nothing is sealed
    /// yet and none is configured, makes one. When it has been given another
    /// beside it, seals everything anew.
    ///
    /// # Errors
    /// When the key is missing or wrong. None is made then.
    pub async fn open(db: &Db, data: &DataSection) -> Result<Self, Fault> {
        let (wanted, was_configured) = db.read(|tx| Ok((needed_key(tx)?, sql::was_configured(tx)?))).await?;
        let make = || -> Result<Key, Fault> {
            let key = Key::generate().map_err(|fault| Fault::File(format!("a new master key {fault}")))?;
            kept::make(&kept_file(&data.dir), &key.reveal()).map_err(Fault::File)?;
            Ok(key)
        };
        let (key, from) = match Keys::look(data)?.choose(wanted, &data.dir)? {
            Choice::Use(key) => (key, None),
            Choice::Make => (make()?, None),
            Choice::Promote(key) => {
                promote(data)?;
                (key, None)
            }
            Choice::Change { from, to } => (to.map_or_else(make, Ok)?, Some(from)),
        };
        let (key, from) = (Arc::new(key), from.map(Arc::new));
        let ring = Ring::new([Some(key.clone()), from.clone()].into_iter().flatten());
        let vault =
            Self(Arc::new(Inner { db: db.clone(), data: data.clone(), ring, rotating: tokio::sync::Mutex::default() }));
        match (wanted, from) {
            (None, _) => vault.0.mark(key).await?,
            (Some(_), None) => vault.0.verify(&key).await?,
            (Some(_), Some(from)) => {
                let secrets = vault.0.seal_anew(key.clone()).await?;
                tracing::info!(
                    from = %from.id(), to = %key.id(), secrets,
                    "sealed everything anew with the master key; data.previous_master_key is not needed any more"
                );
            }
        }
        let configured = data.master_key.is_set();
        if configured != was_configured {
            db.write(move |tx| sql::set_configured(tx, configured)).await?;
        }
        Ok(vault)
    }

    /// Seals a secret and writes it. In a transaction, because the master key may
    /// be changed at any time: the database says which one counts.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put(&self, tx: &Tx<'_>, name: &SecretName, plain: &[u8]) -> Result<(), db::Error> {
        let key = key_id(tx)?.and_then(|id| self.0.ring.get(id));
        let key = key.ok_or_else(|| db::Error::Sql("the master key of the database is not here".into()))?;
        sql::put(tx, name, &sealed::seal(&key, name, plain)?)
    }

    /// A secret, opened; `None` where there is none.
    ///
    /// # Errors
    /// When the database cannot be read. That a secret cannot be opened is for
    /// the caller to judge.
    pub fn get(&self, tx: &Tx<'_>, name: &SecretName) -> Result<Option<Result<Plain, Unsealable>>, db::Error> {
        let sealed = sql::get(tx, name)?;
        Ok(sealed.map(|sealed| sealed::open(|id| self.0.ring.get(id), name, &sealed)))
    }

    /// Takes a secret away.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn remove(&self, tx: &Tx<'_>, name: &SecretName) -> Result<(), db::Error> {
        sql::remove(tx, name)
    }
}

impl Inner {
    /// Lets the database know its master key.
    async fn mark(&self, key: Arc<Key>) -> Result<(), Fault> {
        let work = move |tx: &Tx<'_>| {
            let name = SecretName::check();
            sql::put(tx, &name, &sealed::seal(&key, &name, CHECK)?)
        };
        Ok(self.db.write(work).await?)
    }

    /// Whether the key opens what it should.
    async fn verify(&self, key: &Key) -> Result<(), Fault> {
        let name = SecretName::check();
        let sealed = self.db.read(move |tx| sql::get(tx, &name)).await?;
        let opened = sealed.map(|sealed| sealed::open(|id| self.ring.get(id), &SecretName::check(), &sealed));
        match opened {
            Some(Ok(plain)) if plain.reveal() == CHECK => Ok(()),
            _ => Err(Fault::Damaged(key.id())),
        }
    }
}

/// Ends a change of the key that was cut short before its last step.
fn promote(data: &DataSection) -> Result<(), Fault> {
    let path = kept_file(&data.dir);
    let moved = kept::rename(&next_file(&data.dir), &path);
    moved.map_err(|error| Fault::File(format!("the secret {} cannot be written: {error}", path.display())))?;
    tracing::warn!(path = %path.display(), "a change of the master key had been cut short; it is complete now");
    Ok(())
}

#[cfg(test)]
mod tests;
