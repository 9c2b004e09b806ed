//! Certificates and private keys in PEM (RFC 7468), however a file was put
//! together: markers that share a line, carriage returns, a byte order mark,
//! UTF-16, text around the blocks, bodies on one line.
//!
//! No error repeats anything of the file. A file of a key is easily taken for
//! one of a certificate, and errors are logged.

use std::borrow::Cow;

use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// Labels of certificates; the last two are old forms of OpenSSL.
const CERTIFICATES: [&str; 3] = ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"];
/// Labels of private keys without a passphrase.
const KEYS: [&str; 3] = ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"];
/// Labels of what is often given instead, and what that is.
const OTHERS: [(&str, &str); 11] = [
    ("ENCRYPTED PRIVATE KEY", "an encrypted private key"),
    ("DSA PRIVATE KEY", "a DSA private key, which TLS does not use any more"),
    ("OPENSSH PRIVATE KEY", "a private key of OpenSSH"),
    ("CERTIFICATE REQUEST", "a signing request, which is what an authority makes a certificate from"),
    ("NEW CERTIFICATE REQUEST", "a signing request, which is what an authority makes a certificate from"),
    ("PKCS7", "a PKCS#7 bundle; openssl pkcs7 -print_certs -in FILE -out cert.pem converts it"),
    ("CMS", "a PKCS#7 bundle; openssl pkcs7 -print_certs -in FILE -out cert.pem converts it"),
    ("X509 CRL", "a revocation list"),
    ("PUBLIC KEY", "a public key"),
    ("DH PARAMETERS", "Diffie-Hellman parameters"),
    ("EC PARAMETERS", "parameters of a key"),
];

/// What is between a BEGIN and an END line.
struct Block<'a> {
    label: &'a [u8],
    body: &'a [u8],
    /// Whether the END line of this label follows.
    is_whole: bool,
}

impl Block<'_> {
    fn is(&self, labels: &[&str]) -> bool {
        labels.iter().any(|label| label.as_bytes() == self.label)
    }

    /// As the library reads it. It takes care that decoding a key takes the same
    /// time whatever the key is.
    fn decode(&self, label: &str) -> Option<(SectionKind, Vec<u8>)> {
        let mut text = format!("-----BEGIN {label}-----\n").into_bytes();
        text.extend(base64(self.body));
        text.extend(format!("\n-----END {label}-----\n").into_bytes());
        <(SectionKind, Vec<u8>)>::from_pem_slice(&text).ok()
    }

    fn is_encrypted(&self) -> bool {
        self.is(&["ENCRYPTED PRIVATE KEY"]) || contains(self.body, b"ENCRYPTED")
    }
}

/// All certificates of a file, in its order.
///
/// # Errors
/// What is wrong with the file, in words that go after "cannot be used:".
pub fn certificates(file: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = text(file);
    let blocks = blocks(&text);
    let mut found = Vec::new();
    for block in blocks.iter().filter(|block| block.is(&CERTIFICATES)) {
        let number = found.len() + 1;
        if !block.is_whole {
            return Err(format!(
                "the certificate number {number} in it has no -----END CERTIFICATE----- of its own: it is cut short"
            ));
        }
        let (_, mut der) = block.decode("CERTIFICATE").ok_or_else(|| {
            format!("the certificate number {number} in it is damaged: it holds characters that are not Base64")
        })?;
        if block.is(&["TRUSTED CERTIFICATE"]) {
            // OpenSSL puts what it trusts the certificate for behind it.
            der.truncate(element(&der).unwrap_or(der.len()));
        }
        found.push(CertificateDer::from(der));
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let what = describe(&text, &blocks, Wanted::Certificate);
    Err(format!("there is no certificate in it; PEM is expected (-----BEGIN CERTIFICATE-----){what}"))
}

/// All private keys of a file that have no passphrase, in its order.
///
/// # Errors
/// What is wrong with the file, in words that go after "cannot be used:".
pub fn private_keys(file: &[u8]) -> Result<Vec<PrivateKeyDer<'static>>, String> {
    let text = text(file);
    let blocks = blocks(&text);
    let mut found = Vec::new();
    for block in &blocks {
        let Some(label) = KEYS.into_iter().find(|label| block.is(&[label])) else { continue };
        if block.is_encrypted() {
            continue;
        }
        if !block.is_whole {
            return Err("there is no whole private key in it: the END line is missing, so it is cut short".into());
        }
        let key = block.decode(label).and_then(|(kind, der)| PrivateKeyDer::from_pem(kind, der));
        found.push(key.ok_or("the private key in it is damaged: it holds characters that are not Base64")?);
    }
    if !found.is_empty() {
        return Ok(found);
    }
    if blocks.iter().any(Block::is_encrypted) {
        return Err("the private key in it is encrypted, and nobody is there to type its passphrase; \
                    openssl pkey -in FILE -out key.pem writes it without"
            .into());
    }
    let what = describe(&text, &blocks, Wanted::Key);
    Err(format!(
        "there is no private key in it; PEM without a passphrase is expected (-----BEGIN PRIVATE KEY-----){what}"
    ))
}

/// Whether a text holds a certificate or a key itself, where it should be the
/// path of a file.
#[must_use]
pub fn is_in(text: &str) -> bool {
    text.contains("-----BEGIN ") || text.contains("PRIVATE KEY-----")
}

/// The bytes of a text; one in UTF-16, as PowerShell writes it, is converted.
fn text(file: &[u8]) -> Cow<'_, [u8]> {
    let of = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        String::from_utf16_lossy(&units.collect::<Vec<_>>()).into_bytes()
    };
    match file {
        [0xff, 0xfe, rest @ ..] => Cow::Owned(of(rest, u16::from_le_bytes)),
        [0xfe, 0xff, rest @ ..] => Cow::Owned(of(rest, u16::from_be_bytes)),
        _ => Cow::Borrowed(file),
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, wanted)
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    find(text, wanted).is_some()
}

fn blocks(text: &[u8]) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(at) = find(rest, BEGIN) {
        rest = &rest[at + BEGIN.len()..];
        let Some(end) = find(rest, DASHES) else { break };
        let label = &rest[..end];
        if !label.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b' ') {
            continue;
        }
        let after = &rest[end + DASHES.len()..];
        // Nothing in a body has five dashes, so the next are those of its end.
        let end = find(after, DASHES).unwrap_or(after.len());
        let own_end = after[end..].strip_prefix(END).and_then(|behind| behind.strip_prefix(label));
        let is_whole = own_end.is_some_and(|behind| behind.starts_with(DASHES));
        blocks.push(Block { label, body: &after[..end], is_whole });
        rest = &after[end..];
    }
    blocks
}

/// The body without white space, written out (`\n`) or not, and without headers.
fn base64(body: &[u8]) -> Vec<u8> {
    let lines = body.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.contains(&b':'));
    let mut digits = Vec::with_capacity(body.len());
    for line in lines {
        let mut bytes = line.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            let is_escaped = byte == b'\\' && matches!(bytes.peek(), Some(b'n' | b'r'));
            if is_escaped {
                bytes.next();
            } else if !byte.is_ascii_whitespace() {
                digits.push(byte);
            }
        }
    }
    digits
}

/// The length of the first element of DER, its tag included.
fn element(der: &[u8]) -> Option<usize> {
    let first = usize::from(*der.get(1)?);
    if first < 0x80 {
        return Some(2 + first);
    }
    let count = first & 0x7f;
    let length = der
        .get(2..2 + count)?
        .iter()
        .try_fold(0_usize, |all, byte| all.checked_mul(256)?.checked_add(usize::from(*byte)));
    length?.checked_add(2 + count)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Certificate,
    Key,
}

/// What a file is that does not hold what is wanted, as the end of a sentence.
fn describe(text: &[u8], blocks: &[Block<'_>], wanted: Wanted) -> String {
    if text.iter().all(u8::is_ascii_whitespace) {
        return ", and the file is empty".into();
    }
    if blocks.is_empty() {
        return binary(text, wanted).map_or_else(String::new, |what| format!("; the file is {what}"));
    }
    let known = |block: &Block<'_>| match wanted {
        Wanted::Certificate if block.is(&KEYS) => Some("a private key"),
        Wanted::Key if block.is(&CERTIFICATES) => Some("a certificate"),
        _ => OTHERS.into_iter().find(|(label, _)| block.is(&[label])).map(|(_, what)| what),
    };
    // Parameters come before what they are of.
    let all: Vec<_> = blocks.iter().filter_map(known).collect();
    let what = all.iter().find(|what| **what != "parameters of a key").or(all.first());
    what.map_or_else(String::new, |what| format!("; the file holds {what}"))
}

/// What a file of DER is.
fn binary(text: &[u8], wanted: Wanted) -> Option<&'static str> {
    const PKCS7: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
    const PKCS12: &[u8] = &[0x02, 0x01, 0x03, 0x30];
    const PBES2: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05];
    if text.starts_with(&[0xfe, 0xed, 0xfe, 0xed]) {
        return Some("a Java keystore; keytool -importkeystore -deststoretype PKCS12 converts it to PKCS#12 first");
    }
    let inner = contents(text)?;
    let begins = |with: &[u8]| inner.starts_with(with);
    Some(match wanted {
        _ if begins(PKCS7) => {
            "a PKCS#7 bundle; openssl pkcs7 -inform der -print_certs -in FILE -out cert.pem converts it"
        }
        Wanted::Certificate if begins(PKCS12) => {
            "a PKCS#12 bundle (.p12, .pfx); openssl pkcs12 -nokeys -in FILE -out cert.pem takes the certificates out of it"
        }
        Wanted::Key if begins(PKCS12) => {
            "a PKCS#12 bundle (.p12, .pfx); openssl pkcs12 -nocerts -noenc -in FILE -out key.pem takes the key out of it"
        }
        _ if contents(inner).is_some_and(|first| first.starts_with(PBES2)) => {
            "an encrypted private key in DER; openssl pkey -inform der -in FILE -out key.pem converts it"
        }
        // A version that is a number comes first in a key, and in a tag of its own in a certificate.
        _ if begins(&[0x02, 0x01, 0x00]) || begins(&[0x02, 0x01, 0x01]) => {
            "a private key in DER; openssl pkey -inform der -in FILE -out key.pem converts it"
        }
        _ if contents(inner).is_some_and(|first| matches!(first.first(), Some(0xa0 | 0x02))) => {
            "a certificate in DER; openssl x509 -inform der -in FILE -out cert.pem converts it"
        }
        _ => return None,
    })
}

/// What is inside of a sequence of DER, which begins here.
fn contents(der: &[u8]) -> Option<&[u8]> {
    let (0x30, first) = (*der.first()?, *der.get(1)?) else { return None };
    let header = if first < 0x80 { 2 } else { 2 + usize::from(first & 0x7f) };
    der.get(header..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Made {
        certificate: String,
        key: String,
        der: Vec<u8>,
    }

    fn made() -> Made {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).expect("parameters");
        let certificate = params.self_signed(&key).expect("a certificate");
        Made { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }

    fn count(text: impl AsRef<[u8]>) -> usize {
        certificates(text.as_ref()).expect("certificates").len()
    }

    #[test]
    fn markers_may_share_a_line_and_lines_may_end_in_any_way() {
        let Made { certificate, key, der } = made();
        let trimmed = certificate.trim_end();
        let one_line = trimmed.lines().collect::<String>();
        for text in [
            format!("{trimmed}{trimmed}"),
            format!("{certificate}{certificate}").replace('\n', "\r\n"),
            format!("{certificate}{certificate}").replace('\n', "\r"),
            format!("\u{feff}{certificate}\n\n{certificate}"),
            format!("{one_line}{one_line}"),
            format!("{one_line} {one_line}"),
            format!("{certificate}{certificate}").replace('\n', "\\n"),
            format!("{certificate}{certificate}").replace('\n', " "),
            format!("Bag Attributes\n    friendlyName: x\nsubject=CN=a\n{certificate}text {certificate}"),
            format!("{key}{certificate}{key}{certificate}"),
            certificate.replace("BEGIN CERT", "BEGIN X509 CERT").replace("END CERT", "END X509 CERT") + &certificate,
        ] {
            let read = certificates(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text:?}"));
            assert!(read.len() == 2 && read.iter().all(|read| read.as_ref() == der), "{text:?}");
        }
        for unit in [u16::to_le_bytes as fn(u16) -> [u8; 2], u16::to_be_bytes] {
            let text: Vec<u8> = format!("\u{feff}{certificate}").encode_utf16().flat_map(unit).collect();
            assert_eq!(count(text), 1, "UTF-16");
        }
    }

    #[test]
    fn what_openssl_trusts_is_left_out() {
        let Made { der, .. } = made();
        let with_more: Vec<u8> = der.iter().copied().chain([0x30, 0x03, 0x0c, 0x01, b'x']).collect();
        let body = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, with_more);
        let text = format!("-----BEGIN TRUSTED CERTIFICATE-----\n{body}\n-----END TRUSTED CERTIFICATE-----\n");
        assert_eq!(certificates(text.as_bytes()).expect("one")[0].as_ref(), der);
    }

    #[test]
    fn a_key_is_found_behind_its_parameters_and_among_certificates() {
        let Made { certificate, key, .. } = made();
        let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        for text in [
            format!("{parameters}{key}"),
            format!("{certificate}{key}"),
            format!("{key}{certificate}"),
            key.lines().collect::<String>(),
            key.replace('\n', "\r\n"),
        ] {
            assert_eq!(private_keys(text.as_bytes()).unwrap_or_else(|error| panic!("{error}")).len(), 1);
        }
    }

    #[test]
    fn what_is_something_else_is_named() {
        let Made { certificate, key, der } = made();
        let label = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        for (file, of_certificate, of_key) in [
            (key.as_bytes(), "holds a private key", ""),
            (certificate.as_bytes(), "", "holds a certificate"),
            (&der, "a certificate in DER", "a certificate in DER"),
            (b"", "the file is empty", "the file is empty"),
            (b" \n", "the file is empty", "the file is empty"),
            (b"hello", "no certificate in it", "no private key in it"),
            (&[0x30, 0x82, 1, 0, 2, 1, 3, 0x30], "openssl pkcs12 -nokeys", "openssl pkcs12 -nocerts"),
            (&[0x30, 0x82, 1, 0, 2, 1, 0, 0x30], "a private key in DER", "a private key in DER"),
            (&[0xfe, 0xed, 0xfe, 0xed, 0], "a Java keystore", "a Java keystore"),
            (old.as_bytes(), "holds a private key", "is encrypted"),
            (label("ENCRYPTED PRIVATE KEY").as_bytes(), "an encrypted private key", "is encrypted"),
            (label("CERTIFICATE REQUEST").as_bytes(), "a signing request", "a signing request"),
            (label("PKCS7").as_bytes(), "a PKCS#7 bundle", "a PKCS#7 bundle"),
            (label("OPENSSH PRIVATE KEY").as_bytes(), "of OpenSSH", "of OpenSSH"),
            (label("EC PARAMETERS").as_bytes(), "parameters of a key", "parameters of a key"),
        ] {
            if !of_certificate.is_empty() {
                let said = certificates(file).expect_err("no certificate");
                assert!(said.contains(of_certificate), "{said}");
            }
            if !of_key.is_empty() {
                let said = private_keys(file).map(|_| ()).expect_err("no key");
                assert!(said.contains(of_key), "{said}");
            }
        }
    }

    #[test]
    fn what_is_cut_short_or_damaged_is_said_with_its_number() {
        let Made { certificate, .. } = made();
        let cut = &certificate[..certificate.len() / 2];
        for (text, said) in [
            (format!("{certificate}{cut}"), "number 2 in it has no -----END"),
            (format!("{cut}{certificate}"), "number 1 in it has no -----END"),
            (format!("{certificate}{}", certificate.replace("-----\nMII", "-----\n*II")), "number 2 in it is damaged"),
        ] {
            let fault = certificates(text.as_bytes()).expect_err("no certificates");
            assert!(fault.contains(said), "{fault}");
        }
    }

    proptest! {
        /// Whatever is done to a file, nothing of it is in an error.
        #[test]
        fn no_error_repeats_the_file(
            before in "[ -~\\n]{0,20}",
            change in prop::collection::vec((any::<prop::sample::Index>(), "[-A-Za-z \\n:\\\\]{0,6}"), 0..6),
        ) {
            const MARKER: &str = "QUJDREVGR0hJSktMTU5PUFFS";
            let mut text = format!("{before}-----BEGIN PRIVATE KEY-----{MARKER}-----END PRIVATE KEY-----");
            for (place, with) in change {
                let place = place.index(text.len());
                text.replace_range(place..place, &with);
            }
            for said in [
                certificates(text.as_bytes()).map(|_| ()).err(),
                private_keys(text.as_bytes()).map(|_| ()).err(),
            ].into_iter().flatten() {
                for piece in MARKER.as_bytes().windows(6) {
                    prop_assert!(!said.contains(&*String::from_utf8_lossy(piece)), "{}", said);
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = certificates(&bytes);
            let _ = private_keys(&bytes);
        }
    }
}
