//! The certificates of a file as clients are sent them: the server's own first,
//! each followed by that of its issuer, and what clients would object to.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, RootCertStore};
use x509_parser::asn1_rs::Tag;
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate, X509Version};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use super::facts::{Facts, moment};
use crate::clock::Timestamp;
use crate::config::CertName;

/// Characters of a name out of a certificate that a message repeats.
const NAME: usize = 120;
/// Bits of the shortest RSA key that clients accept.
const SHORTEST_RSA: usize = 2048;

/// Critical extensions that every client knows.
const KNOWN: [&str; 6] = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.31", "2.5.29.37"];
/// Critical extensions that many clients know: policies (RFC 5280), addresses
/// (RFC 3779), proxy certificates, and the old Netscape type.
const OFTEN_KNOWN: [&str; 8] = [
    "2.5.29.32",
    "2.5.29.33",
    "2.5.29.36",
    "2.5.29.54",
    "1.3.6.1.5.5.7.1.7",
    "1.3.6.1.5.5.7.1.8",
    "1.3.6.1.5.5.7.1.14",
    "2.16.840.1.113730.1.1",
];
/// Marks a certificate that authorities log before they issue the true one
/// (RFC 6962, 3.1).
const POISON: &str = "1.3.6.1.4.1.11129.2.4.3";
/// Signatures that clients do not accept any more.
const BROKEN_SIGNATURES: [(&str, &str); 5] = [
    ("1.2.840.113549.1.1.5", "SHA-1"),
    ("1.2.840.10045.4.1", "SHA-1"),
    ("1.2.840.10040.4.3", "SHA-1"),
    ("1.2.840.113549.1.1.4", "MD5"),
    ("1.2.840.113549.1.1.2", "MD2"),
];

/// What clients are sent, and what they may object to.
pub(super) struct Chain {
    pub certificates: Vec<CertificateDer<'static>>,
    pub warnings: Vec<String>,
}

/// A certificate of the file.
struct Read<'a> {
    place: usize,
    der: &'a [u8],
    certificate: X509Certificate<'a>,
}

impl<'a> Read<'a> {
    fn of(place: usize, der: &'a CertificateDer<'static>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der.as_ref()).ok()?;
        Some(Self { place, der: der.as_ref(), certificate })
    }

    /// Whether the two were issued by and for the same, with the same key.
    fn is_root(&self) -> bool {
        let read = &self.certificate;
        let same_key = issuer_key(read).zip(own_key(read)).is_none_or(|(issuer, own)| issuer == own);
        read.issuer().as_raw() == read.subject().as_raw() && same_key
    }

    fn is_valid_at(&self, now: Timestamp) -> bool {
        let validity = self.certificate.validity();
        moment(validity.not_before) <= now && now < moment(validity.not_after)
    }

    /// Whether it may be the certificate of the one that issued `other`.
    fn may_have_issued(&self, other: &Self) -> bool {
        let keys = issuer_key(&other.certificate).zip(own_key(&self.certificate));
        self.certificate.subject().as_raw() == other.certificate.issuer().as_raw()
            && keys.is_none_or(|(issuer, own)| issuer == own)
    }
}

fn own_key<'a>(read: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    read.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

fn issuer_key<'a>(read: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    read.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    })
}

/// Puts the certificates of a file in order: that with this public key, then
/// those above it, then others of authorities. Roots are left out, since clients
/// have their own; `None` where no certificate has the key.
pub(super) fn arrange(
    file: &[CertificateDer<'static>],
    public_key: &[u8],
    now: Timestamp,
    trusted: impl FnOnce() -> RootCertStore,
) -> Option<Chain> {
    let mut once: Vec<&CertificateDer<'static>> = Vec::new();
    for certificate in file {
        if !once.contains(&certificate) {
            once.push(certificate);
        }
    }
    let mut rest: Vec<_> = once.iter().enumerate().filter_map(|(place, der)| Read::of(place, der)).collect();
    let unreadable = once.len() - rest.len();
    let has_key = |read: &Read<'_>| read.certificate.public_key().raw == public_key;
    let valid = rest.iter().position(|read| has_key(read) && read.is_valid_at(now));
    let leaf = rest.remove(valid.or_else(|| rest.iter().position(has_key))?);
    let linked = link(leaf, &mut rest);
    let mut warnings = objections(&linked, now, trusted);
    if unreadable > 0 {
        warnings.push(format!(
            "{unreadable} of the certificates in the file cannot be read, and clients are not sent them"
        ));
    }
    let sent = linked.iter().enumerate().filter(|(place, read)| *place == 0 || !read.is_root()).map(|(_, read)| read);
    let others = rest.iter().filter(|read| read.certificate.is_ca() && !read.is_root());
    let certificates = sent.chain(others).map(|read| once[read.place].clone()).collect();
    Some(Chain { certificates, warnings })
}

/// The chain from the server's certificate up, taken out of the others.
fn link<'a>(leaf: Read<'a>, rest: &mut Vec<Read<'a>>) -> Vec<Read<'a>> {
    let mut linked = vec![leaf];
    while let Some(below) = linked.last()
        && !below.is_root()
    {
        let above = (0..rest.len()).rev().filter(|place| rest[*place].may_have_issued(below));
        // Of several with one name, the one that leads further: authorities give
        // it beside their root for clients that do not know that yet.
        let Some(above) = above.max_by_key(|place| !rest[*place].is_root()) else { break };
        linked.push(rest.remove(above));
    }
    linked
}

/// What clients may object to, as ends of "the certificate …: ".
fn objections(linked: &[Read<'_>], now: Timestamp, trusted: impl FnOnce() -> RootCertStore) -> Vec<String> {
    let Some((leaf, above)) = linked.split_first() else { return Vec::new() };
    let mut said = of_itself(leaf, now);
    said.extend(above.iter().flat_map(|read| of_authority(read, now)));
    if leaf.is_root() {
        return said;
    }
    let issuer = leaf.certificate.issuer();
    let trusted = if above.is_empty() { trusted() } else { RootCertStore::empty() };
    if above.is_empty() && !trusted.subjects().iter().any(|subject| subject.as_ref() == issuer.as_raw()) {
        said.push(format!(
            "its issuer {} is neither in the file nor an authority that this machine trusts, so clients may refuse it; \
             put the issuer's certificate behind it (authorities call such a file fullchain or bundle)",
            name(issuer)
        ));
        return said;
    }
    let refused = verify(leaf, above, trusted, now);
    // What has been said already is most often why.
    if said.is_empty() {
        said.extend(refused);
    }
    said
}

fn of_itself(leaf: &Read<'_>, now: Timestamp) -> Vec<String> {
    let mut said = Vec::new();
    let read = &leaf.certificate;
    let from = moment(read.validity().not_before);
    if from > now {
        // It may be the clock that is wrong, which a service that waits does not mend.
        said.push(format!("it is not valid before {from}; if that is over, the clock of this machine is wrong"));
    }
    if read.version() != X509Version::V3 {
        said.push("it is of an old version of X.509, which clients refuse".into());
    }
    if Facts::read(read).names.is_empty() {
        said.push("it names no host (subjectAltName), so clients refuse it".into());
    }
    for oid in critical(read).filter(|oid| OFTEN_KNOWN.contains(&oid.as_str())) {
        said.push(format!("its critical extension {oid} is one that some clients do not know: those refuse it"));
    }
    match read.public_key().algorithm.algorithm.to_id_string().as_str() {
        "1.3.101.112" => {
            said.push("its key is Ed25519, which browsers do not accept; ECDSA on P-256 works everywhere".into());
        }
        "1.2.840.10045.2.1" if curve(read.public_key()).as_deref() == Some("1.3.132.0.35") => {
            said.push("its key is ECDSA on P-521, which some browsers do not accept; P-256 works everywhere".into());
        }
        _ => {}
    }
    if !leaf.is_root() {
        said.extend(signature(read).map(|hash| format!("it is signed with {hash}, which clients refuse")));
    }
    said
}

fn of_authority(authority: &Read<'_>, now: Timestamp) -> Vec<String> {
    let read = &authority.certificate;
    let who = name(read.subject());
    let mut said = Vec::new();
    if authority.is_root() {
        // Clients use their own, and trust it whatever it says.
        return said;
    }
    let (from, until) = (moment(read.validity().not_before), moment(read.validity().not_after));
    if until <= now {
        said.push(format!("the certificate of its authority {who} ended at {until}; put the present one behind it"));
    } else if from > now {
        said.push(format!("the certificate of its authority {who} is not valid before {from}"));
    }
    if let Some(hash) = signature(read) {
        said.push(format!("the certificate of its authority {who} is signed with {hash}, which clients refuse"));
    }
    if let Some(bits) = rsa_bits(read.public_key()).filter(|bits| *bits < SHORTEST_RSA) {
        said.push(format!("the key of its authority {who} is RSA with {bits} bits, which clients refuse"));
    }
    for oid in critical(read) {
        said.push(format!(
            "the certificate of its authority {who} has a critical extension that clients do not know ({oid})"
        ));
    }
    said
}

/// What a client says that trusts whom the chain leads to.
fn verify(leaf: &Read<'_>, above: &[Read<'_>], mut roots: RootCertStore, now: Timestamp) -> Option<String> {
    let der = |read: &Read<'_>| CertificateDer::from(read.der.to_vec());
    let mut between: Vec<_> = above.iter().map(der).collect();
    if let Some(top) = between.pop() {
        roots.add(top).ok()?;
    }
    let facts = Facts::read(&leaf.certificate);
    let host = match facts.names.first()? {
        CertName::Dns(name) => ServerName::try_from(name.replacen('*', "any", 1)).ok()?,
        CertName::Ip(address) => ServerName::from(*address),
    };
    // Whether it is valid yet, and still, is said elsewhere.
    let last = Timestamp::from_micros(facts.not_after.micros() - 1_000_000);
    let at = now.min(last).max(facts.not_before);
    let at = UnixTime::since_unix_epoch(Duration::from_micros(u64::try_from(at.micros()).ok()?));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
    let error = client.verify_server_cert(&der(leaf), &between, &host, &[], at).err()?;
    Some(match error {
        rustls::Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => "it is not for servers (extendedKeyUsage lacks serverAuth), so clients refuse it".into(),
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => {
            "its signature is not by the authority of that name in the file, which has another key".into()
        }
        error if error.to_string().contains("NameConstraint") => {
            "a name in it is not among those that its authority may issue for (nameConstraints), so clients refuse it"
                .into()
        }
        error if error.to_string().contains("CaUsedAsEndEntity") => {
            "it is the certificate of an authority (CA:TRUE) and not of a server, so some clients refuse it".into()
        }
        error => format!("clients that trust its authority would refuse it: {}", plain(error)),
    })
}

/// Critical extensions that not every client knows.
fn critical<'a>(read: &'a X509Certificate<'_>) -> impl Iterator<Item = String> + 'a {
    let critical = read.extensions().iter().filter(|extension| extension.critical);
    critical.map(|extension| oid(&extension.oid)).filter(|oid| !KNOWN.contains(&oid.as_str()))
}

/// Why clients refuse a certificate whatever they trust.
pub(super) fn refused(certificate: &[u8]) -> Option<String> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    let oid = critical(&read).find(|oid| !OFTEN_KNOWN.contains(&oid.as_str()))?;
    if oid == POISON {
        return Some(format!(
            "it is a precertificate (critical extension {oid}), which clients refuse; put the certificate there that the \
             authority issued after it"
        ));
    }
    Some(format!(
        "it has a critical extension that clients do not know (OID {oid}), so they will refuse it; have it issued without \
         that, or with the extension not critical"
    ))
}

/// Why TLS cannot be spoken with the key of a certificate; `None` where the key
/// is of a kind that can be used.
pub(super) fn unusable_key(certificate: &[u8]) -> Option<String> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    let key = read.public_key();
    let kind = match key.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => {
            let bits = rsa_bits(key).filter(|bits| !(SHORTEST_RSA..=8192).contains(bits))?;
            format!("RSA with {bits} bits")
        }
        "1.2.840.10045.2.1" => match curve(key).as_deref() {
            Some("1.2.840.10045.3.1.7" | "1.3.132.0.34" | "1.3.132.0.35") => return None,
            Some("1.3.132.0.33") => "ECDSA on P-224".into(),
            Some("1.3.132.0.10") => "ECDSA on secp256k1".into(),
            Some(oid) => format!("ECDSA on the curve {oid}"),
            None => "ECDSA with a curve that is written out (explicit parameters)".into(),
        },
        "1.3.101.112" => return None,
        "1.3.101.113" => "Ed448".into(),
        "1.2.840.10040.4.1" => "DSA".into(),
        "1.2.840.113549.1.1.10" => "RSA for RSASSA-PSS alone".into(),
        _ => format!("of the kind {}", oid(&key.algorithm.algorithm)),
    };
    Some(format!(
        "its key is {kind}, which clients do not accept or this service cannot use; ECDSA on P-256 or P-384, RSA with 2048 \
         to 8192 bits and Ed25519 can be used"
    ))
}

fn curve(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    let named = key.algorithm.parameters.clone().filter(|parameters| parameters.tag() == Tag::Oid)?;
    named.oid().ok().map(|curve| oid(&curve))
}

/// An object identifier, as numbers with dots.
fn oid(oid: &Oid<'_>) -> String {
    let text = oid.to_id_string();
    let is_one = text.len() <= NAME && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_one { text } else { "(unreadable)".into() }
}

fn rsa_bits(key: &SubjectPublicKeyInfo<'_>) -> Option<usize> {
    match key.parsed().ok()? {
        PublicKey::RSA(key) => Some(key.key_size()),
        _ => None,
    }
}

fn signature(read: &X509Certificate<'_>) -> Option<&'static str> {
    let oid = read.signature_algorithm.algorithm.to_id_string();
    BROKEN_SIGNATURES.into_iter().find(|(known, _)| *known == oid).map(|(_, hash)| hash)
}

/// A name out of a certificate, for people.
fn name(name: &X509Name<'_>) -> String {
    format!("\"{}\"", plain(name))
}

fn plain(text: impl Display) -> String {
    let text = text.to_string();
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(NAME).collect();
    if text.chars().count() > NAME {
        short.push('…');
    }
    short
}
