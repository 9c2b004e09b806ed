//! The interface of chat completions and the list of models. Unknown fields of
//! a request are passed on; errors have the form that its clients read.

use std::convert::Infallible;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::provider::Table;
use super::{Body, Call, Endpoint, Gateway, Reply};
use super::{admin, audio, batches, echo, embeddings, files, headers, payer, price};
use crate::auth::{Caller, ModelsUse};
use crate::http::openapi::{Answer, Operation};
use crate::http::query::NoQuery;
use crate::http::{Json, Problem, Routes};

/// Bytes that a request with pictures may have.
pub const MODEL_BODY: usize = 32 << 20;

/// The routes of models, and those by which they are set up.
#[must_use]
pub fn routes() -> Routes {
    Routes::of("Models", "Language models, in the interface that clients of OpenAI speak.")
        .with(Method::POST, "/v1/chat/completions", chat, |it| {
            called(it.named("createChatCompletion", "Have a model answer a conversation"))
                .about(
                    "The body is that of OpenAI's interface; what is not known here is passed on. `model` is an alias \
                     such as `default`, or `provider/model`; left out it is `default`. With `stream` the answer comes \
                     as events, the last of which is `[DONE]`.",
                )
                .example(
                    "question",
                    json!({ "model": "default", "messages": [{ "role": "user", "content": "Say hello." }] }),
                )
                .answer(StatusCode::OK, answered("The answer, as the model gave it.").or_raw("text/event-stream"))
        })
        .with(Method::GET, "/v1/models", list, |it| {
            it.named("listModels", "List the models that can be named")
                .answer(StatusCode::OK, Answer::json::<Models>("Aliases first, then what they stand for."))
        })
        .with(Method::GET, "/v1/models/{model}", one, |it| {
            it.named("getModel", "Get one model")
                .answer(StatusCode::OK, Answer::json::<Model>("The model."))
                .problems(StatusCode::NOT_FOUND, &["model_not_found"])
        })
        .with_openai_errors()
        .and(super::responses::routes())
        .and(embeddings::routes())
        .and(audio::routes())
        .and(files::routes())
        .and(batches::routes())
        .and(price::routes(admin::routes()))
}

/// An answer with the headers that say what it cost.
#[must_use]
pub fn answered(description: &'static str) -> Answer {
    headers::NAMES.iter().fold(Answer::json::<Passed>(description), |answer, name| answer.header(name))
}

/// What every call to a model can be answered with.
#[must_use]
pub fn called(it: Operation) -> Operation {
    it.header(
        "X-Session-Id",
        "The session that pays, too; what it may spend is limited by itself.",
        json!({ "type": "string", "minLength": 1, "maxLength": 128 }),
    )
    .passes_errors()
    .problems(StatusCode::BAD_REQUEST, &["context_length_exceeded", "unknown_price"])
    .problems(StatusCode::PAYMENT_REQUIRED, &["budget_exceeded"])
    .problems(StatusCode::NOT_FOUND, &["model_not_found"])
    .problems(StatusCode::TOO_MANY_REQUESTS, &["provider_rate_limited"])
    .problems(StatusCode::BAD_GATEWAY, &["provider_failed", "provider_key_refused", "provider_unreachable"])
    .problems(StatusCode::SERVICE_UNAVAILABLE, &["provider_busy", "provider_unavailable"])
    .problems(StatusCode::GATEWAY_TIMEOUT, &["provider_timeout"])
}

/// A body that is passed on: any JSON object.
#[derive(Debug)]
pub struct Passed;

impl<'de> Deserialize<'de> for Passed {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Whether it is an object is looked at where it is read.
        serde::de::IgnoredAny::deserialize(from).map(|_| Self)
    }
}

impl JsonSchema for Passed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PassedOn".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "description": "As OpenAI's interface has it.",
            "additionalProperties": true,
        })
    }
}

/// A reply of the gateway as a client gets it.
#[must_use]
pub fn response(reply: Reply) -> HttpResponse {
    match reply {
        Reply::Whole(answer) => {
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
            let mut response = HttpResponse::build(status);
            headers::headers(&mut response, &answer.receipt);
            response.content_type(answer.content_type).body(answer.body)
        }
        Reply::Stream(streamed) => {
            let mut response = HttpResponse::Ok();
            headers::headers(&mut response, &streamed.receipt);
            response.insert_header(("cache-control", "no-cache"));
            let pieces = streamed.pieces.map(Ok::<Bytes, Infallible>);
            response.content_type(streamed.content_type).streaming(pieces)
        }
    }
}

/// Makes the call that a client asks for.
pub(super) async fn pass_on(
    gateway: &Gateway,
    caller: &Caller<ModelsUse>,
    request: &HttpRequest,
    endpoint: Endpoint,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let call = Call { endpoint, body, payer: payer::payer(caller, request)?, test: caller.key.test };
    gateway.call(call).await.map(response)
}

async fn chat(
    caller: Caller<ModelsUse>,
    gateway: web::Data<Gateway>,
    request: HttpRequest,
    _: NoQuery,
    body: Json<Passed, MODEL_BODY>,
) -> Result<HttpResponse, Problem> {
    pass_on(&gateway, &caller, &request, Endpoint::ChatCompletions, Body::Json(body.bytes)).await
}

/// A model that can be named.
#[derive(Serialize, JsonSchema)]
struct Model {
    id: String,
    #[schemars(extend("const" = "model"))]
    object: &'static str,
    /// Seconds since 1970; not known.
    created: i64,
    /// The provider that is asked first.
    owned_by: String,
}

/// All of them.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModelList")]
struct Models {
    #[schemars(extend("const" = "list"))]
    object: &'static str,
    data: Vec<Model>,
}

fn models(table: &Table, test: bool) -> Vec<Model> {
    let model = |id: String, owner: &str| Model { id, object: "model", created: 0, owned_by: owner.into() };
    if test {
        return vec![model(echo::NAME.into(), "agentd")];
    }
    let owner = |targets: &[super::provider::Target]| {
        targets.first().map_or_else(String::new, |target| target.provider.clone())
    };
    let mut models: Vec<_> =
        table.aliases.iter().map(|(alias, it)| model(alias.clone(), &owner(&it.targets))).collect();
    let targets = table.aliases.values().flat_map(|alias| &alias.targets);
    let mut named: Vec<_> =
        targets.map(|target| (format!("{}/{}", target.provider, target.model), &target.provider)).collect();
    named.sort();
    named.dedup();
    models.extend(named.into_iter().map(|(id, provider)| model(id, provider)));
    models
}

async fn list(caller: Caller<ModelsUse>, gateway: web::Data<Gateway>, _: NoQuery) -> web::Json<Models> {
    web::Json(Models { object: "list", data: models(&gateway.0.table(), caller.key.test) })
}

async fn one(
    caller: Caller<ModelsUse>,
    gateway: web::Data<Gateway>,
    id: web::Path<String>,
    _: NoQuery,
) -> Result<web::Json<Model>, Problem> {
    let table = gateway.0.table();
    let found = models(&table, caller.key.test).into_iter().find(|model| model.id == *id);
    found.map(web::Json).ok_or_else(|| table.unknown(&id))
}
