//! The section on ACME (RFC 8555): which names a certificate is ordered for,
//! where, and how it is shown that they are ours.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::reader::Reader;
use super::sections::{Secret, key};
use super::setting::{DAY, INSTANT, List, OrOff, Setting, is_off};
use super::tls::{TlsMode, TlsSection};

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertName {
    /// A host's name, in lower case and ASCII; `*.` before it for all one level below.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl CertName {
    /// Reads a name or an address.
    ///
    /// # Errors
    /// What it should be.
    pub fn read(text: &str) -> Result<Self, String> {
        <Self as Setting>::parse(text)
            .ok_or_else(|| "must be a name such as agents.example.com, or an address".to_owned())
    }

    /// Whether it stands for many names.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Dns(name) if name.starts_with("*."))
    }
}

/// What people type to reach a service that has certificates for these names,
/// or has none and listens there.
#[must_use]
pub fn https_address(names: &[CertName], listen: SocketAddr) -> String {
    let host = match names.iter().find(|name| !name.is_wildcard()) {
        Some(CertName::Ip(address @ IpAddr::V6(_))) => format!("[{address}]"),
        Some(name) => name.to_string(),
        None => return format!("https://{listen}"),
    };
    match listen.port() {
        443 => format!("https://{host}"),
        port => format!("https://{host}:{port}"),
    }
}

impl fmt::Display for CertName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl Setting for CertName {
    const EXPECTED: &'static str = "names such as agents.example.com, or addresses";

    fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Ip(address));
        }
        let (star, rest) = text.strip_prefix("*.").map_or(("", text), |rest| ("*.", rest));
        let url::Host::Domain(name) = url::Host::parse(rest).ok()? else { return None };
        let label = |label: &str| {
            let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
        };
        let fits = name.len() <= 253 && name.contains('.') && name.split('.').all(label);
        // The parser of URLs drops what lies around and between, such as tabs.
        let whole = !rest.contains(|c: char| c.is_whitespace() || c.is_control());
        (fits && whole).then(|| Self::Dns(format!("{star}{name}")))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// How it is shown that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeKind {
    /// By a file over plain HTTP on port 80 (RFC 8555, 8.3).
    Http01,
    /// By a certificate on port 443 (RFC 8737).
    TlsAlpn01,
    /// By a record that a program sets (RFC 8555, 8.4).
    Dns01,
}

impl ChallengeKind {
    /// As the standards write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Http01, Self::TlsAlpn01, Self::Dns01].into_iter().find(|kind| kind.name() == name)
    }
}

impl Setting for ChallengeKind {
    const EXPECTED: &'static str = "http-01, tls-alpn-01 or dns-01";

    fn parse(text: &str) -> Option<Self> {
        Self::from_name(text)
    }

    fn show(&self) -> String {
        self.name().into()
    }
}

impl Setting for OrOff<Url> {
    const EXPECTED: &'static str = "an http or https URL, or off";
    const REPEAT: bool = false;

    fn parse(text: &str) -> Option<Self> {
        if is_off(text) { Some(Self::Off) } else { <Url as Setting>::parse(text).map(Self::On) }
    }

    fn show(&self) -> String {
        match self {
            Self::On(url) => url.to_string(),
            Self::Off => "off".into(),
        }
    }
}

/// `[acme]`
#[derive(Clone, Debug)]
pub struct AcmeSection {
    /// Names and addresses, each with a certificate of its own.
    pub domains: Vec<CertName>,
    /// Where the authority writes to; some need it.
    pub email: Option<String>,
    /// Directories in the order in which they are tried.
    pub directories: Vec<Url>,
    /// Tried first after a failure, so that the real one's limits are spared.
    pub staging: Option<Url>,
    /// Ways to show that a name is ours, in the order in which they are tried.
    pub challenges: Vec<ChallengeKind>,
    /// The program that sets and removes records for `dns-01`.
    pub dns_hook: Option<PathBuf>,
    /// External account binding: the key's id.
    pub eab_kid: Option<String>,
    /// External account binding: the key, base64url.
    pub eab_key: Secret,
    /// The certificate profile that is asked for.
    pub profile: Option<String>,
    /// A PEM file of authorities to trust for the directories, beside the usual.
    pub ca_file: Option<PathBuf>,
    /// How often it is looked whether a certificate is due.
    pub check_every: Duration,
}

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

impl AcmeSection {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let usual = <Url as Setting>::parse(LETS_ENCRYPT).into_iter().collect();
        let directories =
            reader.value(key("acme.directories", "Directories, in the order in which they are tried."), List(usual)).0;
        let staging = key(
            "acme.staging",
            "A directory that is tried first after a failure, or off; Let's Encrypt's own when only Let's Encrypt is \
             asked.",
        );
        let is_usual = directories.iter().all(|url: &Url| url.as_str() == LETS_ENCRYPT);
        let usual_staging = <Url as Setting>::parse(LETS_ENCRYPT_STAGING).filter(|_| is_usual);
        Self {
            domains: reader
                .value(
                    key("acme.domains", "Names and addresses to have certificates for, each its own."),
                    List(Vec::new()),
                )
                .0,
            email: reader.optional(key("acme.email", "Where the authority writes to.")),
            directories,
            staging: reader.value(staging, usual_staging.map_or(OrOff::Off, OrOff::On)).into(),
            challenges: reader
                .value(
                    key("acme.challenges", "Ways to show that a name is ours, in order: http-01, tls-alpn-01, dns-01."),
                    List(vec![ChallengeKind::Http01, ChallengeKind::TlsAlpn01]),
                )
                .0,
            dns_hook: reader.optional(key("acme.dns_hook", "The program that sets and removes records for dns-01.")),
            eab_kid: reader.optional(key("acme.eab_kid", "External account binding: the id of the key.")),
            eab_key: Secret::read(
                reader,
                key("acme.eab_key", "External account binding: the key, base64url."),
                key("acme.eab_key_file", "A file that holds it."),
            ),
            profile: reader.optional(key("acme.profile", "The certificate profile to ask for.")),
            ca_file: reader.optional(key(
                "acme.ca_file",
                "A PEM file of authorities to trust for the directories, beside those of the host.",
            )),
            check_every: reader.span(
                key("acme.check_every", "How often it is looked whether a certificate is due."),
                Duration::from_secs(600),
                INSTANT..=DAY,
            ),
        }
    }

    pub(super) fn check(&self, reader: &mut Reader<'_>, tls: &TlsSection) {
        if tls.mode != TlsMode::Acme {
            return;
        }
        if self.domains.is_empty() {
            let what = "tls.mode = \"acme\" needs acme.domains too";
            reader.fault_without("tls.mode", &["acme.domains"], what.into());
        }
        if self.directories.is_empty() {
            reader.fault_at_key("acme.directories", "acme.directories must name at least one".into());
        }
        if self.challenges.is_empty() {
            reader.fault_at_key("acme.challenges", "acme.challenges must name at least one".into());
        }
        let by_record = self.challenges.contains(&ChallengeKind::Dns01);
        if by_record && self.dns_hook.is_none() {
            let what = "dns-01 needs acme.dns_hook, the program that sets records";
            reader.fault_without("acme.challenges", &["acme.dns_hook"], what.into());
        }
        if let Some(name) = self.domains.iter().find(|name| name.is_wildcard()).filter(|_| !by_record) {
            let what = format!("{name}: a wildcard is only given for dns-01; add it to acme.challenges");
            reader.fault_at_key("acme.domains", what);
        }
        if self.eab_kid.is_some() != !matches!(self.eab_key, Secret::Unset) {
            reader.fault_at_key("acme.eab_kid", "acme.eab_kid and acme.eab_key belong together".into());
        }
        if let Err(fault) = self.eab_key.resolve() {
            reader.fault_at_key("acme.eab_key_file", fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Option<String> {
        <CertName as Setting>::parse(text).map(|name| name.to_string())
    }

    #[test]
    fn names_are_read_strictly() {
        for (text, read) in [
            ("agents.example.com", "agents.example.com"),
            ("Agents.Example.COM", "agents.example.com"),
            ("*.example.com", "*.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("192.0.2.7", "192.0.2.7"),
            ("2001:DB8::7", "2001:db8::7"),
        ] {
            assert_eq!(name(text).as_deref(), Some(read), "{text}");
        }
        for wrong in [
            "",
            "localhost",
            "*",
            "*.*.example.com",
            "a.*.example.com",
            "a\nb.example.com",
            "example.com\n",
            "a b.example",
            "-a.example.com",
            "a..example.com",
            "https://example.com",
            "example.com:443",
            "example.com/",
            "[2001:db8::7]",
            "1.2.3",
        ] {
            assert_eq!(name(wrong), None, "{wrong:?}");
        }
        assert_eq!(name(&format!("{}.example", "a".repeat(64))), None);
    }

    proptest! {
        #[test]
        fn what_is_read_is_read_the_same_again(text in "\\PC{0,40}") {
            if let Some(read) = name(&text) {
                prop_assert_eq!(name(&read), Some(read.clone()));
                prop_assert!(read.is_ascii());
            }
        }
    }
}
