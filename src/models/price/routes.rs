//! `/admin/models/prices`: what models cost.

use std::sync::Arc;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::rate::{NoPrice, Sheet};
use super::sql::{self, Row};
use super::table::{ALWAYS, Entry, Table, shipped};
use crate::auth::{Admin, Operator};
use crate::clock::Timestamp;
use crate::db::Tx;
use crate::http::openapi::Answer;
use crate::http::query::{NoQuery, Query};
use crate::http::{AdminJson, Problem, Routes};
use crate::models::Gateway;
use crate::money::Usd;

/// Prices that an administrator may write.
const MOST: u64 = 10_000;
/// Bytes of a model's name with its provider.
const LONGEST_NAME: usize = 64 + 1 + 256;

/// Adds the routes of this room.
pub(in crate::models) fn routes(routes: Routes) -> Routes {
    let from = json!({ "type": "string", "format": "date-time" });
    routes
        .with(Method::GET, "/admin/models/prices", list, |it| {
            it.named("listModelPrices", "List what models cost")
                .about("The prices that the service comes with and those written here, which win.")
                .answer(StatusCode::OK, Answer::json::<PriceList>("All of them, by name."))
        })
        .with(Method::PUT, "/admin/models/prices/{model}", put, |it| {
            it.named("setModelPrice", "Set what a model costs")
                .about(
                    "`model` is the provider's name for it, or `provider/model` for one provider alone; slashes in \
                     it may stay as they are. Exactly one of `input_usd_per_million`, `audio_usd_per_minute` and \
                     `characters_usd_per_million` is given. Counts for calls that begin after the answer; those under \
                     way are paid by the price that they began with.",
                )
                .example("text", json!({ "input_usd_per_million": "0.15", "output_usd_per_million": "0.6" }))
                .example(
                    "from a day on",
                    json!({
                        "effective_from": "2100-01-01T00:00:00Z",
                        "input_usd_per_million": "0.15",
                        "cached_input_usd_per_million": "0.075",
                        "output_usd_per_million": "0.6",
                        "context_tokens": 128_000,
                        "output_tokens": 16_384,
                    }),
                )
                .example("audio", json!({ "audio_usd_per_minute": "0.006" }))
                .answer(StatusCode::OK, Answer::json::<PriceView>("The price."))
        })
        .with(Method::DELETE, "/admin/models/prices/{model}", remove, |it| {
            it.named("removeModelPrice", "Remove a price that was set")
                .about("The price that the service comes with counts again, where it comes with one.")
                .query(
                    "effective_from",
                    "The price that counts from this moment; all of the model's when left out.",
                    from,
                )
                .answer(StatusCode::NO_CONTENT, Answer::empty("It is gone."))
        })
        .tail()
}

/// Whose price it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ModelPriceOrigin")]
enum Origin {
    /// The service comes with it.
    Shipped,
    /// An administrator has written it.
    Own,
}

/// What a model costs from a moment on.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModelPrice")]
struct PriceView {
    /// The provider's name for the model, or `provider/model`.
    model: String,
    origin: Origin,
    /// Whether calls are paid by it now.
    counts: bool,
    /// `null`: from ever.
    effective_from: Option<Timestamp>,
    /// When it was written; `null` for one that the service comes with.
    updated_at: Option<Timestamp>,
    price: Sheet,
}

/// What all models cost.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModelPrices")]
struct PriceList {
    /// Where the prices that the service comes with are from.
    source: String,
    /// The date by which they were true.
    as_of: String,
    /// What is taken for a model without a price; `null`: its calls are refused.
    ceiling: Option<CeilingView>,
    data: Vec<PriceView>,
}

/// What is taken for a model without a price.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModelPriceCeiling")]
struct CeilingView {
    input_usd_per_million: Usd,
    output_usd_per_million: Usd,
}

type Service = web::Data<Gateway>;

impl PriceView {
    fn of(model: &str, from: Timestamp, entry: &Entry, counts: bool) -> Self {
        Self {
            model: model.to_owned(),
            origin: if entry.updated_at.is_some() { Origin::Own } else { Origin::Shipped },
            counts,
            effective_from: (from != ALWAYS).then_some(from),
            updated_at: entry.updated_at,
            price: entry.sheet.clone(),
        }
    }
}

/// Whether the price of this name that counts from then is the one of its table
/// that counts now.
fn is_now(table: &Table, name: &str, from: Timestamp, now: Timestamp) -> bool {
    table.at(name, now).is_some_and(|(counting, _)| *counting == from)
}

async fn list(_: Operator, gateway: Service, _: NoQuery) -> web::Json<PriceList> {
    let (prices, now) = (gateway.prices(), gateway.clock().now());
    let (own, shipped) = (prices.own(), shipped());
    let of_shipped = shipped.table.all().into_iter().map(|(name, from, entry)| {
        let counts = own.at(name, now).is_none() && is_now(&shipped.table, name, from, now);
        PriceView::of(name, from, entry, counts)
    });
    let of_own = own.all();
    let of_own =
        of_own.iter().map(|(name, from, entry)| PriceView::of(name, *from, entry, is_now(&own, name, *from, now)));
    let mut data: Vec<_> = of_shipped.chain(of_own).collect();
    data.sort_by(|one, other| (&one.model, one.effective_from).cmp(&(&other.model, other.effective_from)));
    let ceiling = prices.0.ceiling.as_ref().map(|(ceiling, _)| CeilingView {
        input_usd_per_million: ceiling.input,
        output_usd_per_million: ceiling.output,
    });
    web::Json(PriceList { source: shipped.source.clone(), as_of: shipped.as_of.clone(), ceiling, data })
}

async fn put(
    _: Admin,
    gateway: Service,
    model: web::Path<String>,
    _: NoQuery,
    body: AdminJson<Sheet>,
) -> Result<web::Json<PriceView>, Problem> {
    let mut sheet = body.value;
    let model = checked_name(model.into_inner())?;
    let from = sheet.effective_from.take().unwrap_or(ALWAYS);
    let now = gateway.clock().now();
    let invalid = |fault: NoPrice| Problem::invalid(format!("/{}", fault.field), fault.problem);
    let entry = Arc::new(Entry::new(&model, sheet.clone(), Some(now)).map_err(invalid)?);
    let row = Row { model: model.clone(), from, sheet, updated_at: now };
    let work = move |tx: &Tx<'_>| {
        if sql::count(tx)? >= MOST {
            return Ok(false);
        }
        sql::put(tx, &row).map(|()| true)
    };
    let (prices, name, written) = (gateway.prices().clone(), model.clone(), entry.clone());
    let after = move |done: &bool| {
        if *done {
            prices.change(|table| table.set(&name, from, written));
        }
    };
    if !gateway.db().write_then(work, after).await? {
        return Err(Problem::bad_request("bad_request", format!("there are {MOST} prices already")));
    }
    let counts = is_now(&gateway.prices().own(), &model, from, now);
    Ok(web::Json(PriceView::of(&model, from, &entry, counts)))
}

async fn remove(
    _: Admin,
    gateway: Service,
    model: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut query = Query::of(&request)?;
    let from = query.time("effective_from")?;
    query.finish(&["effective_from"])?;
    let (model, prices) = (model.into_inner(), gateway.prices().clone());
    let name = model.clone();
    let work = move |tx: &Tx<'_>| sql::remove(tx, &model, from);
    let after = move |removed: &Vec<Timestamp>| {
        prices.change(|table| removed.iter().for_each(|from| table.remove(&name, *from)));
    };
    let removed = gateway.db().write_then(work, after).await?;
    if removed.is_empty() { Err(Problem::not_found("price")) } else { Ok(HttpResponse::NoContent().finish()) }
}

fn checked_name(model: String) -> Result<String, Problem> {
    if model.is_empty() || model.len() > LONGEST_NAME || model.chars().any(char::is_control) {
        let detail = format!("the name of a model is 1 to {LONGEST_NAME} bytes without control characters");
        return Err(Problem::bad_request("invalid_request", detail));
    }
    Ok(model)
}
