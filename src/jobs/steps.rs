//! Steps that a job takes itself: the plan of an agent, the tools it calls.
//!
//! Each is on disk before its outcome is used. When the job is taken up again,
//! after a crash or for another attempt, a step that succeeded is answered from
//! the record and not done again. Steps are told apart by the order in which
//! they are asked for, so a handler has to ask in the same order every time.

use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::executor::{lost, panicked};
use super::failure::{ErrorClass, Failure};
use super::handler::{Call, Handler, Outcome, Run};
use super::json::one_line;
use super::sql::steps::{Begun, Recorded, Step, StepEnd};
use super::types::Claim;
use super::{Inner, sql};
use crate::db;

/// Steps that one job may take.
const MAX_STEPS: u32 = 1_000;

/// What records the steps of one attempt.
#[derive(Clone, Default)]
pub struct Steps(Option<Arc<Recorder>>);

struct Recorder {
    inner: Weak<Inner>,
    claim: Arc<Claim>,
    next: AtomicU32,
    /// What earlier runs of the job have left, read when the first step is taken.
    earlier: OnceCell<HashMap<u32, Recorded>>,
}

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Steps")
    }
}

impl Steps {
    pub(super) fn of(inner: Weak<Inner>, claim: Arc<Claim>) -> Self {
        Self(Some(Arc::new(Recorder { inner, claim, next: AtomicU32::new(1), earlier: OnceCell::new() })))
    }
}

impl Call {
    /// Whether there is a tool of that name.
    #[must_use]
    pub fn has_tool(&self, name: &str) -> bool {
        let inner = self.steps.0.as_ref().and_then(|recorder| recorder.inner.upgrade());
        inner.is_some_and(|inner| inner.registry.find_tool(name).is_some())
    }

    /// Calls a tool as a step of this job: checks the input against its schema,
    /// holds it to its time limit, and records what came of it.
    ///
    /// # Errors
    /// The tool's own failure; `unknown_tool`, `invalid_input` and `timeout`.
    pub fn tool<'a>(&'a self, name: &'a str, input: &Value) -> impl Future<Output = Outcome> + Send + 'a {
        let input: Arc<str> = input.to_string().into();
        let work = self.invoke(name, input.clone());
        self.record("tool", name, input, work)
    }

    /// Takes a step of the handler's own, such as making a plan, and records
    /// what came of it. `input` is what the outcome depends on.
    ///
    /// # Errors
    /// The work's own failure.
    pub fn step<'a>(
        &'a self,
        kind: &'static str,
        name: &'a str,
        input: &Value,
        work: impl Future<Output = Outcome> + Send + 'a,
    ) -> impl Future<Output = Outcome> + Send + 'a {
        self.record(kind, name, input.to_string().into(), work)
    }

    /// The number is taken at once, so that steps which run at the same time
    /// have the order in which they were asked for.
    fn record<'a>(
        &'a self,
        kind: &'static str,
        name: &'a str,
        input: Arc<str>,
        work: impl Future<Output = Outcome> + Send + 'a,
    ) -> impl Future<Output = Outcome> + Send + 'a {
        let recorder = self.steps.0.as_ref();
        let ordinal = recorder.map_or(0, |recorder| recorder.next.fetch_add(1, Ordering::Relaxed));
        async move {
            let Some(recorder) = recorder else {
                return Err(Failure::permanent("internal", "this call takes no steps"));
            };
            let started_at = self.clock.now();
            let step = Step { ordinal, kind, name: name.to_owned(), input, started_at };
            recorder.take(step, work, &self.stop).await
        }
    }

    async fn invoke(&self, name: &str, input: Arc<str>) -> Outcome {
        let inner = self.steps.0.as_ref().and_then(|recorder| recorder.inner.upgrade()).ok_or_else(stopped)?;
        let unknown = || Failure::permanent("unknown_tool", format!("there is no tool {name:?}"));
        let place = inner.registry.find_tool(name).ok_or_else(unknown)?;
        if let Some(fault) = inner.registry.faults(place, &input).first() {
            return Err(Failure::permanent("invalid_input", format!("the input does not fit {name}: {fault}")));
        }
        let handler = inner.registry.get(place);
        let limit = handler.timeout;
        let stop = self.stop.child_token();
        let call = Call { input, stop: stop.clone(), steps: Steps::default(), ..self.clone() };
        let outcome = tokio::time::timeout(limit, run(&handler, call, stop.clone())).await;
        stop.cancel();
        let message = || format!("{name} took longer than {} s", limit.as_secs_f64());
        outcome.unwrap_or_else(|_| Err(Failure::retryable("timeout", message())))
    }
}

/// Runs a handler within another's attempt; dropped with it.
async fn run(handler: &Handler, call: Call, stop: CancellationToken) -> Outcome {
    let _stop = stop.drop_guard();
    match &handler.run {
        Run::Inline(run) => {
            let outcome = catch_unwind(AssertUnwindSafe(|| run(&call)));
            outcome.unwrap_or_else(|panic| Err(panicked(&*panic)))
        }
        Run::Blocking(run) => {
            let run = run.clone();
            tokio::task::spawn_blocking(move || run(&call)).await.unwrap_or_else(|error| Err(lost(error)))
        }
        Run::Async(run) => match catch_unwind(AssertUnwindSafe(|| run(call))) {
            Ok(future) => {
                let outcome = AssertUnwindSafe(future).catch_unwind().await;
                outcome.unwrap_or_else(|panic| Err(panicked(&*panic)))
            }
            Err(panic) => Err(panicked(&*panic)),
        },
    }
}

fn stopped() -> Failure {
    Failure::retryable("stopped", "the service is being stopped")
}

impl Recorder {
    async fn take(&self, step: Step, work: impl Future<Output = Outcome>, stop: &CancellationToken) -> Outcome {
        if step.ordinal > MAX_STEPS {
            return Err(Failure::permanent("too_many_steps", format!("a job may take {MAX_STEPS} steps")));
        }
        if let Some(outcome) = self.earlier(&step).await? {
            return outcome;
        }
        let step = Arc::new(step);
        // The work need not wait until it is on disk that it has begun.
        let (begun, outcome) = tokio::join!(self.begin(step.clone()), work);
        let number = begun?;
        // Whoever was told to stop did not fail, nor who had no money; the step is taken again.
        let unpaid = matches!(&outcome, Err(Failure { class: ErrorClass::Unpaid(_), .. }));
        if unpaid || (outcome.is_err() && stop.is_cancelled()) {
            return outcome;
        }
        let outcome = outcome.and_then(|output| self.checked(&output));
        self.end(step, number, outcome.as_ref().map(Clone::clone).map_err(Failure::to_json)).await?;
        outcome.map(|output| output.to_string())
    }

    /// What an earlier run of the job has left of this step. A failure is met
    /// again only in the attempt that it belongs to: another attempt is there
    /// to try again.
    async fn earlier(&self, step: &Step) -> Result<Option<Outcome>, Failure> {
        // Every earlier run has added events. One put back at a stop counts
        // neither as an attempt nor as an interruption.
        if self.claim.step <= sql::write::FIRST_STEP {
            return Ok(None);
        }
        let read = async {
            let (db, no) = (self.inner()?.db.clone(), self.claim.id.no());
            let found = db.read(move |tx| sql::steps::recorded(tx, no)).await.map_err(|error| unwritten(&error))?;
            Ok::<_, Failure>(found.into_iter().map(|recorded| (recorded.ordinal, recorded)).collect())
        };
        let earlier = self.earlier.get_or_try_init(|| read).await?;
        let same = |recorded: &&Recorded| {
            recorded.kind == step.kind && recorded.name == step.name && *recorded.input == *step.input
        };
        let Some(recorded) = earlier.get(&step.ordinal).filter(same) else { return Ok(None) };
        Ok(match &recorded.end {
            Ok(output) => Some(Ok(output.clone())),
            Err(error) if recorded.attempt == self.claim.attempt => Some(Err(Failure::from_json(error))),
            Err(_) => None,
        })
    }

    async fn begin(&self, step: Arc<Step>) -> Result<i64, Failure> {
        let inner = self.inner()?;
        self.claim.took_steps.store(true, Ordering::Release);
        let (claim, now, publish) = (self.claim.clone(), inner.clock.now(), inner.clone());
        let id = claim.id.no();
        let work = move |tx: &db::Tx<'_>| sql::steps::begin(tx, &claim, &step, now);
        let after = move |begun: &Option<Begun>| {
            if let Some(begun) = begun {
                publish.hub.publish(id, &begun.events);
            }
        };
        let begun = inner.db.write_then(work, after).await.map_err(|error| unwritten(&error))?;
        begun.map(|begun| begun.number).ok_or_else(stopped)
    }

    async fn end(&self, step: Arc<Step>, number: i64, end: StepEnd) -> Result<(), Failure> {
        let inner = self.inner()?;
        let (claim, now, publish) = (self.claim.clone(), inner.clock.now(), inner.clone());
        let id = claim.id.no();
        let work = move |tx: &db::Tx<'_>| sql::steps::end(tx, &claim, &step, number, &end, now);
        let after = move |events: &Option<Vec<_>>| {
            if let Some(events) = events {
                publish.hub.publish(id, events);
            }
        };
        let ended = inner.db.write_then(work, after).await.map_err(|error| unwritten(&error))?;
        ended.map(drop).ok_or_else(stopped)
    }

    fn checked(&self, output: &str) -> Result<Arc<str>, Failure> {
        let limit = self.inner()?.limits.result_bytes;
        if output.len() > limit {
            let message = format!("a step gave {} bytes, at most {limit} are kept", output.len());
            return Err(Failure::permanent("result_too_large", message));
        }
        one_line(output)
            .map_err(|error| Failure::permanent("invalid_result", format!("the output is no JSON: {error}")))
    }

    fn inner(&self) -> Result<Arc<Inner>, Failure> {
        self.inner.upgrade().ok_or_else(stopped)
    }
}

/// A step that could not be recorded is none; the attempt is made again.
fn unwritten(error: &db::Error) -> Failure {
    tracing::warn!(%error, "a step could not be recorded");
    Failure::retryable("storage_unavailable", "a step could not be recorded")
}
