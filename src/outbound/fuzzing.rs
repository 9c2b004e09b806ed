//! Doors for made-up input to what is private here. Compiled for the fuzz
//! program only.

use futures_util::FutureExt as _;

use super::OutboundError;
use super::guard::Guard;
use super::resolve::Names;
use super::unpack::{Coding, Unpacker};

/// The addresses that a URL with an address in place of a name may lead to when
/// nothing inside is allowed; `None` when it has a name, which is not looked up.
///
/// # Errors
/// Why it is refused.
pub fn addresses(url: &str) -> Option<Result<Vec<std::net::SocketAddr>, OutboundError>> {
    let url = match super::parse(url) {
        Ok(url) => url,
        Err(error) => return Some(Err(error)),
    };
    if url.domain().is_some() {
        return None;
    }
    let guard = Guard::new(Names::new(Vec::new()), Vec::new());
    let checked = guard.check(&url).now_or_never()?;
    Some(checked.map(|checked| checked.into_iter().map(super::guard::Checked::address).collect()))
}

/// A body in pieces, unpacked to `limit` bytes at most.
///
/// # Errors
/// When it is larger, or not packed so.
pub fn unpack(gzip: bool, limit: usize, pieces: &[&[u8]]) -> Result<Vec<u8>, OutboundError> {
    let mut unpacker = Unpacker::new(if gzip { Coding::Gzip } else { Coding::Deflate }, limit);
    for piece in pieces {
        unpacker.take(piece)?;
    }
    unpacker.finish()
}
