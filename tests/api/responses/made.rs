//! Responses that are made while the client waits.

use serde_json::{Value, json};

use super::{Bench, id, own_question, question, text, with};
use crate::support::Setup;
use crate::support::upstream::{Fault, Gate, Script};

#[test]
fn a_response_is_made_whoever_the_provider_is() {
    let bench = Bench::start();
    for (body, path) in [(question(), "/v1/chat/completions"), (own_question(), "/v1/responses")] {
        let answer = bench.client.post("/v1/responses", &with(body, json!({ "metadata": { "a": "b" } })));
        let response = answer.expect(200);
        assert_eq!((response["object"].as_str(), response["status"].as_str()), (Some("response"), Some("completed")));
        assert!(id(&response).starts_with("resp_"), "{response}");
        assert_eq!(text(&response), "Hello there.");
        assert_eq!(response["metadata"], json!({ "a": "b" }));
        assert_eq!(response["usage"]["input_tokens"], 10);
        assert_eq!((&response["usage"]["output_tokens"], &response["usage"]["total_tokens"]), (&json!(5), &json!(15)));
        assert!(answer.header("x-cost-usd").is_some_and(|cost| cost.starts_with("0.0000")));
        assert_eq!(answer.header("x-model-used"), Some(super::MODEL));
        let asked = bench.upstream.last_request();
        assert_eq!(asked.path, path);
        assert_ne!(asked.json()["store"], true, "nothing is kept there");
        assert_eq!(bench.get(&id(&response)), response, "it is kept here");
    }
}

#[test]
fn a_stream_tells_the_response_that_is_kept() {
    let bench = Bench::start();
    bench.upstream.usually(Script::tokens(10, 20).chunks(20).in_pieces(7));
    for body in [question(), own_question()] {
        let events: Vec<_> = bench.open("POST", "/v1/responses", &with(body, json!({ "stream": true }))).collect();
        assert_eq!(events[0]["type"], "response.created");
        let said: String = events
            .iter()
            .filter(|event| event["type"] == "response.output_text.delta")
            .filter_map(|event| event["delta"].as_str())
            .collect();
        let last = events.last().expect("an end");
        assert_eq!(last["type"], "response.completed");
        assert_eq!(said, text(&last["response"]));
        assert_eq!(said.split_whitespace().count(), 20);
        assert_eq!(last["response"]["usage"]["output_tokens"], 20);
        assert_eq!(events[0]["response"]["id"], last["response"]["id"], "one id, and it is ours");
        assert_eq!(bench.get(&id(&last["response"])), last["response"]);
    }
}

#[test]
fn a_stream_that_breaks_off_has_failed() {
    let bench = Bench::start();
    for fault in [Fault::CutAfter(5), Fault::ErrorAfter(5)] {
        bench.upstream.usually(Script::tokens(10, 20).chunks(20).with_fault(fault));
        for body in [question(), own_question()] {
            let events: Vec<_> = bench.open("POST", "/v1/responses", &with(body, json!({ "stream": true }))).collect();
            let last = events.last().expect("an end");
            assert_eq!(last["type"], "response.failed", "{fault:?}");
            assert!(last["response"]["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
            assert_eq!(bench.get(&id(&last["response"]))["status"], "failed");
        }
    }
}

#[test]
fn who_hangs_up_ends_the_call_and_nothing_is_kept() {
    let bench = Bench::start();
    let gate = Gate::new();
    bench.upstream.usually(Script::tokens(10, 20).chunks(20).waits_after(5, &gate));
    let mut events = bench.open("POST", "/v1/responses", &with(question(), json!({ "stream": true })));
    let first = events.next().expect("a beginning");
    drop(events);
    bench.upstream.wait_until_cancelled(1);
    let path = format!("/v1/responses/{}", id(&first["response"]));
    bench.client.get(&path).openai_error(404, "not_found", None);
}

#[test]
fn tools_are_called_and_answered_over_chat() {
    let bench = Bench::start();
    let tool = json!({ "type": "function", "name": "weather", "parameters": {
        "type": "object", "properties": { "place": { "type": "string" } }, "required": ["place"],
    } });
    bench.upstream.usually(Script::new().calls("weather", json!({ "place": "Oslo" })));
    let first = bench.create(&with(question(), json!({ "tools": [tool] })));
    let call = &first["output"][0];
    assert_eq!((call["type"].as_str(), call["name"].as_str()), (Some("function_call"), Some("weather")));
    bench.upstream.usually(Script::reply("It rains."));
    let second = bench.create(&json!({
        "model": "default", "tools": [tool], "previous_response_id": first["id"],
        "input": [{ "type": "function_call_output", "call_id": call["call_id"], "output": "rain" }],
    }));
    assert_eq!(text(&second), "It rains.");
    let messages = bench.upstream.last_request().json()["messages"].clone();
    let roles: Vec<_> = messages.as_array().expect("a list").iter().map(|message| message["role"].clone()).collect();
    assert_eq!(roles, ["user", "assistant", "tool"]);
    assert_eq!(messages[1]["tool_calls"][0]["id"], messages[2]["tool_call_id"]);
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let bench = Bench::start();
    let refused = |fields: Value, code: &str, param: Option<&str>| {
        bench.client.post("/v1/responses", &with(question(), fields)).openai_error(400, code, param);
    };
    refused(json!({ "tools": [{ "type": "web_search" }] }), "invalid_request", Some("tools[0].type"));
    refused(json!({ "input": 5 }), "invalid_request", Some("input"));
    refused(json!({ "stream": "yes" }), "invalid_request", Some("stream"));
    refused(json!({ "background": true, "store": false }), "invalid_request", Some("store"));
    refused(json!({ "conversation": "conv_1" }), "invalid_request", Some("conversation"));
    let unknown = json!({ "previous_response_id": "resp_00000000000000000000000000000001" });
    refused(unknown, "previous_response_not_found", Some("previous_response_id"));
    refused(json!({ "max_output_tokens": -1 }), "invalid_request", Some("max_output_tokens"));
    assert!(bench.upstream.requests().is_empty(), "nobody was asked");
    // A provider with the interface may have such tools, but at a price that nobody knows.
    let body = with(own_question(), json!({ "tools": [{ "type": "web_search" }] }));
    bench.client.post("/v1/responses", &body).openai_error(400, "unknown_price", Some("tools[0]"));
}

#[test]
fn the_providers_own_refusals_are_passed_on() {
    let bench = Bench::start();
    bench.upstream.usually(Script::status(400));
    for body in [question(), own_question(), with(question(), json!({ "stream": true }))] {
        let answer = bench.client.post("/v1/responses", &body);
        assert_eq!(answer.expect(400)["error"]["message"], "The request is not good.");
    }
}

#[test]
fn a_test_key_is_answered_by_the_echo() {
    let bench = Bench::start_with(Setup::real());
    let tenant = bench.server.tenant("another");
    let client =
        bench.server.anyone().with_key(&bench.server.key_with(&tenant, &json!({ "name": "test", "test": true })));
    for body in [question(), own_question()] {
        let response = client.post("/v1/responses", &body).expect(200);
        assert_eq!(text(&response), "Say hello.");
    }
    assert!(bench.upstream.requests().is_empty());
}
