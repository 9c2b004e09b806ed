//! What a provider's JSON says, as far as the gateway goes by it: read in one
//! pass, and judged by one rule for whole answers, events of streams, batches and
//! the cache.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json::Text;
use super::{Endpoint, lenient};

/// Choices of a chat that are told apart; a call cannot ask for more.
const CHOICES: u64 = 128;

/// The members of an answer, or of an event of a stream, that matter here. A
/// member that is null counts as absent.
#[derive(Debug, Default)]
pub(super) struct Members<'a> {
    /// The type of an event.
    pub kind: Option<&'a RawValue>,
    pub status: Option<&'a RawValue>,
    pub error: Option<&'a RawValue>,
    pub usage: Option<&'a RawValue>,
    pub choices: Choices<'a>,
    /// The items of a response.
    pub output: Option<&'a RawValue>,
    /// The vectors of embeddings.
    pub data: Option<&'a RawValue>,
    /// What an event of a response or of speech adds.
    pub delta: Option<&'a RawValue>,
    /// The response in an event.
    pub response: Option<&'a RawValue>,
    /// The item in an event of a response.
    pub item: Option<&'a RawValue>,
    /// Seconds of a recording.
    pub duration: Option<&'a RawValue>,
}

/// The choices of a chat.
#[derive(Debug, Default)]
pub(super) struct Choices<'a> {
    /// What each choice says, in a whole answer (`message`) or in a piece of a
    /// stream (`delta`); objects only.
    pub said: Vec<&'a RawValue>,
    /// Whether there is any choice at all.
    pub any: bool,
    /// By index, those that are there and those that say why they end.
    pub seen: u128,
    pub finished: u128,
    /// What went wrong with one of them.
    pub error: Option<&'a RawValue>,
}

impl<'a> Members<'a> {
    /// Reads an object. Bytes that are not UTF-8, halves of surrogate pairs and
    /// numbers such as NaN do not matter; `repaired` holds what they were replaced in.
    pub(super) fn read(bytes: &'a [u8], repaired: &'a mut Vec<u8>) -> Option<Self> {
        if let Some(members) = Self::strictly(bytes) {
            return Some(members);
        }
        *repaired = lenient::repair(bytes).into_owned();
        Self::strictly(repaired)
    }

    fn strictly(bytes: &'a [u8]) -> Option<Self> {
        // Checked once for all of it, and not again for each name and value.
        let mut reader = serde_json::Deserializer::from_str(std::str::from_utf8(bytes).ok()?);
        let members = reader.deserialize_map(Object).ok()?;
        reader.end().ok()?;
        Some(members)
    }

    /// The type of an event.
    pub(super) fn kind(&self) -> Cow<'a, str> {
        self.kind.and_then(super::json::text).unwrap_or_default()
    }
}

/// Why what came with a status of success is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It says that something went wrong.
    Error,
    /// It lacks what an answer must have.
    Lacks(&'static str),
}

/// Whether a whole answer in JSON is one.
///
/// # Errors
/// Why it is not.
pub(super) fn judge(endpoint: Endpoint, answer: &Members<'_>) -> Result<(), NoAnswer> {
    if is_error(answer) {
        return Err(NoAnswer::Error);
    }
    let (has_it, what) = match endpoint {
        Endpoint::ChatCompletions => (!answer.choices.said.is_empty(), "choices"),
        Endpoint::Responses => (answer.output.is_some_and(is_list), "output"),
        Endpoint::Embeddings => (answer.data.is_some_and(|data| is_list(data) && !is_empty(data)), "data"),
        Endpoint::AudioTranscriptions | Endpoint::AudioSpeech => (true, ""),
    };
    if has_it { Ok(()) } else { Err(NoAnswer::Lacks(what)) }
}

/// Whether an answer, or an event of a stream, says that something went wrong.
pub(super) fn is_error(answer: &Members<'_>) -> bool {
    let says = |error: Option<&RawValue>| error.is_some_and(|error| !is_empty(error));
    let text = |raw: Option<&RawValue>, wanted: &str| raw.and_then(super::json::text).is_some_and(|it| it == wanted);
    says(answer.error)
        || answer.choices.error.is_some()
        || text(answer.kind, "error")
        || text(answer.kind, "response.failed")
        || text(answer.status, "failed")
}

/// Whether it is nothing, or `false`, or has nothing in it.
fn is_empty(raw: &RawValue) -> bool {
    let text = raw.get().as_bytes();
    let inside = text.get(1..text.len().saturating_sub(1)).unwrap_or_default().trim_ascii();
    match text.first() {
        Some(b'"' | b'[' | b'{') => inside.is_empty(),
        _ => matches!(text, b"null" | b"false" | b"0"),
    }
}

fn is_list(raw: &RawValue) -> bool {
    raw.get().starts_with('[')
}

/// A member that is not null.
fn given<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<&'de RawValue>, A::Error> {
    let value: &RawValue = map.next_value()?;
    Ok((value.get() != "null").then_some(value))
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        while let Some(Text(name)) = map.next_key()? {
            // Of a member that comes twice the last one counts that is not null.
            let place = match &*name {
                "choices" => {
                    map.next_value_seed(List(&mut members.choices))?;
                    continue;
                }
                "type" => &mut members.kind,
                "status" => &mut members.status,
                "error" => &mut members.error,
                "usage" => &mut members.usage,
                "output" => &mut members.output,
                "data" => &mut members.data,
                "delta" => &mut members.delta,
                "response" => &mut members.response,
                "item" => &mut members.item,
                "duration" => &mut members.duration,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if let Some(value) = given(&mut map)? {
                *place = Some(value);
            }
        }
        Ok(members)
    }
}

/// Visits of values that are of another type than the one that matters.
macro_rules! ignore_others {
    ($($visit:ident($type:ty))*) => {
        $(fn $visit<E: serde::de::Error>(self, _: $type) -> Result<(), E> {
            Ok(())
        })*

        fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
            Ok(())
        }

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }
    };
}

/// The list of choices.
struct List<'c, 'a>(&'c mut Choices<'a>);

impl<'de> DeserializeSeed<'de> for List<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_, 'de> {
    type Value = ();

    ignore_others! { visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str) }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut place = 0;
        while list.next_element_seed(Choice(self.0, place))?.is_some() {
            self.0.any = true;
            place += 1;
        }
        Ok(())
    }
}

/// One choice at its place in the list.
struct Choice<'c, 'a>(&'c mut Choices<'a>, u64);

impl<'de> DeserializeSeed<'de> for Choice<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Choice<'_, 'de> {
    type Value = ();

    ignore_others! { visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str) }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(choices, mut index) = self;
        let mut finish = None;
        while let Some(Text(name)) = map.next_key()? {
            match &*name {
                "delta" | "message" => {
                    choices.said.extend(given(&mut map)?.filter(|said| said.get().starts_with('{')));
                }
                "finish_reason" => finish = given(&mut map)?.or(finish),
                "index" => index = given(&mut map)?.and_then(super::json::read).unwrap_or(index),
                "error" => {
                    let error = given(&mut map)?.filter(|error| !is_empty(error));
                    choices.error = error.or(choices.error);
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let place = 1 << index.min(CHOICES - 1);
        choices.seen |= place;
        match finish.map(RawValue::get) {
            None | Some("\"\"" | "false") => {}
            Some("\"error\"") => choices.error = choices.error.or(finish),
            Some(_) => choices.finished |= place,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(endpoint: Endpoint, answer: &str) -> Option<Result<(), NoAnswer>> {
        let mut repaired = Vec::new();
        Members::read(answer.as_bytes(), &mut repaired).map(|members| judge(endpoint, &members))
    }

    #[test]
    fn an_answer_has_what_was_asked_for_and_no_error() {
        use Endpoint::{AudioTranscriptions, ChatCompletions, Embeddings, Responses};
        let (error, good) = (Some(Err(NoAnswer::Error)), Some(Ok(())));
        let lacks = |what| Some(Err(NoAnswer::Lacks(what)));
        for (endpoint, answer, expected) in [
            (ChatCompletions, r#"{"choices":[{"message":{"content":""}}],"error":null}"#, good),
            (ChatCompletions, r#"{"error":{"message":"no","code":502}}"#, error),
            (ChatCompletions, r#"{"error":"overloaded"}"#, error),
            (ChatCompletions, r#"{"error":{"message":"no"},"choices":[{"message":{}}]}"#, error),
            (ChatCompletions, r#"{"choices":[{"message":{},"error":{"code":502}}]}"#, error),
            (ChatCompletions, r#"{"choices":[{"message":{},"finish_reason":"error"}]}"#, error),
            (ChatCompletions, r#"{"type":"error"}"#, error),
            (ChatCompletions, r#"{"choices":[{"message":{}}],"error":{}}"#, good),
            (ChatCompletions, r#"{"choices":[]}"#, lacks("choices")),
            (ChatCompletions, r#"{"choices":null}"#, lacks("choices")),
            (ChatCompletions, r#"{"choices":{"message":{}}}"#, lacks("choices")),
            (ChatCompletions, r#"{"choices":[null,7,[],"x",{}]}"#, lacks("choices")),
            (ChatCompletions, r#"{"choices":[{"message":null}]}"#, lacks("choices")),
            (ChatCompletions, r#"{"object":"error","message":"no","code":40303}"#, lacks("choices")),
            (ChatCompletions, "{}", lacks("choices")),
            (Responses, r#"{"output":[],"error":null,"status":"queued"}"#, good),
            (Responses, r#"{"output":[],"error":{"code":"server_error"},"status":"failed"}"#, error),
            (Responses, r#"{"output":[],"status":"failed"}"#, error),
            (Responses, r#"{"id":"r"}"#, lacks("output")),
            (Embeddings, r#"{"data":[{"embedding":[1]}]}"#, good),
            (Embeddings, r#"{"data":[ ]}"#, lacks("data")),
            (Embeddings, r#"{"error":{"message":"no"}}"#, error),
            (AudioTranscriptions, r#"{"text":""}"#, good),
            (AudioTranscriptions, r#"{"error":{"message":"no"}}"#, error),
            (ChatCompletions, "[]", None),
            (ChatCompletions, "{", None),
            (ChatCompletions, "{} {}", None),
        ] {
            assert_eq!(judged(endpoint, answer), expected, "{answer}");
        }
    }

    #[test]
    fn choices_are_told_apart_by_their_index() {
        let mut repaired = Vec::new();
        let text = br#"{"choices":[{"delta":{"content":"a"}},{"index":5,"delta":{},"finish_reason":"stop"},
            {"index":999,"finish_reason":""}]}"#;
        let choices = Members::read(text, &mut repaired).expect("an object").choices;
        assert_eq!((choices.said.len(), choices.finished), (2, 1 << 5));
        assert_eq!(choices.seen, 1 | 1 << 5 | 1 << 127);
    }

    #[test]
    fn a_byte_that_is_not_utf_8_hides_nothing() {
        let mut repaired = Vec::new();
        let text = b"{\"choices\":[{\"message\":{\"content\":\"\xff\"}}],\"usage\":{\"prompt_tokens\":1}}";
        let members = Members::read(text, &mut repaired).expect("an object");
        assert!(members.usage.is_some() && members.choices.said.len() == 1);
    }
}
