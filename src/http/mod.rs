//! What all routes share and that knows no feature: problems, request context
//! and access log, clients' addresses, values of headers, JSON bodies and what is
//! wrong with them, the route table and its OpenAPI document, pages from elsewhere
//! (CORS), lists, idempotency, SSE frames.

mod address;
pub mod cors;
mod explain;
pub mod header;
mod hsts;
pub mod idempotency;
mod json;
mod local;
mod nearest;
pub mod openapi;
pub mod page;
mod problem;
pub mod query;
mod rate;
mod request;
mod route;
pub mod sse;

pub use address::{TrustedProxies, client_address, is_forwarded};
pub use explain::{in_words, json_fault};
pub use hsts::Hsts;
pub use json::{AdminJson, BATCH_BODY, BodyLimits, Json, check_json};
pub use local::LocalPeer;
pub use problem::{FieldError, OpenAiError, Problem};
pub use rate::Rate;
pub use request::{HttpMetrics, KnownCaller, observe};
pub use route::{Authorise, Guarded, Open, Policy, RouteInfo, Routes};

/// What a part of a path cannot have in it as it is (RFC 3986, section 2.3).
const RESERVED: percent_encoding::AsciiSet =
    percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as one part of a path.
#[must_use]
pub fn path_segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, &RESERVED).to_string()
}
