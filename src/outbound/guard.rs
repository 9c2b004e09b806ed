//! Where a connection may go. [`Checked`] is made here and nowhere else, and
//! [`connect`](super::connect) takes nothing else.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use url::{Host, Url};

use super::OutboundError;
use super::address::{Kind, carried, kind};
use super::resolve::Names;
use crate::config::{Target, TargetHost};

/// An address that has been looked at and may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked(SocketAddr);

impl Checked {
    pub(super) fn address(self) -> SocketAddr {
        self.0
    }
}

/// Decides where connections may go.
#[derive(Clone)]
pub(super) struct Guard {
    names: Arc<Names>,
    allowed: Vec<Target>,
}

impl Guard {
    pub(super) fn new(names: Names, allowed: Vec<Target>) -> Self {
        Self { names: Arc::new(names), allowed }
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// The same, allowing one URL's host and port too.
    pub(super) fn allowing(&self, url: &Url) -> Self {
        let host = url.host().map(|host| match host {
            Host::Ipv4(address) => TargetHost::Net(IpAddr::V4(address).into()),
            Host::Ipv6(address) => TargetHost::Net(IpAddr::V6(address).into()),
            Host::Domain(name) => TargetHost::Name(name.strip_suffix('.').unwrap_or(name).to_owned()),
        });
        let mut other = self.clone();
        other.allowed.extend(host.map(|host| Target { host, port: url.port_or_known_default() }));
        other
    }

    /// Looks the URL's host up, once, and gives its addresses when every one
    /// of them may be reached.
    pub(super) async fn check(&self, url: &Url) -> Result<Vec<Checked>, OutboundError> {
        let no_host = || OutboundError::InvalidUrl("it names no host".into());
        let port = url.port_or_known_default().filter(|port| *port != 0);
        let port = port.ok_or_else(|| OutboundError::InvalidUrl("there is no port 0".into()))?;
        let (addresses, name) = match url.host().ok_or_else(no_host)? {
            Host::Ipv4(address) => (vec![IpAddr::V4(address)], None),
            Host::Ipv6(address) => (vec![IpAddr::V6(address)], None),
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                (self.names.addresses(name).await?, Some(name))
            }
        };
        let check = |address| match self.refusal(name, address, port) {
            None => Ok(Checked(SocketAddr::new(address, port))),
            Some(what) => {
                let host = url.host_str().unwrap_or_default().to_owned();
                tracing::info!(host, %address, port, what, "refused to go there");
                Err(OutboundError::Blocked { host, what })
            }
        };
        addresses.into_iter().map(check).collect()
    }

    /// Why an address may not be reached; `None` when it may.
    fn refusal(&self, name: Option<&str>, address: IpAddr, port: u16) -> Option<&'static str> {
        let what = match kind(address) {
            Kind::Public => own(address)?,
            Kind::Inside(_) if name.is_some_and(|name| self.name_allowed(name, port)) => return None,
            Kind::Inside(what) | Kind::Never(what) => what,
        };
        // A network of translated addresses, once allowed, leads to the whole
        // of IPv4; each address that it stands for has to pass as well.
        let passes = |inner| self.refusal(None, IpAddr::V4(inner), port).is_none();
        let allowed = self.address_allowed(address, port) && carried(address).into_iter().all(passes);
        (!allowed).then_some(what)
    }

    fn name_allowed(&self, name: &str, port: u16) -> bool {
        let is = |host: &TargetHost| matches!(host, TargetHost::Name(known) if known == name);
        self.allowed.iter().any(|target| is(&target.host) && target.port.is_none_or(|only| only == port))
    }

    fn address_allowed(&self, address: IpAddr, port: u16) -> bool {
        let holds = |host: &TargetHost| matches!(host, TargetHost::Net(net) if net.contains(&address));
        self.allowed.iter().any(|target| holds(&target.host) && target.port.is_none_or(|only| only == port))
    }
}

/// Whether an address is one of this machine's. Looked up each time, because
/// they change while a service runs; when they cannot be had, every address
/// counts as one.
fn own(address: IpAddr) -> Option<&'static str> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => {
            let is_own = interfaces.iter().any(|interface| interface.ip() == address);
            is_own.then_some("an address of this machine")
        }
        Err(error) => {
            tracing::error!(%error, "the addresses of this machine cannot be listed; nothing can be reached");
            Some("perhaps an address of this machine")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allowed: &[&str]) -> Guard {
        let allowed = allowed.iter().map(|text| text.parse().expect("a target")).collect();
        Guard::new(Names::new(Vec::new()), allowed)
    }

    fn refused(guard: &Guard, name: Option<&str>, address: &str, port: u16) -> bool {
        guard.refusal(name, address.parse().expect("an address"), port).is_some()
    }

    #[test]
    fn only_what_is_public_may_be_reached() {
        let guard = guard(&[]);
        assert!(!refused(&guard, None, "93.184.215.14", 80));
        assert!(!refused(&guard, Some("example.com"), "2606:4700::1111", 25));
        for address in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:8.8.8.8", "64:ff9b::808:808"] {
            assert!(refused(&guard, None, address, 80) && refused(&guard, Some("a.example"), address, 80), "{address}");
        }
    }

    #[test]
    fn what_is_written_down_may_be_reached_and_nothing_beside_it() {
        let guard = guard(&["127.0.0.1:8080", "10.1.0.0/16", "wiki.internal:443", "169.254.169.254"]);
        assert!(!refused(&guard, None, "127.0.0.1", 8080));
        assert!(!refused(&guard, Some("any.example"), "127.0.0.1", 8080), "the address is what is allowed");
        assert!(refused(&guard, None, "127.0.0.1", 8081));
        assert!(refused(&guard, None, "127.0.0.2", 8080));
        assert!(refused(&guard, None, "::ffff:127.0.0.1", 8080));
        assert!(!refused(&guard, None, "10.1.255.255", 1) && refused(&guard, None, "10.2.0.0", 1));
        assert!(!refused(&guard, Some("wiki.internal"), "192.168.7.7", 443));
        assert!(refused(&guard, Some("wiki.internal"), "192.168.7.7", 80));
        assert!(refused(&guard, Some("not.wiki.internal"), "192.168.7.7", 443));
        assert!(refused(&guard, None, "192.168.7.7", 443));
        assert!(!refused(&guard, None, "169.254.169.254", 80), "who writes down the address means it");
    }

    #[test]
    fn a_name_that_is_written_down_still_leads_to_no_metadata_service() {
        let guard = guard(&["wiki.internal"]);
        for address in ["169.254.169.254", "fe80::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "0.0.0.0", "224.0.0.1"] {
            assert!(refused(&guard, Some("wiki.internal"), address, 443), "{address}");
        }
    }

    #[test]
    fn a_translating_network_leads_only_where_one_may_go_directly() {
        let guard = guard(&["64:ff9b::/96", "10.1.2.3"]);
        assert!(!refused(&guard, None, "64:ff9b::8.8.8.8", 80));
        assert!(!refused(&guard, None, "64:ff9b::10.1.2.3", 80));
        for address in ["64:ff9b::10.1.2.4", "64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254"] {
            assert!(refused(&guard, None, address, 80), "{address}");
        }
    }

    #[test]
    fn the_machines_own_addresses_are_known() {
        let own_ones = if_addrs::get_if_addrs().expect("a list");
        assert!(!own_ones.is_empty());
        assert!(own_ones.iter().all(|interface| own(interface.ip()).is_some()));
        assert_eq!(own("93.184.215.14".parse().expect("an address")), None);
    }

    /// Every way to write an address of this machine or of a metadata service.
    #[tokio::test]
    async fn every_spelling_of_an_address_is_seen_through() {
        let guard = guard(&[]);
        for host in [
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "0177.0x0.1",
            "017700000001",
            "127.0.0.1.",
            "%31%32%37.0.0.1",
            "127。0。0。1",
            "①②⑦.⓪.⓪.①",
            "0",
            "0x0",
            "00.0",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[0000::0001]",
            "[::127.0.0.1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::FFFF:7F00:0001]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::127.0.0.1]",
            "[2002:7f00:1::]",
            "[2001:0:7f00:1::]",
            "[2001::80ff:fffe]",
            "[fe80::1]",
            "[fc00::1]",
            "[::]",
            "10.1",
            "192.168.257",
            "172.16.1",
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "0xA9.0xFE.0xA9.0xFE",
            "0251.0376.0251.0376",
            "[::ffff:a9fe:a9fe]",
            "[fd00:ec2::254]",
            "100.64.1",
            "224.1",
            "255.255.255.255",
            "4294967295",
        ] {
            let url = super::super::parse(&format!("http://{host}/")).unwrap_or_else(|error| panic!("{host}: {error}"));
            let refused = guard.check(&url).await.expect_err(host);
            assert_eq!(refused.code(), "blocked_address", "{host}");
        }
        for host in [
            "[fe80::1%25eth0]",
            "[::1%25lo]",
            "127.0.0.1.1",
            "256.1.1.1",
            "127.0.0.0x100",
            "4294967296",
            "[::1",
            "",
            "a b",
            "1.2.3.4.5",
        ] {
            let refused = super::super::parse(&format!("http://{host}/")).expect_err(host);
            assert_eq!(refused.code(), "invalid_url", "{host}");
        }
    }
}
