//! Request bodies: JSON, held to limits of size, depth and time before anyone
//! looks at them, and errors that name the place.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::{FromRequest, HttpRequest, dev, web};
use bytes::{Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use schemars::JsonSchema;
use serde::de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Problem;
use super::explain::{explain, no_object};
use super::header::{content_coding, content_type};

/// What a body may be.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes; more is answered with 413.
    pub bytes: usize,
    /// How long a client may take to send it.
    pub time: Duration,
}

/// Arrays and objects inside one another, at most. What is accepted here can
/// be read by every recursive reader behind it.
const MAX_DEPTH: usize = 64;

/// The byte order mark in UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// The limit of a body that is held to the service's setting.
const AS_CONFIGURED: usize = 0;
/// Bytes that the administrator's bodies may have; they are small.
const ADMIN_BODY: usize = 64 << 10;
/// Bytes that a body with many jobs may have.
pub const BATCH_BODY: usize = 16 << 20;

/// A body of type `T`; unknown fields are refused by `T` itself. Its size is
/// bounded by the service's setting, or by `MAX` where a route says so:
/// `Json<Batch, BATCH_BODY>`.
#[derive(Debug)]
pub struct Json<T, const MAX: usize = AS_CONFIGURED> {
    /// What was sent.
    pub value: T,
    /// The bytes as they came but for a byte order mark, for fingerprints.
    pub bytes: Bytes,
}

/// A body on a route of the administrator.
pub type AdminJson<T> = Json<T, ADMIN_BODY>;

impl<T: DeserializeOwned + JsonSchema + 'static, const MAX: usize> FromRequest for Json<T, MAX> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let admitted = admit(request, MAX);
        let payload = payload.take();
        async move {
            let limits = admitted?;
            let read = tokio::time::timeout(limits.time, collect(payload, limits.bytes));
            let bytes = read.await.unwrap_or_else(|_| Err(too_slow(limits.time)))?;
            let bytes = without_mark(bytes);
            let value = parse(&bytes)?;
            Ok(Self { value, bytes })
        }
        .boxed_local()
    }
}

/// What can be told from the head alone.
fn admit(request: &HttpRequest, own: usize) -> Result<BodyLimits, Problem> {
    let limits = request.app_data::<web::Data<BodyLimits>>().map(|limits| ***limits);
    let mut limits = limits.ok_or_else(|| Problem::internal("no body limits are configured"))?;
    if own != AS_CONFIGURED {
        limits.bytes = own;
    }
    if let Some(kind) = content_type(request.headers()) {
        // curl -d says "form" when nobody tells it otherwise, so only what is
        // plainly something else is refused; the bytes must be JSON anyway.
        if !kind.is_json() && kind.kind != "text" && !kind.is("application/x-www-form-urlencoded") {
            let detail = format!("the body is {kind}, this route takes application/json");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
        }
    }
    if let Some(encoding) = content_coding(request.headers()) {
        let detail = format!("the body is encoded as {encoding:?}; send it as it is");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
    }
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limits.bytes) {
        return Err(too_large(limits.bytes));
    }
    Ok(limits)
}

async fn collect(mut payload: dev::Payload, limit: usize) -> Result<Bytes, Problem> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| {
            Problem::bad_request("incomplete_body", format!("the body did not arrive whole: {error}"))
        })?;
        if whole.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        if whole.is_empty() {
            whole = BytesMut::from(chunk);
        } else {
            whole.extend_from_slice(&chunk);
        }
    }
    Ok(whole.freeze())
}

/// What holds for every body, also for those that are read out of a file: no
/// deeper than every recursive reader can go, and no halves of characters.
///
/// # Errors
/// When it does not.
pub fn check_json(bytes: &[u8]) -> Result<(), Problem> {
    check_depth(bytes)?;
    check_escapes(bytes)
}

/// Without the mark that some programs write before UTF-8, which a reader may skip (RFC 8259, section 8.1).
fn without_mark(bytes: Bytes) -> Bytes {
    if bytes.starts_with(MARK) { bytes.slice(MARK.len()..) } else { bytes }
}

fn parse<T: DeserializeOwned + JsonSchema>(bytes: &[u8]) -> Result<T, Problem> {
    if let Some(encoding) = other_encoding(bytes) {
        let detail = format!("the body is written in {encoding}; send JSON in UTF-8");
        return Err(Problem::bad_request("malformed_json", detail));
    }
    check_json(bytes)?;
    let value = serde_json::from_slice(bytes).map_err(|error| explain::<T>(bytes, &error))?;
    no_object(bytes).map_or(Ok(value), Err)
}

/// Encodings of Unicode with wider units, by their marks, or by the zeros that JSON in UTF-8 does not begin with.
fn other_encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] | [0, 0, 0, 1..=255, ..] | [1..=255, 0, 0, 0, ..] => {
            Some("UTF-32")
        }
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, 1..=255, ..] | [1..=255, 0, ..] => Some("UTF-16"),
        _ => None,
    }
}

/// Counts brackets outside strings. Runs over every body, so it does nothing else.
fn check_depth(bytes: &[u8]) -> Result<(), Problem> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (place, byte) in bytes.iter().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Problem::bad_request(
                        "too_deep",
                        format!("more than {MAX_DEPTH} arrays or objects inside one another at byte {place}"),
                    ));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Parts that are kept as raw JSON are not decoded, so half of a surrogate pair
/// would come back out in answers that strict readers refuse.
fn check_escapes(bytes: &[u8]) -> Result<(), Problem> {
    if !bytes.windows(2).any(|window| window == b"\\u") {
        return Ok(());
    }
    let whole = serde_json::from_slice::<Decoded>(bytes);
    whole.map(drop).map_err(|error| Problem::bad_request("malformed_json", format!("the body is not JSON: {error}")))
}

/// Any JSON: every text in it is decoded, and nothing is kept.
struct Decoded;

impl<'de> Deserialize<'de> for Decoded {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Decoded {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        while all.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        while all.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", format!("the body is larger than {limit} bytes"))
}

fn too_slow(limit: Duration) -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "request_timeout",
        format!("the body did not arrive within {} s", limit.as_secs_f32()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Sample {
        name: String,
        inner: Option<Inner>,
    }

    #[derive(Debug, serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Inner {
        list: Vec<u8>,
    }

    fn fault(body: &str) -> String {
        let problem = parse::<Sample>(body.as_bytes()).expect_err("it is refused");
        format!("{problem} {:?}", problem.errors().iter().map(|error| &error.pointer).collect::<Vec<_>>())
    }

    #[test]
    fn a_fault_names_its_place() {
        assert!(fault(r#"{"name":"a","nmae":1}"#).starts_with("unknown_field: /nmae: unknown field"));
        assert!(fault(r#"{"name":"a","inner":{"list":[1,2,"x"]}}"#).contains(r#"["/inner/list/2"]"#));
        assert!(fault(r#"{"name":"a","inner":{"list":[],"a/b":1}}"#).contains("/inner/a~1b"));
        assert!(fault(r#"{"name":5}"#).starts_with("invalid_request: /name: must be a string"));
        assert!(fault("{").starts_with("malformed_json"));
        assert!(fault(" ").contains("the body is empty"));
        assert_eq!(fault(r#"{"inner":null}"#), r#"invalid_request: /name: is missing ["/name"]"#);
    }

    #[test]
    fn a_body_is_an_object() {
        for (body, what) in [("[]", "an array"), ("null", "null"), ("5", "a number"), ("\"x\"", "a string")] {
            let fault = parse::<serde_json::Value>(body.as_bytes()).expect_err(body).to_string();
            assert_eq!(fault, format!("invalid_request: the body must be an object, not {what}"));
        }
    }

    #[test]
    fn a_mark_before_the_body_is_skipped_and_another_encoding_is_named() {
        let body = r#"{"name":"a"}"#;
        let marked = without_mark(Bytes::from([MARK, body.as_bytes()].concat()));
        assert_eq!(marked, body, "fingerprints are those of the body without it");
        let units = body.encode_utf16();
        let wide =
            |mark: &[u8], unit: fn(u16) -> Vec<u8>| [mark, &units.clone().flat_map(unit).collect::<Vec<_>>()].concat();
        for (bytes, encoding) in [
            (wide(b"\xFF\xFE", |unit| unit.to_le_bytes().into()), "UTF-16"),
            (wide(b"\xFE\xFF", |unit| unit.to_be_bytes().into()), "UTF-16"),
            (wide(b"", |unit| unit.to_le_bytes().into()), "UTF-16"),
            (wide(b"", |unit| unit.to_be_bytes().into()), "UTF-16"),
            (wide(b"", |unit| u32::from(unit).to_le_bytes().into()), "UTF-32"),
            (wide(b"\0\0\xFE\xFF", |unit| u32::from(unit).to_be_bytes().into()), "UTF-32"),
        ] {
            let fault = parse::<Sample>(&bytes).expect_err("it is refused").to_string();
            assert!(fault.contains(&format!("written in {encoding}; send JSON in UTF-8")), "{fault}");
        }
    }

    #[test]
    fn half_of_a_surrogate_pair_is_no_text() {
        assert!(check_escapes(br#"{"a":"\ud83d\ude00"}"#).is_ok());
        assert!(check_escapes(br#"{"a":"\ud83d"}"#).is_err());
    }

    #[test]
    fn depth_counts_brackets_outside_strings_only() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(check_depth(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(check_depth(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        let text = format!("[\"\\\"{}\"]", "[".repeat(1000));
        assert!(check_depth(text.as_bytes()).is_ok());
    }
}
