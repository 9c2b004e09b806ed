//! Many jobs at once: batches of submissions, and dead letters done again.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request::SubmitBody;
use super::sql::read::{Redrive, count_to_redrive, to_redrive};
use super::submit::Submitted;
use super::types::{JobId, NewJob, Status};
use super::{Jobs, describe, sql};
use crate::auth::{Caller, JobsWrite};
use crate::clock::Timestamp;
use crate::db;
use crate::http::idempotency::{IdempotencyKey, Seen, Stored, reused};
use crate::http::query::NoQuery;
use crate::http::{BATCH_BODY, Json, Problem, Routes};

/// Jobs that one batch may bring, and that one redrive starts.
const MOST: usize = 1_000;

/// The routes of this file.
pub(super) fn routes() -> Routes {
    Routes::of("Jobs", "").with(Method::POST, "/v1/jobs/batch", batch, describe::batch).with(
        Method::POST,
        "/v1/jobs/redrive",
        redrive,
        describe::redrive,
    )
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SubmitBatch")]
struct BatchBody {
    #[schemars(length(min = 1, max = 1_000))]
    jobs: Vec<SubmitBody>,
}

async fn batch(
    caller: Caller<JobsWrite>,
    jobs: web::Data<Jobs>,
    request: HttpRequest,
    _: NoQuery,
    body: Json<BatchBody, BATCH_BODY>,
) -> Result<HttpResponse, Problem> {
    let key = IdempotencyKey::of(&request, caller.tenant.no, &body.bytes)?;
    let wanted = body.value.jobs;
    if !(1..=MOST).contains(&wanted.len()) {
        return Err(Problem::invalid("/jobs", format!("must hold 1 to {MOST} jobs, not {}", wanted.len())));
    }
    let check = |(place, body): (usize, SubmitBody)| {
        let job = jobs.check(caller.tenant.no, body).map_err(|problem| problem.within(&format!("/jobs/{place}")))?;
        Ok(jobs.paid_by(&caller.key.id, job))
    };
    let new = wanted.into_iter().enumerate().map(check).collect::<Result<Vec<_>, Problem>>()?;
    Ok(answer(jobs.submit_all(new, key).await?))
}

fn answer(Submitted { answer, replayed }: Submitted) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::ACCEPTED);
    let mut response = HttpResponse::build(status);
    if replayed {
        response.insert_header(("Idempotency-Replayed", "true"));
    }
    response.content_type("application/json").body(answer.body)
}

/// Which jobs are to be done again.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Redrive")]
pub(super) struct RedriveBody {
    /// Left out: `dead`.
    #[schemars(with = "Option<String>", extend("enum" = ["dead", "failed", "cancelled", null]))]
    status: Option<Status>,
    tool: Option<String>,
    /// Only jobs from this time on.
    created_after: Option<Timestamp>,
    /// Only jobs before this time.
    created_before: Option<Timestamp>,
    /// Jobs at most; left out: 1,000.
    #[schemars(range(min = 1, max = 1_000))]
    limit: Option<usize>,
}

/// A job that is done again.
#[derive(Serialize, JsonSchema)]
struct Redriven {
    /// The new job.
    job_id: JobId,
    /// The one that it does again.
    retry_of: JobId,
}

/// What was done again.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RedrivenList")]
pub(super) struct RedriveAnswer {
    data: Vec<Redriven>,
    /// Whether the limit left some that fit.
    more: bool,
}

async fn redrive(
    caller: Caller<JobsWrite>,
    jobs: web::Data<Jobs>,
    request: HttpRequest,
    _: NoQuery,
    body: Json<RedriveBody>,
) -> Result<HttpResponse, Problem> {
    let key = IdempotencyKey::of(&request, caller.tenant.no, &body.bytes)?;
    Ok(answer(jobs.redrive(caller.tenant.no, body.value, key).await?))
}

enum Written {
    New(Vec<NewJob>, Stored),
    Before(Stored),
    Otherwise,
}

impl Jobs {
    /// Does a tenant's dead or failed jobs again, each as a new job, and each
    /// only once, however often it is asked.
    pub(super) async fn redrive(
        &self,
        tenant: i64,
        body: RedriveBody,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted, Problem> {
        let status = body.status.unwrap_or(Status::Dead);
        if !matches!(status, Status::Dead | Status::Failed | Status::Cancelled) {
            return Err(Problem::invalid("/status", "must be \"dead\", \"failed\" or \"cancelled\""));
        }
        let limit = body.limit.unwrap_or(MOST);
        if !(1..=MOST).contains(&limit) {
            return Err(Problem::invalid("/limit", format!("must be a whole number from 1 to {MOST}")));
        }
        let RedriveBody { tool, created_after, created_before, .. } = body;
        let known: Vec<&str> = self.0.registry.all().map(|handler| handler.name).collect();
        let tools = match &tool {
            Some(tool) if !known.contains(&tool.as_str()) => Vec::new(),
            Some(tool) => vec![tool.as_str()],
            None => known,
        };
        let tools = serde_json::to_string(&tools).map_err(Problem::internal)?;
        let wanted = Redrive { tenant, status, tools, created_after, created_before };
        let (inner, after, now) = (self.0.clone(), self.0.clone(), self.0.clock.now());
        let look = wanted.clone();
        let found = self.0.db.read(move |tx| count_to_redrive(tx, &look, limit + 1)).await?;
        let (more, found) = (found > limit, found.min(limit));
        self.admit(found)?;
        // What is found meanwhile beyond that waits for the next call.
        let admission = match self.admit_tenant(tenant, found, true, now) {
            Ok(admission) => admission,
            Err(refusal) => return self.replay_or(key, now, refusal).await,
        };
        let work = move |tx: &db::Tx<'_>| {
            match key.as_ref().map(|key| key.seen(tx, now)).transpose()? {
                Some(Seen::Before(stored)) => return Ok(Written::Before(stored)),
                Some(Seen::Otherwise) => return Ok(Written::Otherwise),
                Some(Seen::Never) | None => {}
            }
            let rows = to_redrive(tx, &wanted, found)?;
            let jobs: Vec<NewJob> = rows.into_iter().filter_map(|row| inner.again(row)).collect();
            jobs.iter().try_for_each(|job| sql::write::insert(tx, job, None))?;
            let pair = |job: &NewJob| Some(Redriven { job_id: job.id, retry_of: job.retry_of? });
            let answer = RedriveAnswer { data: jobs.iter().filter_map(pair).collect(), more };
            let body = serde_json::to_string(&answer).map_err(|error| db::Error::Sql(error.to_string()))?;
            let answer = Stored { status: StatusCode::ACCEPTED.as_u16(), body };
            if let Some(key) = &key {
                key.store(tx, now, &answer)?;
            }
            Ok(Written::New(jobs, answer))
        };
        let after = move |written: &Written| {
            if let Written::New(jobs, _) = written {
                after.on_disk(jobs, &[], None);
                admission.on_disk_only(u32::try_from(jobs.len()).unwrap_or(u32::MAX));
            }
        };
        match self.0.db.write_then(work, after).await? {
            Written::New(_, answer) => Ok(Submitted { answer, replayed: false }),
            Written::Before(answer) => Ok(Submitted { answer, replayed: true }),
            Written::Otherwise => Err(reused()),
        }
    }
}
