//! What a call has used: as the provider says in its answer, or counted here
//! where it says nothing.

mod stream;

use serde_json::Value;
use serde_json::value::RawValue;

use super::Endpoint;
use super::json::{self, Entries};
use super::price::{Price, Unit};
use super::tokens::Vocabulary;
use crate::budgets::Tokens;

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

/// What a whole answer says of its use; none where it says nothing that can be
/// believed, or speaks of another unit than the price. Of transcriptions that are
/// paid by time, `input` is in seconds.
#[must_use]
pub fn usage(endpoint: Endpoint, answer: &[u8], unit: Unit) -> Option<Tokens> {
    if endpoint == Endpoint::AudioSpeech {
        return None;
    }
    let answer = serde_json::from_slice::<Entries<'_>>(answer).ok()?;
    match answer.get("usage") {
        Some(usage) => {
            let timed = json::read::<Value>(usage).is_some_and(|usage| usage["type"] == "duration");
            let told = if timed { Unit::Second } else { Unit::Token };
            read_usage(endpoint, usage).filter(|_| told == unit)
        }
        None if unit != Unit::Second => None,
        None if endpoint == Endpoint::AudioTranscriptions => {
            let seconds = json::read::<f64>(answer.get("duration")?)?;
            Some(Tokens { input: whole_seconds(seconds)?, ..Tokens::default() })
        }
        None => None,
    }
}

/// The object `usage`, in the words of whichever endpoint.
fn read_usage(endpoint: Endpoint, raw: &RawValue) -> Option<Tokens> {
    let usage: Value = json::read(raw)?;
    if usage["type"] == "duration" {
        return Some(Tokens { input: whole_seconds(usage["seconds"].as_f64()?)?, ..Tokens::default() });
    }
    let first = |names: [&str; 2]| names.into_iter().find_map(|name| number(&usage[name]));
    let input = first(["prompt_tokens", "input_tokens"])?;
    let said = first(["completion_tokens", "output_tokens"]);
    let mut output = match said {
        Some(output) => output,
        None if endpoint == Endpoint::Embeddings => 0,
        None => return None,
    };
    let detail = |of: [&str; 2], name| of.into_iter().find_map(|of| number(&usage[of][name])).unwrap_or(0);
    let reasoning = detail(["completion_tokens_details", "output_tokens_details"], "reasoning_tokens");
    // Some leave reasoning out of the output and have it in the total; it is paid for as output.
    if let Some(total) = number(&usage["total_tokens"])
        && endpoint != Endpoint::Embeddings
    {
        output = output.max(total.saturating_sub(input));
    }
    let cached = detail(["prompt_tokens_details", "input_tokens_details"], "cached_tokens");
    let cached = cached.max(number(&usage["prompt_cache_hit_tokens"]).unwrap_or(0));
    Some(Tokens { input, cached: cached.min(input), output, reasoning: reasoning.min(output) })
}

/// A count that can be believed.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().filter(|number| *number <= ABSURD)
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
    let fields = serde_json::from_slice::<Entries<'_>>(answer).ok();
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
        usage(endpoint, answer.as_bytes(), unit).map(|it| (it.input, it.cached, it.output, it.reasoning))
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
