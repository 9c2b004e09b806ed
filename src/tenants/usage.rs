//! `/v1/usage` and `/admin/tenants/{id}/usage`: what a tenant has used, day by
//! day.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{Tenants, sql};
use crate::auth::{Admin, Caller, UsageRead};
use crate::http::openapi::{Answer, Operation};
use crate::http::query::Query;
use crate::http::{Problem, Routes};
use crate::limits::{Day, Usage};

/// Days that are shown when nobody says from when.
const USUAL_DAYS: i64 = 30;
/// Days that are shown at most.
const MOST_DAYS: i64 = 400;

pub(super) fn routes() -> Routes {
    Routes::of("Usage", "What tenants have used, day by day.")
        .with(Method::GET, "/v1/usage", own, |it| said(it.named("getUsage", "Get what your tenant has used")))
        .with(Method::GET, "/admin/tenants/{id}/usage", of_tenant, |it| {
            said(it.named("getUsageOfTenant", "Get what a tenant has used"))
        })
}

fn said(it: Operation) -> Operation {
    let date = || json!({ "type": "string", "format": "date" });
    it.about("Up to this moment. Days are those of UTC; at most 400 are shown, and 30 when `from` is left out.")
        .query("from", "The first day.", date())
        .query("to", "The last day; today when left out.", date())
        .answer(StatusCode::OK, Answer::json::<UsageView>("Its days and their total."))
}

type Service = web::Data<Tenants>;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Usage")]
struct UsageView {
    #[schemars(extend("format" = "date"))]
    from: String,
    #[schemars(extend("format" = "date"))]
    to: String,
    /// Days on which something was used, oldest first.
    days: Vec<DayView>,
    total: Counts,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "UsageOfDay")]
struct DayView {
    #[schemars(extend("format" = "date"))]
    date: String,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "UsageCounts")]
struct Counts {
    /// With a key that counts, refused ones included.
    requests: u64,
    /// Refused for their rate.
    rate_limited: u64,
    jobs_submitted: u64,
    jobs_succeeded: u64,
    /// Failed or given up.
    jobs_failed: u64,
    /// Time of all attempts.
    run_seconds: f64,
}

impl From<Usage> for Counts {
    fn from(usage: Usage) -> Self {
        Self {
            requests: usage.requests,
            rate_limited: usage.rate_limited,
            jobs_submitted: usage.jobs_submitted,
            jobs_succeeded: usage.jobs_succeeded,
            jobs_failed: usage.jobs_failed,
            run_seconds: std::time::Duration::from_micros(usage.run_micros).as_secs_f64(),
        }
    }
}

async fn own(
    caller: Caller<UsageRead>,
    tenants: Service,
    request: HttpRequest,
) -> Result<web::Json<UsageView>, Problem> {
    tenants.usage(caller.tenant.no, &request).await
}

async fn of_tenant(
    _: Admin,
    tenants: Service,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<web::Json<UsageView>, Problem> {
    let id = id.into_inner();
    let tenant = tenants.db.read(move |tx| sql::tenant_of(tx, &id)).await?;
    let tenant = tenant.ok_or_else(|| Problem::not_found("tenant"))?;
    tenants.usage(tenant.no, &request).await
}

impl Tenants {
    async fn usage(&self, tenant: i64, request: &HttpRequest) -> Result<web::Json<UsageView>, Problem> {
        let mut query = Query::of(request)?;
        let to = day(&mut query, "to")?.unwrap_or(Day::of(self.clock.now()));
        let from = day(&mut query, "from")?.unwrap_or(Day(to.0 - USUAL_DAYS + 1));
        query.finish(&["from", "to"])?;
        if from > to {
            return Err(Problem::invalid("?from", "lies after to"));
        }
        if to.0 - from.0 >= MOST_DAYS {
            return Err(Problem::invalid("?from", format!("at most {MOST_DAYS} days are shown at a time")));
        }
        let days = self.auth.limits().usage(&self.db, tenant, from, to).await?;
        let total = days.iter().fold(Usage::default(), |total, (_, usage)| total + *usage);
        let view = |(day, usage): (Day, Usage)| DayView { date: day.date(), counts: usage.into() };
        let used = days.into_iter().filter(|(_, usage)| *usage != Usage::default());
        let days = used.map(view).collect();
        Ok(web::Json(UsageView { from: from.date(), to: to.date(), days, total: total.into() }))
    }
}

fn day(query: &mut Query, name: &str) -> Result<Option<Day>, Problem> {
    let read = |text: String| {
        let fault = || Problem::invalid(format!("?{name}"), format!("{text:?} is not a date such as 2030-01-31"));
        Day::parse(&text).ok_or_else(fault)
    };
    query.text(name).map(read).transpose()
}
