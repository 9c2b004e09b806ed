//! A request for a response as one for a chat completion.

use serde_json::{Map, Value, json};

use super::super::request::Create;
use crate::http::Problem;

/// Fields that say how the response is made, kept or shown: they are the
/// service's own concern, or have no meaning without tools that a provider runs.
const NOT_SENT: &[&str] = &[
    "background",
    "conversation",
    "include",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "reasoning",
    "store",
    "stream",
    "stream_options",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "truncation",
];

type Fields = Map<String, Value>;

/// The chat request that asks for the same, after `context`, the items of the
/// turns before.
///
/// # Errors
/// When it asks for something that chat completions do not have, with its place.
pub(in crate::models::responses) fn to_chat(
    create: &Create,
    context: &[Value],
    stream: bool,
) -> Result<Fields, Problem> {
    let from = &create.fields;
    refuse(from)?;
    let mut chat: Fields = from.iter().filter(|(name, _)| !NOT_SENT.contains(&name.as_str())).map(copy).collect();
    let mut messages = Messages::default();
    if let Some(instructions) = given(from, "instructions") {
        let text = instructions.as_str().ok_or_else(|| Problem::invalid("/instructions", "must be a text"))?;
        messages.0.push(json!({ "role": "system", "content": text }));
    }
    for item in context {
        messages.add(item).map_err(|fault| fault.problem("/previous_response_id"))?;
    }
    for (place, item) in create.input.iter().enumerate() {
        messages.add(item).map_err(|fault| fault.problem(&format!("/input/{place}")))?;
    }
    chat.insert("messages".into(), Value::Array(messages.0));
    if let Some(limit) = given(from, "max_output_tokens") {
        chat.insert("max_tokens".into(), limit.clone());
    }
    tools(from, &mut chat)?;
    format(from, &mut chat)?;
    if let Some(effort) = given(from, "reasoning").and_then(|reasoning| reasoning.get("effort")).filter(is_given) {
        chat.insert("reasoning_effort".into(), effort.clone());
    }
    logprobs(from, &mut chat);
    if stream {
        chat.insert("stream".into(), true.into());
    }
    Ok(chat)
}

/// Where the client wrote what the chat request has at this place; `None` where
/// it is the same place, or nobody can say.
pub(in crate::models::responses) fn origin(place: &str) -> Option<String> {
    if place == "/max_tokens" {
        return Some("/max_output_tokens".into());
    }
    if place.starts_with("/messages") {
        return Some("/input".into());
    }
    if place == "/response_format" || place.starts_with("/response_format/") {
        return Some("/text/format".into());
    }
    let (tool, rest) = place.strip_prefix("/tools/")?.split_once("/function")?;
    Some(format!("/tools/{tool}{rest}"))
}

fn copy((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that filter asks for")]
fn is_given(value: &&Value) -> bool {
    !value.is_null()
}

/// A field that is there and not null.
fn given<'a>(fields: &'a Fields, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(is_given)
}

/// What only a provider with this interface can do.
fn only_there(place: impl Into<String>, what: &str) -> Problem {
    let detail = format!("{what} is not possible with this model, whose provider speaks chat completions only");
    Problem::invalid(place, detail)
}

fn refuse(from: &Fields) -> Result<(), Problem> {
    if given(from, "prompt").is_some() {
        return Err(only_there("/prompt", "a stored prompt"));
    }
    if given(from, "truncation").is_some_and(|truncation| truncation != "disabled") {
        return Err(only_there("/truncation", "truncation other than \"disabled\""));
    }
    if given(from, "n").is_some_and(|n| n != 1) {
        return Err(Problem::invalid("/n", "a response is one answer"));
    }
    Ok(())
}

fn logprobs(from: &Fields, chat: &mut Fields) {
    let top = given(from, "top_logprobs");
    let included = given(from, "include").and_then(Value::as_array);
    let asked = included.is_some_and(|all| all.iter().any(|name| name == "message.output_text.logprobs"));
    if asked || top.is_some_and(|top| top != 0) {
        chat.insert("logprobs".into(), true.into());
        if let Some(top) = top {
            chat.insert("top_logprobs".into(), top.clone());
        }
    }
}

fn format(from: &Fields, chat: &mut Fields) -> Result<(), Problem> {
    let Some(text) = given(from, "text") else { return Ok(()) };
    if let Some(verbosity) = text.get("verbosity").filter(is_given) {
        chat.insert("verbosity".into(), verbosity.clone());
    }
    let Some(format) = text.get("format").filter(is_given) else { return Ok(()) };
    let sent = match format["type"].as_str() {
        Some("text") => return Ok(()),
        Some("json_object") => json!({ "type": "json_object" }),
        Some("json_schema") => {
            json!({ "type": "json_schema", "json_schema": picked(format, &["name", "description", "schema", "strict"]) })
        }
        _ => return Err(Problem::invalid("/text/format/type", "must be text, json_object or json_schema")),
    };
    chat.insert("response_format".into(), sent);
    Ok(())
}

/// These fields of an object, as far as they are there and not null.
fn picked(from: &Value, names: &[&str]) -> Fields {
    let field = |name: &&str| Some(((*name).to_owned(), from.get(*name).filter(is_given)?.clone()));
    names.iter().filter_map(field).collect()
}

fn tools(from: &Fields, chat: &mut Fields) -> Result<(), Problem> {
    let mut tools = Vec::new();
    if let Some(list) = given(from, "tools") {
        let list = list.as_array().ok_or_else(|| Problem::invalid("/tools", "must be a list"))?;
        for (place, tool) in list.iter().enumerate() {
            if tool["type"] != "function" {
                let place = format!("/tools/{place}/type");
                return Err(match tool["type"].as_str() {
                    Some(kind) => only_there(place, &format!("the tool {kind:?}")),
                    None => Problem::invalid(place, "must be the kind of tool, such as \"function\""),
                });
            }
            let function = picked(tool, &["name", "description", "parameters", "strict"]);
            tools.push(json!({ "type": "function", "function": function }));
        }
    }
    let choice = given(from, "tool_choice").map(|choice| tool_choice(choice, &mut tools)).transpose()?;
    if tools.is_empty() {
        return Ok(());
    }
    chat.insert("tools".into(), Value::Array(tools));
    if let Some(choice) = choice {
        chat.insert("tool_choice".into(), choice);
    }
    if let Some(parallel) = given(from, "parallel_tool_calls") {
        chat.insert("parallel_tool_calls".into(), parallel.clone());
    }
    Ok(())
}

/// Which tools may or must be used; those that may not are taken out of the list.
fn tool_choice(choice: &Value, tools: &mut Vec<Value>) -> Result<Value, Problem> {
    if choice.is_string() {
        return Ok(choice.clone());
    }
    match choice["type"].as_str() {
        Some("function") => Ok(json!({ "type": "function", "function": { "name": choice["name"] } })),
        Some("allowed_tools") => {
            let allowed = choice["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
            tools.retain(|tool| allowed.iter().any(|allowed| allowed["name"] == tool["function"]["name"]));
            Ok(choice.get("mode").cloned().unwrap_or_else(|| "auto".into()))
        }
        Some(kind) => Err(only_there("/tool_choice/type", &format!("the tool {kind:?}"))),
        None => Err(Problem::invalid("/tool_choice", "must be a text, or an object with a type")),
    }
}

/// What is wrong with an item, and where in it.
struct Wrong {
    place: String,
    detail: String,
    /// Whether a provider with this interface could do it.
    only_there: bool,
}

impl Wrong {
    fn new(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { place: place.into(), detail: detail.into(), only_there: false }
    }

    fn only_there(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { only_there: true, ..Self::new(place, what) }
    }

    fn problem(self, item: &str) -> Problem {
        let place = format!("{item}{}", self.place);
        if self.only_there { only_there(place, &self.detail) } else { Problem::invalid(place, self.detail) }
    }
}

/// The conversation so far.
#[derive(Default)]
struct Messages(Vec<Value>);

impl Messages {
    fn add(&mut self, item: &Value) -> Result<(), Wrong> {
        match item.get("type").and_then(Value::as_str).unwrap_or("message") {
            "message" => self.0.push(message(item)?),
            "function_call" => self.add_call(item)?,
            "function_call_output" => self.0.push(call_output(item)?),
            // How a model came to its answer cannot be given back to one.
            "reasoning" => {}
            kind => return Err(Wrong::only_there("/type", format!("an item of type {kind:?}"))),
        }
        Ok(())
    }

    /// Calls of one turn stand in one message, after its text.
    fn add_call(&mut self, item: &Value) -> Result<(), Wrong> {
        let text = |name: &str| item[name].as_str().ok_or_else(|| Wrong::new(format!("/{name}"), "must be a text"));
        let (id, name, arguments) = (text("call_id")?, text("name")?, text("arguments")?);
        let call = json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
        if let Some(last) = self.0.last_mut().filter(|last| last["role"] == "assistant") {
            match last.get_mut("tool_calls").and_then(Value::as_array_mut) {
                Some(calls) => calls.push(call),
                None => last["tool_calls"] = json!([call]),
            }
        } else {
            self.0.push(json!({ "role": "assistant", "content": null, "tool_calls": [call] }));
        }
        Ok(())
    }
}

fn message(item: &Value) -> Result<Value, Wrong> {
    match item["role"].as_str() {
        Some("assistant") => assistant(item),
        // Few providers know the newer name.
        Some("system" | "developer") => Ok(json!({ "role": "system", "content": content(&item["content"])? })),
        Some("user") => Ok(json!({ "role": "user", "content": content(&item["content"])? })),
        _ => Err(Wrong::new("/role", "must be user, assistant, system or developer")),
    }
}

fn assistant(item: &Value) -> Result<Value, Wrong> {
    let parts = match &item["content"] {
        Value::String(text) => return Ok(json!({ "role": "assistant", "content": text })),
        Value::Array(parts) => parts,
        _ => return Err(Wrong::new("/content", "must be a text or a list")),
    };
    let (mut text, mut refusal) = (String::new(), None);
    for (place, part) in parts.iter().enumerate() {
        match (part["type"].as_str(), part["text"].as_str(), part["refusal"].as_str()) {
            (Some("output_text" | "input_text" | "text"), Some(said), _) => text.push_str(said),
            (Some("refusal"), _, Some(said)) => refusal = Some(said),
            _ => return Err(Wrong::new(format!("/content/{place}"), "must be an output_text or a refusal")),
        }
    }
    let content = if text.is_empty() && refusal.is_some() { Value::Null } else { text.into() };
    let mut message = json!({ "role": "assistant", "content": content });
    if let Some(refusal) = refusal {
        message["refusal"] = refusal.into();
    }
    Ok(message)
}

/// What a person or the system said; a lone text as a text, which every provider
/// takes.
fn content(content: &Value) -> Result<Value, Wrong> {
    let parts = match content {
        Value::String(_) => return Ok(content.clone()),
        Value::Array(parts) => parts,
        _ => return Err(Wrong::new("/content", "must be a text or a list")),
    };
    if let [part] = parts.as_slice()
        && part["type"] == "input_text"
        && part["text"].is_string()
    {
        return Ok(part["text"].clone());
    }
    let translate = |(place, part)| part_of(part).map_err(|wrong| within_content(place, wrong));
    parts.iter().enumerate().map(translate).collect()
}

fn within_content(place: usize, wrong: Wrong) -> Wrong {
    Wrong { place: format!("/content/{place}{}", wrong.place), ..wrong }
}

fn part_of(part: &Value) -> Result<Value, Wrong> {
    match part["type"].as_str() {
        Some("input_text" | "output_text" | "text") => Ok(json!({ "type": "text", "text": part["text"] })),
        Some("input_image") => {
            if !part["image_url"].is_string() {
                return Err(Wrong::only_there("/file_id", "an image that is no URL"));
            }
            let mut image = json!({ "url": part["image_url"] });
            if let Some(detail) = part.get("detail").filter(is_given) {
                image["detail"] = detail.clone();
            }
            Ok(json!({ "type": "image_url", "image_url": image }))
        }
        Some("input_audio") => Ok(json!({ "type": "input_audio", "input_audio": part["input_audio"] })),
        Some("input_file") if part["file_data"].is_string() => {
            Ok(json!({ "type": "file", "file": picked(part, &["file_data", "filename"]) }))
        }
        Some("input_file") => Err(Wrong::only_there("", "a file (input_file) without file_data")),
        Some(kind) => Err(Wrong::only_there("/type", format!("a part of type {kind:?}"))),
        None => Err(Wrong::new("/type", "must be the kind of part, such as \"input_text\"")),
    }
}

fn call_output(item: &Value) -> Result<Value, Wrong> {
    let id = item["call_id"].as_str().ok_or_else(|| Wrong::new("/call_id", "must be a text"))?;
    let content = match &item["output"] {
        Value::String(_) => item["output"].clone(),
        Value::Array(parts) => {
            let text = |(place, part): (usize, &Value)| match (part["type"].as_str(), part["text"].as_str()) {
                (Some("input_text" | "output_text" | "text"), Some(text)) => Ok(text.to_owned()),
                _ => Err(Wrong::only_there(format!("/output/{place}"), "an output of a call that is no text")),
            };
            parts.iter().enumerate().map(text).collect::<Result<Vec<_>, _>>()?.join("\n").into()
        }
        _ => return Err(Wrong::new("/output", "must be a text or a list")),
    };
    Ok(json!({ "role": "tool", "tool_call_id": id, "content": content }))
}

#[cfg(test)]
mod tests;
