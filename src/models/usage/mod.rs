//! What a call has used: as the provider says in its answer, or counted here
//! where it says nothing.

mod stream;

use serde_json::Value;
use serde_json::value::RawValue;

use super::Endpoint;
use super::answer::Members;
use super::json::{self, Entries};
use super::lenient;
use super::price::{Price, Unit};
use super::tokens::Vocabulary;
use crate::budgets::Tokens;

pub(super) use stream::Said;
pub use stream::StreamCounter;

/// More tokens than any call has; a provider that says so is not believed.
const ABSURD: u64 = 1_000_000_000;
/// Bytes of speech that are at least one token of audio: 21 tokens a second, and
/// no format of speech has less than a kilobyte and a half for it.
const SPEECH_BYTES: u64 = 64;
/// Objects and arrays inside one another that are looked through for text.
const DEPTH: u32 = 16;
/// Fields of an answer whose strings no model wrote.
const NOT_WRITTEN: &[&str] = &[
    "annotations",
    "call_id",
    "encrypted_content",
    "finish_reason",
    "format",
    "id",
    "index",
    "logprobs",
    "object",
    "role",
    "signature",
    "status",
    "type",
];

/// What a call has used, as prices count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// What is recorded of it.
    pub tokens: Tokens,
    /// Of the input, what the provider has written into its cache.
    pub cache_write: u64,
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        Self { tokens, cache_write: 0 }
    }
}

/// What a whole answer says of its use; none where it says nothing that can be
/// believed, or speaks of another unit than the price. Of transcriptions that are
/// paid by time, `input` is in seconds.
#[must_use]
pub fn usage(endpoint: Endpoint, answer: &[u8], unit: Unit) -> Option<Usage> {
    usage_of(endpoint, &Members::read(answer, &mut Vec::new())?, unit)
}

/// The same of an answer that has been read.
pub(super) fn usage_of(endpoint: Endpoint, answer: &Members<'_>, unit: Unit) -> Option<Usage> {
    if endpoint == Endpoint::AudioSpeech {
        return None;
    }
    match answer.usage {
        Some(usage) => {
            let usage: Value = json::read(usage)?;
            let told = if usage["type"] == "duration" { Unit::Second } else { Unit::Token };
            read_usage(endpoint, &usage).filter(|_| told == unit)
        }
        None if unit != Unit::Second => None,
        None if endpoint == Endpoint::AudioTranscriptions => {
            let seconds = json::read::<f64>(answer.duration?)?;
            Some(Tokens { input: whole_seconds(seconds)?, ..Tokens::default() }.into())
        }
        None => None,
    }
}

/// Where providers say how much of the input they had cached, and how much they
/// have cached now: in `usage` itself, or in its details of the input.
const CACHE_READ: [&str; 5] = [
    "cached_tokens",
    "cache_read_input_tokens",
    "cache_read_tokens",
    "cacheReadInputTokens",
    "cacheReadInputTokenCount",
];
const CACHE_WRITE: [&str; 7] = [
    "cache_write_tokens",
    "cache_creation_input_tokens",
    "cache_creation_tokens",
    "cache_write_input_tokens",
    "caching_tokens",
    "cacheWriteInputTokens",
    "cacheWriteInputTokenCount",
];
const INPUT_DETAILS: [&str; 3] = ["prompt_tokens_details", "input_tokens_details", "input_token_details"];
const OUTPUT_DETAILS: [&str; 3] = ["completion_tokens_details", "output_tokens_details", "output_token_details"];

/// The object `usage`, in the words of whichever endpoint and provider.
pub(super) fn read_usage(endpoint: Endpoint, usage: &Value) -> Option<Usage> {
    if usage["type"] == "duration" {
        return Some(Tokens { input: whole_seconds(usage["seconds"].as_f64()?)?, ..Tokens::default() }.into());
    }
    let first = |names: [&str; 2]| names.into_iter().find_map(|name| number(&usage[name]));
    let total = number(&usage["total_tokens"]);
    let (input, output) =
        match (first(["prompt_tokens", "input_tokens"]), first(["completion_tokens", "output_tokens"])) {
            (Some(input), Some(output)) => (input, output),
            (Some(input), None) if endpoint == Endpoint::Embeddings => (input, 0),
            (Some(input), None) => (input, total?.checked_sub(input)?),
            (None, Some(output)) => (total?.checked_sub(output)?, output),
            (None, None) => return None,
        };
    let cache = Cache::read(usage);
    let reasoning = OUTPUT_DETAILS.iter().find_map(|of| number(&usage[of]["reasoning_tokens"])).unwrap_or(0);
    let (beside, hidden) = match total.map(|total| total.saturating_sub(input.saturating_add(output))) {
        _ if endpoint == Endpoint::Embeddings => (0, 0),
        Some(more) if more > 0 => explained(more, &cache, reasoning),
        // Inside the input, unless it cannot be or its names say otherwise.
        Some(_) => (if cache.fits(input) { 0 } else { cache.sum() }, 0),
        None if cache.is_beside || !cache.fits(input) => (cache.sum(), 0),
        None => (0, 0),
    };
    let (input, output) = (input.saturating_add(beside), output.saturating_add(hidden));
    let cached = cache.read.min(input);
    let tokens = Tokens { input, cached, output, reasoning: reasoning.min(output) };
    Some(Usage { tokens, cache_write: cache.write.min(input - cached) })
}

/// What is said of the provider's cache.
struct Cache {
    read: u64,
    write: u64,
    /// Whether its names are those of an interface that counts the input without it.
    is_beside: bool,
    /// Whether its names are those of one that counts it in the input always.
    is_inside: bool,
}

impl Cache {
    fn read(usage: &Value) -> Self {
        let of = |names: &[&str]| {
            let details = INPUT_DETAILS.iter().map(|details| &usage[*details]);
            let counts = details.chain([usage]).flat_map(|of| names.iter().filter_map(|name| number(&of[*name])));
            counts.max().unwrap_or(0)
        };
        // How long what was written is kept, one count for each duration.
        let parts = |of: &Value| {
            let counts = of["cache_creation"].as_object().into_iter().flatten();
            counts.filter_map(|(_, count)| number(count)).fold(0_u64, u64::saturating_add)
        };
        let hits = number(&usage["prompt_cache_hit_tokens"]);
        let details = INPUT_DETAILS.iter().map(|details| &usage[*details]);
        let parts = details.chain([usage]).map(parts).max().unwrap_or(0);
        let (read, write) = (of(&CACHE_READ), of(&CACHE_WRITE).max(parts));
        Self {
            read: read.max(hits.unwrap_or(0)),
            write,
            is_beside: usage.get("input_tokens").is_some()
                && (usage.get("cache_read_input_tokens").is_some()
                    || usage.get("cache_creation_input_tokens").is_some()),
            is_inside: hits.is_some() && read == 0 && write == 0,
        }
    }

    fn sum(&self) -> u64 {
        self.read.saturating_add(self.write)
    }

    fn fits(&self, input: u64) -> bool {
        self.is_inside || self.sum() <= input
    }
}

/// What a total has more than input and output together, as more input and more
/// output. Some leave the cache out of the input, some the reasoning out of the
/// output. What nothing explains is output that is not shown.
fn explained(more: u64, cache: &Cache, reasoning: u64) -> (u64, u64) {
    let inputs = [cache.sum(), cache.read, cache.write, 0];
    let ways = [0, reasoning].into_iter().flat_map(|output| inputs.map(|input| (input, output)));
    let fits = |(input, output): &(u64, u64)| input.saturating_add(*output) == more;
    ways.into_iter().find(fits).unwrap_or((0, more))
}

/// A count that can be believed: a whole number, also when it is written as
/// `10.0` (RFC 8259, section 6).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and in range")]
fn number(value: &Value) -> Option<u64> {
    let whole = |number: f64| (number.fract() == 0.0 && (0.0..=1e9).contains(&number)).then_some(number as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole)).filter(|number| *number <= ABSURD)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what is in range is let through only")]
fn whole_seconds(seconds: f64) -> Option<u64> {
    (0.0..=1e7).contains(&seconds).then(|| seconds.ceil() as u64)
}

/// Tokens of output in an answer that does not say how many they were: counted
/// by the vocabulary, or by the bytes of what was written. Reasoning that is not
/// shown is not in it; [`Price::reasons`] tells whether there can be some.
#[must_use]
pub fn count_output(endpoint: Endpoint, answer: &[u8], price: &Price) -> u64 {
    let written = match endpoint {
        Endpoint::Embeddings => return 0,
        Endpoint::AudioSpeech | Endpoint::AudioTranscriptions if price.unit() != Unit::Token => return 0,
        Endpoint::AudioSpeech => return json::length(answer.len()) / SPEECH_BYTES + 1,
        Endpoint::AudioTranscriptions => "text",
        Endpoint::ChatCompletions => "choices",
        Endpoint::Responses => "output",
    };
    let repaired = lenient::repair(answer);
    let fields = serde_json::from_slice::<Entries<'_>>(&repaired).ok();
    match fields.as_ref().and_then(|fields| fields.get(written)) {
        Some(written) => written_in(written, price.vocabulary(), DEPTH),
        // It cannot be read, so it counts in full.
        None => json::length(answer.len()),
    }
}

/// Tokens of all that a model wrote into a value.
fn written_in(raw: &RawValue, vocabulary: Vocabulary, depth: u32) -> u64 {
    let text = raw.get();
    let Some(inner) = depth.checked_sub(1) else { return json::bytes(raw) };
    match text.as_bytes().first() {
        Some(b'"') => json::text(raw).map_or_else(|| json::bytes(raw), |text| vocabulary.count(&text)),
        Some(b'[') => {
            let items = json::items(raw).unwrap_or_default();
            items.into_iter().fold(0, |sum, item| sum.saturating_add(written_in(item, vocabulary, inner)))
        }
        Some(b'{') => {
            let fields = Entries::of(raw).map(|Entries(fields)| fields).unwrap_or_default();
            let written = fields.into_iter().filter(|(name, _)| !NOT_WRITTEN.contains(&&**name));
            written.fold(0, |sum, (_, value)| sum.saturating_add(written_in(value, vocabulary, inner)))
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::price::Prices;

    fn of(endpoint: Endpoint, answer: &str) -> Option<(u64, u64, u64, u64)> {
        let unit = if answer.contains("duration") { Unit::Second } else { Unit::Token };
        usage(endpoint, answer.as_bytes(), unit)
            .map(|Usage { tokens: it, .. }| (it.input, it.cached, it.output, it.reasoning))
    }

    #[test]
    fn usage_is_read_from_answers() {
        use Endpoint::{AudioSpeech, AudioTranscriptions, ChatCompletions, Embeddings, Responses};
        let chat = |usage: &str| of(ChatCompletions, &format!(r#"{{"id": "x", "usage": {usage}}}"#));
        assert_eq!(
            chat(
                r#"{"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17,
                "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 5}}"#
            ),
            Some((10, 4, 7, 5))
        );
        assert_eq!(
            chat(r#"{"prompt_tokens": 10, "completion_tokens": 7, "prompt_tokens_details": null}"#),
            Some((10, 0, 7, 0))
        );
        assert_eq!(
            chat(r#"{"prompt_tokens": 10, "completion_tokens": 7, "prompt_cache_hit_tokens": 99}"#),
            Some((10, 10, 7, 0))
        );
        // Reasoning beside the output, and only in the total.
        assert_eq!(
            chat(
                r#"{"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 67, "completion_tokens_details": {"reasoning_tokens": 50}}"#
            ),
            Some((10, 0, 57, 50))
        );
        let responses = r#"{"usage": {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 1},
            "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 8}, "total_tokens": 12}}"#;
        assert_eq!(of(Responses, responses), Some((3, 1, 9, 8)));
        assert_eq!(of(Embeddings, r#"{"usage": {"prompt_tokens": 8, "total_tokens": 8}}"#), Some((8, 0, 0, 0)));
        assert_eq!(
            of(AudioTranscriptions, r#"{"text": "", "usage": {"type": "duration", "seconds": 3.2}}"#),
            Some((4, 0, 0, 0))
        );
        assert_eq!(of(AudioTranscriptions, r#"{"text": "", "duration": 8.47}"#), Some((9, 0, 0, 0)));
        assert_eq!(
            of(
                AudioTranscriptions,
                r#"{"usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}}"#
            ),
            Some((14, 0, 45, 0))
        );
        assert_eq!(of(AudioSpeech, r#"{"usage": {"prompt_tokens": 1, "completion_tokens": 1}}"#), None);
    }

    #[test]
    fn usage_that_cannot_be_believed_is_none() {
        for usage in [
            "null",
            "{}",
            "[]",
            "7",
            r#"{"prompt_tokens": -1, "completion_tokens": 7}"#,
            r#"{"prompt_tokens": 1.5, "completion_tokens": 7}"#,
            r#"{"prompt_tokens": "1", "completion_tokens": 7}"#,
            r#"{"prompt_tokens": 1}"#,
            r#"{"prompt_tokens": 1, "completion_tokens": 99999999999}"#,
            r#"{"prompt_tokens": 1e400, "completion_tokens": 1}"#,
            r#"{"type": "duration", "seconds": -1}"#,
        ] {
            assert_eq!(of(Endpoint::ChatCompletions, &format!(r#"{{"usage": {usage}}}"#)), None, "{usage}");
        }
        for answer in ["", "<html>", "[]", "null", r#"{"choices": []}"#, r#"{"usage": {"prompt_tokens": 1"#] {
            assert_eq!(of(Endpoint::ChatCompletions, answer), None, "{answer}");
        }
    }

    #[test]
    fn counts_are_whole_numbers_however_they_are_written() {
        let chat = |usage: &str| of(Endpoint::ChatCompletions, &format!(r#"{{"usage": {usage}}}"#));
        for (input, output) in [("10.0", "7.0"), ("1e1", "7"), ("10", "0.7e1"), ("10.00", "7.0e0")] {
            let usage = format!(r#"{{"prompt_tokens": {input}, "completion_tokens": {output}}}"#);
            assert_eq!(chat(&usage), Some((10, 0, 7, 0)), "{usage}");
        }
        // What is missing follows from the total.
        assert_eq!(chat(r#"{"prompt_tokens": 10, "total_tokens": 17}"#), Some((10, 0, 7, 0)));
        assert_eq!(chat(r#"{"completion_tokens": 7, "total_tokens": 17.0}"#), Some((10, 0, 7, 0)));
    }

    #[test]
    fn the_cache_belongs_to_the_input() {
        let chat = |usage: &str| {
            let answer = format!(r#"{{"usage": {usage}}}"#);
            let Usage { tokens, cache_write } = usage_in(&answer);
            (tokens.input, tokens.cached, cache_write, tokens.output)
        };
        for (usage, expected) in [
            // Inside the input.
            (
                r#"{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105,"prompt_tokens_details":{"cached_tokens":40,"cache_write_tokens":50}}"#,
                (100, 40, 50, 5),
            ),
            (
                r#"{"prompt_tokens":100,"completion_tokens":5,"cache_read_input_tokens":40,"cache_creation_input_tokens":50}"#,
                (100, 40, 50, 5),
            ),
            (r#"{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105,"cached_tokens":40}"#, (100, 40, 0, 5)),
            (
                r#"{"prompt_tokens":100,"completion_tokens":5,"prompt_cache_hit_tokens":40,"prompt_cache_miss_tokens":60}"#,
                (100, 40, 0, 5),
            ),
            (
                r#"{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105,"prompt_tokens_details":{"cached_tokens":0,"cache_creation_input_tokens":50,"cache_creation":{"ephemeral_5m_input_tokens":50}}}"#,
                (100, 0, 50, 5),
            ),
            // Beside it: by the total, by the names, because there is no room inside.
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":105,"prompt_tokens_details":{"cached_tokens":40,"cache_write_tokens":50}}"#,
                (100, 40, 50, 5),
            ),
            (
                r#"{"prompt_tokens":60,"completion_tokens":5,"total_tokens":105,"cache_read_input_tokens":40}"#,
                (100, 40, 0, 5),
            ),
            (
                r#"{"input_tokens":10,"output_tokens":5,"cache_read_input_tokens":40,"cache_creation_input_tokens":50}"#,
                (100, 40, 50, 5),
            ),
            (r#"{"input_tokens":60,"output_tokens":5,"cache_read_input_tokens":40}"#, (100, 40, 0, 5)),
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"cache_read_input_tokens":40,"cache_creation_input_tokens":50}"#,
                (100, 40, 50, 5),
            ),
            (
                r#"{"inputTokens":0,"input_tokens":10,"output_tokens":5,"total_tokens":105,"cacheReadInputTokens":40,"cacheWriteInputTokens":50}"#,
                (100, 40, 50, 5),
            ),
            // With reasoning beside the output as well.
            (
                r#"{"prompt_tokens":60,"completion_tokens":5,"total_tokens":125,"cache_read_input_tokens":40,"completion_tokens_details":{"reasoning_tokens":20}}"#,
                (100, 40, 0, 25),
            ),
            // What nothing explains is output.
            (
                r#"{"prompt_tokens":100,"completion_tokens":5,"total_tokens":125,"prompt_tokens_details":{"cached_tokens":40}}"#,
                (100, 40, 0, 25),
            ),
        ] {
            assert_eq!(chat(usage), expected, "{usage}");
        }
    }

    fn usage_in(answer: &str) -> Usage {
        usage(Endpoint::ChatCompletions, answer.as_bytes(), Unit::Token).expect("a usage")
    }

    #[test]
    fn a_byte_that_is_not_utf_8_hides_no_usage() {
        let answer = b"{\"choices\":[{\"message\":{\"content\":\"\xff\"}}],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":7}}";
        let found = usage(Endpoint::ChatCompletions, answer, Unit::Token).expect("a usage");
        assert_eq!((found.tokens.input, found.tokens.output), (10, 7));
    }

    #[test]
    fn an_answer_without_usage_is_counted() {
        let prices = Prices::shipped();
        let (known, unknown) =
            (prices.of("", "gpt-4o").expect("a price"), prices.of("", "claude-haiku-4-5").expect("a price"));
        let chat = r#"{"id": "chatcmpl-1", "choices": [{"index": 0, "finish_reason": "stop", "message":
            {"role": "assistant", "content": "hello world", "tool_calls": [{"id": "call_1", "type": "function",
            "function": {"name": "hello", "arguments": "hello world"}}]}}]}"#;
        assert_eq!(count_output(Endpoint::ChatCompletions, chat.as_bytes(), &known), 2 + 1 + 2);
        assert_eq!(count_output(Endpoint::ChatCompletions, chat.as_bytes(), &unknown), 11 + 5 + 11);
        let response = r#"{"output": [{"type": "message", "role": "assistant", "content":
            [{"type": "output_text", "text": "hello world", "annotations": [{"url": "https://example.com"}]}]}]}"#;
        assert_eq!(count_output(Endpoint::Responses, response.as_bytes(), &known), 2);
        assert_eq!(count_output(Endpoint::ChatCompletions, b"<html>", &known), 6);
        assert_eq!(count_output(Endpoint::Embeddings, b"{}", &known), 0);
        let deep = format!(r#"{{"choices": {}"a"{}}}"#, "[".repeat(60), "]".repeat(60));
        assert!(count_output(Endpoint::ChatCompletions, deep.as_bytes(), &known) > 80);
    }
}
