//! Server-sent events: frames as the HTML standard defines them.

use std::fmt::Write as _;

use bytes::Bytes;

/// What keeps proxies and clients from closing a quiet stream.
pub const HEARTBEAT: &[u8] = b": still here\n\n";
/// How often it is sent.
pub const HEARTBEAT_EVERY: std::time::Duration = std::time::Duration::from_secs(15);

/// A frame. `data` is JSON on one line, so it needs no splitting.
#[must_use]
pub fn frame(id: i64, event: &str, data: &str) -> Bytes {
    let mut text = String::with_capacity(data.len() + event.len() + 32);
    let _ = write!(text, "id: {id}\nevent: {event}\ndata: {data}\n\n");
    text.into()
}

/// Tells the client when to come back; the last frame of a stream that is cut.
#[must_use]
pub fn retry_hint(milliseconds: u32) -> Bytes {
    format!("retry: {milliseconds}\n\n").into()
}
