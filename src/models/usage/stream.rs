//! Counting along a stream of events as its bytes pass by.

use serde_json::value::RawValue;

use super::{DEPTH, read_usage, written_in};
use crate::budgets::Tokens;
use crate::models::Endpoint;
use crate::models::json::{self, Entries, length};
use crate::models::price::Price;
use crate::models::tokens::Vocabulary;

/// A line of an event is held back until it is whole, up to so many bytes. The
/// last event of a response has all of it, so it can be long.
const LONGEST_LINE: usize = 4 << 20;
/// Events that end a response, of which the last has its use.
const ENDS: &[&str] = &["response.completed", "response.incomplete", "response.failed", "response.cancelled"];

/// What a stream has used so far. It is fed with the bytes as they pass, cut
/// anywhere, and keeps none of them but a line that has begun.
#[derive(Clone, Debug)]
pub struct StreamCounter {
    endpoint: Endpoint,
    vocabulary: Vocabulary,
    /// A line that has begun.
    line: Vec<u8>,
    /// Bytes of a line that was too long to be held; zero where there is none.
    dropped: u64,
    seen: Seen,
}

/// What has been seen in whole lines.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    usage: Option<Tokens>,
    output: u64,
    /// Of that, what came after the last usage.
    since: u64,
    complete: bool,
}

impl StreamCounter {
    /// For a stream of this endpoint, counted by this model's vocabulary.
    #[must_use]
    pub fn new(endpoint: Endpoint, price: &Price) -> Self {
        let (line, seen) = (Vec::new(), Seen::default());
        Self { endpoint, vocabulary: price.vocabulary(), line, dropped: 0, seen }
    }

    /// The next bytes.
    pub fn feed(&mut self, mut piece: &[u8]) {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (rest, next) = (&piece[..end], &piece[end + 1..]);
            if self.dropped > 0 || self.line.len() + rest.len() > LONGEST_LINE {
                self.hold(rest);
                self.seen = self.now();
                self.dropped = 0;
            } else if self.line.is_empty() {
                self.read(rest);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(rest);
                self.read(&line);
                line.clear();
                // Kept for the next line, unless it was an unusually long one.
                if line.capacity() <= 64 << 10 {
                    self.line = line;
                }
            }
            piece = next;
        }
        self.hold(piece);
    }

    /// Holds the beginning of a line.
    fn hold(&mut self, piece: &[u8]) {
        if self.dropped > 0 || self.line.len() + piece.len() > LONGEST_LINE {
            self.dropped = self.dropped.saturating_add(length(self.line.len() + piece.len()));
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(piece);
        }
    }

    fn read(&mut self, line: &[u8]) {
        let seen = self.look(line);
        self.seen = self.seen.and(&seen);
    }

    /// What has been seen, also in a line that has no end yet.
    fn now(&self) -> Seen {
        if self.dropped > 0 {
            let output = self.seen.output.saturating_add(self.dropped);
            let since = self.seen.since.saturating_add(self.dropped);
            return Seen { output, since, ..self.seen };
        }
        self.seen.and(&self.look(&self.line))
    }

    /// What the provider has said of the use, and before the end what has come
    /// since it did.
    #[must_use]
    pub fn usage(&self) -> Option<Tokens> {
        let seen = self.now();
        let usage = seen.usage?;
        let since = if seen.complete { 0 } else { seen.since };
        Some(Tokens { output: usage.output.saturating_add(since), ..usage })
    }

    /// Tokens of output in what has passed: counted by the vocabulary, or its
    /// bytes. Reasoning that is not shown is not in it; [`Price::reasons`] tells
    /// whether there can be some.
    #[must_use]
    pub fn output(&self) -> u64 {
        self.now().output
    }

    /// Whether the stream has come to its proper end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.now().complete
    }

    /// What is in one line.
    fn look(&self, line: &[u8]) -> Seen {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else { return Seen::default() };
        if data.is_empty() {
            return Seen::default();
        }
        if data == b"[DONE]" {
            return Seen { complete: true, ..Seen::default() };
        }
        let Ok(fields) = serde_json::from_slice::<Entries<'_>>(data) else {
            // It cannot be read, so it counts in full.
            return Seen::output(length(data.len()));
        };
        match self.endpoint {
            Endpoint::ChatCompletions => self.chunk(&fields),
            Endpoint::Responses => self.event(&fields),
            Endpoint::Embeddings | Endpoint::AudioTranscriptions | Endpoint::AudioSpeech => self.audio(&fields),
        }
    }

    /// A chunk of a chat.
    fn chunk(&self, fields: &Entries<'_>) -> Seen {
        let choices = fields.get("choices").and_then(json::items).unwrap_or_default();
        let output = choices.into_iter().fold(0_u64, |sum, choice| {
            let delta = Entries::of(choice).and_then(|choice| choice.get("delta"));
            sum.saturating_add(delta.map_or(0, |delta| self.written(delta)))
        });
        Seen { usage: self.usage_in(fields), ..Seen::output(output) }
    }

    /// An event of a response.
    fn event(&self, fields: &Entries<'_>) -> Seen {
        let kind = fields.text("type").unwrap_or_default();
        if ENDS.contains(&&*kind) {
            let response = fields.get("response").and_then(Entries::of);
            return Seen { usage: response.and_then(|it| self.usage_in(&it)), complete: true, ..Seen::default() };
        }
        let delta = if kind.ends_with(".delta") { fields.get("delta") } else { None };
        // A call of a function tells its name when it begins.
        let name = if kind == "response.output_item.added" { fields.get("item").and_then(Entries::of) } else { None };
        let name = name.and_then(|item| item.get("name"));
        let output = delta.map_or(0, |delta| self.written(delta)) + name.map_or(0, |name| self.written(name));
        Seen::output(output)
    }

    /// An event of a transcription, or of speech.
    fn audio(&self, fields: &Entries<'_>) -> Seen {
        let kind = fields.text("type").unwrap_or_default();
        let delta = if kind.ends_with("text.delta") { fields.get("delta") } else { None };
        let output = delta.map_or(0, |delta| self.written(delta));
        Seen { usage: self.usage_in(fields), complete: kind.ends_with(".done"), ..Seen::output(output) }
    }

    fn usage_in(&self, fields: &Entries<'_>) -> Option<Tokens> {
        read_usage(self.endpoint, fields.get("usage")?)
    }

    fn written(&self, raw: &RawValue) -> u64 {
        written_in(raw, self.vocabulary, DEPTH)
    }
}

impl Seen {
    fn output(output: u64) -> Self {
        Self { output, since: output, ..Self::default() }
    }

    fn and(&self, later: &Self) -> Self {
        Self {
            usage: later.usage.or(self.usage),
            output: self.output.saturating_add(later.output),
            since: if later.usage.is_some() { 0 } else { self.since.saturating_add(later.since) },
            complete: self.complete || later.complete,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::models::price::Prices;

    const CHAT: &str = concat!(
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"}}]}\r\n\r\n",
        ": a comment\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" wörld\"}},{\"index\":1,\"delta\":{\"content\":\"hello\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_abc\",\"type\":\"function\",",
        "\"function\":{\"name\":\"hello\",\"arguments\":\"\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    );
    const CHAT_END: &str = concat!(
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":12,\"total_tokens\":21}}\n\n",
        "data: [DONE]\n\n",
    );
    const RESPONSE: &str = concat!(
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"usage\":null}}\n\n",
        "event: response.output_item.added\n",
        "data: {\"type\":\"response.output_item.added\",\"item\":{\"type\":\"function_call\",\"name\":\"hello\"}}\n\n",
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hello world\"}\n\n",
        "event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"text\":\"hello world\"}\n\n",
    );
    const RESPONSE_END: &str = concat!(
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"usage\":",
        "{\"input_tokens\":3,\"output_tokens\":4,\"total_tokens\":7}}}\n\n",
    );

    fn counter(endpoint: Endpoint) -> StreamCounter {
        StreamCounter::new(endpoint, &Prices::shipped().of("", "gpt-4o").expect("a price"))
    }

    fn told(counter: &StreamCounter) -> (Option<(u64, u64)>, u64, bool) {
        (counter.usage().map(|it| (it.input, it.output)), counter.output(), counter.is_complete())
    }

    #[test]
    fn a_chat_is_counted_until_it_tells_its_use() {
        let mut counter = counter(Endpoint::ChatCompletions);
        counter.feed(CHAT.as_bytes());
        let written = 1 + Vocabulary::O200k.count(" wörld") + 1 + 1;
        assert_eq!(told(&counter), (None, written, false));
        counter.feed(CHAT_END.as_bytes());
        assert_eq!(told(&counter), (Some((9, 12)), written, true));
    }

    #[test]
    fn a_response_is_counted_until_it_tells_its_use() {
        let mut counter = counter(Endpoint::Responses);
        counter.feed(RESPONSE.as_bytes());
        assert_eq!(told(&counter), (None, 3, false));
        counter.feed(RESPONSE_END.as_bytes());
        assert_eq!(told(&counter), (Some((3, 4)), 3, true));
    }

    #[test]
    fn a_transcription_tells_its_use_at_its_end() {
        let mut counter = counter(Endpoint::AudioTranscriptions);
        counter.feed(b"data: {\"type\":\"transcript.text.delta\",\"delta\":\"hello\"}\n\n");
        assert_eq!(told(&counter), (None, 1, false));
        counter
            .feed(b"data: {\"type\":\"transcript.text.done\",\"usage\":{\"input_tokens\":14,\"output_tokens\":2}}\n\n");
        assert_eq!(told(&counter), (Some((14, 2)), 1, true));
    }

    /// Some send it with each chunk; the last one need not be there when the
    /// stream is cut.
    #[test]
    fn use_that_is_told_on_the_way_is_not_the_last_word() {
        let mut counter = counter(Endpoint::ChatCompletions);
        counter.feed(b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\n");
        counter.feed(CHAT.as_bytes());
        let (usage, output, _) = told(&counter);
        assert_eq!(usage, Some((9, 1 + output)));
        counter.feed(b"data: [DONE]\n\n");
        assert_eq!(told(&counter), (Some((9, 1)), output, true));
    }

    #[test]
    fn the_end_may_come_without_a_line_break() {
        let mut counter = counter(Endpoint::ChatCompletions);
        counter.feed(b"data:[DONE]");
        assert!(counter.is_complete());
        counter.feed(b"x");
        assert!(!counter.is_complete());
    }

    #[test]
    fn what_cannot_be_read_counts_by_its_bytes() {
        let mut counter = counter(Endpoint::ChatCompletions);
        counter.feed(b"data: <html>\n\nnot an event\n");
        assert_eq!(told(&counter), (None, 6, false));
        counter.feed(b"data: {\"choices\":[{\"delta\":{\"content\":\"ab");
        assert_eq!(counter.output(), 6 + 35);
        counter.feed(b"c\"}}]}\n");
        assert_eq!(counter.output(), 6 + 1);
    }

    #[test]
    fn a_line_that_does_not_end_is_not_held() {
        let mut counter = counter(Endpoint::Responses);
        let piece = vec![b'x'; 1 << 20];
        counter.feed(b"data: ");
        for _ in 0..10 {
            counter.feed(&piece);
            assert!(counter.line.capacity() <= 2 * LONGEST_LINE);
        }
        let bytes = 6 + (10 << 20);
        assert_eq!(counter.output(), bytes);
        counter.feed(b"\n");
        counter.feed(RESPONSE.as_bytes());
        counter.feed(RESPONSE_END.as_bytes());
        assert_eq!(told(&counter), (Some((3, 4)), bytes + 3, true));
    }

    fn fed(endpoint: Endpoint, pieces: &[&[u8]]) -> (Option<(u64, u64)>, u64, bool) {
        let mut counter = counter(endpoint);
        for piece in pieces {
            counter.feed(piece);
            let _ = told(&counter);
        }
        told(&counter)
    }

    fn cut<'a>(whole: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut places: Vec<_> = cuts.iter().map(|cut| cut % (whole.len() + 1)).collect();
        places.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for place in places {
            pieces.push(&whole[from..place]);
            from = place;
        }
        pieces.push(&whole[from..]);
        pieces
    }

    proptest! {
        #[test]
        fn where_a_stream_is_cut_makes_no_difference(cuts in proptest::collection::vec(any::<usize>(), 0..12)) {
            let chat = [CHAT, CHAT_END].concat();
            let response = [RESPONSE, RESPONSE_END].concat();
            for (endpoint, whole) in [(Endpoint::ChatCompletions, chat), (Endpoint::Responses, response)] {
                let whole = whole.as_bytes();
                prop_assert_eq!(fed(endpoint, &cut(whole, &cuts)), fed(endpoint, &[whole]));
            }
        }

        #[test]
        fn any_bytes_are_taken(bytes: Vec<u8>, cuts in proptest::collection::vec(any::<usize>(), 0..4), line in "data: \\PC*\n") {
            for endpoint in [Endpoint::ChatCompletions, Endpoint::Responses, Endpoint::AudioTranscriptions] {
                let whole = [&bytes[..], line.as_bytes()].concat();
                prop_assert_eq!(fed(endpoint, &cut(&whole, &cuts)), fed(endpoint, &[&whole]));
            }
        }
    }
}
