//! One request and its answer over a connection, within limits.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use super::OutboundError;
use super::stall::Stalled;
use super::unpack::{Coding, Unpacker};

/// The longest head of an answer, in bytes, and its fields.
pub(super) const HEAD_BYTES: usize = 64 << 10;
pub(super) const HEAD_FIELDS: usize = 128;

/// An answer of which the head has come. Dropping it closes the connection.
pub(super) struct Head {
    pub response: Response<Incoming>,
    _connection: AbortOnDropHandle<()>,
}

/// Sends a request and waits for the head of the answer.
pub(super) async fn ask<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    host: &str,
    limit: Duration,
) -> Result<Head, OutboundError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let asked = async {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES).max_headers(HEAD_FIELDS);
        // What browsers read as well: RFC 9112 has receivers replace folded lines,
        // and one field that is none does not make a page unreadable.
        builder.allow_obsolete_multiline_headers_in_responses(true);
        builder.allow_spaces_after_header_name_in_responses(true);
        builder.ignore_invalid_headers_in_responses(true);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        // Its errors come out of the request and the body too.
        let running = AbortOnDropHandle::new(tokio::spawn(async {
            let _ = connection.await;
        }));
        let response = sender.send_request(request).await?;
        Ok(Head { response, _connection: running })
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(asked) => asked.map_err(|error: hyper::Error| fault(&error, host)),
        Err(_) => Err(OutboundError::Timeout { what: "the first byte of the answer", limit }),
    }
}

/// Reads the body to its end, unpacked, at most so many bytes both ways. With
/// `cut`, what is larger is cut there; says whether it was.
pub(super) async fn body(head: Head, host: &str, limit: usize, cut: bool) -> Result<(Bytes, bool), OutboundError> {
    let Head { response, _connection } = head;
    let (parts, mut incoming) = response.into_parts();
    let too_large = || OutboundError::ResponseTooLarge(limit);
    let said = length(&parts.headers).unwrap_or_default();
    if !cut && said > limit as u64 {
        return Err(too_large());
    }
    let mut unpacker = Unpacker::new(coding(&parts.headers)?, limit);
    unpacker.expect(said);
    let mut received = 0_usize;
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| fault(&error, host))?;
        let Ok(data) = frame.into_data() else { continue };
        received = received.saturating_add(data.len());
        let taken = unpacker.take(&data);
        if cut && (received > limit || matches!(taken, Err(OutboundError::ResponseTooLarge(_)))) {
            return Ok((unpacker.so_far().into(), true));
        }
        taken?;
        if received > limit {
            return Err(too_large());
        }
    }
    Ok((unpacker.finish()?.into(), false))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// How a body is packed. As in browsers, a name that is no way to pack anything,
/// such as `utf-8`, says nothing.
pub(super) fn coding(headers: &HeaderMap) -> Result<Coding, OutboundError> {
    const OTHERS: &[&str] = &[
        "aes128gcm",
        "br",
        "bzip2",
        "compress",
        "dcb",
        "dcz",
        "exi",
        "lz4",
        "lzma",
        "pack200-gzip",
        "snappy",
        "x-bzip2",
        "x-compress",
        "xz",
        "zstd",
    ];
    let values = headers.get_all(CONTENT_ENCODING).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let written = values.collect::<Vec<_>>().join(", ");
    let names = written.split(',').map(|name| name.trim().to_ascii_lowercase());
    let mut codings = names.filter_map(|name| match name.as_str() {
        "gzip" | "x-gzip" => Some(Some(Coding::Gzip)),
        "deflate" => Some(Some(Coding::Deflate)),
        name => OTHERS.contains(&name).then_some(None),
    });
    match (codings.next(), codings.next()) {
        (None, _) => Ok(Coding::None),
        (Some(Some(coding)), None) => Ok(coding),
        // Also several at once: each would be one more chance to blow up.
        _ => Err(OutboundError::UnsupportedEncoding(written.chars().take(40).collect())),
    }
}

pub(super) fn fault(error: &hyper::Error, host: &str) -> OutboundError {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    let mut lost = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
    while let Some(inner) = source {
        why = format!("{why}: {inner}");
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            if let Some(Stalled(limit)) = inner.get_ref().and_then(|inner| inner.downcast_ref()) {
                return OutboundError::Timeout { what: "waiting for anything to be sent or received", limit: *limit };
            }
            lost |= !matches!(inner.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
        }
        source = inner.source();
    }
    if lost { OutboundError::ConnectionLost(host.into()) } else { OutboundError::InvalidResponse(why) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_read_as_browsers_read_them() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, value.parse().expect("a value"));
            }
            coding(&headers)
        };
        for none in [&[][..], &[""], &["identity"], &[" , identity,"], &["utf-8"], &["none"]] {
            assert_eq!(read(none), Ok(Coding::None), "{none:?}");
        }
        for gzip in [&["gzip"][..], &["GZip"], &["x-gzip"], &["identity, gzip"], &["gzip, identity"], &["", "gzip,,"]] {
            assert_eq!(read(gzip), Ok(Coding::Gzip), "{gzip:?}");
        }
        assert_eq!(read(&["Deflate"]), Ok(Coding::Deflate));
        for other in [&["br"][..], &["zstd"], &["gzip, gzip"], &["gzip", "deflate"], &["gzip, br"], &["identity, br"]] {
            assert_eq!(read(other).expect_err("not asked for").code(), "unsupported_encoding", "{other:?}");
        }
    }
}
