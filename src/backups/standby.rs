//! A second host that has the newest backup at hand, tried out already, and
//! takes the place of the first one when it is told to.
//!
//! It fetches now and then what the first one sends to the bucket. Taking over
//! begins a new timeline, so that the first one, should it still be there, sees
//! that it has been replaced and sends nothing more.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
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
const PULLED: &str = "pulled.json";
const FAILED: &str = "failed.json";
/// How long a backup that could not be used is left alone by what comes each
/// minute: it may be large, and is seldom another the next time.
const LEFT_ALONE: Duration = Duration::from_secs(3600);

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

/// A backup that could not be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// The backup's name.
    pub name: String,
    /// What went wrong, for people.
    pub what: String,
    /// When.
    pub at: Timestamp,
    /// Whether it had been fetched for that; else its name was enough.
    pub fetched: bool,
}

/// How to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Somebody wants it now.
    Now,
    /// As the timer does, which leaves alone for a while what could not be used.
    Scheduled,
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
        self.read(PULLED)
    }

    /// What could not be used, since the last time that something could.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn failed(&self) -> Result<Option<Failed>, BackupError> {
        self.read(FAILED)
    }

    fn read<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>, BackupError> {
        let path = self.folder.join(file);
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
        when: When,
        now: Timestamp,
    ) -> Result<(Pulled, bool), BackupError> {
        // Two at once would take each other's files away.
        let _alone = self.lock()?;
        let names = fetch::names(bucket, instance, now).await?;
        let newest = names.last().ok_or_else(|| BackupError::Refused("there is no backup".into()))?;
        let had = self.pulled()?;
        if let Some(had) = had.as_ref().filter(|had| had.name == newest.to_string()) {
            self.all_is_well();
            return Ok((had.clone(), false));
        }
        usable(newest, keys).map_err(|error| self.remember(newest, false, error, now))?;
        if when == When::Scheduled {
            self.leave_alone(newest, now)?;
        }
        clear(&self.folder)?;
        let fetched = Partial::new(&self.folder, "fetched");
        fetch::fetch(bucket, newest, fetched.path()).await?;
        let kept = self.keep(fetched, newest, keys, now);
        let pulled = kept.map_err(|error| self.remember(newest, true, error, now))?;
        if let Some(old) = had {
            let _ = fs::remove_file(self.folder.join(old.name));
        }
        self.all_is_well();
        Ok((pulled, true))
    }

    /// Tries out what was fetched, and keeps it.
    fn keep(&self, fetched: Partial, name: &Name, keys: &Keys, now: Timestamp) -> Result<Pulled, BackupError> {
        let manifest = restore::verify(fetched.path(), keys, &self.folder)?;
        let pulled = Pulled { name: name.to_string(), created_at: manifest.created_at, pulled_at: now };
        restore::give(fetched.path(), restore::owner(&self.data)?)?;
        fetched.finish(&self.folder.join(&pulled.name))?;
        self.write(PULLED, &pulled)?;
        Ok(pulled)
    }

    /// Writes down what failed. Where that cannot be done, what failed is still
    /// what there is to be said.
    fn remember(&self, name: &Name, fetched: bool, error: BackupError, now: Timestamp) -> BackupError {
        let failed = Failed { name: name.to_string(), what: error.to_string(), at: now, fetched };
        let _ = self.write(FAILED, &failed);
        error
    }

    fn all_is_well(&self) {
        let _ = fs::remove_file(self.folder.join(FAILED));
    }

    /// Refuses one that was fetched and could not be used not long ago. What has
    /// only its name against it costs nothing, and is looked at each time.
    fn leave_alone(&self, name: &Name, now: Timestamp) -> Result<(), BackupError> {
        let Some(Failed { name, what, at, .. }) =
            self.failed()?.filter(|failed| failed.fetched && failed.name == name.to_string())
        else {
            return Ok(());
        };
        let again = at.plus(LEFT_ALONE);
        // A clock that was set back must not make it longer.
        if at > now || again <= now {
            return Ok(());
        }
        Err(BackupError::Refused(format!(
            "{name} could not be used at {at}: {what}; it is fetched again after {again}, or at once by agentd standby \
             pull"
        )))
    }

    fn write(&self, file: &str, what: &impl Serialize) -> Result<(), BackupError> {
        let partial = Partial::new(&self.folder, file);
        let text = serde_json::to_vec(what).unwrap_or_default();
        fs::write(partial.path(), text).map_err(io_at("cannot write", partial.path()))?;
        restore::give(partial.path(), restore::owner(&self.data)?)?;
        partial.finish(&self.folder.join(file))
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

/// Refuses what its name says enough of, before all of it is fetched.
fn usable(name: &Name, keys: &Keys) -> Result<(), BackupError> {
    restore::refuse_newer(name.schema)?;
    keys.refuse_unreadable(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::schema_of_this_binary;

    const AT: Timestamp = Timestamp::from_micros(1_900_000_000_000_000);

    fn named(schema: i32, encrypted: bool) -> Name {
        Name { instance: "1f0c9a3e".into(), timeline: 1, schema, at: AT, encrypted }
    }

    fn standby() -> (tempfile::TempDir, Standby) {
        let folder = tempfile::tempdir().expect("a folder");
        let standby = Standby::of(folder.path());
        drop(standby.lock().expect("nobody fetches"));
        (folder, standby)
    }

    #[test]
    fn a_name_says_what_cannot_be_used() {
        let known = schema_of_this_binary();
        assert!(usable(&named(known, false), &Keys::default()).is_ok());
        let newer = usable(&named(known + 1, false), &Keys::default()).expect_err("a newer one");
        assert!(newer.to_string().contains("install the agentd that made it"), "{newer}");
        let locked = usable(&named(known, true), &Keys::default()).expect_err("no key");
        assert!(locked.to_string().contains(".age is encrypted") && locked.to_string().contains("--identity"));
    }

    #[test]
    fn what_was_fetched_and_of_no_use_is_left_alone_for_an_hour() {
        let (_folder, standby) = standby();
        let (bad, other) = (named(1, false), named(2, false));
        standby.leave_alone(&bad, AT).expect("nothing is known of it");
        let error = standby.remember(&bad, true, BackupError::Damaged("half of it".into()), AT);
        assert!(matches!(error, BackupError::Damaged(_)), "it is still that which is said");
        let refused = standby.leave_alone(&bad, AT.plus(LEFT_ALONE / 2)).expect_err("too early").to_string();
        assert!(refused.contains("half of it") && refused.contains(&AT.plus(LEFT_ALONE).to_string()), "{refused}");
        standby.leave_alone(&bad, AT.plus(LEFT_ALONE)).expect("after an hour");
        standby.leave_alone(&bad, Timestamp::from_micros(0)).expect("the clock was set back");
        standby.leave_alone(&other, AT).expect("another one");
        standby.all_is_well();
        assert_eq!(standby.failed().expect("readable"), None);
        standby.leave_alone(&bad, AT).expect("it was well meanwhile");
    }

    #[test]
    fn what_was_not_fetched_is_looked_at_each_time_and_told() {
        let (_folder, standby) = standby();
        let bad = named(1, true);
        standby.remember(&bad, false, BackupError::Locked("it is locked".into()), AT);
        standby.leave_alone(&bad, AT).expect("a key may have come");
        let expected = Failed { name: bad.to_string(), what: "it is locked".into(), at: AT, fetched: false };
        assert_eq!(standby.failed().expect("readable"), Some(expected));
    }

    #[test]
    fn what_cannot_be_used_is_not_kept() {
        let (_folder, standby) = standby();
        let fetched = Partial::new(&standby.folder, "fetched");
        fs::write(fetched.path(), "no backup").expect("written");
        let error = standby.keep(fetched, &named(1, false), &Keys::default(), AT).expect_err("no backup");
        assert!(matches!(error, BackupError::NotABackup(_)), "{error}");
        let left = fs::read_dir(&standby.folder).expect("a folder").flatten().filter(|it| it.file_name() != LOCK);
        assert_eq!((left.count(), standby.pulled().expect("readable")), (0, None));
    }
}
