//! One attempt to get a certificate: account, order, proof, certificate.
//!
//! Whatever a restart needs to go on is in the database before the authority is
//! asked for the next thing, the private key before all: an order that has been
//! made is never made again.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, Error, Identifier, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use url::Url;

use super::cert::Parsed;
use super::client::{Session, again, is};
use super::fault::{Fault, Kind};
use super::proof::{Proof, Prover, can_prove, of_library};
use super::sql::{self, OpenOrder, Stored};
use super::{Inner, Settings};
use crate::config::{CertName, ChallengeKind};
use crate::db;

/// How long an authority may take to look at a proof, and to sign.
const POLLS: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).backoff(1.5).timeout(Duration::from_secs(90));

/// Each so many-th attempt goes to the true directories whatever staging says:
/// what only staging refuses, such as a CAA record that names an account or a
/// profile that it lacks, would else never get its certificate. Authorities
/// count the proofs that fail in an hour, and the pauses between attempts make
/// that at most a few.
const WITHOUT_TRIAL: u32 = 4;

/// Where that was, and what to do when staging alone is to blame.
const AT_STAGING: &str = "at the staging directory, which acme.staging = \"off\" leaves out";

/// Whether staging has to be content first, after so many failures.
const fn needs_trial(failures: u32) -> bool {
    !failures.is_multiple_of(WITHOUT_TRIAL)
}

/// One attempt for one name.
pub(super) struct Attempt<'a> {
    pub inner: &'a Inner,
    pub settings: &'a Settings,
    pub name: &'a CertName,
    /// Attempts that failed since the last success.
    pub failures: u32,
    /// The certificate that is to be replaced, and where it was issued.
    pub replaces: Option<(CertificateIdentifier<'static>, String)>,
}

impl Attempt<'_> {
    /// Tries the directories in order. After a failure the staging directory
    /// has to be content first, most of the time: the others count failures.
    pub(super) async fn run(&self) -> Result<Stored, Fault> {
        let section = &self.settings.section;
        // What is under way already needs no trial.
        let on_trial = needs_trial(self.failures) && self.kept().await?.is_none();
        if let Some(staging) = section.staging.as_ref().filter(|_| on_trial) {
            match self.at(staging, true).await {
                Ok(_) => {}
                // That it cannot be asked says nothing of the name.
                Err(fault) if fault.kind == Kind::Later => {
                    tracing::info!(name = %self.name, "the staging directory cannot be asked: {}", fault.what);
                }
                Err(fault) => return Err(fault.within(AT_STAGING)),
            }
        }
        let mut faults = Vec::new();
        for directory in &section.directories {
            match self.at(directory, false).await {
                Ok(issued) => return Ok(issued),
                Err(fault) if section.directories.len() == 1 => return Err(fault),
                Err(fault) => faults.push(fault.within(&format!("at {directory}"))),
            }
        }
        // The one that wants to be left alone longest must not silence the others.
        let pause = faults.iter().map(|fault| fault.pause).min().flatten();
        Err(Fault { pause, ..Fault::all(faults) })
    }

    async fn at(&self, directory: &Url, trial: bool) -> Result<Stored, Fault> {
        let session = Session::default();
        let outcome = self.with_some_account(directory, &session, trial).await;
        outcome.map_err(|fault| fault.with_pause(session.pause()))
    }

    /// With the account that is kept, or with another where the directory does not
    /// take that any more.
    async fn with_some_account(&self, directory: &Url, session: &Session, trial: bool) -> Result<Stored, Fault> {
        let (refused, fault) = match self.inner.account(directory, self.settings, session).await {
            Ok(account) => match self.with_account(&account, directory, trial).await {
                Err(fault) if fault.kind == Kind::AccountLost => (Some(account.id().to_owned()), fault),
                other => return other,
            },
            Err(fault) if fault.kind == Kind::AccountLost => (None, fault),
            Err(fault) => return Err(fault),
        };
        let account = self.inner.replace_account(directory, self.settings, session, refused.as_deref(), fault).await?;
        // What is under way was the old account's.
        if !trial && self.kept().await?.is_some_and(|order| order.directory == directory.as_str()) {
            self.keep(None).await?;
        }
        self.with_account(&account, directory, trial).await.map_err(Fault::after_registering)
    }

    async fn with_account(&self, account: &Account, directory: &Url, trial: bool) -> Result<Stored, Fault> {
        let kept = self.kept().await?;
        if let Some(open) = kept.filter(|order| !trial && order.directory == directory.as_str()) {
            match self.go_on(account, &open).await {
                Ok(issued) => return Ok(issued),
                // The order stays for the next attempt when the directory could
                // not be asked.
                Err(fault) if fault.kind == Kind::AccountLost || self.may_wait(&fault) => return Err(fault),
                Err(fault) => {
                    tracing::info!(name = %self.name, "the order under way has come to nothing: {}", fault.what);
                }
            }
            self.keep(None).await?;
        }
        let kinds = self.settings.section.challenges.iter().copied().filter(|kind| can_prove(*kind, self.name));
        let mut faults = Vec::new();
        for kind in kinds {
            match self.new_order(account, directory, kind, trial).await {
                Err(fault) if fault.kind == Kind::Proof => faults.push(fault.within(&format!("by {}", kind.name()))),
                other => return other,
            }
        }
        if faults.is_empty() {
            let what = "none of acme.challenges can prove this name: an address needs http-01 or tls-alpn-01";
            return Err(Fault::new(Kind::Other, what));
        }
        Err(Fault::all(faults))
    }

    /// Whether an order may still come to something. One that has been waited for
    /// in vain for hours does not, whatever the directory says.
    fn may_wait(&self, fault: &Fault) -> bool {
        const IN_VAIN: u32 = 12;
        fault.kind == Kind::Later && self.failures < IN_VAIN
    }

    /// The order under way.
    async fn kept(&self) -> Result<Option<OpenOrder>, db::Error> {
        Ok(self.inner.row(self.name).await?.order)
    }

    /// Goes on with the order of a run before.
    async fn go_on(&self, account: &Account, open: &OpenOrder) -> Result<Stored, Fault> {
        let mut order = again!(account.order(open.url.clone())).map_err(Fault::of)?;
        let kind =
            ChallengeKind::from_name(&open.challenge).ok_or_else(|| Fault::new(Kind::Other, "unknown challenge"))?;
        let key = KeyPair::from_pem(&open.key).map_err(|_| Fault::new(Kind::Other, "its key cannot be read"))?;
        tracing::info!(name = %self.name, order = open.url, "going on with the order under way");
        self.drive(&mut order, kind, &key, &open.directory).await
    }

    async fn new_order(
        &self,
        account: &Account,
        directory: &Url,
        kind: ChallengeKind,
        trial: bool,
    ) -> Result<Stored, Fault> {
        let key = KeyPair::generate().map_err(|error| Fault::new(Kind::Other, error.to_string()))?;
        let mut order = self.ask_for_order(account, directory).await?;
        if !trial {
            let (url, challenge) = (order.url().to_owned(), kind.name().to_owned());
            let open = OpenOrder { directory: directory.to_string(), url, challenge, key: key.serialize_pem() };
            self.keep(Some(open)).await?;
        }
        let outcome = self.drive(&mut order, kind, &key, directory.as_str()).await;
        if let Err(fault) = &outcome
            && fault.kind != Kind::Later
            && !trial
        {
            self.keep(None).await?;
        }
        outcome
    }

    async fn ask_for_order(&self, account: &Account, directory: &Url) -> Result<Order, Fault> {
        let identifiers = [match self.name {
            CertName::Dns(name) => Identifier::Dns(name.clone()),
            CertName::Ip(address) => Identifier::Ip(*address),
        }];
        let mut wanted = NewOrder::new(&identifiers);
        if let Some(profile) = &self.settings.section.profile {
            if !account.profiles().any(|known| known.name == profile) {
                let known: Vec<_> = account.profiles().map(|known| known.name.to_owned()).collect();
                let what =
                    format!("the directory has no profile {profile:?} (acme.profile); it has: {}", known.join(", "));
                return Err(Fault::new(Kind::Other, what));
            }
            wanted = wanted.profile(profile);
        }
        let replaces = self.replaces.as_ref().filter(|(_, where_from)| where_from == directory.as_str());
        if let Some((certificate, _)) = replaces {
            let mut replacing = NewOrder::new(&identifiers).replaces(certificate.clone());
            if let Some(profile) = &self.settings.section.profile {
                replacing = replacing.profile(profile);
            }
            match again!(account.new_order(&replacing)) {
                Ok(order) => return Ok(order),
                // Saying what an order replaces is a favour; without it the
                // certificate is as good.
                Err(Error::Unsupported(_)) => {}
                Err(Error::Other(error)) if error.to_string().starts_with("replaces field mismatch") => {}
                // Also where another account had ordered it.
                Err(Error::Api(problem)) if !Fault::is_of_all(&problem) => {
                    tracing::info!(name = %self.name, "the order cannot say what it replaces: {problem}");
                }
                Err(error) => return Err(Fault::of_account(error)),
            }
        }
        again!(account.new_order(&wanted)).map_err(Fault::of_account)
    }

    async fn drive(
        &self,
        order: &mut Order,
        kind: ChallengeKind,
        key: &KeyPair,
        directory: &str,
    ) -> Result<Stored, Fault> {
        if order.state().status == OrderStatus::Pending {
            self.prove(order, kind).await?;
        }
        match order.state().status {
            OrderStatus::Ready => {
                let mut parameters = CertificateParams::new(vec![self.name.to_string()])
                    .map_err(|error| Fault::new(Kind::Other, error.to_string()))?;
                parameters.distinguished_name = DistinguishedName::new();
                let request =
                    parameters.serialize_request(key).map_err(|error| Fault::new(Kind::Other, error.to_string()))?;
                again!(order.finalize_csr(request.der())).map_err(Fault::of)?;
            }
            OrderStatus::Processing | OrderStatus::Valid => {}
            OrderStatus::Pending | OrderStatus::Invalid => {
                let silent = || Fault::new(Kind::Proof, "the authority has given up the order and does not say why");
                return Err(refusal(order).await.or(silent));
            }
        }
        let chain = again!(order.poll_certificate(&POLLS)).map_err(Fault::of)?;
        let key = key.serialize_pem();
        Parsed::read(&chain, &key).map_err(|what| Fault::new(Kind::Other, format!("what was issued: {what}")))?;
        Ok(Stored { chain, key, directory: directory.to_owned(), issued_at: self.inner.clock.now() })
    }

    /// Shows the proof for as long as the authority looks.
    async fn prove(&self, order: &mut Order, kind: ChallengeKind) -> Result<(), Fault> {
        let prover = Prover {
            certificates: self.inner.certificates.clone(),
            http: self.inner.http.clone(),
            dns_hook: self.settings.section.dns_hook.clone(),
            dns_turn: self.inner.dns_turn.clone(),
        };
        let mut shown: Option<Proof> = None;
        let mut unprovable: Option<Fault> = None;
        let answered = again!(async {
            let mut authorizations = order.authorizations();
            while let Some(authorization) = authorizations.next().await {
                let mut authorization = authorization?;
                if authorization.status != AuthorizationStatus::Pending {
                    continue;
                }
                let Some(mut challenge) = authorization.challenge(of_library(kind)) else {
                    unprovable = Some(Fault::new(Kind::Proof, "the authority does not offer it"));
                    return Ok(());
                };
                if shown.is_none() {
                    match prover.show(kind, self.name, &challenge.token, &challenge.key_authorization()).await {
                        Ok(proof) => shown = Some(proof),
                        Err(what) => {
                            unprovable = Some(Fault::new(Kind::Proof, what));
                            return Ok(());
                        }
                    }
                }
                // One that a run before has asked to be looked at is being looked at.
                if challenge.status != ChallengeStatus::Pending {
                    continue;
                }
                let mut asked = challenge.set_ready().await;
                if asked.as_ref().is_err_and(|error| !matches!(error, Error::Api(_))) {
                    // Nobody knows whether it was heard, and twice does no harm.
                    asked = challenge.set_ready().await;
                }
                if let Err(error) = asked {
                    if !shows_at_order(&error) {
                        return Err(error);
                    }
                    tracing::debug!(name = %self.name, "asking to look at the proof: {error}");
                }
            }
            Ok::<_, Error>(())
        });
        answered.map_err(Fault::of)?;
        if let Some(fault) = unprovable {
            return Err(fault);
        }
        match again!(order.poll_ready(&POLLS)) {
            Ok(_) => Ok(()),
            // An order that fails says so in general only.
            Err(Error::Api(problem)) if !Fault::is_of_all(&problem) => {
                Err(refusal(order).await.or(|| Fault::of(Error::Api(problem)).of_kind(Kind::Proof)))
            }
            Err(Error::Timeout(Some(_))) => Err(Fault::new(Kind::Later, "the authority wants to be asked later")),
            Err(Error::Timeout(None)) => {
                Err(Fault::new(Kind::Proof, "the authority did not look at the proof in time"))
            }
            Err(error) => Err(Fault::of(error)),
        }
    }

    async fn keep(&self, order: Option<OpenOrder>) -> Result<(), db::Error> {
        let (name, vault) = (self.name.to_string(), self.inner.vault.clone());
        self.inner.db.write(move |tx| sql::set_order(tx, &vault, &name, order.as_ref())).await
    }
}

/// Whether looking at the order tells what became of a request to look at its
/// proof: the authority may have heard it though its answer was lost, and one
/// that looks at once answers with what it found.
fn shows_at_order(error: &Error) -> bool {
    const REFUSED: [&str; 3] = ["badNonce", "accountDoesNotExist", "rateLimited"];
    !matches!(error, Error::Api(problem) if REFUSED.iter().any(|kind| is(problem, kind)))
}

/// Why an order came to nothing, in the authority's words on the proof.
async fn refusal(order: &mut Order) -> Fault {
    let mut said = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if let Ok(state) = again!(async { authorization.refresh().await.map(|state| errors(&state.challenges)) }) {
            said.extend(state);
        }
    }
    if said.is_empty() {
        return Fault::new(Kind::Proof, "");
    }
    Fault::new(Kind::Proof, said.join("; "))
}

fn errors(challenges: &[instant_acme::Challenge]) -> Vec<String> {
    challenges.iter().filter_map(|challenge| challenge.error.as_ref()).map(super::fault::words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_is_asked_after_failures_and_is_no_veto() {
        let asked: Vec<_> = (0..=8).filter(|failures| needs_trial(*failures)).collect();
        assert_eq!(asked, [1, 2, 3, 5, 6, 7], "not the first time, and not every fourth");
    }
}
