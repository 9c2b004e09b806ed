//! `/v1/embeddings`.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::routes::{MODEL_BODY, Passed, answered, pass_on, passed_on};
use super::{Body, Endpoint, Gateway};
use crate::auth::{Caller, ModelsUse};
use crate::http::query::NoQuery;
use crate::http::{Json, Problem, Routes};

/// The route of embeddings.
#[must_use]
pub fn routes() -> Routes {
    Routes::of("Embeddings", "Texts as vectors, in OpenAI's format.")
        .with(Method::POST, "/v1/embeddings", embed, |it| {
            passed_on(it.named("createEmbedding", "Have texts turned into vectors"))
                .about("The body is that of OpenAI's interface; what is not known here is passed on.")
                .example("text", json!({ "model": "text-embedding-3-small", "input": "Hello." }))
                .answer(StatusCode::OK, answered("The vectors, as the model gave them."))
        })
        .with_openai_errors()
}

async fn embed(
    caller: Caller<ModelsUse>,
    gateway: web::Data<Gateway>,
    request: HttpRequest,
    _: NoQuery,
    body: Json<Passed, MODEL_BODY>,
) -> Result<HttpResponse, Problem> {
    pass_on(&gateway, &caller, &request, Endpoint::Embeddings, Body::Json(body.bytes)).await
}
