//! Counting along a stream of events. What the model writes is kept and counted
//! only where the provider does not say how much it was.

use serde_json::value::RawValue;

use super::{DEPTH, Usage, read_usage, written_in};
use crate::budgets::Tokens;
use crate::models::answer::{self, Members};
use crate::models::json::{self, Entries, length};
use crate::models::price::Price;
use crate::models::tokens::Vocabulary;
use crate::models::{Endpoint, sse};

/// Events that end a response, of which the last has its use.
const ENDS: &[&str] = &["response.completed", "response.incomplete", "response.failed", "response.cancelled"];
/// Bytes of what the model has written that are kept before they are counted.
const KEPT: usize = 16 << 10;
/// Between two pieces that are kept: a character that JSON has nowhere.
const BETWEEN: u8 = 0x1e;

/// What a stream has used so far, and whether it has ended.
#[derive(Clone, Debug)]
pub struct StreamCounter {
    endpoint: Endpoint,
    vocabulary: Vocabulary,
    /// What the model has written, as JSON, since the last usage and the last count.
    kept: Vec<u8>,
    /// Tokens that have been counted since the last usage.
    counted: u64,
    usage: Option<Usage>,
    /// Choices of a chat that there are, and those that have ended.
    seen: u128,
    finished: u128,
    /// Whether the last event has come.
    done: bool,
}

/// What one event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// A piece of the answer, or anything else.
    Something,
    /// The usage, and nothing else.
    Usage,
    /// That something went wrong.
    Error,
    /// `[DONE]`: that the stream is over.
    Done,
    /// Nothing at all.
    Nothing,
    /// Something that is no JSON object.
    Nonsense,
}

impl StreamCounter {
    /// For a stream of this endpoint, counted by this model's vocabulary.
    #[must_use]
    pub fn new(endpoint: Endpoint, price: &Price) -> Self {
        Self {
            endpoint,
            vocabulary: price.vocabulary(),
            kept: Vec::new(),
            counted: 0,
            usage: None,
            seen: 0,
            finished: 0,
            done: false,
        }
    }

    /// Takes the next event, by its name and its data.
    pub fn event(&mut self, name: &[u8], data: &[u8]) -> Said {
        let data = data.trim_ascii();
        if data.is_empty() {
            return Said::Nothing;
        }
        if data == b"[DONE]" {
            self.done = true;
            return Said::Done;
        }
        let mut repaired = Vec::new();
        let Some(members) = Members::read(data, &mut repaired) else {
            // It cannot be read, so it counts in full.
            self.counted = self.counted.saturating_add(length(data.len()));
            return Said::Nonsense;
        };
        let only_usage = match self.endpoint {
            Endpoint::ChatCompletions => self.chunk(&members),
            Endpoint::Responses => self.response(&members),
            Endpoint::Embeddings | Endpoint::AudioTranscriptions | Endpoint::AudioSpeech => self.audio(&members),
        };
        if name == b"error" || answer::is_error(&members) {
            return Said::Error;
        }
        if only_usage { Said::Usage } else { Said::Something }
    }

    /// A chunk of a chat; whether it is there for its usage only.
    fn chunk(&mut self, members: &Members<'_>) -> bool {
        let choices = &members.choices;
        self.seen |= choices.seen;
        self.finished |= choices.finished;
        for delta in &choices.said {
            self.keep(delta);
        }
        self.take_usage(members.usage);
        !choices.any && members.usage.is_some()
    }

    /// An event of a response.
    fn response(&mut self, members: &Members<'_>) -> bool {
        let kind = members.kind();
        if ENDS.contains(&&*kind) {
            self.done = true;
            let usage = members.response.and_then(Entries::of).and_then(|response| response.get("usage"));
            self.take_usage(usage);
        } else if kind.ends_with(".delta") {
            self.keep_any(members.delta);
        } else if kind == "response.output_item.added" {
            // A call of a function tells its name when it begins.
            let name = members.item.and_then(Entries::of).and_then(|item| item.get("name"));
            self.keep_any(name);
        }
        false
    }

    /// An event of a transcription, or of speech.
    fn audio(&mut self, members: &Members<'_>) -> bool {
        let kind = members.kind();
        if kind.ends_with("text.delta") {
            self.keep_any(members.delta);
        }
        self.done |= kind.ends_with(".done");
        self.take_usage(members.usage);
        false
    }

    fn keep_any(&mut self, written: Option<&RawValue>) {
        if let Some(written) = written {
            self.keep(written);
        }
    }

    fn keep(&mut self, written: &RawValue) {
        self.kept.extend_from_slice(written.get().as_bytes());
        self.kept.push(BETWEEN);
        if self.kept.len() > KEPT {
            self.counted = self.counted.saturating_add(self.count_kept());
            self.kept = Vec::new();
        }
    }

    /// What has come up to here is in it.
    fn take_usage(&mut self, usage: Option<&RawValue>) {
        let usage = usage.and_then(json::read).and_then(|usage| read_usage(self.endpoint, &usage));
        if usage.is_some() {
            self.usage = usage;
            self.counted = 0;
            self.kept.clear();
        }
    }

    fn count_kept(&self) -> u64 {
        let pieces = self.kept.split(|byte| *byte == BETWEEN).filter(|piece| !piece.is_empty());
        pieces.fold(0, |sum, piece| {
            let raw = serde_json::from_slice::<&RawValue>(piece);
            let tokens = raw.map_or_else(|_| length(piece.len()), |raw| written_in(raw, self.vocabulary, DEPTH));
            sum.saturating_add(tokens)
        })
    }

    /// What the provider has said of the use, and before the end what has come
    /// since it did.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let usage = self.usage?;
        let since = if self.is_complete() { 0 } else { self.output() };
        let tokens = Tokens { output: usage.tokens.output.saturating_add(since), ..usage.tokens };
        Some(Usage { tokens, ..usage })
    }

    /// Tokens of output since the provider has last said how many there were:
    /// counted by the vocabulary, or its bytes. Reasoning that is not shown is not
    /// in it; [`Price::reasons`] tells whether there can be some.
    #[must_use]
    pub fn output(&self) -> u64 {
        self.counted.saturating_add(self.count_kept())
    }

    /// Counts what is left over of an event that is not complete.
    pub(in crate::models) fn cut(&mut self, reader: &sse::Reader) {
        self.counted = self.counted.saturating_add(length(reader.held()));
    }

    /// Whether the stream has come to its proper end: its last event has come, or
    /// each choice of a chat has said why it ends.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.done || self.finished != 0 && self.seen & !self.finished == 0
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

    /// Feeds bytes as the gateway does, and what each event said.
    fn feed(counter: &mut StreamCounter, bytes: &str) -> Vec<Said> {
        let (mut reader, mut said) = (sse::Reader::default(), Vec::new());
        let mut each = |event: &sse::Event<'_>| {
            said.extend(event.data.as_ref().map(|data| counter.event(event.name, data)));
        };
        reader.feed(bytes.as_bytes(), &mut each).expect("it is small");
        reader.finish(&mut each);
        said
    }

    fn told(counter: &StreamCounter) -> (Option<(u64, u64)>, u64, bool) {
        let usage = counter.usage().map(|it| (it.tokens.input, it.tokens.output));
        (usage, counter.output(), counter.is_complete())
    }

    #[test]
    fn a_chat_is_counted_until_it_tells_its_use() {
        let mut counter = counter(Endpoint::ChatCompletions);
        feed(&mut counter, CHAT);
        let written = 1 + Vocabulary::O200k.count(" wörld") + 1 + 1;
        // One of two choices has not said why it ends.
        assert_eq!(told(&counter), (None, written, false));
        feed(&mut counter, CHAT_END);
        assert_eq!(told(&counter), (Some((9, 12)), 0, true));
    }

    #[test]
    fn a_response_is_counted_until_it_tells_its_use() {
        let mut counter = counter(Endpoint::Responses);
        feed(&mut counter, RESPONSE);
        assert_eq!(told(&counter), (None, 3, false));
        feed(&mut counter, RESPONSE_END);
        assert_eq!(told(&counter), (Some((3, 4)), 0, true));
    }

    #[test]
    fn a_transcription_tells_its_use_at_its_end() {
        let mut counter = counter(Endpoint::AudioTranscriptions);
        feed(&mut counter, "data: {\"type\":\"transcript.text.delta\",\"delta\":\"hello\"}\n\n");
        assert_eq!(told(&counter), (None, 1, false));
        let end = "data: {\"type\":\"transcript.text.done\",\"usage\":{\"input_tokens\":14,\"output_tokens\":2}}\n\n";
        feed(&mut counter, end);
        assert_eq!(told(&counter), (Some((14, 2)), 0, true));
    }

    /// Some send it with each chunk; the last one need not be there when the
    /// stream is cut.
    #[test]
    fn use_that_is_told_on_the_way_is_not_the_last_word() {
        let mut counter = counter(Endpoint::ChatCompletions);
        feed(&mut counter, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\n");
        feed(&mut counter, CHAT);
        let (usage, output, _) = told(&counter);
        assert_eq!(usage, Some((9, 1 + output)));
        feed(&mut counter, "data: [DONE]\n\n");
        assert_eq!(told(&counter), (Some((9, 1)), output, true));
    }

    #[test]
    fn a_chat_ends_when_each_choice_says_why_or_all_are_done() {
        let chunk = |index: u64, finish: &str| {
            format!("data: {{\"choices\":[{{\"index\":{index},\"delta\":{{}},\"finish_reason\":{finish}}}]}}\n\n")
        };
        for (pieces, complete) in [
            (vec![chunk(0, "null")], false),
            (vec![chunk(0, "\"\"")], false),
            (vec![chunk(0, "\"stop\"")], true),
            (vec![chunk(0, "null"), chunk(1, "null"), chunk(1, "\"length\"")], false),
            (vec![chunk(0, "null"), chunk(1, "\"length\""), chunk(0, "\"stop\"")], true),
            (vec![chunk(0, "\"error\"")], false),
            (vec![chunk(0, "null"), "data: [DONE]\n\n".into()], true),
        ] {
            let mut counter = counter(Endpoint::ChatCompletions);
            feed(&mut counter, &pieces.concat());
            assert_eq!(counter.is_complete(), complete, "{pieces:?}");
        }
    }

    #[test]
    fn each_event_says_one_thing() {
        let usage = r#""usage":{"prompt_tokens":1,"completion_tokens":1}"#;
        for (event, said) in [
            ("data: {\"choices\":[{\"delta\":{}}]}", Said::Something),
            (&format!("data: {{\"choices\":[{{\"delta\":{{}}}}],{usage}}}"), Said::Something),
            ("data: {\"choices\":[]}", Said::Something),
            (&format!("data: {{\"choices\":[],{usage}}}"), Said::Usage),
            (&format!("data: {{\"choices\":null,{usage}}}"), Said::Usage),
            (&format!("data: {{{usage}}}"), Said::Usage),
            ("data: {\"choices\":[],\"usage\":null}", Said::Something),
            ("data: {\"error\":{\"message\":\"no\"}}", Said::Error),
            ("data: {\"error\":\"no\",\"choices\":[{\"delta\":{}}]}", Said::Error),
            ("event: error\ndata: {\"message\":\"no\"}", Said::Error),
            ("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}", Said::Error),
            ("data: [DONE]", Said::Done),
            ("data:", Said::Nothing),
            ("data", Said::Nothing),
            ("data:  \ndata:", Said::Nothing),
            ("data: <html>", Said::Nonsense),
            ("data: []", Said::Nonsense),
        ] {
            let mut counter = counter(Endpoint::ChatCompletions);
            assert_eq!(feed(&mut counter, &format!("{event}\n\n")), [said], "{event}");
        }
        let mut counter = counter(Endpoint::ChatCompletions);
        assert_eq!(feed(&mut counter, ": note\n\nevent: ping\n\nid: 5\n\n"), []);
    }

    #[test]
    fn what_cannot_be_read_counts_by_its_bytes() {
        let mut counter = counter(Endpoint::ChatCompletions);
        feed(&mut counter, "data: <html>\n\nnot an event\n");
        assert_eq!(told(&counter), (None, 6, false));
        let mut reader = sse::Reader::default();
        reader.feed(b"data: {\"choices\":[{\"delta\":{\"content\":\"ab", |_| ()).expect("it is small");
        counter.cut(&reader);
        assert_eq!(counter.output(), 6 + 41);
    }

    #[test]
    fn little_is_kept_of_a_long_stream() {
        let mut counter = counter(Endpoint::ChatCompletions);
        let event = "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\n";
        for _ in 0..5_000 {
            feed(&mut counter, event);
            assert!(counter.kept.len() <= KEPT);
        }
        assert_eq!(counter.output(), 5_000);
        feed(&mut counter, CHAT_END);
        assert_eq!(told(&counter), (Some((9, 12)), 0, true));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(name: Vec<u8>, data: Vec<u8>, text in "\\PC*") {
            for endpoint in [Endpoint::ChatCompletions, Endpoint::Responses, Endpoint::AudioTranscriptions] {
                let mut counter = counter(endpoint);
                counter.event(&name, &data);
                counter.event(b"", text.as_bytes());
                let _ = told(&counter);
            }
        }
    }
}
