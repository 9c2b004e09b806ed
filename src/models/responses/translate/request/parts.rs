//! What messages and the outputs of calls are made of.

use serde_json::{Value, json};

use super::picked;
use super::wrong::{Checked, Wrong, given, only, text};

/// Members of parts. Annotations and log probabilities of an answer may be sent back; a
/// model has no use for them.
const TEXT: &[&str] = &["type", "text", "annotations", "logprobs"];
const IMAGE: &[&str] = &["type", "image_url", "detail"];
const AUDIO: &[&str] = &["type", "input_audio"];
const FILE: &[&str] = &["type", "file_data", "filename"];
const REFUSAL: &[&str] = &["type", "refusal"];

fn list(value: &Value) -> Checked<&Vec<Value>> {
    value.as_array().ok_or_else(|| Wrong::new("", "must be a text or a list"))
}

/// Content of the user or the system. A single text is sent as a string, which every
/// provider accepts.
pub(super) fn content(content: &Value) -> Checked<Value> {
    if content.is_string() {
        return Ok(content.clone());
    }
    let parts = list(content)?;
    let translate = |(place, part)| part_of(part).map_err(|wrong| wrong.within(&format!("/{place}")));
    let mut sent: Vec<Value> = parts.iter().enumerate().map(translate).collect::<Checked<_>>()?;
    Ok(match sent.as_mut_slice() {
        [part] if part["type"] == "text" => part["text"].take(),
        _ => sent.into(),
    })
}

fn part_of(part: &Value) -> Checked<Value> {
    match part["type"].as_str() {
        Some(kind @ ("input_text" | "output_text" | "text")) => {
            only(part, TEXT, &format!("a part of type {kind:?}"))?;
            Ok(json!({ "type": "text", "text": text(part, "text")? }))
        }
        Some("input_image") => image(part),
        Some("input_audio") => {
            only(part, AUDIO, "a part of type \"input_audio\"")?;
            let audio = &part["input_audio"];
            only(audio, &["data", "format"], "the audio").map_err(|wrong| wrong.within("/input_audio"))?;
            Ok(json!({ "type": "input_audio", "input_audio": audio }))
        }
        Some("input_file") => {
            if !part["file_data"].is_string() {
                let place = ["file_id", "file_url"].into_iter().find(|name| given(part, name).is_some());
                let place = place.map(|name| format!("/{name}")).unwrap_or_default();
                return Err(Wrong::only_there(place, "a file (input_file) without file_data"));
            }
            only(part, FILE, "a part of type \"input_file\"")?;
            Ok(json!({ "type": "file", "file": picked(part, &["file_data", "filename"]) }))
        }
        Some(kind) => Err(Wrong::only_there("/type", format!("a part of type {kind:?}"))),
        None => Err(Wrong::new("/type", "must be the kind of part, such as \"input_text\"")),
    }
}

fn image(part: &Value) -> Checked<Value> {
    if !part["image_url"].is_string() {
        if given(part, "image_url").is_some() {
            return Err(Wrong::new("/image_url", "must be a text: a URL"));
        }
        return Err(Wrong::only_there("/file_id", "an image that is no URL"));
    }
    only(part, IMAGE, "a part of type \"input_image\"")?;
    let mut image = json!({ "url": part["image_url"] });
    if let Some(detail) = given(part, "detail") {
        image["detail"] = detail.clone();
    }
    Ok(json!({ "type": "image_url", "image_url": image }))
}

/// Content of the assistant: text and refusal.
pub(super) fn said(content: &Value) -> Checked<(String, Option<String>)> {
    if let Value::String(text) = content {
        return Ok((text.clone(), None));
    }
    let (mut said, mut refusal) = (String::new(), None::<String>);
    for (place, part) in list(content)?.iter().enumerate() {
        let within = |wrong: Wrong| wrong.within(&format!("/{place}"));
        match (part["type"].as_str(), part["text"].as_str(), part["refusal"].as_str()) {
            (Some("output_text" | "input_text" | "text"), Some(text), _) => {
                only(part, TEXT, "a text").map_err(within)?;
                said.push_str(text);
            }
            (Some("refusal"), _, Some(text)) => {
                only(part, REFUSAL, "a refusal").map_err(within)?;
                refusal.get_or_insert_default().push_str(text);
            }
            _ => return Err(within(Wrong::new("", "must be an output_text or a refusal"))),
        }
    }
    Ok((said, refusal))
}

/// The output of a call: text only.
pub(super) fn output(output: &Value) -> Checked<Value> {
    if output.is_string() {
        return Ok(output.clone());
    }
    let mut texts = Vec::new();
    for (place, part) in list(output)?.iter().enumerate() {
        let within = |wrong: Wrong| wrong.within(&format!("/{place}"));
        match (part["type"].as_str(), part["text"].as_str()) {
            (Some("input_text" | "output_text" | "text"), Some(text)) => {
                only(part, TEXT, "a text").map_err(within)?;
                texts.push(text);
            }
            _ => return Err(within(Wrong::only_there("", "an output of a call that is no text"))),
        }
    }
    Ok(texts.join("\n").into())
}

/// The text of a reasoning item.
pub(super) fn thought(item: &Value) -> Checked<String> {
    let mut all = Vec::new();
    for (name, kinds) in [("content", &["reasoning_text", "text"][..]), ("summary", &["summary_text"])] {
        let parts = match given(item, name) {
            None => continue,
            Some(parts) => parts.as_array().ok_or_else(|| Wrong::new(format!("/{name}"), "must be a list"))?,
        };
        let mut said = String::new();
        for (place, part) in parts.iter().enumerate() {
            let within = |wrong: Wrong| wrong.within(&format!("/{name}/{place}"));
            if !part["type"].as_str().is_some_and(|kind| kinds.contains(&kind)) {
                return Err(within(Wrong::new("/type", format!("must be {:?}", kinds[0]))));
            }
            only(part, &["type", "text"], "a part of reasoning").map_err(within)?;
            said.push_str(text(part, "text").map_err(within)?);
        }
        all.push(said);
    }
    // It is in one of the two.
    Ok(all.into_iter().find(|said| !said.is_empty()).unwrap_or_default())
}
