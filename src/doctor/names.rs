//! Whether the names of the certificates lead here.

use std::net::IpAddr;

use futures_util::future::join_all;

use super::{EACH, Finding};
use crate::config::{AcmeSection, CertName, ChallengeKind};
use crate::outbound::{Outbound, OutboundError};

pub(super) async fn examine(outbound: &Outbound, acme: &AcmeSection) -> Vec<Finding> {
    let own = own();
    // Whoever proves by records alone need not be reached under the name.
    let must = acme.challenges.iter().any(|kind| *kind != ChallengeKind::Dns01);
    join_all(acme.domains.iter().map(|name| one(outbound, name, &own, must))).await
}

async fn one(outbound: &Outbound, name: &CertName, own: &[IpAddr], must: bool) -> Finding {
    let name = match name {
        CertName::Ip(address) => return led(&format!("address {address}"), &[*address], own),
        CertName::Dns(name) if name.starts_with("*.") => {
            return Finding::ok(format!("DNS {name}"), "a wildcard: proven by records, not by where it leads");
        }
        CertName::Dns(name) => name,
    };
    let what = format!("DNS {name}");
    let late = Err(OutboundError::Timeout { what: "looking it up", limit: EACH });
    match tokio::time::timeout(EACH, outbound.addresses(name)).await.unwrap_or(late) {
        Ok(addresses) => led(&what, &addresses, own),
        Err(error) => {
            let (here, missing) = (shown(&public(own)), matches!(error, OutboundError::HostNotFound(_)));
            let advice = match (missing, here.is_empty()) {
                (true, true) => {
                    "add an A record with the address under which this machine is reached from outside".into()
                }
                (true, false) => format!("add an A or AAAA record for it with this machine's address: {here}"),
                (false, _) => {
                    "its name servers, or those of this machine, do not answer: dig NAME, dig NAME @9.9.9.9".into()
                }
            };
            let finding = if must { Finding::fail } else { Finding::warn };
            finding(what, error.to_string(), advice)
        }
    }
}

/// Whether addresses are this machine's.
fn led(what: &str, addresses: &[IpAddr], own: &[IpAddr]) -> Finding {
    let foreign: Vec<_> = addresses.iter().copied().filter(|address| !own.contains(address)).collect();
    if foreign.is_empty() {
        return Finding::ok(what, format!("leads to this machine: {}", shown(addresses)));
    }
    let detail = format!("leads to {}, which is not an address of this machine", shown(&foreign));
    if foreign.iter().any(|address| !is_public(*address)) {
        let advice = "public directories do not reach private addresses: correct the record, or prove by dns-01";
        return Finding::warn(what, detail, advice);
    }
    let here = public(own);
    let advice = if here.is_empty() {
        "fine when a router or load balancer with that address passes ports 80 and 443 on to this machine; else \
         correct the record"
            .to_owned()
    } else {
        let here = shown(&here);
        format!(
            "this machine has {here}: correct the record, unless something with that address passes ports 80 and 443 \
             on to it; directories try IPv6 first, so an AAAA record that leads elsewhere is enough to fail"
        )
    };
    Finding::warn(what, detail, advice)
}

/// The addresses of this machine.
pub(super) fn own() -> Vec<IpAddr> {
    if_addrs::get_if_addrs().unwrap_or_default().into_iter().map(|interface| interface.ip()).collect()
}

fn public(addresses: &[IpAddr]) -> Vec<IpAddr> {
    addresses.iter().copied().filter(|address| is_public(*address)).collect()
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && (64..128).contains(&v4.octets()[1]);
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || shared)
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_unspecified())
        }
    }
}

fn shown(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn only_what_leads_here_and_nowhere_else_is_fine() {
        let own: Vec<IpAddr> = ["127.0.0.1", "10.0.0.5", "203.0.113.7"].map(|text| text.parse().expect("one")).into();
        let led = |addresses: &[&str], own: &[IpAddr]| {
            led("x", &addresses.iter().map(|text| text.parse().expect("one")).collect::<Vec<_>>(), own)
        };
        assert_eq!(led(&["203.0.113.7"], &own).state, State::Ok);
        let other = led(&["203.0.113.7", "2001:db8::1"], &own);
        assert_eq!(other.state, State::Warn);
        assert!(other.detail.contains("2001:db8::1") && !other.detail.contains("203"), "{other:?}");
        assert!(other.advice.expect("advice").contains("203.0.113.7"));
        let nat = led(&["198.51.100.1"], &own[..2]);
        assert!(nat.advice.expect("advice").contains("router"));
        assert!(led(&["192.168.1.1"], &own).advice.expect("advice").contains("dns-01"));
    }
}
