//! What a chat provider answers as events of a response. A whole answer is a
//! stream of one piece, so both give the same response.
//!
//! What the Responses format has no member for is kept on the items ([`Theirs`]): on a
//! reasoning item the name of the chat member that had its text, on a call its unknown
//! members, and on the last item, which is always closed last, those of the message.

mod calls;
mod item;
mod read;
mod write;

use serde_json::{Value, json};

use super::Shape;
use super::merge::{merge, merge_fields, size};
use super::theirs::{Fields, Theirs};
use crate::models::lenient;
use crate::models::responses::object::{Ending, Event, Finished, Head, Status};
use item::{Call, Item, Thought, What, with};
use read::{Finish, Said, Source};

/// Bytes of text and arguments that a response may have.
const LARGEST: usize = 16 << 20;
/// Output items that it may have.
const MOST_ITEMS: usize = 256;

/// Makes events out of chat chunks: one `response.created` at most, consecutive
/// numbers, and exactly one event that ends it.
pub(in crate::models::responses) struct ChatEvents {
    head: Head,
    shape: Shape,
    next: i64,
    items: Vec<Item>,
    /// The places of the reasoning and of the message that text goes to.
    thought: Option<usize>,
    message: Option<usize>,
    /// Calls without a name, which are not items yet.
    unnamed: Vec<Call>,
    /// The index of the choice that is used.
    followed: Option<i64>,
    /// Where reasoning text is found.
    source: Option<Source>,
    kept: Kept,
    /// Whether the current chunk has halves of surrogate pairs, and whether any chunk had.
    has_halves: bool,
    had_halves: bool,
    finish: Option<String>,
    error: Option<String>,
    usage: Option<Value>,
    bytes: usize,
    is_ending: bool,
    finished: Option<Finished>,
}

/// A member; null if there is none.
fn take(value: &mut Value, name: &str) -> Value {
    value.get_mut(name).map(Value::take).unwrap_or_default()
}

/// What is kept of the message for its provider.
#[derive(Default)]
struct Kept {
    /// Unknown members.
    rest: Fields,
    /// Content that came as a list of parts, and whether any of them is not plain text.
    parts: Option<Vec<Value>>,
    has_other_parts: bool,
}

impl ChatEvents {
    /// A response whose next event has the number `next`.
    pub fn new(head: Head, shape: Shape, next: i64) -> Self {
        Self {
            head,
            shape,
            next,
            items: Vec::new(),
            thought: None,
            message: None,
            unnamed: Vec::new(),
            followed: None,
            source: None,
            kept: Kept::default(),
            has_halves: false,
            had_halves: false,
            finish: None,
            error: None,
            usage: None,
            bytes: 0,
            is_ending: false,
            finished: None,
        }
    }

    /// The events that come before any answer.
    pub fn begin(&mut self, out: &mut Vec<Event>) {
        let object = self.head.open(Status::InProgress);
        self.send("response.created", json!({ "response": object }), out);
        self.send("response.in_progress", json!({ "response": object }), out);
    }

    /// The response, once it has ended.
    pub fn finished(&self) -> Option<&Finished> {
        self.finished.as_ref()
    }

    /// The data of a frame of the provider's stream.
    pub fn data(&mut self, data: &str, out: &mut Vec<Event>) {
        if data.trim() == "[DONE]" {
            // Some providers never say why they stop.
            self.finish.get_or_insert_with(|| "stop".into());
            self.end(out);
            return;
        }
        match lenient::parse_part(data.as_bytes()) {
            Ok(part) => {
                self.has_halves = part.has_halves;
                self.had_halves |= part.has_halves;
                self.chunk(part.value, false, out);
            }
            Err(_) => self.fail("the provider sent something that is not JSON", out),
        }
    }

    /// A whole answer.
    pub fn answer(&mut self, answer: Value, out: &mut Vec<Event>) {
        if answer["choices"].as_array().is_some_and(|choices| !choices.is_empty()) {
            self.finish = Some("stop".into());
        }
        self.chunk(answer, true, out);
        self.end(out);
    }

    /// A chunk of a stream. What comes after the end is ignored.
    fn chunk(&mut self, mut chunk: Value, is_whole: bool, out: &mut Vec<Event>) {
        if self.finished.is_some() {
            return;
        }
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            let message = read::message(error).to_owned();
            self.fail(&message, out);
            return;
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            self.usage = Some(read::usage(usage));
        }
        if let Some(tier) = chunk["service_tier"].as_str() {
            self.head.set_service_tier(tier);
        }
        let Some(place) = read::choice(&chunk, &mut self.followed) else { return };
        let mut choice = chunk["choices"][place].take();
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish = Some(reason.into());
        }
        if let Some(error) = choice.get("error").filter(|error| !error.is_null()) {
            self.error = Some(read::message(error).to_owned());
        }
        let logprobs = match take(&mut take(&mut choice, "logprobs"), "content") {
            Value::Array(logprobs) => logprobs,
            _ => Vec::new(),
        };
        // Some providers send a whole message in place of a delta.
        let name = if is_whole || !choice["delta"].is_object() { "message" } else { "delta" };
        let message = take(&mut choice, name);
        self.message(&message, logprobs, is_whole, out);
        if self.finished.is_none() && (self.bytes > LARGEST || self.items.len() + self.unnamed.len() > MOST_ITEMS) {
            self.fail("the answer is larger than a response may be", out);
        }
    }

    /// A whole message or a delta.
    fn message(&mut self, message: &Value, logprobs: Vec<Value>, is_whole: bool, out: &mut Vec<Event>) {
        let said = Said::read(message, self.source);
        if let Some((source, text)) = said.thought {
            let name = if let Source::Member(name) = source { Some(name) } else { None };
            self.source.get_or_insert(source);
            self.think(name, &text, out);
        }
        self.keep_parts(said.parts, said.has_other_parts, &said.text);
        self.bytes += said.rest.values().map(size).sum::<usize>();
        merge_fields(&mut self.kept.rest, said.rest);
        self.text(false, &said.text, logprobs, out);
        self.text(true, &said.refusal, Vec::new(), out);
        self.calls(&message["tool_calls"], is_whole, out);
        // The predecessor of tool_calls.
        let legacy = &message["function_call"];
        if legacy.is_object() {
            let call = json!({ "index": 0, "function": legacy });
            self.calls(&call, is_whole, out);
        }
    }

    /// Keeps content that came as a list, so that it can be sent back as it was.
    fn keep_parts(&mut self, parts: Option<Vec<Value>>, has_other_parts: bool, text: &str) {
        let parts = match parts {
            Some(parts) => parts,
            None if self.kept.parts.is_some() && !text.is_empty() => vec![json!({ "type": "text", "text": text })],
            None => return,
        };
        self.bytes += parts.iter().map(size).sum::<usize>();
        self.kept.has_other_parts |= has_other_parts;
        let mut whole = Value::Array(self.kept.parts.take().unwrap_or_else(|| self.text_so_far()));
        merge(&mut whole, Value::Array(parts), "content");
        if let Value::Array(whole) = whole {
            self.kept.parts = Some(whole);
        }
    }

    /// Text from before the first list of parts.
    fn text_so_far(&self) -> Vec<Value> {
        let messages = self.items.iter().filter_map(|item| match &item.what {
            What::Message(parts) => Some(parts),
            _ => None,
        });
        let text: String = messages.flatten().filter(|part| !part.is_refusal).map(|part| part.text.as_str()).collect();
        if text.is_empty() { Vec::new() } else { vec![json!({ "type": "text", "text": text })] }
    }

    /// The provider's stream is over.
    pub fn end(&mut self, out: &mut Vec<Event>) {
        if self.finished.is_some() {
            return;
        }
        if let Some(message) = self.error.take() {
            return self.fail(&message, out);
        }
        let ending = match self.finish.as_deref().map(Finish::of) {
            None => return self.fail("the provider's answer was cut short", out),
            Some(Finish::Failed) => return self.fail("the provider broke the answer off", out),
            Some(Finish::Incomplete(reason)) => Ending::Incomplete(reason),
            Some(Finish::Completed) => Ending::Completed,
        };
        self.name_calls(out);
        self.settle();
        if self.shape.is_sealed {
            self.seal(out);
        }
        for place in 0..self.items.len() {
            let status = self.status_of(place, &ending);
            self.close(place, status, out);
        }
        self.finish_as(&ending, out);
    }

    /// Nothing good will come any more.
    pub fn fail(&mut self, message: &str, out: &mut Vec<Event>) {
        if self.finished.is_none() {
            self.settle();
            self.finish_as(&Ending::failed("server_error", message), out);
        }
    }

    /// The answer is complete: fixes what its provider is sent back.
    fn settle(&mut self) {
        self.is_ending = true;
        if self.kept.has_other_parts
            && let Some(parts) = self.kept.parts.take()
        {
            self.kept.rest.insert("content".into(), parts.into());
        }
        if self.had_halves {
            self.kept.rest.values_mut().for_each(lenient::settle_value);
            for item in &mut self.items {
                if let What::Call(call) = &mut item.what {
                    call.rest.values_mut().for_each(lenient::settle_value);
                }
            }
        }
    }

    /// Seals what its provider is sent back into the first reasoning item, or into a new
    /// one at the end.
    fn seal(&mut self, out: &mut Vec<Event>) {
        let (Some(seal), Some(mut theirs)) = (self.shape.seal.clone(), self.theirs()) else { return };
        let mut first = None;
        let mut thoughts = Fields::new();
        for (place, item) in self.items.iter().enumerate() {
            match &item.what {
                What::Thought(thought) => {
                    theirs.ends |= first.is_none() && thought.ends;
                    first.get_or_insert(place);
                    if let Some(name) = thought.name {
                        merge_fields(
                            &mut thoughts,
                            Fields::from_iter([(name.to_owned(), thought.text.as_str().into())]),
                        );
                    }
                }
                What::Call(call) if !call.rest.is_empty() => {
                    theirs.calls.insert(call.shown.clone(), call.rest.clone().into());
                }
                What::Call(_) | What::Message(_) => {}
            }
        }
        theirs.message.clone_from(&self.kept.rest);
        theirs.message.extend(thoughts);
        if theirs.is_empty() {
            return;
        }
        theirs.ends |= first.is_none();
        let place = first.unwrap_or_else(|| {
            self.items.push(Item::new(What::Thought(Thought { ends: true, ..Thought::default() })));
            self.item_added(self.items.len() - 1, out);
            self.items.len() - 1
        });
        if let What::Thought(thought) = &mut self.items[place].what {
            thought.sealed = seal.seal(&theirs.written());
        }
    }

    /// The provider and model that answered; `None` for the built-in model.
    fn theirs(&self) -> Option<Theirs> {
        let writer = self.shape.bound.writer()?;
        let (provider, model) = (writer.provider.to_string(), writer.model.to_string());
        Some(Theirs { provider, model, ..Theirs::default() })
    }

    /// An item as it stands.
    fn item(&self, place: usize, status: &str) -> Value {
        let item = &self.items[place];
        let shown = item.json(self.item_id(place), status, self.shape.is_summary);
        if status == "in_progress" {
            return shown;
        }
        let theirs = self.theirs().map(|mut theirs| {
            match &item.what {
                What::Thought(thought) => {
                    (theirs.text, theirs.ends) = (thought.name.map(str::to_owned), thought.ends);
                }
                What::Call(call) => theirs.call.clone_from(&call.rest),
                What::Message(_) => {}
            }
            if self.is_ending && place + 1 == self.items.len() {
                self.add_rest(&mut theirs);
            }
            theirs
        });
        with(shown, theirs.as_ref())
    }

    /// Adds members of the message. Of copies of the reasoning text only the names are kept.
    fn add_rest(&self, theirs: &mut Theirs) {
        let thoughts = self.items.iter().filter_map(|item| match &item.what {
            What::Thought(thought) if thought.name.is_some() => Some(thought.text.as_str()),
            _ => None,
        });
        let thought: String = thoughts.collect();
        for (name, value) in &self.kept.rest {
            if !thought.is_empty() && *value == *thought {
                theirs.also.push(name.clone());
            } else {
                theirs.message.insert(name.clone(), value.clone());
            }
        }
    }

    fn finish_as(&mut self, ending: &Ending, out: &mut Vec<Event>) {
        if let Some(writer) = self.shape.bound.writer() {
            self.head.set_model(&writer.model);
        }
        let place = |place| self.item(place, self.status_of(place, ending));
        let output: Vec<_> = (0..self.items.len()).map(place).collect();
        let object = self.head.ended(ending, &output, self.usage.as_ref());
        self.send(ending.status().event(), json!({ "response": object }), out);
        self.finished = Some(Finished { status: ending.status(), object });
    }

    /// Only the last item can have been cut short; of a failed response, those
    /// that were open.
    fn status_of(&self, place: usize, ending: &Ending) -> &'static str {
        let is_cut = |item: &Item| !matches!(&item.what, What::Thought(thought) if !thought.has_begun);
        let whole = match ending {
            Ending::Completed => true,
            Ending::Incomplete(_) => self.items.iter().rposition(is_cut) != Some(place),
            Ending::Failed { .. } | Ending::Cancelled => self.items[place].is_done,
        };
        if whole { "completed" } else { "incomplete" }
    }
}

#[cfg(test)]
mod tests;
