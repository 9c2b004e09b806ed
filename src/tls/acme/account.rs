//! Accounts with authorities: how they are opened, and other keys for them.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{Account, AccountBuilder, Key};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use url::Url;

use super::client::{Http, Pause, again};
use super::fault::{Fault, Kind};
use super::{Inner, Settings, sql};

impl Inner {
    /// The account with a directory, if there is one.
    pub(super) async fn kept_account(
        &self,
        directory: &str,
        settings: &Settings,
        pause: &Pause,
    ) -> Result<Option<Account>, Fault> {
        let (key, vault) = (directory.to_owned(), self.vault.clone());
        let kept = self.db.read(move |tx| sql::account(tx, &vault, &key)).await?;
        let Some(sql::Kept { credentials: kept, in_doubt }) = kept else { return Ok(None) };
        if in_doubt {
            self.settle(directory, &kept, settings, pause).await?;
        }
        let load = async || {
            let credentials = serde_json::from_str(&kept)?;
            self.library(settings, pause).from_credentials(credentials).await
        };
        again!(load()).map(Some).map_err(Fault::of)
    }

    /// The account that a certificate was ordered with.
    pub(super) async fn account_of(&self, issued: &sql::Stored, settings: &Settings) -> Result<Account, String> {
        let kept = self.kept_account(&issued.directory, settings, &Pause::default()).await;
        kept.map_err(|fault| fault.what)?.ok_or_else(|| "there is no account with the directory any more".into())
    }

    /// The library, speaking to directories as the settings say.
    pub(super) fn library(&self, settings: &Settings, pause: &Pause) -> AccountBuilder {
        let (outbound, clock) = (settings.outbound.clone(), self.clock.clone());
        Account::builder_with_http(Box::new(Http { outbound, clock, pause: pause.clone() }))
    }

    /// Gives the accounts of all directories other keys (RFC 8555, 7.3.5); their
    /// directories, or what went wrong with one.
    pub(super) async fn rotate_account_keys(&self) -> Result<Vec<String>, Fault> {
        let Some(settings) = self.current() else { return Ok(Vec::new()) };
        // Nobody makes an account meanwhile.
        let _alone = self.registering.lock().await;
        let mut rotated = Vec::new();
        for directory in settings.section.directories.iter().chain(&settings.section.staging) {
            if self.rotate_account_key(directory, &settings).await.map_err(|fault| fault.within(directory.as_str()))? {
                rotated.push(directory.to_string());
            }
        }
        Ok(rotated)
    }

    /// Whether there is an account, which has another key now.
    async fn rotate_account_key(&self, directory: &Url, settings: &Settings) -> Result<bool, Fault> {
        let kept = self.kept_account(directory.as_str(), settings, &Pause::default()).await?;
        let Some(mut account) = kept else { return Ok(false) };
        let (key, vault) = (directory.to_string(), self.vault.clone());
        // The library makes the new key and tells it only afterwards, so until the
        // answer is written down nobody knows which one counts.
        self.db.write(move |tx| sql::doubt_account(tx, &vault, &key)).await?;
        let credentials = again!(account.update_key()).map_err(Fault::of)?;
        let credentials = serde_json::to_string(&credentials).map_err(|error| Fault::of(error.into()))?;
        let (key, vault) = (directory.to_string(), self.vault.clone());
        self.db.write(move |tx| sql::set_account(tx, &vault, &key, &credentials)).await?;
        tracing::info!(%directory, account = account.id(), "audit: the account with the authority has another key");
        Ok(true)
    }

    /// Asks the authority whether the key that is kept is still the account's; one
    /// that it does not know is that of a lost account.
    async fn settle(&self, directory: &str, kept: &str, settings: &Settings, pause: &Pause) -> Result<(), Fault> {
        #[derive(Deserialize)]
        struct Parts {
            key_pkcs8: String,
        }
        let unreadable = |()| Fault::new(Kind::AccountLost, "the key of the account that is kept cannot be read");
        let parts: Parts = serde_json::from_str(kept).map_err(|_| ()).map_err(unreadable)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&parts.key_pkcs8).map_err(|_| ()).map_err(unreadable)?;
        let ask = async || {
            let key = PrivatePkcs8KeyDer::from(bytes.clone());
            let own = Key::from_pkcs8_der(PrivatePkcs8KeyDer::from(bytes.as_slice()))?;
            self.library(settings, pause).from_key((own, PrivateKeyDer::Pkcs8(key)), directory.to_owned()).await
        };
        again!(ask()).map(drop).map_err(Fault::of)?;
        tracing::info!(directory, "the account with the authority has kept its key");
        let (key, vault, kept) = (directory.to_owned(), self.vault.clone(), kept.to_owned());
        Ok(self.db.write(move |tx| sql::set_account(tx, &vault, &key, &kept)).await?)
    }
}
