//! Backups of a bucket, for those who restore without a service.

use std::path::Path;

use super::error::BackupError;
use super::make::{Partial, clear};
use super::name::Name;
use crate::clock::Timestamp;
use crate::s3::{self, Bucket};

/// What a bucket has, the one that lives on last.
///
/// # Errors
/// When it cannot be read, holds none, or those of several instances.
pub async fn names(bucket: &Bucket, instance: Option<&str>, now: Timestamp) -> Result<Vec<Name>, BackupError> {
    let listed = bucket.list().await.map_err(|error| fault(bucket, "cannot be read", &error))?;
    let names = listed.iter().filter_map(|object| object.name.parse().ok()).collect();
    in_order(names, instance, now, &bucket.describe())
}

/// Names of one instance, the one that lives on last.
///
/// # Errors
/// When there is none, or there are those of several instances.
pub fn in_order(
    mut names: Vec<Name>,
    instance: Option<&str>,
    now: Timestamp,
    place: &str,
) -> Result<Vec<Name>, BackupError> {
    if let Some(wanted) = instance {
        names.retain(|name| wanted.starts_with(&name.instance) || name.instance.starts_with(wanted));
    }
    names.sort_by_key(|name| name.rank(now));
    let Some(last) = names.last() else {
        return Err(BackupError::Refused(format!("there is no backup in {place}")));
    };
    if let Some(other) = names.iter().find(|name| name.instance != last.instance) {
        return Err(BackupError::Refused(format!(
            "{place} holds backups of several instances, such as {} and {}: say which with --instance",
            other.instance, last.instance
        )));
    }
    Ok(names)
}

/// One that was fetched; it goes away with this.
pub struct Fetched(Partial);

impl Fetched {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Fetches one into a file of a folder, which is made.
///
/// # Errors
/// When it could not be fetched.
pub async fn into_folder(bucket: &Bucket, name: &Name, folder: &Path) -> Result<Fetched, BackupError> {
    clear(folder)?;
    let partial = Partial::new(folder, "fetched");
    fetch(bucket, name, partial.path()).await?;
    Ok(Fetched(partial))
}

/// Fetches one into a new file.
///
/// # Errors
/// When it could not be fetched.
pub(super) async fn fetch(bucket: &Bucket, name: &Name, into: &Path) -> Result<(), BackupError> {
    let fetched = bucket.get(&name.to_string(), into).await;
    fetched.map(drop).map_err(|error| fault(bucket, &format!("does not give {name}"), &error))
}

fn fault(bucket: &Bucket, what: &str, error: &s3::Error) -> BackupError {
    BackupError::Refused(format!("{} {what}: {error}", bucket.describe()))
}
