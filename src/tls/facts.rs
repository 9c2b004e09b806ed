//! What stands in a certificate.

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::clock::Timestamp;
use crate::config::CertName;

/// What a certificate says of itself.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Whom it is for: names of hosts and addresses; others are left out.
    pub names: Vec<CertName>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Who issued it.
    pub issuer: String,
    /// Its number, in hexadecimal.
    pub serial: String,
}

impl Facts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// That it is none. What the parser says is left out: it could repeat a piece
    /// of a file that is a key.
    pub(super) fn of(certificate: &[u8]) -> Result<Self, String> {
        let read = X509Certificate::from_der(certificate);
        read.map(|(_, read)| Self::read(&read)).map_err(|_| "it is not an X.509 certificate, or is damaged".to_owned())
    }

    /// What a certificate says that has been parsed.
    pub(super) fn read(read: &X509Certificate<'_>) -> Self {
        let alternative = read.subject_alternative_name().ok().flatten();
        let names = alternative.map(|names| names.value.general_names.iter().filter_map(name).collect());
        Self {
            names: names.unwrap_or_default(),
            not_before: moment(read.validity().not_before),
            not_after: moment(read.validity().not_after),
            issuer: read.issuer().to_string(),
            serial: read.raw_serial_as_string().replace(':', ""),
        }
    }
}

pub(super) fn moment(time: ASN1Time) -> Timestamp {
    Timestamp::from_micros(time.timestamp().saturating_mul(1_000_000))
}

fn name(general: &GeneralName<'_>) -> Option<CertName> {
    match general {
        GeneralName::DNSName(name) => Some(CertName::Dns(name.to_ascii_lowercase())),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(Into::into);
            four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(Into::into)).ok().map(CertName::Ip)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().expect("a key");
        let names = ["a.test", "*.a.test", "192.0.2.1", "2001:db8::1"].map(str::to_owned);
        let params = rcgen::CertificateParams::new(names).expect("parameters");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn a_certificate_says_for_whom_and_how_long_it_is() {
        let facts = Facts::of(&certificate()).expect("a certificate");
        let names: Vec<_> = facts.names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a.test", "*.a.test", "192.0.2.1", "2001:db8::1"]);
        assert!(facts.not_before < facts.not_after);
    }

    proptest! {
        #[test]
        fn what_is_no_certificate_is_told_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Facts::of(&bytes).is_err());
        }

        #[test]
        fn a_damaged_certificate_is_no_panic(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = certificate();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            let _ = Facts::of(&bytes);
            let _ = Facts::of(&bytes[..place]);
        }
    }
}
