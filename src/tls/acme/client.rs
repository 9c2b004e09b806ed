//! HTTP for the ACME library: through the service's own way out, with a bound
//! on everything.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use crate::clock::{Clock, Timestamp};
use crate::outbound::{Limits, Outbound, Request};

/// What one request may take. A chain has some kilobytes.
const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    cut: false,
    first_byte: Duration::from_secs(20),
    total: Duration::from_secs(30),
    redirects: 0,
};

/// How long a directory has asked to be left alone, most recently.
#[derive(Clone, Debug, Default)]
pub(super) struct Pause(Arc<Mutex<Option<Duration>>>);

impl Pause {
    /// What it was, if it asked.
    pub(super) fn get(&self) -> Option<Duration> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, headers: &HeaderMap, now: Timestamp) {
        let Some(text) = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) else { return };
        let pause = retry_after(text.trim(), now);
        if pause.is_some() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pause;
        }
    }
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
    pub pause: Pause,
}

impl HttpClient for Http {
    fn request(
        &self,
        request: hyper::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (outbound, clock, pause) = (self.outbound.clone(), self.clock.clone(), self.pause.clone());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|error| Error::Other(error.into()))?.to_bytes();
            let request = Request::of(parts.method, parts.uri.to_string(), parts.headers, body);
            let answer = outbound.send(request, &LIMITS).await.map_err(|error| Error::Other(error.into()))?;
            let failed = !answer.status.is_success();
            if failed {
                pause.note(&answer.headers, clock.now());
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
            let mut response = hyper::Response::new(Full::new(answer.body));
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(BytesResponse::from(response))
        })
    }
}

/// Requests at most, while the server does not take a nonce.
pub(super) const NONCES: usize = 6;

/// Does a request again when the server did not take its nonce: servers refuse
/// some at random, and after a restart all of them. The library does it thrice.
/// A macro, because a future that a closure lends to cannot be told to be `Send`.
macro_rules! again {
    ($request:expr) => {{
        let mut requests = 1;
        loop {
            match $request.await {
                Err(instant_acme::Error::Api(problem))
                    if requests < $crate::tls::acme::client::NONCES
                        && $crate::tls::acme::client::is(&problem, "badNonce") =>
                {
                    requests += 1;
                }
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
}
