//! Items that are named instead of sent.

use serde_json::{Value, json};

use super::{Bench, MODEL, id, own_question, question, with};
use crate::support::upstream::Script;

fn referring(model: &str, ids: &[&Value]) -> Value {
    let mut input: Vec<_> = ids.iter().map(|id| json!({ "type": "item_reference", "id": id })).collect();
    input.push(json!({ "role": "user", "content": "And now?" }));
    json!({ "model": model, "input": input })
}

#[test]
fn what_is_stored_stands_in_the_place_of_its_reference() {
    let bench = Bench::start();
    let models = ["default".to_owned(), format!("own/{MODEL}")];
    for first in [question(), own_question()] {
        let response = bench.create(&with(first, json!({ "input": [{ "role": "user", "content": "Say hello." }] })));
        let items = bench.client.get(&format!("/v1/responses/{}/input_items", id(&response))).expect(200);
        let (asked, said) = (&items["data"][0]["id"], &response["output"][0]["id"]);
        for model in &models {
            let made = bench.create(&referring(model, &[asked, said]));
            let sent = bench.upstream.last_request().json();
            let texts = if model == "default" { &sent["messages"] } else { &sent["input"] };
            let text = |place: usize| {
                let content = &texts[place]["content"];
                content.as_str().or(content[0]["text"].as_str()).unwrap_or_default().to_owned()
            };
            assert_eq!([text(0), text(1), text(2)], ["Say hello.", "Hello there.", "And now?"], "{texts}");
            assert!(!sent.to_string().contains("item_reference"));
            assert!(texts[1].get("id").is_none(), "the provider has stored nothing: {texts}");
            // It is part of this turn from now on.
            let listed = bench.client.get(&format!("/v1/responses/{}/input_items?order=asc", id(&made))).expect(200);
            assert_eq!(listed["data"][1]["content"][0]["text"], "Hello there.");
        }
        // With the reference alone, in the background, and with a response before.
        let body = json!({ "model": "default", "background": true, "input": [{ "id": said }, question()["input"].as_str().map(|text| json!({ "role": "user", "content": text }))] });
        let made = bench.create(&body);
        bench.follow(&id(&made), None).last().expect("an end");
        assert_eq!(bench.upstream.last_request().json()["messages"][0]["content"], "Hello there.");
        let later = bench.create(&with(question(), json!({ "previous_response_id": response["id"] })));
        let body = with(referring("default", &[said]), json!({ "previous_response_id": later["id"] }));
        bench.create(&body);
        assert_eq!(bench.upstream.last_request().json()["messages"][4]["content"], "Hello there.");
    }
}

#[test]
fn calls_and_their_reasoning_can_be_named() {
    let bench = Bench::start();
    let message = json!({ "content": null, "reasoning_content": "Let me see.", "tool_calls": [
        { "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{}" }, "extra_content": { "s": 1 } }] });
    let answer = json!({ "choices": [{ "message": message, "finish_reason": "tool_calls" }] });
    bench.upstream.usually(Script::new().body("application/json", &answer.to_string()));
    let first = bench.create(&question());
    bench.upstream.usually(Script::reply("It rains."));
    let mut body = referring("default", &[&first["output"][0]["id"], &first["output"][1]["id"]]);
    body["input"][2] = json!({ "type": "function_call_output", "call_id": "c1", "output": "rain" });
    bench.create(&body);
    let answer = bench.upstream.last_request().json()["messages"][0].clone();
    assert_eq!(
        (&answer["reasoning_content"], &answer["tool_calls"][0]["extra_content"]),
        (&json!("Let me see."), &json!({ "s": 1 }))
    );
    body["model"] = format!("own/{MODEL}").into();
    bench.create(&body);
    let input = bench.upstream.last_request().json()["input"].clone();
    assert_eq!(input[0]["type"], "function_call", "reasoning is for its writer: {input}");
}

#[test]
fn what_is_not_stored_is_not_found() {
    let bench = Bench::start();
    let stored = bench.create(&question());
    let not_stored = bench.create(&with(question(), json!({ "store": false })));
    let deleted = bench.create(&own_question());
    bench.client.delete(&format!("/v1/responses/{}", id(&deleted))).expect(200);
    let of_another = bench.server.anyone().with_key(&bench.server.key(&bench.server.tenant("another")));
    let of_another = of_another.post("/v1/responses", &own_question()).expect(200);
    let asked = bench.upstream.requests().len();
    let unknown = json!("msg_unknown");
    let of_other_chat = json!("msg_00000000000000000000000000000001_0");
    for item in [
        &not_stored["output"][0]["id"],
        &deleted["output"][0]["id"],
        &unknown,
        &of_other_chat,
        &of_another["output"][0]["id"],
    ] {
        for model in ["default".to_owned(), format!("own/{MODEL}")] {
            let body = referring(&model, &[&stored["output"][0]["id"], item]);
            bench.client.post("/v1/responses", &body).openai_error(400, "invalid_request", Some("input[1].id"));
        }
    }
    assert_eq!(bench.upstream.requests().len(), asked, "nobody was asked");
    let other = bench.server.anyone().with_key(&bench.server.key(&bench.server.tenant("a third")));
    let body = referring("default", &[&stored["output"][0]["id"]]);
    other.post("/v1/responses", &body).openai_error(400, "invalid_request", Some("input[0].id"));
}
