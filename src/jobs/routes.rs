//! `/v1/jobs`, `/v1/tools`, and the short forms below `/agent`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::request::SubmitBody;
use super::sql::read::{Filter, StepRow};
use super::sql::write::Cancel;
use super::stream::follow;
use super::submit::Submitted;
use super::types::{JobId, JobRow, NewJob, Status};
use super::{Jobs, describe, handler, sql};
use crate::auth::{Caller, JobsRead, JobsWrite, KeyEntry, Tenant};
use crate::clock::Timestamp;
use crate::http::header::prefers;
use crate::http::idempotency::IdempotencyKey;
use crate::http::page::{Page, PageRequest};
use crate::http::query::{NoQuery, Query};
use crate::http::{Json, Problem, Routes};
use crate::money::Usd;

/// The routes of this room.
#[must_use]
pub fn routes() -> Routes {
    Routes::of("Jobs", "Durable jobs: submitted, followed, cancelled, done again.")
        .with(Method::POST, "/v1/jobs", submit, describe::submit)
        .with(Method::GET, "/v1/jobs", list, describe::list)
        .with(Method::GET, "/v1/jobs/{id}", get, describe::get)
        .with(Method::DELETE, "/v1/jobs/{id}", delete, describe::delete)
        .with(Method::POST, "/v1/jobs/{id}/cancel", cancel, describe::cancel)
        .with(Method::POST, "/v1/jobs/{id}/retry", retry, describe::retry)
        .with(Method::GET, "/v1/jobs/{id}/steps", steps, describe::steps)
        .with(Method::GET, "/v1/jobs/{id}/events", events, describe::events)
        .with(Method::GET, "/v1/tools", tools, describe::tools)
        .and(super::bulk::routes())
        .and(super::admin::routes())
        .and(short_forms())
}

fn short_forms() -> Routes {
    Routes::of("Short forms", "Other names of some routes below `/v1/jobs`.")
        .with(Method::POST, "/agent/run", submit, |it| {
            describe::submit(it).named("runAgent", "The same as `POST /v1/jobs`")
        })
        .with(Method::GET, "/agent/status/{id}", get, |it| {
            describe::get(it).named("getAgentStatus", "The same as `GET /v1/jobs/{id}`")
        })
        .with(Method::POST, "/agent/cancel/{id}", cancel, |it| {
            describe::cancel(it).named("cancelAgent", "The same as `POST /v1/jobs/{id}/cancel`")
        })
}

type Service = web::Data<Jobs>;

/// A job.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Job")]
pub(super) struct JobView {
    job_id: JobId,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<String>,
    /// `agent`, in place of a tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    /// What it was given.
    input: Box<RawValue>,
    /// What came of it; null unless it succeeded.
    result: Option<Box<RawValue>>,
    /// Why it failed. A job that waits for or is in another attempt shows the
    /// error of the one before.
    #[schemars(with = "Option<super::failure::FailureJson<'_>>")]
    error: Option<Box<RawValue>>,
    /// Attempts begun.
    attempt: u32,
    max_attempts: u32,
    /// Attempts that ended with the service's own process; they do not count in `attempt`.
    interruptions: u32,
    /// Higher starts first within the tenant.
    priority: i8,
    cancel_requested: bool,
    /// Not before this time.
    run_at: Timestamp,
    created_at: Timestamp,
    /// When the first attempt began.
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    /// What its calls of models have cost so far, over all attempts.
    cost_usd: Usd,
    /// What it may spend.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_usd: Option<Usd>,
    /// The session that pays for it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<Arc<str>>,
    /// The client's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<BTreeMap<String, String>>,
    /// One of the tenant's jobs with the same key runs at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency_key: Option<Arc<str>>,
    /// The job that this one does again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<JobId>,
    /// The newest job that does this one again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retried_by: Option<JobId>,
}

impl From<JobRow> for JobView {
    fn from(row: JobRow) -> Self {
        Self {
            job_id: row.id,
            status: row.status,
            mode: (row.tool == handler::AGENT).then_some("agent"),
            tool: Some(row.tool).filter(|tool| tool != handler::AGENT),
            input: row.input,
            result: row.result,
            error: row.error,
            attempt: row.attempt,
            max_attempts: row.options.max_attempts,
            interruptions: row.interruptions,
            priority: row.priority,
            cancel_requested: row.cancel_requested,
            run_at: row.due_at,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            cost_usd: row.cost,
            budget_usd: row.options.budget,
            session_id: row.options.session,
            metadata: row.metadata,
            concurrency_key: row.concurrency_key,
            retry_of: row.retry_of,
            retried_by: row.retried_by,
        }
    }
}

async fn submit(
    caller: Caller<JobsWrite>,
    jobs: Service,
    request: HttpRequest,
    body: Json<SubmitBody>,
) -> Result<HttpResponse, Problem> {
    let wait = wait_time(&request)?;
    let key = IdempotencyKey::of(&request, caller.tenant.no, &body.bytes)?;
    let job = jobs.paid_by(&caller.key.id, jobs.check(caller.tenant.no, body.value)?);
    respond(&jobs, caller.tenant, job, key, wait).await
}

async fn retry(
    caller: Caller<JobsWrite>,
    jobs: Service,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let wait = wait_time(&request)?;
    let key = IdempotencyKey::of(&request, caller.tenant.no, &bytes::Bytes::new())?;
    let row = existing(&jobs, caller.tenant, &id).await?;
    if !row.status.is_final() {
        let detail = format!("the job is {}; only a finished one can be done again", row.status.name());
        return Err(Problem::conflict("job_not_finished", detail));
    }
    let unknown = format!("this version has no tool {:?}", row.tool);
    let job = jobs.0.again(row).ok_or_else(|| Problem::conflict("unknown_tool", unknown))?;
    respond(&jobs, caller.tenant, jobs.paid_by(&caller.key.id, job), key, wait).await
}

async fn respond(
    jobs: &Jobs,
    tenant: Tenant,
    job: NewJob,
    key: Option<IdempotencyKey>,
    wait: Option<Duration>,
) -> Result<HttpResponse, Problem> {
    let id = job.id;
    let listening = wait.map(|_| jobs.listen(id));
    let Submitted { answer, replayed } = jobs.submit(job, key).await?;
    if let (Some(wait), Some(listening)) = (wait, listening) {
        let (id, listening) = if replayed {
            let first = stored_job(&answer.body)?;
            (first, jobs.listen(first))
        } else {
            (id, listening)
        };
        let standing = if replayed { standing(jobs, tenant, id).await? } else { Some(Status::Queued) };
        // A job that has been deleted since will not end again.
        if let Some(standing) = standing
            && let Some(row) = jobs.wait(listening, tenant.no, id, standing, wait).await?
        {
            return Ok(with_location(HttpResponse::Ok(), id, replayed).json(JobView::from(row)));
        }
    }
    let id = if replayed { stored_job(&answer.body)? } else { id };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::ACCEPTED);
    let mut response = with_location(HttpResponse::build(status), id, replayed);
    Ok(response.content_type("application/json").body(answer.body))
}

fn with_location(
    mut response: actix_web::HttpResponseBuilder,
    id: JobId,
    replayed: bool,
) -> actix_web::HttpResponseBuilder {
    response.insert_header((header::LOCATION, format!("/v1/jobs/{id}")));
    if replayed {
        response.insert_header(("Idempotency-Replayed", "true"));
    }
    response
}

/// The job that a kept answer speaks of.
fn stored_job(body: &str) -> Result<JobId, Problem> {
    #[derive(serde::Deserialize)]
    struct Kept {
        job_id: uuid::Uuid,
    }
    let kept: Kept = serde_json::from_str(body).map_err(Problem::internal)?;
    Ok(JobId(kept.job_id))
}

async fn standing(jobs: &Jobs, tenant: Tenant, id: JobId) -> Result<Option<Status>, Problem> {
    let found = jobs.0.db.read(move |tx| sql::read::standing(tx, tenant.no, id)).await?;
    Ok(found.map(|(status, _)| status))
}

fn wait_time(request: &HttpRequest) -> Result<Option<Duration>, Problem> {
    if request.query_string().is_empty() {
        return Ok(None);
    }
    let mut query = Query::of(request)?;
    let seconds = query.value::<f64>("wait", "a number of seconds, 0 or more")?;
    query.finish(&["wait"])?;
    let span = |seconds| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| Problem::invalid("?wait", "must be a number of seconds, 0 or more"))
    };
    Ok(seconds.map(span).transpose()?.filter(|wait| !wait.is_zero()))
}

async fn existing(jobs: &Jobs, tenant: Tenant, id: &str) -> Result<JobRow, Problem> {
    let id = job_id(id)?;
    jobs.get(tenant.no, id).await?.ok_or_else(|| Problem::not_found("job"))
}

/// What is no id is no job either.
pub(super) fn job_id(id: &str) -> Result<JobId, Problem> {
    JobId::parse(id).ok_or_else(|| Problem::not_found("job"))
}

async fn get(
    caller: Caller<JobsRead>,
    jobs: Service,
    id: web::Path<String>,
    _: NoQuery,
) -> Result<web::Json<JobView>, Problem> {
    let row = existing(&jobs, caller.tenant, &id).await?;
    Ok(web::Json(row.into()))
}

async fn cancel(
    caller: Caller<JobsWrite>,
    jobs: Service,
    id: web::Path<String>,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    let (status, row) = cancel_answer(&jobs, caller.tenant.no, job_id(&id)?).await?;
    Ok(HttpResponse::build(status).json(JobView::from(row)))
}

/// Cancels a tenant's job: how to answer, and the job.
pub(super) async fn cancel_answer(jobs: &Jobs, tenant: i64, id: JobId) -> Result<(StatusCode, JobRow), Problem> {
    let status = match jobs.cancel(tenant, id).await? {
        Cancel::Missing => return Err(Problem::not_found("job")),
        Cancel::Finished(Status::Cancelled) | Cancel::Ended(..) => StatusCode::OK,
        Cancel::Running => StatusCode::ACCEPTED,
        Cancel::Finished(status) => {
            return Err(Problem::conflict("job_finished", format!("the job has already {}", ended_as(status))));
        }
    };
    let row = jobs.get(tenant, id).await?.ok_or_else(|| Problem::not_found("job"))?;
    Ok((status, row))
}

fn ended_as(status: Status) -> &'static str {
    match status {
        Status::Succeeded => "succeeded",
        Status::Dead => "been given up",
        _ => "failed",
    }
}

async fn delete(
    caller: Caller<JobsWrite>,
    jobs: Service,
    id: web::Path<String>,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    match jobs.delete(caller.tenant.no, job_id(&id)?).await? {
        None => Err(Problem::not_found("job")),
        Some(status) if status.is_final() => Ok(HttpResponse::NoContent().finish()),
        Some(status) => {
            let detail = format!("the job is {}; only a finished one can be deleted", status.name());
            Err(Problem::conflict("job_not_finished", detail).with_hint("cancel it first"))
        }
    }
}

pub(super) const LIST_PARAMETERS: [&str; 7] =
    ["status", "tool", "created_after", "created_before", "metadata.KEY", "limit", "cursor"];

async fn list(
    caller: Caller<JobsRead>,
    jobs: Service,
    request: HttpRequest,
) -> Result<web::Json<Page<JobView>>, Problem> {
    let mut query = Query::of(&request)?;
    let page = PageRequest::take(&mut query)?;
    let filter = filter(&mut query)?;
    query.finish(&LIST_PARAMETERS)?;
    let tenant = caller.tenant.no;
    let read = jobs.0.db.read(move |tx| sql::read::list(tx, Some(tenant), &filter, page.after, page.limit));
    let (rows, next) = read.await?;
    Ok(web::Json(Page::new(rows, next).map(JobView::from)))
}

/// Takes what narrows a list out of the query.
pub(super) fn filter(query: &mut Query) -> Result<Filter, Problem> {
    let status = query.text("status").map(|name| {
        let known = Status::ALL.map(Status::name).join(", ");
        Status::from_name(&name).ok_or_else(|| Problem::invalid("?status", format!("must be one of {known}")))
    });
    Ok(Filter {
        status: status.transpose()?,
        tool: query.text("tool"),
        created_after: query.time("created_after")?,
        created_before: query.time("created_before")?,
        metadata: query.with_prefix("metadata."),
    })
}

/// A finished step of a job.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Step")]
pub(super) struct StepView {
    /// Its number among the job's events.
    step: i64,
    /// What kind of step, such as `tool`.
    kind: String,
    /// Such as the tool's name.
    name: String,
    /// The attempt that it belongs to.
    attempt: u32,
    /// `succeeded` or how else it ended.
    status: String,
    started_at: Timestamp,
    finished_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Box<RawValue>>,
    output: Option<Box<RawValue>>,
    #[schemars(with = "Option<super::failure::FailureJson<'_>>")]
    error: Option<Box<RawValue>>,
}

impl From<StepRow> for StepView {
    fn from(row: StepRow) -> Self {
        let StepRow { seq, kind, name, attempt, status, started_at, finished_at, input, output, error } = row;
        Self { step: seq, kind, name, attempt, status, started_at, finished_at, input, output, error }
    }
}

async fn steps(
    caller: Caller<JobsRead>,
    jobs: Service,
    id: web::Path<String>,
    _: NoQuery,
) -> Result<web::Json<Page<StepView>>, Problem> {
    let job = existing(&jobs, caller.tenant, &id).await?.id;
    let rows = jobs.0.db.read(move |tx| sql::read::steps(tx, job)).await?;
    Ok(web::Json(Page::new(rows, None).map(StepView::from)))
}

async fn events(
    caller: Caller<JobsRead>,
    jobs: Service,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let id = job_id(&id)?;
    let mut query = Query::of(&request)?;
    let limit = query.whole("limit", 1..=1_000_usize)?;
    let after = query.value::<i64>("starting_after", "a whole number, the id of an event")?;
    query.finish(&["starting_after", "limit"])?;
    let last_seen = last_event_id(&request)?;
    let after = after.or(last_seen).unwrap_or(0);
    let tenant = caller.tenant.no;
    let standing = jobs.0.db.read(move |tx| sql::read::standing(tx, tenant, id)).await?;
    let (status, last) = standing.ok_or_else(|| Problem::not_found("job"))?;
    if wants_stream(&request) {
        if limit.is_some() {
            return Err(Problem::invalid("?limit", "a stream has no limit; it ends with the job"));
        }
        return stream(&jobs, &request, caller.key, id, after, (status, last));
    }
    let limit = limit.unwrap_or(200);
    check_place(after, last)?;
    let events = jobs.0.db.read(move |tx| sql::read::events(tx, id, after, limit)).await?;
    let next = events.last().map(|event| event.seq).filter(|seq| *seq < last);
    let data = events.iter().map(super::event::Event::view).collect();
    Ok(HttpResponse::Ok().json(EventList { data, next_starting_after: next }))
}

/// Events of a job.
#[derive(Serialize, JsonSchema)]
pub(super) struct EventList<'a> {
    data: Vec<super::event::EventView<'a>>,
    /// What to send as `starting_after` for those after these; null at the end.
    next_starting_after: Option<i64>,
}

fn stream(
    jobs: &Jobs,
    request: &HttpRequest,
    key: Arc<KeyEntry>,
    id: JobId,
    after: i64,
    (status, last): (Status, i64),
) -> Result<HttpResponse, Problem> {
    check_place(after, last)?;
    if status.is_final() && after == last {
        // Browsers come back for ever unless they are told that this was all.
        return Ok(HttpResponse::NoContent().finish());
    }
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("X-Accel-Buffering", "no"));
    if request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    Ok(response.streaming(follow(jobs.clone(), id, key, after)))
}

fn check_place(after: i64, last: i64) -> Result<(), Problem> {
    if (0..=last).contains(&after) {
        return Ok(());
    }
    Err(Problem::invalid("?starting_after", format!("the job has events 1 to {last}, not {after}")))
}

fn wants_stream(request: &HttpRequest) -> bool {
    prefers(request.headers(), "text/event-stream", "application/json")
}

fn last_event_id(request: &HttpRequest) -> Result<Option<i64>, Problem> {
    let Some(id) = request.headers().get("last-event-id") else { return Ok(None) };
    let number = id.to_str().ok().and_then(|id| id.trim().parse().ok()).filter(|number| *number >= 0);
    number.map(Some).ok_or_else(|| Problem::bad_request("invalid_request", "Last-Event-ID is not the id of an event"))
}

/// A tool.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tool")]
pub(super) struct ToolView {
    name: &'static str,
    description: &'static str,
    class: handler::Class,
    /// JSON Schema of its input.
    input_schema: serde_json::Value,
    /// Seconds for one attempt when the client does not say.
    timeout: f64,
}

async fn tools(_: Caller<JobsRead>, jobs: Service, _: NoQuery) -> HttpResponse {
    let view = |handler: &'_ handler::Handler| ToolView {
        name: handler.name,
        description: handler.description,
        class: handler.class,
        input_schema: handler.input_schema.clone(),
        timeout: handler.timeout.as_secs_f64(),
    };
    HttpResponse::Ok().json(Page::new(jobs.registry().tools().map(view).collect(), None))
}
