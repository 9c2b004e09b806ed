//! A certificate of ACME with its key.

use std::sync::Arc;

use instant_acme::CertificateIdentifier;
use rustls::sign::CertifiedKey;

use super::super::facts::Facts;
use super::policy::Validity;
use crate::pem;

/// A certificate with its key, read.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Chain and key, as TLS needs them.
    pub key: Arc<CertifiedKey>,
    /// From when to when it is valid.
    pub validity: Validity,
    /// Who issued it.
    pub issuer: String,
    /// Its number, in hexadecimal.
    pub serial: String,
}

impl Parsed {
    /// Reads a chain and a key in PEM.
    ///
    /// # Errors
    /// What is wrong with them; nothing of the key.
    pub fn read(chain: &str, key: &str) -> Result<Self, String> {
        let chain =
            pem::certificates(chain.as_bytes()).map_err(|why| format!("the certificate cannot be read: {why}"))?;
        let key = pem::private_keys(key.as_bytes()).ok().and_then(|keys| keys.into_iter().next());
        let key = key.ok_or("the private key cannot be read")?;
        let facts = Facts::of(chain.first().ok_or("there is no certificate")?)
            .map_err(|why| format!("the certificate cannot be read: {why}"))?;
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
            .map_err(|_| "the private key is of a kind that is not supported".to_owned())?;
        let key = CertifiedKey::new(chain, signing);
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(_) => return Err("the private key is not the certificate's".into()),
        }
        let validity = Validity { from: facts.not_before, until: facts.not_after };
        Ok(Self { key: Arc::new(key), validity, issuer: facts.issuer, serial: facts.serial })
    }

    /// What the authority calls it (RFC 9773, 4.1); none when it says nothing
    /// of who issued it.
    #[must_use]
    pub fn identifier(&self) -> Option<CertificateIdentifier<'static>> {
        let leaf = self.key.cert.first()?;
        CertificateIdentifier::try_from(leaf).ok().map(CertificateIdentifier::into_owned)
    }

    /// A number that is another for each certificate.
    #[must_use]
    pub fn seed(&self) -> u64 {
        let leaf = self.key.cert.first().map_or(&[][..], |leaf| leaf.as_ref());
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
        digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}
