//! Responses of a provider that has this interface itself, passed on under the
//! service's own ids. Events that do not show the response go on as they came.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::id::ResponseId;
use super::object::{Ending, Event, Finished, Head, Status};
use super::request::Create;
use crate::models::lenient::{self, Halves, Part};

/// What is written into the provider's objects.
#[derive(Clone, Debug)]
pub(super) struct Own {
    id: ResponseId,
    fields: Map<String, Value>,
}

impl Own {
    pub fn new(create: &Create, head: &Head) -> Self {
        let id = head.id;
        let own = json!({
            "id": id.to_string(), "created_at": head.created_at(), "background": create.background,
            "store": create.store,
            "previous_response_id": create.previous.map(|id| id.to_string()),
        });
        let fields = match own {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        Self { id, fields }
    }

    /// A response of the provider's as one of the service's.
    pub fn adopt(&self, mut response: Value) -> Value {
        if let Value::Object(fields) = &mut response {
            fields.extend(self.fields.clone());
        }
        response
    }

    /// The same, ended; one whose status is none has failed.
    pub fn adopt_whole(&self, response: Value) -> Finished {
        let status = response["status"].as_str().and_then(Status::from_name);
        Finished { status: status.unwrap_or(Status::Failed), object: self.adopt(response) }
    }
}

/// As much of an event as must be known of each.
#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    sequence_number: Option<i64>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

/// Passes events on: consecutive numbers, and exactly one event that ends it.
pub(super) struct Relay {
    own: Own,
    /// What is shown where the provider shows nothing.
    head: Head,
    next: i64,
    /// The provider's beginning is left out: the client has had one already.
    has_begun: bool,
    /// What the provider said was wrong.
    error: Option<String>,
    /// Half a surrogate pair at the end of a delta, and the text that it belongs to.
    halves: Option<([String; 4], Halves)>,
    finished: Option<Finished>,
}

/// The members that identify a text of the stream.
const CHANNEL: [&str; 4] = ["type", "item_id", "content_index", "summary_index"];

impl Relay {
    /// A response whose next event has the number `next`; from 1 on, it has
    /// begun already.
    pub fn new(own: Own, head: Head, next: i64) -> Self {
        Self { own, head, next, has_begun: next > 0, error: None, halves: None, finished: None }
    }

    /// The response, once it has ended.
    pub fn finished(&self) -> Option<&Finished> {
        self.finished.as_ref()
    }

    /// The data of a frame of the provider's stream. What comes after the end is
    /// ignored.
    pub fn data(&mut self, data: &str, out: &mut Vec<Event>) {
        if self.finished.is_some() || data.trim() == "[DONE]" {
            return;
        }
        // Lone surrogates are valid JSON, but strict parsers refuse them.
        let may_have_halves = self.halves.is_some() || ["\\ud", "\\uD"].iter().any(|half| data.contains(half));
        if !may_have_halves && serde_json::from_str::<Peek<'_>>(data).is_ok() {
            return self.event(data, out);
        }
        match lenient::parse_part(data.as_bytes()) {
            Ok(part) => self.repaired(part, data, out),
            Err(_) => self.fail("the provider sent something that is not JSON", out),
        }
    }

    /// An event that had to be repaired, or follows one that ends with half a surrogate pair.
    fn repaired(&mut self, mut part: Part, data: &str, out: &mut Vec<Event>) {
        let event = &mut part.value;
        let is_delta =
            event["type"].as_str().and_then(|kind| kind.rsplit_once('.')).is_some_and(|(_, it)| it == "delta");
        let text = if is_delta { &event["delta"] } else { &Value::Null };
        let mut joined = None;
        if let Some(delta) = text.as_str() {
            let channel = CHANNEL.map(|name| event[name].to_string());
            let (before, mut halves) = self.halves.take().unwrap_or_default();
            if before != channel {
                halves = Halves::default();
            }
            joined = Some(halves.join(delta, part.has_halves).into_owned());
            self.halves = halves.is_waiting().then_some((channel, halves));
        }
        let is_as_it_came = !part.has_halves && joined.as_deref() == text.as_str();
        if is_as_it_came && serde_json::from_str::<Peek<'_>>(data).is_ok() {
            return self.event(data, out);
        }
        if let Some(joined) = joined {
            event["delta"] = joined.into();
        }
        lenient::settle_value(event);
        self.event(&event.to_string(), out);
    }

    fn event(&mut self, data: &str, out: &mut Vec<Event>) {
        let is_object = data.trim_start().starts_with('{');
        let Some(peek) = serde_json::from_str::<Peek<'_>>(data).ok().filter(|_| is_object) else {
            self.fail("the provider sent something that is not JSON", out);
            return;
        };
        let kind = peek.kind.into_owned();
        match kind.as_str() {
            // Told with the end, which a broken stream does not have by itself.
            "error" | "" => {
                let error: Value = serde_json::from_str(data).unwrap_or_default();
                let message = error["message"].as_str().or(error["error"]["message"].as_str());
                self.error = Some(message.unwrap_or("the provider broke the answer off").to_owned());
            }
            "response.created" | "response.queued" | "response.in_progress" if self.has_begun => {}
            _ => match peek.response {
                Some(response) => self.with_response(kind, response, data, out),
                None if peek.sequence_number == Some(self.next) => {
                    out.push(Event { seq: self.next, kind, data: data.to_owned() });
                    self.next += 1;
                }
                None => {
                    let fields = serde_json::from_str(data).unwrap_or_default();
                    self.send(kind, fields, out);
                }
            },
        }
    }

    fn with_response(&mut self, kind: String, response: &RawValue, data: &str, out: &mut Vec<Event>) {
        let response = serde_json::from_str(response.get()).unwrap_or_default();
        let adopted = self.own.adopt(response);
        let mut fields: Value = serde_json::from_str(data).unwrap_or_default();
        fields["response"] = adopted.clone();
        let status = match kind.as_str() {
            "response.completed" => Some(Status::Completed),
            "response.incomplete" => Some(Status::Incomplete),
            "response.failed" => Some(Status::Failed),
            _ => None,
        };
        self.send(kind, fields, out);
        if let Some(status) = status {
            self.finished = Some(Finished { status, object: adopted });
        } else {
            self.head = Head::of_object(self.own.id, adopted);
        }
    }

    fn send(&mut self, kind: String, fields: Value, out: &mut Vec<Event>) {
        out.push(Event::new(self.next, kind, fields));
        self.next += 1;
    }

    /// The provider's stream is over.
    pub fn end(&mut self, out: &mut Vec<Event>) {
        let error = self.error.take();
        self.fail(error.as_deref().unwrap_or("the provider's answer was cut short"), out);
    }

    /// Nothing good will come any more.
    pub fn fail(&mut self, message: &str, out: &mut Vec<Event>) {
        if self.finished.is_some() {
            return;
        }
        if self.next == 0 {
            self.send("response.created".into(), json!({ "response": self.head.open(Status::InProgress) }), out);
        }
        let object = self.head.ended(&Ending::failed("server_error", message), &[], None);
        self.send("response.failed".into(), json!({ "response": object }), out);
        self.finished = Some(Finished { status: Status::Failed, object });
    }
}

#[cfg(test)]
mod tests;
