//! Why something with the bucket did not work, for whoever looks after it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::outbound::OutboundError;

/// What did not work. The texts speak of the server as "it"; which one is said by
/// [`Bucket::describe`](super::Bucket::describe). None holds a signed URL or a key's
/// secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection, or none that can be trusted.
    #[error("it cannot be reached: {0}")]
    Unreachable(OutboundError),
    /// The connection was there and ended in the middle.
    #[error("the connection ended before everything was sent or received")]
    Lost,
    /// Nothing moved for too long, or all of it took too long.
    #[error("it is too slow: {what} took longer than {} s", .limit.as_secs())]
    Slow {
        /// What took so long.
        what: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// It has too much to do, or a fault of its own.
    #[error("it cannot answer now ({0})")]
    Busy(Reason, Option<Duration>),
    /// The credentials are not taken.
    #[error("it does not take the credentials ({reason}): {advice}")]
    Credentials {
        /// In the server's words.
        reason: Reason,
        /// What to do.
        advice: &'static str,
    },
    /// The credentials are taken, and may not do this.
    #[error("the access key may not do this ({0}): it needs to list the bucket, and to get, put and delete objects")]
    Forbidden(Reason),
    /// This machine's clock and the server's are too far apart.
    #[error("the clocks are too far apart ({reason}){}: set this machine's clock, for example with NTP", by(*.seconds))]
    Clock {
        /// In the server's words.
        reason: Reason,
        /// How far this machine's clock is ahead, where that is known.
        seconds: Option<i64>,
    },
    /// There is no such bucket.
    #[error("there is no such bucket ({0}): make it, or correct backup.s3_bucket")]
    NoBucket(Reason),
    /// The bucket is in another region.
    #[error("the bucket is in another region{}: set backup.s3_region (and backup.s3_endpoint, where it is set)", of(.wanted.as_deref()))]
    Region {
        /// Which, where the server says it.
        wanted: Option<String>,
    },
    /// There is no such object.
    #[error("there is no {0} in it")]
    NoObject(String),
    /// An upload in parts that the server no longer knows.
    #[error("it no longer knows the upload ({0}): something there ends uploads in parts while they run")]
    NoUpload(Reason),
    /// There is no room, or the object is larger than is taken.
    #[error("it is full, or does not take so much ({0}): make room, or raise its quota")]
    Full(Reason),
    /// The object was replaced while it was read.
    #[error("{0} was replaced while it was read: try again")]
    Replaced(String),
    /// What was stored is not what was sent.
    #[error("{name} has {found} bytes there and not the {sent} that were sent; it was removed")]
    WrongSize {
        /// The object.
        name: String,
        /// What the server says it has.
        found: u64,
        /// What it was sent.
        sent: u64,
    },
    /// Text that is no name of an object here.
    #[error("{0:?} is no name of a backup: those have letters, digits, points, hyphens and underscores")]
    Name(String),
    /// A file of this machine.
    #[error("the file {}: {error}", path.display())]
    File {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
    /// An answer that no S3-compatible server gives.
    #[error("it answers as no S3-compatible server does ({0}): look at backup.s3_endpoint")]
    Strange(String),
}

impl Error {
    /// Whether the same may succeed later without anybody's doing. It has been
    /// tried several times already.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable(error) => error.may_pass(),
            Self::Lost | Self::Slow { .. } | Self::Busy(..) => true,
            _ => false,
        }
    }

    /// How long the server wants to be left alone.
    pub(super) fn after(&self) -> Option<Duration> {
        match self {
            Self::Busy(_, after) => *after,
            _ => None,
        }
    }

    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path, error }
    }
}

impl From<OutboundError> for Error {
    fn from(error: OutboundError) -> Self {
        match error {
            OutboundError::ConnectionLost(_) => Self::Lost,
            OutboundError::Timeout { what, limit } => Self::Slow { what, limit },
            OutboundError::TooManyRedirects(_)
            | OutboundError::ResponseTooLarge(_)
            | OutboundError::InvalidResponse(_)
            | OutboundError::UnsupportedEncoding(_) => Self::Strange(error.to_string()),
            other => Self::Unreachable(other),
        }
    }
}

/// Why the server refuses: the status and, where it has one, the code of S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The status of the answer.
    pub status: u16,
    /// S3's code, such as `AccessDenied`; empty where the answer has none.
    pub code: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if self.code.is_empty() { Ok(()) } else { write!(f, " {}", self.code) }
    }
}

fn by(seconds: Option<i64>) -> String {
    match seconds {
        Some(seconds) if seconds > 0 => format!(", this one is {seconds} s ahead"),
        Some(seconds) => format!(", this one is {} s behind", seconds.unsigned_abs()),
        None => String::new(),
    }
}

fn of(region: Option<&str>) -> String {
    region.map_or_else(String::new, |region| format!(", {region}"))
}
