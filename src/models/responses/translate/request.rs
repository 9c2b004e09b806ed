//! A request for a response as one for a chat completion.
//!
//! Nothing that a client sends is dropped silently: what chat completions cannot express
//! is refused by its JSON pointer. Each field of the format is one of these:
//!
//! - translated: `include`, `input`, `instructions`, `max_output_tokens`,
//!   `reasoning`, `stream`, `text`, `tool_choice`, `tools`, `top_logprobs`;
//! - handled by this service: `background`, `metadata` (shown again),
//!   `previous_response_id`, `store`;
//! - passed on unchanged: `model`, `parallel_tool_calls`, `temperature`, `top_p`, `user`, `service_tier`,
//!   `safety_identifier`, `prompt_cache_key`, and unknown fields;
//! - refused unless null, empty or the default: `context_management`, `conversation`, `max_tool_calls`,
//!   `prompt`, `stream_options`, `truncation`.

use serde_json::{Map, Value, json};

use super::Shape;
use super::theirs::Theirs;
use crate::http::Problem;
use crate::models::Members;
use crate::models::responses::request::Create;
use messages::Messages;
use tools::Tools;
use wrong::{given, only, only_there};

mod messages;
mod parts;
mod tools;
mod wrong;

/// Fields that are not passed on unchanged.
const NOT_SENT: &[&str] = &[
    "background",
    "context_management",
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

/// The values of `include` that are possible. Others are for tools that a provider runs.
const ENCRYPTED: &str = "reasoning.encrypted_content";
const LOGPROBS: &str = "message.output_text.logprobs";
/// The input is always shown as it was sent.
const IMAGE_URLS: &str = "message.input_image.image_url";

type Fields = Map<String, Value>;

/// A chat request.
#[derive(Debug)]
pub(in crate::models::responses) struct Asked {
    pub fields: Fields,
    /// What only some providers are sent with it.
    pub members: Vec<Members>,
    /// How to read its answer.
    pub shape: Shape,
}

/// The chat request that asks for the same: with `context`, the items of the turns
/// before, and `input`, those of this one. `open` opens `encrypted_content` that this service has sealed.
///
/// # Errors
/// When it asks for something that chat completions do not have, with its place.
pub(in crate::models::responses) fn to_chat(
    create: &Create,
    context: &[Value],
    input: &[Value],
    stream: bool,
    open: &dyn Fn(&str) -> Option<Option<Vec<u8>>>,
) -> Result<Asked, Problem> {
    let from = Value::Object(create.fields.clone());
    refuse(&from)?;
    let passed = create.fields.iter().filter(|(name, _)| !NOT_SENT.contains(&name.as_str()));
    let mut chat = Chat(passed.map(|(name, value)| (name.clone(), value.clone())).collect());
    let (messages, members) = conversation(&from, context, input, open)?;
    chat.0.insert("messages".into(), messages.into());
    if let Some(limit) = given(&from, "max_output_tokens") {
        chat.refuse("max_completion_tokens", "/max_output_tokens")?;
        chat.put("max_tokens", limit.clone(), "/max_output_tokens")?;
    }
    let mut shape = Shape::default();
    offer(&from, &mut chat, &mut shape)?;
    format(&from, &mut chat)?;
    reason(&from, &mut chat, &mut shape)?;
    include(&from, &mut chat, &mut shape)?;
    if stream {
        chat.0.insert("stream".into(), true.into());
    }
    Ok(Asked { fields: chat.0, members, shape })
}

/// Where the client wrote what the chat request has at this place; `None` where
/// it is the same place, or unknown.
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

/// Whether the client asks for `encrypted_content`.
pub(in crate::models::responses) fn wants_sealed(create: &Create) -> bool {
    let included = create.fields.get("include").and_then(Value::as_array);
    included.is_some_and(|all| all.iter().any(|name| name == ENCRYPTED))
}

/// The fields of a chat.
struct Chat(Fields);

impl Chat {
    /// Writes the chat field for a field of the client's. The client may not have sent the
    /// chat field, too.
    fn put(&mut self, name: &str, value: Value, stands_for: &str) -> Result<(), Problem> {
        if self.0.get(name) != Some(&value) {
            self.refuse(name, stands_for)?;
        }
        self.0.insert(name.into(), value);
        Ok(())
    }

    fn refuse(&self, name: &str, stands_for: &str) -> Result<(), Problem> {
        if self.0.get(name).is_none_or(Value::is_null) {
            return Ok(());
        }
        Err(Problem::invalid(format!("/{name}"), format!("duplicates {stands_for}; send only one of them")))
    }
}

/// These fields of an object, as far as they are there and not null.
fn picked(from: &Value, names: &[&str]) -> Fields {
    let field = |name: &&str| Some(((*name).to_owned(), given(from, name)?.clone()));
    names.iter().filter_map(field).collect()
}

fn refuse(from: &Value) -> Result<(), Problem> {
    if given(from, "messages").is_some() {
        let problem = Problem::invalid("/messages", "is a field of chat completions");
        return Err(problem.with_hint("send the conversation as input"));
    }
    if given(from, "prompt").is_some() {
        return Err(only_there("/prompt", "a stored prompt"));
    }
    if given(from, "truncation").is_some_and(|truncation| truncation != "disabled") {
        return Err(only_there("/truncation", "truncation other than \"disabled\""));
    }
    if given(from, "max_tool_calls").is_some() {
        return Err(only_there("/max_tool_calls", "a limit of tool calls"));
    }
    if given(from, "context_management").is_some_and(|it| it.as_array().is_none_or(|list| !list.is_empty())) {
        return Err(only_there("/context_management", "context management"));
    }
    if given(from, "n").is_some_and(|n| n != 1) {
        return Err(Problem::invalid("/n", "a response is one answer"));
    }
    let Some(options) = given(from, "stream_options") else { return Ok(()) };
    // Usage is always sent, obfuscation never.
    let unwanted = |name: &str, always: bool| given(options, name).is_some_and(|value| *value != always);
    if unwanted("include_obfuscation", false) {
        return Err(only_there("/stream_options/include_obfuscation", "obfuscation"));
    }
    if unwanted("include_usage", true) {
        return Err(Problem::invalid(
            "/stream_options/include_usage",
            "must be true: the last event always has the usage",
        ));
    }
    let known = &["include_obfuscation", "include_usage"];
    only(options, known, "stream_options").map_err(|wrong| wrong.problem("/stream_options"))
}

/// The messages: what came before, and what is new.
fn conversation(
    from: &Value,
    context: &[Value],
    input: &[Value],
    open: &dyn Fn(&str) -> Option<Option<Vec<u8>>>,
) -> Result<(Vec<Value>, Vec<Members>), Problem> {
    let opener = |sealed: &str| {
        let opened = open(sealed)?;
        Some(opened.and_then(|plain| Theirs::read(&String::from_utf8(plain).ok()?)))
    };
    let mut messages = Messages::new(&opener);
    if let Some(instructions) = given(from, "instructions") {
        let text = instructions.as_str().ok_or_else(|| Problem::invalid("/instructions", "must be a text"))?;
        messages.instructions(text);
    }
    for item in context {
        messages.add_earlier(item).map_err(|wrong| wrong.problem("/previous_response_id"))?;
    }
    for (place, item) in input.iter().enumerate() {
        messages.add(item).map_err(|wrong| wrong.problem(&format!("/input/{place}")))?;
    }
    Ok(messages.finish())
}

fn offer(from: &Value, chat: &mut Chat, shape: &mut Shape) -> Result<(), Problem> {
    let mut tools = Tools::read(given(from, "tools"))?;
    let choice = given(from, "tool_choice").map(|choice| tools.choose(choice)).transpose()?;
    if tools.sent.is_empty() {
        return Ok(());
    }
    if let [tool] = tools.sent.as_slice() {
        shape.only_tool = tool["function"]["name"].as_str().map(str::to_owned);
    }
    shape.custom = tools.custom;
    chat.0.insert("tools".into(), Value::Array(tools.sent));
    if let Some(choice) = choice {
        chat.0.insert("tool_choice".into(), choice);
    }
    if let Some(parallel) = given(from, "parallel_tool_calls") {
        chat.0.insert("parallel_tool_calls".into(), parallel.clone());
    }
    Ok(())
}

fn format(from: &Value, chat: &mut Chat) -> Result<(), Problem> {
    let Some(text) = given(from, "text") else { return Ok(()) };
    only(text, &["format", "verbosity"], "text").map_err(|wrong| wrong.problem("/text"))?;
    if let Some(verbosity) = given(text, "verbosity") {
        chat.put("verbosity", verbosity.clone(), "/text/verbosity")?;
    }
    let Some(format) = given(text, "format") else { return Ok(()) };
    let known: &[&str] = match format["type"].as_str() {
        Some("text" | "json_object") => &["type"],
        Some("json_schema") => &["type", "name", "description", "schema", "strict"],
        _ => return Err(Problem::invalid("/text/format/type", "must be text, json_object or json_schema")),
    };
    only(format, known, "the format").map_err(|wrong| wrong.problem("/text/format"))?;
    let sent = match format["type"].as_str() {
        Some("json_object") => json!({ "type": "json_object" }),
        Some("json_schema") => json!({ "type": "json_schema", "json_schema": picked(format, &known[1..]) }),
        _ => return Ok(()),
    };
    chat.put("response_format", sent, "/text/format")
}

fn reason(from: &Value, chat: &mut Chat, shape: &mut Shape) -> Result<(), Problem> {
    let Some(reasoning) = given(from, "reasoning") else { return Ok(()) };
    // The reasoning of all earlier turns is sent back.
    let known = &["effort", "summary", "generate_summary", "context"];
    only(reasoning, known, "reasoning").map_err(|wrong| wrong.problem("/reasoning"))?;
    if given(reasoning, "context").is_some_and(|context| context != "auto" && context != "all_turns") {
        return Err(only_there("/reasoning/context", "leaving out the reasoning of earlier turns"));
    }
    for name in ["summary", "generate_summary"] {
        match given(reasoning, name).map(Value::as_str) {
            None => {}
            // The reasoning that the provider shows is presented as the summary.
            Some(Some("auto" | "detailed")) => shape.is_summary = true,
            Some(_) => return Err(only_there(format!("/reasoning/{name}"), "a summary other than auto or detailed")),
        }
    }
    match given(reasoning, "effort") {
        Some(effort) => chat.put("reasoning_effort", effort.clone(), "/reasoning/effort"),
        None => Ok(()),
    }
}

fn include(from: &Value, chat: &mut Chat, shape: &mut Shape) -> Result<(), Problem> {
    let included = match given(from, "include") {
        None => &[][..],
        Some(list) => list.as_array().ok_or_else(|| Problem::invalid("/include", "must be a list"))?,
    };
    let mut logprobs = false;
    for (place, name) in included.iter().enumerate() {
        match name.as_str() {
            Some(LOGPROBS) => logprobs = true,
            Some(ENCRYPTED) => shape.is_sealed = true,
            Some(IMAGE_URLS) => {}
            Some(name) => return Err(only_there(format!("/include/{place}"), &format!("{name:?}"))),
            None => return Err(Problem::invalid(format!("/include/{place}"), "must be a text")),
        }
    }
    let top = given(from, "top_logprobs");
    if logprobs || top.is_some_and(|top| top != 0) {
        chat.put("logprobs", true.into(), "/include")?;
        if let Some(top) = top {
            chat.0.insert("top_logprobs".into(), top.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
