//! Showing that a name is ours: what an authority looks at, for as long as it
//! looks.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{ChallengeType, KeyAuthorization};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use tokio::sync::OwnedMutexGuard;

use super::super::{Certificates, HttpChallenges};
use crate::config::{CertName, ChallengeKind};

/// Time for the program that sets records; some wait until servers have them.
const HOOK_TIME: Duration = Duration::from_secs(120);
/// Characters of what it says that are repeated.
const HOOK_SAID: usize = 300;

/// Where proofs are shown.
#[derive(Clone)]
pub(super) struct Prover {
    pub certificates: Certificates,
    pub http: HttpChallenges,
    pub dns_hook: Option<PathBuf>,
    /// Whose turn it is to have a record set.
    pub dns_turn: Arc<tokio::sync::Mutex<()>>,
}

/// A proof that is shown. Dropping it takes it away.
pub(super) struct Proof {
    prover: Prover,
    what: What,
}

enum What {
    Http { token: String },
    Tls { name: String },
    Dns { hook: PathBuf, record: String, value: String, turn: Option<OwnedMutexGuard<()>> },
}

/// The library's word for it.
pub(super) fn of_library(kind: ChallengeKind) -> ChallengeType {
    match kind {
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
        ChallengeKind::Dns01 => ChallengeType::Dns01,
    }
}

/// Whether an authority takes a proof for a name: a wildcard is only proven by
/// a record, and an address never (RFC 8555, 7.1.3; RFC 8738, 7).
pub(super) fn can_prove(kind: ChallengeKind, name: &CertName) -> bool {
    match name {
        CertName::Ip(_) => kind != ChallengeKind::Dns01,
        CertName::Dns(_) => !name.is_wildcard() || kind == ChallengeKind::Dns01,
    }
}

impl Prover {
    /// Shows a proof from now on.
    pub(super) async fn show(
        &self,
        kind: ChallengeKind,
        name: &CertName,
        token: &str,
        answer: &KeyAuthorization,
    ) -> Result<Proof, String> {
        let what = match kind {
            ChallengeKind::Http01 => {
                self.http.set(token.to_owned(), answer.as_str().to_owned());
                What::Http { token: token.to_owned() }
            }
            ChallengeKind::TlsAlpn01 => {
                let shown_as = server_name(name);
                let key = challenge_certificate(name, answer.digest().as_ref())
                    .map_err(|error| format!("no certificate could be made for tls-alpn-01: {error}"))?;
                self.certificates.set_challenge(shown_as.clone(), Arc::new(key));
                What::Tls { name: shown_as }
            }
            ChallengeKind::Dns01 => {
                let hook = self.dns_hook.clone().ok_or("acme.dns_hook is not set")?;
                let record = format!("_acme-challenge.{}", name.to_string().trim_start_matches("*."));
                let value = answer.dns_value();
                let turn = Some(self.dns_turn.clone().lock_owned().await);
                What::Dns { hook, record, value, turn }
            }
        };
        let proof = Proof { prover: self.clone(), what };
        // A program that fails may have done half of it, which is taken away too.
        if let What::Dns { hook, record, value, .. } = &proof.what {
            run_hook(hook, "set", record, value).await?;
        }
        Ok(proof)
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        match &mut self.what {
            What::Http { token } => self.prover.http.remove(token),
            What::Tls { name } => self.prover.certificates.remove_challenge(name),
            What::Dns { hook, record, value, turn } => {
                let (hook, record, value, turn) = (hook.clone(), record.clone(), value.clone(), turn.take());
                tokio::spawn(async move {
                    // The next one is set when this one is gone.
                    let _turn = turn;
                    if let Err(what) = run_hook(&hook, "clear", &record, &value).await {
                        tracing::warn!(record, "the record of a challenge may still be there: {what}");
                    }
                });
            }
        }
    }
}

/// The name that an authority asks for (RFC 8737, 3; RFC 8738, 6).
fn server_name(name: &CertName) -> String {
    match name {
        CertName::Dns(name) => name.clone(),
        CertName::Ip(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        CertName::Ip(IpAddr::V6(address)) => {
            let digits: Vec<char> =
                address.octets().iter().flat_map(|byte| format!("{byte:02x}").chars().collect::<Vec<_>>()).collect();
            let reversed: Vec<String> = digits.iter().rev().map(char::to_string).collect();
            format!("{}.ip6.arpa", reversed.join("."))
        }
    }
}

fn challenge_certificate(name: &CertName, digest: &[u8]) -> Result<CertifiedKey, Box<dyn std::error::Error>> {
    let mut parameters = CertificateParams::new(vec![name.to_string()])?;
    parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    let signing =
        rustls::crypto::aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::Pkcs8(key.serialize_der().into()))?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], signing))
}

/// Runs the program: `HOOK set|clear RECORD VALUE`. It gets nothing of our
/// environment but where programs are.
async fn run_hook(hook: &Path, verb: &str, record: &str, value: &str) -> Result<(), String> {
    let shown = hook.display();
    let mut command = tokio::process::Command::new(hook);
    command.args([verb, record, value]).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()));
    let ended = tokio::time::timeout(HOOK_TIME, command.output())
        .await
        .map_err(|_| format!("the program {shown} took longer than {} s to {verb} {record}", HOOK_TIME.as_secs()))?;
    let output = ended.map_err(|error| format!("the program {shown} of acme.dns_hook cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(HOOK_SAID).collect();
    Err(format!("the program {shown} could not {verb} {record} ({}): {said}", output.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> CertName {
        CertName::Ip(text.parse().expect("an address"))
    }

    #[test]
    fn addresses_are_asked_for_by_their_reverse_name() {
        assert_eq!(server_name(&ip("192.0.2.7")), "7.2.0.192.in-addr.arpa");
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(server_name(&ip("2001:db8::1")), six);
    }

    #[test]
    fn what_can_be_proven_how() {
        let star = CertName::Dns("*.example.com".into());
        assert!(can_prove(ChallengeKind::Dns01, &star) && !can_prove(ChallengeKind::Http01, &star));
        assert!(!can_prove(ChallengeKind::Dns01, &ip("192.0.2.7")) && can_prove(ChallengeKind::TlsAlpn01, &ip("::1")));
    }

    #[test]
    fn a_challenge_certificate_carries_the_digest() {
        use x509_parser::prelude::{FromDer as _, X509Certificate};
        let key = challenge_certificate(&CertName::Dns("a.example".into()), &[7; 32]).expect("a certificate");
        let (_, leaf) = X509Certificate::from_der(&key.cert[0]).expect("read");
        let found = leaf.extensions().iter().find(|it| it.oid.to_id_string() == "1.3.6.1.5.5.7.1.31").expect("there");
        assert!(found.critical && found.value.ends_with(&[7; 32]));
    }

    #[tokio::test]
    async fn a_hook_that_fails_is_told_with_what_it_said() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let hook = folder.path().join("hook");
        std::fs::write(&hook, "#!/bin/sh\necho \"$1 $2 $3 ${HOME:-no home}\" >&2; exit 3\n").expect("written");
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("set");
        let said = run_hook(&hook, "set", "_acme-challenge.a.example", "x;y").await.expect_err("fails");
        assert!(said.contains("set _acme-challenge.a.example x;y no home"), "{said}");
        let missing = run_hook(&folder.path().join("none"), "set", "a", "b").await.expect_err("not there");
        assert!(missing.contains("cannot be run"), "{missing}");
    }
}
