//! Reads server-sent events out of bytes as they arrive, split anywhere, by the
//! rules of the HTML standard (section 9.2.6). Each byte is scanned once.

use std::borrow::Cow;

use memchr::memchr2;

/// Bytes that one event may have. The last event of a response holds all of it.
pub(super) const LARGEST_EVENT: usize = 32 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An event is larger than [`LARGEST_EVENT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {} MiB", LARGEST_EVENT >> 20)]
pub(super) struct TooLarge;

/// One block of lines up to an empty line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event<'a> {
    /// The value of `event`; empty where there is none.
    pub name: &'a [u8],
    /// The data, its lines joined by line feeds. `None` for a block without any,
    /// such as comments, which dispatches no event.
    pub data: Option<Cow<'a, [u8]>>,
    /// The block as it arrived, with its empty line.
    raw: &'a [u8],
    /// Whether the block is written so that every client can read it.
    plain: bool,
}

impl Event<'_> {
    /// Whether it holds nothing but comments.
    pub(super) fn is_comment(&self) -> bool {
        self.data.is_none()
            && self.plain
            && self.raw.split(|byte| *byte == b'\n').all(|line| matches!(line, [b':', ..] | []))
    }

    /// Writes the event for clients: as it arrived, or with line feeds only where
    /// it had carriage returns, a byte order mark, or no end.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if self.plain {
            return out.extend_from_slice(self.raw);
        }
        let Some(data) = &self.data else { return };
        if !self.name.is_empty() {
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(self.name);
            out.push(b'\n');
        }
        for line in data.split(|byte| *byte == b'\n') {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        out.push(b'\n');
    }
}

/// The reader of one stream.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The event that has begun.
    held: Vec<u8>,
    parts: Parts,
    /// Whether a line has been read: a byte order mark counts before the first only.
    has_begun: bool,
    /// Whether the last line ended with a carriage return, to which a line feed
    /// in the next piece belongs.
    after_cr: bool,
}

/// What is known of the event that has begun. Places count from its first byte.
#[derive(Debug, Default)]
struct Parts {
    /// How far it has been scanned.
    scanned: usize,
    /// Where the current line begins.
    line: usize,
    name: (usize, usize),
    first_data: Option<(usize, usize)>,
    /// The data, once it has several lines.
    joined: Option<Vec<u8>>,
    /// Whether it cannot be passed on as it arrived.
    odd: bool,
}

impl Reader {
    /// Hands over each event that is complete now.
    ///
    /// # Errors
    /// When an event grows too large.
    pub(super) fn feed(&mut self, mut piece: &[u8], mut each: impl FnMut(&Event<'_>)) -> Result<(), TooLarge> {
        if self.after_cr && !piece.is_empty() {
            self.after_cr = false;
            piece = piece.strip_prefix(b"\n").unwrap_or(piece);
        }
        if self.held.is_empty() {
            let used = self.scan(piece, &mut each);
            self.held.extend_from_slice(&piece[used..]);
        } else {
            self.held.extend_from_slice(piece);
            let mut held = std::mem::take(&mut self.held);
            let used = self.scan(&held, &mut each);
            held.drain(..used);
            // Kept for the next event, unless this one was unusually long.
            if !held.is_empty() || held.capacity() <= 64 << 10 {
                self.held = held;
            }
        }
        let joined = self.parts.joined.as_ref().map_or(0, Vec::len);
        if self.held.len() + joined > LARGEST_EVENT { Err(TooLarge) } else { Ok(()) }
    }

    /// The stream has ended. Providers forget the empty line behind the last
    /// event, so what has arrived of it counts.
    pub(super) fn finish(&mut self, mut each: impl FnMut(&Event<'_>)) {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return;
        }
        self.parts.odd = true;
        let begin = self.first_line(&held, self.parts.line);
        if begin < held.len() {
            self.field(&held, begin, held.len());
        }
        self.dispatch(&held, &mut each);
    }

    /// Bytes of the event that has begun and is not complete.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Scans from where it stopped; returns how many bytes whole events have.
    fn scan(&mut self, buffer: &[u8], each: &mut impl FnMut(&Event<'_>)) -> usize {
        let mut start = 0;
        loop {
            let event = &buffer[start..];
            let Some(found) = memchr2(b'\n', b'\r', &event[self.parts.scanned..]) else {
                self.parts.scanned = event.len();
                return start;
            };
            let end = self.parts.scanned + found;
            let mut next = end + 1;
            if event[end] == b'\r' {
                self.parts.odd = true;
                match event.get(next) {
                    Some(b'\n') => next += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            let begin = self.first_line(event, self.parts.line);
            if begin < end {
                self.field(event, begin, end);
                (self.parts.line, self.parts.scanned) = (next, next);
            } else {
                self.dispatch(&event[..next], each);
                start += next;
            }
        }
    }

    /// Where a line begins behind the byte order mark that may precede the first.
    fn first_line(&mut self, event: &[u8], line: usize) -> usize {
        if std::mem::replace(&mut self.has_begun, true) || !event[line..].starts_with(BYTE_ORDER_MARK) {
            return line;
        }
        self.parts.odd = true;
        line + BYTE_ORDER_MARK.len()
    }

    /// Takes one line that is not empty.
    fn field(&mut self, event: &[u8], begin: usize, end: usize) {
        let line = &event[begin..end];
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let mut value = (begin + colon + 1).min(end);
        let has_space = event.get(value) == Some(&b' ') && value < end;
        value += usize::from(has_space);
        match &line[..colon] {
            b"data" => {
                // There are clients that know it with a space only.
                self.parts.odd |= !has_space;
                self.data(event, value, end);
            }
            b"event" => self.parts.name = (value, end),
            // Comments, and fields that do not matter here.
            _ => {}
        }
    }

    fn data(&mut self, event: &[u8], begin: usize, end: usize) {
        let Some((first, until)) = self.parts.first_data else {
            self.parts.first_data = Some((begin, end));
            return;
        };
        let joined = self.parts.joined.get_or_insert_with(|| event[first..until].to_vec());
        joined.push(b'\n');
        joined.extend_from_slice(&event[begin..end]);
    }

    fn dispatch(&mut self, raw: &[u8], each: &mut impl FnMut(&Event<'_>)) {
        let parts = std::mem::take(&mut self.parts);
        let data = match (parts.joined, parts.first_data) {
            (Some(joined), _) => Some(Cow::Owned(joined)),
            (None, Some((begin, end))) => Some(Cow::Borrowed(&raw[begin..end])),
            (None, None) => None,
        };
        each(&Event { name: &raw[parts.name.0..parts.name.1], data, raw, plain: !parts.odd });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Name and data of each event, and what clients are sent of all blocks.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<(String, String)>, String) {
        let (mut reader, mut found, mut sent) = (Reader::default(), Vec::new(), Vec::new());
        let mut each = |event: &Event<'_>| {
            event.write(&mut sent);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            found.extend(event.data.as_ref().map(|data| (text(event.name), text(data))));
        };
        for piece in pieces {
            reader.feed(piece, &mut each).expect("it is small");
        }
        reader.finish(&mut each);
        (found, String::from_utf8(sent).expect("text"))
    }

    fn data(text: &str) -> Vec<String> {
        read([text.as_bytes()]).0.into_iter().map(|(_, data)| data).collect()
    }

    #[test]
    fn lines_end_in_three_ways() {
        for end in ["\n", "\r", "\r\n"] {
            let text = ["data: a", "", "event: b", "data:c", "data: d", "", ": note", "", "data", ""].join(end) + end;
            let (found, sent) = read([text.as_bytes()]);
            let found: Vec<_> = found.iter().map(|(name, data)| (name.as_str(), data.as_str())).collect();
            assert_eq!(found, [("", "a"), ("b", "c\nd"), ("", "")], "{end:?}");
            assert_eq!(data(&sent), ["a", "c\nd", ""], "{end:?}");
            assert!(!sent.contains('\r'), "{sent:?}");
        }
    }

    #[test]
    fn the_standards_own_rules_hold() {
        // Examples of the standard.
        assert_eq!(data("data: YHOO\ndata: +2\ndata: 10\n\n"), ["YHOO\n+2\n10"]);
        assert_eq!(
            data(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"),
            ["first event", "second event", " third event"]
        );
        assert_eq!(data("data\n\ndata\ndata\n\ndata:"), ["", "\n", ""]);
        assert_eq!(data("data:test\n\ndata: test\n\n"), ["test", "test"]);
        // A byte order mark counts at the beginning only; names are compared with case.
        assert_eq!(data("\u{feff}data: a\n\n"), ["a"]);
        assert_eq!(data("\u{feff}\ndata: a\n\n\u{feff}data: b\n\n"), ["a"]);
        assert_eq!(data("Data: a\n\ndatax: b\n\n data: c\n\n"), Vec::<String>::new());
        assert_eq!(data("event: ping\n\n: data: x\n\nid: 5\nretry: 7\n\n"), Vec::<String>::new());
    }

    #[test]
    fn what_every_client_reads_is_passed_on_as_it_is() {
        let text = ": note\n\nid: 5\ndata: a\n\nevent:b\ndata: c\ndata: d\n\n";
        assert_eq!(read([&b"data:a\n\n"[..]]).1, "data: a\n\n");
        assert_eq!(read([text.as_bytes()]).1, text);
        assert_eq!(read([&b"\xef\xbb\xbfevent: b\rdata: c\rdata:d\r\r"[..]]).1, "event: b\ndata: c\ndata: d\n\n");
        assert_eq!(read([&b"data: [DONE]"[..]]).1, "data: [DONE]\n\n");
    }

    #[test]
    fn an_event_without_an_end_is_refused() {
        let mut reader = Reader::default();
        let piece = vec![b'x'; LARGEST_EVENT / 2];
        assert_eq!(reader.feed(&piece, |_| ()), Ok(()));
        assert_eq!(reader.feed(&piece, |_| ()), Ok(()));
        assert_eq!(reader.feed(b"x", |_| ()), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_bytes_are_split(
            lines in prop::collection::vec("(data|event|id|)(: ?|)[a\u{feff} :]{0,3}(\r|\n|\r\n){1,2}", 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let text = lines.concat();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let mut begin = 0;
            let pieces = cuts.into_iter().map(|end| {
                let piece = &text.as_bytes()[begin..end];
                begin = end;
                piece
            });
            let pieces: Vec<_> = pieces.collect();
            let (found, sent) = read(pieces);
            let whole = read([text.as_bytes()]);
            prop_assert_eq!(&found, &whole.0);
            prop_assert_eq!(&sent, &whole.1);
            // What clients are sent holds the same events.
            prop_assert_eq!(read([sent.as_bytes()]).0, found);
        }
    }
}
