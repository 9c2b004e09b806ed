//! HTTP for the ACME library: through the service's own way out, with a bound
//! on everything.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, StatusCode, Uri};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient, Problem};

use crate::clock::{Clock, Timestamp};
use crate::outbound::{Limits, Outbound, Request};

/// The header with a nonce (RFC 8555, 6.5.1).
const REPLAY_NONCE: &str = "replay-nonce";

/// What one request may take. A chain has some kilobytes.
const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    cut: false,
    first_byte: Duration::from_secs(20),
    total: Duration::from_secs(30),
    redirects: 0,
};

/// Nonces that a directory may refuse one after the other, before it has taken
/// any and after. Servers refuse some at random, and after a restart all that they
/// gave before; one that refuses more refuses all.
const REFUSED_FIRST: u32 = 8;
const REFUSED_LATER: u32 = 10;

/// What is remembered of the requests to one directory during one attempt.
/// Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Session(Arc<Mutex<Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    /// How long the directory has asked to wait, most recently.
    pause: Option<Duration>,
    /// Nonces that it has refused since it took one.
    refused: u32,
    has_taken: bool,
    /// The one that came with the last refusal: the server takes that (RFC 8555, 6.5).
    nonce: Option<HeaderValue>,
    directory: Option<(Uri, Answer)>,
}

/// What can be answered a second time.
#[derive(Clone, Debug)]
struct Answer {
    headers: HeaderMap,
    body: Bytes,
}

impl Session {
    fn get(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the directory has asked to wait, if it asked.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.get().pause
    }

    fn note_pause(&self, headers: &HeaderMap, now: Timestamp) {
        let Some(text) = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) else { return };
        if let Some(pause) = retry_after(text.trim(), now) {
            self.get().pause = Some(pause);
        }
    }

    /// What need not be asked: the directory that has been read, and a nonce that
    /// came with a refusal. An error where asking is of no use.
    fn answer(&self, method: &Method, uri: &Uri) -> Result<Option<BytesResponse>, Error> {
        let mut known = self.get();
        if known.refused >= known.most() {
            return Err(refuses_all(known.refused));
        }
        let fresh = (*method == Method::HEAD).then(|| known.nonce.take()).flatten();
        let answer = match (fresh, &known.directory) {
            (Some(nonce), _) => {
                let headers = HeaderMap::from_iter([(HeaderName::from_static(REPLAY_NONCE), nonce)]);
                Some(Answer { headers, body: Bytes::new() })
            }
            (None, Some((read, answer))) if *method == Method::GET && read == uri => Some(answer.clone()),
            _ => None,
        };
        Ok(answer.map(|answer| response(StatusCode::OK, answer.headers, answer.body)))
    }

    /// Learns from an answer. An error where it is one refusal too many.
    fn learn(&self, method: &Method, uri: &Uri, status: StatusCode, answer: &Answer) -> Result<(), Error> {
        let mut known = self.get();
        if *method == Method::GET && status.is_success() && known.directory.is_none() {
            known.directory = Some((uri.clone(), answer.clone()));
        }
        if *method != Method::POST {
            return Ok(());
        }
        let problem = (!status.is_success()).then(|| serde_json::from_slice::<Problem>(&answer.body).ok()).flatten();
        if !problem.is_some_and(|problem| is(&problem, "badNonce")) {
            (known.refused, known.has_taken, known.nonce) = (0, true, None);
            return Ok(());
        }
        known.refused += 1;
        known.nonce = answer.headers.get(REPLAY_NONCE).cloned();
        if known.refused < known.most() { Ok(()) } else { Err(refuses_all(known.refused)) }
    }
}

impl Remembered {
    fn most(&self) -> u32 {
        if self.has_taken { REFUSED_LATER } else { REFUSED_FIRST }
    }
}

fn refuses_all(count: u32) -> Error {
    let what = format!("the directory has refused {count} nonces in a row (badNonce), its own new ones included");
    Error::Other(what.into())
}

fn response(status: StatusCode, headers: HeaderMap, body: Bytes) -> BytesResponse {
    let mut response = hyper::Response::new(Full::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    BytesResponse::from(response)
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Timestamp::from_micros(date.as_microsecond()).since(now))
}

/// The library's client for one directory.
pub(super) struct Http {
    pub outbound: Outbound,
    pub clock: Clock,
    pub session: Session,
}

impl HttpClient for Http {
    fn request(
        &self,
        request: hyper::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (outbound, clock, session) = (self.outbound.clone(), self.clock.clone(), self.session.clone());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let (method, uri) = (parts.method.clone(), parts.uri.clone());
            if let Some(known) = session.answer(&method, &uri)? {
                return Ok(known);
            }
            let body = body.collect().await.map_err(|error| Error::Other(error.into()))?.to_bytes();
            let request = Request::of(parts.method, parts.uri.to_string(), parts.headers, body);
            let answer = outbound.send(request, &LIMITS).await.map_err(|error| Error::Other(error.into()))?;
            let failed = !answer.status.is_success();
            if failed {
                session.note_pause(&answer.headers, clock.now());
            }
            let is_json = answer
                .headers
                .get(CONTENT_TYPE)
                .and_then(|kind| kind.to_str().ok())
                .is_some_and(|kind| kind.contains("json"));
            if failed && !is_json {
                let what = format!("the directory answered with {}, and not in the way of ACME", answer.status);
                return Err(Error::Other(what.into()));
            }
            let (status, answer) = (answer.status, Answer { headers: answer.headers, body: answer.body });
            session.learn(&method, &uri, status, &answer)?;
            Ok(response(status, answer.headers, answer.body))
        })
    }
}

/// Does a request again when the server did not take its nonce; the library does
/// it thrice. The [`Session`] puts an end to it. A macro, because a future that a
/// closure lends to cannot be told to be `Send`.
macro_rules! again {
    ($request:expr) => {{
        loop {
            match $request.await {
                Err(instant_acme::Error::Api(problem)) if $crate::tls::acme::client::is(&problem, "badNonce") => {}
                other => break other,
            }
        }
    }};
}
pub(super) use again;

/// Whether a problem is of a type of RFC 8555, 6.7.
pub(super) fn is(problem: &instant_acme::Problem, kind: &str) -> bool {
    problem.r#type.as_deref().and_then(|text| text.strip_prefix("urn:ietf:params:acme:error:")) == Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::parse("1999-12-31T23:00:00Z").expect("a time");
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Fri, 31 Dec 1999 23:59:59 GMT", now), Some(Duration::from_secs(3599)));
        assert_eq!(retry_after("Fri, 31 Dec 1999 22:59:59 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }

    fn answer(body: &str, nonce: &'static str) -> Answer {
        let nonce = (HeaderName::from_static(REPLAY_NONCE), HeaderValue::from_static(nonce));
        Answer { headers: HeaderMap::from_iter([nonce]), body: body.to_owned().into() }
    }

    const REFUSAL: &str = r#"{"type":"urn:ietf:params:acme:error:badNonce","detail":"no"}"#;

    #[test]
    fn refusals_of_nonces_come_to_an_end() {
        let session = Session::default();
        let uri = Uri::from_static("https://ca.test/order");
        let post = |status, body| session.learn(&Method::POST, &uri, status, &answer(body, "n"));
        for _ in 1..REFUSED_FIRST {
            assert!(post(StatusCode::BAD_REQUEST, REFUSAL).is_ok());
        }
        assert!(post(StatusCode::OK, "{}").is_ok(), "it takes one after all");
        for _ in 1..REFUSED_LATER {
            assert!(post(StatusCode::FORBIDDEN, REFUSAL).is_ok());
        }
        assert!(post(StatusCode::BAD_REQUEST, REFUSAL).is_err());
        let said = session.answer(&Method::POST, &uri).err().expect("nothing is asked any more").to_string();
        assert!(said.contains("10 nonces"), "{said}");
    }

    #[test]
    fn the_nonce_of_a_refusal_and_the_directory_are_not_asked_for() {
        let session = Session::default();
        let (directory, nonce) = (Uri::from_static("https://ca.test/dir"), Uri::from_static("https://ca.test/nonce"));
        assert!(session.answer(&Method::GET, &directory).expect("no end").is_none());
        session.learn(&Method::GET, &directory, StatusCode::OK, &answer("{}", "n")).expect("learnt");
        assert!(session.answer(&Method::GET, &directory).expect("no end").is_some());
        assert!(session.answer(&Method::GET, &nonce).expect("no end").is_none(), "another address");
        assert!(session.answer(&Method::HEAD, &nonce).expect("no end").is_none());
        session.learn(&Method::POST, &nonce, StatusCode::BAD_REQUEST, &answer(REFUSAL, "new")).expect("learnt");
        let known = session.answer(&Method::HEAD, &nonce).expect("no end").expect("a nonce");
        assert_eq!(known.parts.headers[REPLAY_NONCE], "new");
        assert!(session.answer(&Method::HEAD, &nonce).expect("no end").is_none(), "it is good for one request");
    }
}
