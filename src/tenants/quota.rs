//! `/admin/tenants/{id}/quota`: what a tenant may use.

use actix_web::http::{Method, StatusCode};
use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{Change, Status, Tenants, sql, tell};
use crate::auth::Admin;
use crate::db::{self, Tx};
use crate::http::openapi::Answer;
use crate::http::query::NoQuery;
use crate::http::{AdminJson, Problem, Routes};
use crate::limits::{Day, Quota, jobs_of_day};

/// Adds the routes of this file.
pub(super) fn routes(routes: Routes) -> Routes {
    let quota = || Answer::json::<Quota>("The whole quota.");
    routes
        .with(Method::GET, "/admin/tenants/{id}/quota", get, |it| {
            it.named("getQuota", "Get what a tenant may use").answer(StatusCode::OK, quota())
        })
        .with(Method::PUT, "/admin/tenants/{id}/quota", put, |it| {
            it.named("setQuota", "Set what a tenant may use")
                .about("Replaces the whole quota: what is left out or null is no limit. It counts from the answer on.")
                .example("small", json!({ "requests_per_minute": 60, "concurrent_jobs": 4, "jobs_per_day": 1000 }))
                .answer(StatusCode::OK, quota())
        })
}

type Service = web::Data<Tenants>;

/// The whole quota: what is left out or null is no limit.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetQuota")]
struct QuotaBody {
    /// For all keys of the tenant together, in the place of the service's limit
    /// for each key.
    #[schemars(range(min = 1, max = MOST_REQUESTS))]
    requests_per_minute: Option<u32>,
    /// Jobs that wait, for a place or their time.
    #[schemars(range(min = 1, max = MOST_QUEUED))]
    queued_jobs: Option<u32>,
    /// Jobs that run at a time; further ones wait.
    #[schemars(range(min = 1, max = MOST_RUNNING))]
    concurrent_jobs: Option<u32>,
    /// Jobs submitted in a calendar day, UTC.
    #[schemars(range(min = 1, max = MOST_A_DAY))]
    jobs_per_day: Option<u32>,
    /// Share of the places, against the weights of other tenants; 1 when left out.
    #[schemars(range(min = 1, max = MOST_WEIGHT))]
    weight: Option<u32>,
    /// Days that finished jobs are kept; as the service's own setting says when
    /// left out.
    #[schemars(range(min = 1, max = MOST_DAYS))]
    retention_days: Option<u32>,
}

const MOST_REQUESTS: u32 = 10_000_000;
const MOST_QUEUED: u32 = 10_000_000;
const MOST_RUNNING: u32 = 100_000;
const MOST_A_DAY: u32 = 1_000_000_000;
const MOST_WEIGHT: u32 = 100;
const MOST_DAYS: u32 = 36_500;

impl QuotaBody {
    fn checked(&self) -> Result<Quota, Problem> {
        let within = |name: &str, value: Option<u32>, most: u32| match value {
            Some(value) if !(1..=most).contains(&value) => {
                Err(Problem::invalid(format!("/{name}"), format!("must be a whole number from 1 to {most}, or null")))
            }
            _ => Ok(value),
        };
        Ok(Quota {
            requests_per_minute: within("requests_per_minute", self.requests_per_minute, MOST_REQUESTS)?,
            queued_jobs: within("queued_jobs", self.queued_jobs, MOST_QUEUED)?,
            concurrent_jobs: within("concurrent_jobs", self.concurrent_jobs, MOST_RUNNING)?,
            jobs_per_day: within("jobs_per_day", self.jobs_per_day, MOST_A_DAY)?,
            weight: within("weight", self.weight, MOST_WEIGHT)?.unwrap_or(Quota::default().weight),
            retention_days: within("retention_days", self.retention_days, MOST_DAYS)?,
        })
    }
}

async fn get(_: Admin, tenants: Service, id: web::Path<String>, _: NoQuery) -> Result<web::Json<Quota>, Problem> {
    let id = id.into_inner();
    let quota = tenants.db.read(move |tx| {
        let Some(tenant) = sql::tenant_of(tx, &id)? else { return Ok(None) };
        sql::quota(tx, tenant.no).map(Some)
    });
    quota.await?.map(web::Json).ok_or_else(|| Problem::not_found("tenant"))
}

async fn put(
    _: Admin,
    tenants: Service,
    id: web::Path<String>,
    _: NoQuery,
    body: AdminJson<QuotaBody>,
) -> Result<web::Json<Quota>, Problem> {
    let quota = body.value.checked()?;
    let found = tenants.set_quota(id.into_inner(), quota).await?;
    if found { Ok(web::Json(quota)) } else { Err(Problem::not_found("tenant")) }
}

impl Tenants {
    /// Sets a tenant's quota, which counts once this returns; whether there is
    /// such a tenant.
    async fn set_quota(&self, id: String, quota: Quota) -> Result<bool, db::Error> {
        let now = self.clock.now();
        let today = Day::of(now);
        let (limits, listener) = (self.auth.limits().clone(), self.listener.clone());
        let work = move |tx: &Tx<'_>| {
            let Some(row) = sql::get(tx, &id)? else { return Ok(None) };
            sql::set_quota(tx, row.no, &quota, now)?;
            Ok(Some((row.no, row.status, jobs_today(tx, row.no, &quota, today)?)))
        };
        let after = move |found: &Option<(i64, Status, u32)>| {
            if let Some((tenant, status, jobs)) = *found {
                limits.set_quota(tenant, quota, today, jobs);
                tell(&listener, Change { tenant, status, quota });
            }
        };
        Ok(self.db.write_then(work, after).await?.is_some())
    }

    /// Reads the quotas at start.
    pub(super) async fn load_quotas(&self) -> Result<(), db::Error> {
        let today = Day::of(self.clock.now());
        let quotas = self.db.read(move |tx| {
            let with_jobs = |(tenant, quota): (i64, Quota)| Ok((tenant, quota, jobs_today(tx, tenant, &quota, today)?));
            sql::quotas(tx)?.into_iter().map(with_jobs).collect::<Result<Vec<_>, db::Error>>()
        });
        for (tenant, quota, jobs) in quotas.await? {
            self.auth.limits().set_quota(tenant, quota, today, jobs);
        }
        Ok(())
    }
}

/// Counted only where a quota asks for it.
fn jobs_today(tx: &Tx<'_>, tenant: i64, quota: &Quota, today: Day) -> Result<u32, db::Error> {
    if quota.jobs_per_day.is_some() { jobs_of_day(tx, tenant, today) } else { Ok(0) }
}
