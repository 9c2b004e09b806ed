//! What an endpoint answers, before the script has its way with how.

use serde_json::{Value, json};

use super::books::Used;
use super::script::Script;
use super::{chat, embeddings, responses, sound};

/// What is asked, as far as the script has a say in it.
pub struct Ask<'a> {
    pub script: &'a Script,
    pub model: &'a str,
    /// Of a form, its fields.
    pub body: &'a Value,
    /// Unlike every other's.
    pub number: u64,
}

/// An answer with nothing wrong.
pub struct Answer {
    pub content_type: &'static str,
    pub body: Body,
    /// What the whole of it uses.
    pub used: Used,
}

pub enum Body {
    Whole(Vec<u8>),
    /// A stream of server-sent events.
    Events(Vec<Event>),
}

/// A piece of a stream.
pub struct Event {
    pub bytes: String,
    pub kind: Kind,
}

/// What sort of piece it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Words around the content.
    Frame,
    /// A piece of content that is so many tokens of output.
    Content(u64),
    /// What says that the stream is over.
    End,
}

impl Event {
    /// Without a name.
    pub fn data(data: &Value, kind: Kind) -> Self {
        Self { bytes: format!("data: {data}\n\n"), kind }
    }

    /// With one, which is the field `type` of the data.
    pub fn named(data: &Value, kind: Kind) -> Self {
        let name = data["type"].as_str().unwrap_or_default();
        Self { bytes: format!("event: {name}\ndata: {data}\n\n"), kind }
    }
}

impl Answer {
    pub fn json(body: &Value, used: Used) -> Self {
        Self { content_type: "application/json", body: Body::Whole(body.to_string().into_bytes()), used }
    }

    pub fn events(events: Vec<Event>, used: Used) -> Self {
        Self { content_type: "text/event-stream", body: Body::Events(events), used }
    }
}

/// `None` for a path that the provider does not have.
pub fn answer(path: &str, ask: &Ask<'_>) -> Option<Answer> {
    match path {
        "/v1/chat/completions" => Some(chat::answer(ask)),
        "/v1/responses" => Some(responses::answer(ask)),
        "/v1/embeddings" => Some(embeddings::answer(ask)),
        "/v1/audio/transcriptions" => Some(sound::transcription(ask)),
        "/v1/audio/speech" => Some(sound::speech(ask)),
        _ => None,
    }
}

/// The word of which a text is made when only the number of its tokens counts:
/// with the space before it one token in each of OpenAI's vocabularies.
const WORD: &str = "hello";
/// Tokens of an answer about which nothing is said.
const USUAL: u64 = 8;

/// What is said, and what that is in tokens.
pub struct Said {
    /// In pieces as they are streamed, each with its tokens.
    pub pieces: Vec<(String, u64)>,
    /// Whether the request's limit cut it short.
    pub cut: bool,
    /// Of it, what was not said.
    pub reasoning: u64,
}

impl Said {
    pub fn text(&self) -> String {
        self.pieces.iter().map(|(text, _)| text.as_str()).collect()
    }

    pub fn tokens(&self) -> u64 {
        self.reasoning + self.pieces.iter().map(|(_, tokens)| tokens).sum::<u64>()
    }
}

impl Ask<'_> {
    /// What the model says, within `limit` tokens of output.
    pub fn says(&self, text: Option<String>, limit: Option<u64>) -> Said {
        let used = self.script.used.unwrap_or_default();
        let text = text.or_else(|| self.script.text.clone());
        let words = text.as_deref().map(|text| text.split_whitespace().count() as u64);
        let wanted = if used.output > 0 { used.output } else { words.unwrap_or(USUAL) };
        let allowed = limit.filter(|_| !self.script.beyond_limits).unwrap_or(u64::MAX);
        let output = wanted.min(allowed);
        let reasoning = used.reasoning.min(output);
        let spoken = output - reasoning;
        let words = match &text {
            // Cut like the model's, at a word.
            Some(text) if output < wanted => split_words(text, usize::try_from(spoken).unwrap_or(usize::MAX)),
            Some(text) => split_words(text, usize::MAX),
            None => (0..spoken).map(|word| if word == 0 { WORD.to_owned() } else { format!(" {WORD}") }).collect(),
        };
        Said { pieces: spread(&words, self.script.chunks, spoken), cut: output < wanted, reasoning }
    }

    /// Tokens of the input: what the script says, else what can be counted.
    pub fn input(&self, count: impl FnOnce() -> u64) -> (u64, u64) {
        let used = self.script.used.unwrap_or_default();
        let input = if used.input > 0 { used.input } else { count() };
        (input, used.cached.min(input))
    }

    /// Adds the field that nobody knows.
    pub fn with_extra(&self, mut body: Value) -> Value {
        if let Some(extra) = &self.script.extra {
            body["x_extra"] = extra.clone();
        }
        body
    }

    /// Whether the request has this field set to true.
    pub fn wants(&self, field: &str) -> bool {
        self.body[field] == json!(true)
    }
}

/// Words with the space before them.
fn split_words(text: &str, most: usize) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for letter in text.chars() {
        let begins = letter == ' ' && words.last().is_some_and(|word| word != " ");
        if words.is_empty() || begins {
            words.push(String::new());
        }
        if words.len() > most {
            words.pop();
            break;
        }
        words.last_mut().into_iter().for_each(|word| word.push(letter));
    }
    words
}

/// Words in so many pieces, each with its part of the tokens.
fn spread(words: &[String], chunks: Option<usize>, tokens: u64) -> Vec<(String, u64)> {
    if words.is_empty() {
        return Vec::new();
    }
    let count = chunks.unwrap_or(words.len()).clamp(1, words.len());
    let up_to = |all: u64, piece: usize| all * piece as u64 / count as u64;
    let place = |piece: usize| usize::try_from(up_to(words.len() as u64, piece)).unwrap_or(usize::MAX);
    (0..count)
        .map(|piece| (words[place(piece)..place(piece + 1)].concat(), up_to(tokens, piece + 1) - up_to(tokens, piece)))
        .collect()
}

/// How many tokens a text is in the model's vocabulary.
pub fn count(model: &str, text: &str) -> u64 {
    let older =
        ["gpt-4-", "gpt-3.5", "text-embedding"].iter().any(|start| model.starts_with(start)) || model == "gpt-4";
    let vocabulary = if older { bpe_openai::cl100k_base() } else { bpe_openai::o200k_base() };
    vocabulary.count(text) as u64
}

/// The smallest value that a schema allows.
pub fn fitting(schema: &Value) -> Value {
    fit(schema, schema, 0)
}

fn fit(schema: &Value, root: &Value, depth: usize) -> Value {
    if depth > 16 {
        return Value::Null;
    }
    if let Some(place) = schema["$ref"].as_str().and_then(|it| it.strip_prefix('#')) {
        return root.pointer(place).map_or(Value::Null, |it| fit(it, root, depth + 1));
    }
    if let Some(value) = schema.get("const").or_else(|| schema["enum"].get(0)) {
        return value.clone();
    }
    if let Some(first) = ["anyOf", "oneOf", "allOf"].iter().find_map(|name| schema[*name].get(0)) {
        return fit(first, root, depth + 1);
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    match kind {
        Some("string") => json!("text"),
        Some("integer") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("number") => schema.get("minimum").cloned().unwrap_or(json!(1.5)),
        Some("boolean") => json!(true),
        Some("array") => json!([fit(&schema["items"], root, depth + 1)]),
        Some("null") => Value::Null,
        _ => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties
                .map(|(name, it)| (name.clone(), fit(it, root, depth + 1)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
    }
}
