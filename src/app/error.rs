//! Why the service could not be built.

use std::path::PathBuf;

use crate::config::Config;
use crate::db::{self, OpenError};
use crate::outbound;
use crate::tls::{self, acme};
use crate::{backups, budgets, models, s3, vault};

/// Why the service could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The data folder or its database cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A secret cannot be read or kept.
    #[error("{0}")]
    Secret(String),
    /// The master key is missing or wrong.
    #[error(transparent)]
    Vault(#[from] vault::Fault),
    /// The database failed while state was read.
    #[error("the database could not be read: {0}")]
    Database(#[from] db::Error),
    /// A fault of ours.
    #[error("internal: {0}")]
    Internal(String),
    /// The way out cannot be made.
    #[error(transparent)]
    Outbound(#[from] outbound::BuildError),
    /// Certificates cannot be ordered with these settings.
    #[error(transparent)]
    Acme(#[from] acme::SettingsError),
    /// There is no certificate that could be shown.
    #[error(transparent)]
    Tls(#[from] tls::Fault),
    /// What is in the data folder is half of one thing and half of another.
    #[error(
        "a restore into {} was cut short: do it again with agentd restore, which finds what it needs; \
         what was there before is in before-restore-… in that folder", .0.display()
    )]
    CutShort(PathBuf),
    /// What was spent cannot be read.
    #[error(transparent)]
    Budgets(#[from] budgets::OpenError),
    /// Backups cannot be made.
    #[error(transparent)]
    Backups(#[from] backups::OpenError),
    /// Models cannot be reached with these settings.
    #[error(transparent)]
    Models(#[from] models::OpenError),
    /// Backups cannot be sent where they are to go.
    #[error(transparent)]
    Bucket(#[from] s3::SettingsError),
}

impl From<prometheus::Error> for BuildError {
    fn from(error: prometheus::Error) -> Self {
        Self::Internal(error.to_string())
    }
}

impl BuildError {
    /// The same, with the file and the way back where the database is damaged,
    /// whichever room has met it.
    #[must_use]
    pub fn of(self, config: &Config) -> Self {
        match self.database() {
            Some(fault) => Self::Open(OpenError::from(fault.clone()).of(&config.data.database)),
            None => self,
        }
    }

    /// What the database said, if it is to blame.
    #[must_use]
    pub fn database(&self) -> Option<&db::Error> {
        match self {
            Self::Database(fault)
            | Self::Open(OpenError::Database(fault))
            | Self::Vault(vault::Fault::Database(fault))
            | Self::Budgets(budgets::OpenError::Database(fault))
            | Self::Backups(backups::OpenError::Database(fault))
            | Self::Models(models::OpenError::Database(fault)) => Some(fault),
            _ => None,
        }
    }
}
