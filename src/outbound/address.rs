//! Which addresses may be reached.
//!
//! The list is one of what is refused, in the special-purpose registries of
//! IANA; in IPv6, where little of the space is given out, what is outside
//! `2000::/3` is refused as a whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is, as far as reaching it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody's on the internet.
    Public,
    /// Inside: a private network or this machine. A name that the
    /// administrator wrote down may lead there.
    Inside(&'static str),
    /// Nothing that a name should ever lead to; reached only when the
    /// administrator wrote down the address itself.
    Never(&'static str),
}

/// A range: its first address, the length of its prefix, and what it is.
type Range<A> = (A, u8, Kind);

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8, kind: Kind) -> Range<Ipv4Addr> {
    (Ipv4Addr::new(a, b, c, d), length, kind)
}

const V4: &[Range<Ipv4Addr>] = &[
    v4(0, 0, 0, 0, 8, Kind::Never("an unspecified address")),
    v4(10, 0, 0, 0, 8, Kind::Inside("a private address")),
    v4(100, 64, 0, 0, 10, Kind::Inside("an address of a shared network (CGNAT)")),
    v4(127, 0, 0, 0, 8, Kind::Inside("a loopback address")),
    // Azure's platform answers here inside every virtual machine.
    v4(168, 63, 129, 16, 32, Kind::Never("an address of a cloud platform")),
    v4(169, 254, 0, 0, 16, Kind::Never("a link-local address")),
    v4(172, 16, 0, 0, 12, Kind::Inside("a private address")),
    v4(192, 0, 0, 0, 24, Kind::Never("a reserved address")),
    v4(192, 0, 2, 0, 24, Kind::Never("an address for documentation")),
    v4(192, 88, 99, 0, 24, Kind::Never("a 6to4 relay")),
    v4(192, 168, 0, 0, 16, Kind::Inside("a private address")),
    v4(198, 18, 0, 0, 15, Kind::Never("an address for benchmarks")),
    v4(198, 51, 100, 0, 24, Kind::Never("an address for documentation")),
    v4(203, 0, 113, 0, 24, Kind::Never("an address for documentation")),
    v4(224, 0, 0, 0, 4, Kind::Never("a multicast address")),
    v4(255, 255, 255, 255, 32, Kind::Never("the broadcast address")),
    v4(240, 0, 0, 0, 4, Kind::Never("a reserved address")),
];

const fn v6(segments: [u16; 4], length: u8, kind: Kind) -> Range<Ipv6Addr> {
    let [a, b, c, d] = segments;
    (Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), length, kind)
}

/// The first range that holds an address counts.
const V6: &[Range<Ipv6Addr>] = &[
    (Ipv6Addr::UNSPECIFIED, 128, Kind::Never("an unspecified address")),
    (Ipv6Addr::LOCALHOST, 128, Kind::Inside("a loopback address")),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, Kind::Never("an IPv4 address written as IPv6")),
    v6([0, 0, 0, 0], 96, Kind::Never("an IPv4 address written as IPv6")),
    v6([0x64, 0xff9b, 0, 0], 96, Kind::Never("an IPv4 address behind NAT64")),
    v6([0x64, 0xff9b, 1, 0], 48, Kind::Never("an IPv4 address behind NAT64")),
    v6([0x2001, 0, 0, 0], 32, Kind::Never("a Teredo address")),
    v6([0x2001, 0, 0, 0], 23, Kind::Never("a reserved address")),
    v6([0x2001, 0xdb8, 0, 0], 32, Kind::Never("an address for documentation")),
    v6([0x2002, 0, 0, 0], 16, Kind::Never("a 6to4 address")),
    v6([0x3fff, 0, 0, 0], 20, Kind::Never("an address for documentation")),
    v6([0x2000, 0, 0, 0], 3, Kind::Public),
    v6([0xfc00, 0, 0, 0], 7, Kind::Inside("a private address")),
    v6([0xfe80, 0, 0, 0], 10, Kind::Never("a link-local address")),
    v6([0xfec0, 0, 0, 0], 10, Kind::Inside("a private address")),
    v6([0xff00, 0, 0, 0], 8, Kind::Never("a multicast address")),
];

pub(super) fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(address) => {
            let holds = |(first, length, _): &&Range<Ipv4Addr>| {
                (address.to_bits() ^ first.to_bits()).leading_zeros() >= u32::from(*length)
            };
            V4.iter().find(holds).map_or(Kind::Public, |(_, _, kind)| *kind)
        }
        IpAddr::V6(address) => {
            let holds = |(first, length, _): &&Range<Ipv6Addr>| {
                (address.to_bits() ^ first.to_bits()).leading_zeros() >= u32::from(*length)
            };
            V6.iter().find(holds).map_or(Kind::Never("a reserved address"), |(_, _, kind)| *kind)
        }
    }
}

/// The IPv4 addresses that an IPv6 address carries, where something on the way
/// would take one out and go there.
pub(super) fn carried(address: IpAddr) -> Vec<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return Vec::new() };
    let s = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        // Teredo: the server, and the client with its bits turned over.
        [0x2001, 0, ..] => vec![v4(s[2], s[3]), v4(!s[6], !s[7])],
        [0x2002, ..] => vec![v4(s[1], s[2])],
        // Mapped, compatible, and both prefixes of NAT64.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, ..] => vec![v4(s[6], s[7])],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind_of(text: &str) -> Kind {
        kind(text.parse().unwrap_or_else(|_| panic!("{text} is no address")))
    }

    #[test]
    fn public_addresses_are_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2001:200::1",
            "2003::1",
            "3ffe:ffff::1",
            "2a00::1",
        ] {
            assert_eq!(kind_of(text), Kind::Public, "{text}");
        }
    }

    #[test]
    fn inside_is_inside_to_its_last_address() {
        for text in [
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.168.0.0",
            "192.168.255.255",
            "::1",
            "fc00::",
            "fd00:ec2::254",
            "fdff:ffff::1",
            "fec0::1",
        ] {
            assert!(matches!(kind_of(text), Kind::Inside(_)), "{text}: {:?}", kind_of(text));
        }
    }

    #[test]
    fn the_rest_is_never_led_to() {
        for text in [
            "0.0.0.0",
            "0.255.255.255",
            "168.63.129.16",
            "169.254.0.0",
            "169.254.169.254",
            "169.254.255.255",
            "192.0.0.0",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.254",
            "255.255.255.255",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "::8.8.8.8",
            "64:ff9b::127.0.0.1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::a00:1",
            "64:ff9b:1:ffff::1",
            "100::1",
            "2001::1",
            "2001:0:4136:e378::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:1ff:ffff::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fe80::1",
            "febf::1",
            "ff02::1",
        ] {
            assert!(matches!(kind_of(text), Kind::Never(_)), "{text}: {:?}", kind_of(text));
        }
    }

    #[test]
    fn carried_addresses_are_found() {
        let of = |text: &str| carried(text.parse().expect("an address"));
        let v4 = |text: &str| text.parse::<Ipv4Addr>().expect("an address");
        assert_eq!(of("::ffff:127.0.0.1"), [v4("127.0.0.1")]);
        assert_eq!(of("::10.0.0.1"), [v4("10.0.0.1")]);
        assert_eq!(of("64:ff9b::a9fe:a9fe"), [v4("169.254.169.254")]);
        assert_eq!(of("64:ff9b:1::7f00:1"), [v4("127.0.0.1")]);
        assert_eq!(of("2002:a9fe:a9fe::1"), [v4("169.254.169.254")]);
        assert_eq!(of("2001:0:a00:1:0:0:80ff:fffe"), [v4("10.0.0.1"), v4("127.0.0.1")]);
        assert!(of("2606:4700::1111").is_empty() && of("127.0.0.1").is_empty());
    }

    proptest! {
        #[test]
        fn no_range_is_missed_that_the_standard_library_knows(bits: u32) {
            let address = Ipv4Addr::from(bits);
            let special = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_documentation()
                || address.is_unspecified();
            if special {
                prop_assert_ne!(kind(address.into()), Kind::Public);
            }
        }

        #[test]
        fn nothing_that_carries_an_address_is_public(bits: u128) {
            let address = IpAddr::from(Ipv6Addr::from(bits));
            if !carried(address).is_empty() {
                prop_assert_ne!(kind(address), Kind::Public);
            }
        }
    }
}
