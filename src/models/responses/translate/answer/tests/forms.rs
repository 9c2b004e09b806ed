//! The many forms in which providers say the same.

#![expect(clippy::needless_pass_by_value, reason = "callers write it where they need it")]

use std::collections::BTreeSet;

use super::*;

/// What is streamed in these parts of a message, and how it ends.
fn streamed(parts: &[Value], finish: &str) -> Value {
    streamed_of(Shape::default(), parts, finish)
}

fn streamed_of(shape: Shape, parts: &[Value], finish: &str) -> Value {
    let mut chunks: Vec<_> = parts.iter().map(|part| delta(part.clone(), None)).collect();
    chunks.push(delta(json!({}), Some(finish)));
    check(&events_of(shape, &[stream(&chunks, true).as_bytes()]))
}

fn whole(message: Value, finish: &str) -> Value {
    let mut answer = usage();
    answer["choices"] = json!([{ "index": 0, "message": message, "finish_reason": finish }]);
    whole_of(Shape::default(), answer)
}

fn call(arguments: Value) -> Value {
    json!({ "tool_calls": [{ "index": 0, "id": "c1", "type": "function", "function": { "name": "f", "arguments": arguments } }] })
}

#[test]
fn arguments_become_their_text() {
    for (arguments, text) in [
        (json!({ "place": "Oslo", "n": 1.5 }), r#"{"n":1.5,"place":"Oslo"}"#),
        (json!([1]), "[1]"),
        (json!({}), "{}"),
        (json!(""), "{}"),
        (Value::Null, "{}"),
        (json!("{\"a\": 1}"), "{\"a\": 1}"),
        (json!(" "), " {}"),
    ] {
        for response in
            [streamed(&[call(arguments.clone())], "tool_calls"), whole(call(arguments.clone()), "tool_calls")]
        {
            assert_eq!(response["output"][0]["arguments"], text, "{arguments}");
            assert_eq!(response["output"][0]["status"], "completed");
        }
    }
    let none = json!({ "tool_calls": [{ "id": "c1", "function": { "name": "f" } }] });
    assert_eq!(streamed(std::slice::from_ref(&none), "tool_calls")["output"][0]["arguments"], "{}");
    assert_eq!(whole(none, "tool_calls")["output"][0]["arguments"], "{}");
    // An empty object may be only the beginning.
    let rest = json!({ "tool_calls": [{ "index": 0, "function": { "arguments": "{\"a\":1}" } }] });
    assert_eq!(streamed(&[call(json!({})), rest], "tool_calls")["output"][0]["arguments"], "{\"a\":1}");
    // What was cut short is not made whole.
    let cut = streamed(&[call(json!("{\"a\":"))], "length");
    assert_eq!((&cut["output"][0]["arguments"], &cut["status"]), (&json!("{\"a\":"), &json!("incomplete")));
}

#[test]
fn calls_are_told_apart_without_ids_and_numbers() {
    let ids = |response: &Value| -> Vec<String> {
        let items = response["output"].as_array().expect("a list").iter();
        items.map(|item| item["call_id"].as_str().expect("an id").to_owned()).collect()
    };
    let named = |id: Value, arguments: &str| json!({ "id": id, "function": { "name": "f", "arguments": arguments } });
    for id in [Value::Null, json!(""), json!("same")] {
        let calls = json!({ "tool_calls": [named(id.clone(), "{}"), named(id.clone(), "{}")] });
        for response in [streamed(std::slice::from_ref(&calls), "tool_calls"), whole(calls, "tool_calls")] {
            let ids = ids(&response);
            assert_eq!(ids.len(), 2, "{response}");
            assert_ne!(ids[0], ids[1]);
            assert!(ids.iter().all(|id| !id.is_empty()));
        }
    }
    // One after the other, each whole, and none of them with a number.
    let one = |id: Value| json!({ "tool_calls": [named(id, "{\"a\":1}")] });
    assert_eq!(
        streamed(&[one(Value::Null), one(Value::Null)], "tool_calls")["output"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(streamed(&[one(json!("a")), one(json!("b"))], "tool_calls")["output"].as_array().map(Vec::len), Some(2));
    // In pieces, each of which says whose it is.
    let pieces =
        [json!({ "tool_calls": [named(json!("a"), "{\"a\"")] }), json!({ "tool_calls": [named(json!("a"), ":1}")] })];
    let response = streamed(&pieces, "tool_calls");
    assert_eq!((ids(&response).len(), &response["output"][0]["arguments"]), (1, &json!("{\"a\":1}")));
    // All with the same number, in one whole answer.
    let mut numbered = json!({ "tool_calls": [named(json!("a"), "{}"), named(json!("b"), "{}")] });
    for place in 0..2 {
        numbered["tool_calls"][place]["index"] = 0.into();
    }
    assert_eq!(ids(&whole(numbered, "tool_calls")), ["a", "b"]);
}

#[test]
fn a_call_without_a_name_is_of_the_only_tool() {
    let nameless =
        json!({ "tool_calls": [{ "index": 0, "id": "c1", "function": { "arguments": "{}" } }, { "index": 1 }] });
    let shape = Shape { only_tool: Some("weather".into()), ..Shape::default() };
    let response = streamed_of(shape, std::slice::from_ref(&nameless), "tool_calls");
    assert_eq!(
        (response["output"].as_array().map(Vec::len), &response["output"][0]["name"]),
        (Some(1), &json!("weather"))
    );
    assert_eq!(streamed(&[nameless], "tool_calls")["output"][0]["name"], "");
}

#[test]
fn the_older_form_of_a_call_is_one() {
    let pieces = [
        json!({ "function_call": { "name": "f", "arguments": "" } }),
        json!({ "function_call": { "arguments": "{\"a\"" } }),
        json!({ "function_call": { "arguments": ":1}" } }),
    ];
    let message = json!({ "content": null, "function_call": { "name": "f", "arguments": "{\"a\":1}" } });
    for response in [streamed(&pieces, "function_call"), whole(message, "function_call")] {
        let call = &response["output"][0];
        assert_eq!(
            (&call["type"], &call["name"], &call["arguments"]),
            (&json!("function_call"), &json!("f"), &json!("{\"a\":1}"))
        );
        assert!(call["call_id"].as_str().is_some_and(|id| id.starts_with("call_")));
        assert_eq!(response["status"], "completed");
    }
}

#[test]
fn custom_tools_are_given_their_text() {
    let shape = || Shape { custom: BTreeSet::from(["patch".into()]), ..Shape::default() };
    let call = |arguments: Value| json!({ "tool_calls": [{ "index": 0, "id": "c1", "function": { "name": "patch", "arguments": arguments } }] });
    let cases = [
        (json!("{\"input\": \"a\\n\\\"b\\\"\"}"), "a\n\"b\""),
        (json!({ "input": "a" }), "a"),
        (json!({ "patch": "a" }), "a"),
        (json!("\"a\""), "a"),
        (json!("plain text"), "plain text"),
        (json!("{\"a\":1,\"b\":2}"), "{\"a\":1,\"b\":2}"),
        (Value::Null, ""),
    ];
    for (arguments, input) in cases {
        let mut answer = usage();
        answer["choices"] = json!([{ "message": call(arguments.clone()), "finish_reason": "tool_calls" }]);
        for response in [streamed_of(shape(), &[call(arguments.clone())], "tool_calls"), whole_of(shape(), answer)] {
            let item = &response["output"][0];
            assert_eq!((&item["type"], &item["call_id"]), (&json!("custom_tool_call"), &json!("c1")));
            assert_eq!((&item["input"], item.get("arguments")), (&json!(input), None), "{arguments}");
            assert!(item["id"].as_str().is_some_and(|id| id.starts_with("ctc_")));
        }
    }
    let pieces = ["{\"inp", "ut\":\"ab", "c\"}"]
        .map(|piece| json!({ "tool_calls": [{ "index": 0, "function": { "arguments": piece } }] }));
    let mut parts = vec![call(json!(""))];
    parts.extend(pieces);
    assert_eq!(streamed_of(shape(), &parts, "tool_calls")["output"][0]["input"], "abc");
    let cut = streamed_of(shape(), &[call(json!("{\"input\":\"ab"))], "length");
    assert_eq!((&cut["output"][0]["input"], &cut["output"][0]["status"]), (&json!("ab"), &json!("incomplete")));
    // A provider that knows such tools answers with one.
    let own = json!({ "tool_calls": [{ "id": "c1", "type": "custom", "custom": { "name": "patch", "input": "{\"input\":1}" } }] });
    assert_eq!(streamed_of(shape(), &[own], "tool_calls")["output"][0]["input"], "{\"input\":1}");
}

#[test]
fn halves_of_characters_are_joined() {
    let raw = |deltas: &[&str]| {
        let chunk = |delta: &&str| ["data: {\"choices\":[{\"delta\":", delta, ",\"logprobs\":NaN}]}\n\n"].concat();
        let chunks: String = deltas.iter().map(chunk).collect();
        check(&events(&[chunks.as_bytes(), b"data: [DONE]\n\n"]))["output"].clone()
    };
    let text = |output: &Value| output[0]["content"][0]["text"].clone();
    assert_eq!(text(&raw(&[r#"{"content":"a\ud83d"}"#, r#"{"content":"\ude00b"}"#])), "a😀b");
    assert_eq!(text(&raw(&[r#"{"content":"\ud83d"}"#, r#"{"content":""}"#, r#"{"content":"x"}"#])), "\u{fffd}x");
    assert_eq!(text(&raw(&[r#"{"content":"\ude00"}"#])), "\u{fffd}");
    assert_eq!(text(&raw(&[r#"{"content":"a\ud83d"}"#])), "a\u{fffd}");
    assert_eq!(text(&raw(&[r#"{"reasoning":"\ud83d"}"#, r#"{"reasoning":"\ude00"}"#])), "😀");
    let refusal = raw(&[r#"{"refusal":"\ud83d"}"#, r#"{"refusal":"\ude00"}"#]);
    assert_eq!(refusal[0]["content"][0]["refusal"], "😀");
    let call = raw(&[
        r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{\"a\":\"\ud83d"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"\ude00\"}"}}]}"#,
        r#"{"tool_calls":[{"index":1,"function":{"name":"f","arguments":{"a":"\ud83d","b":NaN}}}]}"#,
    ]);
    assert_eq!(
        (&call[0]["arguments"], &call[1]["arguments"]),
        (&json!("{\"a\":\"😀\"}"), &json!("{\"a\":\"\u{fffd}\",\"b\":null}"))
    );
}

#[test]
fn one_choice_is_followed() {
    let chunk = |index: u64, text: &str, finish: Option<&str>| json!({ "choices": [{ "index": index, "delta": { "content": text }, "finish_reason": finish }] });
    let chunks = [chunk(0, "a", None), chunk(1, "x", None), chunk(0, "b", Some("stop")), chunk(1, "y", Some("length"))];
    let response = check(&events(&[stream(&chunks, true).as_bytes()]));
    assert_eq!(
        (&response["output"][0]["content"][0]["text"], &response["status"]),
        (&json!("ab"), &json!("completed"))
    );
    let mut answer = usage();
    answer["choices"] = json!([
        { "index": 1, "message": { "content": "x" }, "finish_reason": "length" },
        { "index": 0, "message": { "content": "a" }, "finish_reason": "stop" },
    ]);
    let response = whole_of(Shape::default(), answer);
    assert_eq!((&response["output"][0]["content"][0]["text"], &response["status"]), (&json!("a"), &json!("completed")));
    // A whole message where a part of one is due.
    let chunk = json!({ "choices": [{ "message": { "content": "a" }, "finish_reason": "stop" }] });
    let response = check(&events(&[stream(&[chunk], true).as_bytes()]));
    assert_eq!(response["output"][0]["content"][0]["text"], "a");
}

#[test]
fn answers_end_for_a_reason() {
    let cases = [
        ("stop", "completed", Value::Null),
        ("tool_calls", "completed", Value::Null),
        ("function_call", "completed", Value::Null),
        ("end_turn", "completed", Value::Null),
        ("odd", "completed", Value::Null),
        ("length", "incomplete", json!("max_output_tokens")),
        ("MAX_TOKENS", "incomplete", json!("max_output_tokens")),
        ("content_filter", "incomplete", json!("content_filter")),
        ("SAFETY", "incomplete", json!("content_filter")),
        ("error", "failed", Value::Null),
    ];
    for (reason, status, why) in cases {
        for response in [streamed(&[json!({ "content": "a" })], reason), whole(json!({ "content": "a" }), reason)] {
            assert_eq!(
                (&response["status"], &response["incomplete_details"]["reason"]),
                (&json!(status), &why),
                "{reason}"
            );
            assert_eq!(response["error"].is_object(), status == "failed");
        }
    }
    let failed = json!({ "choices": [{ "delta": { "content": "a" }, "finish_reason": "error", "error": { "message": "it is ill" } }] });
    let response = check(&events(&[stream(&[failed], true).as_bytes()]));
    assert_eq!(response["error"]["message"], "it is ill");
}

#[test]
fn whole_numbers_may_have_a_point() {
    let mut chunk = usage();
    chunk["usage"] = json!({ "prompt_tokens": 10.0, "completion_tokens": 5.0, "total_tokens": 1.5e1,
        "prompt_tokens_details": { "cached_tokens": 3.0 }, "completion_tokens_details": { "reasoning_tokens": 0.5 } });
    let response = check(&events(&[stream(&[delta(json!({ "content": "a" }), Some("stop")), chunk], true).as_bytes()]));
    let usage = json!({ "input_tokens": 10, "output_tokens": 5, "total_tokens": 15,
        "input_tokens_details": { "cached_tokens": 3 }, "output_tokens_details": { "reasoning_tokens": 0 } });
    assert_eq!(response["usage"], usage);
}
