//! `/v1/batches`.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::types::{Batch, BatchId, Counts, ENDPOINTS, Place, Status, Times, endpoint};
use super::view::BatchView;
use super::{Batches, MOST_OPEN, NotMade};
use crate::auth::{Caller, ModelsUse};
use crate::http::idempotency::{Created, IdempotencyKey, Stored, replay, reused};
use crate::http::openapi::Answer;
use crate::http::query::{NoQuery, Query};
use crate::http::{Json, Problem, Routes};
use crate::models::files::{FileId, KEEP};
use crate::models::list::{List, Paging};
use crate::models::payer;

/// Rows on a page when nobody says how many, and at most.
const USUAL: usize = 20;
const MOST: usize = 100;
/// How long a batch may take.
const WINDOW: Duration = Duration::from_secs(86_400);
/// What metadata may be, as OpenAI has it.
const MOST_PAIRS: usize = 16;
const LONGEST_KEY: usize = 64;
const LONGEST_VALUE: usize = 512;

/// The routes of batches.
#[must_use]
pub fn routes() -> Routes {
    Routes::of("Batches", "Many calls to language models from a file, in OpenAI's format.")
        .with(Method::POST, "/v1/batches", create, |it| {
            it.named("createBatch", "Have the calls of a file made within a day")
                .about(
                    "Each line of the file is a JSON object with `custom_id`, `method` (`POST`), `url` (the batch's \
                     endpoint) and `body`. The calls are made while there is time and money, some at once, and paid \
                     for by whoever made the batch. What was under way when the service was killed may have been paid \
                     for: it is in the error file as `interrupted` and is not called again.",
                )
                .example(
                    "chat",
                    json!({
                        "input_file_id": "file-01990000000070008000000000000000",
                        "endpoint": "/v1/chat/completions",
                        "completion_window": "24h",
                    }),
                )
                .answer(StatusCode::OK, Answer::json::<BatchView>("The batch, whose input is looked through next."))
                .problems(StatusCode::NOT_FOUND, &["not_found"])
                .problems(StatusCode::TOO_MANY_REQUESTS, &["queue_full"])
                .idempotent()
        })
        .with(Method::GET, "/v1/batches", list, |it| {
            Paging::describe(it.named("listBatches", "List your batches, the newest first"), USUAL, MOST)
                .answer(StatusCode::OK, Answer::json::<List<BatchView>>("A page of the list."))
        })
        .with(Method::GET, "/v1/batches/{id}", show, |it| {
            it.named("getBatch", "Get how a batch stands")
                .about("It is kept for 30 days after its end.")
                .answer(StatusCode::OK, Answer::json::<BatchView>("The batch."))
        })
        .with(Method::POST, "/v1/batches/{id}/cancel", cancel, |it| {
            it.named("cancelBatch", "End a batch")
                .about("What is under way is given up; what has been answered is in the output all the same.")
                .answer(StatusCode::OK, Answer::json::<BatchView>("The batch, which ends."))
                .problems(StatusCode::CONFLICT, &["batch_ended"])
        })
        .with_openai_errors()
}

type Service = web::Data<Batches>;

/// What is asked for. Other fields are not looked at.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "NewBatch")]
struct CreateBody {
    /// A file with the purpose `batch`.
    input_file_id: String,
    #[schemars(extend("enum" = ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"]))]
    endpoint: String,
    #[schemars(extend("const" = "24h"))]
    completion_window: String,
    /// Up to 16 pairs for your own use.
    metadata: Option<BTreeMap<String, String>>,
    /// How long the output is kept; 30 days when left out.
    output_expires_after: Option<ExpiresAfter>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ExpiresAfter {
    #[schemars(extend("const" = "created_at"))]
    anchor: String,
    /// From an hour to 30 days.
    seconds: u64,
}

impl CreateBody {
    fn check(&self) -> Result<(&'static str, FileId), Problem> {
        let known = || ENDPOINTS.map(|(path, _)| path).join(", ");
        let (endpoint, _) = endpoint(&self.endpoint)
            .ok_or_else(|| Problem::invalid("/endpoint", format!("{:?} is none of {}", self.endpoint, known())))?;
        if self.completion_window != "24h" {
            return Err(Problem::invalid("/completion_window", "must be 24h"));
        }
        let pairs = self.metadata.iter().flatten();
        if self.metadata.as_ref().is_some_and(|metadata| metadata.len() > MOST_PAIRS) {
            return Err(Problem::invalid("/metadata", format!("has more than {MOST_PAIRS} pairs")));
        }
        let long = |text: &str, most: usize| text.chars().count() > most;
        if let Some((key, _)) =
            pairs.into_iter().find(|(key, value)| long(key, LONGEST_KEY) || long(value, LONGEST_VALUE))
        {
            let detail = format!("a key may have {LONGEST_KEY} characters and its value {LONGEST_VALUE}");
            let key: String = key.chars().take(LONGEST_KEY).collect();
            return Err(Problem::invalid(format!("/metadata/{key}"), detail));
        }
        match &self.output_expires_after {
            Some(expires) if expires.anchor != "created_at" => {
                return Err(Problem::invalid("/output_expires_after/anchor", "must be created_at"));
            }
            Some(expires) if !KEEP.contains(&expires.seconds) => {
                let detail = format!("must be a whole number from {} to {}", KEEP.start(), KEEP.end());
                return Err(Problem::invalid("/output_expires_after/seconds", detail));
            }
            _ => {}
        }
        let file = FileId::parse(&self.input_file_id).ok_or_else(|| no_file(&self.input_file_id))?;
        Ok((endpoint, file))
    }
}

fn no_file(id: &str) -> Problem {
    Problem::not_found(&format!("file: {id:?}"))
}

/// The answer to the request that made a batch.
pub(super) fn stored(batch: &Batch) -> Stored {
    let body = serde_json::to_string(&BatchView::from(batch.clone())).unwrap_or_default();
    Stored { status: StatusCode::OK.as_u16(), body }
}

async fn create(
    caller: Caller<ModelsUse>,
    batches: Service,
    request: HttpRequest,
    _: NoQuery,
    body: Json<CreateBody>,
) -> Result<HttpResponse, Problem> {
    let key = IdempotencyKey::of(&request, caller.tenant.no, &body.bytes)?;
    let payer = payer(&caller, &request)?;
    let (endpoint, input) = body.value.check()?;
    let metadata = body.value.metadata.as_ref().map(serde_json::to_string);
    let created = batches.0.clock.now();
    let batch = Batch {
        id: BatchId(batches.0.ids.next()),
        tenant: payer.tenant,
        key: payer.key.as_deref().map(str::to_owned),
        session: payer.session.as_deref().map(str::to_owned),
        test: caller.key.test,
        input,
        endpoint: endpoint.to_owned(),
        metadata: metadata.transpose().map_err(Problem::internal)?,
        keep_output: body.value.output_expires_after.as_ref().map(|expires| expires.seconds),
        status: Status::Validating,
        ending: None,
        times: Times {
            created,
            expires: created.plus(WINDOW),
            in_progress: None,
            finalizing: None,
            cancelling: None,
            ended: None,
        },
        counts: Counts::default(),
        next: Place::BEGIN,
        errors: None,
        output: None,
        error: None,
    };
    let made = match batches.create(batch, key).await? {
        Created::New(made) => made,
        Created::Replayed(stored) => return Ok(replay(&stored).body(stored.body)),
        Created::KeyReused => return Err(reused()),
    };
    match made {
        Ok(batch) => Ok(HttpResponse::Ok().json(BatchView::from(batch))),
        Err(NotMade::NoFile) => Err(no_file(&body.value.input_file_id)),
        Err(NotMade::OtherPurpose(purpose)) => {
            let detail = format!("the file is for {purpose:?}");
            Err(Problem::invalid("/input_file_id", detail).with_hint("upload it with the purpose \"batch\""))
        }
        Err(NotMade::TooMany) => {
            let detail = format!("{MOST_OPEN} batches of this tenant have not ended");
            Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", detail).with_retry_after(60))
        }
    }
}

async fn list(
    caller: Caller<ModelsUse>,
    batches: Service,
    request: HttpRequest,
) -> Result<web::Json<List<BatchView>>, Problem> {
    let mut query = Query::of(&request)?;
    let paging = Paging::take(&mut query, BatchId::parse, USUAL, MOST)?;
    query.finish(&["after", "limit"])?;
    let rows = batches.list(caller.tenant.no, paging.after, paging.limit + 1).await?;
    Ok(web::Json(List::from_one_more(rows, paging.limit, |row| row.id.to_string())))
}

fn id(text: &str) -> Result<BatchId, Problem> {
    BatchId::parse(text).ok_or_else(|| Problem::not_found("batch"))
}

async fn show(
    caller: Caller<ModelsUse>,
    batches: Service,
    text: web::Path<String>,
    _: NoQuery,
) -> Result<web::Json<BatchView>, Problem> {
    let found = batches.get(caller.tenant.no, id(&text)?).await?;
    Ok(web::Json(found.ok_or_else(|| Problem::not_found("batch"))?.into()))
}

async fn cancel(
    caller: Caller<ModelsUse>,
    batches: Service,
    text: web::Path<String>,
    _: NoQuery,
) -> Result<web::Json<BatchView>, Problem> {
    let found = batches.cancel(caller.tenant.no, id(&text)?).await?;
    let batch = found.ok_or_else(|| Problem::not_found("batch"))?;
    // Cancelling twice is fine.
    if batch.status.is_final() && batch.status != Status::Cancelled {
        let detail = format!("the batch has ended already: it is {}", batch.status.name());
        return Err(Problem::conflict("batch_ended", detail));
    }
    Ok(web::Json(batch.into()))
}
