//! What goes back to the provider that wrote it: how it is shown, kept, and found again.

#![expect(clippy::needless_pass_by_value, reason = "callers write it where they need it")]

use std::sync::Arc;

use super::super::super::request::to_chat;
use super::*;
use crate::models::responses::seal::{KEY_BYTES, Seal, key};
use crate::models::{Bound, Members};

fn shape() -> Shape {
    let bound = Arc::new(Bound::default());
    bound.asked(&"gem".into(), &"gem-1".into());
    Shape { bound, ..Shape::default() }
}

fn sealing() -> Shape {
    let seal = Seal::new(key(&[7; KEY_BYTES]).expect("a key"), 1);
    Shape { is_sealed: true, seal: Some(seal), ..shape() }
}

fn streamed(shape: Shape, parts: &[Value]) -> Value {
    let mut chunks: Vec<_> = parts.iter().map(|part| delta(part.clone(), None)).collect();
    chunks.push(delta(json!({}), Some("stop")));
    check(&events_of(shape, &[stream(&chunks, true).as_bytes()]))
}

fn whole(shape: Shape, message: Value) -> Value {
    whole_of(shape, json!({ "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }] }))
}

/// The messages of the next turn, and what goes with them, when the client sends the
/// items back.
fn sent_back(items: &Value) -> (Value, Vec<Members>) {
    let mut input = vec![json!({ "role": "user", "content": "a" })];
    input.extend(items.as_array().expect("items").iter().cloned());
    let calls = items.as_array().expect("items").iter().filter(|item| item["call_id"].is_string());
    input
        .extend(calls.map(|call| json!({ "type": "function_call_output", "call_id": call["call_id"], "output": "o" })));
    let Value::Object(fields) = json!({ "model": "m", "input": input }) else { panic!("an object") };
    let create = Create::read(CreateBody(fields)).expect("a request");
    let seal = sealing().seal.expect("a seal");
    let chat = to_chat(&create, &[], &create.input, false, &|sealed| seal.open(sealed)).expect("a chat");
    (chat.fields["messages"].clone(), chat.members)
}

#[track_caller]
fn members(items: &Value) -> Value {
    let (messages, members) = sent_back(items);
    assert_eq!(messages[1]["role"], "assistant");
    assert_eq!(members.len(), 1, "{members:?}");
    assert_eq!((&*members[0].provider, members[0].message), ("gem", 1));
    let calls: Map<String, Value> =
        members[0].calls.iter().map(|(place, fields)| (place.to_string(), fields.clone().into())).collect();
    json!({ "message": members[0].fields, "calls": calls })
}

fn call(index: u64, more: Value) -> Value {
    let mut call = json!({ "index": index, "id": format!("c{index}"), "type": "function",
        "function": { "name": "f", "arguments": "{}" } });
    call.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    json!({ "tool_calls": [call] })
}

#[test]
fn a_turn_of_an_agent_comes_back_as_it_was() {
    let signed = json!({ "extra_content": { "google": { "thought_signature": "sig" } } });
    let parts = [
        json!({ "role": "assistant", "reasoning_content": "Let me", "content": "" }),
        json!({ "reasoning_content": " think." }),
        json!({ "content": "I look." }),
        call(0, signed.clone()),
        call(1, json!({})),
        json!({ "signature": "ab" }),
        json!({ "signature": "cd", "odd": { "a": 1 } }),
    ];
    let message = json!({
        "role": "assistant", "reasoning_content": "Let me think.", "content": "I look.", "signature": "abcd",
        "odd": { "a": 1 }, "tool_calls": [call(0, signed.clone())["tool_calls"][0], call(1, json!({}))["tool_calls"][0]],
    });
    let response = streamed(shape(), &parts);
    assert_eq!(response, whole(shape(), message.clone()), "streamed or not");
    assert_eq!(response["model"], "gem-1", "who answers is told at the end");
    let output = &response["output"];
    let kinds: Vec<_> = output.as_array().expect("items").iter().map(|item| item["type"].clone()).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call", "function_call"]);
    assert_eq!(output[0]["content"], json!([{ "type": "reasoning_text", "text": "Let me think." }]));
    let wanted = json!({
        "message": { "reasoning_content": "Let me think.", "signature": "abcd", "odd": { "a": 1 } },
        "calls": { "0": signed },
    });
    assert_eq!(members(output), wanted);
    let (messages, _) = sent_back(output);
    let text = messages.to_string();
    assert!(!text.contains("think") && !text.contains("sig") && !text.contains("odd"), "for its writer only: {text}");
    assert_eq!(messages[1]["tool_calls"][0]["id"], "c0");
    // A client that keeps only calls still has their members and those of the message.
    let kept = json!([output[2], output[3]]);
    let wanted = json!({ "message": { "signature": "abcd", "odd": { "a": 1 } }, "calls": { "0": signed } });
    assert_eq!(members(&kept), wanted);
    // The same in sealed form, of which clients keep what the format names.
    let sealed = |response: Value| {
        let mut items = response["output"].clone();
        for item in items.as_array_mut().expect("items") {
            item.as_object_mut().expect("an item").remove("provider_data");
        }
        items
    };
    let wanted = json!({
        "message": { "reasoning_content": "Let me think.", "signature": "abcd", "odd": { "a": 1 } },
        "calls": { "0": signed },
    });
    assert_eq!(members(&sealed(streamed(sealing(), &parts))), wanted);
    assert_eq!(members(&sealed(whole(sealing(), message))), wanted);
}

#[test]
fn reasoning_has_many_names() {
    for name in ["reasoning_content", "reasoning", "reasoning_text", "thinking"] {
        let parts = [json!({ name: "ha" }), json!({ name: "ha" }), json!({ "content": "a" })];
        let response = streamed(shape(), &parts);
        assert_eq!(response, whole(shape(), json!({ name: "haha", "content": "a" })));
        assert_eq!(response["output"][0]["content"][0]["text"], "haha");
        assert_eq!(members(&response["output"])["message"], json!({ name: "haha" }));
    }
    // The same twice is shown once, and goes back twice.
    let both = |text: &str| json!({ "reasoning": text, "reasoning_content": text });
    let response = streamed(shape(), &[both("a"), both("b"), json!({ "content": "c" })]);
    let message = json!({ "reasoning": "ab", "reasoning_content": "ab", "content": "c" });
    assert_eq!(response, whole(shape(), message));
    assert_eq!(members(&response["output"])["message"], both("ab"));
    assert_eq!(response.to_string().matches("\"ab\"").count(), 1, "{response}");
}

#[test]
fn blocks_of_reasoning_stay_whole() {
    let block = |text: &str| json!({ "reasoning_details": [{ "type": "reasoning.text", "index": 0, "text": text }] });
    let signed = json!({ "reasoning_details": [{ "type": "reasoning.text", "index": 0, "signature": "s" }] });
    let data = json!({ "type": "reasoning.encrypted", "data": "d", "id": "c0" });
    let details = json!([{ "type": "reasoning.text", "index": 0, "text": "ab", "signature": "s" }, data]);
    let parts = [block("a"), block("b"), signed, call(0, json!({})), json!({ "reasoning_details": [data] })];
    let message = json!({ "reasoning_details": details, "tool_calls": call(0, json!({}))["tool_calls"] });
    for shape in [shape, sealing] {
        let response = streamed(shape(), &parts);
        let also = whole(shape(), message.clone());
        assert_eq!(response["output"][0]["content"][0]["text"], "ab");
        assert_eq!(response["output"].as_array().map(Vec::len), Some(2));
        for response in [response, also] {
            assert_eq!(members(&response["output"])["message"], json!({ "reasoning_details": details }));
        }
    }
    // Without any text there is nothing to show.
    let response = streamed(shape(), &[call(0, json!({})), json!({ "reasoning_details": [data] })]);
    assert_eq!(response["output"].as_array().map(Vec::len), Some(1));
    assert_eq!(members(&response["output"])["message"], json!({ "reasoning_details": [data] }));
    // Unless it is to be sealed.
    let response = streamed(sealing(), &[call(0, json!({ "extra": 1 })), json!({ "reasoning_details": [data] })]);
    let mut items = response["output"].clone();
    assert_eq!((items.as_array().map(Vec::len), &items[1]["type"]), (Some(2), &json!("reasoning")));
    items[0].as_object_mut().expect("an item").remove("provider_data");
    items[1].as_object_mut().expect("an item").remove("provider_data");
    let wanted = json!({ "message": { "reasoning_details": [data] }, "calls": { "0": { "extra": 1 } } });
    assert_eq!(members(&items), wanted);
}

#[test]
fn content_with_thoughts_goes_back_as_it_was() {
    let thinking = |text: &str| json!({ "type": "thinking", "thinking": [{ "type": "text", "text": text }] });
    let parts = [
        json!({ "content": [thinking("Let")] }),
        json!({ "content": [thinking(" me.")] }),
        json!({ "content": "So " }),
        json!({ "content": "be it." }),
    ];
    let content = json!([thinking("Let me."), { "type": "text", "text": "So be it." }]);
    for response in [streamed(shape(), &parts), whole(shape(), json!({ "content": content }))] {
        assert_eq!(response["output"][0]["content"][0]["text"], "Let me.");
        assert_eq!(response["output"][1]["content"][0]["text"], "So be it.");
        assert_eq!(members(&response["output"])["message"], json!({ "content": content }));
        assert_eq!(sent_back(&response["output"]).0[1]["content"], "So be it.", "to everybody else");
    }
    // A list that is only text is a text.
    let response = streamed(
        shape(),
        &[json!({ "content": [{ "type": "text", "text": "a" }, { "type": "refusal", "refusal": "b" }] })],
    );
    let said = &response["output"][0]["content"];
    assert_eq!((&said[0]["text"], &said[1]["refusal"]), (&json!("a"), &json!("b")));
    let plain =
        streamed(shape(), &[json!({ "content": [{ "type": "text", "text": "a" }] }), json!({ "content": "b" })]);
    assert_eq!(plain["output"][0]["content"][0]["text"], "ab");
    assert!(plain["output"][0].get("provider_data").is_none(), "{plain}");
}

#[test]
fn a_summary_is_shown_as_one() {
    let asked = || Shape { is_summary: true, ..shape() };
    let response = streamed(
        asked(),
        &[json!({ "reasoning_content": "a" }), json!({ "reasoning_content": "b" }), json!({ "content": "c" })],
    );
    assert_eq!(response, whole(asked(), json!({ "reasoning_content": "ab", "content": "c" })));
    let item = &response["output"][0];
    assert_eq!((&item["summary"], item.get("content")), (&json!([{ "type": "summary_text", "text": "ab" }]), None));
    assert_eq!(members(&response["output"])["message"], json!({ "reasoning_content": "ab" }));
}

#[test]
fn what_says_nothing_is_not_kept() {
    let nothing = json!({ "content": "a", "reasoning_content": "", "reasoning": null, "annotations": [], "audio": null,
        "function_call": null, "tool_calls": [], "refusal": null, "extra": {} });
    for response in [streamed(shape(), std::slice::from_ref(&nothing)), whole(shape(), nothing)] {
        assert_eq!(response["output"].as_array().map(Vec::len), Some(1));
        assert!(response["output"][0].get("provider_data").is_none(), "{response}");
        assert_eq!(sent_back(&response["output"]).1, []);
    }
    // The built-in model has nobody to give anything back to.
    let response = whole(Shape::default(), json!({ "content": "a", "reasoning_content": "b", "odd": 1 }));
    assert!(!response.to_string().contains("provider_data"), "{response}");
}

#[test]
fn what_is_lost_half_way_is_kept_as_far_as_it_came() {
    let chunks = [
        delta(json!({ "reasoning_content": "why" }), None),
        delta(json!({ "content": "a" }), None),
        json!({ "error": { "message": "it is ill" } }),
    ];
    let response = check(&events_of(shape(), &[stream(&chunks, true).as_bytes()]));
    let output = &response["output"];
    assert_eq!((&output[0]["status"], &output[1]["status"]), (&json!("completed"), &json!("incomplete")));
    assert_eq!(members(output)["message"], json!({ "reasoning_content": "why" }));
}
