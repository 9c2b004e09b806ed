//! Reads server-sent events out of bytes as they come, split anywhere. Only
//! their data is of interest here.

use std::ops::Range;

/// Bytes that a frame may have; the last one of a response holds all of it.
const LARGEST: usize = 32 << 20;

/// A frame is larger than any that makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// The reader.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// What has not been a whole line yet.
    rest: Vec<u8>,
    /// How much of it has been looked at for an end of line.
    looked: usize,
    /// Data of the frame so far.
    data: Vec<u8>,
    has_data: bool,
}

impl Frames {
    /// Hands the data of each frame that is complete now to `each`.
    ///
    /// # Errors
    /// When a frame is too large.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) -> Result<(), TooLarge> {
        self.rest.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some(length) = self.rest[self.looked..].iter().position(|byte| *byte == b'\n') {
            let end = self.looked + length;
            self.line(begin..end, &mut each);
            begin = end + 1;
            self.looked = begin;
        }
        self.rest.drain(..begin);
        self.looked = self.rest.len();
        if self.rest.len() + self.data.len() > LARGEST { Err(TooLarge) } else { Ok(()) }
    }

    /// The stream is over: a last frame may lack the empty line that ends it.
    pub fn end(&mut self, mut each: impl FnMut(&str)) {
        let end = self.rest.len();
        self.line(0..end, &mut each);
        self.line(0..0, &mut each);
    }

    fn line(&mut self, range: Range<usize>, each: &mut impl FnMut(&str)) {
        let line = &self.rest[range];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                each(&String::from_utf8_lossy(&self.data));
                self.data.clear();
            }
            return;
        }
        let Some(value) = line.strip_prefix(b"data:") else { return };
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        for piece in pieces {
            frames.push(piece, |data| found.push(data.to_owned())).expect("it is small");
        }
        frames.end(|data| found.push(data.to_owned()));
        found
    }

    const TEXT: &str = ": hello\n\nevent: a\ndata: {\"a\": \"é\"}\n\nid: 5\r\ndata:x\r\ndata: y\r\n\r\ndata: [DONE]";

    #[test]
    fn only_data_counts() {
        assert_eq!(read([TEXT.as_bytes()]), ["{\"a\": \"é\"}", "x\ny", "[DONE]"]);
        assert_eq!(read([&b""[..]]), Vec::<String>::new());
    }

    #[test]
    fn a_frame_without_an_end_is_refused() {
        let mut frames = Frames::default();
        let piece = vec![b'x'; LARGEST / 2];
        assert_eq!(frames.push(&piece, |_| ()), Ok(()));
        assert_eq!(frames.push(&piece, |_| ()), Ok(()));
        assert_eq!(frames.push(b"x", |_| ()), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_bytes_are_split(mut cuts in prop::collection::vec(0..TEXT.len(), 0..10)) {
            cuts.sort_unstable();
            cuts.push(TEXT.len());
            let mut begin = 0;
            let pieces = cuts.into_iter().map(|end| {
                let piece = &TEXT.as_bytes()[begin..end];
                begin = end;
                piece
            });
            let pieces: Vec<_> = pieces.collect();
            prop_assert_eq!(read(pieces), read([TEXT.as_bytes()]));
        }
    }
}
