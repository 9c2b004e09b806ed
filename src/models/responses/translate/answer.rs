//! What a chat provider answers as events of a response. A whole answer is a
//! stream of one piece, so both give the same response.

use serde_json::{Value, json};

use super::super::object::{Ending, Event, Finished, Head, Status};

/// Bytes of text and arguments that a response may have.
const LARGEST: usize = 16 << 20;
/// Output items that it may have.
const MOST_ITEMS: usize = 256;

/// Makes events out of chat chunks: one `response.created` at most, consecutive
/// numbers, and exactly one event that ends it.
pub(in crate::models::responses) struct ChatEvents {
    head: Head,
    next: i64,
    items: Vec<Item>,
    /// The place of the message that text goes to.
    message: Option<usize>,
    /// Calls that have no name yet, and so no place.
    unnamed: Vec<Call>,
    finish: Option<String>,
    usage: Option<Value>,
    bytes: usize,
    finished: Option<Finished>,
}

enum Item {
    Message { parts: Vec<Part>, is_open: bool },
    Call(Call),
}

struct Part {
    is_refusal: bool,
    text: String,
    logprobs: Vec<Value>,
    is_open: bool,
}

#[derive(Default)]
struct Call {
    /// The provider's number for it.
    index: u64,
    id: String,
    name: String,
    arguments: String,
}

impl Part {
    fn json(&self) -> Value {
        if self.is_refusal {
            return json!({ "type": "refusal", "refusal": self.text });
        }
        json!({ "type": "output_text", "text": self.text, "annotations": [], "logprobs": self.logprobs })
    }

    fn kind(&self) -> &'static str {
        if self.is_refusal { "refusal" } else { "output_text" }
    }
}

impl ChatEvents {
    /// A response whose next event has the number `next`.
    pub fn new(head: Head, next: i64) -> Self {
        Self {
            head,
            next,
            items: Vec::new(),
            message: None,
            unnamed: Vec::new(),
            finish: None,
            usage: None,
            bytes: 0,
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
        if data == "[DONE]" {
            // Some providers never say why they stop.
            self.finish.get_or_insert_with(|| "stop".into());
            self.end(out);
            return;
        }
        match serde_json::from_str(data) {
            Ok(chunk) => self.chunk(&chunk, out),
            Err(_) => self.fail("the provider sent something that is not JSON", out),
        }
    }

    /// A whole answer.
    pub fn answer(&mut self, answer: &Value, out: &mut Vec<Event>) {
        let mut chunk = answer.clone();
        if let Some(choice) = chunk.pointer_mut("/choices/0") {
            choice["delta"] = choice["message"].take();
            self.finish = Some("stop".into());
        }
        self.chunk(&chunk, out);
        self.end(out);
    }

    /// A chunk of a stream. What comes after the end is ignored.
    fn chunk(&mut self, chunk: &Value, out: &mut Vec<Event>) {
        if self.finished.is_some() {
            return;
        }
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            let message = error["message"].as_str().or(error.as_str());
            self.fail(message.unwrap_or("the provider broke the answer off"), out);
            return;
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            self.usage = Some(translate_usage(usage));
        }
        let Some(choice) = chunk["choices"].as_array().and_then(|choices| choices.first()) else { return };
        let delta = &choice["delta"];
        let logprobs = choice["logprobs"]["content"].as_array().cloned().unwrap_or_default();
        self.text(false, &text_of(&delta["content"]), logprobs, out);
        self.text(true, &text_of(&delta["refusal"]), Vec::new(), out);
        for (place, call) in delta["tool_calls"].as_array().into_iter().flatten().enumerate() {
            self.call(place, call, out);
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish = Some(reason.into());
        }
        if self.finished.is_none() && (self.bytes > LARGEST || self.items.len() + self.unnamed.len() > MOST_ITEMS) {
            self.fail("the answer is larger than a response may be", out);
        }
    }

    /// The provider's stream is over.
    pub fn end(&mut self, out: &mut Vec<Event>) {
        if self.finished.is_some() {
            return;
        }
        let ending = match self.finish.as_deref() {
            None => {
                self.fail("the provider's answer was cut short", out);
                return;
            }
            Some("length") => Ending::Incomplete("max_output_tokens"),
            Some("content_filter") => Ending::Incomplete("content_filter"),
            Some(_) => Ending::Completed,
        };
        for call in std::mem::take(&mut self.unnamed) {
            self.add_call(call, out);
        }
        let last = self.items.len().saturating_sub(1);
        for place in 0..self.items.len() {
            let whole = ending == Ending::Completed || place < last;
            self.close(place, if whole { "completed" } else { "incomplete" }, out);
        }
        self.finish_as(&ending, out);
    }

    /// Nothing good will come any more.
    pub fn fail(&mut self, message: &str, out: &mut Vec<Event>) {
        if self.finished.is_none() {
            self.finish_as(&Ending::failed("server_error", message), out);
        }
    }

    fn finish_as(&mut self, ending: &Ending, out: &mut Vec<Event>) {
        let place = |(place, _)| self.item(place, self.status_of(place, ending));
        let output: Vec<_> = self.items.iter().enumerate().map(place).collect();
        let object = self.head.ended(ending, &output, self.usage.as_ref());
        self.send(ending.status().event(), json!({ "response": object }), out);
        self.finished = Some(Finished { status: ending.status(), object });
    }

    /// Only the last item can have been cut short; of a failed response, those
    /// that were open.
    fn status_of(&self, place: usize, ending: &Ending) -> &'static str {
        let whole = match ending {
            Ending::Completed => true,
            Ending::Incomplete(_) => place + 1 < self.items.len(),
            Ending::Failed { .. } | Ending::Cancelled => {
                matches!(&self.items[place], Item::Message { is_open: false, .. })
            }
        };
        if whole { "completed" } else { "incomplete" }
    }

    fn send(&mut self, kind: &'static str, fields: Value, out: &mut Vec<Event>) {
        out.push(Event::new(self.next, kind, fields));
        self.next += 1;
    }

    fn item_id(&self, place: usize) -> String {
        let prefix = match &self.items[place] {
            Item::Message { .. } => "msg",
            Item::Call(_) => "fc",
        };
        self.head.id.part(prefix, place)
    }

    fn item(&self, place: usize, status: &str) -> Value {
        let id = self.item_id(place);
        match &self.items[place] {
            Item::Message { parts, .. } => {
                let content: Vec<_> = parts.iter().map(Part::json).collect();
                json!({ "type": "message", "id": id, "status": status, "role": "assistant", "content": content })
            }
            Item::Call(call) => json!({
                "type": "function_call", "id": id, "status": status, "call_id": call.id, "name": call.name,
                "arguments": call.arguments,
            }),
        }
    }

    /// Text of the message, or of the refusal to write one.
    fn text(&mut self, is_refusal: bool, text: &str, logprobs: Vec<Value>, out: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        self.bytes += text.len();
        let (place, index) = self.open_part(is_refusal, out);
        let id = self.item_id(place);
        if let Item::Message { parts, .. } = &mut self.items[place] {
            parts[index].text.push_str(text);
            parts[index].logprobs.extend(logprobs.iter().cloned());
        }
        let mut fields = json!({ "item_id": id, "output_index": place, "content_index": index, "delta": text });
        if is_refusal {
            self.send("response.refusal.delta", fields, out);
        } else {
            fields["logprobs"] = logprobs.into();
            self.send("response.output_text.delta", fields, out);
        }
    }

    /// The places of the message and of its part that such text goes to.
    fn open_part(&mut self, is_refusal: bool, out: &mut Vec<Event>) -> (usize, usize) {
        let place = self.message.unwrap_or_else(|| {
            self.items.push(Item::Message { parts: Vec::new(), is_open: true });
            let place = self.items.len() - 1;
            let item = self.item(place, "in_progress");
            self.send("response.output_item.added", json!({ "output_index": place, "item": item }), out);
            self.message = Some(place);
            place
        });
        let open = match &self.items[place] {
            Item::Message { parts, .. } => parts.iter().rposition(|part| part.is_open),
            Item::Call(_) => None,
        };
        if let Some(open) = open {
            if self.is_refusal(place, open) == is_refusal {
                return (place, open);
            }
            self.close_part(place, open, out);
        }
        let part = Part { is_refusal, text: String::new(), logprobs: Vec::new(), is_open: true };
        let (json, mut index) = (part.json(), 0);
        if let Item::Message { parts, .. } = &mut self.items[place] {
            index = parts.len();
            parts.push(part);
        }
        let fields =
            json!({ "item_id": self.item_id(place), "output_index": place, "content_index": index, "part": json });
        self.send("response.content_part.added", fields, out);
        (place, index)
    }

    fn is_refusal(&self, place: usize, index: usize) -> bool {
        matches!(&self.items[place], Item::Message { parts, .. } if parts[index].is_refusal)
    }

    fn close_part(&mut self, place: usize, index: usize, out: &mut Vec<Event>) {
        let id = self.item_id(place);
        let Item::Message { parts, .. } = &mut self.items[place] else { return };
        let part = &mut parts[index];
        if !std::mem::take(&mut part.is_open) {
            return;
        }
        let (kind, text, logprobs, json) = (part.kind(), part.text.clone(), part.logprobs.clone(), part.json());
        let at = json!({ "item_id": id, "output_index": place, "content_index": index });
        let mut said = at.clone();
        let mut done = at;
        done["part"] = json;
        if kind == "refusal" {
            said["refusal"] = text.into();
            self.send("response.refusal.done", said, out);
        } else {
            said["text"] = text.into();
            said["logprobs"] = logprobs.into();
            self.send("response.output_text.done", said, out);
        }
        self.send("response.content_part.done", done, out);
    }

    /// A piece of a call. Those without a number are told apart by their place,
    /// and two with one number by their ids.
    fn call(&mut self, place: usize, piece: &Value, out: &mut Vec<Event>) {
        let index = piece["index"].as_u64().unwrap_or(place as u64);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (id, name) = (text(&piece["id"]), text(&piece["function"]["name"]));
        let arguments = text(&piece["function"]["arguments"]);
        self.bytes += arguments.len();
        let same = |call: &Call| call.index == index && (id.is_empty() || call.id.is_empty() || call.id == id);
        let known = self.items.iter().rposition(|item| matches!(item, Item::Call(call) if same(call)));
        if let Some(place) = known {
            self.add_arguments(place, &arguments, out);
            return;
        }
        let unnamed = self.unnamed.iter().position(same);
        let mut call = unnamed.map(|place| self.unnamed.remove(place)).unwrap_or_default();
        call.index = index;
        call.name.push_str(&name);
        call.arguments.push_str(&arguments);
        if call.id.is_empty() {
            call.id = id;
        }
        if call.name.is_empty() {
            self.unnamed.push(call);
        } else {
            self.add_call(call, out);
        }
    }

    /// A call with its name takes its place; a message before it is over.
    fn add_call(&mut self, mut call: Call, out: &mut Vec<Event>) {
        if let Some(message) = self.message.take() {
            self.close(message, "completed", out);
        }
        let place = self.items.len();
        if call.id.is_empty() {
            call.id = self.head.id.part("call", place);
        }
        let arguments = std::mem::take(&mut call.arguments);
        self.items.push(Item::Call(call));
        let item = self.item(place, "in_progress");
        self.send("response.output_item.added", json!({ "output_index": place, "item": item }), out);
        self.add_arguments(place, &arguments, out);
    }

    fn add_arguments(&mut self, place: usize, arguments: &str, out: &mut Vec<Event>) {
        if arguments.is_empty() {
            return;
        }
        if let Item::Call(call) = &mut self.items[place] {
            call.arguments.push_str(arguments);
        }
        let fields = json!({ "item_id": self.item_id(place), "output_index": place, "delta": arguments });
        self.send("response.function_call_arguments.delta", fields, out);
    }

    /// Ends an item that has not ended before.
    fn close(&mut self, place: usize, status: &str, out: &mut Vec<Event>) {
        let id = self.item_id(place);
        match &mut self.items[place] {
            Item::Call(call) => {
                let fields = json!({
                    "item_id": id, "output_index": place, "name": call.name, "arguments": call.arguments,
                });
                self.send("response.function_call_arguments.done", fields, out);
            }
            Item::Message { is_open, parts } => {
                if !std::mem::take(is_open) {
                    return;
                }
                let count = parts.len();
                for index in 0..count {
                    self.close_part(place, index, out);
                }
            }
        }
        let item = self.item(place, status);
        self.send("response.output_item.done", json!({ "output_index": place, "item": item }), out);
    }
}

/// A text, or the texts of a list of parts, which some providers send.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

fn translate_usage(usage: &Value) -> Value {
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let (input, output) = (count(&usage["prompt_tokens"]), count(&usage["completion_tokens"]));
    json!({
        "input_tokens": input,
        "input_tokens_details": { "cached_tokens": count(&usage["prompt_tokens_details"]["cached_tokens"]) },
        "output_tokens": output,
        "output_tokens_details": { "reasoning_tokens": count(&usage["completion_tokens_details"]["reasoning_tokens"]) },
        "total_tokens": usage["total_tokens"].as_u64().unwrap_or_else(|| input.saturating_add(output)),
    })
}

#[cfg(test)]
mod tests;
