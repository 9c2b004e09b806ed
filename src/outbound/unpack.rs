//! Unpacking a body while it arrives. What comes out is counted as it comes
//! out, so a bomb is an error after `limit` bytes and never in memory.

use std::io::{self, Write};

use flate2::write::{MultiGzDecoder, ZlibDecoder};

use super::OutboundError;

/// How a body is packed. Brotli and Zstandard are not asked for: their senders
/// choose how much memory the receiver needs, gzip's window is 32 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    None,
    Gzip,
    Deflate,
}

/// Takes a body in pieces.
pub(super) struct Unpacker {
    decoder: Decoder,
    /// Whether there was a body at all. An empty one is fine, however it says
    /// that it is packed.
    begun: bool,
}

enum Decoder {
    None(Kept),
    Gzip(MultiGzDecoder<Kept>),
    Deflate(ZlibDecoder<Kept>),
}

/// What came out so far.
pub(super) struct Kept {
    bytes: Vec<u8>,
    limit: usize,
    over: bool,
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.limit.saturating_sub(self.bytes.len());
        if bytes.len() > room {
            self.bytes.extend_from_slice(&bytes[..room]);
            self.over = true;
            return Err(io::Error::other("larger than its limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Unpacker {
    pub(super) fn new(coding: Coding, limit: usize) -> Self {
        let kept = Kept { bytes: Vec::new(), limit, over: false };
        let decoder = match coding {
            Coding::None => Decoder::None(kept),
            Coding::Gzip => Decoder::Gzip(MultiGzDecoder::new(kept)),
            Coding::Deflate => Decoder::Deflate(ZlibDecoder::new(kept)),
        };
        Self { decoder, begun: false }
    }

    /// Makes room for a body of so many bytes at once, where it is not packed: a
    /// buffer that grows takes several times as much.
    pub(super) fn expect(&mut self, bytes: u64) {
        if let Decoder::None(kept) = &mut self.decoder {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            kept.bytes.reserve_exact(bytes.min(kept.limit));
        }
    }

    pub(super) fn take(&mut self, data: &[u8]) -> Result<(), OutboundError> {
        self.begun |= !data.is_empty();
        let written = match &mut self.decoder {
            Decoder::None(kept) => kept.write_all(data),
            Decoder::Gzip(decoder) => decoder.write_all(data),
            Decoder::Deflate(decoder) => decoder.write_all(data),
        };
        written.map_err(|error| self.fault(&error))
    }

    /// Takes what has come out so far; the limit counts it all the same.
    pub(super) fn so_far_out(&mut self) -> Result<Vec<u8>, OutboundError> {
        let flushed = match &mut self.decoder {
            Decoder::None(_) => Ok(()),
            Decoder::Gzip(decoder) => decoder.flush(),
            Decoder::Deflate(decoder) => decoder.flush(),
        };
        flushed.map_err(|error| self.fault(&error))?;
        let kept = self.kept();
        kept.limit -= kept.bytes.len();
        Ok(std::mem::take(&mut kept.bytes))
    }

    /// Everything; an error when the packed body is not complete.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, OutboundError> {
        let finished = match &mut self.decoder {
            _ if !self.begun => Ok(()),
            Decoder::None(_) => Ok(()),
            Decoder::Gzip(decoder) if decoder.header().is_none() => Err(io::ErrorKind::UnexpectedEof.into()),
            Decoder::Gzip(decoder) => decoder.try_finish(),
            Decoder::Deflate(decoder) => decoder.try_finish(),
        };
        finished.map_err(|error| self.fault(&error))?;
        Ok(std::mem::take(&mut self.kept().bytes))
    }

    /// What came out before it became too large.
    pub(super) fn so_far(mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept().bytes)
    }

    fn kept(&mut self) -> &mut Kept {
        match &mut self.decoder {
            Decoder::None(kept) => kept,
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Deflate(decoder) => decoder.get_mut(),
        }
    }

    fn fault(&mut self, error: &io::Error) -> OutboundError {
        let kept = self.kept();
        if kept.over {
            return OutboundError::ResponseTooLarge(kept.limit);
        }
        OutboundError::InvalidResponse(format!("its packed body: {error}"))
    }
}

impl Drop for Unpacker {
    /// Decoders try to write their rest when they are dropped; there is nobody
    /// left to read it.
    fn drop(&mut self) {
        self.kept().limit = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("packed");
        encoder.finish().expect("packed")
    }

    fn unpack(coding: Coding, limit: usize, pieces: &[&[u8]]) -> Result<Vec<u8>, OutboundError> {
        let mut unpacker = Unpacker::new(coding, limit);
        for piece in pieces {
            unpacker.take(piece)?;
        }
        unpacker.finish()
    }

    #[test]
    fn a_bomb_is_an_error_and_not_memory() {
        let bomb = gzip(&vec![0; 50 << 20]);
        assert!(bomb.len() < 100 << 10);
        let refused = unpack(Coding::Gzip, 1 << 20, &[&bomb]).expect_err("a bomb");
        assert_eq!(refused.code(), "response_too_large");
    }

    #[test]
    fn what_is_cut_off_or_broken_is_an_error() {
        let whole = gzip(b"hello, hello, hello");
        for cut in 1..whole.len() {
            let refused = unpack(Coding::Gzip, 100, &[&whole[..cut]]);
            assert_eq!(refused.expect_err("cut off").code(), "invalid_response", "at {cut}");
        }
        let mut broken = whole.clone();
        let checksum = broken.len() - 8;
        broken[checksum] ^= 1;
        assert_eq!(unpack(Coding::Gzip, 100, &[&broken]).expect_err("broken").code(), "invalid_response");
        assert_eq!(unpack(Coding::Gzip, 100, &[b"plain text"]).expect_err("plain").code(), "invalid_response");
        assert_eq!(unpack(Coding::Deflate, 100, &[b"plain text"]).expect_err("plain").code(), "invalid_response");
    }

    #[test]
    fn several_members_and_no_bytes_at_all_are_fine() {
        let (first, second) = (gzip(b"one "), gzip(b"two"));
        assert_eq!(unpack(Coding::Gzip, 100, &[&first, &second]), Ok(b"one two".to_vec()));
        for coding in [Coding::None, Coding::Gzip, Coding::Deflate] {
            assert_eq!(unpack(coding, 100, &[]), Ok(Vec::new()));
        }
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out(bytes in prop::collection::vec(any::<u8>(), 0..4000), cut in 1_usize..200) {
            let packed = gzip(&bytes);
            let pieces: Vec<_> = packed.chunks(cut).collect();
            prop_assert_eq!(unpack(Coding::Gzip, 4000, &pieces), Ok(bytes.clone()));
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&bytes).expect("packed");
            let packed = encoder.finish().expect("packed");
            prop_assert_eq!(unpack(Coding::Deflate, 4000, &packed.chunks(cut).collect::<Vec<_>>()), Ok(bytes));
        }

        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for coding in [Coding::Gzip, Coding::Deflate] {
                let _ = unpack(coding, 100, &[&bytes]);
            }
        }
    }
}
