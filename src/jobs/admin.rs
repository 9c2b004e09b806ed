//! `/admin/jobs`: the administrator's view over the jobs of all tenants.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::routes::{JobView, LIST_PARAMETERS, cancel_answer, filter, job_id};
use super::sql::read;
use super::types::JobRow;
use super::{Jobs, describe};
use crate::auth::{Admin, Operator};
use crate::http::openapi::Answer;
use crate::http::page::{Page, PageRequest};
use crate::http::query::{NoQuery, Query};
use crate::http::{Problem, Routes};

/// The routes of this file.
pub(super) fn routes() -> Routes {
    Routes::of("Jobs of all tenants", "The administrator's view.")
        .with(Method::GET, "/admin/jobs", list, |it| {
            describe::filters(it.named("listAllJobs", "List jobs of all tenants"))
                .query("tenant_id", "Only jobs of this tenant, which must exist.", json!({ "type": "string" }))
                .answer(StatusCode::OK, Answer::json::<Page<AdminJobView>>("Jobs, newest first."))
                .problems(StatusCode::NOT_FOUND, &["not_found"])
        })
        .with(Method::GET, "/admin/jobs/{id}", get, |it| {
            it.named("getAnyJob", "Get a job of any tenant")
                .answer(StatusCode::OK, Answer::json::<AdminJobView>("The job as it is now."))
        })
        .with(Method::POST, "/admin/jobs/{id}/cancel", cancel, |it| {
            describe::cancelled::<AdminJobView>(it.named("cancelAnyJob", "Cancel a job of any tenant"))
        })
}

/// A job with its tenant.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AdminJob")]
struct AdminJobView {
    tenant_id: String,
    #[serde(flatten)]
    job: JobView,
}

impl AdminJobView {
    fn new((row, tenant_id): (JobRow, String)) -> Self {
        Self { tenant_id, job: row.into() }
    }
}

async fn list(_: Admin, jobs: web::Data<Jobs>, request: HttpRequest) -> Result<web::Json<Page<AdminJobView>>, Problem> {
    let mut query = Query::of(&request)?;
    let page = PageRequest::take(&mut query)?;
    let tenant = query.text("tenant_id");
    let filter = filter(&mut query)?;
    let known: Vec<_> = LIST_PARAMETERS.into_iter().chain(["tenant_id"]).collect();
    query.finish(&known)?;
    let read = jobs.0.db.read(move |tx| {
        let tenant = match tenant {
            Some(id) => match read::tenant_no(tx, &id)? {
                Some(no) => Some(no),
                None => return Ok(None),
            },
            None => None,
        };
        let (rows, next) = read::list(tx, tenant, &filter, page.after, page.limit)?;
        Ok(Some((read::with_tenants(tx, rows)?, next)))
    });
    let (rows, next) = read.await?.ok_or_else(|| Problem::not_found("tenant"))?;
    Ok(web::Json(Page::new(rows, next).map(AdminJobView::new)))
}

async fn get(
    _: Admin,
    jobs: web::Data<Jobs>,
    id: web::Path<String>,
    _: NoQuery,
) -> Result<web::Json<AdminJobView>, Problem> {
    Ok(web::Json(AdminJobView::new(find(&jobs, &id).await?)))
}

async fn cancel(
    _: Operator,
    jobs: web::Data<Jobs>,
    id: web::Path<String>,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    let (row, tenant_id) = find(&jobs, &id).await?;
    let (status, row): (StatusCode, JobRow) = cancel_answer(&jobs, row.tenant, row.id).await?;
    Ok(HttpResponse::build(status).json(AdminJobView::new((row, tenant_id))))
}

async fn find(jobs: &Jobs, id: &str) -> Result<(JobRow, String), Problem> {
    let id = job_id(id)?;
    let found = jobs.0.db.read(move |tx| read::with_tenants(tx, read::get_any(tx, id)?.into_iter().collect()));
    found.await?.pop().ok_or_else(|| Problem::not_found("job"))
}
