//! Why there is no certificate to show.

use std::io;
use std::path::PathBuf;

use crate::clock::Timestamp;

/// Why there is no certificate to show, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A file cannot be read.
    #[error("{what} {} cannot be read: {source}; {}", .path.display(), hint(.source))]
    Unreadable {
        /// What it is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{what} {} cannot be used: {why}", .path.display())]
    Malformed {
        /// What it is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what is expected.
        why: String,
    },
    /// The two files do not belong together.
    #[error(
        "the certificate {} does not belong to the key {}: put the two in place that were made together \
         (the server's own certificate comes first in its file)",
        .certificate.display(), .key.display()
    )]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// Clients would refuse it.
    #[error("the certificate {} is valid until {until} only, which is over: put a new one in place", .path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// The end of its validity.
        until: Timestamp,
    },
    /// The service's own certificate cannot be kept.
    #[error("the service's own certificate cannot be kept in {}: {source}", .folder.display())]
    Unkept {
        /// The folder.
        folder: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A fault of ours.
    #[error("internal: the service's own certificate cannot be made: {0}")]
    Internal(String),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "let the user that the service runs as read it",
        io::ErrorKind::NotFound => "put it there, or correct the path in [tls]",
        _ => "correct the path in [tls]",
    }
}
