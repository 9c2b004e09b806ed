//! Messages of a chat. Plain text is counted as the maker of the interface
//! describes it: each message has three tokens besides its role and its text, a
//! name one more, and the answer is begun with three.

use serde_json::value::RawValue;

use super::Fields;
use super::count::{Count, FRAME, decoded, unknown_price};
use super::tools;
use crate::http::Problem;
use crate::models::json::{self, Entries};

/// Tokens of a message besides its texts.
const MESSAGE: u64 = 3;
/// Tokens that the answer is begun with.
const PRIMING: u64 = 3;

/// Fields that the model does not read.
const SILENT: &[&str] = &[
    "audio",
    "frequency_penalty",
    "function_call",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "modalities",
    "model",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
];

pub(super) fn count(body: &Fields, count: &mut Count<'_>) -> Result<(), Problem> {
    let messages = body.get("messages").and_then(|messages| json::items(messages));
    let messages = messages.ok_or_else(|| Problem::invalid("/messages", "must be a list of messages"))?;
    for (place, raw) in messages.into_iter().enumerate() {
        let pointer = format!("/messages/{place}");
        let fields = Entries::of(raw).ok_or_else(|| Problem::invalid(pointer.as_str(), "must be an object"))?;
        message(&fields, count).map_err(|problem| problem.within(&pointer))?;
    }
    count.frame(PRIMING);
    for (name, value) in body {
        match name.as_str() {
            "messages" => {}
            _ if json::is_null(value) => {}
            "tools" => tools::count(value, tools::Form::Nested, count)?,
            "functions" => tools::count_functions(value, count)?,
            silent if SILENT.contains(&silent) => {}
            // Whatever it is, what is read of it has no more tokens than bytes.
            _ => count.at_most(json::bytes(value).saturating_add(FRAME)),
        }
    }
    speaks(body, count)
}

/// Output that is audio has a price of its own.
fn speaks(body: &Fields, count: &Count<'_>) -> Result<(), Problem> {
    let modalities: Option<Vec<String>> = body.get("modalities").and_then(|value| json::read(value));
    let speaks = modalities.is_some_and(|all| all.iter().any(|one| one == "audio"));
    if speaks && !count.price.pays_audio() {
        return Err(unknown_price("what audio costs with this model is not known", "audio_output_usd_per_million"));
    }
    Ok(())
}

fn message(fields: &Entries<'_>, count: &mut Count<'_>) -> Result<(), Problem> {
    count.frame(MESSAGE);
    for (name, value) in &fields.0 {
        match (&**name, json::text(value)) {
            _ if json::is_null(value) => {}
            ("name", Some(text)) => {
                count.text(&text);
                count.exact(1);
            }
            ("role" | "content", Some(text)) => count.text(&text),
            ("content", None) => count.parts(value, "/content", part)?,
            _ => count.at_most(json::bytes(value).saturating_add(FRAME)),
        }
    }
    Ok(())
}

fn part(raw: &RawValue, count: &mut Count<'_>) -> Result<(), Problem> {
    let Some(fields) = Entries::of(raw) else {
        count.at_most(json::bytes(raw));
        return Ok(());
    };
    let mut is_text = true;
    for (name, value) in &fields.0 {
        // By what is in it rather than by its type, which need not be the truth.
        is_text &= matches!(&**name, "type" | "text");
        match &**name {
            "type" => {}
            "text" => match json::text(value) {
                Some(text) => count.text(&text),
                None => count.at_most(json::bytes(value)),
            },
            "image_url" | "image" => count.image(),
            "input_audio" => {
                let data = Entries::of(value).and_then(|audio| audio.text("data"));
                count.audio(data.map_or_else(|| json::bytes(value), |data| decoded(&data)))?;
            }
            "file" | "file_id" | "document" => count.open("a file"),
            "video" | "video_url" => count.open("a video"),
            "audio_url" => return Err(unknown_price("what audio by address costs is not known", "no field")),
            _ => count.at_most(json::bytes(value)),
        }
    }
    if !is_text {
        count.at_most(FRAME);
    } else if !count.price.vocabulary().is_known() {
        count.at_most(1);
    }
    Ok(())
}
