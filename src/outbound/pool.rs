//! Kept connections to one origin that the administrator wrote down, for those
//! who ask it often: opening one for each request would take longer than many
//! an answer. Every new connection is checked as all others are.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use tokio::runtime;
use tokio_util::either::Either;
use url::Url;

use super::connection::{Connection, Exchange, Home, Watched};
use super::exchange::fault;
use super::{AGENT, Inner, Outbound, OutboundError, connect};

/// How long a connection may take, TLS included.
const CONNECTED: Duration = Duration::from_secs(15);

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

struct Kept {
    /// A connection is driven by the runtime on which it was opened, and each
    /// thread that answers requests has one of its own. Used from another one,
    /// every answer would wake that thread, too, and wait while it has something
    /// else to do.
    homes: RwLock<HashMap<runtime::Id, Arc<Home>>>,
    way: Arc<Inner>,
    base: Url,
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
        Ok(Pool(Arc::new(Kept { homes: RwLock::default(), way: way.0, base, host })))
    }
}

impl Pool {
    /// The connections of the runtime that asks.
    fn home(&self) -> Arc<Home> {
        let homes = &self.0.homes;
        let here = runtime::Handle::current().id();
        if let Some(found) = homes.read().unwrap_or_else(PoisonError::into_inner).get(&here) {
            return found.clone();
        }
        homes.write().unwrap_or_else(PoisonError::into_inner).entry(here).or_default().clone()
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
    ) -> Result<Response<Exchange>, NoAnswer> {
        let invalid = || NoAnswer::NotSent(OutboundError::InvalidUrl("it cannot be written in a request".into()));
        let Kept { base, host, .. } = &*self.0;
        let target = format!("{}{path}", base.path().trim_end_matches('/'));
        let uri = Uri::try_from(target).map_err(|_| invalid())?;
        let (body, sent) = Watched::new(body);
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, host.clone());
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        match tokio::time::timeout(limit, self.exchange(request)).await {
            Ok(answered) => answered,
            Err(_) if sent.load(Ordering::Relaxed) => Err(NoAnswer::Late),
            Err(_) => Err(NoAnswer::NotSent(OutboundError::Timeout { what: "connecting", limit })),
        }
    }

    /// Sends a request over a kept connection, or over a new one where none can be used.
    async fn exchange(&self, mut request: Request<Watched>) -> Result<Response<Exchange>, NoAnswer> {
        let home = self.home();
        loop {
            let kept = home.take();
            let is_new = kept.is_none();
            let mut connection = match kept {
                Some(kept) => kept,
                None => self.connect().await.map_err(NoAnswer::NotSent)?,
            };
            let mut error = match connection.ask(request).await {
                Ok(response) => return Ok(response.map(|incoming| Exchange::new(incoming, connection, home))),
                Err(error) => error,
            };
            let unsent = error.take_message();
            match unsent {
                // The server has closed it meanwhile.
                Some(unsent) if !is_new => request = unsent,
                unsent => {
                    let fault = fault(&error.into_error(), self.0.base.host_str().unwrap_or_default());
                    return Err(if unsent.is_some() { NoAnswer::NotSent(fault) } else { NoAnswer::Lost(fault) });
                }
            }
        }
    }

    /// A new connection to the origin, to an address that is checked first.
    async fn connect(&self) -> Result<Connection, OutboundError> {
        let Kept { way, base, .. } = &*self.0;
        let connecting = async {
            let addresses = way.guard.check(base).await?;
            let stream = connect::tcp(base, &addresses).await?;
            let stream = match base.scheme() {
                "https" => Either::Right(connect::tls(&way.tls, base, stream).await?),
                _ => Either::Left(stream),
            };
            let host = base.host_str().unwrap_or_default();
            Connection::new(stream).await.map_err(|error| fault(&error, host))
        };
        let late = |_| OutboundError::Timeout { what: "connecting", limit: CONNECTED };
        tokio::time::timeout(CONNECTED, connecting).await.map_err(late)?
    }
}
