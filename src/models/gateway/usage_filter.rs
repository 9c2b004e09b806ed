//! Takes the event out of a stream that tells its usage to a client who did not
//! ask for it.

use bytes::{Buf as _, Bytes, BytesMut};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Half of an event longer than this is passed on unseen.
const HELD: usize = 1 << 20;

/// Holds back what is not a whole event yet.
#[derive(Debug, Default)]
pub(super) struct UsageFilter {
    held: BytesMut,
}

/// What tells the event: no choices, and the usage.
#[derive(Deserialize)]
struct Told {
    choices: Vec<IgnoredAny>,
    usage: Option<IgnoredAny>,
}

impl UsageFilter {
    /// What of a piece and of what was held is passed on now.
    pub(super) fn pass(&mut self, piece: Bytes) -> Bytes {
        if self.held.is_empty() && piece.ends_with(b"\n\n") && !mentions_usage(&piece) {
            return piece;
        }
        self.held.extend_from_slice(&piece);
        let mut passed = BytesMut::new();
        while let Some(end) = event_end(&self.held) {
            let event = self.held.split_to(end);
            if !mentions_usage(&event) || !tells_usage(&event) {
                passed.extend_from_slice(&event);
            }
        }
        if self.held.len() > HELD {
            passed.extend_from_slice(&self.held);
            self.held.clear();
        }
        passed.freeze()
    }

    /// What is left when the stream has ended.
    pub(super) fn rest(mut self) -> Bytes {
        let rest = self.held.copy_to_bytes(self.held.len());
        if tells_usage(&rest) { Bytes::new() } else { rest }
    }
}

/// Just behind the empty line that ends the first event.
fn event_end(held: &[u8]) -> Option<usize> {
    let newlines = held.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(place, _)| place);
    newlines.into_iter().find_map(|place| match held.get(place + 1..) {
        Some([b'\n', ..]) => Some(place + 2),
        Some([b'\r', b'\n', ..]) => Some(place + 3),
        _ => None,
    })
}

fn mentions_usage(bytes: &[u8]) -> bool {
    bytes.windows(7).any(|window| window == b"\"usage\"")
}

fn tells_usage(event: &[u8]) -> bool {
    let mut lines = event.split(|byte| *byte == b'\n');
    let Some(data) = lines.find_map(|line| line.strip_prefix(b"data:")) else { return false };
    serde_json::from_slice::<Told>(data.trim_ascii()).is_ok_and(|told| told.choices.is_empty() && told.usage.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"é \\\"usage\\\"\"}}],\"usage\":null}\n\n\
                          : a comment\r\n\r\n\
                          data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n\
                          data: {\"choices\":[]}\n\n\
                          data: [DONE]\n\n";

    fn filtered(pieces: &[&[u8]]) -> Vec<u8> {
        let mut filter = UsageFilter::default();
        let mut passed = Vec::new();
        for piece in pieces {
            passed.extend_from_slice(&filter.pass(Bytes::copy_from_slice(piece)));
        }
        passed.extend_from_slice(&filter.rest());
        passed
    }

    #[test]
    fn only_the_event_with_the_usage_goes() {
        let expected = STREAM.replace("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n", "");
        assert_eq!(String::from_utf8(filtered(&[STREAM.as_bytes()])).expect("text"), expected);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_pieces_end(ends in prop::collection::vec(0..STREAM.len(), 0..20)) {
            let mut ends = ends;
            ends.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for end in ends.into_iter().chain([STREAM.len()]) {
                pieces.push(&STREAM.as_bytes()[from..end]);
                from = end;
            }
            prop_assert_eq!(filtered(&pieces), filtered(&[STREAM.as_bytes()]));
        }

        #[test]
        fn what_is_no_usage_is_passed_on_whole(bytes in "[a-z\\n:{}\\[\\] ]{0,200}", at in 0..200_usize) {
            let bytes = bytes.as_bytes();
            let (head, tail) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(filtered(&[head, tail]), bytes);
        }
    }
}
