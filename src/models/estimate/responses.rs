//! The input of a response: a text, or items of many kinds.

use serde_json::value::RawValue;

use super::Fields;
use super::count::{Count, FRAME, decoded};
use super::tools;
use crate::http::Problem;
use crate::models::json::{self, Entries};

/// Tokens of a message besides its texts, and those that the answer is begun with.
const MESSAGE: u64 = 3;

/// Fields that the model does not read.
const SILENT: &[&str] = &[
    "background",
    "include",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

pub(super) fn count(body: &Fields, count: &mut Count<'_>) -> Result<(), Problem> {
    count.frame(MESSAGE);
    for (name, value) in body {
        match name.as_str() {
            _ if json::is_null(value) => {}
            "input" => input(value, count)?,
            "instructions" => match json::text(value) {
                Some(text) => message_of(&text, "system", count),
                None => items(value, "/instructions", count)?,
            },
            "tools" => tools::count(value, tools::Form::Flat, count)?,
            "previous_response_id" | "conversation" => count.open("an earlier response"),
            "prompt" => count.open("a stored prompt"),
            silent if SILENT.contains(&silent) => {}
            _ => count.at_most(json::bytes(value).saturating_add(FRAME)),
        }
    }
    Ok(())
}

fn input(raw: &RawValue, count: &mut Count<'_>) -> Result<(), Problem> {
    if let Some(text) = json::text(raw) {
        message_of(&text, "user", count);
        return Ok(());
    }
    items(raw, "/input", count)
}

fn message_of(text: &str, role: &str, count: &mut Count<'_>) {
    count.frame(MESSAGE);
    count.text(role);
    count.text(text);
}

fn items(raw: &RawValue, pointer: &str, count: &mut Count<'_>) -> Result<(), Problem> {
    let wrong = || Problem::invalid(pointer, "must be a string or a list of items");
    for (place, raw) in json::items(raw).ok_or_else(wrong)?.into_iter().enumerate() {
        let pointer = format!("{pointer}/{place}");
        let fields = Entries::of(raw).ok_or_else(|| Problem::invalid(pointer.as_str(), "must be an object"))?;
        item(raw, &fields, count).map_err(|problem| problem.within(&pointer))?;
    }
    Ok(())
}

fn item(raw: &RawValue, fields: &Entries<'_>, count: &mut Count<'_>) -> Result<(), Problem> {
    match fields.text("type").as_deref() {
        None | Some("message") => {
            count.frame(MESSAGE);
            for (name, value) in &fields.0 {
                match (&**name, json::text(value)) {
                    ("type" | "id" | "status", _) => {}
                    ("role" | "content", Some(text)) => count.text(&text),
                    ("content", None) => count.parts(value, "/content", part)?,
                    _ => count.at_most(json::bytes(value).saturating_add(FRAME)),
                }
            }
        }
        Some("function_call_output" | "custom_tool_call_output") => {
            count.at_most(FRAME);
            for (name, value) in &fields.0 {
                match (&**name, json::text(value)) {
                    ("output", None) => count.parts(value, "/output", part)?,
                    _ => count.at_most(json::bytes(value)),
                }
            }
        }
        Some("function_call" | "custom_tool_call" | "reasoning") => {
            count.at_most(json::bytes(raw).saturating_add(FRAME));
        }
        // It refers to something, or is what the provider's own tools left.
        Some(_) => count.open("an item of this type"),
    }
    Ok(())
}

fn part(raw: &RawValue, count: &mut Count<'_>) -> Result<(), Problem> {
    let Some(fields) = Entries::of(raw) else {
        count.at_most(json::bytes(raw));
        return Ok(());
    };
    count.at_most(1);
    for (name, value) in &fields.0 {
        match (&**name, json::text(value)) {
            ("type" | "annotations" | "logprobs" | "detail", _) => {}
            ("text", Some(text)) => count.text(&text),
            ("image_url", _) => count.image(),
            ("input_audio", _) => {
                let data = Entries::of(value).and_then(|audio| audio.text("data"));
                count.audio(data.map_or_else(|| json::bytes(value), |data| decoded(&data)))?;
            }
            // An image or a file that the provider has.
            ("file_id" | "file_data" | "file_url", _) => count.open("a file"),
            _ => count.at_most(json::bytes(value)),
        }
    }
    Ok(())
}
