//! Why a provider has not answered, and what follows from that: for the money,
//! for the next attempt, and for the client.

use std::time::Duration;

use actix_web::http::StatusCode;
use bytes::Bytes;
use hyper::header::{HeaderMap, RETRY_AFTER};

use super::complaint::Complaint;
use super::provider::Provider;
use super::quirks::Quirks;
use crate::clock::Timestamp;
use crate::http::Problem;
use crate::models::usage::Usage;
use crate::outbound::{NoAnswer, OutboundError};

/// When a provider that is busy does not say how long.
const USUAL_PAUSE: Duration = Duration::from_secs(5);
/// No provider is believed that wants a longer pause.
const LONGEST: Duration = Duration::from_secs(86_400);

/// How a call can end, for the metrics.
pub(super) const OUTCOMES: [&str; 11] = [
    "ok",
    "client_error",
    "rate_limited",
    "provider_error",
    "key_refused",
    "unreachable",
    "lost",
    "timeout",
    "nonsense",
    "too_large",
    "busy",
];

/// A call that a provider has not answered.
#[derive(Debug)]
pub(super) struct Failure {
    /// One of [`OUTCOMES`].
    pub outcome: &'static str,
    /// What the provider wants for it.
    pub bill: Bill,
    /// Whether the same provider may be asked again, and what it says about when.
    pub again: Again,
    /// What the client is told when nobody else answers.
    pub problem: Problem,
    /// The status and body that the client gets in place of it, where the provider
    /// has said what is wrong with the request.
    pub passed: Option<Box<(u16, Bytes)>>,
}

/// What a provider may want for a call that it has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bill {
    /// Nothing: it has not done the work.
    Nothing,
    /// Nobody knows, so what was reserved.
    All,
    /// What it says that it has used.
    Used(Usage),
}

/// Whether it makes sense to ask the same provider again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It would end the same way.
    No,
    /// Soon, or after as long as the provider says.
    After(Option<Duration>),
    /// At once, in a form that it takes.
    Adapted(Quirks),
}

/// An answer that says no, as far as its head goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct No {
    pub status: u16,
    /// How long the provider wants to be left in peace.
    pub pause: Option<Duration>,
    /// Whether it says that asking again is of no use (`X-Should-Retry`).
    pub is_final: bool,
}

impl No {
    pub(super) fn of(status: u16, headers: &HeaderMap, now: Timestamp) -> Self {
        let is_final =
            headers.get("x-should-retry").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"false"));
        Self { status, pause: retry_after(headers, now), is_final }
    }

    /// One that came with a status of success.
    pub(super) fn in_success(status: Option<u16>) -> Self {
        Self { status: status.unwrap_or(502), pause: None, is_final: false }
    }

    fn again(&self) -> Again {
        if self.is_final { Again::No } else { Again::After(self.pause) }
    }
}

impl Failure {
    fn made(outcome: &'static str, bill: Bill, again: Again, problem: Problem) -> Self {
        let problem = if bill == Bill::Nothing { problem } else { problem.paid_for() };
        Self { outcome, bill, again, problem, passed: None }
    }

    /// One that costs nothing, for which the provider wants so much all the same.
    fn costing(self, bill: Bill) -> Self {
        Self { passed: self.passed, ..Self::made(self.outcome, bill, self.again, self.problem) }
    }

    /// The request is to be sent once more in a form that the provider takes.
    pub(super) fn adapted(quirks: Quirks) -> Self {
        let problem = Problem::internal("a request was not sent again in another form");
        Self::made("client_error", Bill::Nothing, Again::Adapted(quirks), problem)
    }

    /// Whether it says that the provider does not work.
    pub(super) fn is_fault(&self) -> bool {
        !matches!(self.outcome, "rate_limited" | "busy" | "too_large" | "client_error")
    }

    /// No head of an answer.
    pub(super) fn no_answer(provider: &str, error: &NoAnswer) -> Self {
        match error {
            NoAnswer::NotSent(error) => {
                let again = match error {
                    OutboundError::Blocked { .. } | OutboundError::Tls(..) => Again::No,
                    _ => Again::After(None),
                };
                let problem = bad_gateway("provider_unreachable", provider, &format!("cannot be reached: {error}"));
                Self::made("unreachable", Bill::Nothing, again, problem)
            }
            NoAnswer::Lost(_) | NoAnswer::Late => {
                let problem = bad_gateway("provider_failed", provider, &format!("broke off: {error}"));
                Self::made("lost", Bill::All, Again::No, problem)
            }
        }
    }

    /// The answer broke off before any of it had been passed on.
    pub(super) fn broken(provider: &str) -> Self {
        let problem = bad_gateway("provider_failed", provider, "broke off in the middle of its answer");
        Self::made("lost", Bill::All, Again::No, problem)
    }

    /// Nothing in time.
    pub(super) fn timeout(provider: &str, what: &str, limit: Duration) -> Self {
        let detail = format!("the provider {provider} did not send {what} within {} s", limit.as_secs_f32());
        let problem = Problem::new(StatusCode::GATEWAY_TIMEOUT, "provider_timeout", detail);
        Self::made("timeout", Bill::All, Again::No, problem)
    }

    /// Something that is no answer, with a status of success.
    pub(super) fn nonsense(provider: &str, what: &str, bill: Bill) -> Self {
        Self::made("nonsense", bill, Again::No, bad_gateway("provider_failed", provider, what))
    }

    /// More than is read of an answer, which the client may have asked for.
    pub(super) fn too_large(provider: &str) -> Self {
        let problem = bad_gateway("provider_failed", provider, "sent an answer that is too large");
        Self::made("too_large", Bill::All, Again::No, problem)
    }

    /// The concurrency limit is reached.
    pub(super) fn busy(provider: &str) -> Self {
        let detail = format!("the concurrency limit of the provider {provider} is reached");
        Self::made("busy", Bill::Nothing, Again::No, Problem::unavailable("provider_busy", detail, 5))
    }

    /// The breaker is open.
    pub(super) fn breaker_open(provider: &str) -> Self {
        let detail = format!("the provider {provider} is temporarily disabled after failures (circuit breaker open)");
        Self::made("busy", Bill::Nothing, Again::No, Problem::unavailable("provider_unavailable", detail, 30))
    }

    /// An answer that says no; `None` for one that is about the client's own
    /// request, which the client gets as it is.
    pub(super) fn refusal(provider: &Provider, no: No, complaint: &Complaint) -> Option<Self> {
        let name = &*provider.name;
        let says = complaint.message().map(|text| format!(": {}", provider.without_key(&text))).unwrap_or_default();
        let failure = match no.status {
            _ if no.status == 402 || complaint.is_no_credit() => {
                let what = format!("refuses calls because its account has no credit ({})", no.status);
                let problem = bad_gateway("provider_key_refused", name, &what)
                    .with_hint("the administrator must top up the account, or set the key of another one")
                    .do_not_retry();
                Self::made("key_refused", Bill::Nothing, Again::No, problem)
            }
            401 | 403 if complaint.is_about_content() => return None,
            401 | 403 => {
                let problem =
                    bad_gateway("provider_key_refused", name, &format!("refuses its API key ({})", no.status))
                        .with_hint("the administrator must set another key for it, or give this one more rights")
                        .do_not_retry();
                Self::made("key_refused", Bill::Nothing, Again::No, problem)
            }
            429 => {
                let detail = format!("the provider {name} says that its rate limit is exceeded{says}");
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "provider_rate_limited", detail)
                    .with_retry_in(no.pause.unwrap_or(USUAL_PAUSE));
                Self::made("rate_limited", Bill::Nothing, no.again(), problem)
            }
            // Overloaded; 529 is how some say it.
            503 | 529 => {
                let status = StatusCode::from_u16(no.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                let detail = format!("the provider {name} is overloaded ({}){says}", no.status);
                let problem =
                    Problem::new(status, "provider_unavailable", detail).with_retry_in(no.pause.unwrap_or(USUAL_PAUSE));
                Self::made("provider_error", Bill::Nothing, no.again(), problem)
            }
            408 | 409 | 500.. => {
                let what = format!("answered with an error ({}){says}", no.status);
                let problem = bad_gateway("provider_failed", name, &what);
                let problem = if let Some(pause) = no.pause { problem.with_retry_in(pause) } else { problem };
                Self::made("provider_error", Bill::Nothing, no.again(), problem)
            }
            300..=399 => {
                let what = format!("answered with a redirect ({}); its base URL is wrong", no.status);
                let problem = bad_gateway("provider_failed", name, &what).do_not_retry();
                Self::made("provider_error", Bill::Nothing, Again::No, problem)
            }
            _ => return None,
        };
        let never = no.is_final && failure.again == Again::No;
        Some(if never { Self { problem: failure.problem.do_not_retry(), ..failure } } else { failure })
    }

    /// An error that came in place of an answer, with a status of success.
    pub(super) fn in_success(provider: &Provider, body: &[u8], bill: Bill) -> Self {
        let complaint = Complaint::read(body);
        let no = No::in_success(complaint.status);
        let failure = Self::refusal(provider, no, &complaint).unwrap_or_else(|| {
            let problem = bad_gateway("provider_failed", &provider.name, "refused the request");
            let passed = Some(Box::new((no.status, Bytes::copy_from_slice(body))));
            Self { passed, ..Self::made("client_error", Bill::Nothing, Again::No, problem) }
        });
        failure.costing(bill)
    }
}

fn bad_gateway(code: &'static str, provider: &str, what: &str) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, code, format!("the provider {provider} {what}"))
}

/// `Retry-After` (RFC 9110): seconds or a date. Some write seconds with a fraction,
/// and some the milliseconds in a header of their own, which is more exact.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim());
    let number = |name: &str| text(name)?.parse::<f64>().ok().filter(|number| *number >= 0.0);
    let span = |seconds: f64| Duration::try_from_secs_f64(seconds).map_or(LONGEST, |span| span.min(LONGEST));
    if let Some(milliseconds) = number("retry-after-ms") {
        return Some(span(milliseconds / 1e3));
    }
    if let Some(seconds) = number(RETRY_AFTER.as_str()) {
        return Some(span(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text(RETRY_AFTER.as_str())?).ok()?.timestamp();
    Some(Timestamp::from_micros(date.as_microsecond()).since(now).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no(status: u16, headers: &[(&'static str, &'static str)]) -> No {
        let value = hyper::header::HeaderValue::from_static;
        let headers = headers.iter().map(|(name, text)| (hyper::header::HeaderName::from_static(name), value(text)));
        No::of(status, &headers.collect(), Timestamp::from_micros(1_445_412_475_000_000))
    }

    #[test]
    fn how_long_to_wait_is_told_in_several_ways() {
        for (headers, expected) in [
            (&[("retry-after", "7")][..], Some(7_000)),
            (&[("retry-after", "1.5")], Some(1_500)),
            (&[("retry-after", " 0 ")], Some(0)),
            (&[("retry-after-ms", "250")], Some(250)),
            (&[("retry-after-ms", "250.5"), ("retry-after", "7")], Some(250)),
            (&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], Some(5_000)),
            (&[("retry-after", "Wed, 21 Oct 2015 07:27:00 GMT")], Some(0)),
            (&[("retry-after", "99999999999999")], Some(86_400_000)),
            (&[("retry-after", "inf")], Some(86_400_000)),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "-5")], None),
            (&[("retry-after", "NaN")], None),
            (&[], None),
        ] {
            let pause = no(429, headers).pause.map(|pause| pause.as_millis());
            assert_eq!(pause, expected, "{headers:?}");
        }
        assert!(no(500, &[("x-should-retry", "False")]).is_final && !no(500, &[("x-should-retry", "true")]).is_final);
    }
}
