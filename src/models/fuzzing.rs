//! Doors for made-up input to what is private here. Compiled for the fuzz
//! program only.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;

use super::batches;
use super::form::{FormLimits, FormReader};

/// A form that comes in pieces of so many bytes, as it is written again; `None`
/// when it is none.
#[must_use]
pub fn form(body: &[u8], boundary: &str, piece: usize, limit: u64) -> Option<(String, Bytes)> {
    let pieces: Vec<_> = body.chunks(piece.max(1)).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let limits = FormLimits { bytes: limit, stall: Duration::from_secs(30) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
    let read = async { FormReader::new(boundary, stream::iter(pieces), limits).whole().await };
    let form = runtime.block_on(read).ok()?;
    Some(form.encode("m"))
}

/// A line of a batch's input: the text of its answer in the output, if it is one.
#[must_use]
pub fn batch_line(text: &[u8], answer: &[u8]) -> Option<String> {
    batches::fuzzing(text, answer)
}
