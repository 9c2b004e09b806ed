//! The job `response.create`, which makes a response in the background.
//!
//! It writes down that it is about to ask the provider before it does. A job that
//! is taken up again after that does not ask again, because it may have been paid
//! for already: the response has failed, and says why.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::background::BEGINNING;
use super::create::{Asked, Plan};
use super::events::{Events, replay};
use super::id::ResponseId;
use super::object::{Ending, Event, Head, Status, end_as_it_stands};
use super::relay::Own;
use super::request::{Create, CreateBody};
use super::sql::{self, Step, Work};
use super::{Inner, Responses};
use crate::budgets::{EXCEEDED, JobPayer, Payer};
use crate::db;
use crate::http::Problem;
use crate::jobs::{Call, Class, Failure, Handler, Outcome, Run};
use crate::models::{Answer, Reply, Streamed};

/// The handler's name.
pub(super) const NAME: &str = "response.create";

/// Longer than any provider thinks; what is shorter is the gateway's concern.
const TIMEOUT: Duration = Duration::from_hours(24);
/// Bytes of pieces that are written together.
const TOGETHER: usize = 64 << 10;
/// Bytes of events that one response may have.
const LARGEST: usize = 32 << 20;
/// The pause before a write that failed for want of space is tried again.
const WRITE_AGAIN: Duration = Duration::from_millis(500);

/// The number of the event that says that it is in progress.
#[expect(clippy::cast_possible_wrap, reason = "there are two before it")]
const BEGUN: i64 = BEGINNING.len() as i64;

#[derive(Serialize, Deserialize)]
struct Input {
    response_id: String,
}

pub(super) fn input(id: ResponseId) -> Value {
    json!(Input { response_id: id.to_string() })
}

/// The handler, which is for the service itself.
#[must_use]
pub fn handler(responses: &Responses) -> Handler {
    let inner = responses.0.clone();
    Handler {
        name: NAME,
        description: "Makes a response in the background.",
        class: Class::Write,
        input_schema: json!({
            "type": "object",
            "required": ["response_id"],
            "additionalProperties": false,
            "properties": { "response_id": { "type": "string" } },
        }),
        timeout: TIMEOUT,
        concurrency: None,
        run: Run::Async(Box::new(move |call| {
            let inner = inner.clone();
            Box::pin(async move { work(&inner, call).await })
        })),
    }
}

async fn work(inner: &Arc<Inner>, call: Call) -> Outcome {
    let input: Input = serde_json::from_str(&call.input).map_err(internal)?;
    let id = ResponseId::parse(&input.response_id).ok_or_else(|| internal("no id of a response"))?;
    let tenant = call.tenant;
    let found = inner.db.read(move |tx| sql::work(tx, tenant, id)).await.map_err(storage)?;
    let Some(work) = found else { return Err(Failure::permanent("response_gone", "the response has been deleted")) };
    if work.status.is_final() {
        return Ok(json!({ "response_id": id.to_string(), "status": work.status }).to_string());
    }
    let mut making = Making::new(inner, id, &work, call);
    if work.called {
        let message = "the service stopped while the provider was at work; it is not asked again, \
                       because it may have been paid for already";
        return making.end(&Ending::failed("server_error", message)).await;
    }
    match making.prepare(work).await {
        Ok((asked, plan)) => making.make(&asked, plan).await,
        Err(problem) => making.end(&failed(&problem)).await,
    }
}

/// A response that is being made.
struct Making<'a> {
    inner: &'a Arc<Inner>,
    id: ResponseId,
    call: Call,
    /// The number of the next event.
    next: i64,
    /// Whether an event has said already that it is in progress.
    begun: bool,
    /// The object, as it stands in the database.
    object: Value,
    /// Bytes of events so far.
    written: usize,
}

/// Whether a response goes on after a step.
enum Went {
    On,
    /// It has ended meanwhile, or has been deleted.
    Ended,
}

impl<'a> Making<'a> {
    fn new(inner: &'a Arc<Inner>, id: ResponseId, work: &Work, call: Call) -> Self {
        let object = serde_json::from_str(&work.object).unwrap_or_default();
        Self { inner, id, call, next: work.last_event + 1, begun: work.last_event >= BEGUN, object, written: 0 }
    }

    /// The request again, as it was when it came.
    async fn prepare(&self, work: Work) -> Result<(Asked, Plan), Problem> {
        let mut body: CreateBody = serde_json::from_str(&work.request).map_err(Problem::internal)?;
        body.0.insert("input".into(), serde_json::from_str(&work.input).map_err(Problem::internal)?);
        let payer = Payer {
            tenant: self.call.tenant,
            key: work.key.map(Into::into),
            session: work.session.map(Into::into),
            job: Some(JobPayer { no: self.call.job.no(), cap: None }),
        };
        let asked = Asked { create: Create::read(body)?, payer, test: work.test };
        let plan = self.inner.plan(&asked, true).await?;
        Ok((asked, plan))
    }

    async fn make(&mut self, asked: &Asked, plan: Plan) -> Outcome {
        let stop = self.call.stop.clone();
        // Up to here nothing has been paid, so the job can simply be done again.
        if stop.is_cancelled() {
            return Err(stopped());
        }
        if matches!(self.stands(Status::InProgress, true).await, Went::Ended) {
            return Ok(self.gone());
        }
        let Some(reply) = stop.run_until_cancelled(self.inner.ask(&plan)).await else {
            return self.cut_off().await;
        };
        match reply {
            Err(problem) if problem.code() == EXCEEDED && self.inner.models.waits_for_money(self.call.tenant) => {
                self.wait_for_money(&problem).await
            }
            Err(problem) => self.end(&failed(&problem)).await,
            Ok(Reply::Whole(answer)) if !(200..300).contains(&answer.status) => self.end(&refused(&answer)).await,
            Ok(Reply::Whole(answer)) => {
                let head = self.head(&answer.receipt.model);
                match plan.whole(&answer, &Own::new(&asked.create, &head), head.clone()) {
                    Err(problem) => self.end(&failed(&problem)).await,
                    Ok(finished) => {
                        let events = replay(&head, &finished, self.next);
                        self.step(Step::of(events, Some(&finished))).await;
                        Ok(self.outcome(finished.status))
                    }
                }
            }
            Ok(Reply::Stream(streamed)) => {
                let head = self.head(&streamed.receipt.model);
                let own = Own::new(&asked.create, &head);
                let events = Events::new(plan.source(own, head, self.next));
                self.follow(streamed, events).await
            }
        }
    }

    /// Writes down where the response stands, and whether the provider may have
    /// been asked from now on. Its events say only once that it is in progress.
    async fn stands(&mut self, status: Status, called: bool) -> Went {
        self.object["status"] = status.name().into();
        let begins = status == Status::InProgress && !std::mem::replace(&mut self.begun, true);
        let event = begins.then(|| Event::new(self.next, status.event(), json!({ "response": self.object })));
        let change = Some((status, self.object.to_string()));
        self.step(Step { events: event.into_iter().collect(), called: Some(called), change }).await
    }

    /// No provider has answered, so that all can be done again when a budget can pay.
    async fn wait_for_money(&mut self, problem: &Problem) -> Outcome {
        if matches!(self.stands(Status::Queued, false).await, Went::Ended) {
            return Ok(self.gone());
        }
        let until = problem.retry_after().map(|seconds| self.inner.clock.now().plus(Duration::from_secs(seconds)));
        Err(Failure::budget(until))
    }

    /// What the response says of itself, now that it is known which model it is.
    fn head(&self, model: &str) -> Head {
        let mut head = Head::of_object(self.id, self.object.clone());
        head.set_model(model);
        head
    }

    /// Writes events down as they come, as many together as have come meanwhile.
    async fn follow(&mut self, mut streamed: Streamed, mut events: Events) -> Outcome {
        let stop = self.call.stop.clone();
        loop {
            let mut new = Vec::new();
            let Some(piece) = stop.run_until_cancelled(streamed.pieces.next()).await else {
                drop(streamed);
                return self.cut_off().await;
            };
            let (mut next, mut size) = (Some(piece), 0);
            while let Some(piece) = next.take() {
                match piece {
                    Some(bytes) => {
                        size += bytes.len();
                        events.push(&bytes, &mut new);
                    }
                    None => events.end(&mut new),
                }
                if events.finished().is_none() && size < TOGETHER {
                    next = streamed.pieces.next().now_or_never();
                }
            }
            self.written += new.iter().map(|event| event.data.len()).sum::<usize>();
            if self.written > LARGEST && events.finished().is_none() {
                events.fail("the answer is larger than a response may be", &mut new);
            }
            let finished = events.finished();
            if new.is_empty() {
                continue;
            }
            let status = finished.map(|finished| finished.status);
            if matches!(self.step(Step::of(new, finished)).await, Went::Ended) {
                return Ok(self.gone());
            }
            if let Some(status) = status {
                return Ok(self.outcome(status));
            }
        }
    }

    /// Takes a step, again and again while the disk does not take it: what has
    /// been paid for must not be lost for want of space.
    async fn step(&mut self, step: Step) -> Went {
        let (no, last) = (self.id.no(), step.events.last().map(|event| event.seq));
        loop {
            let (now, step, followers) = (self.inner.clock.now(), step.clone(), self.inner.followers.clone());
            let work = move |tx: &db::Tx<'_>| sql::step(tx, no, &step, now);
            match self.inner.db.write_then(work, move |_| followers.tell(no)).await {
                Ok(true) => {
                    self.next = last.map_or(self.next, |last| last + 1);
                    return Went::On;
                }
                Ok(false) => return Went::Ended,
                Err(error) if error.is_passing() && error != db::Error::Closed => {
                    tracing::warn!(%error, "events of a response could not be written; trying again");
                    if self.call.stop.run_until_cancelled(tokio::time::sleep(WRITE_AGAIN)).await.is_none() {
                        return Went::Ended;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "events of a response could not be written");
                    return Went::Ended;
                }
            }
        }
    }

    /// The attempt is no longer wanted, and the provider has been asked.
    async fn cut_off(&mut self) -> Outcome {
        let stopping = self.inner.jobs.get().is_some_and(crate::jobs::Jobs::is_draining);
        let ending = if stopping {
            Ending::failed("server_error", "the service was stopped before the answer was complete")
        } else {
            Ending::Cancelled
        };
        self.end(&ending).await
    }

    /// Ends the response without the provider.
    async fn end(&mut self, ending: &Ending) -> Outcome {
        let (event, finished) = end_as_it_stands(self.id, self.object.take(), ending, self.next);
        self.step(Step::of(vec![event], Some(&finished))).await;
        Ok(self.outcome(finished.status))
    }

    fn outcome(&self, status: Status) -> String {
        json!({ "response_id": self.id.to_string(), "status": status }).to_string()
    }

    /// Somebody has ended or deleted it meanwhile.
    fn gone(&self) -> String {
        self.outcome(Status::Cancelled)
    }
}

fn failed(problem: &Problem) -> Ending {
    Ending::failed(problem.code(), problem.detail())
}

/// What the provider said instead of an answer.
fn refused(answer: &Answer) -> Ending {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let error = &body["error"];
    let message =
        error["message"].as_str().map_or_else(|| format!("the provider answered {}", answer.status), Into::into);
    Ending::failed(error["code"].as_str().unwrap_or("invalid_prompt"), message)
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err asks for")]
fn internal(error: impl ToString) -> Failure {
    Failure::permanent("internal", error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err asks for")]
fn storage(error: db::Error) -> Failure {
    Failure::retryable("storage_unavailable", error.to_string())
}

fn stopped() -> Failure {
    Failure::retryable("stopped", "the service was stopped")
}
