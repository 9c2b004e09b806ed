//! What the routes look like to a client, said in OpenAPI 3.1.
//!
//! A route's description is made of three things: its policy and its
//! handler's arguments, which [`Describe`] themselves; the types of its answers,
//! whose schemas are derived; and what no type can say, which stands beside the
//! route in an [`Operation`]. [`Routes::document`](super::Routes::document)
//! puts them together.

mod codes;
mod document;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::json::Json;
use super::page::{DEFAULT_LIMIT, MAX_LIMIT};
use super::query::NoQuery;
use super::route::Policy;

pub use codes::{CODES, Code};
pub(super) use document::document;

/// Makes the schema of a type.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What an argument of a handler means to a client.
pub trait Describe {
    /// The operation with it.
    #[must_use]
    fn describe(operation: Operation) -> Operation;
}

/// What a client sees of a route. Built beside the route, from what its policy
/// and arguments tell.
pub struct Operation {
    id: &'static str,
    summary: &'static str,
    description: String,
    policy: Policy,
    parameters: Vec<Value>,
    body: Option<SchemaOf>,
    /// The fields of a multipart form, as a schema.
    form: Option<Value>,
    examples: Vec<(&'static str, Value)>,
    answers: BTreeMap<u16, Answer>,
    problems: BTreeMap<u16, BTreeSet<&'static str>>,
    idempotent: bool,
    /// Whether it can also answer with an error in somebody else's words.
    passes_errors: bool,
}

/// What an answer of one media type holds.
enum Body {
    Json(SchemaOf),
    Text,
    Raw,
}

/// An answer of success, whose status stands beside it.
pub struct Answer {
    description: &'static str,
    contents: Vec<(&'static str, Body)>,
    example: Option<Value>,
    headers: Vec<&'static str>,
}

impl Answer {
    /// Without a body.
    #[must_use]
    pub fn empty(description: &'static str) -> Self {
        Self { description, contents: Vec::new(), example: None, headers: Vec::new() }
    }

    /// JSON of type `T`.
    #[must_use]
    pub fn json<T: JsonSchema>(description: &'static str) -> Self {
        let content = ("application/json", Body::Json(schema_of::<T>));
        Self { contents: vec![content], ..Self::empty(description) }
    }

    /// Text of another media type.
    #[must_use]
    pub fn text(media: &'static str, description: &'static str) -> Self {
        Self::empty(description).or_text(media)
    }

    /// Text of this media type, when the client asks for it.
    #[must_use]
    pub fn or_text(mut self, media: &'static str) -> Self {
        self.contents.push((media, Body::Text));
        self
    }

    /// A stream or bytes of this media type, which no schema describes: what
    /// OpenAPI 3.1 lets a schema say about them would be about one string.
    #[must_use]
    pub fn or_raw(mut self, media: &'static str) -> Self {
        self.contents.push((media, Body::Raw));
        self
    }

    /// A header that it always carries: one of those that `document` knows.
    #[must_use]
    pub fn header(mut self, name: &'static str) -> Self {
        self.headers.push(name);
        self
    }

    /// What its JSON looks like.
    #[must_use]
    pub fn showing(mut self, example: Value) -> Self {
        self.example = Some(example);
        self
    }
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

impl Operation {
    pub(super) fn new(policy: Policy) -> Self {
        let new = Self {
            id: "",
            summary: "",
            description: String::new(),
            policy,
            parameters: Vec::new(),
            body: None,
            form: None,
            examples: Vec::new(),
            answers: BTreeMap::new(),
            problems: BTreeMap::new(),
            idempotent: false,
            passes_errors: false,
        };
        let new = match policy {
            Policy::Open => return new,
            Policy::Tenant(_) => new
                .problems(StatusCode::FORBIDDEN, &["forbidden", "origin_not_allowed"])
                .problems(StatusCode::TOO_MANY_REQUESTS, &["rate_limited"]),
            Policy::Admin => new
                .problems(StatusCode::FORBIDDEN, &["csrf_token_wrong", "forbidden"])
                .problems(StatusCode::TOO_MANY_REQUESTS, &["too_many_attempts"]),
            Policy::Local => new.problems(StatusCode::FORBIDDEN, &["forbidden"]),
            Policy::Metrics => new.problems(StatusCode::TOO_MANY_REQUESTS, &["too_many_attempts"]),
        };
        let new = new
            .problems(StatusCode::BAD_REQUEST, &["local_only"])
            .problems(StatusCode::UNAUTHORIZED, &["unauthorized"]);
        if policy == Policy::Metrics {
            return new;
        }
        let storage = ["disk_full", "disk_read_only", "draining", "overloaded", "query_timeout", "storage_unavailable"];
        new.problems(StatusCode::INTERNAL_SERVER_ERROR, &["internal"])
            .problems(StatusCode::SERVICE_UNAVAILABLE, &storage)
    }

    /// The name that programs call it by, unique and stable, and one line for people.
    #[must_use]
    pub fn named(mut self, id: &'static str, summary: &'static str) -> Self {
        (self.id, self.summary) = (id, summary);
        self
    }

    /// More about it, in Markdown; each call adds a paragraph.
    #[must_use]
    pub fn about(mut self, text: &str) -> Self {
        if !self.description.is_empty() {
            self.description.push_str("\n\n");
        }
        self.description.push_str(text);
        self
    }

    /// The fields of the multipart form that it takes, as a schema.
    #[must_use]
    pub fn form(mut self, fields: Value) -> Self {
        self.form = Some(fields);
        self
    }

    /// A body that a request can be sent with; a test sends it.
    #[must_use]
    pub fn example(mut self, name: &'static str, body: Value) -> Self {
        self.examples.push((name, body));
        self
    }

    /// A parameter of the query with its schema.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "callers write the schema where they name it")]
    pub fn query(mut self, name: &'static str, description: &str, schema: Value) -> Self {
        let mut parameter = json!({ "name": name, "in": "query", "description": description, "schema": schema });
        if schema["type"] == "object" {
            parameter["style"] = "form".into();
            parameter["explode"] = true.into();
        }
        self.parameters.push(parameter);
        self.problems(StatusCode::BAD_REQUEST, &["invalid_query", "invalid_request"])
    }

    /// The parameters of a list that comes in pages.
    #[must_use]
    pub fn pages(self) -> Self {
        let limit = json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT });
        let cursor = "`next_cursor` of the page before, as it is; left out for the first page.";
        self.query("limit", "Rows at most.", limit).query("cursor", cursor, json!({ "type": "string" }))
    }

    /// A header of the request with its schema.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "callers write the schema where they name it")]
    pub fn header(mut self, name: &'static str, description: &str, schema: Value) -> Self {
        self.parameters.push(json!({ "name": name, "in": "header", "description": description, "schema": schema }));
        self
    }

    /// It takes `Idempotency-Key`.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self.header(
            "Idempotency-Key",
            "Sent again with the same key and body within 24 hours, the request is done once and answered twice.",
            json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$" }),
        )
        .problems(StatusCode::BAD_REQUEST, &["invalid_idempotency_key"])
        .problems(StatusCode::UNPROCESSABLE_ENTITY, &["idempotency_key_reused"])
    }

    /// It also passes errors on that are not the service's own.
    #[must_use]
    pub fn passes_errors(mut self) -> Self {
        self.passes_errors = true;
        self
    }

    /// An answer of success.
    #[must_use]
    pub fn answer(mut self, status: StatusCode, answer: Answer) -> Self {
        self.answers.insert(status.as_u16(), answer);
        self
    }

    /// Problems that it can answer with; all codes are in [`CODES`].
    #[must_use]
    pub fn problems(self, status: StatusCode, codes: &[&'static str]) -> Self {
        self.problems_of(status.as_u16(), codes)
    }

    /// The same with a status that has no name.
    #[must_use]
    pub fn problems_of(mut self, status: u16, codes: &[&'static str]) -> Self {
        self.problems.entry(status).or_default().extend(codes);
        self
    }
}

impl<T: JsonSchema, const MAX: usize> Describe for Json<T, MAX> {
    fn describe(mut operation: Operation) -> Operation {
        operation.body = Some(schema_of::<T>);
        let faults = ["incomplete_body", "invalid_request", "malformed_json", "too_deep", "unknown_field"];
        operation
            .problems(StatusCode::BAD_REQUEST, &faults)
            .problems(StatusCode::REQUEST_TIMEOUT, &["request_timeout"])
            .problems(StatusCode::PAYLOAD_TOO_LARGE, &["payload_too_large"])
            .problems(StatusCode::UNSUPPORTED_MEDIA_TYPE, &["unsupported_media_type"])
    }
}

impl Describe for NoQuery {
    fn describe(operation: Operation) -> Operation {
        operation.problems(StatusCode::BAD_REQUEST, &["invalid_query", "invalid_request"])
    }
}

/// Its parameters are named in the path; what is at no such place is not found.
impl<T> Describe for web::Path<T> {
    fn describe(operation: Operation) -> Operation {
        operation.problems(StatusCode::NOT_FOUND, &["not_found"])
    }
}

/// A client sees nothing of it.
impl<T: ?Sized> Describe for web::Data<T> {
    fn describe(operation: Operation) -> Operation {
        operation
    }
}

/// What is read out of it is said beside the route.
impl Describe for HttpRequest {
    fn describe(operation: Operation) -> Operation {
        operation
    }
}
