//! From a request to a job on disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::executor::Slot;
use super::json::compact;
use super::types::{Backoff, Claim, JobId, NewJob, Options, QueueEntry};
use super::{Inner, Jobs, sql};
use crate::clock::Timestamp;
use crate::db;
use crate::http::Problem;
use crate::http::idempotency::{IdempotencyKey, Seen, Stored, reused};

/// The body of a submission. The last fields are options that the interface
/// names and this version does not have; they are refused by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubmitBody {
    mode: Option<String>,
    tool: Option<String>,
    /// `null` is an input; only what is left out is none.
    #[serde(default, deserialize_with = "given")]
    input: Option<Box<RawValue>>,
    #[serde(default)]
    priority: i8,
    run_at: Option<Timestamp>,
    delay: Option<f64>,
    timeout: Option<f64>,
    total_timeout: Option<f64>,
    max_attempts: Option<u32>,
    backoff: Option<Backoff>,
    metadata: Option<BTreeMap<String, String>>,
    goal: Option<IgnoredAny>,
    messages: Option<IgnoredAny>,
    tools: Option<IgnoredAny>,
    session_id: Option<IgnoredAny>,
    concurrency_key: Option<IgnoredAny>,
    on_conflict: Option<IgnoredAny>,
    budget_usd: Option<IgnoredAny>,
    callback_url: Option<IgnoredAny>,
}

fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// Seconds that any span in a submission may have: thirty days.
const LONGEST_SPAN: f64 = 30.0 * 24.0 * 3600.0;

/// What a submission is answered with, also when it is asked again.
#[derive(Serialize)]
struct Accepted {
    job_id: JobId,
    status: &'static str,
    created_at: Timestamp,
}

/// A submission on disk.
pub(super) struct Submitted {
    /// The status and body to answer with.
    pub answer: Stored,
    /// Whether it had been there before.
    pub replayed: bool,
}

enum Written {
    New,
    Before(Stored),
    Otherwise,
}

impl Jobs {
    /// Checks a submission against everything that is known before the disk.
    pub(super) fn check(&self, tenant: i64, body: SubmitBody) -> Result<NewJob, Problem> {
        refuse_later_options(&body)?;
        let (tool, name) = self.tool(&body)?;
        let input = match &body.input {
            Some(input) => compact(input.get()),
            None => "{}".into(),
        };
        let faults = self.0.registry.faults(tool, &input);
        if let Some(first) = faults.first() {
            let detail = format!("the input does not fit {name}: {first}");
            return Err(Problem::bad_request("invalid_input", detail)
                .with_errors(faults)
                .with_hint("GET /v1/tools shows each tool's schema"));
        }
        let created_at = self.0.clock.now();
        Ok(NewJob {
            id: JobId(self.0.ids.next()),
            tenant,
            tool: name,
            priority: body.priority,
            due_at: due_at(&body, created_at)?,
            appointed: body.run_at.is_some(),
            created_at,
            options: options(&body)?,
            metadata: metadata(body.metadata)?,
            retry_of: None,
            input,
        })
    }

    fn tool(&self, body: &SubmitBody) -> Result<(usize, &'static str), Problem> {
        match body.mode.as_deref() {
            None | Some("tool") => {}
            Some("agent") => return Err(Problem::not_available("/mode", "mode \"agent\"")),
            Some(_) => return Err(Problem::invalid("/mode", "must be \"tool\" or \"agent\"")),
        }
        let Some(name) = &body.tool else {
            return Err(Problem::invalid("/tool", "is missing").with_hint("GET /v1/tools lists the tools"));
        };
        let registry = &self.0.registry;
        let Some(tool) = registry.find(name) else {
            let mut detail = format!("there is no tool {name:?}");
            if let Some(near) = registry.nearest(name) {
                detail = format!("{detail}; did you mean {near:?}?");
            }
            let error = crate::http::FieldError { pointer: "/tool".into(), detail: detail.clone() };
            return Err(Problem::bad_request("unknown_tool", detail)
                .with_errors(vec![error])
                .with_hint("GET /v1/tools lists the tools"));
        };
        Ok((tool, registry.get(tool).name))
    }

    /// Refuses new work where it could not be done.
    pub(super) fn admit(&self) -> Result<(), Problem> {
        let inner = &self.0;
        if self.is_draining() {
            return Err(Problem::unavailable("draining", "the service is shutting down", 5));
        }
        if inner.db.nearly_full() {
            let detail = "the disk is nearly full; new work is refused so that running work can end";
            return Err(Problem::unavailable("disk_nearly_full", detail, 30));
        }
        let waiting = {
            let queue = inner.queue();
            queue.ready() + queue.delayed()
        };
        if waiting >= inner.limits.queue {
            let detail = format!("{waiting} jobs are waiting already");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", detail).with_retry_after(5));
        }
        Ok(())
    }

    /// Puts a job on disk and hands it to the queue, or starts it. What follows
    /// the commit happens on the writer's thread, so it happens also when the
    /// client has gone away.
    pub(super) async fn submit(&self, job: NewJob, key: Option<IdempotencyKey>) -> Result<Submitted, Problem> {
        self.admit()?;
        let inner = self.0.clone();
        let tool = inner.registry.find(job.tool).ok_or_else(|| Problem::internal("a tool has gone"))?;
        let slot = if job.is_delayed() { None } else { inner.reserve(job.tenant, tool) };
        let lease = slot.is_some().then(|| inner.lease());
        let answer = Stored { status: StatusCode::ACCEPTED.as_u16(), body: accepted(&job).map_err(Problem::internal)? };
        let job = Arc::new(job);
        let (to_write, to_store) = (job.clone(), key.map(|key| (key, answer.clone())));
        let work = move |tx: &db::Tx<'_>| {
            if let Some((key, answer)) = &to_store {
                match key.seen(tx, to_write.created_at)? {
                    Seen::Before(stored) => return Ok(Written::Before(stored)),
                    Seen::Otherwise => return Ok(Written::Otherwise),
                    Seen::Never => key.store(tx, to_write.created_at, answer)?,
                }
            }
            sql::write::insert(tx, &to_write, lease)?;
            Ok(Written::New)
        };
        let (sender, receiver) = oneshot::channel();
        inner.db.clone().write_with(work, move |written| {
            if let Ok(Written::New) = &written {
                inner.on_disk(&job, tool, lease.zip(slot));
            }
            let _ = sender.send(written);
        });
        match receiver.await.unwrap_or(Err(db::Error::Closed))? {
            Written::New => Ok(Submitted { answer, replayed: false }),
            Written::Before(stored) => Ok(Submitted { answer: stored, replayed: true }),
            Written::Otherwise => Err(reused()),
        }
    }
}

impl Inner {
    /// Right after the commit: tell followers, then start or queue the job.
    fn on_disk(self: &Arc<Self>, job: &NewJob, tool: usize, place: Option<(i64, Slot)>) {
        self.metrics.submitted(job.tool);
        let no = job.id.no();
        if self.hub.has(no) {
            self.hub.publish(no, &sql::write::insert_events_of(job, place.is_some()));
        }
        if let Some((lease, slot)) = place {
            self.start(first_claim(job, tool, lease), slot);
        } else {
            self.enqueue(QueueEntry {
                no,
                tenant: job.tenant,
                tool,
                priority: job.priority,
                due_at: job.due_at,
                relative: !job.appointed,
            });
        }
    }
}

fn first_claim(job: &NewJob, tool: usize, lease: i64) -> Claim {
    Claim {
        id: job.id,
        tool,
        tenant: job.tenant,
        lease,
        attempt: 1,
        step: sql::write::FIRST_STEP,
        started_at: job.created_at,
        first_started_at: job.created_at,
        interruptions: 0,
        due_at: job.due_at,
        metadata: job.metadata.clone(),
        retry_of: job.retry_of,
        created_at: job.created_at,
        options: job.options.clone(),
        priority: job.priority,
        input: job.input.clone(),
    }
}

fn accepted(job: &NewJob) -> Result<String, serde_json::Error> {
    let status = if job.is_delayed() { "waiting" } else { "queued" };
    serde_json::to_string(&Accepted { job_id: job.id, status, created_at: job.created_at })
}

fn refuse_later_options(body: &SubmitBody) -> Result<(), Problem> {
    let later = [
        ("goal", body.goal),
        ("messages", body.messages),
        ("tools", body.tools),
        ("session_id", body.session_id),
        ("concurrency_key", body.concurrency_key),
        ("on_conflict", body.on_conflict),
        ("budget_usd", body.budget_usd),
        ("callback_url", body.callback_url),
    ];
    match later.iter().find(|(_, given)| given.is_some()) {
        Some((name, _)) => Err(Problem::not_available(&format!("/{name}"), &format!("option {name:?}"))),
        None => Ok(()),
    }
}

fn due_at(body: &SubmitBody, now: Timestamp) -> Result<Timestamp, Problem> {
    match (body.run_at, body.delay) {
        (Some(_), Some(_)) => Err(Problem::invalid("/delay", "give either run_at or delay, not both")),
        (Some(at), None) => Ok(at.max(now)),
        (None, Some(delay)) => {
            span("/delay", delay, 0.0)?;
            Ok(now.plus(super::retry::seconds_to_span(delay)))
        }
        (None, None) => Ok(now),
    }
}

fn options(body: &SubmitBody) -> Result<Options, Problem> {
    let defaults = Options::default();
    for (pointer, value) in [("/timeout", body.timeout), ("/total_timeout", body.total_timeout)] {
        if let Some(value) = value {
            span(pointer, value, 0.001)?;
        }
    }
    if let (Some(delay), Some(total)) = (body.delay, body.total_timeout)
        && delay >= total
    {
        return Err(Problem::invalid("/total_timeout", "must be longer than delay, or the job can never start"));
    }
    let max_attempts = body.max_attempts.unwrap_or(defaults.max_attempts);
    if !(1..=100).contains(&max_attempts) {
        return Err(Problem::invalid("/max_attempts", "must be from 1 to 100"));
    }
    let backoff = body.backoff.unwrap_or(defaults.backoff);
    span("/backoff/initial", backoff.initial, 0.0)?;
    span("/backoff/max", backoff.max, 0.0)?;
    if !(1.0..=100.0).contains(&backoff.factor) {
        return Err(Problem::invalid("/backoff/factor", "must be from 1 to 100"));
    }
    Ok(Options { timeout: body.timeout, total_timeout: body.total_timeout, max_attempts, backoff })
}

fn span(pointer: &str, seconds: f64, least: f64) -> Result<(), Problem> {
    if (least..=LONGEST_SPAN).contains(&seconds) {
        return Ok(());
    }
    Err(Problem::invalid(pointer, format!("must be a number of seconds from {least} to {LONGEST_SPAN}")))
}

fn metadata(metadata: Option<BTreeMap<String, String>>) -> Result<Option<String>, Problem> {
    let Some(metadata) = metadata.filter(|metadata| !metadata.is_empty()) else { return Ok(None) };
    if metadata.len() > 16 {
        return Err(Problem::invalid("/metadata", "may have at most 16 entries"));
    }
    for (key, value) in &metadata {
        let named = (1..=64).contains(&key.len())
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        if !named {
            return Err(Problem::invalid(
                "/metadata",
                format!("the key {key:?} must be 1 to 64 letters, digits, or any of _ - ."),
            ));
        }
        if value.len() > 512 {
            return Err(Problem::invalid(format!("/metadata/{key}"), "may have at most 512 bytes"));
        }
    }
    serde_json::to_string(&metadata).map(Some).map_err(Problem::internal)
}
