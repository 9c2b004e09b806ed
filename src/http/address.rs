//! Where a request comes from: the socket's other end, or what trusted proxies
//! say of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, web};

use super::header::{split, unquote};
use crate::net::Network;

/// Proxies whose word on a client's address counts.
#[derive(Debug, Default)]
pub struct TrustedProxies(RwLock<Arc<[Network]>>);

impl TrustedProxies {
    /// These.
    #[must_use]
    pub fn new(networks: Vec<Network>) -> Self {
        Self(RwLock::new(networks.into()))
    }

    /// Trusts these from now on, and no others.
    pub fn set(&self, networks: Vec<Network>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = networks.into();
    }

    fn networks(&self) -> Arc<[Network]> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The client's address. From the socket outwards every hop is believed as far
/// as it is a trusted proxy; the first that is none is the client. Where a
/// trusted proxy's word cannot be read, it is that proxy.
#[must_use]
pub fn client_address(request: &HttpRequest) -> IpAddr {
    let peer = request.peer_addr().map(|peer| peer.ip().to_canonical());
    let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    match request.app_data::<web::Data<TrustedProxies>>() {
        Some(proxies) => {
            let proxies = proxies.networks();
            if trust(&proxies, peer) { behind(&proxies, peer, request.headers()) } else { peer }
        }
        None => peer,
    }
}

/// What proxies add; many add only some of these.
const FORWARDED: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];

/// Whether the request says that it came through a proxy, trusted or not.
#[must_use]
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDED.iter().any(|name| headers.contains_key(*name))
}

fn trust(proxies: &[Network], address: IpAddr) -> bool {
    proxies.iter().any(|network| network.contains(address))
}

fn behind(proxies: &[Network], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    // A value that is no text is one that cannot be read.
    let lines = |name: &str| headers.get_all(name).map(|value| value.to_str().unwrap_or("?")).collect::<Vec<_>>();
    let (standard, usual) = (lines("forwarded"), lines("x-forwarded-for"));
    let standard: Vec<_> = standard.into_iter().flat_map(forwarded).collect();
    let usual: Vec<_> = usual.into_iter().flat_map(|line| line.split(',').map(node)).collect();
    match (standard.is_empty(), usual.is_empty()) {
        (false, true) => walk(proxies, peer, &standard),
        (true, false) => walk(proxies, peer, &usual),
        (true, true) => peer,
        (false, false) => {
            // A proxy that writes one of them passes on what a client wrote into
            // the other: only what both say counts.
            let (one, other) = (walk(proxies, peer, &standard), walk(proxies, peer, &usual));
            // Not the proxy either: a key may be bound to where that is.
            if one == other { one } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
        }
    }
}

/// From the nearest hop, which stands last, to the first that is not trusted.
fn walk(proxies: &[Network], peer: IpAddr, hops: &[Option<IpAddr>]) -> IpAddr {
    let mut client = peer;
    for hop in hops.iter().rev() {
        match hop {
            Some(address) if trust(proxies, client) => client = *address,
            _ => break,
        }
    }
    client
}

/// The `for` of each element of a `Forwarded` header (RFC 7239); `None` for
/// what is hidden, missing or cannot be read.
fn forwarded(line: &str) -> Vec<Option<IpAddr>> {
    let Some(elements) = split(line, ',') else { return vec![None] };
    let element = |element: &str| {
        let mut found = None;
        for pair in split(element, ';')? {
            let (name, value) = pair.split_once('=')?;
            if name.trim().eq_ignore_ascii_case("for") && found.replace(unquote(value.trim())?).is_some() {
                return None;
            }
        }
        node(&found?)
    };
    elements.into_iter().map(element).collect()
}

/// An address, with or without a port and the brackets of IPv6.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let address = text.parse::<IpAddr>().ok().or_else(with_port).or_else(bare)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn proxies() -> Vec<Network> {
        vec![Network::parse("10.0.0.0/8").expect("a network"), Network::parse("::1").expect("one")]
    }

    fn client(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
        }
        let peer = peer.parse().expect("an address");
        let proxies = proxies();
        if trust(&proxies, peer) { behind(&proxies, peer, &map).to_string() } else { peer.to_string() }
    }

    #[test]
    fn hops_are_believed_as_far_as_they_are_trusted() {
        let usual = "x-forwarded-for";
        for (peer, value, found) in [
            ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
            ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
            ("10.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
            ("10.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7"),
            ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("10.0.0.1", "198.51.100.7:1234", "198.51.100.7"),
            ("10.0.0.1", "[2001:db8::7]:1234", "2001:db8::7"),
            ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
            ("10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
            ("::1", "198.51.100.7", "198.51.100.7"),
            ("10.0.0.1", "198.51.100.7, nonsense", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.7, nonsense, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "", "10.0.0.1"),
        ] {
            assert_eq!(client(peer, &[(usual, value)]), found, "{value} from {peer}");
        }
        let lines = [(usual, "203.0.113.9"), (usual, "198.51.100.7")];
        assert_eq!(client("10.0.0.1", &lines), "198.51.100.7", "several lines are one list");
    }

    #[test]
    fn the_standard_header_is_read_with_its_quotes() {
        for (value, found) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("For=\"198.51.100.7:47011\";proto=http;by=10.0.0.1", "198.51.100.7"),
            ("proto=https; for=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=203.0.113.9, for=198.51.100.7;host=\"a,b;c\"", "198.51.100.7"),
            ("for=\"198.51\\.100.7\"", "198.51.100.7"),
            ("for=198.51.100.7, for=unknown", "10.0.0.1"),
            ("for=198.51.100.7, for=_hidden", "10.0.0.1"),
            ("for=198.51.100.7, proto=http", "10.0.0.1"),
            ("for=\"198.51.100.7", "10.0.0.1"),
            ("for=198.51.100.7;for=203.0.113.9", "10.0.0.1"),
            ("for=\"x, for=198.51.100.7", "10.0.0.1"),
            ("for", "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[("forwarded", value)]), found, "{value}");
        }
    }

    #[test]
    fn a_client_cannot_use_the_header_that_the_proxy_does_not_write() {
        let both = |standard: &str| client("10.0.0.1", &[("forwarded", standard), ("x-forwarded-for", "198.51.100.7")]);
        assert_eq!(both("for=203.0.113.9"), "0.0.0.0", "nor can it pass as the proxy");
        assert_eq!(both("for=198.51.100.7"), "198.51.100.7");
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_not_believed(value in "[ -~]{0,80}") {
            for name in ["forwarded", "x-forwarded-for"] {
                let found: IpAddr = client("10.0.0.1", &[(name, &value)]).parse().expect("an address");
                let peer = found == IpAddr::from([10, 0, 0, 1]);
                let digits = |c: char| c.is_ascii_hexdigit() || c == ':';
                prop_assert!(peer || value.contains(digits));
            }
        }

        #[test]
        fn whatever_a_client_sends_the_proxys_word_stands(sent in "[ -~]{0,60}", quoted: bool) {
            let (own, standard) = if quoted {
                ("198.51.100.7", format!("{sent}, for=\"198.51.100.7:99\""))
            } else {
                ("198.51.100.7", format!("{sent}, for=198.51.100.7"))
            };
            // At worst nothing is believed; never what the client sent.
            let found = client("10.0.0.1", &[("forwarded", &standard)]);
            prop_assert!(found == own || found == "10.0.0.1", "{found}");
            prop_assert_eq!(client("10.0.0.1", &[("x-forwarded-for", &format!("{sent}, {own}"))]), own);
        }

        #[test]
        fn a_written_header_is_read_back(hops in prop::collection::vec(any::<u32>(), 1..5)) {
            let hops: Vec<_> = hops.into_iter().map(|bits| IpAddr::V4(bits.into())).collect();
            let line: Vec<_> = hops.iter().map(|hop| format!("for=\"{hop}:80\";proto=http")).collect();
            let read = forwarded(&line.join(", "));
            prop_assert_eq!(read, hops.into_iter().map(Some).collect::<Vec<_>>());
        }
    }
}
