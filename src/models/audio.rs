//! `/v1/audio/transcriptions` and `/v1/audio/speech`.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::form::WholeForm;
use super::routes::{MODEL_BODY, Passed, answered, called, pass_on, passed_on};
use super::{Body, Endpoint, Gateway};
use crate::auth::{Caller, ModelsUse};
use crate::http::openapi::Answer;
use crate::http::query::NoQuery;
use crate::http::{Json, Problem, Routes};

/// Bytes of a form with a recording, as OpenAI has it, and of what is around it.
const RECORDING: u64 = (25 << 20) + (64 << 10);

/// What a sound can come as.
const SOUNDS: [&str; 8] = [
    "audio/mpeg",
    "audio/aac",
    "audio/flac",
    "audio/opus",
    "audio/pcm",
    "audio/wav",
    "application/octet-stream",
    "text/event-stream",
];

/// The routes of speech.
#[must_use]
pub fn routes() -> Routes {
    Routes::of("Audio", "Speech to text and back, in OpenAI's format.")
        .with(Method::POST, "/v1/audio/transcriptions", transcribe, |it| {
            called(it.named("createTranscription", "Have speech written down"))
                .about(
                    "The form is that of OpenAI's interface; what is not known here is passed on, and the answer has \
                     the format that `response_format` names. The recording may have 25 MiB.",
                )
                .form(json!({
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": { "type": "string", "format": "binary" },
                        "model": { "type": "string" },
                        "response_format": { "type": "string", "examples": ["json", "text", "srt", "verbose_json", "vtt"] },
                        "stream": { "enum": ["true", "false"] },
                    },
                    "additionalProperties": true,
                }))
                .answer(
                    StatusCode::OK,
                    answered("What was said.")
                        .or_text("text/plain")
                        .or_text("text/vtt")
                        .or_text("application/x-subrip")
                        .or_raw("text/event-stream"),
                )
        })
        .with(Method::POST, "/v1/audio/speech", speak, |it| {
            passed_on(it.named("createSpeech", "Have a text spoken"))
                .about("The body is that of OpenAI's interface; what is not known here is passed on.")
                .example("hello", json!({ "model": "tts-1", "voice": "alloy", "input": "Hello." }))
                .answer(
                    StatusCode::OK,
                    SOUNDS.into_iter().fold(answered("The sound, in the format that was asked for."), Answer::or_raw),
                )
        })
        .with_openai_errors()
}

async fn transcribe(
    caller: Caller<ModelsUse>,
    gateway: web::Data<Gateway>,
    request: HttpRequest,
    _: NoQuery,
    WholeForm(form): WholeForm<RECORDING>,
) -> Result<HttpResponse, Problem> {
    if form.file("file").is_none() {
        return Err(Problem::invalid("/file", "is missing"));
    }
    pass_on(&gateway, &caller, &request, Endpoint::AudioTranscriptions, Body::Form(form)).await
}

async fn speak(
    caller: Caller<ModelsUse>,
    gateway: web::Data<Gateway>,
    request: HttpRequest,
    _: NoQuery,
    body: Json<Passed, MODEL_BODY>,
) -> Result<HttpResponse, Problem> {
    pass_on(&gateway, &caller, &request, Endpoint::AudioSpeech, Body::Json(body.bytes)).await
}
