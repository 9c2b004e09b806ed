//! What a refusal means: its status and what its body says.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

use super::error::{Error, Reason};
use crate::clock::Timestamp;

/// A server that wants to be left alone for longer is asked all the same.
const LONGEST_AFTER: Duration = Duration::from_secs(60);
/// What the elements of answers belong to.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
/// Servers take requests that are this far off.
const SKEW: i64 = 5 * 60;

/// What an answer that is no success means. `name` is the object that was asked
/// for, `now` this machine's time.
pub(super) fn fault(status: StatusCode, headers: &HeaderMap, body: &[u8], name: &str, now: Timestamp) -> Error {
    let body = String::from_utf8_lossy(body);
    let code = word(element(&body, "Code"));
    let reason = Reason { status: status.as_u16(), code: code.clone() };
    let region = || {
        let named = headers.get(HeaderName::from_static("x-amz-bucket-region")).and_then(|value| value.to_str().ok());
        Some(word(named.or_else(|| element(&body, "Region")))).filter(|region| !region.is_empty())
    };
    match &*code {
        "RequestTimeTooSkewed" | "RequestExpired" => return Error::Clock { reason, seconds: ahead(headers, now) },
        "SignatureDoesNotMatch" => {
            return Error::Credentials { reason, advice: "backup.s3_secret_key is not the secret of this access key" };
        }
        "InvalidAccessKeyId" => {
            return Error::Credentials { reason, advice: "the server knows no such backup.s3_access_key" };
        }
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => {
            return Error::Region { wanted: region() };
        }
        // In a signed URL the region is a parameter.
        "AuthorizationQueryParametersError" if region().is_some() => return Error::Region { wanted: region() },
        "NoSuchBucket" => return Error::NoBucket(reason),
        "NoSuchUpload" => return Error::NoUpload(reason),
        "NoSuchKey" => return Error::NoObject(name.to_owned()),
        "QuotaExceeded" | "EntityTooLarge" | "XMinioStorageFull" | "InsufficientCapacity" | "InsufficientStorage" => {
            return Error::Full(reason);
        }
        "SlowDown" | "ServiceUnavailable" | "InternalError" | "RequestTimeout" | "OperationAborted" => {
            return Error::Busy(reason, after(headers));
        }
        _ => {}
    }
    match status.as_u16() {
        301 | 302 | 307 | 308 => Error::Region { wanted: region() },
        // A signed URL that is too old or not good yet is told as a denial.
        403 if ahead(headers, now).is_some_and(|seconds| seconds.abs() > SKEW) => {
            Error::Clock { reason, seconds: ahead(headers, now) }
        }
        403 => Error::Forbidden(reason),
        401 => Error::Credentials { reason, advice: "look at backup.s3_access_key and backup.s3_secret_key" },
        412 => Error::Replaced(name.to_owned()),
        413 | 507 => Error::Full(reason),
        408 | 429 | 500..=599 => Error::Busy(reason, after(headers)),
        _ => Error::Strange(reason.to_string()),
    }
}

/// The fault that an answer of status 200 tells in its body, as those to long
/// requests may.
pub(super) fn hidden(headers: &HeaderMap, body: &[u8], name: &str, now: Timestamp) -> Option<Error> {
    let is_error = String::from_utf8_lossy(body).contains("<Error>");
    is_error.then(|| fault(StatusCode::INTERNAL_SERVER_ERROR, headers, body, name, now))
}

/// The text of an answer as Amazon would write it. Others name another namespace
/// (Google's storage does) or none, for the same elements.
pub(super) fn as_amazons(body: &[u8]) -> Option<String> {
    let text = str::from_utf8(body).ok()?;
    let starts = text.match_indices('<').map(|(at, _)| at);
    let root = starts.filter(|at| text[at + 1..].starts_with(|next: char| next.is_ascii_alphabetic())).min()?;
    let end = root + text[root..].find('>')?;
    let tag = &text[root..end];
    let name = tag.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(tag.len());
    let (name, mut rest) = (&tag[..name], tag[name..].to_owned());
    if let Some(at) = rest.find("xmlns=") {
        let quote = rest[at + 6..].chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        let length = rest[at + 7..].find(quote)?;
        rest.replace_range(at..at + 8 + length, "");
    }
    Some(format!("{}{name} xmlns=\"{NAMESPACE}\" {rest}{}", &text[..root], &text[end..]))
}

/// Seconds that this machine's clock is ahead of the answer's `Date`.
fn ahead(headers: &HeaderMap, now: Timestamp) -> Option<i64> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    Some(now.micros() / 1_000_000 - date.as_second())
}

fn after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_AFTER))
}

/// The text of the first element of a name.
fn element<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    rest.split_once("</").map(|(text, _)| text)
}

/// What a server says, if it is a word that can be shown.
fn word(text: Option<&str>) -> String {
    let text = text.unwrap_or_default().trim();
    let plain =
        text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    if plain { text.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2026-11-21T12:00:00Z").expect("a time")
    }

    fn with(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        headers.iter().map(pair).collect()
    }

    fn of(status: u16, headers: &[(&'static str, &'static str)], code: &str) -> Error {
        let body = format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>No.</Message></Error>");
        let status = StatusCode::from_u16(status).expect("a status");
        fault(status, &with(headers), body.as_bytes(), "a.tar", now())
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        for (status, code, said) in [
            (403, "SignatureDoesNotMatch", "backup.s3_secret_key is not the secret of this access key"),
            (403, "InvalidAccessKeyId", "the server knows no such backup.s3_access_key"),
            (403, "AccessDenied", "may not do this (403 AccessDenied)"),
            (403, "RequestTimeTooSkewed", "set this machine's clock"),
            (404, "NoSuchBucket", "correct backup.s3_bucket"),
            (404, "NoSuchKey", "there is no a.tar in it"),
            (403, "QuotaExceeded", "it is full"),
            (507, "XMinioStorageFull", "it is full"),
            (400, "EntityTooLarge", "does not take so much"),
            (507, "", "it is full, or does not take so much (507)"),
            (301, "PermanentRedirect", "in another region"),
            (412, "PreconditionFailed", "a.tar was replaced"),
            (404, "", "as no S3-compatible server does (404)"),
        ] {
            let fault = of(status, &[], code);
            assert!(fault.to_string().contains(said), "{status} {code}: {fault}");
            assert!(!fault.is_temporary(), "{status} {code}");
        }
    }

    #[test]
    fn what_passes_is_tried_again_when_the_server_wants_it() {
        for (status, code) in [(503, "SlowDown"), (500, "InternalError"), (429, ""), (400, "RequestTimeout"), (502, "")]
        {
            assert!(of(status, &[], code).is_temporary(), "{status} {code}");
        }
        let after = |value| of(503, &[("retry-after", value)], "SlowDown").after();
        assert_eq!(after("3"), Some(Duration::from_secs(3)));
        assert_eq!(after("86400"), Some(LONGEST_AFTER));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
    }

    #[test]
    fn the_region_that_the_server_wants_is_named() {
        let wanted = |fault: Error| match fault {
            Error::Region { wanted } => wanted,
            other => panic!("{other}"),
        };
        let told = of(301, &[("x-amz-bucket-region", "eu-west-1")], "PermanentRedirect");
        assert!(told.to_string().contains("in another region, eu-west-1:"), "{told}");
        assert_eq!(wanted(told).as_deref(), Some("eu-west-1"));
        for (status, code) in [(400, "AuthorizationHeaderMalformed"), (400, "AuthorizationQueryParametersError")] {
            let body = format!("<Error><Code>{code}</Code><Region>ap-south-1</Region></Error>");
            let status = StatusCode::from_u16(status).expect("a status");
            let told = fault(status, &HeaderMap::new(), body.as_bytes(), "x", now());
            assert_eq!(wanted(told).as_deref(), Some("ap-south-1"), "{code}");
        }
    }

    #[test]
    fn a_denial_with_another_time_is_the_clocks() {
        let date = |value| of(403, &[("date", value)], "AccessDenied");
        assert!(date("Sat, 21 Nov 2026 13:00:00 GMT").to_string().contains("this one is 3600 s behind"));
        assert!(date("Sat, 21 Nov 2026 11:00:00 GMT").to_string().contains("this one is 3600 s ahead"));
        assert!(matches!(date("Sat, 21 Nov 2026 12:00:09 GMT"), Error::Forbidden(_)));
        assert!(matches!(date("yesterday"), Error::Forbidden(_)));
    }

    #[test]
    fn answers_of_others_are_read_as_amazons() {
        let amazons = |text: &str| as_amazons(text.as_bytes()).expect("a root");
        for start in [
            "<R xmlns='http://doc.s3.amazonaws.com/2006-03-01'>",
            "<R\nxmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
            "<R>",
        ] {
            let read = amazons(&format!("<?xml version='1.0'?>\n{start}<A>1 > 0</A></R>"));
            let root = format!("<?xml version='1.0'?>\n<R xmlns=\"{NAMESPACE}\"");
            assert!(read.starts_with(&root) && read.ends_with("><A>1 > 0</A></R>"), "{read}");
            assert_eq!(read.matches("xmlns").count(), 1, "{read}");
        }
        assert_eq!(amazons("<R/>"), format!("<R xmlns=\"{NAMESPACE}\" />"));
        for none in ["", "<", "< R>", "no XML", "<R", "<R xmlns=>", "<R xmlns='>"] {
            assert_eq!(as_amazons(none.as_bytes()), None, "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "[<>/?! a-cR=\"'\u{e9}]{0,30}(xmlns=)?[<>/?! a-cR=\"'\u{e9}]{0,30}") {
            let _ = as_amazons(text.as_bytes());
        }

        #[test]
        fn any_answer_is_a_fault_of_some_kind_and_short(
            status in 300_u16..600,
            code in "[A-Za-z<>/\u{1b}\n ]{0,80}",
            body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let status = StatusCode::from_u16(status).expect("a status");
            let text = format!("<Error><Code>{code}</Code>");
            let bytes: Vec<u8> = text.bytes().chain(body).collect();
            let told = fault(status, &HeaderMap::new(), &bytes, "a.tar", now()).to_string();
            prop_assert!(told.len() < 300 && !told.contains(['\u{1b}', '\n', '<']), "{told}");
        }
    }
}
