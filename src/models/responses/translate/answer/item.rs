//! The items of an answer while they are being made.

use serde_json::{Value, json};

use super::super::theirs::{Fields, MEMBER, Theirs};
use crate::models::lenient::Halves;

/// An item, in its place.
pub(super) struct Item {
    pub what: What,
    /// Whether the event has been sent that says it is over.
    pub is_done: bool,
}

pub(super) enum What {
    Thought(Thought),
    Message(Vec<Part>),
    Call(Call),
}

/// Reasoning that the provider shows.
#[derive(Default)]
pub(super) struct Thought {
    pub text: String,
    pub halves: Halves,
    /// Whether it has text, and whether more can follow.
    pub has_begun: bool,
    pub is_open: bool,
    /// The member of the message that the text came from.
    pub name: Option<&'static str>,
    /// Whether it follows the message or call that it belongs to.
    pub ends: bool,
    /// `encrypted_content`.
    pub sealed: Option<String>,
}

/// A part of a message.
pub(super) struct Part {
    pub is_refusal: bool,
    pub text: String,
    pub halves: Halves,
    pub logprobs: Vec<Value>,
    pub is_open: bool,
}

/// A call of a tool.
#[derive(Default)]
pub(super) struct Call {
    /// The provider's `index`.
    pub index: u64,
    /// The provider's id, and the `call_id` that clients see.
    pub id: String,
    pub shown: String,
    pub name: String,
    pub arguments: String,
    pub halves: Halves,
    /// Whether it calls a custom tool.
    pub is_custom: bool,
    /// Whether the arguments are the plain input of a custom tool.
    pub is_plain: bool,
    /// Unknown members.
    pub rest: Fields,
}

impl Thought {
    pub fn json(&self, is_summary: bool) -> Value {
        let parts = if self.has_begun { vec![self.part(is_summary)] } else { Vec::new() };
        let mut item = if is_summary {
            json!({ "type": "reasoning", "summary": parts })
        } else {
            json!({ "type": "reasoning", "summary": [], "content": parts })
        };
        if let Some(sealed) = &self.sealed {
            item["encrypted_content"] = sealed.as_str().into();
        }
        item
    }

    pub fn part(&self, is_summary: bool) -> Value {
        json!({ "type": if is_summary { "summary_text" } else { "reasoning_text" }, "text": self.text })
    }
}

impl Part {
    pub fn new(is_refusal: bool) -> Self {
        Self { is_refusal, text: String::new(), halves: Halves::default(), logprobs: Vec::new(), is_open: true }
    }

    pub fn json(&self) -> Value {
        if self.is_refusal {
            return json!({ "type": "refusal", "refusal": self.text });
        }
        json!({ "type": "output_text", "text": self.text, "annotations": [], "logprobs": self.logprobs })
    }
}

impl Call {
    pub fn json(&self, is_done: bool) -> Value {
        if self.is_custom {
            let input = if is_done { self.input() } else { String::new() };
            return json!({ "type": "custom_tool_call", "call_id": self.shown, "name": self.name, "input": input });
        }
        let arguments = &self.arguments;
        json!({ "type": "function_call", "call_id": self.shown, "name": self.name, "arguments": arguments })
    }

    /// The input of a custom tool: the member `input` of the arguments, or their only
    /// text. Arguments of any other form are the input themselves.
    pub fn input(&self) -> String {
        let whole = &self.arguments;
        let text = || -> Option<String> {
            // Also if the arguments were cut off.
            let read = |end: &str| serde_json::from_str::<Value>(&format!("{whole}{end}")).ok();
            match ["", "}", "\"}"].into_iter().find_map(read)? {
                Value::String(text) => Some(text),
                Value::Object(fields) => {
                    let only = if fields.len() == 1 { fields.values().next() } else { None };
                    fields.get("input").or(only)?.as_str().map(str::to_owned)
                }
                _ => None,
            }
        };
        if self.is_plain { whole.clone() } else { text().unwrap_or_else(|| whole.clone()) }
    }
}

impl Item {
    pub fn new(what: What) -> Self {
        Self { what, is_done: false }
    }

    /// The prefix of the item's id.
    pub fn prefix(&self) -> &'static str {
        match &self.what {
            What::Thought(_) => "rs",
            What::Message(_) => "msg",
            What::Call(call) if call.is_custom => "ctc",
            What::Call(_) => "fc",
        }
    }

    /// The item without `provider_data`.
    pub fn json(&self, id: String, status: &str, is_summary: bool) -> Value {
        let mut item = match &self.what {
            What::Thought(thought) => thought.json(is_summary),
            What::Message(parts) => {
                let content: Vec<_> = parts.iter().map(Part::json).collect();
                json!({ "type": "message", "role": "assistant", "content": content })
            }
            What::Call(call) => call.json(status != "in_progress"),
        };
        item["id"] = id.into();
        item["status"] = status.into();
        item
    }
}

/// Adds `provider_data`. A sealed item always has it: if it comes back, the client keeps
/// unknown members, so the sealed copy must not count a second time.
pub(super) fn with(mut item: Value, theirs: Option<&Theirs>) -> Value {
    if let Some(theirs) = theirs.filter(|theirs| !theirs.is_empty() || item.get("encrypted_content").is_some()) {
        item[MEMBER] = theirs.written().into();
    }
    item
}
