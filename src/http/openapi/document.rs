//! Puts the descriptions of all routes together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use schemars::SchemaGenerator;
use schemars::generate::{Contract, SchemaSettings};
use serde_json::{Map, Value, json};

use super::{Answer, Body, CODES, Operation};
use crate::http::problem::{OpenAiError, ProblemBody};
use crate::http::route::{Entry, Policy, Routes};

/// The document: valid OpenAPI 3.1, in the same order every time.
pub(in crate::http) fn document(routes: &Routes) -> Value {
    let (paths, parts) = assemble(routes);
    let tags = routes.tags().map(|(name, description)| json!({ "name": name, "description": description }));
    json!({
        "openapi": "3.1.1",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "agentd",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Durable jobs, tools and agents over HTTP",
            "description": INTRODUCTION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags.collect::<Vec<_>>(),
        "paths": paths,
        "components": parts.components(),
    })
}

/// Types whose requests look otherwise than their answers under one name.
#[cfg(test)]
pub(super) fn torn(routes: &Routes) -> Vec<String> {
    let (_, mut parts) = assemble(routes);
    let (answers, requests) = (parts.answers.take_definitions(true), parts.requests.take_definitions(true));
    let differs = |(name, schema): &(&String, &Value)| answers.get(*name).is_some_and(|other| other != *schema);
    requests.iter().filter(differs).map(|(name, _)| name.clone()).collect()
}

fn assemble(routes: &Routes) -> (Value, Parts) {
    let mut parts = Parts::new();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let described = routes.entries().filter_map(|entry| Some((entry, entry.operation.as_ref()?)));
    for (entry, operation) in described {
        let at = paths.entry(entry.path).or_default();
        at.insert(entry.method.as_str().to_ascii_lowercase(), parts.operation(entry, operation));
    }
    (json!(paths), parts)
}

const INTRODUCTION: &str = "JSON in UTF-8 over HTTP. Times are RFC 3339 in UTC. Ids are opaque. \
`HEAD` works wherever `GET` does.\n\n\
Errors are `application/problem+json` (RFC 9457): `code` is for programs and stays, `detail` and `hint` are for people. \
429 and 503 say in `Retry-After` when to come back; after a 503 nothing of the request has happened.\n\n\
Every answer to a tenant's key, also an error, says in `X-RateLimit-*` how it stands with its rate, unless the \
limits by rate are switched off.\n\n\
Unknown fields and unknown or repeated parameters are refused; the routes of OpenAI's interface ignore \
parameters that they do not know.\n\n\
`X-Request-Id` is returned as it was sent when it has 1 to 64 letters, digits or any of `-_.`; else one is made.";

/// What is shared between operations.
struct Parts {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
    responses: BTreeMap<String, Value>,
}

impl Parts {
    fn new() -> Self {
        let generator = |contract: Contract| {
            let set = |settings: &mut SchemaSettings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
                settings.contract = contract;
            };
            SchemaSettings::draft2020_12().with(set).into_generator()
        };
        Self {
            requests: generator(Contract::Deserialize),
            answers: generator(Contract::Serialize),
            responses: BTreeMap::new(),
        }
    }

    fn operation(&mut self, entry: &Entry, operation: &Operation) -> Value {
        let mut parameters = path_parameters(entry.path);
        parameters.extend(operation.parameters.iter().cloned());
        let mut description = operation.description.clone();
        if let Policy::Tenant(scope) = operation.policy {
            if !description.is_empty() {
                description.push_str("\n\n");
            }
            let _ = write!(description, "Needs the scope `{scope}`.");
        }
        let mut responses = BTreeMap::new();
        for (status, answer) in &operation.answers {
            responses.insert(status.to_string(), self.answer(answer, operation));
        }
        for (status, codes) in &operation.problems {
            responses.insert(status.to_string(), self.problem(*status, codes, entry.openai));
        }
        if operation.passes_errors {
            let passed = json!({
                "description": "What whoever was asked says is wrong with the request, in its own words.",
                "headers": { "X-Request-Id": header("X-Request-Id") },
                "content": { "application/json": { "schema": { "type": "object" } } },
            });
            responses.insert("default".into(), passed);
        }
        let mut value = json!({
            "operationId": operation.id,
            "summary": operation.summary,
            "tags": [entry.tag],
            "security": security(operation.policy),
            "parameters": parameters,
            "responses": responses,
        });
        if !description.is_empty() {
            value["description"] = description.into();
        }
        if let Some(schema) = operation.body {
            let mut content = json!({ "schema": schema(&mut self.requests) });
            if !operation.examples.is_empty() {
                let example = |(name, value): &(&str, Value)| ((*name).to_owned(), json!({ "value": value }));
                content["examples"] = operation.examples.iter().map(example).collect::<Map<_, _>>().into();
            }
            value["requestBody"] = json!({ "required": true, "content": { "application/json": content } });
        }
        if let Some(fields) = &operation.form {
            let content = json!({ "multipart/form-data": { "schema": fields } });
            value["requestBody"] = json!({ "required": true, "content": content });
        }
        value
    }

    fn answer(&mut self, answer: &Answer, operation: &Operation) -> Value {
        let replayed = operation.idempotent.then_some("Idempotency-Replayed");
        let limited: &[&str] = if matches!(operation.policy, Policy::Tenant(_)) { &RATE_LIMIT } else { &[] };
        let own = answer.headers.iter().chain(limited).copied();
        let names = ["X-Request-Id"].into_iter().chain(own).chain(replayed);
        let headers: Map<_, _> = names.map(|name| (name.to_owned(), header(name))).collect();
        let mut value = json!({ "description": answer.description, "headers": headers });
        for (media, body) in &answer.contents {
            let content = &mut value["content"][media];
            *content = match body {
                Body::Json(schema) => json!({ "schema": schema(&mut self.answers).to_value() }),
                Body::Text => json!({ "schema": { "type": "string" } }),
                Body::Raw => json!({}),
            };
            if let (Body::Json(_), Some(example)) = (body, &answer.example) {
                content["example"] = example.clone();
            }
        }
        value
    }

    /// A reference to the problems with these codes, which are the same thing
    /// wherever they are.
    fn problem(&mut self, status: u16, codes: &BTreeSet<&'static str>, openai: bool) -> Value {
        let listed: Vec<&str> = codes.iter().copied().collect();
        let name = format!("{}{status}.{}", if openai { "openai." } else { "" }, listed.join("."));
        let reference = json!({ "$ref": format!("#/components/responses/{name}") });
        if !self.responses.contains_key(&name) {
            let (media, schema) = if openai {
                ("application/json", self.openai_error(&listed))
            } else {
                ("application/problem+json", self.problem_body(status, &listed))
            };
            let meaning = |code: &&str| {
                let known = CODES.iter().find(|known| known.status == status && known.code == *code);
                format!("- `{code}`: {}", known.map_or("", |known| known.meaning))
            };
            let description = codes.iter().map(meaning).collect::<Vec<_>>().join("\n");
            let response = json!({
                "description": description,
                "headers": problem_headers(status),
                "content": { media: { "schema": schema } },
            });
            self.responses.insert(name, response);
        }
        reference
    }

    fn problem_body(&mut self, status: u16, codes: &[&str]) -> Value {
        let narrow = json!({ "properties": { "status": { "const": status }, "code": { "enum": codes } } });
        json!({ "allOf": [self.answers.subschema_for::<ProblemBody<'_>>(), narrow] })
    }

    fn openai_error(&mut self, codes: &[&str]) -> Value {
        let narrow = json!({ "properties": { "error": { "properties": { "code": { "enum": codes } } } } });
        json!({ "allOf": [self.answers.subschema_for::<OpenAiError>(), narrow] })
    }

    fn components(mut self) -> Value {
        let mut schemas = self.answers.take_definitions(true);
        schemas.values_mut().for_each(left_out_instead_of_null);
        for (name, schema) in self.requests.take_definitions(true) {
            // Where it is there already it is the same, see `torn`.
            schemas.entry(name).or_insert(schema);
        }
        json!({
            "schemas": schemas,
            "responses": self.responses,
            "headers": headers(),
            "securitySchemes": {
                "apiKey": {
                    "type": "apiKey", "in": "header", "name": "X-API-Key",
                    "description": "A tenant's key, `agk_live_…` or `agk_test_…`.",
                },
                "bearer": {
                    "type": "http", "scheme": "bearer",
                    "description": "The same key as a bearer token; for `/metrics` the metrics token.",
                },
                "adminKey": {
                    "type": "apiKey", "in": "header", "name": "X-Admin-Key",
                    "description": "The administrator's key.",
                },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": "__Host-agentd",
                    "description": "A user signed in with `POST /admin/session`. What changes something also needs \
                                    `X-CSRF-Token`.",
                },
            },
        })
    }
}

/// A member that an answer may lack is left out rather than null.
fn left_out_instead_of_null(schema: &mut Value) {
    let required: Vec<Value> = schema["required"].as_array().cloned().unwrap_or_default();
    let Some(members) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (_, member) in members.iter_mut().filter(|(name, _)| !required.iter().any(|known| known == *name)) {
        let Some(types) = member.get_mut("type").and_then(Value::as_array_mut) else { continue };
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            member["type"] = only.clone();
        }
    }
}

/// The parameters in a path's braces.
fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
    let parameter = |name: &str| {
        json!({
            "name": name, "in": "path", "required": true,
            "description": "As the service gave it out.",
            "schema": { "type": "string", "minLength": 1 },
        })
    };
    names.map(parameter).collect()
}

fn security(policy: Policy) -> Value {
    match policy {
        Policy::Open => json!([]),
        Policy::Tenant(scope) => json!([{ "apiKey": [scope] }, { "bearer": [scope] }]),
        Policy::Admin => json!([{ "adminKey": [] }, { "session": [] }]),
        // Anyone here; what it does asks for more.
        Policy::Local => json!([{}]),
        // From this machine it needs none.
        Policy::Metrics => json!([{ "adminKey": [] }, { "bearer": [] }, {}]),
    }
}

/// On the answers to tenants, unless rate limits are switched off.
const RATE_LIMIT: [&str; 3] = ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"];

/// The headers of answers, by name.
fn headers() -> Value {
    let text =
        |description: &str| json!({ "description": description, "required": true, "schema": { "type": "string" } });
    let sometimes = |description: &str, schema: Value| json!({ "description": description, "schema": schema });
    json!({
        "X-Request-Id": text("Names this request in the service's log."),
        "Location": text("Path of what was made, or of where to go."),
        "Retry-After": {
            "description": "Seconds after which another attempt makes sense.",
            "required": true,
            "schema": { "type": "integer", "minimum": 0 },
        },
        "WWW-Authenticate": text("How to authenticate."),
        "Idempotency-Replayed": sometimes("There when the answer was given before.", json!({ "const": "true" })),
        "X-RateLimit-Limit": sometimes("Requests that are possible in a minute.", json!({ "type": "integer" })),
        "X-RateLimit-Remaining": sometimes("Requests that are possible at once.", json!({ "type": "integer" })),
        "X-RateLimit-Reset": sometimes("Seconds until more are possible.", json!({ "type": "integer" })),
        "Age": sometimes("How many seconds old the answer is; only on one that was given before.", json!({ "type": "integer", "minimum": 0 })),
        "X-Cost-Usd": sometimes("What the call has cost, in US dollars; not on a stream.", json!({ "type": "string" })),
        "X-Budget-Remaining-Usd": sometimes(
            "The least that any budget of the caller has left, in US dollars.", json!({ "type": "string" })
        ),
        "X-Model-Used": sometimes("The model that has answered, by its provider's name.", json!({ "type": "string" })),
        "X-Fallbacks": sometimes("Models that were asked before it in vain.", json!({ "type": "integer" })),
        "X-Agentd-Overhead-Ms": sometimes("Time that the service itself took.", json!({ "type": "number" })),
        "ETag": text("Changes with the content; send it back as `If-None-Match`."),
        "Cache-Control": text("Whether the answer may be kept."),
    })
}

fn header(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

fn problem_headers(status: u16) -> Value {
    let mut headers = json!({ "X-Request-Id": header("X-Request-Id") });
    let more = match status {
        401 => "WWW-Authenticate",
        429 | 503 => "Retry-After",
        _ => return headers,
    };
    headers[more] = header(more);
    headers
}
