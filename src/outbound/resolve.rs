//! Names to addresses, in the process: the C library's resolver cannot be in
//! a static binary.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{TokioResolver, system_conf};

use super::OutboundError;

/// How long a name server may take for one answer, and how often it is asked.
const TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPTS: usize = 2;
/// Answers that are kept, and for how long at most.
const CACHE: u64 = 1024;
const CACHE_TTL: Duration = Duration::from_secs(300);
/// Addresses of a name that are looked at; more is a fault of its zone.
const MAX_ADDRESSES: usize = 64;

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

/// What the host's resolver is told by, and when these were last changed.
const HOST_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
type Stamp = [Option<SystemTime>; 2];

/// The name servers: those given, or those of the host.
pub(super) struct Names {
    servers: Vec<SocketAddr>,
    resolver: Mutex<Option<(Stamp, TokioResolver)>>,
}

impl Names {
    /// Asks these servers, or the host's when there are none.
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, resolver: Mutex::default() }
    }

    /// All addresses of a name, IPv4 first.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, OutboundError> {
        let not_found = || OutboundError::HostNotFound(name.into());
        let mut query = Name::from_ascii(name).map_err(|_| not_found())?;
        // Only a bare word is looked for in the host's search list.
        query.set_fqdn(query.num_labels() > 1);
        let failed = |error| failed(name, &error);
        let resolver = self.resolver().map_err(failed)?;
        let found = resolver.lookup_ip(query).await.map_err(failed)?;
        let mut addresses: Vec<_> = found.iter().collect();
        if addresses.is_empty() {
            return Err(not_found());
        }
        if addresses.len() > MAX_ADDRESSES {
            return Err(OutboundError::Dns(name.into(), format!("it has more than {MAX_ADDRESSES} addresses")));
        }
        addresses.sort_by_key(IpAddr::is_ipv6);
        Ok(addresses)
    }

    /// The name's own records on who may give certificates for it, not those of
    /// the names above it.
    pub(super) async fn caa(&self, name: &str) -> Result<Vec<Caa>, OutboundError> {
        let mut query = Name::from_ascii(name).map_err(|_| OutboundError::HostNotFound(name.into()))?;
        query.set_fqdn(true);
        let resolver = self.resolver().map_err(|error| failed(name, &error))?;
        let found = match resolver.lookup(query, RecordType::CAA).await {
            Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
            found => found.map_err(|error| failed(name, &error))?,
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

    /// The resolver; a new one when the host's files have changed, as they do
    /// when a machine moves to another network.
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let changed = |path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        let stamp = HOST_FILES.map(changed);
        let mut current = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, resolver)) = &*current
            && *made == stamp
        {
            return Ok(resolver.clone());
        }
        let (config, mut options) = if self.servers.is_empty() {
            system_conf::read_system_conf()?
        } else {
            (of_servers(&self.servers), ResolverOpts::default())
        };
        options.timeout = TIMEOUT;
        options.attempts = ATTEMPTS;
        options.cache_size = CACHE;
        options.positive_max_ttl = Some(CACHE_TTL);
        options.negative_max_ttl = Some(CACHE_TTL);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.with_options(options).build()?;
        *current = Some((stamp, resolver.clone()));
        Ok(resolver)
    }
}

fn failed(name: &str, error: &NetError) -> OutboundError {
    if error.is_no_records_found() {
        OutboundError::HostNotFound(name.into())
    } else {
        OutboundError::Dns(name.into(), error.to_string())
    }
}

fn of_servers(servers: &[SocketAddr]) -> ResolverConfig {
    let one = |server: &SocketAddr| {
        let at_port = |mut connection: ConnectionConfig| {
            connection.port = server.port();
            connection
        };
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port);
        NameServerConfig::new(server.ip(), true, connections.into())
    };
    ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(one).collect())
}
