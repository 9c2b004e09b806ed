//! Why something was not fetched.

use std::time::Duration;

/// Why there is no answer. The texts are for whoever asked and name nothing
/// of what lies inside; what an administrator needs beside them is logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// The text is no URL that can be fetched.
    #[error("the URL cannot be used: {0}")]
    InvalidUrl(String),
    /// The URL's scheme is neither `http` nor `https`.
    #[error("only http and https can be reached, not {0}")]
    UnsupportedScheme(String),
    /// The target is one that may not be reached.
    #[error(
        "{host} is {what}, which may not be reached; an administrator can allow it by writing it down in outbound.allow"
    )]
    Blocked {
        /// The host of the URL.
        host: String,
        /// What its address is, such as "a private address".
        what: &'static str,
    },
    /// There is no such name, or it has no address.
    #[error("{0} has no address")]
    HostNotFound(String),
    /// The name could not be looked up now.
    #[error("{0} could not be looked up: {1}")]
    Dns(String, String),
    /// No connection came about.
    #[error("no connection to {0}: {1}")]
    Connect(String, String),
    /// The other side could not prove who it is, or speaks no TLS that is safe.
    #[error("TLS with {0}: {1}")]
    Tls(String, String),
    /// It took too long.
    #[error("{what} took longer than {} ms", .limit.as_millis())]
    Timeout {
        /// What took too long.
        what: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// One redirect more than is followed.
    #[error("more than {0} redirects")]
    TooManyRedirects(usize),
    /// The answer is larger than is taken; its limit in bytes.
    #[error("the answer is larger than {0} bytes")]
    ResponseTooLarge(usize),
    /// What came is no HTTP, or its body is broken.
    #[error("the answer is broken: {0}")]
    InvalidResponse(String),
    /// The body is packed in a way that was not asked for.
    #[error("the answer is packed as {0}, which was not asked for")]
    UnsupportedEncoding(String),
    /// The other side hung up before it had sent everything.
    #[error("{0} hung up before the answer was complete")]
    ConnectionLost(String),
}

impl OutboundError {
    /// Stable, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidUrl(_) => "invalid_url",
            Self::UnsupportedScheme(_) => "unsupported_scheme",
            Self::Blocked { .. } => "blocked_address",
            Self::HostNotFound(_) => "host_not_found",
            Self::Dns(..) => "dns_failed",
            Self::Connect(..) => "connect_failed",
            Self::Tls(..) => "tls_error",
            Self::Timeout { .. } => "timeout",
            Self::TooManyRedirects(_) => "too_many_redirects",
            Self::ResponseTooLarge(_) => "response_too_large",
            Self::InvalidResponse(_) => "invalid_response",
            Self::UnsupportedEncoding(_) => "unsupported_encoding",
            Self::ConnectionLost(_) => "connection_lost",
        }
    }

    /// Whether the same may succeed later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Dns(..) | Self::Connect(..) | Self::Timeout { .. } | Self::ConnectionLost(_))
    }
}
