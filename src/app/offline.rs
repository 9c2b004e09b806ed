//! What is done to the data of a service that does not run.

use super::BuildError;
use super::parts::{lock, open_db};
use crate::config::Config;
use crate::db::Progress;
use crate::vault;

/// Gives up every sealed secret, so that the service starts with another master
/// key; how many that were.
///
/// # Errors
/// When the service runs, or the database cannot be used.
pub async fn forget_secrets(config: &Config) -> Result<usize, BuildError> {
    let _lock = lock(config)?;
    let db = open_db(config, Progress::default(), Vec::new(), &prometheus::Registry::new())?;
    let forgotten = db.write(vault::forget).await;
    db.close();
    Ok(forgotten?)
}
