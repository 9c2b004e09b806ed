//! ACME servers to test against: Debian's `pebble` with names of its own
//! (`pebble-challtestsrv`) behind a proxy that adds what it lacks and breaks
//! what it does right, and Debian's `caddy` as a second, different server.
//!
//! Each [`Bench`] has a loopback address of its own, so that its fixed ports are
//! nobody else's and all tests run at the same time.

pub mod bench;
pub mod caddy;
pub mod names;
pub mod pebble;
pub mod process;
pub mod proxy;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use bench::{Bench, Options};
pub use caddy::CaddyAcme;
pub use names::Names;
pub use pebble::Pebble;
pub use proxy::{Fault, Kind, Proxy, Seen};

/// A loopback address that no other test has.
pub fn own_address() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let pid = std::process::id();
    format!("127.{}.{}.{}", 64 + pid % 128, (pid / 128) % 256, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The authority that the directories' own certificates come from, and one such
/// certificate. The service trusts it by `acme.ca_file`.
pub struct Authority {
    /// The authority's certificate, PEM.
    pub root: PathBuf,
    /// A certificate for the bench's address, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    chain: CertificateDer<'static>,
    private: Vec<u8>,
}

impl Authority {
    /// Makes both in a folder.
    pub fn make(folder: &Path, address: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&root_key).expect("a root");
        let issuer = Issuer::new(params, root_key);
        let key = KeyPair::generate().expect("a key");
        let names = CertificateParams::new(vec![address.to_owned(), "localhost".to_owned()]).expect("names");
        let leaf = names.signed_by(&key, &issuer).expect("a certificate");
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        Self {
            root: write("directory-root.pem", root.pem()),
            certificate: write("directory.pem", leaf.pem()),
            key: write("directory.key", key.serialize_pem()),
            chain: leaf.der().clone(),
            private: key.serialize_der(),
        }
    }

    fn server_config(&self) -> rustls::ServerConfig {
        let key = PrivateKeyDer::Pkcs8(self.private.clone().into());
        rustls::ServerConfig::builder_with_provider(super::tls::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.chain.clone()], key)
            .expect("a certificate with its key")
    }
}
