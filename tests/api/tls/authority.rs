//! Certificates as authorities issue them: a root, one below it, and the
//! server's own.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::support::tls::{Made, serial};

/// A root, an authority below it, and what they issue.
pub(super) struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    below: CertifiedIssuer<'static, KeyPair>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

impl Authority {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same; the one below is changed before it is signed.
    pub(super) fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = || KeyPair::generate().expect("a key");
        let root = CertifiedIssuer::self_signed(params("The Root"), key()).expect("a root");
        let mut below = params("The Intermediate");
        change(&mut below);
        let below = CertifiedIssuer::signed_by(below, key(), &root).expect("an authority");
        Self { root, below }
    }

    pub(super) fn root(&self) -> String {
        self.root.pem()
    }

    pub(super) fn below(&self) -> String {
        self.below.pem()
    }

    /// A certificate for a server, without those above it.
    pub(super) fn issue(&self, names: &[&str]) -> Made {
        self.issue_with(names, |_| {})
    }

    pub(super) fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Made {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.below).expect("a certificate");
        Made { serial: serial(certificate.der()), certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// Ended long ago.
pub(super) fn ended(params: &mut CertificateParams) {
    (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
}

/// With an extension that nobody knows.
pub(super) fn unknown_critical(params: &mut CertificateParams) {
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
}
