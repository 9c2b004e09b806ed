//! Which certificate a client is shown. It is looked up at each handshake, so a
//! new one counts from the next connection on, and those that are open go on.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::clock::Timestamp;
use crate::config::CertName;

/// What a client offers that wants to see a `tls-alpn-01` challenge (RFC 8737).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Made here; clients do not trust it.
    SelfSigned,
    /// From files.
    Files,
    /// By ACME.
    Acme,
}

/// A certificate that clients are shown.
#[derive(Clone)]
pub struct Shown {
    /// Where it comes from.
    pub source: Source,
    /// What it is shown for.
    pub names: Vec<CertName>,
    /// Not valid before.
    pub not_before: Timestamp,
    /// Not valid after.
    pub not_after: Timestamp,
    /// Chain and key.
    pub key: Arc<CertifiedKey>,
    /// What clients may object to.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shown({:?}, {:?}, until {:?})", self.source, self.names, self.not_after)
    }
}

/// All certificates of the service. Clones share them.
#[derive(Clone, Default)]
pub struct Certificates(Arc<Inner>);

/// Why the files of `[tls]` as they are now cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesProblem {
    /// What is wrong with them, and what to do.
    pub what: String,
    /// When that was seen.
    pub at: Timestamp,
}

#[derive(Default)]
struct Inner {
    shown: RwLock<Vec<Arc<Shown>>>,
    files_problem: RwLock<Option<FilesProblem>>,
    challenges: RwLock<HashMap<String, Arc<CertifiedKey>>>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates").field(&self.all()).finish()
    }
}

impl Certificates {
    /// Shows a certificate from now on, in place of those from the same source
    /// for the same names.
    pub fn install(&self, new: Shown) {
        let mut shown = self.0.shown.write().unwrap_or_else(PoisonError::into_inner);
        let before = shown.iter().position(|old| old.source == new.source && old.names == new.names);
        // In its place, so that a renewal does not change what is shown first.
        match before {
            Some(place) => shown[place] = Arc::new(new),
            None => shown.push(Arc::new(new)),
        }
        // One that clients trust comes before one that they do not.
        shown.sort_by_key(|shown| shown.source == Source::SelfSigned);
    }

    /// Shows those no longer that are not wanted any more.
    pub fn retain(&self, wanted: impl Fn(&Shown) -> bool) {
        self.0.shown.write().unwrap_or_else(PoisonError::into_inner).retain(|shown| wanted(shown));
    }

    /// Why the files of `[tls]` as they are now cannot be shown; the certificate
    /// from before is shown meanwhile.
    #[must_use]
    pub fn files_problem(&self) -> Option<FilesProblem> {
        self.0.files_problem.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells that the files cannot be shown, or that they can.
    pub fn set_files_problem(&self, problem: Option<FilesProblem>) {
        *self.0.files_problem.write().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// All that are shown; trusted ones first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Shown>> {
        self.0.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows a certificate to ACME servers that ask for the name's challenge
    /// `tls-alpn-01` (RFC 8737). For an address the name is its reverse one
    /// (RFC 8738, 6).
    pub fn set_challenge(&self, name: String, key: Arc<CertifiedKey>) {
        self.0.challenges.write().unwrap_or_else(PoisonError::into_inner).insert(name, key);
    }

    /// Shows it no longer.
    pub fn remove_challenge(&self, name: &str) {
        self.0.challenges.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// The certificate for a name: one that clients trust, for this name rather
    /// than for many, and of those the one that lasts longest. Who says no name
    /// has called an address, so one for an address comes first, else the first
    /// of all; that one also where there is none for the name.
    fn of(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.shown.read().unwrap_or_else(PoisonError::into_inner);
        let is_trusted = |shown: &Shown| shown.source != Source::SelfSigned;
        let found = match name {
            Some(name) => {
                let fitting = |shown: &&Arc<Shown>| shown.names.iter().any(|it| fits(it, name));
                let is_exact = |shown: &Shown| shown.names.iter().any(|it| !it.is_wildcard() && fits(it, name));
                let worth = |shown: &&Arc<Shown>| (is_trusted(shown), is_exact(shown), shown.not_after);
                shown.iter().filter(fitting).max_by_key(worth)
            }
            None => {
                let is_address = |it: &CertName| matches!(it, CertName::Ip(_));
                shown.iter().find(|shown| is_trusted(shown) && shown.names.iter().any(is_address))
            }
        };
        found.or_else(|| shown.first()).map(|shown| shown.key.clone())
    }
}

fn fits(pattern: &CertName, name: &str) -> bool {
    match pattern {
        CertName::Dns(pattern) => match pattern.strip_prefix("*.") {
            Some(rest) => name.split_once('.').is_some_and(|(_, behind)| behind.eq_ignore_ascii_case(rest)),
            None => pattern.eq_ignore_ascii_case(name),
        },
        CertName::Ip(address) => name.parse::<IpAddr>().is_ok_and(|it| it == *address),
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // An ACME server offers nothing else (RFC 8737, 3). Whoever offers more is
        // a client, and gets what clients get.
        let asks_for_challenge = hello.alpn().is_some_and(|offered| offered.eq([ACME_TLS]));
        if asks_for_challenge {
            let challenges = self.0.challenges.read().unwrap_or_else(PoisonError::into_inner);
            return challenges.get(hello.server_name()?).cloned();
        }
        self.of(hello.server_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: Source, names: &[&str]) -> Shown {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["x.test".to_owned()]).expect("parameters");
        let chain = vec![params.self_signed(&key).expect("a certificate").der().clone()];
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = Arc::new(CertifiedKey::from_der(chain, key, &provider).expect("a pair"));
        let name = |name: &&str| name.parse().map_or_else(|_| CertName::Dns((*name).into()), CertName::Ip);
        let moment = Timestamp::from_micros(0);
        Shown {
            source,
            names: names.iter().map(name).collect(),
            not_before: moment,
            not_after: moment,
            key,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn the_certificate_for_the_name_is_shown_and_that_of_the_address_where_none_is_said() {
        let certificates = Certificates::default();
        assert!(certificates.of(Some("a.test")).is_none(), "there is none");
        let own = shown(Source::SelfSigned, &["localhost", "a.test"]);
        let (one, all) = (shown(Source::Acme, &["a.test"]), shown(Source::Acme, &["*.b.test", "192.0.2.1"]));
        for new in [&own, &one, &all] {
            certificates.install(new.clone());
        }
        for (name, expected) in [
            (Some("a.test"), &one),
            (Some("A.TEST"), &one),
            (Some("localhost"), &own),
            (Some("x.b.test"), &all),
            (Some("192.0.2.1"), &all),
            (Some("b.test"), &one),
            (Some("x.y.b.test"), &one),
            (Some("elsewhere.test"), &one),
            (None, &all),
        ] {
            let found = certificates.of(name).expect("one");
            assert!(Arc::ptr_eq(&found, &expected.key), "{name:?}");
        }
    }

    #[test]
    fn a_new_one_takes_the_place_of_the_old() {
        let certificates = Certificates::default();
        let (old, new) = (shown(Source::Acme, &["a.test"]), shown(Source::Acme, &["a.test"]));
        certificates.install(old);
        certificates.install(new.clone());
        assert_eq!(certificates.all().len(), 1);
        assert!(Arc::ptr_eq(&certificates.of(None).expect("one"), &new.key));
        certificates.retain(|shown| shown.source != Source::Acme);
        assert!(certificates.of(None).is_none());
    }
}
