//! A second host that has the newest backup at hand, tried out already, and
//! takes the place of the first one when it is told to.
//!
//! It fetches now and then what the first one sends to the bucket. Taking over
//! begins a new timeline, so that the first one, should it still be there, sees
//! that it has been replaced and sends nothing more.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{BackupError, io_at};
use super::fetch;
use super::keys::Keys;
use super::make::{Partial, clear};
use super::name::Name;
use super::restore::{self, How, Place, Restored, Wanted};
use crate::clock::Timestamp;
use crate::db::{FolderLock, LOCK, OpenError};
use crate::s3::Bucket;

/// The folder, in the data folder, of what was fetched.
const FOLDER: &str = "standby";
const FILE: &str = "pulled.json";

/// What is at hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pulled {
    /// The backup's name.
    pub name: String,
    /// When it was begun on the other host: what that wrote later is not in it.
    pub created_at: Timestamp,
    /// When it was fetched.
    pub pulled_at: Timestamp,
}

/// A standby in a data folder.
pub struct Standby {
    data: PathBuf,
    folder: PathBuf,
}

impl Standby {
    /// The one of a data folder.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        Self { data: data.into(), folder: data.join(FOLDER) }
    }

    /// What is at hand; `None` before the first time.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn pulled(&self) -> Result<Option<Pulled>, BackupError> {
        let path = self.folder.join(FILE);
        match fs::read(&path) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_at("cannot read", &path)(error)),
        }
    }

    /// Fetches the newest backup and tries it out, unless it is at hand; whether
    /// there was a newer one.
    ///
    /// # Errors
    /// When it could not be; what was at hand still is.
    pub async fn pull(
        &self,
        bucket: &Bucket,
        instance: Option<&str>,
        keys: &Keys,
        now: Timestamp,
    ) -> Result<(Pulled, bool), BackupError> {
        // Two at once would take each other's files away.
        let _alone = self.lock()?;
        let names = fetch::names(bucket, instance, now).await?;
        let newest = names.last().ok_or_else(|| BackupError::Refused("there is no backup".into()))?;
        let had = self.pulled()?;
        if let Some(had) = had.as_ref().filter(|had| had.name == newest.to_string()) {
            return Ok((had.clone(), false));
        }
        clear(&self.folder)?;
        let fetched = Partial::new(&self.folder, "fetched");
        fetch::fetch(bucket, newest, fetched.path()).await?;
        let manifest = restore::verify(fetched.path(), keys, &self.folder)?;
        let pulled = Pulled { name: newest.to_string(), created_at: manifest.created_at, pulled_at: now };
        restore::give(fetched.path(), restore::owner(&self.data)?)?;
        fetched.finish(&self.folder.join(&pulled.name))?;
        self.write(&pulled)?;
        if let Some(old) = had {
            let _ = fs::remove_file(self.folder.join(old.name));
        }
        Ok((pulled, true))
    }

    fn write(&self, pulled: &Pulled) -> Result<(), BackupError> {
        let partial = Partial::new(&self.folder, "pulled");
        let text = serde_json::to_vec(pulled).unwrap_or_default();
        fs::write(partial.path(), text).map_err(io_at("cannot write", partial.path()))?;
        restore::give(partial.path(), restore::owner(&self.data)?)?;
        partial.finish(&self.folder.join(FILE))
    }

    /// Whoever does it as root does it for the service's user, whose timer goes on.
    fn lock(&self) -> Result<FolderLock, BackupError> {
        let lock = FolderLock::acquire(&self.folder).map_err(|error| match error {
            OpenError::Locked { pid, .. } => BackupError::Refused(format!("process {pid} is fetching already")),
            other => other.into(),
        })?;
        let owner = restore::owner(&self.data)?;
        restore::give(&self.folder, owner)?;
        restore::give(&self.folder.join(LOCK), owner)?;
        Ok(lock)
    }

    /// Puts what is at hand in the place of the data.
    ///
    /// # Errors
    /// When nothing is at hand, or it could not be restored.
    pub fn promote(
        &self,
        keys: &Keys,
        place: &Place,
        how: How,
        now: Timestamp,
    ) -> Result<(Pulled, Restored), BackupError> {
        let pulled = self.pulled()?.ok_or_else(|| {
            BackupError::Refused(format!(
                "nothing has been fetched into {} yet: agentd standby pull does",
                self.folder.display()
            ))
        })?;
        let timeline = pulled.name.parse::<Name>().map_or(0, |name| name.timeline);
        let wanted = Wanted { from: self.folder.join(&pulled.name), how, timeline };
        let restored = restore::restore(&wanted, keys, place, now)?;
        Ok((pulled, restored))
    }
}
