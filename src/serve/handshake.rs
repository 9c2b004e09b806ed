//! Handshakes of TLS, held within bounds: each has a limited time, and when too
//! many wait, the one that has waited longest makes room. Whoever opens
//! connections and says nothing keeps nobody out.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::Protocol;
use prometheus::{IntCounterVec, Opts, Registry};
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::not_http::NotHttp;
use crate::tls::ACME_TLS;

/// Handshakes that one worker has under way; each takes about 20 KiB.
const AT_ONCE: usize = 512;
/// The first byte of a TLS record that begins a handshake.
const HANDSHAKE: u8 = 0x16;
/// What a proxy begins with that tells whom it speaks for (the PROXY protocol).
const PROXY: &[u8] = b"PROXY";
/// What a client is told that speaks HTTP here.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 45\r\n\
Connection: close\r\n\r\nThis port speaks HTTPS: use https:// for it.\n";

/// A connection on which HTTP can be spoken.
pub(super) type Encrypted = (TlsStream<TcpStream>, Protocol, Option<SocketAddr>);

/// Why a connection does not come to HTTP.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It was an ACME server that has seen what it wanted.
    Challenge,
    /// It was plain HTTP.
    PlainHttp,
    /// The other side hung up without a word.
    Silent,
    /// No agreement, or no TLS at all.
    Failed,
    /// It took too long.
    TooSlow,
    /// It made room for another.
    Displaced,
}

impl End {
    fn label(self) -> &'static str {
        match self {
            Self::Challenge => "challenge",
            Self::PlainHttp => "plain_http",
            Self::Silent => "silent",
            Self::Failed => "failed",
            Self::TooSlow => "timeout",
            Self::Displaced => "displaced",
        }
    }
}

/// What all workers share.
#[derive(Clone)]
pub(super) struct Handshakes {
    config: Arc<ServerConfig>,
    time: Duration,
    outcomes: IntCounterVec,
    not_http: NotHttp,
}

impl Handshakes {
    pub(super) fn new(
        config: ServerConfig,
        time: Duration,
        metrics: &Registry,
        not_http: NotHttp,
    ) -> Result<Self, prometheus::Error> {
        let outcomes = IntCounterVec::new(
            Opts::new("agentd_tls_handshakes_total", "TLS handshakes that have ended, by how."),
            &["outcome"],
        )?;
        metrics.register(Box::new(outcomes.clone()))?;
        Ok(Self { config: Arc::new(config), time, outcomes, not_http })
    }

    /// For one worker.
    pub(super) fn acceptor(&self) -> Rc<Acceptor> {
        Rc::new(Acceptor { shared: self.clone(), waiting: RefCell::default(), last: Cell::new(0) })
    }
}

/// What one worker has under way.
pub(super) struct Acceptor {
    shared: Handshakes,
    /// By age.
    waiting: RefCell<BTreeMap<u64, oneshot::Sender<()>>>,
    last: Cell<u64>,
}

impl Acceptor {
    /// Shakes hands; `None` when nothing is to follow.
    pub(super) async fn accept(self: Rc<Self>, stream: TcpStream) -> Option<Encrypted> {
        let (turn, displaced) = self.begin();
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(self.shared.time, self.shake(stream)) => {
                outcome.unwrap_or(Err(End::TooSlow))
            }
            _ = displaced => Err(End::Displaced),
        };
        self.waiting.borrow_mut().remove(&turn);
        let label = outcome.as_ref().map_or_else(|end| end.label(), |_| "completed");
        self.shared.outcomes.with_label_values(&[label]).inc();
        outcome.ok()
    }

    /// Takes a place, from whoever has had one longest when there is none free.
    fn begin(&self) -> (u64, oneshot::Receiver<()>) {
        let (displace, displaced) = oneshot::channel();
        let turn = self.last.get() + 1;
        self.last.set(turn);
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= AT_ONCE
            && let Some((_, oldest)) = waiting.pop_first()
        {
            // It may have ended at this moment.
            let _ = oldest.send(());
        }
        waiting.insert(turn, displace);
        (turn, displaced)
    }

    async fn shake(&self, mut stream: TcpStream) -> Result<Encrypted, End> {
        let peer = stream.peer_addr().ok();
        // Answers are wanted at once; without it they only come later.
        let _ = stream.set_nodelay(true);
        let mut first = [0; PROXY.len()];
        let count = stream.peek(&mut first).await.unwrap_or(0);
        match &first[..count] {
            [] => return Err(End::Silent),
            [HANDSHAKE, ..] => {}
            PROXY => {
                self.shared.not_http.note(peer, "a PROXY line");
                return Err(End::Failed);
            }
            [first, ..] if first.is_ascii_uppercase() => {
                let _ = answer_plain_http(&mut stream).await;
                return Err(End::PlainHttp);
            }
            _ => {
                self.shared.not_http.note(peer, "it is no TLS either");
                return Err(End::Failed);
            }
        }
        let accepting = TlsAcceptor::from(self.shared.config.clone()).accept(stream);
        let mut stream = accepting.await.map_err(|error| {
            tracing::debug!(peer = ?peer, %error, "a TLS handshake failed");
            End::Failed
        })?;
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(protocol) if protocol == ACME_TLS => {
                let _ = stream.shutdown().await;
                return Err(End::Challenge);
            }
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Ok((stream, protocol, peer))
    }
}

async fn answer_plain_http(stream: &mut TcpStream) -> io::Result<()> {
    // What lies unread when a connection is closed takes the answer with it.
    let mut rest = [0; 4096];
    let _ = stream.try_read(&mut rest);
    stream.write_all(PLAIN_HTTP).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use rustls::sign::CertifiedKey;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::tls::{self, Certificates};

    /// An acceptor that knows a challenge for `a.test`, and who trusts its certificate.
    fn challenged() -> (Rc<Acceptor>, Registry, ClientConfig) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).expect("parameters");
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let pair = CertifiedKey::from_der(vec![certificate.clone()], key, &provider).expect("a pair");
        let certificates = Certificates::default();
        certificates.set_challenge("a.test".into(), Arc::new(pair));
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a root");
        let client = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
        let mut client = client.expect("versions").with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = vec![ACME_TLS.to_vec()];
        let metrics = Registry::new();
        let config = tls::server_config(&certificates, false).expect("TLS");
        let not_http = NotHttp::new(&Registry::new()).expect("metrics");
        let shared = Handshakes::new(config, Duration::from_secs(30), &metrics, not_http).expect("metrics");
        (shared.acceptor(), metrics, client)
    }

    #[tokio::test]
    async fn an_acme_server_sees_the_challenge_and_nothing_of_http() {
        let (acceptor, metrics, client) = challenged();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let look = async {
            let stream = TcpStream::connect(address).await.expect("a connection");
            let name = rustls::pki_types::ServerName::try_from("a.test").expect("a name");
            let mut tls = TlsConnector::from(Arc::new(client)).connect(name, stream).await.expect("a handshake");
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(ACME_TLS));
            let mut rest = Vec::new();
            tls.read_to_end(&mut rest).await.expect("an orderly end");
            assert!(rest.is_empty());
        };
        let serve = async {
            let (stream, _) = listener.accept().await.expect("a connection");
            assert!(acceptor.clone().accept(stream).await.is_none(), "HTTP sees nothing of it");
        };
        tokio::join!(look, serve);
        assert!(acceptor.waiting.borrow().is_empty(), "its place is free again");
        let counted = metrics.gather();
        assert_eq!(counted[0].get_metric()[0].get_label()[0].value(), "challenge");
    }
}
