//! What a client sees of this room's routes beside their types.

use actix_web::http::StatusCode;
use schemars::JsonSchema;
use serde_json::json;

use super::bulk::RedriveAnswer;
use super::routes::{EventList, JobView, StepView, ToolView};
use super::submit::Accepted;
use super::types::Status;
use crate::http::openapi::{Answer, Operation};
use crate::http::page::Page;

fn submitted(it: Operation) -> Operation {
    let accepted = Answer::json::<Accepted>("The job is on disk and will be done, also if the service is killed now.");
    let done = Answer::json::<JobView>("The job, which has ended within `wait`, whether or not it succeeded.");
    it.query(
        "wait",
        "Seconds to hold the answer back until the job has ended.",
        json!({ "type": "number", "minimum": 0 }),
    )
    .answer(StatusCode::ACCEPTED, accepted.header("Location"))
    .answer(StatusCode::OK, done.header("Location"))
}

/// What can be wrong with one of the bodies that bring new jobs.
fn faults(it: Operation) -> Operation {
    it.problems(StatusCode::BAD_REQUEST, &["invalid_input", "not_available", "unknown_tool"])
        .problems(StatusCode::CONFLICT, &["concurrency_conflict"])
}

/// What holds for everything that makes new jobs.
fn admitted(it: Operation) -> Operation {
    it.problems(StatusCode::TOO_MANY_REQUESTS, &["daily_quota_exceeded", "queue_full"])
        .problems(StatusCode::SERVICE_UNAVAILABLE, &["disk_nearly_full"])
        .idempotent()
}

pub(super) fn submit(it: Operation) -> Operation {
    admitted(faults(submitted(it)))
        .named("submitJob", "Submit a job")
        .example("tool", json!({ "tool": "echo", "input": { "hello": "world" } }))
        .example(
            "options",
            json!({
                "tool": "math.eval", "input": { "expression": "PI * r^2", "variables": { "r": 2 } },
                "priority": 5, "delay": 0.5, "timeout": 10, "max_attempts": 5, "metadata": { "order": "12" },
            }),
        )
}

pub(super) fn batch(it: Operation) -> Operation {
    let accepted = Answer::json::<Page<Accepted>>("All of them are on disk, in the order of the request.");
    admitted(faults(it))
        .named("submitBatch", "Submit up to 1,000 jobs in one transaction")
        .about("All or none: when one of them is wrong its place is named and nothing is written.")
        .example("two", json!({ "jobs": [{ "tool": "echo", "input": 1 }, { "tool": "time.now" }] }))
        .answer(StatusCode::ACCEPTED, accepted)
}

pub(super) fn redrive(it: Operation) -> Operation {
    admitted(it)
        .named("redriveJobs", "Do dead or failed jobs again")
        .about("Each as a new job with `retry_of`, and each only once, however often it is asked.")
        .example("dead", json!({ "status": "dead", "limit": 100 }))
        .answer(StatusCode::ACCEPTED, Answer::json::<RedriveAnswer>("The new jobs, all on disk."))
}

pub(super) fn retry(it: Operation) -> Operation {
    admitted(submitted(it))
        .named("retryJob", "Do a finished job again")
        .about("Makes a new job with the same tool, input and options, and `retry_of`. Needs no body.")
        .problems(StatusCode::CONFLICT, &["job_not_finished", "unknown_tool"])
}

pub(super) fn get(it: Operation) -> Operation {
    it.named("getJob", "Get a job").answer(StatusCode::OK, Answer::json::<JobView>("The job as it is now."))
}

pub(super) fn cancel(it: Operation) -> Operation {
    cancelled::<JobView>(it.named("cancelJob", "Cancel a job"))
}

/// Told with a job as `T`.
pub(super) fn cancelled<T: JsonSchema>(it: Operation) -> Operation {
    let running = Answer::json::<T>("It is running, was told to stop, and may still end in another way.");
    it.about("Cancelling twice is fine.")
        .answer(StatusCode::OK, Answer::json::<T>("It was waiting and has ended."))
        .answer(StatusCode::ACCEPTED, running)
        .problems(StatusCode::CONFLICT, &["job_finished"])
}

pub(super) fn delete(it: Operation) -> Operation {
    it.named("deleteJob", "Delete a finished job with its steps and events")
        .answer(StatusCode::NO_CONTENT, Answer::empty("It is gone."))
        .problems(StatusCode::CONFLICT, &["job_not_finished"])
}

pub(super) fn list(it: Operation) -> Operation {
    filters(it.named("listJobs", "List jobs"))
        .answer(StatusCode::OK, Answer::json::<Page<JobView>>("Jobs, newest first."))
}

/// What narrows a list of jobs.
pub(super) fn filters(it: Operation) -> Operation {
    let time = || json!({ "type": "string", "format": "date-time" });
    let metadata = json!({
        "type": "object",
        "patternProperties": { "^metadata\\.[A-Za-z0-9_.-]{1,64}$": { "type": "string" } },
        "additionalProperties": false,
    });
    it.about("Newest first. A page may be short or even empty and still have a cursor.")
        .query("status", "Only these.", json!({ "type": "string", "enum": Status::ALL.map(Status::name) }))
        .query("tool", "Only jobs of this tool.", json!({ "type": "string" }))
        .query("created_after", "Only jobs from this time on.", time())
        .query("created_before", "Only jobs before this time.", time())
        .query("metadata.KEY", "Only jobs with this value under KEY, such as `metadata.order=12`.", metadata)
        .pages()
}

pub(super) fn steps(it: Operation) -> Operation {
    it.named("listSteps", "List what a job has done")
        .about("Each attempt is a step. A step that a crash cut off is not listed.")
        .answer(StatusCode::OK, Answer::json::<Page<StepView>>("All finished steps, the first one first."))
}

pub(super) fn events(it: Operation) -> Operation {
    let place = || json!({ "type": "integer", "minimum": 0 });
    it.named("listEvents", "Read or follow the events of a job")
        .about(
            "With `Accept: text/event-stream` past events come first, then those that happen, until the job has ended. \
             Each frame has the event's number as `id`, its type as `event`, and as `data` the same object as in JSON. \
             A comment every 15 s keeps the connection open. Closing it cancels nothing.",
        )
        .query("starting_after", "Go on after this event, which must exist; 0 is the beginning.", place())
        .query(
            "limit",
            "Events at most; a stream has no limit.",
            json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 200 }),
        )
        .header("Last-Event-ID", "The same as `starting_after`, as browsers send it.", place())
        .answer(StatusCode::OK, Answer::json::<EventList<'_>>("Events in order.").or_raw("text/event-stream"))
        .answer(
            StatusCode::NO_CONTENT,
            Answer::empty("Nothing comes after the event that the stream was to go on from."),
        )
}

pub(super) fn tools(it: Operation) -> Operation {
    it.named("listTools", "List the tools with their schemas")
        .answer(StatusCode::OK, Answer::json::<Page<ToolView>>("All tools."))
}
