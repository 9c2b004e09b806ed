//! Budgets over HTTP: a caller's own, a tenant's and a key's for the
//! administrator, and the service's.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::types::{Alert, OnExhausted, Payer, Scope, Standing, TenantBudget};
use super::{Budgets, report, sql};
use crate::auth::{Admin, Caller, UsageRead};
use crate::clock::Timestamp;
use crate::config::BudgetWindow;
use crate::http::openapi::{Answer, Operation};
use crate::http::query::{NoQuery, Query};
use crate::http::{AdminJson, Problem, Routes};
use crate::money::Usd;

/// Alerts that are shown.
const ALERTS: usize = 100;

/// The routes of this room.
#[must_use]
pub fn routes() -> Routes {
    let budget = || Answer::json::<TenantBudget>("The whole budget.");
    let key = || Answer::json::<KeyBudget>("The key's budget.");
    let routes = Routes::of("Budgets", "What calls of models may cost.")
        .with(Method::GET, "/v1/budget", own, own_described)
        .with(Method::GET, "/admin/budget", service, |it| {
            it.named("getServiceBudget", "Get the service's budget and the last alerts")
                .answer(StatusCode::OK, Answer::json::<ServiceView>("Up to this moment."))
        })
        .with(Method::GET, "/admin/tenants/{id}/budget", get, |it| {
            it.named("getBudget", "Get what a tenant may spend").answer(StatusCode::OK, budget())
        })
        .with(Method::PUT, "/admin/tenants/{id}/budget", put, |it| {
            it.named("setBudget", "Set what a tenant may spend")
                .about(
                    "Replaces the whole budget: what is left out or null is no limit, and for a session what the \
                     service allows. It counts from the answer on, also when more has been spent already.",
                )
                .example("small", json!({ "day_usd": "5", "month_usd": "50", "on_exhausted": "clamp" }))
                .answer(StatusCode::OK, budget())
        })
        .with(Method::GET, "/admin/tenants/{id}/keys/{key_id}/budget", get_key, |it| {
            it.named("getKeyBudget", "Get what may be spent with a key").answer(StatusCode::OK, key())
        })
        .with(Method::PUT, "/admin/tenants/{id}/keys/{key_id}/budget", put_key, |it| {
            it.named("setKeyBudget", "Set what may be spent with a key")
                .about("Over all its time, what it has cost before included; null or left out is no limit.")
                .example("ten", json!({ "total_usd": "10" }))
                .answer(StatusCode::OK, key())
        });
    report::routes(routes)
}

fn own_described(it: Operation) -> Operation {
    it.named("getOwnBudget", "Get what you may still spend")
        .about("Each budget that a call with this key falls into, the session's where one is named.")
        .query("session", "A session, by its name.", json!({ "type": "string", "minLength": 1, "maxLength": 128 }))
        .header("X-Session-Id", "The same as `session`.", json!({ "type": "string" }))
        .answer(StatusCode::OK, Answer::json::<OwnView>("How they stand at this moment."))
}

type Service = web::Data<Budgets>;

/// How a budget stands.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BudgetStanding")]
struct StandingView {
    scope: Scope,
    /// Null for no limit.
    limit_usd: Option<Usd>,
    spent_usd: Usd,
    /// Held for calls under way.
    reserved_usd: Usd,
    /// Null for no limit.
    left_usd: Option<Usd>,
    /// When what was spent first no longer counts, or the window begins anew;
    /// null where nothing was spent, or where that never happens.
    resets_at: Option<Timestamp>,
}

impl From<Standing> for StandingView {
    fn from(it: Standing) -> Self {
        Self {
            scope: it.scope,
            limit_usd: it.limit,
            spent_usd: it.spent,
            reserved_usd: it.reserved,
            left_usd: it.left(),
            resets_at: it.resets_at,
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OwnBudget")]
struct OwnView {
    /// What happens to a call that one of them cannot pay.
    on_exhausted: OnExhausted,
    /// The least that any of them has left; null where nothing is limited.
    left_usd: Option<Usd>,
    /// In the order in which they are asked.
    data: Vec<StandingView>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ServiceBudget")]
struct ServiceView {
    /// Over all tenants.
    day: StandingView,
    /// `rolling` for the last 24 hours, or `calendar`.
    window: &'static str,
    /// Where calendar days and months begin.
    zone: String,
    /// In one session of a tenant without a limit of its own for that.
    session_usd: Option<Usd>,
    /// Settled calls that are not on disk as such yet.
    settlements_waiting: usize,
    /// The last hundred, newest first.
    alerts: Vec<AlertView>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BudgetAlert")]
struct AlertView {
    at: Timestamp,
    scope: Scope,
    /// Null for the service as a whole.
    tenant_id: Option<String>,
    /// Null where it is not a key's budget.
    key_id: Option<Arc<str>>,
    /// So much of it was spent, at least.
    percent: u8,
    limit_usd: Usd,
    spent_usd: Usd,
}

/// What may be spent with a key.
#[derive(Serialize, JsonSchema)]
struct KeyBudget {
    /// Over all its time; null is no limit.
    total_usd: Option<Usd>,
}

/// The whole budget: what is left out or null is no limit, and for a session
/// what the service allows.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetBudget")]
struct BudgetBody {
    /// In a day, in US dollars.
    #[schemars(with = "Option<String>", extend("pattern" = AMOUNT))]
    day_usd: Option<Usd>,
    /// In a calendar month.
    #[schemars(with = "Option<String>", extend("pattern" = AMOUNT))]
    month_usd: Option<Usd>,
    /// In one session.
    #[schemars(with = "Option<String>", extend("pattern" = AMOUNT))]
    session_usd: Option<Usd>,
    /// What happens to a call that it cannot pay; left out: `reject`.
    on_exhausted: Option<OnExhausted>,
}

/// What may be spent with a key, over all its time.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetKeyBudget")]
struct KeyBody {
    /// In US dollars; null or left out is no limit.
    #[schemars(with = "Option<String>", extend("pattern" = AMOUNT))]
    total_usd: Option<Usd>,
}

/// What [`Usd`] reads.
const AMOUNT: &str = r"^[0-9]{1,9}(\.[0-9]{1,9})?$";

/// Reads the name of a session as a client sends it.
///
/// # Errors
/// What is wrong with it.
pub fn session_name(text: &str) -> Result<Arc<str>, &'static str> {
    if (1..=128).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(text.into());
    }
    Err("must be 1 to 128 characters, none of them a control character")
}

/// The session that a request names, in `X-Session-Id`.
///
/// # Errors
/// When it is no name.
pub fn session_of(request: &HttpRequest) -> Result<Option<Arc<str>>, Problem> {
    let Some(value) = request.headers().get("x-session-id") else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| "is not UTF-8");
    let name = text.and_then(session_name).map_err(|fault| Problem::invalid("X-Session-Id", fault))?;
    Ok(Some(name))
}

async fn own(caller: Caller<UsageRead>, budgets: Service, request: HttpRequest) -> Result<web::Json<OwnView>, Problem> {
    let mut query = Query::of(&request)?;
    let named = query.text("session").map(|text| session_name(&text));
    let named = named.transpose().map_err(|fault| Problem::invalid("?session", fault))?;
    query.finish(&["session"])?;
    let session = match named {
        Some(name) => Some(name),
        None => session_of(&request)?,
    };
    let (tenant, key) = (caller.tenant.no, Some(caller.key.id.as_str().into()));
    let payer = Payer { tenant, key, session, job: None };
    let standings = budgets.standings(&payer).await?;
    Ok(web::Json(OwnView {
        on_exhausted: budgets.on_exhausted(tenant),
        left_usd: standings.iter().filter_map(Standing::left).min(),
        data: standings.into_iter().map(StandingView::from).collect(),
    }))
}

async fn service(_: Admin, budgets: Service, _: NoQuery) -> Result<web::Json<ServiceView>, Problem> {
    let inner = &budgets.0;
    let (alerts, tenants) = inner
        .db
        .read(|tx| {
            let alerts = sql::alerts(tx, ALERTS)?;
            let numbers: BTreeSet<i64> = alerts.iter().filter_map(|alert| alert.tenant).collect();
            let tenants = sql::tenant_ids(tx, &numbers)?;
            Ok((alerts, tenants))
        })
        .await?;
    let view = |alert: Alert| AlertView {
        at: alert.at,
        scope: alert.scope,
        tenant_id: alert.tenant.and_then(|no| tenants.get(&no).cloned()),
        key_id: alert.key,
        percent: alert.percent,
        limit_usd: alert.limit,
        spent_usd: alert.spent,
    };
    let alerts = alerts.into_iter().map(view).collect();
    let settlements_waiting = inner.settlements.waiting();
    let mut ledger = inner.ledger();
    let day = ledger.service(inner.clock.now()).into();
    let settings = ledger.settings();
    Ok(web::Json(ServiceView {
        day,
        window: match settings.window {
            BudgetWindow::Rolling => "rolling",
            BudgetWindow::Calendar => "calendar",
        },
        zone: settings.zone.iana_name().unwrap_or("UTC").into(),
        session_usd: settings.session,
        settlements_waiting,
        alerts,
    }))
}

async fn get(
    _: Admin,
    budgets: Service,
    id: web::Path<String>,
    _: NoQuery,
) -> Result<web::Json<TenantBudget>, Problem> {
    let budget = budgets.tenant_budget(id.into_inner()).await?;
    budget.map(web::Json).ok_or_else(|| Problem::not_found("tenant"))
}

async fn put(
    _: Admin,
    budgets: Service,
    id: web::Path<String>,
    _: NoQuery,
    body: AdminJson<BudgetBody>,
) -> Result<web::Json<TenantBudget>, Problem> {
    let BudgetBody { day_usd, month_usd, session_usd, on_exhausted } = body.value;
    let budget = TenantBudget { day_usd, month_usd, session_usd, on_exhausted: on_exhausted.unwrap_or_default() };
    let found = budgets.set_tenant_budget(id.into_inner(), budget).await?;
    if found { Ok(web::Json(budget)) } else { Err(Problem::not_found("tenant")) }
}

async fn get_key(
    _: Admin,
    budgets: Service,
    path: web::Path<(String, String)>,
    _: NoQuery,
) -> Result<web::Json<KeyBudget>, Problem> {
    let (id, key) = path.into_inner();
    let total_usd = budgets.key_budget(id, key).await?.ok_or_else(|| Problem::not_found("key"))?;
    Ok(web::Json(KeyBudget { total_usd }))
}

async fn put_key(
    _: Admin,
    budgets: Service,
    path: web::Path<(String, String)>,
    _: NoQuery,
    body: AdminJson<KeyBody>,
) -> Result<web::Json<KeyBudget>, Problem> {
    let ((id, key), total_usd) = (path.into_inner(), body.value.total_usd);
    let found = budgets.set_key_budget(id, key, total_usd).await?;
    if found { Ok(web::Json(KeyBudget { total_usd })) } else { Err(Problem::not_found("key")) }
}
