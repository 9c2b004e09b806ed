//! Why a provider has not answered, and what follows from that: for the money,
//! for the next attempt, and for the client.

use std::time::Duration;

use actix_web::http::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};

use crate::clock::Timestamp;
use crate::http::Problem;
use crate::outbound::{NoAnswer, OutboundError};

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
    /// Whether the provider may have done the work, and wants money for it.
    pub billed: bool,
    /// Whether the same provider may be asked again, and what it says about when.
    pub again: Again,
    /// What the client is told when nobody else answers.
    pub problem: Problem,
}

/// Whether it makes sense to ask the same provider again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It would end the same way.
    No,
    /// Soon, or after as long as the provider says.
    After(Option<Duration>),
}

impl Failure {
    fn made(outcome: &'static str, billed: bool, again: Again, problem: Problem) -> Self {
        let problem = if billed { problem.paid_for() } else { problem };
        Self { outcome, billed, again, problem }
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
                Self::made("unreachable", false, again, problem)
            }
            NoAnswer::Lost(_) | NoAnswer::Late => {
                let problem = bad_gateway("provider_failed", provider, &format!("broke off: {error}"));
                Self::made("lost", true, Again::No, problem)
            }
        }
    }

    /// The answer broke off before any of it had been passed on.
    pub(super) fn broken(provider: &str) -> Self {
        let problem = bad_gateway("provider_failed", provider, "broke off in the middle of its answer");
        Self::made("lost", true, Again::No, problem)
    }

    /// Nothing in time.
    pub(super) fn timeout(provider: &str, what: &str, limit: Duration) -> Self {
        let detail = format!("the provider {provider} did not give {what} within {} s", limit.as_secs_f32());
        let problem = Problem::new(StatusCode::GATEWAY_TIMEOUT, "provider_timeout", detail);
        Self::made("timeout", true, Again::No, problem)
    }

    /// An answer of success that is none.
    pub(super) fn nonsense(provider: &str, what: &str) -> Self {
        Self::made("nonsense", true, Again::No, bad_gateway("provider_failed", provider, what))
    }

    /// More than is read of an answer, which the client may have asked for.
    pub(super) fn too_large(provider: &str) -> Self {
        let problem = bad_gateway("provider_failed", provider, "gave an answer that is too large");
        Self::made("too_large", true, Again::No, problem)
    }

    /// Every place is taken.
    pub(super) fn busy(provider: &str) -> Self {
        let detail = format!("too many calls to the provider {provider} are under way");
        Self::made("busy", false, Again::No, Problem::unavailable("provider_busy", detail, 5))
    }

    /// The breaker is open.
    pub(super) fn left_alone(provider: &str) -> Self {
        let detail = format!("the provider {provider} has failed too often of late and is left alone for a while");
        Self::made("busy", false, Again::No, Problem::unavailable("provider_unavailable", detail, 30))
    }

    /// An answer that says no; `None` for one that is the client's own.
    pub(super) fn of_status(provider: &str, status: u16, headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        let pause = retry_after(headers, now);
        let failure = match status {
            401 | 403 => {
                let what = format!("refuses the key that it was shown ({status})");
                let problem = bad_gateway("provider_key_refused", provider, &what)
                    .with_hint("the administrator must set another key for it");
                Self::made("key_refused", false, Again::No, problem)
            }
            402 => {
                let problem = bad_gateway("provider_key_refused", provider, "says that its account has no money (402)")
                    .with_hint("the administrator must pay money in there, or set another key for it");
                Self::made("key_refused", false, Again::No, problem)
            }
            429 => {
                let detail = format!("the provider {provider} is asked too often");
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "provider_rate_limited", detail)
                    .with_retry_after(pause.map_or(5, |pause| pause.as_secs().max(1)));
                Self::made("rate_limited", false, Again::After(pause), problem)
            }
            408 | 409 | 500.. => {
                let problem = bad_gateway("provider_failed", provider, &format!("answered with an error ({status})"));
                Self::made("provider_error", false, Again::After(pause), problem)
            }
            300..=399 => {
                let what = format!("answered with a redirect ({status}); its base URL is wrong");
                Self::made("provider_error", false, Again::No, bad_gateway("provider_failed", provider, &what))
            }
            _ => return None,
        };
        Some(failure)
    }
}

fn bad_gateway(code: &'static str, provider: &str, what: &str) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, code, format!("the provider {provider} {what}"))
}

/// `Retry-After` (RFC 9110): seconds or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds.min(86_400)));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Timestamp::from_micros(date.as_microsecond()).since(now).min(Duration::from_secs(86_400)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, after: Option<&'static str>) -> Option<Failure> {
        let mut headers = HeaderMap::new();
        headers.extend(after.map(|text| (RETRY_AFTER, hyper::header::HeaderValue::from_static(text))));
        Failure::of_status("p", status, &headers, Timestamp::from_micros(1_445_412_475_000_000))
    }

    #[test]
    fn the_clients_own_errors_are_passed_on() {
        for status in [400, 404, 413, 415, 422] {
            assert!(of(status, None).is_none(), "{status}");
        }
        for status in [301, 401, 402, 403, 408, 429, 500, 502, 503, 529] {
            let failure = of(status, None).expect("a failure");
            assert!(OUTCOMES.contains(&failure.outcome) && !failure.billed, "{status}");
        }
    }

    #[test]
    fn how_long_to_wait_is_seconds_or_a_date() {
        let again = |after| of(429, Some(after)).map(|failure| failure.again);
        let seconds = |seconds| Some(Again::After(Some(Duration::from_secs(seconds))));
        assert_eq!(again("7"), seconds(7));
        assert_eq!(again("Wed, 21 Oct 2015 07:28:00 GMT"), seconds(5));
        assert_eq!(again("Wed, 21 Oct 2015 07:27:00 GMT"), seconds(0));
        assert_eq!(again("soon"), Some(Again::After(None)));
    }
}
