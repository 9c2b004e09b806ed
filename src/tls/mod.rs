//! Certificates: which one is shown, where it comes from, and when it is
//! replaced. Listening is `serve`'s; this room only says what is shown.

pub mod acme;
mod chain;
mod challenge;
mod expiry;
mod facts;
mod fault;
pub mod files;
mod own;
mod pair;
mod resolver;

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, TlsMode};

pub use challenge::HttpChallenges;
pub use fault::Fault;
pub use files::Files;
pub use own::Own;
pub use resolver::{ACME_TLS, Certificates, FilesProblem, Shown, Source};

/// What is shown from the start on, and how it is kept up to date.
#[derive(Clone)]
pub enum Kept {
    /// There is no TLS.
    Nothing,
    /// The service's own certificate; with ACME it is what is shown until there
    /// is a real one.
    Own(Own),
    /// Two files.
    Files(Files),
}

impl Kept {
    /// Shows what there is before any other certificate has been had. The data
    /// folder must be locked.
    ///
    /// # Errors
    /// When there is nothing that could be shown.
    pub fn open(config: &Config, certificates: &Certificates, clock: &Clock) -> Result<Self, Fault> {
        let (certificates, clock) = (certificates.clone(), clock.clone());
        match config.tls.mode {
            TlsMode::Off => Ok(Self::Nothing),
            TlsMode::SelfSigned | TlsMode::Acme => {
                Own::open(&config.data.dir, config.server.listen.ip(), certificates, clock).map(Self::Own)
            }
            TlsMode::Files => Files::open(&config.tls, certificates, clock).map(Self::Files),
        }
    }

    /// The files, where the certificate comes from files.
    #[must_use]
    pub fn files(&self) -> Option<&Files> {
        if let Self::Files(files) = self { Some(files) } else { None }
    }

    /// Keeps it up to date until told to stop.
    pub async fn watch(self, stop: CancellationToken) {
        match self {
            Self::Nothing => {}
            Self::Own(own) => own.watch(stop).await,
            Self::Files(files) => files.watch(stop).await,
        }
    }
}

/// How TLS is spoken: 1.2 and 1.3, sessions resumed by tickets whose keys live
/// in memory, HTTP/2 only where it is wanted.
///
/// # Errors
/// When the cryptographic library has no random numbers.
pub fn server_config(certificates: &Certificates, http2: bool) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(certificates.clone()));
    let http2 = http2.then_some(b"h2".as_slice());
    // Who offers none of these is told so by an alert (RFC 7301, 3.2), who offers nothing gets HTTP/1.1.
    let protocols = http2.into_iter().chain([b"http/1.1".as_slice(), b"http/1.0", ACME_TLS]);
    config.alpn_protocols = protocols.map(<[u8]>::to_vec).collect();
    // Ours is as good for all: no suite is weak, and the first has hardware for it
    // wherever this runs.
    config.ignore_client_order = true;
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    // With tickets nothing has to be remembered here; the store would be a lock
    // that all handshakes share.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // A browser opens several connections at once, and each ticket works once.
    config.send_tls13_tickets = 2;
    Ok(config)
}
