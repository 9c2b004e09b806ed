//! A call's body as far as the gateway has to know it. What it does not know is
//! passed on as it is.

use std::sync::Arc;

use actix_web::http::StatusCode;
use bytes::Bytes;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::provider::{DEFAULT, Step};
use super::quirks::{NEWER_LIMIT, OLDER_LIMIT, Quirks, STREAM_OPTIONS};
use crate::http::Problem;
use crate::models::estimate::{self, Estimate, Fields};
use crate::models::price::Price;
use crate::models::{Body, Bound, Endpoint, Form};

/// What a call asks for, and with what.
#[derive(Clone)]
pub(super) struct Request {
    pub endpoint: Endpoint,
    /// As the client named it.
    pub model: String,
    /// Whether the answer is to come in pieces.
    pub stream: bool,
    /// Whether the client has not asked for the usage of a stream, and must not see it.
    pub hides_usage: bool,
    /// What the gateway has put into the place of the client's `stream_options`.
    usage: Option<Added>,
    content: Content,
    /// Members that only some providers are sent.
    bound: Option<Arc<Bound>>,
}

/// The usage of a stream is asked for on the gateway's own account.
#[derive(Clone)]
struct Added {
    /// What the client had there.
    before: Option<Arc<RawValue>>,
}

#[derive(Clone)]
enum Content {
    Json(Arc<Fields>),
    Form(Form),
}

/// What a provider is sent.
pub(super) struct Written {
    pub content_type: String,
    pub body: Bytes,
}

/// Fields with a provider's own name for the model.
struct Renamed<'a> {
    model: &'a str,
    fields: &'a Fields,
}

impl Serialize for Renamed<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let others = self.fields.iter().filter(|(name, _)| *name != "model");
        let mut object = to.serialize_map(None)?;
        object.serialize_entry("model", self.model)?;
        for (name, value) in others {
            object.serialize_entry(name, value)?;
        }
        object.end()
    }
}

impl Request {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none, or its model is no name.
    pub(super) fn read(endpoint: Endpoint, body: Body) -> Result<Self, Problem> {
        match body {
            Body::Json(bytes) => Self::read_json(endpoint, &bytes, false),
            // Who made the body sees the usage of a stream, though the body does not ask for it.
            Body::Bound(bytes, bound) => Ok(Self { bound: Some(bound), ..Self::read_json(endpoint, &bytes, true)? }),
            Body::Form(form) => {
                let text = |name: &str| form.parts.iter().find(|part| part.name == name).map(|part| &part.body);
                let model = text("model").map(|model| String::from_utf8_lossy(model).into_owned());
                let stream = match text("stream").map(|stream| &stream[..]) {
                    None | Some(b"false") => false,
                    Some(b"true") => true,
                    Some(_) => return Err(Problem::invalid("/stream", "must be true or false")),
                };
                let model = named(model)?;
                let content = Content::Form(form);
                Ok(Self { endpoint, model, stream, hides_usage: false, usage: None, content, bound: None })
            }
        }
    }

    fn read_json(endpoint: Endpoint, bytes: &[u8], wants_usage: bool) -> Result<Self, Problem> {
        let mut fields: Fields = serde_json::from_slice(bytes)
            .map_err(|error| Problem::bad_request("malformed_json", format!("the body is no JSON object: {error}")))?;
        let model = named(field::<Option<String>>(&fields, "model", "a text")?.flatten())?;
        let stream = field::<Option<bool>>(&fields, "stream", "true or false")?.flatten().unwrap_or_default();
        let is_chat = endpoint == Endpoint::ChatCompletions;
        let usage = if stream && is_chat { ask_for_usage(&mut fields)? } else { None };
        let hides_usage = usage.is_some() && !wants_usage;
        let content = Content::Json(fields.into());
        Ok(Self { endpoint, model, stream, hides_usage, usage, content, bound: None })
    }

    /// The same for the provider that is tried now: with the members that are bound to it.
    pub(super) fn for_step(&self, step: &Step) -> Self {
        let (Some(bound), Content::Json(fields)) = (&self.bound, &self.content) else { return self.clone() };
        let provider = &step.provider.name;
        bound.asked(provider, &step.model);
        let added = fields.get("messages").and_then(|messages| bound.added(provider, messages));
        let Some(messages) = added else { return self.clone() };
        let mut whole = Fields::clone(fields);
        whole.insert("messages".into(), messages);
        Self { content: Content::Json(whole.into()), ..self.clone() }
    }

    /// Bytes of what has to be counted.
    pub(super) fn bytes(&self) -> usize {
        match &self.content {
            Content::Json(fields) => fields.values().map(|value| value.get().len()).sum(),
            Content::Form(_) => 0,
        }
    }

    /// What it can cost at most.
    pub(super) fn estimate(&self, price: &Price) -> Result<Estimate, Problem> {
        match &self.content {
            Content::Json(fields) => estimate::estimate(self.endpoint, fields, price),
            Content::Form(form) => estimate::estimate_form(self.endpoint, form, price),
        }
    }

    /// The same with its limit of output under a name that the model is sure to know.
    pub(super) fn bounded(&self, price: &Price) -> Self {
        let Content::Json(fields) = &self.content else { return self.clone() };
        let Some((name, limit)) = estimate::older_limit(self.endpoint, fields, price) else { return self.clone() };
        let mut bounded = Fields::clone(fields);
        bounded.insert(name.into(), limit);
        Self { content: Content::Json(bounded.into()), ..self.clone() }
    }

    /// Whether the usage of a stream is asked for on the gateway's own account.
    pub(super) fn adds_usage(&self) -> bool {
        self.usage.is_some()
    }

    /// Whether the output is limited by the older and by the newer name.
    pub(super) fn limits(&self) -> [bool; 2] {
        let Content::Json(fields) = &self.content else { return [false; 2] };
        let is_set = |name: &str| fields.get(name).is_some_and(|value| value.get() != "null");
        [is_set(OLDER_LIMIT), is_set(NEWER_LIMIT)]
    }

    /// The same in a form that a model with these quirks takes.
    pub(super) fn adapted(self, quirks: Quirks) -> Self {
        let Content::Json(fields) = &self.content else { return self };
        if quirks == Quirks::default() || self.endpoint != Endpoint::ChatCompletions {
            return self;
        }
        let mut fields = Fields::clone(fields);
        if let (Some(added), true) = (&self.usage, quirks.no_stream_options) {
            match &added.before {
                Some(before) => fields.insert(STREAM_OPTIONS.into(), RawValue::to_owned(before)),
                None => fields.remove(STREAM_OPTIONS),
            };
        }
        if let Some(known) = quirks.limit {
            let other = if known == NEWER_LIMIT { OLDER_LIMIT } else { NEWER_LIMIT };
            if let Some(limit) = fields.remove(other) {
                fields.entry(known.into()).or_insert(limit);
            }
        }
        Self { content: Content::Json(fields.into()), ..self }
    }

    /// The same with so many tokens of output at most, over all choices; `None`
    /// where that cannot be said.
    pub(super) fn limited(&self, output: u64, model: &Arc<str>) -> Option<Self> {
        let Content::Json(fields) = &self.content else { return None };
        let choices = field::<Option<u64>>(fields, "n", "").ok()?.flatten().unwrap_or(1).max(1);
        let mut limited = Fields::clone(fields);
        // Which field it is depends on the model that is asked.
        limited.insert("model".into(), to_raw_value(&**model).ok()?);
        estimate::with_output_limit(self.endpoint, &mut limited, output / choices);
        Some(Self { content: Content::Json(limited.into()), ..self.clone() })
    }

    /// The fields, for the built-in model; of a form none.
    pub(super) fn json(&self) -> serde_json::Value {
        match &self.content {
            Content::Json(fields) => serde_json::to_value(&**fields).unwrap_or_default(),
            Content::Form(_) => serde_json::Value::Null,
        }
    }

    /// As a provider is sent it, with its own name for the model.
    pub(super) fn written(&self, model: &Arc<str>) -> Result<Written, Problem> {
        match &self.content {
            Content::Json(fields) => {
                let body = serde_json::to_vec(&Renamed { model, fields }).map_err(Problem::internal)?;
                Ok(Written { content_type: "application/json".into(), body: body.into() })
            }
            Content::Form(form) => {
                let (content_type, body) = form.encode(model);
                Ok(Written { content_type, body })
            }
        }
    }
}

/// A field of a known type; what is wrong with it names it.
fn field<'a, T: Deserialize<'a>>(fields: &'a Fields, name: &str, expected: &str) -> Result<Option<T>, Problem> {
    let Some(raw) = fields.get(name) else { return Ok(None) };
    let read = serde_json::from_str(raw.get()).map(Some);
    read.map_err(|_| Problem::invalid(format!("/{name}"), format!("must be {expected}")))
}

fn named(model: Option<String>) -> Result<String, Problem> {
    let model = model.unwrap_or_else(|| DEFAULT.into());
    if model.is_empty() || model.len() > 256 || model.chars().any(char::is_control) {
        return Err(Problem::new(StatusCode::NOT_FOUND, "model_not_found", "/model: is no name of a model"));
    }
    Ok(model)
}

/// Has a stream end with its usage, where the client has not asked for that.
fn ask_for_usage(fields: &mut Fields) -> Result<Option<Added>, Problem> {
    #[derive(Deserialize)]
    struct Options {
        include_usage: Option<bool>,
    }
    let asked = field::<Option<Options>>(fields, STREAM_OPTIONS, "an object")?.flatten();
    if asked.is_some_and(|options| options.include_usage == Some(true)) {
        return Ok(None);
    }
    let mut options = field::<Option<Fields>>(fields, STREAM_OPTIONS, "an object")?.flatten().unwrap_or_default();
    options.insert("include_usage".into(), RawValue::from_string("true".into()).map_err(Problem::internal)?);
    let options = to_raw_value(&options).map_err(Problem::internal)?;
    let before = fields.insert(STREAM_OPTIONS.into(), options).map(Arc::from);
    Ok(Some(Added { before }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::complaint::Complaint;
    use super::*;

    fn read(body: &'static str) -> Result<Request, Problem> {
        Request::read(Endpoint::ChatCompletions, Body::Json(Bytes::from_static(body.as_bytes())))
    }

    fn written(body: &'static str) -> serde_json::Value {
        let written = read(body).expect("a request").written(&"m".into()).expect("a body");
        serde_json::from_slice(&written.body).expect("JSON")
    }

    #[test]
    fn unknown_fields_are_passed_on_and_the_model_is_replaced() {
        let body = written(r#"{"model":"default","x":{"y":1.0e2},"messages":[]}"#);
        assert_eq!(body, json!({ "model": "m", "x": { "y": 1.0e2 }, "messages": [] }));
    }

    #[test]
    fn a_stream_is_counted_whether_the_client_wants_to_know_or_not() {
        assert!(read(r#"{"stream":true}"#).expect("a request").hides_usage);
        assert!(!read(r#"{"stream":true,"stream_options":{"include_usage":true}}"#).expect("a request").hides_usage);
        assert!(!read(r#"{"stream":false}"#).expect("a request").hides_usage);
        let body = written(r#"{"stream":true,"stream_options":{"include_usage":false,"z":1}}"#);
        assert_eq!(body["stream_options"], json!({ "include_usage": true, "z": 1 }));
    }

    #[test]
    fn what_a_provider_refuses_is_learned_and_left_out() {
        let sent = |request: Request| -> serde_json::Value {
            let written = request.written(&"m".into()).expect("a body");
            serde_json::from_slice(&written.body).expect("JSON")
        };
        let learned = |request: &Request, complaint: &str| {
            let complaint = Complaint::read(complaint.as_bytes());
            Quirks::default().learned(&complaint, request)
        };
        for (body, complaint, expected) in [
            (r#"{"stream":true}"#, "unknown field stream_options", json!({ "model": "m", "stream": true })),
            (
                r#"{"stream":true,"stream_options":{"z":1}}"#,
                "stream_options.include_usage: extra inputs are not permitted",
                json!({ "model": "m", "stream": true, "stream_options": { "z": 1 } }),
            ),
            (
                r#"{"max_tokens":7}"#,
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
                json!({ "model": "m", "max_completion_tokens": 7 }),
            ),
            (
                r#"{"max_tokens":7,"max_completion_tokens":7}"#,
                "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
                json!({ "model": "m", "max_completion_tokens": 7 }),
            ),
            (
                r#"{"max_tokens":7,"max_completion_tokens":7}"#,
                "max_completion_tokens: Extra inputs are not permitted",
                json!({ "model": "m", "max_tokens": 7 }),
            ),
            (
                r#"{"max_completion_tokens":7}"#,
                "Unrecognized request argument supplied: max_completion_tokens",
                json!({ "model": "m", "max_tokens": 7 }),
            ),
        ] {
            let request = read(body).expect("a request");
            let quirks = learned(&request, complaint).unwrap_or_else(|| panic!("{complaint} teaches something"));
            assert_eq!(sent(request.clone().adapted(quirks)), expected, "{complaint}");
            // Once is enough.
            assert_eq!(quirks.learned(&Complaint::read(complaint.as_bytes()), &request), None, "{complaint}");
        }
        for (body, complaint) in [
            (r#"{"stream":true,"stream_options":{"include_usage":true}}"#, "unknown field stream_options"),
            (r#"{"stream":true}"#, "stream must be false"),
            (r#"{"max_tokens":7}"#, "max_tokens must be at most 4096"),
            (r#"{"max_tokens":7}"#, "max_tokens: extra inputs are not permitted"),
            (r#"{"max_tokens":7,"max_completion_tokens":7}"#, "max_completion_tokens is too large"),
            ("{}", "unsupported parameter: max_tokens"),
        ] {
            assert_eq!(learned(&read(body).expect("a request"), complaint), None, "{complaint}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, code) in [
            ("[]", "malformed_json"),
            ("", "malformed_json"),
            (r#"{"model":5}"#, "invalid_request"),
            (r#"{"model":""}"#, "model_not_found"),
            (r#"{"stream":"yes"}"#, "invalid_request"),
            (r#"{"stream":true,"stream_options":[]}"#, "invalid_request"),
        ] {
            assert_eq!(read(body).map(|_| ()).expect_err(body).code(), code, "{body}");
        }
    }
}
