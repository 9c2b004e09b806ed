//! Another master key in the place of the one that counts. At each moment there
//! is a file with the key that the database is sealed with.

use std::sync::Arc;

use super::choice::Fault;
use super::key::{Key, KeyId};
use super::sealed;
use super::{Inner, Vault, kept, kept_file, next_file, promote, sql};
use crate::db::{self, Tx};

/// A change of the master key.
#[derive(Clone, Copy, Debug)]
pub struct Rotated {
    /// The key before.
    pub from: KeyId,
    /// The key now.
    pub to: KeyId,
    /// How many secrets were sealed anew.
    pub secrets: usize,
}

/// Why the master key was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// Somebody else keeps it.
    #[error("the master key is configured (data.master_key), so the service cannot change it by itself")]
    Configured,
    /// A secret cannot be opened, a file not be written, the database failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Vault {
    /// Makes a new master key and seals everything anew. Must not be dropped in the
    /// middle; were it, the next start would complete it.
    ///
    /// # Errors
    /// When the key is configured, or something fails; then the one before counts,
    /// or the new one lies beside it and is found at the next start.
    pub async fn rotate(&self) -> Result<Rotated, RotateError> {
        let inner = &self.0;
        if inner.data.master_key.is_set() {
            return Err(RotateError::Configured);
        }
        let _alone = inner.rotating.lock().await;
        let from = inner.settle().await?;
        let key = Key::generate().map_err(|fault| Fault::File(format!("a new master key {fault}")))?;
        let (key, next) = (Arc::new(key), next_file(&inner.data.dir));
        let unwritten = |error: std::io::Error| {
            Fault::File(format!("the secret {} cannot be written: {error}", next_file(&inner.data.dir).display()))
        };
        kept::write(&next, &key.reveal()).map_err(unwritten)?;
        let secrets = inner.seal_anew(key.clone()).await?;
        kept::rename(&next, &kept_file(&inner.data.dir)).map_err(unwritten)?;
        let rotated = Rotated { from, to: key.id(), secrets };
        tracing::info!(from = %rotated.from, to = %rotated.to, secrets, "audit: the master key was changed");
        Ok(rotated)
    }
}

impl Inner {
    /// The key that the database is sealed with, in its own file: a change before
    /// may have failed at its last step.
    async fn settle(&self) -> Result<KeyId, Fault> {
        let wanted = self.db.read(sql::key_id).await?;
        let next = kept::read(&next_file(&self.data.dir)).map_err(Fault::File)?;
        if next.and_then(|text| Key::parse(&text).ok()).is_some_and(|next| Some(next.id()) == wanted) {
            promote(&self.data)?;
        }
        wanted.ok_or_else(|| Fault::Database(db::Error::Sql("the database has no master key".into())))
    }

    /// Seals everything with `to`, in one transaction; how many secrets.
    pub(super) async fn seal_anew(&self, to: Arc<Key>) -> Result<usize, Fault> {
        // From here on it may be found in the database.
        self.ring.add(to.clone());
        let ring = self.ring.clone();
        let work = move |tx: &Tx<'_>| {
            let mut all = Vec::new();
            for (name, sealed) in sql::all(tx)? {
                match sealed::open(|id| ring.get(id), &name, &sealed) {
                    Ok(plain) => all.push((name, plain)),
                    Err(what) => {
                        return Ok(Err(Fault::Unsealable { name: name.to_string(), what: what.to_string() }));
                    }
                }
            }
            tx.overwriting(|| {
                for (name, plain) in &all {
                    sql::put(tx, name, &sealed::seal(&to, name, plain.reveal())?)?;
                }
                // Beside the secrets there is the mark of the key.
                Ok(Ok(all.len().saturating_sub(1)))
            })
        };
        self.db.write(work).await?
    }
}
