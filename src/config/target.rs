//! Targets inside that an administrator allows to be reached, as written in
//! the configuration.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

use super::setting::Setting;

/// A target, or many: `name`, `name:port`, an address with or without a port,
/// or a network such as `10.1.0.0/16`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The machine or machines.
    pub host: TargetHost,
    /// The port; none: every port.
    pub port: Option<u16>,
}

/// Which machines a [`Target`] means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetHost {
    /// What has this name: lower case, without a point at the end.
    Name(String),
    /// What has one of these addresses.
    Net(IpNet),
}

impl Target {
    /// Whether it is more than any network of one's own.
    pub(super) fn is_vast(&self) -> bool {
        matches!(&self.host, TargetHost::Net(net) if crate::net::is_vast(net))
    }
}

/// Text that is no [`Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a name, an address or a network")]
pub struct NoTarget;

impl FromStr for Target {
    type Err = NoTarget;

    fn from_str(text: &str) -> Result<Self, NoTarget> {
        let port = |text: &str| text.parse().ok().filter(|port| *port != 0).ok_or(NoTarget);
        if let Some(host) = host(text) {
            return Ok(Self { host, port: None });
        }
        let (before, after) = text.rsplit_once(':').ok_or(NoTarget)?;
        let inner = before.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match inner {
            Some(inner) => TargetHost::Net(net(inner).ok_or(NoTarget)?),
            // Without brackets `::1:80` would be two things.
            None if before.contains(':') => return Err(NoTarget),
            None => host(before).ok_or(NoTarget)?,
        };
        Ok(Self { host, port: Some(port(after)?) })
    }
}

fn host(text: &str) -> Option<TargetHost> {
    if let Some(net) = net(text) {
        return Some(TargetHost::Net(net));
    }
    match url::Host::parse(text).ok()? {
        url::Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(&name);
            let plain = |label: &str| {
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            };
            name.split('.').all(plain).then(|| TargetHost::Name(name.to_owned()))
        }
        url::Host::Ipv4(address) => Some(TargetHost::Net(IpAddr::V4(address).into())),
        url::Host::Ipv6(address) => Some(TargetHost::Net(IpAddr::V6(address).into())),
    }
}

fn net(text: &str) -> Option<IpNet> {
    text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse().map(|net: IpNet| net.trunc())).ok()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (TargetHost::Name(name), _) => f.write_str(name)?,
            (TargetHost::Net(net @ IpNet::V6(_)), Some(_)) if is_one(net) => write!(f, "[{}]", net.addr())?,
            (TargetHost::Net(net @ IpNet::V6(_)), Some(_)) => write!(f, "[{net}]")?,
            (TargetHost::Net(net), _) if is_one(net) => write!(f, "{}", net.addr())?,
            (TargetHost::Net(net), _) => write!(f, "{net}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn is_one(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

impl Setting for Target {
    const EXPECTED: &'static str = "names, addresses or networks, each with or without a port, such as \
                                    wiki.internal:443, 10.1.2.3:8080, 10.1.0.0/16";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A name server; port 53 where none is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nameserver(pub SocketAddr);

impl Setting for Nameserver {
    const EXPECTED: &'static str = "addresses, each with or without a port, such as 9.9.9.9, [2620:fe::9]:53";

    fn parse(text: &str) -> Option<Self> {
        let plain = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
        plain.or_else(|_| text.parse()).ok().map(Self)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_way_to_write_a_target() {
        for (text, shown) in [
            ("wiki.internal", "wiki.internal"),
            ("Wiki.Internal.:443", "wiki.internal:443"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.9.8.7/8:443", "10.0.0.0/8:443"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[::1]:8080", "[::1]:8080"),
            ("fd00::/8", "fd00::/8"),
            ("[fd00::/8]:443", "[fd00::/8]:443"),
        ] {
            let target = text.parse::<Target>().unwrap_or_else(|_| panic!("{text} is refused"));
            assert_eq!(target.to_string(), shown, "{text}");
        }
        for wrong in [
            "",
            "*",
            "*.example.com",
            "a b",
            "host:0",
            "host:99999",
            "http://host",
            "::1:",
            "10.0.0.0/33",
            "a..b",
            "[::1",
        ] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong:?} is taken");
        }
    }

    #[test]
    fn name_servers_have_port_53_unless_they_say_otherwise() {
        let shown = |text| Nameserver::parse(text).map(|server| server.show());
        assert_eq!(shown("9.9.9.9").as_deref(), Some("9.9.9.9:53"));
        assert_eq!(shown("127.0.0.1:5353").as_deref(), Some("127.0.0.1:5353"));
        assert_eq!(shown("2620:fe::9").as_deref(), Some("[2620:fe::9]:53"));
        assert_eq!(shown("dns.example"), None);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_the_same(text in "[a-z0-9.:/\\[\\]]{1,24}") {
            if let Ok(target) = text.parse::<Target>() {
                prop_assert_eq!(target.to_string().parse::<Target>(), Ok(target));
            }
        }
    }
}
