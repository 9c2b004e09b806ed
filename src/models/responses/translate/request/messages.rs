//! The items of a conversation as the messages of a chat.

use serde_json::{Value, json};

use super::super::merge::merge_fields;
use super::super::theirs::{Fields, MEMBER, Theirs};
use super::parts;
use super::wrong::{Checked, Wrong, given, never, only, text};
use crate::models::Members;

/// Members of items, by type. `id`, `status`, `phase` and `created_by` describe an item
/// to clients; they may be sent back, and a model has no use for them.
const MESSAGE: &[&str] = &["type", "id", "status", "phase", "created_by", "role", "content", MEMBER];
const CALL: &[&str] = &["type", "id", "status", "created_by", "call_id", "name", "arguments", "async", MEMBER];
const CUSTOM_CALL: &[&str] = &["type", "id", "status", "created_by", "call_id", "name", "input", "async", MEMBER];
const OUTPUT: &[&str] = &["type", "id", "status", "created_by", "call_id", "output"];
const REASONING: &[&str] = &["type", "id", "status", "created_by", "summary", "content", "encrypted_content", MEMBER];

/// Opens `encrypted_content`. The outer `None`: it was sealed by a provider; the inner
/// one: by this service, but it cannot be opened.
pub(super) type Opener<'a> = &'a dyn Fn(&str) -> Option<Option<Theirs>>;

/// The conversation so far.
pub(super) struct Messages<'a> {
    list: Vec<Value>,
    owned: Vec<Owned>,
    /// Reasoning whose message or call has not come yet, with its text.
    waiting: Vec<(Theirs, String)>,
    opener: Opener<'a>,
}

/// What one provider has written into one message.
struct Owned {
    provider: String,
    message: usize,
    fields: Fields,
    /// The member that has the reasoning text, and others with the same text.
    text: Option<String>,
    also: Vec<String>,
    /// Members of its calls, by their ids.
    calls: Fields,
}

impl<'a> Messages<'a> {
    pub fn new(opener: Opener<'a>) -> Self {
        Self { list: Vec::new(), owned: Vec::new(), waiting: Vec::new(), opener }
    }

    /// Adds `instructions`.
    pub fn instructions(&mut self, text: &str) {
        self.list.push(json!({ "role": "system", "content": text }));
    }

    /// Adds an item of an earlier turn. Unknown members in it come from a provider and not
    /// from the client, so they are left out.
    pub fn add_earlier(&mut self, item: &Value) -> Checked<()> {
        let Err(mut wrong) = self.add(item) else { return Ok(()) };
        let mut item = item.clone();
        while wrong.take_out(&mut item) {
            match self.add(&item) {
                Ok(()) => return Ok(()),
                Err(other) => wrong = other,
            }
        }
        Err(wrong)
    }

    /// Adds an item. If it is refused, nothing has changed.
    pub fn add(&mut self, item: &Value) -> Checked<()> {
        match item.get("type").and_then(Value::as_str).unwrap_or("message") {
            "message" => self.message(item),
            "function_call" => {
                only(item, CALL, "a function_call")?;
                let arguments = text(item, "arguments")?;
                // Some providers refuse arguments that are not JSON.
                self.call(item, if arguments.is_empty() { "{}" } else { arguments })
            }
            "custom_tool_call" => {
                only(item, CUSTOM_CALL, "a custom_tool_call")?;
                self.call(item, &json!({ "input": text(item, "input")? }).to_string())
            }
            kind @ ("function_call_output" | "custom_tool_call_output") => {
                only(item, OUTPUT, &format!("a {kind}"))?;
                let id = text(item, "call_id")?;
                let content = parts::output(&item["output"]).map_err(|wrong| wrong.within("/output"))?;
                self.push(json!({ "role": "tool", "tool_call_id": id, "content": content }));
                Ok(())
            }
            "reasoning" => self.reasoning(item),
            kind => Err(Wrong::only_there("/type", format!("an item of type {kind:?}"))),
        }
    }

    /// Adds a message that is not the assistant's.
    fn push(&mut self, message: Value) {
        self.release();
        self.list.push(message);
    }

    fn message(&mut self, item: &Value) -> Checked<()> {
        only(item, MESSAGE, "a message")?;
        let within = |wrong: Wrong| wrong.within("/content");
        let role = match item["role"].as_str() {
            Some("assistant") => return self.answer(item),
            // Few providers know the newer name.
            Some("system" | "developer") => "system",
            Some("user") => "user",
            _ => return Err(Wrong::new("/role", "must be user, assistant, system or developer")),
        };
        let content = parts::content(&item["content"]).map_err(within)?;
        self.push(json!({ "role": role, "content": content }));
        Ok(())
    }

    fn answer(&mut self, item: &Value) -> Checked<()> {
        let theirs = theirs(item)?;
        let (said, refusal) = parts::said(&item["content"]).map_err(|wrong| wrong.within("/content"))?;
        // Outputs must follow the calls directly, so text after calls joins their message.
        match (self.list.last_mut().filter(|last| last.get("tool_calls").is_some()), refusal) {
            (Some(last), None) => {
                let before = last["content"].as_str().unwrap_or_default();
                last["content"] = format!("{before}{said}").into();
            }
            (_, None) => self.list.push(json!({ "role": "assistant", "content": said })),
            (_, Some(refusal)) => {
                let content = if said.is_empty() { Value::Null } else { said.into() };
                self.list.push(json!({ "role": "assistant", "content": content, "refusal": refusal }));
            }
        }
        self.claim(theirs, None);
        Ok(())
    }

    /// Adds a call to the assistant's message before it, or to a new one.
    fn call(&mut self, item: &Value, arguments: &str) -> Checked<()> {
        never(item, &["async"], "a call")?;
        let (id, name, theirs) = (text(item, "call_id")?, text(item, "name")?, theirs(item)?);
        let call = json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
        match self.list.last_mut().filter(|last| last["role"] == "assistant") {
            Some(last) => match last.get_mut("tool_calls").and_then(Value::as_array_mut) {
                Some(calls) => calls.push(call),
                None => last["tool_calls"] = json!([call]),
            },
            None => self.list.push(json!({ "role": "assistant", "content": null, "tool_calls": [call] })),
        }
        self.claim(theirs, Some(id));
        Ok(())
    }

    /// Reasoning is only for the provider that wrote it. If that is unknown, or another
    /// provider sealed it, it is left out.
    fn reasoning(&mut self, item: &Value) -> Checked<()> {
        only(item, REASONING, "reasoning")?;
        let thought = parts::thought(item)?;
        let theirs = match (theirs(item)?, given(item, "encrypted_content")) {
            (Some(theirs), _) => Some(theirs),
            (None, Some(Value::String(sealed))) => match (self.opener)(sealed) {
                Some(None) => {
                    let detail = "was modified, or belongs to another tenant or service";
                    return Err(Wrong::new("/encrypted_content", detail));
                }
                opened => opened.flatten(),
            },
            (None, Some(_)) => return Err(Wrong::new("/encrypted_content", "must be a text")),
            (None, None) => None,
        };
        if let Some(theirs) = theirs {
            self.waiting.push((theirs, thought));
            if self.waiting.last().is_some_and(|(theirs, _)| theirs.ends) {
                self.release();
            }
        }
        Ok(())
    }

    /// The last message is the assistant's: attaches what waits for it, and its own.
    fn claim(&mut self, theirs: Option<Theirs>, call: Option<&str>) {
        let place = self.list.len() - 1;
        for (theirs, thought) in std::mem::take(&mut self.waiting) {
            self.attach(place, theirs, &thought);
        }
        if let Some(mut theirs) = theirs {
            if let Some(call) = call.filter(|_| !theirs.call.is_empty()) {
                theirs.calls.insert(call.to_owned(), std::mem::take(&mut theirs.call).into());
            }
            self.attach(place, theirs, "");
        }
    }

    /// What still waits belongs to the assistant's message before, if there is one.
    fn release(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        if let Some(place) = self.list.len().checked_sub(1).filter(|place| self.list[*place]["role"] == "assistant") {
            for (theirs, thought) in waiting {
                self.attach(place, theirs, &thought);
            }
        }
    }

    fn attach(&mut self, message: usize, theirs: Theirs, thought: &str) {
        let near = self.owned.iter().rev().take_while(|owned| owned.message == message);
        let back = near.clone().position(|owned| owned.provider == theirs.provider);
        let place = match back {
            Some(back) => self.owned.len() - 1 - back,
            None => {
                self.owned.push(Owned::new(theirs.provider.clone(), message));
                self.owned.len() - 1
            }
        };
        self.owned[place].add(theirs, thought);
    }

    /// The messages, and what only some providers are sent with them.
    pub fn finish(mut self) -> (Vec<Value>, Vec<Members>) {
        self.release();
        let list = self.list;
        let members = self.owned.into_iter().map(|owned| owned.members(&list)).collect();
        (list, members)
    }
}

impl Owned {
    fn new(provider: String, message: usize) -> Self {
        let (fields, calls) = (Fields::new(), Fields::new());
        Self { provider, message, fields, text: None, also: Vec::new(), calls }
    }

    fn add(&mut self, theirs: Theirs, thought: &str) {
        if let Some(name) = theirs.text {
            match self.fields.get_mut(&name) {
                Some(Value::String(before)) => before.push_str(thought),
                _ => drop(self.fields.insert(name.clone(), thought.into())),
            }
            self.text = Some(name);
        }
        self.also.extend(theirs.also);
        merge_fields(&mut self.fields, theirs.message);
        merge_fields(&mut self.calls, theirs.calls);
    }

    fn members(mut self, list: &[Value]) -> Members {
        if let Some(text) = self.text.and_then(|name| self.fields.get(&name).cloned()) {
            self.fields.extend(self.also.into_iter().map(|name| (name, text.clone())));
        }
        let of_message = list[self.message]["tool_calls"].as_array().into_iter().flatten().enumerate();
        let mut calls = Vec::new();
        for (place, call) in of_message {
            let id = call["id"].as_str().unwrap_or_default();
            if let Some(Value::Object(members)) = self.calls.remove(id) {
                calls.push((place, members));
            }
        }
        Members { provider: self.provider, message: self.message, fields: self.fields, calls }
    }
}

/// Reads `provider_data`.
fn theirs(item: &Value) -> Checked<Option<Theirs>> {
    let Some(given) = given(item, MEMBER) else { return Ok(None) };
    let theirs = given.as_str().and_then(Theirs::read);
    let wrong = || Wrong::new(format!("/{MEMBER}"), "must be sent back unchanged");
    theirs.map(Some).ok_or_else(wrong)
}
