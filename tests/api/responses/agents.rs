//! What a provider writes beside what the format names goes back to it on the next
//! turn, and to no other.

use serde_json::{Value, json};

use super::{Bench, MODEL, id, own_question, question, text, with};
use crate::support::upstream::{Script, Upstream};

fn signed() -> Value {
    json!({ "google": { "thought_signature": "sig-1" } })
}

fn call(more: Value) -> Value {
    with(json!({ "id": "c1", "type": "function", "function": { "name": "weather", "arguments": "{}" } }), more)
}

/// An answer of an agent: what it thought, and a call with a signature.
fn whole() -> Script {
    let message = json!({ "role": "assistant", "content": null, "reasoning_content": "Let me see.", "odd": { "a": 1 },
        "tool_calls": [call(json!({ "extra_content": signed() }))] });
    let answer = json!({ "id": "c", "object": "chat.completion", "model": MODEL,
        "choices": [{ "index": 0, "message": message, "finish_reason": "tool_calls" }],
        "usage": { "prompt_tokens": 10.0, "completion_tokens": 5, "total_tokens": 15 } });
    Script::new().body("application/json", &answer.to_string())
}

fn events(deltas: &[Value]) -> Script {
    let chunk = |delta: &Value, finish: Value| {
        format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] }))
    };
    let mut body: String = deltas.iter().map(|delta| chunk(delta, Value::Null)).collect();
    body.push_str(&chunk(&json!({}), json!("tool_calls")));
    body.push_str(
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n",
    );
    Script::new().body("text/event-stream", &body)
}

/// The same in pieces.
fn streamed() -> Script {
    events(&[
        json!({ "role": "assistant", "content": null, "reasoning_content": "Let me" }),
        json!({ "reasoning_content": " see." }),
        json!({ "tool_calls": [with(call(json!({ "index": 0 })), json!({ "extra_content": signed() }))] }),
        json!({ "odd": { "a": 1 } }),
    ])
}

fn ask(bench: &Bench, body: &Value, stream: bool) -> Value {
    if !stream {
        return bench.create(body);
    }
    let events = bench.open("POST", "/v1/responses", &with(body.clone(), json!({ "stream": true })));
    events.last().expect("an end")["response"].take()
}

/// The next turn, by what is stored here or by what the client has kept.
fn next(model: &str, first: &Value, by_items: bool) -> Value {
    let output = json!({ "type": "function_call_output", "call_id": "c1", "output": "rain" });
    if !by_items {
        return json!({ "model": model, "previous_response_id": first["id"], "input": [output] });
    }
    let mut input = vec![json!({ "role": "user", "content": "Say hello." })];
    input.extend(first["output"].as_array().expect("a list").iter().cloned());
    input.push(output);
    json!({ "model": model, "input": input, "store": false })
}

/// The answer of the first turn, as its provider gets it back.
fn sent_back(upstream: &Upstream) -> Value {
    let mut messages = upstream.last_request().json()["messages"].take();
    let messages = messages.as_array_mut().expect("messages");
    let answer = messages.iter_mut().find(|message| message["role"] == "assistant").expect("an answer");
    answer.take()
}

#[track_caller]
fn assert_nothing_of_it(upstream: &Upstream) {
    let body = upstream.last_request().json().to_string();
    for trace in ["sig-1", "Let me see", "odd", "provider_data", "encrypted_content"] {
        assert!(!body.contains(trace), "{trace}: {body}");
    }
    assert!(body.contains("c1"), "the call is there: {body}");
}

#[test]
fn it_goes_back_to_its_writer_and_to_no_other() {
    let bench = Bench::start();
    let other = Upstream::start();
    bench.server.admin().put("/admin/models/providers/other", &json!({ "base_url": other.base_url() })).expect(200);
    other.usually(Script::reply("It rains."));
    for stream in [false, true] {
        let made = if stream { streamed() } else { whole() };
        bench.upstream.usually(made);
        let first = ask(&bench, &question(), stream);
        let kinds: Vec<_> = first["output"].as_array().expect("a list").iter().map(|it| it["type"].clone()).collect();
        assert_eq!(kinds, ["reasoning", "function_call"]);
        assert_eq!(first["output"][0]["content"][0]["text"], "Let me see.");
        assert_eq!(bench.get(&id(&first))["output"], first["output"], "it is stored");
        bench.upstream.usually(Script::reply("It rains."));
        for by_items in [false, true] {
            for stream in [false, true] {
                assert_eq!(text(&ask(&bench, &next("default", &first, by_items), stream)), "It rains.");
                let answer = sent_back(&bench.upstream);
                assert_eq!(answer["reasoning_content"], "Let me see.");
                assert_eq!(answer["odd"], json!({ "a": 1 }));
                assert_eq!(answer["tool_calls"], json!([call(json!({ "extra_content": signed() }))]));
                ask(&bench, &next(&format!("other/{MODEL}"), &first, by_items), stream);
                assert_nothing_of_it(&other);
                ask(&bench, &next(&format!("own/{MODEL}"), &first, by_items), stream);
                assert_eq!(bench.upstream.last_request().path, "/v1/responses");
                assert_nothing_of_it(&bench.upstream);
            }
        }
        let background = with(next("default", &first, false), json!({ "background": true }));
        let made = bench.create(&background);
        bench.follow(&id(&made), None).last().expect("an end");
        assert_eq!(sent_back(&bench.upstream)["reasoning_content"], "Let me see.");
    }
}

#[test]
fn the_answer_of_one_that_stands_in_is_its_own() {
    for stream in [false, true] {
        let bench = Bench::start();
        let (first, second) = (Upstream::start(), Upstream::start());
        for (name, upstream) in [("first", &first), ("second", &second)] {
            let provider = json!({ "base_url": upstream.base_url() });
            bench.server.admin().put(&format!("/admin/models/providers/{name}"), &provider).expect(200);
        }
        let target = |name: &str| json!({ "provider": name, "model": MODEL });
        let targets = json!({ "targets": [target("first"), target("second")] });
        bench.server.admin().put("/admin/models/routes/agent", &targets).expect(200);
        first.usually(Script::status(402));
        second.usually(if stream { streamed() } else { whole() });
        let turn = ask(&bench, &with(question(), json!({ "model": "agent" })), stream);
        for by_items in [false, true] {
            // The first is there again: it is asked, and is not sent what the second has written.
            first.usually(Script::reply("It rains."));
            assert_eq!(text(&ask(&bench, &next("agent", &turn, by_items), stream)), "It rains.");
            assert_nothing_of_it(&first);
            // And gone once more.
            first.usually(Script::status(402));
            second.usually(Script::reply("It rains."));
            assert_eq!(text(&ask(&bench, &next("agent", &turn, by_items), stream)), "It rains.");
            assert_nothing_of_it(&first);
            assert_eq!(sent_back(&second)["reasoning_content"], "Let me see.");
        }
    }
}

#[test]
fn clients_that_keep_what_the_format_names_have_it_sealed() {
    let bench = Bench::start();
    let asked = with(question(), json!({ "store": false, "include": ["reasoning.encrypted_content"] }));
    for stream in [false, true] {
        bench.upstream.usually(if stream { streamed() } else { whole() });
        let mut first = ask(&bench, &asked, stream);
        let sealed = first["output"][0]["encrypted_content"].as_str().expect("it is sealed").to_owned();
        assert!(!sealed.contains("sig-1"));
        for item in first["output"].as_array_mut().expect("a list") {
            let known = ["type", "id", "summary", "encrypted_content", "status", "call_id", "name", "arguments"];
            item.as_object_mut().expect("an item").retain(|name, _| known.contains(&name.as_str()));
        }
        bench.upstream.usually(Script::reply("It rains."));
        bench.create(&next("default", &first, true));
        let answer = sent_back(&bench.upstream);
        assert_eq!((&answer["reasoning_content"], &answer["odd"]), (&json!("Let me see."), &json!({ "a": 1 })));
        assert_eq!(answer["tool_calls"][0]["extra_content"], signed());
        bench.create(&next(&format!("own/{MODEL}"), &first, true));
        assert_nothing_of_it(&bench.upstream);
        // For another tenant it is none.
        let other = bench.server.anyone().with_key(&bench.server.key(&bench.server.tenant(&format!("other {stream}"))));
        let param = Some("input[1].encrypted_content");
        other.post("/v1/responses", &next("default", &first, true)).openai_error(400, "invalid_request", param);
    }
}

#[test]
fn clients_that_keep_ids_have_it_found_by_them() {
    let bench = Bench::start();
    bench.upstream.usually(whole());
    let mut first = bench.create(&question());
    for item in first["output"].as_array_mut().expect("a list") {
        item.as_object_mut().expect("an item").remove("provider_data");
    }
    bench.upstream.usually(Script::reply("It rains."));
    bench.create(&next("default", &first, true));
    let answer = sent_back(&bench.upstream);
    assert_eq!((&answer["reasoning_content"], &answer["odd"]), (&json!("Let me see."), &json!({ "a": 1 })));
    assert_eq!(answer["tool_calls"][0]["extra_content"], signed());
    // Another call is not the one that was stored.
    first["output"][1]["name"] = "other".into();
    bench.create(&next("default", &first, true));
    assert!(sent_back(&bench.upstream)["tool_calls"][0].get("extra_content").is_none());
    let other = bench.server.anyone().with_key(&bench.server.key(&bench.server.tenant("another")));
    first["output"][1]["name"] = "weather".into();
    other.post("/v1/responses", &next("default", &first, true)).expect(200);
    assert_nothing_of_it(&bench.upstream);
}

/// Nobody but the service itself says what goes to one provider only.
#[test]
fn a_chat_is_passed_on_as_it_is() {
    let bench = Bench::start();
    bench.upstream.usually(Script::reply("Hello."));
    let marked = json!({ "provider": "openai", "model": MODEL, "message": { "secret": 1 } }).to_string();
    let message = json!({ "role": "assistant", "content": "a", "provider_data": marked });
    let body = json!({ "model": "default", "messages": [{ "role": "user", "content": "b" }, message] });
    bench.client.post("/v1/chat/completions", &body).expect(200);
    assert_eq!(bench.upstream.last_request().json()["messages"], body["messages"]);
}

#[test]
fn custom_tools_are_called_and_answered_over_chat() {
    let bench = Bench::start();
    let tools = json!([{ "type": "custom", "name": "patch", "description": "Changes files." }]);
    bench.upstream.usually(Script::new().calls("patch", json!({ "input": "*** Begin\n+a" })));
    let mut events: Vec<_> =
        bench.open("POST", "/v1/responses", &with(question(), json!({ "tools": tools, "stream": true }))).collect();
    let of = |kind: &str| events.iter().find(|event| event["type"] == kind).expect("an event").clone();
    assert_eq!(of("response.custom_tool_call_input.delta")["delta"], "*** Begin\n+a");
    assert_eq!(of("response.custom_tool_call_input.done")["input"], "*** Begin\n+a");
    let first = events.pop().expect("an end")["response"].take();
    let whole = bench.create(&with(question(), json!({ "tools": tools })));
    for first in [first, whole] {
        let item = &first["output"][0];
        assert_eq!((&item["type"], &item["name"]), (&json!("custom_tool_call"), &json!("patch")));
        let output = json!({ "type": "custom_tool_call_output", "call_id": item["call_id"], "output": "done" });
        let by_items = json!({ "model": "default", "tools": tools, "input": [question()["input"].as_str().map(|text| json!({ "role": "user", "content": text })), item, output] });
        let by_id =
            json!({ "model": "default", "tools": tools, "previous_response_id": first["id"], "input": [output] });
        for second in [by_items, by_id] {
            bench.create(&second);
            let messages = bench.upstream.last_request().json()["messages"].clone();
            assert_eq!(messages[1]["tool_calls"][0]["function"]["arguments"], "{\"input\":\"*** Begin\\n+a\"}");
            assert_eq!(messages[2]["tool_call_id"], messages[1]["tool_calls"][0]["id"]);
        }
    }
}

#[test]
fn half_a_character_costs_nobody_an_answer() {
    let bench = Bench::start();
    let raw = "data: {\"choices\":[{\"delta\":{\"content\":\"a\\ud83d\"},\"logprobs\":NaN}]}\n\n\
               data: {\"choices\":[{\"delta\":{\"content\":\"\\ude00b\\ude00\"}}]}\n\n\
               data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    bench.upstream.usually(Script::new().body("text/event-stream", raw));
    let response = ask(&bench, &question(), true);
    assert_eq!((text(&response), &response["status"]), ("a😀b\u{fffd}".into(), &json!("completed")));
    let answer = "{\"choices\":[{\"message\":{\"content\":\"a\\ud83db\"},\"finish_reason\":\"stop\"}]}";
    bench.upstream.usually(Script::new().body("application/json", answer));
    assert_eq!(text(&ask(&bench, &question(), false)), "a\u{fffd}b");
    // A provider's own response as well.
    let part = |number: u64, delta: &str| {
        format!(
            "data: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{number},\"item_id\":\"m\",\"delta\":\"{delta}\"}}\n\n"
        )
    };
    let item = "{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"a\\ud83d\\ude00b\\ud83d\",\"n\":NaN}]}";
    let more = "\"model\":\"m\",\"usage\":null,\"error\":null,\"incomplete_details\":null";
    let whole = format!("{{\"object\":\"response\",\"status\":\"completed\",\"output\":[{item}],{more}}}");
    let raw = format!(
        "{}{}data: {{\"type\":\"response.completed\",\"sequence_number\":2,\"response\":{whole}}}\n\n",
        part(0, "a\\ud83d"),
        part(1, "\\ude00b")
    );
    bench.upstream.usually(Script::new().body("text/event-stream", &raw));
    let events: Vec<_> =
        bench.open("POST", "/v1/responses", &with(own_question(), json!({ "stream": true }))).collect();
    let said: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(said, "a😀b");
    let response = &events.last().expect("an end")["response"];
    assert_eq!(text(response), "a😀b\u{fffd}");
    assert_eq!(bench.get(&id(response)), *response);
}
