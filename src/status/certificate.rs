//! What is shown of certificates, and when they are a worry.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Facts, LATE, Warning};
use crate::clock::Timestamp;
use crate::config::{CertName, TlsMode};
use crate::tls::{Shown, Source};

/// A certificate that clients are shown.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ShownCertificate")]
pub(super) struct CertificateView {
    names: Vec<String>,
    #[schemars(extend("enum" = ["self_signed", "files", "acme"]))]
    source: &'static str,
    /// Who vouches for it.
    issuer: Option<String>,
    serial: Option<String>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl CertificateView {
    pub(super) fn of(shown: &Shown) -> Self {
        let der = shown.key.cert.first();
        let read = der.and_then(|der| X509Certificate::from_der(der).ok()).map(|(_, read)| read);
        Self {
            names: shown.names.iter().map(ToString::to_string).collect(),
            source: match shown.source {
                Source::SelfSigned => "self_signed",
                Source::Files => "files",
                Source::Acme => "acme",
            },
            issuer: read.as_ref().map(|read| read.issuer().to_string()),
            serial: read.as_ref().map(|read| read.raw_serial_as_string()),
            not_before: shown.not_before,
            not_after: shown.not_after,
        }
    }
}

pub(super) fn warnings(shown: &[Arc<Shown>], facts: &Facts, now: Timestamp) -> Vec<Warning> {
    let mut warnings: Vec<_> = shown.iter().filter_map(|shown| ending(shown, now)).collect();
    if facts.mode == TlsMode::Acme {
        let has = |name: &CertName| shown.iter().any(|it| it.source == Source::Acme && it.names.contains(name));
        for name in facts.domains.iter().filter(|name| !has(name)) {
            let what = format!("there is no certificate for {name} yet, so clients do not trust the service");
            warnings.push(Warning::new(what, "it is being ordered; agentd cert list says how far it is"));
        }
    }
    warnings
}

fn ending(shown: &Shown, now: Timestamp) -> Option<Warning> {
    // One that is made here is remade here, and nobody trusts it anyway.
    if shown.source == Source::SelfSigned || now.plus(LATE) < shown.not_after {
        return None;
    }
    let names = shown.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let until = shown.not_after;
    let what = if shown.not_after <= now {
        format!("the certificate of {names} ended at {until}")
    } else {
        format!("the certificate of {names} ends soon, at {until}")
    };
    let todo = match shown.source {
        Source::Files => "put a new one in the place of tls.cert_file and tls.key_file; it is taken up by itself",
        Source::SelfSigned | Source::Acme => "agentd cert list says why it has not been renewed",
    };
    Some(Warning::new(what, todo))
}
