//! Browsers that have seen this service with a certificate they trust are told
//! to come back by HTTPS only (RFC 6797).

use actix_web::http::header::HeaderValue;

/// Kept with a connection on which it is said.
#[derive(Clone, Debug)]
pub struct Hsts(
    /// The header's value.
    pub HeaderValue,
);
