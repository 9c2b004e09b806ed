//! Everything that a test needs to have certificates ordered.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::super::Setup;
use super::process::Helper;
use super::{Authority, Names, Pebble, Proxy};

/// Where the ACME server looks for challenges over HTTP.
pub const HTTP_PORT: u16 = 5080;
/// Where it looks for challenges over TLS.
pub const TLS_PORT: u16 = 5443;

/// How the ACME server is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many of a hundred good nonces are refused.
    pub nonce_reject: u8,
    /// One in so many validations fails at random; none at 0.
    pub fail_one_in: u64,
    /// Accounts need [`super::pebble::EAB`].
    pub eab: bool,
    /// How long certificates are valid.
    pub validity: Duration,
    /// Says when to renew (RFC 9773).
    pub ari: bool,
    /// Offers the profile `shortlived`.
    pub profiles: bool,
}

impl Default for Options {
    fn default() -> Self {
        let validity = Duration::from_secs(90 * 86_400);
        Self { nonce_reject: 15, fail_one_in: 0, eab: false, validity, ari: false, profiles: false }
    }
}

/// Pebble, its names and its proxy, at one address of their own.
pub struct Bench {
    pub ip: String,
    pub names: Names,
    pub pebble: Pebble,
    pub proxy: Proxy,
    authority: Authority,
    folder: TempDir,
    _names: Helper,
}

impl Bench {
    /// With everything as usual.
    pub fn new() -> Self {
        Self::with(&Options::default())
    }

    pub fn with(options: &Options) -> Self {
        let (ip, folder) = (super::own_address(), TempDir::new().expect("a folder"));
        let authority = Authority::make(folder.path(), &ip);
        let (names, helper) = Names::start(folder.path(), &ip);
        let pebble = Pebble::start(folder.path(), &ip, &authority, &names.address, options);
        let proxy = Proxy::start(&authority, &ip, names.clone(), options);
        Self { ip, names, pebble, proxy, authority, folder, _names: helper }
    }

    /// A second directory before the same pebble, told apart by what it has seen.
    pub fn second_proxy(&self, options: &Options) -> Proxy {
        Proxy::start(&self.authority, &self.ip, self.names.clone(), options)
    }

    /// The authority of the directory's own certificate.
    pub fn ca_file(&self) -> &Path {
        &self.authority.root
    }

    /// A service that orders certificates for these names here.
    pub fn setup(&self, setup: Setup, names: &[&str]) -> Setup {
        setup
            .listen(&self.tls_address())
            .env("AGENTD_SERVER_HTTP_LISTEN", &self.http_address())
            .env("AGENTD_TLS_MODE", "acme")
            .env("AGENTD_ACME_DOMAINS", &names.join(","))
            .env("AGENTD_ACME_DIRECTORIES", &self.proxy.directory())
            .env("AGENTD_ACME_CA_FILE", &self.ca_file().to_string_lossy())
            .env("AGENTD_ACME_CHECK_EVERY", "200ms")
    }

    /// Where the service listens for TLS.
    pub fn tls_address(&self) -> String {
        format!("{}:{TLS_PORT}", self.ip)
    }

    /// Where the service listens for plain HTTP.
    pub fn http_address(&self) -> String {
        format!("{}:{HTTP_PORT}", self.ip)
    }

    /// A path in a folder that goes away with the bench.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file with the root of the certificates that pebble issues.
    pub fn root_file(&self) -> PathBuf {
        let path = self.path("issued-root.pem");
        std::fs::write(&path, self.pebble.root()).expect("written");
        path
    }

    /// A program for `dns-01` that sets records where pebble asks; it notes each
    /// call in the file `hook.log`.
    pub fn dns_hook(&self) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let (path, log) = (self.path("hook"), self.path("hook.log"));
        let script = format!(
            "#!/bin/sh\nset -eu\necho \"$1 $2\" >>{log}\n\
             case $1 in\n\
             set) body=\"{{\\\"host\\\":\\\"$2.\\\",\\\"value\\\":\\\"$3\\\"}}\" ;;\n\
             clear) body=\"{{\\\"host\\\":\\\"$2.\\\"}}\" ;;\n\
             esac\n\
             exec curl --silent --show-error --fail --data \"$body\" {records}/$1-txt\n",
            log = log.display(),
            records = self.names.records(),
        );
        std::fs::write(&path, script).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
        path
    }
}
