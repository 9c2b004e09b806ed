//! `/v1/responses`.

use std::convert::Infallible;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;
use futures_util::Stream;
use serde_json::Value;

use super::create::{Asked, Made};
use super::describe::{self, Deleted, InputItems};
use super::events::replay;
use super::follow::follow;
use super::id::ResponseId;
use super::object::{Finished, Head};
use super::reference::items;
use super::request::{Create, CreateBody};
use super::{Responses, sql};
use crate::auth::{Caller, ModelsUse};
use crate::http::query::{NoQuery, Query};
use crate::http::{Json, Problem, Routes};
use crate::models::routes::MODEL_BODY;
use crate::models::{headers, payer};

/// Input items that are listed at most, and when nobody says how many.
const MOST_ITEMS: usize = 100;
const USUAL_ITEMS: usize = 20;

/// The routes of this room.
#[must_use]
pub fn routes() -> Routes {
    Routes::of("Models", "Language models, in the interface that clients of OpenAI speak.")
        .with(Method::POST, "/v1/responses", create, describe::create)
        .with(Method::GET, "/v1/responses/{id}", get, describe::get)
        .with(Method::DELETE, "/v1/responses/{id}", delete, describe::delete)
        .with(Method::POST, "/v1/responses/{id}/cancel", cancel, describe::cancel)
        .with(Method::GET, "/v1/responses/{id}/input_items", input_items, describe::input_items)
        .with_openai_errors()
}

type Service = web::Data<Responses>;
type User = Caller<ModelsUse>;

async fn create(
    caller: User,
    responses: Service,
    request: HttpRequest,
    _: NoQuery,
    body: Json<CreateBody, MODEL_BODY>,
) -> Result<HttpResponse, Problem> {
    let create = Create::read(body.value)?;
    let asked = Asked { create, payer: payer(&caller, &request)?, test: caller.key.test };
    let inner = &responses.0;
    if asked.create.background {
        let stream = asked.create.stream;
        let (id, object) = inner.begin(asked).await?;
        if stream {
            let events = follow(inner.clone(), caller.tenant.no, id, caller.key, -1);
            return Ok(streaming(&mut HttpResponse::Ok(), events));
        }
        return Ok(HttpResponse::Ok().json(object));
    }
    let mut answer = HttpResponse::Ok();
    match inner.create(asked).await? {
        Made::Whole(object, receipt) => {
            headers(&mut answer, &receipt);
            Ok(answer.json(object))
        }
        Made::Stream(frames, receipt) => {
            headers(&mut answer, &receipt);
            Ok(streaming(&mut answer, frames))
        }
        Made::AsItIs(said) => {
            answer.status(StatusCode::from_u16(said.status).unwrap_or(StatusCode::BAD_GATEWAY));
            headers(&mut answer, &said.receipt);
            Ok(answer.content_type(said.content_type).body(said.body))
        }
    }
}

fn streaming(
    answer: &mut HttpResponseBuilder,
    frames: impl Stream<Item = Result<Bytes, Infallible>> + 'static,
) -> HttpResponse {
    answer
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(frames)
}

/// What is no id is no response either.
fn response_id(text: &str) -> Result<ResponseId, Problem> {
    ResponseId::parse(text).ok_or_else(|| Problem::not_found("response"))
}

async fn get(
    caller: User,
    responses: Service,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut query = Query::of(&request)?;
    let stream = query.value("stream", "true or false")?.unwrap_or(false);
    let after = query.whole("starting_after", 0..=i64::MAX)?;
    // What they ask for is there anyway, or is not sent at all.
    query.value::<bool>("include_obfuscation", "true or false")?;
    query.with_prefix("include");
    query.finish(&["stream", "starting_after", "include", "include_obfuscation"])?;
    if after.is_some() && !stream {
        return Err(Problem::invalid("?starting_after", "goes with stream=true only"));
    }
    let id = response_id(&id)?;
    let stored = responses.0.stored(caller.tenant.no, id).await?;
    if !stream {
        return Ok(HttpResponse::Ok().content_type("application/json").body(stored.object));
    }
    let after = after.unwrap_or(-1);
    if stored.job.is_some() {
        let events = follow(responses.0.clone(), caller.tenant.no, id, caller.key, after);
        return Ok(streaming(&mut HttpResponse::Ok(), events));
    }
    let object: Value = serde_json::from_str(&stored.object).map_err(Problem::internal)?;
    let finished = Finished { status: stored.status, object: object.clone() };
    let events = replay(&Head::of_object(id, object), &finished, 0);
    let frames: Vec<_> = events.iter().filter(|event| event.seq > after).map(|event| Ok(event.frame())).collect();
    Ok(streaming(&mut HttpResponse::Ok(), futures_util::stream::iter(frames)))
}

async fn delete(
    caller: User,
    responses: Service,
    id: web::Path<String>,
    _: NoQuery,
) -> Result<web::Json<Deleted>, Problem> {
    let id = response_id(&id)?;
    responses.0.delete(caller.tenant.no, id).await?;
    Ok(web::Json(Deleted { id: id.to_string(), object: "response", deleted: true }))
}

async fn cancel(caller: User, responses: Service, id: web::Path<String>, _: NoQuery) -> Result<HttpResponse, Problem> {
    let stored = responses.0.cancel(caller.tenant.no, response_id(&id)?).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(stored.object))
}

async fn input_items(
    caller: User,
    responses: Service,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<web::Json<InputItems>, Problem> {
    let mut query = Query::of(&request)?;
    let limit = query.whole("limit", 1..=MOST_ITEMS)?.unwrap_or(USUAL_ITEMS);
    let order = query.text("order");
    let after = query.text("after");
    query.with_prefix("include");
    query.finish(&["limit", "order", "after", "include"])?;
    let ascending = match order.as_deref() {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(Problem::invalid("?order", "must be asc or desc")),
    };
    let (tenant, id) = (caller.tenant.no, response_id(&id)?);
    let input = responses.0.db.read(move |tx| sql::input(tx, tenant, id)).await?;
    let input = input.ok_or_else(|| Problem::not_found("response"))?;
    let mut items = items(id, &input)?;
    if !ascending {
        items.reverse();
    }
    page(items, after.as_deref(), limit).map(web::Json)
}

fn page(items: Vec<Value>, after: Option<&str>, limit: usize) -> Result<InputItems, Problem> {
    let begin = match after {
        None => 0,
        Some(after) => {
            let place = items.iter().position(|item| item["id"] == after);
            place.ok_or_else(|| Problem::invalid("?after", "is the id of none of the items"))? + 1
        }
    };
    let has_more = items.len() > begin + limit;
    let data: Vec<_> = items.into_iter().skip(begin).take(limit).collect();
    let id = |item: Option<&Value>| item.and_then(|item| item["id"].as_str()).map(str::to_owned);
    Ok(InputItems { object: "list", first_id: id(data.first()), last_id: id(data.last()), data, has_more })
}
