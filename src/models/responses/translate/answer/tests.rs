//! What comes of the answers of chat providers.

use async_openai::types::responses::{Response, ResponseStreamEvent};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::super::events::{Events, Source, replay};
use super::super::super::id::ResponseId;
use super::super::super::object::{Event, Head};
use super::super::super::request::{Create, CreateBody};
use super::super::Shape;
use super::ChatEvents;
use crate::clock::Timestamp;

mod bound;
mod forms;
mod odd;

fn head() -> Head {
    let Value::Object(fields) = json!({ "input": "a", "metadata": { "a": "b" }, "temperature": 0.5 }) else {
        panic!("an object")
    };
    let create = Create::read(CreateBody(fields)).expect("it is fine");
    Head::new(ResponseId(uuid::Uuid::nil()), &create, "m-1", Timestamp::from_micros(1_700_000_000_000_000))
}

fn events(pieces: &[&[u8]]) -> Vec<Event> {
    events_of(Shape::default(), pieces)
}

fn events_of(shape: Shape, pieces: &[&[u8]]) -> Vec<Event> {
    let mut events = Events::new(Source::Chat(Box::new(ChatEvents::new(head(), shape, 0))));
    let mut out = Vec::new();
    events.begin(&mut out);
    for piece in pieces {
        events.push(piece, &mut out);
    }
    events.end(&mut out);
    out
}

fn stream(chunks: &[Value], done: bool) -> String {
    let frames = chunks.iter().map(|chunk| format!("data: {chunk}\n\n"));
    frames.chain(done.then(|| "data: [DONE]\n\n".into())).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "callers write it where they need it")]
fn delta(delta: Value, finish: Option<&str>) -> Value {
    json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] })
}

fn usage() -> Value {
    json!({ "choices": [], "usage": {
        "prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12,
        "prompt_tokens_details": { "cached_tokens": 3 }, "completion_tokens_details": { "reasoning_tokens": 1 },
    } })
}

/// One created, consecutive numbers, one end, and each is what the SDKs expect.
fn check(events: &[Event]) -> Value {
    for (place, event) in events.iter().enumerate() {
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        assert_eq!(event.seq, i64::try_from(place).expect("small"));
        assert_eq!((&data["sequence_number"], data["type"].as_str()), (&json!(event.seq), Some(event.kind.as_str())));
        assert_eq!(event.kind == "response.created", place == 0, "{events:?}");
        let last = ["response.completed", "response.incomplete", "response.failed"].contains(&event.kind.as_str());
        assert_eq!(last, place + 1 == events.len(), "{events:?}");
        let typed = serde_json::from_value::<ResponseStreamEvent>(data.clone());
        assert!(typed.is_ok(), "{}: {:?}", event.data, typed.err());
    }
    fold(events)
}

/// The response as a client's library puts it together from its events, which
/// must be the one that the last event shows.
fn fold(events: &[Event]) -> Value {
    let mut output: Vec<Value> = Vec::new();
    let mut last = Value::Null;
    for event in events {
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        let place = usize::try_from(data["output_index"].as_u64().unwrap_or(0)).expect("small");
        let index = usize::try_from(data["content_index"].as_u64().unwrap_or(0)).expect("small");
        let summary = usize::try_from(data["summary_index"].as_u64().unwrap_or(0)).expect("small");
        let push = |text: &mut Value| {
            *text = format!("{}{}", text.as_str().expect("text"), data["delta"].as_str().expect("text")).into();
        };
        match event.kind.as_str() {
            "response.output_item.added" => {
                assert_eq!(place, output.len(), "items come in their order");
                output.push(data["item"].clone());
            }
            "response.content_part.added" => {
                let content = output[place]["content"].as_array_mut().expect("content");
                assert_eq!(index, content.len(), "parts come in their order");
                content.push(data["part"].clone());
            }
            "response.reasoning_summary_part.added" => {
                output[place]["summary"].as_array_mut().expect("a summary").push(data["part"].clone());
            }
            "response.reasoning_summary_text.delta" => push(&mut output[place]["summary"][summary]["text"]),
            "response.reasoning_summary_text.done" => {
                assert_eq!(output[place]["summary"][summary]["text"], data["text"]);
            }
            "response.output_text.delta" | "response.reasoning_text.delta" => {
                push(&mut output[place]["content"][index]["text"]);
                let logprobs = data["logprobs"].as_array().cloned().unwrap_or_default();
                if let Some(Value::Array(all)) = output[place]["content"][index].get_mut("logprobs") {
                    all.extend(logprobs);
                }
            }
            "response.custom_tool_call_input.delta" => push(&mut output[place]["input"]),
            "response.custom_tool_call_input.done" => assert_eq!(output[place]["input"], data["input"]),
            "response.refusal.delta" => push(&mut output[place]["content"][index]["refusal"]),
            "response.function_call_arguments.delta" => push(&mut output[place]["arguments"]),
            "response.output_text.done" | "response.reasoning_text.done" => {
                assert_eq!(output[place]["content"][index]["text"], data["text"]);
            }
            "response.function_call_arguments.done" => assert_eq!(output[place]["arguments"], data["arguments"]),
            "response.output_item.done" => {
                let mut added = output[place].clone();
                for late in ["status", "provider_data", "encrypted_content"] {
                    added[late] = data["item"][late].clone();
                }
                let said = |mut item: Value| {
                    item.as_object_mut().expect("an item").retain(|_, value| !value.is_null());
                    item
                };
                assert_eq!(said(added), said(data["item"].clone()), "the deltas add up");
                output[place] = data["item"].clone();
            }
            _ => last = data["response"].clone(),
        }
    }
    let typed = serde_json::from_value::<Response>(last.clone());
    assert!(typed.is_ok(), "{last}: {:?}", typed.err());
    if last["status"] == "completed" {
        assert_eq!(last["output"], Value::Array(output), "the events tell the response");
    }
    last
}

fn compact(events: &[Event]) -> Vec<String> {
    let short = |event: &Event| {
        let mut data: Map<String, Value> = serde_json::from_str(&event.data).expect("JSON");
        if event.kind == "response.created" || event.kind == "response.in_progress" {
            data.remove("response");
        }
        for known in ["type", "sequence_number"] {
            data.remove(known);
        }
        format!("{} {} {}", event.seq, event.kind, Value::Object(data))
    };
    events.iter().map(short).collect()
}

#[test]
fn streams_become_events() {
    let text = [
        delta(json!({ "role": "assistant", "content": "" }), None),
        delta(json!({ "content": "Hel" }), None),
        delta(json!({ "content": "lo" }), None),
        delta(json!({}), Some("stop")),
        usage(),
    ];
    let calls = [
        delta(json!({ "content": "let me see" }), None),
        delta(
            json!({ "tool_calls": [{ "index": 0, "id": "c1", "function": { "name": "weather", "arguments": "" } }] }),
            None,
        ),
        delta(json!({ "tool_calls": [{ "index": 0, "function": { "arguments": "{\"a\"" } }] }), None),
        delta(
            json!({ "tool_calls": [{ "index": 1, "id": "c2", "function": { "name": "other", "arguments": "{}" } }] }),
            None,
        ),
        delta(json!({ "tool_calls": [{ "index": 0, "function": { "arguments": ":1}" } }] }), None),
        delta(json!({}), Some("tool_calls")),
    ];
    let refusal = [
        delta(json!({ "content": "well" }), None),
        delta(json!({ "refusal": "no" }), None),
        delta(json!({}), Some("stop")),
    ];
    let cases = [
        ("text", stream(&text, true)),
        ("calls", stream(&calls, true)),
        ("refusal", stream(&refusal, true)),
        ("cut off by the limit", stream(&[delta(json!({ "content": "Hel" }), Some("length"))], true)),
        ("filtered", stream(&[delta(json!({}), Some("content_filter"))], true)),
        ("broken off", stream(&[delta(json!({ "content": "Hel" }), None)], false)),
        (
            "an error",
            stream(&[delta(json!({ "content": "Hel" }), None), json!({ "error": { "message": "it is ill" } })], true),
        ),
        ("no JSON", "data: <html>\n\n".into()),
        ("nothing", String::new()),
        ("no reason", stream(&[delta(json!({ "content": "Hel" }), None)], true)),
        (
            "after the end",
            stream(&[delta(json!({ "content": "a" }), Some("stop"))], true)
                + "data: {\"error\":{}}\n\ndata: [DONE]\n\n",
        ),
    ];
    let all: Vec<_> = cases
        .iter()
        .map(|(name, bytes)| {
            let events = events(&[bytes.as_bytes()]);
            check(&events);
            json!({ "case": name, "events": compact(&events) })
        })
        .collect();
    insta::assert_json_snapshot!(all);
}

#[test]
fn providers_that_do_not_number_their_calls_are_understood() {
    let call = |id: &str| json!({ "index": 0, "id": id, "function": { "name": "weather", "arguments": "{}" } });
    let same_number = [
        delta(json!({ "tool_calls": [call("c1")] }), None),
        delta(json!({ "tool_calls": [call("c2")] }), Some("stop")),
    ];
    let response = check(&events(&[stream(&same_number, true).as_bytes()]));
    assert_eq!(response["output"].as_array().map(Vec::len), Some(2), "{response}");
    let late_name = [
        delta(json!({ "tool_calls": [{ "index": 0, "id": "c1", "function": { "arguments": "{" } }] }), None),
        delta(
            json!({ "tool_calls": [{ "index": 0, "function": { "name": "weather", "arguments": "}" } }] }),
            Some("tool_calls"),
        ),
    ];
    let response = check(&events(&[stream(&late_name, true).as_bytes()]));
    let call = &response["output"][0];
    assert_eq!((&call["name"], &call["arguments"], &call["call_id"]), (&json!("weather"), &json!("{}"), &json!("c1")));
    let parts = [delta(json!({ "content": [{ "type": "text", "text": "in parts" }] }), Some("stop"))];
    let response = check(&events(&[stream(&parts, true).as_bytes()]));
    assert_eq!(response["output"][0]["content"][0]["text"], "in parts");
}

/// The response of a whole answer, whose events are checked too, also when they are
/// made anew.
fn whole_of(shape: Shape, answer: Value) -> Value {
    let (mut chat, mut out) = (ChatEvents::new(head(), shape, 0), Vec::new());
    chat.begin(&mut out);
    chat.answer(answer, &mut out);
    check(&out);
    let finished = chat.finished().expect("it has ended").clone();
    check(&replay(&head(), &finished, 0));
    finished.object
}

#[test]
fn a_whole_answer_becomes_the_response_that_its_stream_would() {
    let whole = |message: Value, finish: &str, logprobs: Value| {
        let mut answer = usage();
        answer["choices"] = json!([{ "index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs }]);
        whole_of(Shape::default(), answer)
    };
    let logprobs = json!({ "content": [{ "token": "H", "logprob": -0.5, "bytes": [72], "top_logprobs": [] }] });
    let call = json!({ "id": "c1", "type": "function", "function": { "name": "weather", "arguments": "{}" } });
    let all = [
        whole(json!({ "role": "assistant", "content": "Hello" }), "stop", logprobs),
        whole(json!({ "role": "assistant", "content": null, "tool_calls": [call, call] }), "tool_calls", Value::Null),
        whole(json!({ "role": "assistant", "content": null, "refusal": "no" }), "stop", Value::Null),
        whole(json!({ "role": "assistant", "content": "Hel" }), "length", Value::Null),
        whole(json!({ "role": "assistant", "content": "" }), "content_filter", Value::Null),
    ];
    insta::assert_json_snapshot!(all);
    let (mut chat, mut out) = (ChatEvents::new(head(), Shape::default(), 0), Vec::new());
    chat.answer(json!({ "odd": true }), &mut out);
    assert_eq!(chat.finished().map(|finished| finished.status.name()), Some("failed"));
}

/// Reasoning and members that nobody knows, in some of their forms.
fn any_thought() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec!["reasoning_content", "reasoning", "signature", "extra"]);
    let block = prop::sample::select(vec!["reasoning_details", "thinking_blocks", "content"]);
    prop_oneof![
        (name, "[a-z]{0,3}").prop_map(|(name, text)| delta(json!({ name: text }), None)),
        (block, "[a-z]{0,3}")
            .prop_map(|(name, text)| delta(json!({ name: [{ "type": "thinking", "thinking": text }] }), None)),
        Just(delta(json!({ "tool_calls": [{ "index": 1, "extra_content": { "s": "x" } }] }), None)),
        Just(delta(json!({ "function_call": { "name": "f", "arguments": { "a": [1] } } }), None)),
    ]
}

fn any_chunk() -> impl Strategy<Value = Value> {
    let text = prop_oneof![Just(String::new()), "[a-zé\"\\\\\n]{1,6}"];
    let call = (0..3_u64, prop::option::of("[xyz]"), prop::option::of("[ab]{1,2}"), text.clone()).prop_map(|(index, id, name, arguments)| {
        delta(json!({ "tool_calls": [{ "index": index, "id": id, "function": { "name": name, "arguments": arguments } }] }), None)
    });
    prop_oneof![
        4 => text.clone().prop_map(|text| delta(json!({ "content": text }), None)),
        1 => text.prop_map(|text| delta(json!({ "refusal": text }), None)),
        3 => call,
        1 => prop_oneof![Just("stop"), Just("length"), Just("tool_calls"), Just("odd")].prop_map(|why| delta(json!({}), Some(why))),
        1 => Just(usage()),
        1 => Just(json!({ "choices": [] })),
        1 => Just(json!({ "choices": [{ "delta": null, "finish_reason": 5 }], "usage": "odd" })),
        1 => Just(json!([])),
        2 => any_thought(),
        1 => Just(json!({ "error": { "message": "it is ill" } })),
    ]
}

proptest! {
    #[test]
    fn any_stream_split_anywhere_gives_events_in_order(
        chunks in prop::collection::vec(any_chunk(), 0..12), done: bool, cut in 0..2000_usize, mut cuts in prop::collection::vec(0..2000_usize, 0..8),
    ) {
        let text = stream(&chunks, done);
        let bytes = &text.as_bytes()[..text.len().min(cut.max(1000))];
        let whole = events(&[bytes]);
        check(&whole);
        cuts.sort_unstable();
        let mut begin = 0;
        let mut pieces: Vec<&[u8]> = Vec::new();
        for end in cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([bytes.len()]) {
            pieces.push(&bytes[begin..end]);
            begin = end;
        }
        prop_assert_eq!(events(&pieces), whole);
    }

    #[test]
    fn no_bytes_bring_it_down(bytes: Vec<u8>) {
        check(&events(&[&bytes]));
        check(&events(&[b"data: ", &bytes, b"\n\n"]));
    }
}
