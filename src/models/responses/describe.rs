//! What a client sees of this room's routes beside their types.

use actix_web::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::object::Status;
use crate::http::openapi::{Answer, Operation};
use crate::models::routes::called;

/// A response, as `OpenAI` describes it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Response")]
pub(super) struct ResponseView {
    /// `resp_` and 32 hexadecimal digits.
    id: String,
    /// `response`
    object: String,
    status: Status,
    /// Seconds since 1970.
    created_at: u64,
    /// The model that answered, by the provider's name for it.
    model: String,
    /// What it said: messages, function calls and what else the provider sends.
    output: Vec<Value>,
    /// What was used; null until it has ended.
    usage: Option<Value>,
    /// Why it failed: `code` and `message`.
    error: Option<Value>,
    /// Why it is incomplete: `reason`.
    incomplete_details: Option<Value>,
    previous_response_id: Option<String>,
    /// Whether it is made as a job.
    background: bool,
    /// Whether it is kept.
    store: bool,
}

/// What was new in a turn.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "InputItemList")]
pub(super) struct InputItems {
    /// `list`
    pub object: &'static str,
    pub data: Vec<Value>,
    pub first_id: Option<String>,
    pub last_id: Option<String>,
    pub has_more: bool,
}

/// That a response is gone.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeletedResponse")]
#[expect(clippy::struct_field_names, reason = "the names are those of the interface")]
pub(super) struct Deleted {
    pub id: String,
    /// `response`
    pub object: &'static str,
    pub deleted: bool,
}

pub(super) fn create(it: Operation) -> Operation {
    let answer = Answer::json::<ResponseView>("The response; with `background`, as it stands: queued.");
    called(it)
        .named("createResponse", "Ask a model")
        .about(
            "OpenAI's Responses interface. A provider that has it is asked in it; for any other the response is made \
             out of a chat completion, and what that cannot do is refused by name. Fields that are not known are passed on.",
        )
        .about(
            "A response is kept unless `store` is false, and can be gone on from with `previous_response_id`. \
             With `background` it is made by a job and can be polled, followed and cancelled. \
             With `stream` events are sent as they happen; hanging up ends the call, but not a background response.",
        )
        .example("text", json!({ "model": "default", "input": "Say hello." }))
        .answer(StatusCode::OK, answer.or_raw("text/event-stream"))
        .problems(StatusCode::BAD_REQUEST, &["previous_response_not_found"])
        .problems(StatusCode::NOT_FOUND, &["not_found"])
        .problems(StatusCode::TOO_MANY_REQUESTS, &["daily_quota_exceeded", "queue_full"])
        .problems(StatusCode::SERVICE_UNAVAILABLE, &["disk_nearly_full", "starting"])
}

pub(super) fn get(it: Operation) -> Operation {
    it.named("getResponse", "Get a stored response")
        .about(
            "With `stream` its events come: those of a background response exactly as they happened, until it has \
             ended; those of any other are made out of the response, each text in one piece.",
        )
        .query("stream", "Whether to send its events.", json!({ "type": "boolean" }))
        .query("starting_after", "With `stream`: go on after this event.", json!({ "type": "integer", "minimum": 0 }))
        .query("include", "Not used: all there is is shown.", json!({ "type": "string" }))
        .query("include_obfuscation", "Not used.", json!({ "type": "boolean" }))
        .answer(StatusCode::OK, Answer::json::<ResponseView>("The response as it stands.").or_raw("text/event-stream"))
        .problems(StatusCode::SERVICE_UNAVAILABLE, &["starting"])
}

pub(super) fn cancel(it: Operation) -> Operation {
    it.named("cancelResponse", "Cancel a background response")
        .about("One that has ended stays as it is. Cancelling twice is fine.")
        .answer(StatusCode::OK, Answer::json::<ResponseView>("The response, which has ended."))
        .problems(StatusCode::BAD_REQUEST, &["not_background"])
        .problems(StatusCode::SERVICE_UNAVAILABLE, &["starting"])
}

pub(super) fn delete(it: Operation) -> Operation {
    it.named("deleteResponse", "Delete a stored response")
        .about("One that is being made is cancelled. Nothing can go on from it afterwards.")
        .answer(StatusCode::OK, Answer::json::<Deleted>("It is gone."))
        .problems(StatusCode::SERVICE_UNAVAILABLE, &["starting"])
}

pub(super) fn input_items(it: Operation) -> Operation {
    it.named("listInputItems", "List the input of a stored response")
        .about("Items of this turn, not of those that it goes on from.")
        .query("limit", "Items at most.", json!({ "type": "integer", "minimum": 1, "maximum": 100, "default": 20 }))
        .query("order", "The last one first unless `asc`.", json!({ "type": "string", "enum": ["asc", "desc"] }))
        .query("after", "Only items after the one with this id.", json!({ "type": "string" }))
        .query("include", "Not used: all there is is shown.", json!({ "type": "string" }))
        .answer(StatusCode::OK, Answer::json::<InputItems>("The items."))
}
