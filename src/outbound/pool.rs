//! Kept connections to one origin that the administrator wrote down, for those
//! who ask it often: opening one for each request would take longer than many
//! an answer. Every new connection is checked as all others are.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use url::Url;

use super::exchange::{HEAD_BYTES, HEAD_FIELDS, fault};
use super::{AGENT, Inner, Outbound, OutboundError, connect};

/// How long a connection that nobody uses is kept. Servers close theirs after a
/// minute or more, and one that is used as it is closed loses a request.
const KEPT: Duration = Duration::from_secs(45);
/// How long a connection may take, TLS included.
const CONNECTED: Duration = Duration::from_secs(15);
/// Connections of one runtime that are kept for later.
const KEPT_CONNECTIONS: usize = 256;

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The request has not been sent, so nothing has come of it.
    #[error(transparent)]
    NotSent(OutboundError),
    /// It has been sent, and nobody knows what came of it.
    #[error(transparent)]
    Lost(OutboundError),
    /// It has been sent, and no answer has come in time.
    #[error("no answer has come in time")]
    Late,
}

/// Kept connections to the origin of one URL. Clones share them.
#[derive(Clone)]
pub struct Pool(Arc<Kept>);

type Connections = Client<Connector, Watched>;

/// A body that tells when it is wanted: then there is a connection.
struct Watched {
    body: Full<Bytes>,
    sent: Arc<AtomicBool>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.sent.store(true, Ordering::Relaxed);
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Kept {
    /// A connection is driven by the runtime on which it was opened, and each
    /// thread that answers requests has one of its own. Used from another one,
    /// every request and every answer would wake that thread, too, and wait
    /// while it has something else to do.
    connections: RwLock<HashMap<runtime::Id, Connections>>,
    connector: Connector,
    host: HeaderValue,
}

impl Outbound {
    /// Connections to the origin of a URL, which the administrator wrote down.
    ///
    /// # Errors
    /// When the URL cannot be asked.
    pub fn pool(&self, base: &Url) -> Result<Pool, OutboundError> {
        let base = super::usable(base.clone())?;
        let way = self.allowing(&base);
        let host = &base[url::Position::BeforeHost..url::Position::AfterPort];
        let host = HeaderValue::from_str(host).map_err(|_| OutboundError::InvalidUrl("its host is none".into()))?;
        let connector = Connector { way: way.0, base: Arc::new(base.clone()) };
        Ok(Pool(Arc::new(Kept { connections: RwLock::default(), connector, host })))
    }
}

impl Pool {
    /// The connections of the runtime that asks.
    fn connections(&self) -> Connections {
        let Kept { connections, connector, .. } = &*self.0;
        let here = runtime::Handle::current().id();
        if let Some(found) = connections.read().unwrap_or_else(PoisonError::into_inner).get(&here) {
            return found.clone();
        }
        let mut connections = connections.write().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            Client::builder(TokioExecutor::new())
                .pool_idle_timeout(KEPT)
                .pool_max_idle_per_host(KEPT_CONNECTIONS)
                .pool_timer(TokioTimer::new())
                .http1_max_buf_size(HEAD_BYTES)
                .http1_max_headers(HEAD_FIELDS)
                .set_host(false)
                .build(connector.clone())
        };
        connections.entry(here).or_insert_with(new).clone()
    }

    /// Sends a request to a path below the URL and waits for the head of the
    /// answer, connecting included, for as long as `limit`. Dropping the answer
    /// ends the exchange.
    ///
    /// # Errors
    /// Whether it was sent, and why there is no answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        limit: Duration,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let invalid = || NoAnswer::NotSent(OutboundError::InvalidUrl("it cannot be written in a request".into()));
        let Kept { connector, host, .. } = &*self.0;
        let url = format!("{}{path}", connector.base.as_str().trim_end_matches('/'));
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let sent = Arc::new(AtomicBool::new(false));
        let mut request = Request::new(Watched { body: Full::new(body), sent: sent.clone() });
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, host.clone());
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        match tokio::time::timeout(limit, self.connections().request(request)).await {
            Ok(answered) => answered.map_err(|error| self.no_answer(&error)),
            Err(_) if sent.load(Ordering::Relaxed) => Err(NoAnswer::Late),
            Err(_) => Err(NoAnswer::NotSent(OutboundError::Timeout { what: "connecting", limit })),
        }
    }

    /// What went wrong, in the words of this room.
    fn no_answer(&self, error: &hyper_util::client::legacy::Error) -> NoAnswer {
        let host = self.0.connector.base.host_str().unwrap_or_default();
        let mut source = std::error::Error::source(error);
        let mut found = None;
        while let Some(inner) = source {
            if let Some(own) = inner.downcast_ref::<OutboundError>() {
                found = Some(own.clone());
            } else if let Some(inner) = inner.downcast_ref::<hyper::Error>() {
                found.get_or_insert_with(|| fault(inner, host));
            }
            source = inner.source();
        }
        let found = found.unwrap_or_else(|| OutboundError::ConnectionLost(host.into()));
        if error.is_connect() { NoAnswer::NotSent(found) } else { NoAnswer::Lost(found) }
    }
}

/// Opens connections to the origin, whatever it is asked for: nothing else is
/// asked.
#[derive(Clone)]
struct Connector {
    way: Arc<Inner>,
    base: Arc<Url>,
}

impl tower_service::Service<Uri> for Connector {
    type Response = Open;
    type Error = OutboundError;
    type Future = Pin<Box<dyn Future<Output = Result<Open, OutboundError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OutboundError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { way, base } = self.clone();
        Box::pin(async move {
            let connected = tokio::time::timeout(CONNECTED, async {
                let addresses = way.guard.check(&base).await?;
                let stream = connect::tcp(&base, &addresses).await?;
                Ok(match base.scheme() {
                    "https" => Either::Right(connect::tls(&way.tls, &base, stream).await?),
                    _ => Either::Left(stream),
                })
            });
            let late = |_| OutboundError::Timeout { what: "connecting", limit: CONNECTED };
            Ok(Open(TokioIo::new(connected.await.map_err(late)??)))
        })
    }
}

/// An open connection.
struct Open(TokioIo<Either<TcpStream, TlsStream<TcpStream>>>);

impl Connection for Open {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Open {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<Result<(), io::Error>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Open {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, io::Error>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<Result<usize, io::Error>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, buffers)
    }
}
