//! `/v1/responses`, without what it keeps: the service keeps responses itself.

use serde_json::{Value, json};

use super::answer::{Answer, Ask, Event, Kind, Said, count, fitting};
use super::books::Used;
use super::chat::{ToolCall, tool_calls};
use super::script::Usage;

pub fn answer(ask: &Ask<'_>) -> Answer {
    let body = ask.body;
    let calls = if is_outcome(&body["input"]) { Vec::new() } else { tool_calls(ask, &body["tools"], |tool| tool) };
    let schema = body.pointer("/text/format/schema");
    let text = schema.map(|schema| fitting(schema).to_string());
    let said = calls.is_empty().then(|| ask.says(text, body["max_output_tokens"].as_u64()));
    let (input, cached) = ask.input(|| texts(ask.model, &body["input"]) + texts(ask.model, &body["instructions"]) + 7);
    let (output, reasoning) = match &said {
        Some(said) => (said.tokens(), said.reasoning),
        None => (calls.iter().map(|call| call.tokens).sum(), 0),
    };
    let used = Used { input, cached, output, reasoning, ..Used::default() };
    let made = Made { ask, said, calls, used };
    if ask.wants("stream") { made.stream() } else { Answer::json(&made.response("completed", &made.items()), used) }
}

/// Whether the input ends with what a tool gave back.
fn is_outcome(input: &Value) -> bool {
    input.as_array().and_then(|all| all.last()).is_some_and(|it| it["type"] == "function_call_output")
}

fn texts(model: &str, value: &Value) -> u64 {
    match value {
        Value::String(text) => count(model, text),
        Value::Array(all) => all.iter().map(|it| texts(model, &it["content"]) + texts(model, &it["text"])).sum(),
        _ => 0,
    }
}

struct Made<'a> {
    ask: &'a Ask<'a>,
    said: Option<Said>,
    calls: Vec<ToolCall>,
    used: Used,
}

impl Made<'_> {
    fn id(&self, kind: &str) -> String {
        format!("{kind}_{}", self.ask.number)
    }

    fn response(&self, status: &str, output: &Value) -> Value {
        let body = self.ask.body;
        let cut = self.said.as_ref().is_some_and(|said| said.cut) && status == "completed";
        let usage = match self.ask.script.usage {
            Usage::Right if status == "completed" => {
                let Used { input, cached, output, reasoning, .. } = self.used;
                json!({ "input_tokens": input, "input_tokens_details": { "cached_tokens": cached },
                    "output_tokens": output, "output_tokens_details": { "reasoning_tokens": reasoning },
                    "total_tokens": input + output })
            }
            Usage::Nonsense => json!({ "input_tokens": -1 }),
            _ => Value::Null,
        };
        self.ask.with_extra(json!({
            "id": self.id("resp"),
            "object": "response",
            "created_at": 1_750_000_000,
            "status": if cut { "incomplete" } else { status },
            "incomplete_details": if cut { json!({ "reason": "max_output_tokens" }) } else { Value::Null },
            "error": null,
            "instructions": body["instructions"],
            "max_output_tokens": body["max_output_tokens"],
            "metadata": body.get("metadata").cloned().unwrap_or(json!({})),
            "model": self.ask.model,
            "output": output,
            "parallel_tool_calls": true,
            "previous_response_id": body["previous_response_id"],
            "store": false,
            "temperature": 1.0,
            "text": body.get("text").cloned().unwrap_or(json!({ "format": { "type": "text" } })),
            "tool_choice": "auto",
            "tools": body.get("tools").cloned().unwrap_or(json!([])),
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": usage,
        }))
    }

    fn items(&self) -> Value {
        match &self.said {
            Some(said) => json!([self.message("completed", &json!([part(&said.text())]))]),
            None => self.calls.iter().map(|call| call_item(call, "completed", &call.arguments)).collect(),
        }
    }

    fn message(&self, status: &str, content: &Value) -> Value {
        json!({ "id": self.id("msg"), "type": "message", "role": "assistant", "status": status, "content": content })
    }

    fn stream(&self) -> Answer {
        let mut events = Numbered::default();
        for kind in ["response.created", "response.in_progress"] {
            events.push(kind, json!({ "response": self.response("in_progress", &json!([])) }), Kind::Frame);
        }
        match &self.said {
            Some(said) => self.stream_text(&mut events, said),
            None => self.stream_calls(&mut events),
        }
        let whole = self.response("completed", &self.items());
        let kind = if whole["status"] == "incomplete" { "response.incomplete" } else { "response.completed" };
        events.push(kind, json!({ "response": whole }), Kind::End);
        Answer::events(events.0, self.used)
    }

    fn stream_text(&self, events: &mut Numbered, said: &Said) {
        let item = self.id("msg");
        let place = |more: &Value| {
            let mut at = json!({ "item_id": item, "output_index": 0, "content_index": 0 });
            at.as_object_mut().into_iter().for_each(|at| at.extend(more.as_object().cloned().unwrap_or_default()));
            at
        };
        let added = json!({ "output_index": 0, "item": self.message("in_progress", &json!([])) });
        events.push("response.output_item.added", added, Kind::Frame);
        events.push("response.content_part.added", place(&json!({ "part": part("") })), Kind::Frame);
        let mut reasoning = said.reasoning;
        for (text, tokens) in &said.pieces {
            let tokens = tokens + std::mem::take(&mut reasoning);
            let delta = place(&json!({ "delta": text, "logprobs": [] }));
            events.push("response.output_text.delta", delta, Kind::Content(tokens));
        }
        let text = said.text();
        events.push("response.output_text.done", place(&json!({ "text": text, "logprobs": [] })), Kind::Frame);
        events.push("response.content_part.done", place(&json!({ "part": part(&text) })), Kind::Frame);
        let done = json!({ "output_index": 0, "item": self.message("completed", &json!([part(&text)])) });
        events.push("response.output_item.done", done, Kind::Frame);
    }

    fn stream_calls(&self, events: &mut Numbered) {
        for (index, call) in self.calls.iter().enumerate() {
            let item = call_item(call, "in_progress", "");
            let id = item["id"].clone();
            events.push("response.output_item.added", json!({ "output_index": index, "item": item }), Kind::Frame);
            let delta = json!({ "item_id": id, "output_index": index, "delta": call.arguments });
            events.push("response.function_call_arguments.delta", delta, Kind::Content(call.tokens));
            let done = json!({ "item_id": id, "output_index": index, "name": call.name, "arguments": call.arguments });
            events.push("response.function_call_arguments.done", done, Kind::Frame);
            let item = call_item(call, "completed", &call.arguments);
            events.push("response.output_item.done", json!({ "output_index": index, "item": item }), Kind::Frame);
        }
    }
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn call_item(call: &ToolCall, status: &str, arguments: &str) -> Value {
    json!({ "id": format!("fc_{}", call.id), "type": "function_call", "call_id": call.id, "name": call.name,
        "arguments": arguments, "status": status })
}

/// Events that are numbered from 0.
#[derive(Default)]
struct Numbered(Vec<Event>);

impl Numbered {
    fn push(&mut self, name: &str, mut data: Value, kind: Kind) {
        data["type"] = json!(name);
        data["sequence_number"] = json!(self.0.len());
        self.0.push(Event::named(&data, kind));
    }
}
