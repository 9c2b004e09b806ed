//! Unpacking a body while it arrives. What comes out is counted as it comes
//! out, so a bomb is an error after `limit` bytes and never in memory.

use std::io;

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::OutboundError;

/// The longest header of gzip, in bytes: file names and comments may be in it.
const MAX_HEADER: usize = 64 << 10;
/// What is unpacked at a time.
const PIECE: usize = 16 << 10;

/// How a body is packed. Brotli and Zstandard are not asked for: their senders
/// choose how much memory the receiver needs, gzip's window is 32 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    None,
    Gzip,
    /// With the header of zlib or, as some servers send it, without.
    Deflate,
}

/// Takes a body in pieces.
pub(super) struct Unpacker {
    decoder: Decoder,
    kept: Kept,
    /// Whether there was a body at all. An empty one is fine, however it says
    /// that it is packed.
    begun: bool,
}

enum Decoder {
    None,
    Gzip(Gzip),
    Deflate(Deflate),
}

/// What came out so far.
struct Kept {
    bytes: Vec<u8>,
    limit: usize,
    over: bool,
}

impl Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = self.limit.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.over |= bytes.len() > room;
        if self.over { Err(io::Error::other("larger than its limit")) } else { Ok(()) }
    }
}

impl Unpacker {
    pub(super) fn new(coding: Coding, limit: usize) -> Self {
        let decoder = match coding {
            Coding::None => Decoder::None,
            Coding::Gzip => Decoder::Gzip(Gzip::new()),
            Coding::Deflate => Decoder::Deflate(Deflate::Start(Vec::new())),
        };
        Self { decoder, kept: Kept { bytes: Vec::new(), limit, over: false }, begun: false }
    }

    /// Makes room for a body of so many bytes at once, where it is not packed: a
    /// buffer that grows takes several times as much.
    pub(super) fn expect(&mut self, bytes: u64) {
        if matches!(self.decoder, Decoder::None) {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            self.kept.bytes.reserve_exact(bytes.min(self.kept.limit));
        }
    }

    pub(super) fn take(&mut self, data: &[u8]) -> Result<(), OutboundError> {
        self.begun |= !data.is_empty();
        let taken = match &mut self.decoder {
            Decoder::None => self.kept.write(data),
            Decoder::Gzip(gzip) => gzip.take(data, &mut self.kept),
            Decoder::Deflate(deflate) => deflate.take(data, &mut self.kept),
        };
        taken.map_err(|error| self.fault(&error))
    }

    /// Takes what has come out so far; the limit counts it all the same.
    pub(super) fn so_far_out(&mut self) -> Vec<u8> {
        self.kept.limit -= self.kept.bytes.len();
        std::mem::take(&mut self.kept.bytes)
    }

    /// Everything; an error when the packed body is not complete.
    pub(super) fn finish(self) -> Result<Vec<u8>, OutboundError> {
        let complete = match &self.decoder {
            _ if !self.begun => true,
            Decoder::None => true,
            Decoder::Gzip(gzip) => gzip.is_complete(),
            Decoder::Deflate(deflate) => deflate.is_complete(),
        };
        if !complete {
            return Err(self.fault(&io::Error::new(io::ErrorKind::UnexpectedEof, "it ends too early")));
        }
        Ok(self.kept.bytes)
    }

    /// What came out before it became too large.
    pub(super) fn so_far(self) -> Vec<u8> {
        self.kept.bytes
    }

    fn fault(&self, error: &io::Error) -> OutboundError {
        if self.kept.over {
            return OutboundError::ResponseTooLarge(self.kept.limit);
        }
        OutboundError::InvalidResponse(format!("its packed body: {error}"))
    }
}

fn corrupt(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A deflate stream.
struct Stream {
    inflate: Decompress,
    /// Of what came out, for gzip.
    crc: Crc,
    ended: bool,
}

impl Stream {
    fn new(zlib: bool) -> Self {
        Self { inflate: Decompress::new(zlib), crc: Crc::new(), ended: false }
    }

    /// Unpacks data as far as the stream goes, and gives what is behind it.
    fn take<'a>(&mut self, mut data: &'a [u8], kept: &mut Kept) -> io::Result<&'a [u8]> {
        let mut piece = [0; PIECE];
        while !self.ended {
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(data, &mut piece, FlushDecompress::None);
            let status = status.map_err(|_| corrupt("its data is corrupt"))?;
            let count = |total: u64| usize::try_from(total).unwrap_or(usize::MAX);
            let read = count(self.inflate.total_in() - read);
            let written = count(self.inflate.total_out() - written);
            data = &data[read..];
            self.crc.update(&piece[..written]);
            kept.write(&piece[..written])?;
            self.ended = status == Status::StreamEnd;
            if read == 0 && written == 0 {
                break;
            }
        }
        Ok(data)
    }
}

/// A body in gzip: one member or several. What stands behind them and is none is
/// passed over, as browsers do it.
struct Gzip {
    stage: Stage,
    /// Whether a whole member has come.
    complete: bool,
}

enum Stage {
    Header(Vec<u8>),
    Data(Box<Stream>),
    /// The checksum and the length of what came out, and what they must be.
    Trailer(Vec<u8>, [u8; 8]),
    /// Behind the last member.
    Behind,
}

impl Gzip {
    fn new() -> Self {
        Self { stage: Stage::Header(Vec::new()), complete: false }
    }

    fn take(&mut self, mut data: &[u8], kept: &mut Kept) -> io::Result<()> {
        while !data.is_empty() {
            match &mut self.stage {
                Stage::Behind => return Ok(()),
                Stage::Header(header) => {
                    let before = header.len();
                    header.extend_from_slice(data);
                    match header_length(header) {
                        Ok(None) if header.len() > MAX_HEADER => return Err(corrupt("its header is too long")),
                        Ok(None) => return Ok(()),
                        Ok(Some(length)) => {
                            data = &data[length - before..];
                            self.stage = Stage::Data(Box::new(Stream::new(false)));
                        }
                        Err(_) if self.complete => self.stage = Stage::Behind,
                        Err(error) => return Err(error),
                    }
                }
                Stage::Data(stream) => {
                    data = stream.take(data, kept)?;
                    if stream.ended {
                        let mut sums = [0; 8];
                        sums[..4].copy_from_slice(&stream.crc.sum().to_le_bytes());
                        sums[4..].copy_from_slice(&stream.crc.amount().to_le_bytes());
                        self.stage = Stage::Trailer(Vec::new(), sums);
                    }
                }
                Stage::Trailer(trailer, sums) => {
                    let (more, rest) = data.split_at(data.len().min(8 - trailer.len()));
                    trailer.extend_from_slice(more);
                    data = rest;
                    if trailer.len() == 8 {
                        if trailer != sums {
                            return Err(corrupt("its checksum is wrong"));
                        }
                        self.complete = true;
                        self.stage = Stage::Header(Vec::new());
                    }
                }
            }
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.complete && matches!(self.stage, Stage::Header(_) | Stage::Behind)
    }
}

/// The length of a member's header (RFC 1952, 2.3); none while it is not all there.
fn header_length(header: &[u8]) -> io::Result<Option<usize>> {
    const FIXED: [u8; 3] = [0x1f, 0x8b, 8];
    let known = header.len().min(FIXED.len());
    if header[..known] != FIXED[..known] {
        return Err(corrupt("it is not gzip"));
    }
    let Some(&flags) = header.get(3) else { return Ok(None) };
    let mut length = 10;
    if flags & 4 != 0 {
        let Some(extra) = header.get(length..length + 2) else { return Ok(None) };
        length += 2 + usize::from(u16::from_le_bytes([extra[0], extra[1]]));
    }
    // A name and a comment, each up to a NUL.
    for flag in [8, 16] {
        if flags & flag != 0 {
            let Some(rest) = header.get(length..) else { return Ok(None) };
            let Some(end) = rest.iter().position(|byte| *byte == 0) else { return Ok(None) };
            length += end + 1;
        }
    }
    length += if flags & 2 != 0 { 2 } else { 0 };
    Ok((header.len() >= length).then_some(length))
}

/// A body in deflate. Its first two bytes tell whether it has zlib's header.
enum Deflate {
    Start(Vec<u8>),
    Data(Box<Stream>),
}

impl Deflate {
    fn take(&mut self, data: &[u8], kept: &mut Kept) -> io::Result<()> {
        match self {
            Self::Data(stream) => stream.take(data, kept).map(drop),
            Self::Start(start) => {
                start.extend_from_slice(data);
                let [first, second, ..] = start[..] else { return Ok(()) };
                let zlib = first & 0x8f == 8 && u16::from_be_bytes([first, second]) % 31 == 0;
                let mut stream = Box::new(Stream::new(zlib));
                let taken = stream.take(start, kept).map(drop);
                *self = Self::Data(stream);
                taken
            }
        }
    }

    fn is_complete(&self) -> bool {
        matches!(self, Self::Data(stream) if stream.ended)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("packed");
        encoder.finish().expect("packed")
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("packed");
        encoder.finish().expect("packed")
    }

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
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
        let (one, other) = (zlib(b"hello, hello, hello"), deflate(b"hello, hello, hello"));
        for (coding, whole) in [(Coding::Gzip, &whole), (Coding::Deflate, &one), (Coding::Deflate, &other)] {
            assert!(unpack(coding, 100, &[whole]).is_ok());
            for cut in 1..whole.len() {
                let refused = unpack(coding, 100, &[&whole[..cut]]);
                assert_eq!(refused.expect_err("cut off").code(), "invalid_response", "{coding:?} at {cut}");
            }
        }
        let second = [&whole[..], &whole[..whole.len() - 9]].concat();
        assert_eq!(unpack(Coding::Gzip, 100, &[&second]).expect_err("cut off").code(), "invalid_response");
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

    #[test]
    fn what_is_behind_the_body_is_passed_over() {
        for behind in [&b"\0\0\0"[..], b"garbage", b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x00"] {
            for (coding, packed) in
                [(Coding::Gzip, gzip(b"x")), (Coding::Deflate, zlib(b"x")), (Coding::Deflate, deflate(b"x"))]
            {
                assert_eq!(unpack(coding, 100, &[&packed, behind]), Ok(b"x".to_vec()), "{coding:?} {behind:?}");
                let together = [&packed[..], behind].concat();
                assert_eq!(unpack(coding, 100, &together.chunks(1).collect::<Vec<_>>()), Ok(b"x".to_vec()));
            }
        }
    }

    #[test]
    fn a_header_may_have_every_field() {
        let plain = gzip(b"x");
        let mut header = vec![0x1f, 0x8b, 8, 4 | 8 | 16 | 2, 0, 0, 0, 0, 0, 3];
        header.extend_from_slice(b"\x03\x00abcname\0comment\0\x12\x34");
        let packed = [&header, &plain[10..]].concat();
        for size in [1, 7, 1000] {
            assert_eq!(unpack(Coding::Gzip, 100, &packed.chunks(size).collect::<Vec<_>>()), Ok(b"x".to_vec()));
        }
        let endless = [&header[..12], &vec![b'n'; 100 << 10]].concat();
        assert!(unpack(Coding::Gzip, 100, &endless.chunks(1000).collect::<Vec<_>>()).is_err());
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out(bytes in prop::collection::vec(any::<u8>(), 0..4000), cut in 1_usize..200) {
            let packed = gzip(&bytes);
            let pieces: Vec<_> = packed.chunks(cut).collect();
            prop_assert_eq!(unpack(Coding::Gzip, 4000, &pieces), Ok(bytes.clone()));
            for packed in [zlib(&bytes), deflate(&bytes)] {
                prop_assert_eq!(unpack(Coding::Deflate, 4000, &packed.chunks(cut).collect::<Vec<_>>()), Ok(bytes.clone()));
            }
        }

        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for coding in [Coding::Gzip, Coding::Deflate] {
                let _ = unpack(coding, 100, &[&bytes]);
            }
        }
    }
}
