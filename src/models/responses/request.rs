//! A request for a response, as far as the service itself looks at it.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::id::ResponseId;
use super::seal::PREFIX;
use super::translate::MEMBER;
use crate::http::Problem;

/// The model where the request names none: the alias of that name.
const DEFAULT_MODEL: &str = "default";

/// The body: a JSON object. What the service does not know is passed on.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct CreateBody(pub Map<String, Value>);

impl JsonSchema for CreateBody {
    fn schema_name() -> Cow<'static, str> {
        "CreateResponse".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let text = |doc: &str| json!({ "type": ["string", "null"], "description": doc });
        let flag = |doc: &str| json!({ "type": ["boolean", "null"], "description": doc });
        schemars::json_schema!({
            "type": "object",
            "description": "As OpenAI describes it; fields that are not listed are passed on.",
            "properties": {
                "model": text("A model or an alias; `default` when left out."),
                "input": {
                    "type": ["string", "array"],
                    "items": { "type": "object" },
                    "description": "A text, or a list of items.",
                },
                "previous_response_id": text("The stored response that this one goes on from."),
                "stream": flag("Whether events are sent as they happen."),
                "background": flag("Whether it is made as a job, to be asked for later."),
                "store": flag("Whether it is kept; true when left out."),
            },
        })
    }
}

/// A request that has been looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Create {
    /// All fields but `input`, as they were sent.
    pub fields: Map<String, Value>,
    /// What is new in this turn: a list of items.
    pub input: Vec<Value>,
    pub stream: bool,
    pub background: bool,
    pub store: bool,
    pub previous: Option<ResponseId>,
}

impl Create {
    /// Reads a request.
    ///
    /// # Errors
    /// When a field that the service itself goes by is wrong.
    pub fn read(body: CreateBody) -> Result<Self, Problem> {
        let mut fields = body.0;
        let flag = |name: &str, default: bool| match fields.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => Err(Problem::invalid(format!("/{name}"), "must be true or false")),
        };
        let (stream, background, store) = (flag("stream", false)?, flag("background", false)?, flag("store", true)?);
        if background && !store {
            return Err(Problem::invalid("/store", "must be true with background, which is asked for later"));
        }
        if fields.get("conversation").is_some_and(|it| !it.is_null()) {
            let problem = Problem::invalid("/conversation", "conversations are not kept here");
            return Err(problem.with_hint("go on from an earlier response with previous_response_id"));
        }
        let previous = match fields.get("previous_response_id") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(ResponseId::parse(text).ok_or_else(|| no_previous(text))?),
            Some(_) => return Err(Problem::invalid("/previous_response_id", "must be the id of a response")),
        };
        let input = match fields.remove("input") {
            None | Some(Value::Null) => {
                let expected = fields.get("prompt").is_none_or(Value::is_null);
                if expected {
                    return Err(Problem::invalid("/input", "is missing: a text or a list of items"));
                }
                Vec::new()
            }
            Some(Value::String(text)) => vec![json!({
                "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }],
            })],
            Some(Value::Array(items)) => items,
            Some(_) => return Err(Problem::invalid("/input", "must be a text or a list of items")),
        };
        if let Some(place) = input.iter().position(|item| !item.is_object()) {
            return Err(Problem::invalid(format!("/input/{place}"), "must be an object"));
        }
        match fields.get("model") {
            None | Some(Value::Null) => drop(fields.insert("model".into(), DEFAULT_MODEL.into())),
            Some(Value::String(_)) => {}
            Some(_) => return Err(Problem::invalid("/model", "must be the name of a model")),
        }
        Ok(Self { fields, input, stream, background, store, previous })
    }

    /// The model or alias that is asked for.
    pub fn model(&self) -> &str {
        self.fields.get("model").and_then(Value::as_str).unwrap_or(DEFAULT_MODEL)
    }

    /// The request as a provider with this interface is sent it: with what came
    /// before written out, and nothing of it to be kept there. Members that are bound to
    /// a provider of chat completions are left out.
    pub fn to_provider(&self, context: Vec<Value>, stream: bool) -> Map<String, Value> {
        let mut fields = self.fields.clone();
        for ours in ["previous_response_id", "background", "conversation"] {
            fields.remove(ours);
        }
        if !(context.is_empty() && self.input.is_empty()) {
            let context = context.into_iter().filter_map(without_id);
            let input = context.chain(self.input.iter().filter_map(|item| without_theirs(item.clone()))).collect();
            fields.insert("input".into(), Value::Array(input));
        }
        fields.insert("store".into(), false.into());
        fields.insert("stream".into(), stream.into());
        fields
    }
}

/// An item of an earlier turn. The provider has kept nothing under its id, and
/// reasoning without its encrypted form cannot be given back at all.
pub(super) fn without_id(item: Value) -> Option<Value> {
    let mut item = without_theirs(item)?;
    let fields = item.as_object_mut()?;
    if fields.get("type").is_some_and(|kind| kind == "reasoning") {
        return fields.get("encrypted_content").is_some_and(Value::is_string).then_some(item);
    }
    fields.remove("id");
    fields.remove("status");
    Some(item)
}

/// An item without members that are bound to a provider of chat completions. Reasoning of
/// such a provider is left out.
fn without_theirs(mut item: Value) -> Option<Value> {
    let fields = item.as_object_mut()?;
    let is_theirs = fields.remove(MEMBER).is_some_and(|it| !it.is_null());
    let sealed = fields.get("encrypted_content").and_then(Value::as_str);
    let is_sealed_here = sealed.is_some_and(|sealed| sealed.starts_with(PREFIX));
    let is_reasoning = fields.get("type").is_some_and(|kind| kind == "reasoning");
    (!is_reasoning || !(is_theirs || is_sealed_here)).then_some(item)
}

/// There is no such response to go on from.
pub(super) fn no_previous(id: &str) -> Problem {
    let detail = format!("previous_response_id: there is no response {id:?}, or it was not stored, or is no longer");
    let error = crate::http::FieldError { pointer: "/previous_response_id".into(), detail: detail.clone() };
    Problem::bad_request("previous_response_not_found", detail).with_errors(vec![error])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<Create, String> {
        let Value::Object(fields) = body else { panic!("an object") };
        Create::read(CreateBody(fields)).map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_text_is_a_message_of_the_user() {
        let read = read(json!({ "input": "hello", "odd": 1 })).expect("it is fine");
        assert_eq!(read.input[0]["content"][0]["text"], "hello");
        assert_eq!((read.model(), read.store, read.stream, read.background), ("default", true, false, false));
        assert_eq!(read.fields["odd"], 1);
    }

    #[test]
    fn a_fault_names_its_place() {
        let id = ResponseId(uuid::Uuid::from_u128(1));
        for (body, place) in [
            (json!({}), "/input"),
            (json!({ "input": 5 }), "/input"),
            (json!({ "input": ["a"] }), "/input/0"),
            (json!({ "input": "a", "stream": "yes" }), "/stream"),
            (json!({ "input": "a", "background": true, "store": false }), "/store"),
            (json!({ "input": "a", "conversation": "conv_1" }), "/conversation"),
            (json!({ "input": "a", "previous_response_id": "resp_1" }), "previous_response_id"),
            (json!({ "input": "a", "previous_response_id": 1 }), "/previous_response_id"),
            (json!({ "input": "a", "model": 1 }), "/model"),
        ] {
            let fault = read(body.clone()).expect_err("it is refused");
            assert!(fault.contains(place), "{body}: {fault}");
        }
        let fine = read(json!({ "input": [], "previous_response_id": id.to_string() }));
        assert_eq!(fine.map(|read| read.previous), Ok(Some(id)));
    }

    #[test]
    fn a_provider_is_sent_the_whole_context_and_keeps_nothing() {
        let create = read(json!({
            "model": "m", "input": "more", "previous_response_id": ResponseId(uuid::Uuid::nil()).to_string(),
            "background": true, "odd": { "kept": true },
        }))
        .expect("it is fine");
        let context = vec![
            json!({ "type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [] }),
            json!({ "type": "reasoning", "id": "rs_1", "summary": [] }),
            json!({ "type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "x" }),
            json!({ "type": "reasoning", "id": "rs_3", "summary": [], "encrypted_content": format!("{PREFIX}x") }),
            json!({ "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", MEMBER: "x" }),
        ];
        let sent = create.to_provider(context, true);
        insta::assert_json_snapshot!(sent);
    }
}
