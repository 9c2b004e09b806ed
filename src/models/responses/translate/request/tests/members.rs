//! That nothing gets lost: what is refused by its place, and what may come back.

#![expect(clippy::needless_pass_by_value, reason = "callers write it where they need it")]

use super::*;

fn refused(body: Value) -> (String, String) {
    let answer = chat(body.clone(), &[], false);
    let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("{body} gives {answer}")).to_owned();
    (text("at"), text("refused"))
}

fn with(name: &str, value: Value) -> Value {
    let mut body = json!({ "model": "m", "input": "hello" });
    body[name] = value;
    body
}

fn item(item: Value) -> Value {
    with("input", json!([{ "role": "user", "content": "a" }, item]))
}

fn said(part: Value) -> Value {
    with("input", json!([{ "role": "user", "content": [{ "type": "input_text", "text": "a" }, part] }]))
}

fn tool(more: Value) -> Value {
    let mut tool = json!({ "type": "function", "name": "f" });
    tool.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    with("tools", json!([tool]))
}

#[test]
fn what_would_get_lost_is_refused_by_its_place() {
    let cases = [
        (with("max_tool_calls", json!(3)), "/max_tool_calls"),
        (with("context_management", json!([{ "type": "compaction" }])), "/context_management"),
        (with("stream_options", json!({ "include_obfuscation": true })), "/stream_options/include_obfuscation"),
        (with("stream_options", json!({ "include_usage": false })), "/stream_options/include_usage"),
        (with("stream_options", json!({ "odd": 1 })), "/stream_options/odd"),
        (with("stream_options", json!([])), "/stream_options"),
        (with("include", json!(["reasoning.encrypted_content", "file_search_call.results"])), "/include/1"),
        (with("include", json!([5])), "/include/0"),
        (with("include", json!("message.output_text.logprobs")), "/include"),
        (with("reasoning", json!({ "summary": "concise" })), "/reasoning/summary"),
        (with("reasoning", json!({ "generate_summary": "concise" })), "/reasoning/generate_summary"),
        (with("reasoning", json!({ "context": "current_turn" })), "/reasoning/context"),
        (with("reasoning", json!({ "mode": "pro" })), "/reasoning/mode"),
        (with("reasoning", json!("high")), "/reasoning"),
        (with("text", json!({ "odd": 1 })), "/text/odd"),
        (
            with("text", json!({ "format": { "type": "json_schema", "name": "n", "schema": {}, "odd": 1 } })),
            "/text/format/odd",
        ),
        (with("text", json!({ "format": { "type": "text", "name": "n" } })), "/text/format/name"),
        (with("text", json!({ "format": { "type": "grammar", "grammar": "x" } })), "/text/format/type"),
        (with("messages", json!([])), "/messages"),
        (with("tool_choice", json!("any")), "/tool_choice"),
        (with("tool_choice", json!("required")), "/tool_choice"),
        (with("tool_choice", json!({ "type": "function", "name": "f" })), "/tool_choice"),
        (tool(json!({ "name": null })), "/tools/0/name"),
        (tool(json!({ "odd": true })), "/tools/0/odd"),
        (tool(json!({ "a/b~c": 1 })), "/tools/0/a~1b~0c"),
        (tool(json!({ "defer_loading": true })), "/tools/0/defer_loading"),
        (tool(json!({ "output_schema": { "type": "object" } })), "/tools/0/output_schema"),
        (with("tools", json!([{ "type": "custom" }])), "/tools/0/name"),
        (
            with("tools", json!([{ "type": "custom", "name": "f", "format": { "type": "xml" } }])),
            "/tools/0/format/type",
        ),
        (
            with(
                "tools",
                json!([{ "type": "custom", "name": "f", "format": { "type": "grammar", "syntax": "lark" } }]),
            ),
            "/tools/0/format/definition",
        ),
        (
            with("tools", json!([{ "type": "custom", "name": "f" }, { "type": "function", "name": "f" }])),
            "/tools/1/name",
        ),
        (
            with("tools", json!([{ "type": "function", "name": "f" }, { "type": "custom", "name": "f" }])),
            "/tools/1/name",
        ),
    ];
    for (body, place) in cases {
        let (at, detail) = refused(body);
        assert_eq!(at, place, "{detail}");
    }
    let (_, detail) = refused(tool(json!({ "odd": true })));
    let what = "\"odd\" of a function is not possible with this model, whose provider speaks chat completions only";
    assert!(detail.ends_with(what), "{detail}");
}

#[test]
fn what_would_get_lost_of_an_item_is_refused_by_its_place() {
    let call = |more: Value| {
        let mut call = json!({ "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}" });
        call.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        item(call)
    };
    let output = |output: Value| item(json!({ "type": "function_call_output", "call_id": "c", "output": output }));
    let cases = [
        (item(json!({ "role": "user", "content": "a", "name": "ann" })), "/input/1/name"),
        (item(json!({ "role": "user", "content": null })), "/input/1/content"),
        (item(json!({ "role": "tool", "content": "a" })), "/input/1/role"),
        (
            item(json!({ "role": "assistant", "content": [{ "type": "output_text", "text": "a", "odd": 1 }] })),
            "/input/1/content/0/odd",
        ),
        (
            item(json!({ "role": "assistant", "content": [{ "type": "refusal", "refusal": "a", "odd": 1 }] })),
            "/input/1/content/0/odd",
        ),
        (call(json!({ "extra_content": { "s": 1 } })), "/input/1/extra_content"),
        (call(json!({ "namespace": "n" })), "/input/1/namespace"),
        (call(json!({ "async": true })), "/input/1/async"),
        (call(json!({ "arguments": { "a": 1 } })), "/input/1/arguments"),
        (call(json!({ "provider_data": "{}" })), "/input/1/provider_data"),
        (call(json!({ "provider_data": { "provider": "p", "model": "m" } })), "/input/1/provider_data"),
        (
            output(json!([{ "type": "input_text", "text": "a" }, { "type": "input_file", "file_id": "f" }])),
            "/input/1/output/1",
        ),
        (output(json!([{ "type": "input_text", "text": "a", "odd": 1 }])), "/input/1/output/0/odd"),
        (output(json!({ "a": 1 })), "/input/1/output"),
        (item(json!({ "type": "custom_tool_call", "call_id": "c", "name": "f" })), "/input/1/input"),
        (item(json!({ "type": "custom_tool_call_output", "call_id": "c" })), "/input/1/output"),
        (item(json!({ "type": "reasoning", "summary": [], "odd": 1 })), "/input/1/odd"),
        (item(json!({ "type": "reasoning", "summary": [{ "type": "text", "text": "a" }] })), "/input/1/summary/0/type"),
        (item(json!({ "type": "reasoning", "summary": "a" })), "/input/1/summary"),
        (item(json!({ "type": "reasoning", "summary": [], "encrypted_content": 5 })), "/input/1/encrypted_content"),
        (item(json!({ "type": "compaction", "encrypted_content": "a" })), "/input/1/type"),
        (item(json!({ "type": "local_shell_call", "call_id": "c" })), "/input/1/type"),
        (said(json!({ "type": "input_text" })), "/input/0/content/1/text"),
        (said(json!({ "type": "input_text", "text": "a", "odd": 1 })), "/input/0/content/1/odd"),
        (said(json!({ "type": "input_image", "image_url": { "url": "a" } })), "/input/0/content/1/image_url"),
        (said(json!({ "type": "input_image", "image_url": "a", "file_id": "f" })), "/input/0/content/1/file_id"),
        (said(json!({ "type": "input_image", "image_url": "a", "odd": 1 })), "/input/0/content/1/odd"),
        (
            said(json!({ "type": "input_audio", "input_audio": { "data": "a", "format": "wav", "odd": 1 } })),
            "/input/0/content/1/input_audio/odd",
        ),
        (said(json!({ "type": "input_audio" })), "/input/0/content/1/input_audio"),
        (said(json!({ "type": "input_file", "file_data": "a", "file_id": "f" })), "/input/0/content/1/file_id"),
        (said(json!({ "type": "input_file", "file_data": "a", "detail": "high" })), "/input/0/content/1/detail"),
        (said(json!({ "type": "input_video", "video_url": "a" })), "/input/0/content/1/type"),
    ];
    for (body, place) in cases {
        let (at, detail) = refused(body);
        assert_eq!(at, place, "{detail}");
    }
}

#[test]
fn a_field_and_what_stands_for_it_are_not_sent_together() {
    for (mut body, name) in [
        (with("max_output_tokens", json!(20)), "max_tokens"),
        (with("max_output_tokens", json!(20)), "max_completion_tokens"),
        (with("reasoning", json!({ "effort": "low" })), "reasoning_effort"),
        (with("text", json!({ "verbosity": "low" })), "verbosity"),
        (with("text", json!({ "format": { "type": "json_object" } })), "response_format"),
    ] {
        body[name] = json!("x");
        assert_eq!(refused(body).0, format!("/{name}"));
    }
    assert_eq!(chat(with("max_tokens", json!(20)), &[], false)["max_tokens"], 20, "it is passed on by itself");
}

/// What clients get from this service, or send out of habit, and what says nothing.
#[test]
fn what_loses_nothing_is_taken() {
    let plain = chat(json!({ "model": "m", "input": "hello" }), &[], false);
    for (name, value) in [
        ("max_tool_calls", Value::Null),
        ("context_management", json!([])),
        ("context_management", Value::Null),
        ("include", json!([])),
        ("include", Value::Null),
        ("include", json!(["reasoning.encrypted_content"])),
        ("truncation", json!("disabled")),
        ("stream_options", json!({ "include_obfuscation": false, "include_usage": true })),
        ("stream_options", Value::Null),
        ("reasoning", json!({ "effort": null, "summary": null, "generate_summary": null })),
        ("reasoning", json!({ "summary": "auto", "context": "all_turns" })),
        ("text", json!({ "format": { "type": "text" } })),
        ("text", json!({})),
        ("tools", json!([])),
        ("tool_choice", json!("auto")),
        ("tool_choice", json!("none")),
        ("parallel_tool_calls", json!(true)),
        ("metadata", json!({ "a": "b" })),
        ("store", json!(false)),
        ("prompt", Value::Null),
        ("conversation", Value::Null),
    ] {
        assert_eq!(chat(with(name, value.clone()), &[], false), plain, "{name}: {value}");
    }
    for (name, value) in [
        ("user", json!("u")),
        ("safety_identifier", json!("s")),
        ("prompt_cache_key", json!("k")),
        ("prompt_cache_retention", json!("24h")),
        ("service_tier", json!("flex")),
        ("temperature", json!(0.5)),
        ("presence_penalty", json!(0.5)),
        ("odd", json!({ "a": 1 })),
    ] {
        assert_eq!(chat(with(name, value.clone()), &[], false)[name], value, "{name} is passed on");
    }
    let items = json!([
        { "type": "message", "id": "m", "status": "completed", "phase": "commentary", "created_by": "x", "role": "assistant",
          "content": [{ "type": "output_text", "text": "a", "annotations": [{ "type": "url_citation" }], "logprobs": [{}] }] },
        { "type": "function_call", "id": "f", "status": "completed", "call_id": "c", "name": "f", "arguments": "", "namespace": null, "async": false },
        { "type": "function_call_output", "id": "o", "status": "completed", "call_id": "c", "output": "b", "caller": null },
        { "type": "reasoning", "id": "r", "status": null, "summary": [{ "type": "summary_text", "text": "why" }], "content": null,
          "encrypted_content": "gAAAA" },
        { "type": "message", "role": "user", "content": [{ "type": "input_image", "image_url": "u", "file_id": null, "detail": "auto" }] },
        { "type": "message", "role": "user", "content": [{ "type": "input_file", "file_data": "d", "filename": "n", "file_id": null }] },
    ]);
    let sent = chat(with("input", items), &[], false)["messages"].clone();
    assert_eq!(
        sent,
        json!([
            { "role": "assistant", "content": "a", "tool_calls": [
                { "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } }] },
            { "role": "tool", "tool_call_id": "c", "content": "b" },
            { "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "u", "detail": "auto" } }] },
            { "role": "user", "content": [{ "type": "file", "file": { "file_data": "d", "filename": "n" } }] },
        ])
    );
}

#[test]
fn custom_tools_are_functions_with_one_text() {
    let grammar = json!({ "type": "grammar", "syntax": "lark", "definition": "start: \"a\"" });
    let tools = json!([
        { "type": "custom", "name": "patch", "description": "Changes files.", "format": grammar },
        { "type": "custom", "name": "say", "format": { "type": "text" } },
        { "type": "function", "name": "f" },
    ]);
    let mut body = with("tools", tools);
    body["tool_choice"] = json!({ "type": "custom", "name": "patch" });
    body["input"] = json!([
        { "role": "user", "content": "a" },
        { "type": "custom_tool_call", "id": "ctc_1", "status": "completed", "call_id": "c", "name": "patch", "input": "x\n\"y\"" },
        { "type": "custom_tool_call_output", "id": "o", "call_id": "c", "output": "done" },
    ]);
    let sent = chat(body.clone(), &[], false);
    let patch = &sent["tools"][0];
    assert_eq!((&patch["type"], &patch["function"]["name"]), (&json!("function"), &json!("patch")));
    let about = "Changes files.\n\nThe input must match this lark grammar:\nstart: \"a\"";
    assert_eq!(patch["function"]["description"], about);
    assert_eq!(patch["function"]["parameters"]["required"], json!(["input"]));
    assert_eq!(sent["tools"][1]["function"].get("description"), None);
    assert_eq!(sent["tool_choice"], json!({ "type": "function", "function": { "name": "patch" } }));
    assert_eq!(
        sent["messages"][1]["tool_calls"][0]["function"],
        json!({ "name": "patch", "arguments": "{\"input\":\"x\\n\\\"y\\\"\"}" })
    );
    assert_eq!(sent["messages"][2], json!({ "role": "tool", "tool_call_id": "c", "content": "done" }));
    body["tool_choice"] =
        json!({ "type": "allowed_tools", "mode": "required", "tools": [{ "type": "custom", "name": "say" }] });
    let sent = chat(body.clone(), &[], false);
    assert_eq!((sent["tools"].as_array().map(Vec::len), &sent["tool_choice"]), (Some(1), &json!("required")));
    for (choice, place) in [
        (
            json!({ "type": "allowed_tools", "tools": [{ "type": "custom", "name": "odd" }] }),
            "/tool_choice/tools/0/name",
        ),
        (
            json!({ "type": "allowed_tools", "tools": [{ "type": "mcp", "server_label": "s" }] }),
            "/tool_choice/tools/0/type",
        ),
        (json!({ "type": "allowed_tools", "mode": "none", "tools": [] }), "/tool_choice/mode"),
        (json!({ "type": "allowed_tools", "mode": "required", "tools": [] }), "/tool_choice"),
        (json!({ "type": "custom", "name": "patch", "odd": 1 }), "/tool_choice/odd"),
        (json!({ "type": "function" }), "/tool_choice/name"),
    ] {
        body["tool_choice"] = choice;
        assert_eq!(refused(body.clone()).0, place);
    }
}

/// Text after calls would stand between them and their outputs.
#[test]
fn text_after_calls_is_in_their_message() {
    let input = json!([
        { "role": "user", "content": "a" },
        { "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}" },
        { "role": "assistant", "content": "b" },
        { "type": "function_call_output", "call_id": "c", "output": "d" },
        { "role": "assistant", "content": "e" },
    ]);
    let sent = chat(with("input", input), &[], false)["messages"].clone();
    let roles: Vec<_> = sent.as_array().expect("a list").iter().map(|message| message["role"].clone()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant"]);
    assert_eq!((&sent[1]["content"], sent[1]["tool_calls"].as_array().map(Vec::len)), (&json!("b"), Some(1)));
}

/// What another provider added in an earlier turn was not said by the client.
#[test]
fn unknown_members_of_earlier_turns_are_left_out() {
    let context = [
        json!({ "type": "message", "role": "user", "content": "a" }),
        json!({ "type": "message", "role": "assistant", "odd": 1, "other": [2],
            "content": [{ "type": "output_text", "text": "b", "odd": { "c": 1 } }] }),
    ];
    let sent = chat(json!({ "model": "m", "input": "c" }), &context, false);
    assert_eq!(sent["messages"][1], json!({ "role": "assistant", "content": "b" }));
    let unknown = [json!({ "type": "web_search_call", "id": "w" })];
    let answer = chat(json!({ "model": "m", "input": "c" }), &unknown, false);
    assert_eq!(answer["at"], "/previous_response_id/type");
}
