//! A certificate and its key, read from two files.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use super::facts::Facts;
use super::{Fault, Shown, Source, chain};
use crate::clock::Timestamp;
use crate::{outbound, pem};

/// Bytes of a file; a chain of certificates has a few thousand.
const LARGEST: u64 = 1 << 20;
const CERTIFICATE: &str = "the certificate";
const KEY: &str = "the private key";

/// A certificate and its key from two files, whatever its validity. The two may
/// be one file. What is wrong with them is said without repeating any of it.
pub(super) fn read(certificate: &Path, key: &Path, source: Source, now: Timestamp) -> Result<Shown, Fault> {
    let malformed = |what, path: &Path, why: String| Fault::Malformed { what, path: path.into(), why };
    let certificates =
        pem::certificates(&bytes(CERTIFICATE, certificate)?).map_err(|why| malformed(CERTIFICATE, certificate, why))?;
    let keys = pem::private_keys(&bytes(KEY, key)?).map_err(|why| malformed(KEY, key, why))?;
    let Some(signing) = usable(&keys) else {
        // A key of a kind that cannot be used says so in its certificate.
        return Err(match certificates.first().and_then(|first| chain::unusable_key(first)) {
            Some(why) => malformed(CERTIFICATE, certificate, why),
            None => malformed(KEY, key, BROKEN_KEY.into()),
        });
    };
    let mut found = None;
    for signing in signing {
        let Some(public) = signing.public_key() else { continue };
        if let Some(chain) = chain::arrange(&certificates, &public, now, outbound::host_authorities) {
            found = Some((chain, signing));
            break;
        }
    }
    let Some((chain, signing)) = found else { return Err(unmatched(&certificates, certificate, key)) };
    let first = chain.certificates.first().map_or(&[][..], |first| first.as_ref());
    if let Some(why) = chain::refused(first) {
        return Err(malformed(CERTIFICATE, certificate, why));
    }
    let facts = Facts::of(first).map_err(|why| malformed(CERTIFICATE, certificate, why))?;
    let Facts { names, not_before, not_after, .. } = facts;
    let key = Arc::new(CertifiedKey::new(chain.certificates, signing));
    Ok(Shown { source, names, not_before, not_after, key, warnings: chain.warnings })
}

const BROKEN_KEY: &str = "the private key in it is damaged, or of a kind that cannot be used; ECDSA on P-256, P-384 or \
                          P-521, RSA with 2048 to 8192 bits and Ed25519 can be";

/// Those that can sign; `None` where none can.
fn usable(keys: &[PrivateKeyDer<'static>]) -> Option<Vec<Arc<dyn SigningKey>>> {
    let signing = keys.iter().filter_map(|key| rustls::crypto::aws_lc_rs::sign::any_supported_type(key).ok());
    Some(signing.collect::<Vec<_>>()).filter(|signing| !signing.is_empty())
}

/// No certificate has the key. One that cannot be read at all is malformed, and
/// so is the file.
fn unmatched(certificates: &[CertificateDer<'static>], certificate: &Path, key: &Path) -> Fault {
    let broken = certificates.iter().position(|der| Facts::of(der).is_err());
    let broken = broken
        .map(|place| format!("the certificate number {} in it is malformed: it is damaged, or not X.509", place + 1));
    match broken.or_else(|| certificates.first().and_then(|first| chain::unusable_key(first))) {
        Some(why) => Fault::Malformed { what: CERTIFICATE, path: certificate.into(), why },
        None => Fault::Mismatch { certificate: certificate.into(), key: key.into() },
    }
}

fn bytes(what: &'static str, path: &Path) -> Result<Vec<u8>, Fault> {
    let unreadable = |source| Fault::Unreadable { what, path: path.into(), source };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > LARGEST {
        let why = format!("it has {size} bytes, far more than a certificate or a key");
        return Err(Fault::Malformed { what, path: path.into(), why });
    }
    std::fs::read(path).map_err(unreadable)
}
