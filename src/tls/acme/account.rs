//! Accounts with authorities: how they are opened and replaced, and other keys
//! for them.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{Account, AccountBuilder, ExternalAccountKey, Key, NewAccount};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use url::Url;

use super::client::{Http, Session, again};
use super::fault::{Fault, Kind};
use super::{Inner, Settings, sql};
use crate::clock::Timestamp;

/// Accounts that are replaced in a day at one directory, at most. Authorities
/// limit how many are made, and one that refuses more refuses all.
const REPLACED: usize = 3;
const DAY: Duration = Duration::from_secs(86_400);

/// Accounts that were lately replaced.
#[derive(Debug, Default)]
pub(super) struct Replacements(VecDeque<(Url, Timestamp)>);

impl Replacements {
    /// Whether one more may be replaced now, which is then counted.
    fn admit(&mut self, directory: &Url, now: Timestamp) -> bool {
        self.0.retain(|(_, at)| *at <= now && now < at.plus(DAY));
        let admitted = self.0.iter().filter(|(there, _)| there == directory).count() < REPLACED;
        if admitted {
            self.0.push_back((directory.clone(), now));
        }
        admitted
    }
}

impl Inner {
    /// The account with a directory, if there is one.
    pub(super) async fn kept_account(
        &self,
        directory: &str,
        settings: &Settings,
        session: &Session,
    ) -> Result<Option<Account>, Fault> {
        let (key, vault) = (directory.to_owned(), self.vault.clone());
        let kept = self.db.read(move |tx| sql::account(tx, &vault, &key)).await?;
        let Some(sql::Kept { credentials: kept, in_doubt }) = kept else { return Ok(None) };
        if in_doubt {
            self.settle(directory, &kept, settings, session).await?;
        }
        let load = async || {
            let credentials = serde_json::from_str(&kept)?;
            self.library(settings, session).from_credentials(credentials).await
        };
        again!(load()).map(Some).map_err(Fault::of)
    }

    /// The account with a directory; made where there is none yet.
    pub(super) async fn account(
        &self,
        directory: &Url,
        settings: &Settings,
        session: &Session,
    ) -> Result<Account, Fault> {
        let kept = async || self.kept_account(directory.as_str(), settings, session).await;
        if let Some(kept) = kept().await? {
            return Ok(kept);
        }
        // Names that are ordered at the same time share the account that the
        // first of them makes.
        let _alone = self.registering.lock().await;
        match kept().await? {
            Some(kept) => Ok(kept),
            None => self.register(directory, settings, session).await,
        }
    }

    /// Another account, with a key of its own, in place of one that the directory
    /// does not take any more: it was deactivated or revoked (RFC 8555, 7.3.6), or
    /// is not known. The old one is kept until there is another.
    pub(super) async fn replace_account(
        &self,
        directory: &Url,
        settings: &Settings,
        session: &Session,
        refused: Option<&str>,
        why: Fault,
    ) -> Result<Account, Fault> {
        let _alone = self.registering.lock().await;
        // Another name may have done it meanwhile.
        if let Some(refused) = refused
            && let Some(kept) = self.kept_account(directory.as_str(), settings, session).await?
            && kept.id() != refused
        {
            return Ok(kept);
        }
        let now = self.clock.now();
        if !self.replacements.lock().unwrap_or_else(PoisonError::into_inner).admit(directory, now) {
            let what = "the authority refuses one account after the other; look at what it says, and whether acme.eab_kid, \
                        acme.eab_key and acme.email are right";
            return Err(Fault::new(Kind::Other, format!("{}; {what}", why.what)));
        }
        tracing::warn!(%directory, account = refused, "the authority does not accept our account any more: {}", why.what);
        let binding = if settings.eab.is_some() {
            "; authorities often accept an external account binding once only: have another made, and set acme.eab_kid and \
             acme.eab_key"
        } else {
            ""
        };
        let account = self.register(directory, settings, session).await.map_err(|fault| {
            let (kind, pause) = (fault.kind, fault.pause);
            let what = format!(
                "the authority does not accept our account any more ({}), and another cannot be registered: {}{binding}",
                why.what, fault.what
            );
            Fault { kind, what, pause }
        })?;
        tracing::warn!(%directory, account = account.id(), "registered another account with a new key in its place");
        Ok(account)
    }

    /// Makes an account and keeps it, in place of one that there may be.
    async fn register(&self, directory: &Url, settings: &Settings, session: &Session) -> Result<Account, Fault> {
        let contact = settings.section.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let eab = settings.eab.as_ref().map(|eab| ExternalAccountKey::new(eab.kid.clone(), &eab.key));
        let make = async || self.library(settings, session).create(&new, directory.to_string(), eab.as_ref()).await;
        let (account, credentials) = again!(make()).map_err(Fault::of_request)?;
        let credentials = serde_json::to_string(&credentials).map_err(|error| Fault::of(error.into()))?;
        let (key, vault) = (directory.to_string(), self.vault.clone());
        self.db.write(move |tx| sql::set_account(tx, &vault, &key, &credentials)).await?;
        tracing::info!(%directory, account = account.id(), "registered with the authority");
        Ok(account)
    }

    /// The account that a certificate was ordered with.
    pub(super) async fn account_of(&self, issued: &sql::Stored, settings: &Settings) -> Result<Account, String> {
        let kept = self.kept_account(&issued.directory, settings, &Session::default()).await;
        kept.map_err(|fault| fault.what)?.ok_or_else(|| "there is no account with the directory any more".into())
    }

    /// The library, speaking to directories as the settings say.
    pub(super) fn library(&self, settings: &Settings, session: &Session) -> AccountBuilder {
        let (outbound, clock) = (settings.outbound.clone(), self.clock.clone());
        Account::builder_with_http(Box::new(Http { outbound, clock, session: session.clone() }))
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
        let kept = self.kept_account(directory.as_str(), settings, &Session::default()).await?;
        let Some(mut account) = kept else { return Ok(false) };
        let (key, vault) = (directory.to_string(), self.vault.clone());
        // The library makes the new key and tells it only afterwards, so until the
        // answer is written down nobody knows which one counts.
        self.db.write(move |tx| sql::doubt_account(tx, &vault, &key)).await?;
        let credentials = again!(account.update_key()).map_err(Fault::of_account)?;
        let credentials = serde_json::to_string(&credentials).map_err(|error| Fault::of(error.into()))?;
        let (key, vault) = (directory.to_string(), self.vault.clone());
        self.db.write(move |tx| sql::set_account(tx, &vault, &key, &credentials)).await?;
        tracing::info!(%directory, account = account.id(), "audit: the account with the authority has another key");
        Ok(true)
    }

    /// Asks the authority whether the key that is kept is still the account's; one
    /// that it does not know is that of a lost account.
    async fn settle(&self, directory: &str, kept: &str, settings: &Settings, session: &Session) -> Result<(), Fault> {
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
            self.library(settings, session).from_key((own, PrivateKeyDer::Pkcs8(key)), directory.to_owned()).await
        };
        again!(ask()).map(drop).map_err(Fault::of)?;
        tracing::info!(directory, "the account with the authority has kept its key");
        let (key, vault, kept) = (directory.to_owned(), self.vault.clone(), kept.to_owned());
        Ok(self.db.write(move |tx| sql::set_account(tx, &vault, &key, &kept)).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_replaced_a_few_times_a_day() {
        let directory = |name: &str| Url::parse(&format!("https://{name}.test/dir")).expect("a URL");
        let mut replacements = Replacements::default();
        let now = Timestamp::from_micros(1_000_000_000);
        for number in 0..4 {
            assert_eq!(replacements.admit(&directory("a"), now), number < 3, "{number}");
        }
        assert!(replacements.admit(&directory("b"), now), "each directory by itself");
        assert!(replacements.admit(&directory("a"), now.plus(DAY)), "on the next day again");
    }
}
