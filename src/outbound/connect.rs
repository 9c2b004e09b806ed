//! A connection to an address that has been checked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::{Host, Url};

use super::guard::Checked;
use super::{BuildError, OutboundError};
use crate::pem;

/// How long one address has to take a connection, before the next is tried.
const PER_ADDRESS: Duration = Duration::from_secs(5);
/// Addresses that are tried.
const ADDRESSES: usize = 4;

/// Opens the connection, to the first address that takes it.
pub(super) async fn tcp(url: &Url, addresses: &[Checked]) -> Result<TcpStream, OutboundError> {
    let host = url.host_str().unwrap_or_default();
    let mut last = OutboundError::HostNotFound(host.into());
    for address in addresses.iter().take(ADDRESSES) {
        match tokio::time::timeout(PER_ADDRESS, TcpStream::connect(address.address())).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = OutboundError::Connect(host.into(), error.to_string()),
            Err(_) => last = OutboundError::Timeout { what: "connecting", limit: PER_ADDRESS },
        }
    }
    Err(last)
}

/// TLS over a connection, to whoever proves to be the URL's host.
pub(super) async fn tls(
    config: &Arc<ClientConfig>,
    url: &Url,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, OutboundError> {
    let host = url.host_str().unwrap_or_default();
    let name = match url.host() {
        Some(Host::Ipv4(address)) => ServerName::from(std::net::IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => ServerName::from(std::net::IpAddr::V6(address)),
        Some(Host::Domain(name)) => ServerName::try_from(name.strip_suffix('.').unwrap_or(name).to_owned())
            .map_err(|error| OutboundError::InvalidUrl(error.to_string()))?,
        None => return Err(OutboundError::InvalidUrl("it names no host".into())),
    };
    TlsConnector::from(config.clone()).connect(name, stream).await.map_err(|error| {
        let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match of_tls {
            Some(fault) => OutboundError::Tls(host.into(), fault.to_string()),
            None => OutboundError::Connect(host.into(), error.to_string()),
        }
    })
}

/// The certificate authorities that the host trusts; Mozilla's where it has none.
#[must_use]
pub fn host_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "certificate authorities of this host");
    }
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        tracing::info!("this host has no certificate authorities; using the built-in ones");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// How TLS is spoken: the host's certificate authorities, and those of a file.
pub(super) fn tls_config(extra_ca: Option<(&'static str, &Path)>) -> Result<Arc<ClientConfig>, BuildError> {
    let mut roots = host_authorities();
    if let Some((setting, path)) = extra_ca {
        let fault = |why: String| BuildError::ExtraCa { setting, path: path.to_owned(), why };
        let text = std::fs::read(path).map_err(|error| fault(format!("the file cannot be read: {error}")))?;
        for (place, certificate) in pem::certificates(&text).map_err(fault)?.into_iter().enumerate() {
            // What the parser says could repeat a piece of the file.
            let broken = |_| fault(format!("the certificate number {} in it is malformed", place + 1));
            roots.add(certificate).map_err(broken)?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
