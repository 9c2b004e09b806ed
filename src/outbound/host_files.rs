//! What the files of this machine say of names: `/etc/hosts` and
//! `/etc/resolv.conf`, read as the C library reads them. What it would pass over
//! is passed over here: one odd line must not cost all names.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;

use hickory_resolver::proto::rr::Name;

/// Names of a search list that are tried.
const SEARCHED: usize = 16;

/// The names of `/etc/hosts`.
#[derive(Debug, Default)]
pub(super) struct Hosts(HashMap<String, Vec<IpAddr>>);

impl Hosts {
    /// Reads the file; one that is not there names nothing.
    pub(super) fn read(path: &Path) -> Self {
        let text = std::fs::read(path).unwrap_or_else(|error| {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "the file cannot be read, so its names are unknown");
            }
            Vec::new()
        });
        Self::parse(&text)
    }

    fn parse(text: &[u8]) -> Self {
        let mut names: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for line in lines(&String::from_utf8_lossy(text), &['#']) {
            let mut words = line.split_whitespace();
            // An address with a zone (fe80::1%lo0) is of no use without an interface.
            let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
            for name in words {
                let known = names.entry(plain(name)).or_default();
                if !known.contains(&address) {
                    known.push(address);
                }
            }
        }
        Self(names)
    }

    /// The addresses of a name, in the file's order.
    pub(super) fn get(&self, name: &str) -> Option<&[IpAddr]> {
        self.0.get(&plain(name)).map(Vec::as_slice)
    }
}

/// A name as it is compared.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Lines without comments and without the mark that editors put before a text.
fn lines<'a>(text: &'a str, comments: &'static [char]) -> impl Iterator<Item = &'a str> {
    let text = text.trim_start_matches('\u{feff}');
    text.lines().map(move |line| line.split(comments).next().unwrap_or_default())
}

/// What `/etc/resolv.conf` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub servers: Vec<IpAddr>,
    /// What bare words may be the beginning of.
    pub search: Vec<Name>,
    /// Whether a bare word is a name of its own first (`ndots:0`).
    pub as_it_is_first: bool,
    /// Why there is no server; empty where there is one.
    pub fault: String,
}

impl ResolvConf {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> Self {
        let mut read = match std::fs::read(path) {
            Ok(text) => Self::parse(&text),
            Err(error) => Self { fault: format!("it cannot be read: {error}"), ..Self::default() },
        };
        if read.servers.is_empty() {
            let why = if read.fault.is_empty() { "it names none that can be asked" } else { &read.fault };
            read.fault = format!("no name server is known from {} ({why}); set outbound.nameservers", path.display());
        }
        read
    }

    fn parse(text: &[u8]) -> Self {
        let mut read = Self::default();
        let mut search = None;
        for line in lines(&String::from_utf8_lossy(text), &['#', ';']) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => match words.next().map(|word| (word, word.parse())) {
                    Some((_, Ok(address))) => read.servers.push(address),
                    Some((word, Err(_))) => {
                        tracing::warn!(server = word, "a name server of resolv.conf is passed over: no plain address");
                    }
                    None => {}
                },
                // The last of these lines counts.
                Some("search") => search = Some(words.take(SEARCHED).filter_map(suffix).collect()),
                Some("domain") => search = Some(words.take(1).filter_map(suffix).collect()),
                Some("options") => read.as_it_is_first |= words.any(|option| option == "ndots:0"),
                _ => {}
            }
        }
        read.search = search.unwrap_or_else(own_domain);
        read
    }
}

/// A domain of a search list.
fn suffix(word: &str) -> Option<Name> {
    let mut name = Name::from_str_relaxed(word).ok().filter(|_| word != "--")?;
    name.set_fqdn(true);
    Some(name)
}

/// The domain that this machine's name is in.
fn own_domain() -> Vec<Name> {
    let machine = rustix::system::uname();
    let name = machine.nodename().to_string_lossy();
    name.split_once('.').and_then(|(_, domain)| suffix(domain)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_whatever_else_is_in_the_file() {
        let text = b"\xef\xbb\xbf127.0.0.1\tlocalhost # here\r\n\
            # 192.0.2.9 commented\n\
            not-an-address name\n\
            fe80::1%lo0 localhost\n\
            ::1 localhost ip6-localhost\n\
            192.0.2.1 DB.example.com. my_db db\xff\n\
            192.0.2.2 my_db\n\
            192.0.2.1 my_db\n\
            192.0.2.3";
        let hosts = Hosts::parse(text);
        let found =
            |name| hosts.get(name).map(|addresses| addresses.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(found("localhost"), Some(vec!["127.0.0.1".into(), "::1".into()]));
        assert_eq!(found("db.EXAMPLE.com"), Some(vec!["192.0.2.1".into()]));
        assert_eq!(found("my_db."), Some(vec!["192.0.2.1".into(), "192.0.2.2".into()]));
        assert_eq!((found("commented"), found("name")), (None, None));
    }

    #[test]
    fn resolv_conf_is_read_as_by_the_c_library() {
        let text = b"\xef\xbb\xbf# made by hand\r\n\
            ; another comment\r\n\
            domain first.example\r\n\
            nameserver\t192.0.2.53   # the router\r\n\
            nameserver 2001:db8::53;x\n\
            nameserver fe80::1%eth0\n\
            nameserver\n\
            nameserver dns.example\n\
            search corp.example -- a..b Speedport_000 \xff\xfe. \n\
            options ndots:5 timeout:1 edns0 something-new\n\
            sortlist 130.155.160.0/255.255.240.0\n\
            lookup file bind\n";
        let read = ResolvConf::parse(text);
        let servers: Vec<_> = read.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.53", "2001:db8::53"]);
        let search: Vec<_> = read.search.iter().map(ToString::to_string).collect();
        assert_eq!(search[..2], ["corp.example.", "Speedport_000."], "{search:?}");
        assert!(!read.as_it_is_first);
        assert!(ResolvConf::parse(b"options edns0 ndots:0").as_it_is_first);
        let last = ResolvConf::parse(b"search a.example b.example\ndomain c.example");
        assert_eq!(last.search, [Name::from_ascii("c.example.").expect("a name")]);
    }

    #[test]
    fn it_is_said_why_no_server_is_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("resolv.conf");
        let missing = ResolvConf::read(&path);
        assert!(missing.fault.contains("cannot be read") && missing.fault.contains("outbound.nameservers"));
        std::fs::write(&path, "nameserver fe80::1%eth0\n").expect("written");
        assert!(ResolvConf::read(&path).fault.contains("none that can be asked"));
        std::fs::write(&path, "nameserver 192.0.2.53\n").expect("written");
        assert_eq!(ResolvConf::read(&path).fault, "");
    }
}
