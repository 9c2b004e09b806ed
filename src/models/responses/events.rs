//! From the bytes of a provider's stream to the events of a response.

use serde_json::{Value, json};

use super::object::{Event, Finished, Head, Status};
use super::relay::Relay;
use super::translate::{ChatEvents, MEMBER};
use crate::models::sse::{self, Reader};

/// What reads a provider's answer.
pub(super) enum Source {
    /// Chat completions, out of which a response is made.
    Chat(Box<ChatEvents>),
    /// A response of the provider's own.
    Own(Box<Relay>),
}

/// The events of one response.
pub(super) struct Events {
    reader: Reader,
    source: Source,
}

impl Events {
    pub fn new(source: Source) -> Self {
        Self { reader: Reader::default(), source }
    }

    /// Those that come before the provider says anything.
    pub fn begin(&mut self, out: &mut Vec<Event>) {
        if let Source::Chat(chat) = &mut self.source {
            chat.begin(out);
        }
    }

    /// Those that these bytes bring.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        let source = &mut self.source;
        let read = self.reader.feed(bytes, |event| source.event(event, out));
        if read.is_err() {
            self.fail("the provider sent an event larger than any may be", out);
        }
    }

    /// Those that the end of the stream brings.
    pub fn end(&mut self, out: &mut Vec<Event>) {
        let source = &mut self.source;
        self.reader.finish(|event| source.event(event, out));
        match &mut self.source {
            Source::Chat(chat) => chat.end(out),
            Source::Own(relay) => relay.end(out),
        }
    }

    /// Ends a response that will not end by itself.
    pub fn fail(&mut self, message: &str, out: &mut Vec<Event>) {
        match &mut self.source {
            Source::Chat(chat) => chat.fail(message, out),
            Source::Own(relay) => relay.fail(message, out),
        }
    }

    /// The response, once it has ended.
    pub fn finished(&self) -> Option<&Finished> {
        match &self.source {
            Source::Chat(chat) => chat.finished(),
            Source::Own(relay) => relay.finished(),
        }
    }
}

impl Source {
    fn event(&mut self, event: &sse::Event<'_>, out: &mut Vec<Event>) {
        if let Some(data) = event.data.as_deref().filter(|data| !data.is_empty()) {
            self.data(&String::from_utf8_lossy(data), out);
        }
    }

    fn data(&mut self, data: &str, out: &mut Vec<Event>) {
        match self {
            Self::Chat(chat) => chat.data(data, out),
            Self::Own(relay) => relay.data(data, out),
        }
    }
}

/// The events that a finished response would have had, each text in one piece,
/// numbered from `next`.
pub(super) fn replay(head: &Head, finished: &Finished, next: i64) -> Vec<Event> {
    let mut out = Replay { next, events: Vec::new() };
    if next == 0 {
        let open = head.open(Status::InProgress);
        out.send("response.created", json!({ "response": open }));
        out.send("response.in_progress", json!({ "response": open }));
    }
    for (place, item) in finished.object["output"].as_array().into_iter().flatten().enumerate() {
        out.item(place, item);
    }
    out.send(finished.status.event(), json!({ "response": finished.object }));
    out.events
}

struct Replay {
    next: i64,
    events: Vec<Event>,
}

impl Replay {
    fn send(&mut self, kind: &str, fields: Value) {
        self.events.push(Event::new(self.next, kind, fields));
        self.next += 1;
    }

    fn item(&mut self, place: usize, item: &Value) {
        let kind = item["type"].as_str().unwrap_or_default();
        let mut begun = item.clone();
        let empty: &[(&str, Value)] = match kind {
            "message" => &[("content", json!([]))],
            "function_call" => &[("arguments", json!(""))],
            "custom_tool_call" => &[("input", json!(""))],
            "reasoning" => &[("content", json!([])), ("summary", json!([]))],
            _ => &[],
        };
        for (name, value) in empty {
            if item.get(*name).is_some() {
                begun[*name] = value.clone();
            }
        }
        if !empty.is_empty() {
            begun["status"] = "in_progress".into();
            begun.as_object_mut().into_iter().for_each(|begun| drop(begun.remove(MEMBER)));
        }
        self.send("response.output_item.added", json!({ "output_index": place, "item": begun }));
        let at = json!({ "item_id": item["id"], "output_index": place });
        match kind {
            "function_call" => {
                self.send("response.function_call_arguments.delta", with(&at, &[("delta", &item["arguments"])]));
                let done = [("arguments", &item["arguments"]), ("name", &item["name"])];
                self.send("response.function_call_arguments.done", with(&at, &done));
            }
            "custom_tool_call" => {
                self.send("response.custom_tool_call_input.delta", with(&at, &[("delta", &item["input"])]));
                self.send("response.custom_tool_call_input.done", with(&at, &[("input", &item["input"])]));
            }
            "message" => self.parts("content_index", &at, &item["content"]),
            "reasoning" => {
                self.parts("summary_index", &at, &item["summary"]);
                self.parts("content_index", &at, &item["content"]);
            }
            _ => {}
        }
        self.send("response.output_item.done", json!({ "output_index": place, "item": item }));
    }

    fn parts(&mut self, place: &str, at: &Value, parts: &Value) {
        let parts = parts.as_array().into_iter().flatten().enumerate();
        for (index, part) in parts.filter(|(_, part)| part.is_object()) {
            self.part(&with(at, &[(place, &index.into())]), part);
        }
    }

    fn part(&mut self, at: &Value, part: &Value) {
        let (field, delta, done) = match part["type"].as_str() {
            Some("refusal") => ("refusal", "response.refusal.delta", "response.refusal.done"),
            Some("reasoning_text") => ("text", "response.reasoning_text.delta", "response.reasoning_text.done"),
            Some("summary_text") => {
                ("text", "response.reasoning_summary_text.delta", "response.reasoning_summary_text.done")
            }
            _ => ("text", "response.output_text.delta", "response.output_text.done"),
        };
        let (added, ended) = if part["type"] == "summary_text" {
            ("response.reasoning_summary_part.added", "response.reasoning_summary_part.done")
        } else {
            ("response.content_part.added", "response.content_part.done")
        };
        let mut begun = part.clone();
        begun[field] = "".into();
        if begun.get("logprobs").is_some() {
            begun["logprobs"] = json!([]);
        }
        self.send(added, with(at, &[("part", &begun)]));
        let none = json!([]);
        let is_text = delta == "response.output_text.delta";
        let logprobs = if is_text { part.get("logprobs").or(Some(&none)) } else { None };
        let with_logprobs = |name, value| {
            let fields: Vec<_> = [(name, value)].into_iter().chain(logprobs.map(|it| ("logprobs", it))).collect();
            with(at, &fields)
        };
        self.send(delta, with_logprobs("delta", &part[field]));
        self.send(done, with_logprobs(field, &part[field]));
        self.send(ended, with(at, &[("part", part)]));
    }
}

fn with(at: &Value, fields: &[(&str, &Value)]) -> Value {
    let mut all = at.clone();
    for (name, value) in fields {
        all[*name] = (*value).clone();
    }
    all
}
