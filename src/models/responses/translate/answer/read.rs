//! Reading what chat providers send: the many ways in which they say the same.

use serde_json::{Value, json};

use super::super::merge::is_nothing;
use super::super::theirs::Fields;

/// Members of a message that are translated.
const KNOWN: &[&str] = &["content", "function_call", "refusal", "role", "tool_calls"];
/// Members whose text is what the model has thought.
const THOUGHTS: &[&str] = &["reasoning_content", "reasoning", "reasoning_text", "thinking"];
/// Members that are blocks of it.
const BLOCKS: &[&str] = &["reasoning_details", "thinking_blocks"];
/// Parts of content that are text.
const TEXTS: &[&str] = &["text", "output_text", "input_text"];

/// The place of the choice that is followed: the first one seen, in whatever order they come.
pub(super) fn choice(chunk: &Value, followed: &mut Option<i64>) -> Option<usize> {
    let choices = chunk["choices"].as_array()?;
    let index = |choice: &Value| choice["index"].as_i64().unwrap_or(0);
    let wanted = match *followed {
        Some(wanted) => wanted,
        None => *followed.insert(choices.iter().map(index).min()?),
    };
    choices.iter().position(|choice| index(choice) == wanted)
}

/// What a part of a message says.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub text: String,
    pub refusal: String,
    /// What the model has thought, by where it was said: the member, or none where it
    /// stands in something that is kept whole.
    pub thought: Option<(Source, String)>,
    /// Parts of content, where they are more than text.
    pub parts: Option<Vec<Value>>,
    /// Whether any of those is none.
    pub has_other_parts: bool,
    /// Members that nobody knows here.
    pub rest: Fields,
}

/// Where thoughts are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A member whose text it is.
    Member(String),
    /// A member that has blocks.
    Blocks(String),
    /// The content.
    Content,
}

impl Said {
    /// Reads the part of a message; thoughts from `source`, once it is known.
    pub fn read(delta: &Value, source: Option<&Source>) -> Self {
        let mut said = Self::default();
        let Value::Object(fields) = delta else { return said };
        let mut thoughts = Vec::new();
        for name in THOUGHTS {
            let text = fields.get(*name).and_then(Value::as_str).unwrap_or_default();
            thoughts.push((Source::Member((*name).to_owned()), text.to_owned()));
        }
        for name in BLOCKS {
            let blocks = fields.get(*name).and_then(Value::as_array).into_iter().flatten();
            thoughts.push((Source::Blocks((*name).to_owned()), blocks.map(thought).collect()));
        }
        let in_content = said.content(fields.get("content").unwrap_or(&Value::Null));
        thoughts.push((Source::Content, in_content));
        if let Some(refusal) = fields.get("refusal").and_then(Value::as_str) {
            said.refusal.push_str(refusal);
        }
        said.thought =
            thoughts.into_iter().find(|(from, text)| !text.is_empty() && source.is_none_or(|source| source == from));
        for (name, value) in fields {
            let is_shown = matches!(&said.thought, Some((Source::Member(shown), _)) if shown == name);
            if !KNOWN.contains(&name.as_str()) && !is_shown && !is_nothing(value) {
                said.rest.insert(name.clone(), value.clone());
            }
        }
        said
    }

    /// Reads content; what was thought in it.
    fn content(&mut self, content: &Value) -> String {
        let mut thoughts = String::new();
        match content {
            Value::String(text) => self.text.push_str(text),
            Value::Array(parts) => {
                for part in parts {
                    self.part(part, &mut thoughts);
                }
                self.parts = Some(parts.clone());
            }
            Value::Object(_) => self.part(content, &mut thoughts),
            _ => {}
        }
        thoughts
    }

    fn part(&mut self, part: &Value, thoughts: &mut String) {
        let kind = part["type"].as_str().unwrap_or("text");
        if let Value::String(text) = part {
            self.text.push_str(text);
        } else if TEXTS.contains(&kind) {
            self.text.push_str(part["text"].as_str().unwrap_or_default());
            self.has_other_parts |= part.as_object().is_some_and(|fields| fields.len() > 2);
        } else if kind == "refusal" {
            self.refusal.push_str(part["refusal"].as_str().unwrap_or_default());
        } else {
            if kind.contains("thinking") || kind.contains("reasoning") {
                thoughts.push_str(&thought(part));
            }
            self.has_other_parts = true;
        }
    }
}

/// The text of a block of thought.
fn thought(block: &Value) -> String {
    let member = ["thinking", "text", "reasoning", "summary"].into_iter().map(|name| &block[name]);
    match member.into_iter().find(|member| !is_nothing(member)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().map(|part| part["text"].as_str().unwrap_or_default()).collect(),
        _ => String::new(),
    }
}

/// A piece of a call of a tool.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// The provider's number for it, where it has one.
    pub index: Option<u64>,
    pub id: String,
    pub name: String,
    pub arguments: String,
    /// Whether that is a plain text for a tool that takes any.
    pub is_plain: bool,
    pub rest: Fields,
}

impl Piece {
    /// Reads a piece in any of the forms that there are: of a function, of a custom
    /// tool, or without either.
    pub fn read(piece: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut read = Self { index: piece["index"].as_u64(), id: text(&piece["id"]), ..Self::default() };
        let form = ["function", "custom"].into_iter().find(|form| piece[*form].is_object());
        let inner = form.map_or(piece, |form| &piece[form]);
        read.is_plain = form == Some("custom");
        read.name = text(&inner["name"]);
        read.arguments = if read.is_plain { text(&inner["input"]) } else { arguments(&inner["arguments"]) };
        let known: &[&str] = if form.is_some() { &[] } else { &["arguments", "name"] };
        for (name, value) in piece.as_object().into_iter().flatten() {
            let is_kind = name == "type" && (value == "function" || value == "custom");
            let is_known =
                ["custom", "function", "id", "index"].contains(&name.as_str()) || known.contains(&name.as_str());
            if !is_known && !is_kind && !is_nothing(value) {
                read.rest.insert(name.clone(), value.clone());
            }
        }
        let beside: Fields = match form {
            Some("function") => {
                let fields = inner.as_object().into_iter().flatten();
                let unknown = |(name, value): &(&String, &Value)| {
                    !["arguments", "name"].contains(&name.as_str()) && !is_nothing(value)
                };
                fields.filter(unknown).map(|(name, value)| (name.clone(), value.clone())).collect()
            }
            _ => Fields::new(),
        };
        if !beside.is_empty() {
            read.rest.insert("function".into(), beside.into());
        }
        read
    }
}

/// Arguments as the JSON text that they should be. An empty object may be only the
/// beginning; where nothing follows, it is said at the end.
fn arguments(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value if is_nothing(value) => String::new(),
        value => value.to_string(),
    }
}

/// How an answer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    Completed,
    Incomplete(&'static str),
    Failed,
}

impl Finish {
    /// By the reason that the provider gives, in the words of any of them.
    pub fn of(reason: &str) -> Self {
        match reason.to_ascii_lowercase().as_str() {
            "length" | "max_tokens" | "max_output_tokens" | "model_length" => Self::Incomplete("max_output_tokens"),
            "content_filter" | "safety" | "recitation" | "blocklist" | "prohibited_content" | "spii" | "sensitive"
            | "image_safety" => Self::Incomplete("content_filter"),
            "error" | "network_error" | "insufficient_system_resource" => Self::Failed,
            _ => Self::Completed,
        }
    }
}

/// What a provider says that went wrong.
pub(super) fn message(error: &Value) -> &str {
    let message = error["message"].as_str().or(error.as_str());
    message.filter(|message| !message.is_empty()).unwrap_or("the provider broke the answer off")
}

/// The usage in the words of this interface.
pub(super) fn usage(usage: &Value) -> Value {
    let count = |value: &Value| whole(value).unwrap_or(0);
    let (input, output) = (count(&usage["prompt_tokens"]), count(&usage["completion_tokens"]));
    json!({
        "input_tokens": input,
        "input_tokens_details": { "cached_tokens": count(&usage["prompt_tokens_details"]["cached_tokens"]) },
        "output_tokens": output,
        "output_tokens_details": { "reasoning_tokens": count(&usage["completion_tokens_details"]["reasoning_tokens"]) },
        "total_tokens": whole(&usage["total_tokens"]).unwrap_or_else(|| input.saturating_add(output)),
    })
}

/// A whole number, also one that is written as `10.0` (RFC 8259, section 6).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what is in range is let through only")]
fn whole(value: &Value) -> Option<u64> {
    let in_range = |number: &f64| number.fract() == 0.0 && (0.0..9e15).contains(number);
    value.as_u64().or_else(|| value.as_f64().filter(in_range).map(|number| number as u64))
}
