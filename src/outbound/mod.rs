//! The one way out of the service. Whatever goes to an address that a client,
//! a page or a configuration named goes through [`Outbound`]: it looks a name
//! up once, checks every address, connects to a checked one, and does all this
//! again for every redirect. Connections are not kept, so none can be used for
//! what it was not checked for; only a [`Pool`] keeps some, to the one origin
//! that the administrator wrote down.

mod address;
mod body;
mod connect;
mod connection;
mod error;
mod exchange;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod guard;
mod host_files;
mod pool;
mod resolve;
mod stall;
mod unpack;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT,
};
use hyper::{Method, StatusCode};
use prometheus::{IntCounterVec, Opts, Registry};
use rustls::ClientConfig;
use url::Url;

pub use body::{AnswerBody, Piece};
pub use connect::host_authorities;
pub use connection::Exchange;
pub use error::OutboundError;
pub use pool::{NoAnswer, Pool};
pub use resolve::Caa;

use crate::config::{OutboundSection, Target};
use exchange::Head;
use guard::Guard;
use resolve::Names;
use stall::Moving;

/// What the service calls itself to others.
pub const AGENT: &str = concat!("agentd/", env!("CARGO_PKG_VERSION"));
/// The longest URL that is fetched, in bytes.
const URL_BYTES: usize = 8192;

/// How the way out is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Targets inside that may be reached.
    pub allow: Vec<Target>,
    /// Name servers; none: the host's.
    pub nameservers: Vec<SocketAddr>,
    /// A PEM file of certificate authorities to trust beside the usual ones.
    pub extra_ca: Option<PathBuf>,
}

impl From<OutboundSection> for Options {
    fn from(section: OutboundSection) -> Self {
        Self { allow: section.allow, nameservers: section.nameservers, extra_ca: section.extra_ca }
    }
}

/// Why the way out cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The file of certificate authorities cannot be used.
    #[error("{setting}: the certificate authorities in {} cannot be used: {why}", path.display())]
    ExtraCa {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// TLS cannot be set up: a fault of ours.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A metric cannot be registered: a fault of ours.
    #[error(transparent)]
    Metric(#[from] prometheus::Error),
}

/// How much an exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the body, as it arrives and unpacked.
    pub bytes: usize,
    /// Whether a larger body is cut there, and not an error.
    pub cut: bool,
    /// Time to the first byte of an answer.
    pub first_byte: Duration,
    /// Time for everything, redirects included.
    pub total: Duration,
    /// Redirects that are followed.
    pub redirects: usize,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    url: String,
    accept: &'static str,
    headers: HeaderMap,
    body: Bytes,
    /// For how long nothing may move, once there is a connection.
    stall: Option<Duration>,
}

impl Request {
    /// The page at a URL.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        let (method, headers) = (Method::GET, HeaderMap::new());
        Self { method, url: url.into(), accept: "*/*", headers, body: Bytes::new(), stall: None }
    }

    /// Sends JSON to a URL.
    #[must_use]
    pub fn post_json(url: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let mut request = Self { method: Method::POST, body: body.into(), ..Self::get(url) };
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }

    /// What another library has put together. Its headers are taken for secrets.
    #[must_use]
    pub fn of(method: Method, url: impl Into<String>, headers: HeaderMap, body: impl Into<Bytes>) -> Self {
        Self { method, url: url.into(), accept: "*/*", headers, body: body.into(), stall: None }
    }

    /// Says which types of answer are wanted.
    #[must_use]
    pub fn accept(mut self, types: &'static str) -> Self {
        self.accept = types;
        self
    }

    /// Ends the exchange when for so long nothing has been sent or received. For
    /// bodies whose time cannot be told beforehand.
    #[must_use]
    pub fn moving(mut self, limit: Duration) -> Self {
        self.stall = Some(limit);
        self
    }

    /// Adds a header with a secret. It is sent to the URL's own origin only,
    /// never to one that a redirect leads to, and never printed.
    #[must_use]
    pub fn secret(mut self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.headers.insert(name, value);
        self
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Where it came from in the end.
    pub url: Url,
    /// The URLs that were redirected from, in order.
    pub redirects: Vec<Url>,
    /// The status, whatever it is.
    pub status: StatusCode,
    /// The headers of the answer.
    pub headers: HeaderMap,
    /// The body, unpacked; complete unless it was cut.
    pub body: Bytes,
    /// Whether it was.
    pub cut: bool,
}

/// The way out. Clones share it.
#[derive(Clone)]
pub struct Outbound(Arc<Inner>);

struct Inner {
    guard: Guard,
    tls: Arc<ClientConfig>,
    requests: IntCounterVec,
}

impl Outbound {
    /// Makes the way out.
    ///
    /// # Errors
    /// When the certificate authorities cannot be read.
    pub fn new(options: Options, metrics: &Registry) -> Result<Self, BuildError> {
        let requests = Opts::new("agentd_outbound_requests_total", "Requests to others, by how they ended.");
        let requests = IntCounterVec::new(requests, &["outcome"])?;
        metrics.register(Box::new(requests.clone()))?;
        let tls = connect::tls_config(options.extra_ca.as_deref().map(|path| ("outbound.extra_ca", path)))?;
        let guard = Guard::new(Names::new(options.nameservers), options.allow);
        Ok(Self(Arc::new(Inner { guard, tls, requests })))
    }

    /// The same way out, which may also lead to the host and port of a URL
    /// that the administrator wrote down.
    #[must_use]
    pub fn allowing(&self, url: &Url) -> Self {
        let Inner { guard, tls, requests } = &*self.0;
        Self(Arc::new(Inner { guard: guard.allowing(url), tls: tls.clone(), requests: requests.clone() }))
    }

    /// The addresses of a name, whether they may be reached or not, IPv4 first.
    ///
    /// # Errors
    /// When it has none, or they cannot be looked up.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, OutboundError> {
        self.0.guard.names().addresses(name).await
    }

    /// A name's own records on who may give certificates for it (RFC 8659),
    /// without those of the names above it.
    ///
    /// # Errors
    /// When they cannot be looked up.
    pub async fn caa(&self, name: &str) -> Result<Vec<Caa>, OutboundError> {
        self.0.guard.names().caa(name).await
    }

    /// The same way out, which also trusts the certificate authorities of a PEM
    /// file, which a setting names.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn trusting(&self, setting: &'static str, ca_file: &Path) -> Result<Self, BuildError> {
        let Inner { guard, requests, .. } = &*self.0;
        let tls = connect::tls_config(Some((setting, ca_file)))?;
        Ok(Self(Arc::new(Inner { guard: guard.clone(), tls, requests: requests.clone() })))
    }

    /// Sends a request and reads the answer, following redirects. An answer of
    /// any status is one. Dropping the future closes the connection.
    ///
    /// # Errors
    /// Why there is no complete answer.
    pub async fn send(&self, request: Request, limits: &Limits) -> Result<Fetched, OutboundError> {
        let timed = tokio::time::timeout(limits.total, self.0.follow(request, limits)).await;
        let fetched = timed.unwrap_or(Err(OutboundError::Timeout { what: "the whole answer", limit: limits.total }));
        let outcome = fetched.as_ref().map_or_else(OutboundError::code, |_| "ok");
        self.0.requests.with_label_values(&[outcome]).inc();
        fetched
    }
}

impl Inner {
    async fn follow(&self, mut request: Request, limits: &Limits) -> Result<Fetched, OutboundError> {
        let mut url = parse(&request.url)?;
        let mut redirects = Vec::new();
        loop {
            let head = self.ask(&url, &request, limits.first_byte).await?;
            let Some(next) = redirect(&request.method, &url, &head)? else {
                let (status, headers) = (head.response.status(), head.response.headers().clone());
                let host = url.host_str().unwrap_or_default();
                let (body, cut) = exchange::body(head, host, limits.bytes, limits.cut).await?;
                return Ok(Fetched { url, redirects, status, headers, body, cut });
            };
            if redirects.len() == limits.redirects {
                return Err(OutboundError::TooManyRedirects(limits.redirects));
            }
            if next.origin() != url.origin() {
                request.headers.clear();
            }
            redirects.push(std::mem::replace(&mut url, next));
        }
    }

    /// One request to one URL: checked, connected, asked.
    async fn ask(&self, url: &Url, request: &Request, first_byte: Duration) -> Result<Head, OutboundError> {
        let host = url.host_str().unwrap_or_default();
        let addresses = self.guard.check(url).await?;
        let message = message(url, request)?;
        let stream = connect::tcp(url, &addresses).await?;
        if url.scheme() == "https" {
            let stream = connect::tls(&self.tls, url, stream).await?;
            return exchange::ask(Moving::new(stream, request.stall), message, host, first_byte).await;
        }
        exchange::ask(Moving::new(stream, request.stall), message, host, first_byte).await
    }
}

/// Reads a URL that may be fetched, as far as can be said without looking up
/// its host. The fragment is dropped.
///
/// # Errors
/// When it is none, or one that is not fetched.
pub fn parse(text: &str) -> Result<Url, OutboundError> {
    if text.len() > URL_BYTES {
        return Err(OutboundError::InvalidUrl(format!("it is longer than {URL_BYTES} bytes")));
    }
    let url = Url::parse(text).map_err(|error| OutboundError::InvalidUrl(error.to_string()))?;
    usable(url)
}

fn usable(mut url: Url) -> Result<Url, OutboundError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(OutboundError::UnsupportedScheme(url.scheme().chars().take(40).collect()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(OutboundError::InvalidUrl("it holds a user name or a password".into()));
    }
    url.set_fragment(None);
    Ok(url)
}

/// Where an answer sends us. Only reading is sent on: a body goes to nobody
/// but whom it was meant for.
fn redirect(method: &Method, from: &Url, head: &Head) -> Result<Option<Url>, OutboundError> {
    let status = head.response.status();
    if *method != Method::GET || !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = location(head.response.headers())? else { return Ok(None) };
    let next = from.join(&location).map_err(|error| OutboundError::InvalidUrl(format!("a redirect: {error}")))?;
    usable(next).map(Some)
}

/// Where a header says that something is. An empty one says nothing; several
/// that differ would let somebody on the way choose.
fn location(headers: &HeaderMap) -> Result<Option<String>, OutboundError> {
    let mut locations = headers.get_all(LOCATION).iter().map(|value| value.as_bytes().trim_ascii());
    let Some(first) = locations.find(|value| !value.is_empty()) else { return Ok(None) };
    if locations.any(|other| !other.is_empty() && other != first) {
        return Err(OutboundError::InvalidResponse("it has several Location headers that differ".into()));
    }
    if first.len() > URL_BYTES {
        return Err(OutboundError::InvalidUrl(format!("a redirect is longer than {URL_BYTES} bytes")));
    }
    // Bytes that are no UTF-8 go back as they came.
    let encoded = || {
        first.iter().map(|byte| if byte.is_ascii() { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
    };
    Ok(Some(std::str::from_utf8(first).map_or_else(|_| encoded().collect(), str::to_owned)))
}

fn message(url: &Url, request: &Request) -> Result<hyper::Request<Full<Bytes>>, OutboundError> {
    let wrong = |_| OutboundError::InvalidUrl("it cannot be written in a request".into());
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let host = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    let mut message = hyper::Request::builder()
        .method(request.method.clone())
        .uri(target)
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, request.accept)
        .header(ACCEPT_ENCODING, "gzip, deflate")
        .header(CONNECTION, "close")
        .body(Full::new(request.body.clone()))
        .map_err(wrong)?;
    // In place of the usual ones, where it has its own.
    for (name, value) in &request.headers {
        message.headers_mut().insert(name, value.clone());
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_that_are_not_fetched() {
        for (text, code) in [
            ("file:///etc/passwd", "unsupported_scheme"),
            ("ftp://example.com/", "unsupported_scheme"),
            ("gopher://example.com/", "unsupported_scheme"),
            ("data:text/html,hello", "unsupported_scheme"),
            ("javascript:alert(1)", "unsupported_scheme"),
            ("unix:/run/x.sock", "unsupported_scheme"),
            ("http://user@example.com/", "invalid_url"),
            ("http://user:word@example.com/", "invalid_url"),
            ("http://", "invalid_url"),
            ("//example.com/", "invalid_url"),
            ("example.com", "invalid_url"),
            ("http://exa mple.com/", "invalid_url"),
            ("http://example.com:99999/", "invalid_url"),
        ] {
            assert_eq!(parse(text).expect_err(text).code(), code, "{text}");
        }
        assert_eq!(parse(&format!("http://a/{}", "x".repeat(9000))).expect_err("long").code(), "invalid_url");
        assert_eq!(parse(" HTTP://EXAMPLE.com:80/a b#c ").expect("a URL").as_str(), "http://example.com/a%20b");
    }

    #[test]
    fn locations_are_read_as_browsers_read_them() {
        let read = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(LOCATION, HeaderValue::from_bytes(value).expect("a value"));
            }
            location(&headers)
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[b" "]), Ok(None));
        assert_eq!(read(&[b"", b" /a b "]), Ok(Some("/a b".into())));
        assert_eq!(read(&["/ö".as_bytes(), "/ö".as_bytes()]), Ok(Some("/ö".into())));
        assert_eq!(read(&[b"/\xf6"]), Ok(Some("/%F6".into())));
        assert_eq!(read(&[b"/a", b"/b"]).expect_err("two").code(), "invalid_response");
        assert_eq!(read(&[&[b'x'; 9000]]).expect_err("long").code(), "invalid_url");
    }

    #[test]
    fn secrets_are_not_printed() {
        let value = HeaderValue::from_static("the-secret");
        let request = Request::get("http://example.com/").secret(HeaderName::from_static("x-key"), value);
        assert!(!format!("{request:?}").contains("the-secret"));
    }

    proptest! {
        #[test]
        fn a_url_that_is_taken_can_be_written_in_a_request(text in "https?://[a-z0-9.:\\[\\]%]{1,20}/.{0,60}") {
            if let Ok(url) = parse(&text) {
                let request = Request::get(text.clone());
                let written = message(&url, &request);
                prop_assert!(written.is_ok(), "{} {:?}", url, written.err());
            }
        }
    }
}
