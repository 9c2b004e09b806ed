//! Names to addresses, in the process: the C library's resolver cannot be in
//! a static binary.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::{Either, select};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::sync::Semaphore;

use super::OutboundError;
use super::host_files::{Hosts, ResolvConf};

/// How long a name server may take for one answer, and how often it is asked.
const TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPTS: usize = 2;
/// How long IPv6 addresses are waited for once there are IPv4 addresses (RFC 8305,
/// section 3): some name servers never answer questions for them.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// Questions whose answers came too late for that and are still waited for, so
/// that the next look-up knows them.
const LATE: usize = 32;
/// Answers that are kept, and for how long at most.
const CACHE: u64 = 1024;
const CACHE_TTL: Duration = Duration::from_secs(300);
/// Addresses of a name that are looked at; more is a fault of its zone.
const MAX_ADDRESSES: usize = 64;
/// The usual port of name servers.
const PORT: u16 = 53;

/// A record that says who may give certificates for a name (RFC 8659).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caa {
    /// Whether whoever does not know the tag must not give any.
    pub critical: bool,
    /// What is said: `issue`, `issuewild`, or something else.
    pub tag: String,
    /// To whom.
    pub value: String,
}

/// What this machine's names come from.
const HOST_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// When these files were last changed.
type Stamp = [Option<SystemTime>; 2];

/// The name servers, those given or those of the host, and the host's own names.
pub(super) struct Names {
    servers: Vec<SocketAddr>,
    files: [PathBuf; 2],
    known: Mutex<Option<(Stamp, Arc<Known>)>>,
    late: Arc<Semaphore>,
}

/// What the host's files and the settings lead to.
struct Known {
    hosts: Hosts,
    conf: ResolvConf,
    resolver: TokioResolver,
}

impl Names {
    /// Asks these servers, or the host's when there are none.
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        Self::with_files(servers, HOST_FILES.map(PathBuf::from))
    }

    fn with_files(servers: Vec<SocketAddr>, files: [PathBuf; 2]) -> Self {
        Self { servers, files, known: Mutex::default(), late: Arc::new(Semaphore::new(LATE)) }
    }

    /// The addresses of a name, IPv4 first: those of `/etc/hosts` where it is there,
    /// else those that name servers know. IPv6 addresses that come late are left out
    /// when there are others.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, OutboundError> {
        let not_found = || OutboundError::HostNotFound(name.into());
        let query = Name::from_ascii(name).map_err(|_| not_found())?;
        let known = self.known().map_err(|error| failed(name, &error, ""))?;
        let mut addresses = match known.hosts.get(name) {
            Some(addresses) => addresses.to_vec(),
            None => self.ask(&known, name, query).await?,
        };
        if addresses.is_empty() {
            return Err(not_found());
        }
        if addresses.len() > MAX_ADDRESSES {
            return Err(OutboundError::Dns(name.into(), format!("it has more than {MAX_ADDRESSES} addresses")));
        }
        addresses.sort_by_key(IpAddr::is_ipv6);
        Ok(addresses)
    }

    /// Asks for one name after the other that is meant, until one has addresses.
    async fn ask(&self, known: &Known, name: &str, query: Name) -> Result<Vec<IpAddr>, OutboundError> {
        let mut last = OutboundError::HostNotFound(name.into());
        for meant in known.meant(query) {
            match self.both(&known.resolver, meant).await {
                Ok(found) if !found.is_empty() => return Ok(found),
                Ok(_) => {}
                // That one does not exist must not hide that another could not be asked for.
                Err(error) if error.is_no_records_found() => {}
                Err(error) => last = failed(name, &error, &known.conf.fault),
            }
        }
        Err(last)
    }

    /// IPv4 and IPv6 addresses, asked for at the same time.
    async fn both(&self, resolver: &TokioResolver, name: Name) -> Result<Vec<IpAddr>, NetError> {
        let ask = |kind| {
            let (resolver, name) = (resolver.clone(), name.clone());
            Box::pin(async move { resolver.lookup(name, kind).await })
        };
        let (four, six) = match select(ask(RecordType::A), ask(RecordType::AAAA)).await {
            Either::Right((six, four)) => (four.await, six),
            Either::Left((Ok(four), mut six)) if has_address(&four) => {
                let Ok(six) = tokio::time::timeout(RESOLUTION_DELAY, &mut six).await else {
                    if let Ok(place) = self.late.clone().try_acquire_owned() {
                        tokio::spawn(async move {
                            let _ = (six.await, place);
                        });
                    }
                    return Ok(addresses(&four).collect());
                };
                (Ok(four), six)
            }
            // A name that does not exist has no addresses of any kind (RFC 8020).
            Either::Left((Err(error), _)) if error.is_nx_domain() => return Err(error),
            Either::Left((four, six)) => (four, six.await),
        };
        match (four, six) {
            (Ok(four), Ok(six)) => Ok(addresses(&four).chain(addresses(&six)).collect()),
            (Ok(some), Err(error)) | (Err(error), Ok(some)) => {
                // One kind alone may be missing; that neither is there is only known from both.
                if has_address(&some) || error.is_no_records_found() {
                    return Ok(addresses(&some).collect());
                }
                Err(error)
            }
            (Err(four), Err(six)) => Err(if four.is_no_records_found() { six } else { four }),
        }
    }

    /// The name's own records on who may give certificates for it, not those of
    /// the names above it.
    pub(super) async fn caa(&self, name: &str) -> Result<Vec<Caa>, OutboundError> {
        let mut query = Name::from_ascii(name).map_err(|_| OutboundError::HostNotFound(name.into()))?;
        query.set_fqdn(true);
        let known = self.known().map_err(|error| failed(name, &error, ""))?;
        let found = match known.resolver.lookup(query, RecordType::CAA).await {
            Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
            found => found.map_err(|error| failed(name, &error, &known.conf.fault))?,
        };
        let records = found.answers().iter().filter_map(|record| match &record.data {
            RData::CAA(caa) => Some(Caa {
                critical: caa.issuer_critical,
                tag: caa.tag.to_ascii_lowercase(),
                value: String::from_utf8_lossy(&caa.value).into_owned(),
            }),
            _ => None,
        });
        Ok(records.collect())
    }

    /// What is known of names; read again when the host's files have changed, as
    /// they do when a machine moves to another network.
    fn known(&self) -> Result<Arc<Known>, NetError> {
        let [resolv_conf, hosts] = &self.files;
        let stamp = [resolv_conf, hosts].map(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok());
        let mut current = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, known)) = &*current
            && *read == stamp
        {
            return Ok(known.clone());
        }
        let conf = if self.servers.is_empty() { ResolvConf::read(resolv_conf) } else { ResolvConf::default() };
        let of_host = conf.servers.iter().map(|address| SocketAddr::new(*address, PORT));
        let servers = self.servers.iter().copied().chain(of_host).map(name_server).collect();
        let mut options = ResolverOpts::default();
        options.timeout = TIMEOUT;
        options.attempts = ATTEMPTS;
        options.cache_size = CACHE;
        options.positive_max_ttl = Some(CACHE_TTL);
        options.negative_max_ttl = Some(CACHE_TTL);
        options.use_hosts_file = ResolveHosts::Never;
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.with_options(options).build()?;
        let known = Arc::new(Known { hosts: Hosts::read(hosts), conf, resolver });
        *current = Some((stamp, known.clone()));
        Ok(known)
    }
}

impl Known {
    /// What a name may stand for, the likeliest first. Only a bare word is looked
    /// for in the host's search list.
    fn meant(&self, mut name: Name) -> Vec<Name> {
        let is_bare = name.num_labels() == 1 && !name.is_localhost();
        let search = self.conf.search.iter().filter(|_| is_bare);
        let mut meant: Vec<_> = search.filter_map(|domain| name.clone().append_domain(domain).ok()).collect();
        name.set_fqdn(true);
        let place = if self.conf.as_it_is_first { 0 } else { meant.len() };
        meant.insert(place, name);
        meant
    }
}

fn addresses(found: &Lookup) -> impl Iterator<Item = IpAddr> {
    found.answers().iter().filter_map(|record| record.data.ip_addr())
}

fn has_address(found: &Lookup) -> bool {
    addresses(found).next().is_some()
}

/// What a failure is for whoever asked, `without` being why there is no server.
fn failed(name: &str, error: &NetError, without: &str) -> OutboundError {
    if error.is_no_records_found() {
        OutboundError::HostNotFound(name.into())
    } else if without.is_empty() {
        OutboundError::Dns(name.into(), error.to_string())
    } else {
        OutboundError::Dns(name.into(), without.into())
    }
}

/// A server that is asked over UDP, and over TCP where an answer is long.
fn name_server(server: SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port);
    NameServerConfig::new(server.ip(), true, connections.into())
}

#[cfg(test)]
mod tests;
