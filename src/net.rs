//! Addresses of networks and of web pages, as people write them.

use std::borrow::Borrow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Url};

/// A network, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or one address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is no address or network such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32");
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_canonical().into()));
        }
        let network: IpNet = text.parse().map_err(|_| expected())?;
        if network.addr() != network.network() {
            return Err(format!("{text:?} has bits behind its prefix; the network is {}", network.trunc()));
        }
        Ok(Self(network))
    }

    /// Whether it is more than any network of one's own, such as `0.0.0.0/0`.
    #[must_use]
    pub fn is_vast(&self) -> bool {
        is_vast(&self.0)
    }

    /// Whether an address lies in it. An IPv4 address in IPv6 clothes is the
    /// IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

/// Whether a network has more addresses than the largest private one: `10.0.0.0/8`,
/// and `fc00::/7` of IPv6, where all of IPv4 has a place too (`::ffff:0:0/96`).
#[must_use]
pub fn is_vast(network: &IpNet) -> bool {
    match network {
        IpNet::V4(network) => network.prefix_len() < 8,
        IpNet::V6(network) => {
            let mapped = network.addr().to_ipv4_mapped().is_some() && network.prefix_len() < 96 + 8;
            network.prefix_len() < 7 || mapped
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

/// Where a web page comes from: scheme, host and port, as browsers send it in
/// the header `Origin`. Extensions of browsers and desktop shells have schemes of
/// their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebOrigin(String);

/// Schemes whose pages send the origin `null`, or that have no pages.
const NO_ORIGIN: [&str; 12] =
    ["about", "blob", "data", "file", "filesystem", "ftp", "ftps", "javascript", "mailto", "view-source", "ws", "wss"];

impl WebOrigin {
    /// Reads an origin. Plain HTTP is for pages on one's own machine only.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("{text:?} {what}; an origin looks like https://app.example.com"));
        if text.eq_ignore_ascii_case("null") || text.get(..5).is_some_and(|it| it.eq_ignore_ascii_case("file:")) {
            return Err(format!(
                "{text:?} cannot be listed: pages of files send the origin null, as every sandboxed page does, so it \
                 would let any page in; serve the page over https, or over http on localhost"
            ));
        }
        let Ok(url) = Url::parse(text) else { return wrong("is no origin") };
        let Some(host) = url.host() else { return wrong("names no host") };
        match url.scheme() {
            "https" => {}
            "http" if is_local(&host) => {}
            "http" => return wrong("is plain HTTP, which is for localhost only"),
            scheme if NO_ORIGIN.contains(&scheme) => return wrong("has a scheme that no page sends as its origin"),
            _ => {}
        }
        if text.contains('*') {
            return wrong("has a wildcard; name each origin");
        }
        let more = !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some();
        if more || !url.username().is_empty() || url.password().is_some() {
            return wrong("has more than scheme, host and port");
        }
        if matches!(url.scheme(), "https" | "http") {
            return Ok(Self(url.origin().ascii_serialization()));
        }
        // The URL standard knows no origin of other schemes; browsers and shells that have them send these parts.
        let host = host.to_string().to_ascii_lowercase();
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~[:]".contains(&byte)) {
            return wrong("has a host with other characters than letters, digits and -._~");
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self(format!("{}://{host}{port}", url.scheme())))
    }

    /// As browsers send it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// So that sets of origins can be asked for what a browser sends.
impl Borrow<str> for WebOrigin {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_local(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => Ipv4Addr::is_loopback(address),
        Host::Ipv6(address) => Ipv6Addr::is_loopback(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn networks_are_read_strictly() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("::1", "::1"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(Network::parse(text).map(|network| network.to_string()), Ok(shown.into()), "{text}");
        }
        for text in ["", "10", "10.0.0.0/33", "10.0.0.1/8", "010.0.0.1", "10.0.0.0/", "localhost", "1.2.3.4,5.6.7.8"] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().expect("an address");
        assert!(Network::parse("10.0.0.0/8").expect("a network").contains(mapped));
    }

    #[test]
    fn origins_are_read_strictly_and_written_as_browsers_do() {
        for (text, shown) in [
            ("https://app.example.com", "https://app.example.com"),
            ("HTTPS://App.Example.com:443/", "https://app.example.com"),
            ("https://app.example.com:8443", "https://app.example.com:8443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:80", "http://[::1]"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("https://tauri.localhost", "https://tauri.localhost"),
            ("http://tauri.localhost", "http://tauri.localhost"),
        ] {
            assert_eq!(WebOrigin::parse(text).map(|origin| origin.to_string()), Ok(shown.into()), "{text}");
        }
        for text in [
            "",
            "*",
            "null",
            "app.example.com",
            "https://*.example.com",
            "https://a.example/x",
            "https://a.example?x",
            "https://a.example#x",
            "https://u@a.example",
            "http://a.example",
            "http://localhost.example",
            "ftp://a.example",
            "file:///x",
            "file://",
            "FILE://localhost",
            "NULL",
            "data:text/html,x",
            "blob:https://a.example/x",
            "about:blank",
            "ws://a.example",
            "chrome-extension://*",
            "chrome-extension://",
            "chrome-extension:abc",
            "chrome-extension://abc/page.html",
            "app://u@obsidian.md",
            "app://a,b",
            "tauri://localhost?x",
            "https://",
            "https://a.example, https://b.example",
        ] {
            assert!(WebOrigin::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn origins_of_extensions_and_desktop_shells_are_read() {
        for (text, shown) in [
            (
                "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
                "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
            ),
            (
                "moz-extension://2C127FA4-62c7-7E4F-90e5-472b45eecfdc/",
                "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc",
            ),
            ("safari-web-extension://E5A3-11", "safari-web-extension://e5a3-11"),
            ("Tauri://LocalHost", "tauri://localhost"),
            ("tauri://localhost:1430", "tauri://localhost:1430"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("ionic://localhost", "ionic://localhost"),
            ("app://obsidian.md", "app://obsidian.md"),
            ("app://.", "app://."),
            ("vscode-webview://1a2b3c", "vscode-webview://1a2b3c"),
        ] {
            assert_eq!(WebOrigin::parse(text).map(|origin| origin.to_string()), Ok(shown.into()), "{text}");
        }
        for text in ["null", "file://", "file:///home/me/page.html"] {
            let fault = WebOrigin::parse(text).expect_err(text);
            assert!(fault.contains("serve the page over https"), "{fault}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            let _ = Network::parse(&text);
            if let Ok(origin) = WebOrigin::parse(&text) {
                prop_assert_eq!(WebOrigin::parse(origin.as_str()), Ok(origin));
            }
        }

        #[test]
        fn a_network_holds_what_shares_its_prefix(address: u32, other: u32, length in 0_u32..=32) {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            let network = Network::parse(&format!("{}/{length}", Ipv4Addr::from(address & mask))).expect("a network");
            prop_assert_eq!(network.contains(IpAddr::V4(other.into())), address & mask == other & mask);
            prop_assert_eq!(Network::parse(&network.to_string()), Ok(network));
        }
    }
}
