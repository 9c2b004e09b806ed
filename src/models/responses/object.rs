//! The response object, and its events.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::id::ResponseId;
use super::request::Create;
use crate::clock::Timestamp;

/// Where a response stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ResponseStatus")]
#[expect(missing_docs, reason = "the names are those of the interface")]
pub enum Status {
    Queued,
    InProgress,
    Completed,
    Incomplete,
    Failed,
    Cancelled,
}

impl Status {
    const ALL: [Self; 6] =
        [Self::Queued, Self::InProgress, Self::Completed, Self::Incomplete, Self::Failed, Self::Cancelled];

    /// As kept in the database and written in answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether nothing will change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::InProgress)
    }

    /// The event that ends a response so. There is none for a cancelled one,
    /// which is as little complete as others that were cut short.
    pub(super) const fn event(self) -> &'static str {
        match self {
            Self::Queued => "response.queued",
            Self::InProgress => "response.in_progress",
            Self::Completed => "response.completed",
            Self::Incomplete | Self::Cancelled => "response.incomplete",
            Self::Failed => "response.failed",
        }
    }
}

/// How a response ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Completed,
    /// With why, such as `max_output_tokens`.
    Incomplete(&'static str),
    Failed {
        code: String,
        message: String,
    },
    Cancelled,
}

impl Ending {
    pub fn failed(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed { code: code.into(), message: message.into() }
    }

    pub fn status(&self) -> Status {
        match self {
            Self::Completed => Status::Completed,
            Self::Incomplete(_) => Status::Incomplete,
            Self::Failed { .. } => Status::Failed,
            Self::Cancelled => Status::Cancelled,
        }
    }
}

/// An event of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Its number, from 0.
    pub seq: i64,
    /// Its type.
    pub kind: String,
    /// JSON on one line, with both.
    pub data: String,
}

impl Event {
    pub fn new(seq: i64, kind: impl Into<String>, mut fields: Value) -> Self {
        let kind = kind.into();
        fields["type"] = kind.as_str().into();
        fields["sequence_number"] = seq.into();
        Self { seq, kind, data: fields.to_string() }
    }

    /// As it is sent.
    pub fn frame(&self) -> Bytes {
        format!("event: {}\ndata: {}\n\n", self.kind, self.data).into()
    }
}

/// The last event of a response, and the response.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finished {
    pub status: Status,
    pub object: Value,
}

/// What a response object says from its first event on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    pub id: ResponseId,
    /// Everything but what changes while the response is made.
    fields: Map<String, Value>,
}

/// Fields of the request that are shown again, and what is shown without them.
fn shown() -> Value {
    json!({
        "instructions": null, "max_output_tokens": null, "max_tool_calls": null, "metadata": {},
        "parallel_tool_calls": true, "previous_response_id": null, "prompt_cache_key": null,
        "reasoning": { "effort": null, "summary": null }, "safety_identifier": null, "temperature": null,
        "text": { "format": { "type": "text" } }, "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": null,
        "truncation": "disabled", "user": null,
    })
}

impl Head {
    /// The response to a request, which the model `model` answers.
    pub fn new(id: ResponseId, create: &Create, model: &str, created_at: Timestamp) -> Self {
        let mut fields = match shown() {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        for (name, value) in &mut fields {
            match create.fields.get(name) {
                Some(given) if !given.is_null() => *value = given.clone(),
                _ => {}
            }
        }
        let own = json!({
            "id": id.to_string(), "object": "response", "created_at": created_at.micros() / 1_000_000, "model": model,
            "background": create.background, "store": create.store, "service_tier": "default",
        });
        if let Value::Object(own) = own {
            fields.extend(own);
        }
        Self { id, fields }
    }

    /// From an object that says it all already.
    pub fn of_object(id: ResponseId, object: Value) -> Self {
        let fields = match object {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        Self { id, fields }
    }

    /// When it was asked for, in seconds since 1970.
    pub fn created_at(&self) -> &Value {
        self.fields.get("created_at").unwrap_or(&Value::Null)
    }

    /// Which model answers is known only when it does.
    pub fn set_model(&mut self, model: &str) {
        self.fields.insert("model".into(), model.into());
    }

    /// The tier that served it, if it is a known one.
    pub fn set_service_tier(&mut self, tier: &str) {
        if ["auto", "default", "flex", "scale", "priority"].contains(&tier) {
            self.fields.insert("service_tier".into(), tier.into());
        }
    }

    /// The object while nothing has come yet.
    pub fn open(&self, status: Status) -> Value {
        self.object(status, json!({ "output": [], "error": null, "incomplete_details": null, "usage": null }))
    }

    /// The object when it has ended.
    pub fn ended(&self, ending: &Ending, output: &[Value], usage: Option<&Value>) -> Value {
        let mut rest = json!({ "output": output, "error": null, "incomplete_details": null, "usage": usage });
        match ending {
            Ending::Incomplete(reason) => rest["incomplete_details"] = json!({ "reason": reason }),
            Ending::Failed { code, message } => rest["error"] = json!({ "code": code, "message": message }),
            Ending::Completed | Ending::Cancelled => {}
        }
        self.object(ending.status(), rest)
    }

    fn object(&self, status: Status, rest: Value) -> Value {
        let mut fields = self.fields.clone();
        fields.insert("status".into(), status.name().into());
        if let Value::Object(rest) = rest {
            fields.extend(rest);
        }
        Value::Object(fields)
    }
}

/// Ends a response that nothing more will come of, such as one that is
/// cancelled: its object as it stands, ended, and the event that says so.
pub(super) fn end_as_it_stands(id: ResponseId, object: Value, ending: &Ending, seq: i64) -> (Event, Finished) {
    let output = object.get("output").and_then(Value::as_array).cloned().unwrap_or_default();
    let object = Head::of_object(id, object).ended(ending, &output, None);
    let status = ending.status();
    (Event::new(seq, status.event(), json!({ "response": object })), Finished { status, object })
}
