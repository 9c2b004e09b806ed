//! Reads what chat providers send, in all the forms that are in use.

use serde_json::{Value, json};

use super::super::merge::is_nothing;
use super::super::theirs::Fields;

/// Members of a message that are translated.
const KNOWN: &[&str] = &["content", "function_call", "refusal", "role", "tool_calls"];
/// Members that are reasoning text.
const THOUGHTS: &[&str] = &["reasoning_content", "reasoning", "reasoning_text", "thinking"];
/// Members that are lists of reasoning blocks.
const BLOCKS: &[&str] = &["reasoning_details", "thinking_blocks"];
/// Parts of content that are text.
const TEXTS: &[&str] = &["text", "output_text", "input_text"];

/// The index in `choices` of the choice that is used: always the one seen first.
pub(super) fn choice(chunk: &Value, followed: &mut Option<i64>) -> Option<usize> {
    let choices = chunk["choices"].as_array()?;
    let index = |choice: &Value| choice["index"].as_i64().unwrap_or(0);
    let wanted = match *followed {
        Some(wanted) => wanted,
        None => *followed.insert(choices.iter().map(index).min()?),
    };
    choices.iter().position(|choice| index(choice) == wanted)
}

/// What a delta, or a whole message, says.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub text: String,
    pub refusal: String,
    /// Reasoning text, and where it was found.
    pub thought: Option<(Source, String)>,
    /// Content that came as a list of parts.
    pub parts: Option<Vec<Value>>,
    /// Whether any of them is not plain text.
    pub has_other_parts: bool,
    /// Unknown members.
    pub rest: Fields,
}

/// Where reasoning text is found. A provider may send it in several places; one is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A member that is the text.
    Member(&'static str),
    /// A member that is a list of blocks.
    Blocks(&'static str),
    /// Parts of the content.
    Content,
}

impl Said {
    /// Reads a delta. Reasoning is taken from `source`, once that is known.
    pub fn read(delta: &Value, source: Option<Source>) -> Self {
        let mut said = Self::default();
        let Value::Object(fields) = delta else { return said };
        let in_content = said.content(fields.get("content").unwrap_or(&Value::Null));
        if let Some(refusal) = fields.get("refusal").and_then(Value::as_str) {
            said.refusal.push_str(refusal);
        }
        said.thought = thought_in(fields, in_content, source);
        for (name, value) in fields {
            let is_shown = matches!(&said.thought, Some((Source::Member(shown), _)) if shown == name);
            if !KNOWN.contains(&name.as_str()) && !is_shown && !is_nothing(value) {
                said.rest.insert(name.clone(), value.clone());
            }
        }
        said
    }

    /// Reads content; returns the reasoning in it.
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
            let fields = part.as_object().into_iter().flatten();
            let is_extra = |(name, value): (&String, &Value)| name != "type" && name != "text" && !is_nothing(value);
            self.has_other_parts |= fields.into_iter().any(is_extra);
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

/// The first reasoning text in a delta, or that of `source`.
fn thought_in(fields: &Fields, in_content: String, source: Option<Source>) -> Option<(Source, String)> {
    let is_wanted = |from: Source| source.is_none_or(|source| source == from);
    for name in THOUGHTS {
        let text = fields.get(*name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(text) = text.filter(|_| is_wanted(Source::Member(name))) {
            return Some((Source::Member(name), text.to_owned()));
        }
    }
    for name in BLOCKS {
        let Some(blocks) = fields.get(*name).and_then(Value::as_array) else { continue };
        let text: String = blocks.iter().map(thought).collect();
        if !text.is_empty() && is_wanted(Source::Blocks(name)) {
            return Some((Source::Blocks(name), text));
        }
    }
    (!in_content.is_empty() && is_wanted(Source::Content)).then_some((Source::Content, in_content))
}

/// The text of a reasoning block.
fn thought(block: &Value) -> String {
    let member = ["thinking", "text", "reasoning", "summary"].into_iter().map(|name| &block[name]);
    match member.into_iter().find(|member| !is_nothing(member)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().map(|part| part["text"].as_str().unwrap_or_default()).collect(),
        _ => String::new(),
    }
}

/// A tool call, or a delta of one.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// The provider's `index`.
    pub index: Option<u64>,
    pub id: String,
    pub name: String,
    pub arguments: String,
    /// Whether the arguments are the plain input of a custom tool.
    pub is_plain: bool,
    pub rest: Fields,
}

impl Piece {
    /// Reads it in any form: of a function, of a custom tool, or flat.
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

/// Arguments as JSON text. An empty object may be a placeholder before the first delta;
/// if nothing follows, `{}` is written at the end.
fn arguments(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value if is_nothing(value) => String::new(),
        value => value.to_string(),
    }
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    Completed,
    Incomplete(&'static str),
    Failed,
}

impl Finish {
    /// From `finish_reason`, in the spelling of any provider.
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

/// The message of a provider's error.
pub(super) fn message(error: &Value) -> &str {
    let message = error["message"].as_str().or(error.as_str());
    message.filter(|message| !message.is_empty()).unwrap_or("the provider broke the answer off")
}

/// The usage object of the Responses format.
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
