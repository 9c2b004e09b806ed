//! How going out can fail, as a job tells it.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::RETRY_AFTER;

use crate::clock::Timestamp;
use crate::jobs::{ErrorClass, Failure};
use crate::outbound::{Fetched, OutboundError};

/// The pause after "too many requests" that does not say how long.
const PAUSE: Duration = Duration::from_secs(30);
/// No pause is longer than this, whatever the other side asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(86_400);

/// The failure of an exchange that brought no answer.
pub(super) fn of_outbound(error: &OutboundError) -> Failure {
    let class = if error.may_pass() { ErrorClass::Retryable } else { ErrorClass::Permanent };
    Failure { class, code: error.code().into(), message: error.to_string() }
}

/// The failure of a page whose status is no success.
pub(super) fn of_status(answer: &Fetched, now: Timestamp) -> Failure {
    let host = answer.url.host_str().unwrap_or_default();
    let redirects = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let nowhere = if redirects { " without a Location to go to" } else { "" };
    let message = format!("{host} answered with {}{nowhere}", answer.status);
    Failure { class: class_of(answer, now), code: "http_status".into(), message }
}

/// What class an answer with a status that is no success has.
pub(super) fn class_of(answer: &Fetched, now: Timestamp) -> ErrorClass {
    let after = retry_after(answer, now);
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS => ErrorClass::RateLimited(after.unwrap_or(PAUSE)),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => ErrorClass::Retryable,
        status if status.is_server_error() => after.map_or(ErrorClass::Retryable, ErrorClass::RateLimited),
        _ => ErrorClass::Permanent,
    }
}

/// How long the other side asks to be left alone: seconds, or a date.
fn retry_after(answer: &Fetched, now: Timestamp) -> Option<Duration> {
    let text = answer.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = http_date(text, now)?.as_microsecond();
            Duration::from_micros(u64::try_from(date.saturating_sub(now.micros())).unwrap_or(0))
        }
    };
    Some(pause.min(LONGEST_PAUSE))
}

/// A date in one of the three forms that a recipient must read (RFC 9110, 5.6.7).
fn http_date(text: &str, now: Timestamp) -> Option<jiff::Timestamp> {
    if let Ok(date) = jiff::fmt::rfc2822::parse(text) {
        return Some(date.timestamp());
    }
    let read = |format: &str| jiff::civil::DateTime::strptime(format, text).ok();
    let utc = |date: jiff::civil::DateTime| Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp());
    if let Some(date) = read("%a %b %e %H:%M:%S %Y") {
        return utc(date);
    }
    // Two digits of the year: one that is more than 50 years ahead is past. The
    // weekday belongs to the year that is meant.
    let (_, text) = text.split_once(", ")?;
    let date = jiff::civil::DateTime::strptime("%d-%b-%y %H:%M:%S GMT", text).ok()?;
    let year = jiff::Timestamp::from_microsecond(now.micros()).ok()?.to_zoned(jiff::tz::TimeZone::UTC).year();
    let century = (year - year % 100) + date.year().rem_euclid(100);
    let year = if century > year + 50 { century - 100 } else { century };
    utc(date.with().year(year).build().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::HeaderMap;

    fn answer(status: u16, retry_after: Option<&'static str>) -> ErrorClass {
        let mut headers = HeaderMap::new();
        if let Some(text) = retry_after {
            headers.insert(RETRY_AFTER, text.parse().expect("a value"));
        }
        let fetched = Fetched {
            url: "http://example.com/".parse().expect("a URL"),
            redirects: Vec::new(),
            status: StatusCode::from_u16(status).expect("a status"),
            headers,
            body: bytes::Bytes::new(),
            cut: false,
        };
        // Sun, 06 Nov 1994 08:49:37 GMT
        class_of(&fetched, Timestamp::from_micros(784_111_777_000_000))
    }

    #[test]
    fn statuses_have_classes_and_pauses() {
        let limited = |seconds| ErrorClass::RateLimited(Duration::from_secs(seconds));
        assert_eq!(answer(404, None), ErrorClass::Permanent);
        assert_eq!(answer(404, Some("5")), ErrorClass::Permanent);
        assert_eq!(answer(408, None), ErrorClass::Retryable);
        assert_eq!(answer(500, None), ErrorClass::Retryable);
        assert_eq!(answer(503, Some("7")), limited(7));
        assert_eq!(answer(429, None), ErrorClass::RateLimited(PAUSE));
        assert_eq!(answer(429, Some("120")), limited(120));
        assert_eq!(answer(429, Some("Sun, 06 Nov 1994 08:50:37 GMT")), limited(60));
        assert_eq!(answer(429, Some("Sun, 06 Nov 1994 08:40:37 GMT")), limited(0), "it is past");
        assert_eq!(answer(429, Some("Sunday, 06-Nov-94 08:50:37 GMT")), limited(60));
        assert_eq!(answer(429, Some("Sun Nov  6 08:50:37 1994")), limited(60));
        assert_eq!(answer(429, Some("Sunday, 06-Nov-45 08:50:37 GMT")), limited(0), "that was in 1945");
        assert_eq!(answer(429, Some("-5")), ErrorClass::RateLimited(PAUSE));
        assert_eq!(answer(429, Some("99999999999999")), limited(86_400));
        assert_eq!(answer(429, Some("soon")), ErrorClass::RateLimited(PAUSE));
    }
}
