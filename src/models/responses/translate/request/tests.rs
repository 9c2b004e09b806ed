//! What chat providers are asked, case by case.

use serde_json::{Value, json};

use super::super::super::request::{Create, CreateBody};
use super::to_chat;

mod members;
mod odd;

fn chat(body: Value, context: &[Value], stream: bool) -> Value {
    let Value::Object(fields) = body else { panic!("an object") };
    let create = Create::read(CreateBody(fields)).expect("it is a request");
    match to_chat(&create, context, &create.input, stream, &|_| None) {
        Ok(chat) => Value::Object(chat.fields),
        Err(problem) => json!({ "refused": problem.to_string(), "at": problem.errors()[0].pointer }),
    }
}

#[test]
fn what_can_be_said_in_chat_is() {
    let tool = json!({
        "type": "function", "name": "weather", "description": "How it is", "strict": true,
        "parameters": { "type": "object", "properties": { "place": { "type": "string" } } },
    });
    let cases = [
        ("a text", json!({ "model": "m", "input": "hello" })),
        (
            "numbers and names",
            json!({
                "model": "m", "input": "hello", "instructions": "be brief", "max_output_tokens": 9, "temperature": 0.5,
                "top_p": 0.9, "user": "u", "metadata": { "a": "b" }, "reasoning": { "effort": "low", "summary": "auto" },
                "store": true, "truncation": "disabled", "parallel_tool_calls": true, "text": { "verbosity": "low" },
                "service_tier": "flex", "seed": 7, "include": ["message.output_text.logprobs"], "top_logprobs": 2,
            }),
        ),
        (
            "parts",
            json!({ "model": "m", "input": [
                { "role": "developer", "content": "rules" },
                { "role": "user", "content": [
                    { "type": "input_text", "text": "what is this?" },
                    { "type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low" },
                    { "type": "input_image", "image_url": "https://example.com/a.png" },
                    { "type": "input_audio", "input_audio": { "data": "AA==", "format": "wav" } },
                    { "type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA==" },
                ] },
            ] }),
        ),
        (
            "tools",
            json!({ "model": "m", "input": "hello", "tools": [tool], "tool_choice": "required", "parallel_tool_calls": false }),
        ),
        (
            "one tool",
            json!({ "model": "m", "input": "hello", "tools": [tool], "tool_choice": { "type": "function", "name": "weather" } }),
        ),
        (
            "some tools",
            json!({
                "model": "m", "input": "hello", "tools": [tool, { "type": "function", "name": "other" }],
                "tool_choice": { "type": "allowed_tools", "mode": "auto", "tools": [{ "type": "function", "name": "other" }] },
            }),
        ),
        (
            "calls and their outputs",
            json!({ "model": "m", "input": [
                { "type": "message", "role": "user", "content": "hello" },
                { "type": "reasoning", "id": "rs_1", "summary": [] },
                { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "let me see" }] },
                { "type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}" },
                { "type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}" },
                { "type": "function_call_output", "call_id": "c1", "output": "rain" },
                { "type": "function_call_output", "call_id": "c2", "output": [{ "type": "input_text", "text": "sun" }] },
                { "type": "function_call", "call_id": "c3", "name": "weather", "arguments": "{}" },
                { "type": "message", "role": "assistant", "content": [{ "type": "refusal", "refusal": "no" }] },
            ] }),
        ),
        (
            "structured",
            json!({ "model": "m", "input": "hello", "text": { "format": {
                "type": "json_schema", "name": "n", "strict": true, "schema": { "type": "object" },
            } } }),
        ),
        ("any JSON", json!({ "model": "m", "input": "hello", "text": { "format": { "type": "json_object" } } })),
    ];
    let all: Vec<_> =
        cases.into_iter().map(|(name, body)| json!({ "case": name, "chat": chat(body, &[], false) })).collect();
    insta::assert_json_snapshot!(all);
}

#[test]
fn what_cannot_is_refused_by_name() {
    let with = |name: &str, value: Value| {
        let mut body = json!({ "model": "m", "input": "hello" });
        body[name] = value;
        body
    };
    let said = |part: Value| with("input", json!([{ "role": "user", "content": [part] }]));
    let cases = [
        with("tools", json!([{ "type": "function", "name": "a" }, { "type": "web_search" }])),
        with("tools", json!([{ "type": "file_search", "vector_store_ids": [] }])),
        with("tools", json!([{ "type": "code_interpreter", "container": { "type": "auto" } }])),
        with("tools", json!([{ "type": "mcp", "server_label": "s" }])),
        with("tools", json!([{}])),
        with("tools", json!({})),
        with("tool_choice", json!({ "type": "web_search" })),
        with("tool_choice", json!(5)),
        with("prompt", json!({ "id": "pmpt_1" })),
        with("truncation", json!("auto")),
        with("n", json!(2)),
        with("instructions", json!(["a"])),
        with("text", json!({ "format": { "type": "xml" } })),
        with("input", json!([{ "type": "item_reference", "id": "msg_1" }])),
        with("input", json!([{ "type": "web_search_call", "id": "ws_1" }])),
        with("input", json!([{ "role": "critic", "content": "no" }])),
        with("input", json!([{ "role": "user" }])),
        with("input", json!([{ "role": "assistant", "content": [{ "type": "input_image" }] }])),
        with("input", json!([{ "type": "function_call", "call_id": "c", "name": "n" }])),
        with("input", json!([{ "type": "function_call_output", "output": "x" }])),
        with(
            "input",
            json!([{ "type": "function_call_output", "call_id": "c", "output": [{ "type": "input_image" }] }]),
        ),
        said(json!({ "type": "input_image", "file_id": "file_1" })),
        said(json!({ "type": "input_file", "file_id": "file_1" })),
        said(json!({ "type": "input_file", "file_url": "https://example.com/a.pdf" })),
        said(json!({ "type": "input_smell" })),
        said(json!({})),
    ];
    let all: Vec<_> = cases.into_iter().map(|body| chat(body, &[], false)).collect();
    assert!(all.iter().all(|answer| answer.get("refused").is_some()));
    insta::assert_json_snapshot!(all);
}

#[test]
fn what_came_before_stands_first_and_a_stream_asks_for_its_usage() {
    let context = [
        json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "one" }] }),
        json!({ "type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
            "content": [{ "type": "output_text", "text": "two", "annotations": [] }] }),
    ];
    insta::assert_json_snapshot!(chat(
        json!({ "model": "m", "input": "three", "instructions": "be brief" }),
        &context,
        true
    ));
}
