//! `/v1/chat/completions`.

use serde_json::{Value, json};

use super::answer::{Answer, Ask, Event, Kind, Said, count, fitting};
use super::books::Used;
use super::script::Usage;

/// A call of a tool, and its tokens.
pub struct ToolCall {
    pub id: String,
    pub name: String,
    pub arguments: String,
    pub tokens: u64,
}

/// What a choice is.
enum Choice {
    Text(Said),
    Tools(Vec<ToolCall>),
    Refusal(String),
}

impl Choice {
    fn tokens(&self) -> u64 {
        match self {
            Self::Text(said) => said.tokens(),
            Self::Tools(calls) => calls.iter().map(|call| call.tokens).sum(),
            Self::Refusal(text) => text.split_whitespace().count() as u64,
        }
    }

    fn finish(&self) -> &'static str {
        match self {
            Self::Text(said) if said.cut => "length",
            Self::Text(_) | Self::Refusal(_) => "stop",
            Self::Tools(_) => "tool_calls",
        }
    }
}

pub fn answer(ask: &Ask<'_>) -> Answer {
    let body = ask.body;
    let limit = body["max_completion_tokens"].as_u64().or_else(|| body["max_tokens"].as_u64());
    let choices = body["n"].as_u64().unwrap_or(1);
    let (input, cached) = ask.input(|| input(ask.model, body));
    let choice = choose(ask, limit);
    let reasoning = if let Choice::Text(said) = &choice { said.reasoning } else { 0 };
    let (output, reasoning) = (choice.tokens() * choices, reasoning * choices);
    let used = Used { input, cached, output, reasoning, ..Used::default() };
    if ask.wants("stream") { stream(ask, &choice, choices, used) } else { whole(ask, &choice, choices, used) }
}

fn choose(ask: &Ask<'_>, limit: Option<u64>) -> Choice {
    let calls = tool_calls(ask, &ask.body["tools"], |tool| &tool["function"]);
    let over = ask.body["messages"].as_array().and_then(|all| all.last()).is_some_and(|it| it["role"] == "tool");
    if let Some(refusal) = &ask.script.refusal {
        return Choice::Refusal(refusal.clone());
    }
    if !calls.is_empty() && !over {
        return Choice::Tools(calls);
    }
    let schema = ask.body["response_format"].pointer("/json_schema/schema");
    Choice::Text(ask.says(schema.map(|schema| fitting(schema).to_string()), limit))
}

/// The calls that the script wants, of the tools that there are.
pub fn tool_calls(ask: &Ask<'_>, tools: &Value, function: impl Fn(&Value) -> &Value) -> Vec<ToolCall> {
    let mut wanted = ask.script.calls.clone();
    if ask.script.use_tools
        && let Some(tool) = tools.get(0).map(function)
    {
        wanted.push((tool["name"].as_str().unwrap_or_default().to_owned(), fitting(&tool["parameters"])));
    }
    let calls = wanted.into_iter().enumerate().map(|(place, (name, arguments))| {
        let arguments = arguments.to_string();
        let tokens = count(ask.model, &arguments);
        ToolCall { id: format!("call_{}_{place}", ask.number), name, arguments, tokens }
    });
    calls.collect()
}

fn usage(ask: &Ask<'_>, used: Used) -> Option<Value> {
    match ask.script.usage {
        Usage::Missing => None,
        Usage::Nonsense => Some(json!({ "prompt_tokens": -5, "completion_tokens": "many", "total_tokens": null })),
        Usage::Right => Some(json!({
            "prompt_tokens": used.input,
            "completion_tokens": used.output,
            "total_tokens": used.input + used.output,
            "prompt_tokens_details": { "cached_tokens": used.cached, "audio_tokens": 0 },
            "completion_tokens_details": { "reasoning_tokens": used.reasoning, "audio_tokens": 0 },
        })),
    }
}

fn call_json(call: &ToolCall) -> Value {
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": call.arguments } })
}

fn whole(ask: &Ask<'_>, choice: &Choice, choices: u64, used: Used) -> Answer {
    let message = match choice {
        Choice::Text(said) => json!({ "role": "assistant", "content": said.text(), "refusal": null }),
        Choice::Refusal(text) => json!({ "role": "assistant", "content": null, "refusal": text }),
        Choice::Tools(calls) => {
            let calls: Vec<_> = calls.iter().map(call_json).collect();
            json!({ "role": "assistant", "content": null, "refusal": null, "tool_calls": calls })
        }
    };
    let choices: Vec<_> = (0..choices)
        .map(|index| json!({ "index": index, "message": message, "logprobs": null, "finish_reason": choice.finish() }))
        .collect();
    let mut body = json!({
        "id": format!("chatcmpl-{}", ask.number),
        "object": "chat.completion",
        "created": 1_750_000_000,
        "model": ask.model,
        "choices": choices,
        "service_tier": "default",
    });
    if let Some(usage) = usage(ask, used) {
        body["usage"] = usage;
    }
    Answer::json(&ask.with_extra(body), used)
}

fn stream(ask: &Ask<'_>, choice: &Choice, choices: u64, used: Used) -> Answer {
    let with_usage = ask.body["stream_options"]["include_usage"] == json!(true);
    let chunk = |choices: Value| {
        let mut chunk = json!({
            "id": format!("chatcmpl-{}", ask.number),
            "object": "chat.completion.chunk",
            "created": 1_750_000_000,
            "model": ask.model,
            "choices": choices,
        });
        if with_usage {
            chunk["usage"] = Value::Null;
        }
        ask.with_extra(chunk)
    };
    let delta = |index: u64, delta: Value, finish: Option<&str>| {
        chunk(json!([{ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish }]))
    };
    let mut events = Vec::new();
    for index in 0..choices {
        events.push(Event::data(&delta(index, json!({ "role": "assistant", "content": "" }), None), Kind::Frame));
        // Reasoning comes first and is not shown, so it counts with the first piece.
        for (piece, tokens) in pieces(choice) {
            events.push(Event::data(&delta(index, piece, None), Kind::Content(tokens)));
        }
        events.push(Event::data(&delta(index, json!({}), Some(choice.finish())), Kind::Frame));
    }
    if with_usage && let Some(usage) = usage(ask, used) {
        let mut chunk = chunk(json!([]));
        chunk["usage"] = usage;
        events.push(Event::data(&chunk, Kind::Frame));
    }
    events.push(Event { bytes: "data: [DONE]\n\n".into(), kind: Kind::End });
    Answer::events(events, used)
}

/// The deltas of a choice.
fn pieces(choice: &Choice) -> Vec<(Value, u64)> {
    match choice {
        Choice::Text(said) => {
            let mut reasoning = said.reasoning;
            let pieces = said.pieces.iter();
            pieces.map(|(text, tokens)| (json!({ "content": text }), tokens + std::mem::take(&mut reasoning))).collect()
        }
        Choice::Refusal(text) => vec![(json!({ "refusal": text }), choice.tokens())],
        Choice::Tools(calls) => {
            let mut pieces = Vec::new();
            for (index, call) in calls.iter().enumerate() {
                let mut first = call_json(call);
                first["index"] = json!(index);
                first["function"]["arguments"] = json!("");
                pieces.push((json!({ "tool_calls": [first] }), 0));
                let half = call.arguments.len() / 2;
                let half = call.arguments.ceil_char_boundary(half);
                let (begin, rest) = call.arguments.split_at(half);
                for (part, tokens) in [(begin, 0), (rest, call.tokens)] {
                    let part = json!([{ "index": index, "function": { "arguments": part } }]);
                    pieces.push((json!({ "tool_calls": part }), tokens));
                }
            }
            pieces
        }
    }
}

/// The input as OpenAI counts it: three tokens for each message and for the
/// beginning of the answer, and all texts.
fn input(model: &str, body: &Value) -> u64 {
    let messages = body["messages"].as_array().into_iter().flatten();
    let texts = messages.map(|message| {
        let content = match &message["content"] {
            Value::String(text) => count(model, text),
            Value::Array(parts) => {
                parts.iter().map(|part| part["text"].as_str().map_or(85, |text| count(model, text))).sum()
            }
            _ => 0,
        };
        let name = message["name"].as_str().map_or(0, |name| count(model, name) + 1);
        3 + content + name + count(model, message["role"].as_str().unwrap_or_default())
    });
    texts.sum::<u64>() + 3
}
