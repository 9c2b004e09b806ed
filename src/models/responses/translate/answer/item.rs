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

/// What the model has thought, as far as its provider shows it.
#[derive(Default)]
pub(super) struct Thought {
    pub text: String,
    pub halves: Halves,
    /// Whether its text has begun, and whether it goes on.
    pub has_begun: bool,
    pub is_open: bool,
    /// The member of the message that the text is from.
    pub name: Option<String>,
    /// Whether it comes after what it belongs to.
    pub ends: bool,
    /// Everything that goes back to the provider.
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
    /// The provider's number for it.
    pub index: u64,
    /// The provider's id for it, and the one that it is shown under.
    pub id: String,
    pub shown: String,
    pub name: String,
    pub arguments: String,
    pub halves: Halves,
    /// Of a tool that takes any text.
    pub is_custom: bool,
    /// Whether that text came as it is.
    pub is_plain: bool,
    /// What nobody knows here.
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

    /// The text for a tool that takes any: the one that the arguments have. What is no
    /// such thing is the text itself.
    pub fn input(&self) -> String {
        let whole = &self.arguments;
        let text = || -> Option<String> {
            // Cut short, it can still be read.
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

    /// What begins the item's id.
    pub fn prefix(&self) -> &'static str {
        match &self.what {
            What::Thought(_) => "rs",
            What::Message(_) => "msg",
            What::Call(call) if call.is_custom => "ctc",
            What::Call(_) => "fc",
        }
    }

    /// The item, without what its provider wrote beside.
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

/// Adds to an item what its provider wrote beside. Where the same is sealed, too, it is
/// there in any case: a client that sends it back has kept that of the other items.
pub(super) fn with(mut item: Value, theirs: Option<&Theirs>) -> Value {
    if let Some(theirs) = theirs.filter(|theirs| !theirs.is_empty() || item.get("encrypted_content").is_some()) {
        item[MEMBER] = theirs.written().into();
    }
    item
}
