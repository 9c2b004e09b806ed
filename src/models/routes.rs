//! The interface of chat completions, and where the routes of this room are put
//! together. Unknown fields of a request are passed on; errors have the form that
//! its clients read.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::gateway::{self, Model, Models};
use super::{Body, Call, Endpoint, Gateway, Reply};
use super::{audio, batches, embeddings, files, headers, payer, price};
use crate::auth::{Caller, ModelsUse};
use crate::http::openapi::{Answer, Operation};
use crate::http::query::NoQuery;
use crate::http::{Json, Problem, Routes, header};

/// Bytes that a request with pictures may have.
pub const MODEL_BODY: usize = 32 << 20;

/// The routes of models, and those by which they are set up.
#[must_use]
pub fn routes() -> Routes {
    Routes::of("Models", "Language models, in the interface that clients of OpenAI speak.")
        .with(Method::POST, "/v1/chat/completions", chat, |it| {
            passed_on(it.named("createChatCompletion", "Have a model answer a conversation"))
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
        .with(Method::GET, "/v1/models", gateway::list, |it| {
            it.named("listModels", "List the models that can be named")
                .answer(StatusCode::OK, Answer::json::<Models>("Aliases first, then what they stand for."))
        })
        .with(Method::GET, "/v1/models/{model}", gateway::one, |it| {
            it.named("getModel", "Get one model")
                .about("An alias, or any name that a call can be made with: slashes in it may stay as they are.")
                .answer(StatusCode::OK, Answer::json::<Model>("The model."))
                .problems(StatusCode::NOT_FOUND, &["model_not_found"])
        })
        .tail()
        .with_openai_errors()
        .and(super::responses::routes())
        .and(embeddings::routes())
        .and(audio::routes())
        .and(files::routes())
        .and(batches::routes())
        .and(price::routes(gateway::routes()))
}

/// An answer with the headers that say what it cost.
#[must_use]
pub fn answered(description: &'static str) -> Answer {
    headers::NAMES.iter().fold(Answer::json::<Passed>(description), |answer, name| answer.header(name))
}

/// What every call to a model that is passed on can say.
pub(super) fn passed_on(it: Operation) -> Operation {
    called(it).header(
        "Cache-Control",
        "With `max-age=SECONDS`, an answer to the same request that is no older will do; it costs nothing. Streams and \
         forms are always asked for anew.",
        json!({ "type": "string", "examples": ["max-age=3600"] }),
    )
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
    .problems_of(529, &["provider_unavailable"])
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

/// How old an answer may be that is given once more; `None` where none may be.
fn max_age(request: &HttpRequest) -> Option<Duration> {
    header::max_age(request.headers()).filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// Makes the call that a client asks for.
pub(super) async fn pass_on(
    gateway: &Gateway,
    caller: &Caller<ModelsUse>,
    request: &HttpRequest,
    endpoint: Endpoint,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let payer = payer::payer(caller, request)?;
    let call = Call { endpoint, body, payer, test: caller.key.test, max_age: max_age(request) };
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
