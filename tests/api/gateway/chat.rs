//! A chat that is answered whole.

use serde_json::json;

use super::{Bench, PROVIDER_KEY, hello, question, set_price};
use crate::support::upstream::{Script, Usage};

#[test]
fn a_chat_is_answered_and_says_what_it_cost() {
    let bench = Bench::start();
    bench.upstream.script("m", hello().extra(json!({ "nobody_knows": [1, 2] })));
    let mut body = question();
    body["logit_bias"] = json!({ "5": -100 });
    body["provider_specific"] = json!({ "a": [null, 1.5e3] });
    let answer = bench.client.post("/v1/chat/completions", &body);
    let said = answer.expect(200);
    assert_eq!(said["choices"][0]["message"]["content"], "Hello there.");
    assert!(answer.text.contains("nobody_knows"), "what is not known is passed back: {said}");
    // 1,000 tokens at 1 USD and 50 at 2 USD for a million.
    assert_eq!(answer.header("x-cost-usd"), Some("0.0011"));
    assert_eq!(bench.upstream.billed().to_string(), "0.0011");
    assert_eq!(answer.header("x-model-used"), Some("m"));
    assert_eq!(answer.header("x-fallbacks"), Some("0"));
    assert!(answer.header("x-agentd-overhead-ms").is_some());
    assert!(answer.header("x-budget-remaining-usd").is_some());
    let asked = bench.upstream.last_request();
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
    assert_eq!(asked.path, "/v1/chat/completions");
    let mut expected = body;
    expected["model"] = json!("m");
    assert_eq!(asked.json(), expected, "what is not known is passed on");
}

#[test]
fn models_are_named_by_alias_by_provider_and_by_themselves() {
    let bench = Bench::start();
    for (name, model) in [
        (json!("low-cost"), "cheap"),
        (json!("failover"), "n"),
        (json!("openai/cheap"), "cheap"),
        (json!("n"), "n"),
        (json!(null), "m"),
    ] {
        let mut body = question();
        body["model"] = name.clone();
        let answer = bench.client.post("/v1/chat/completions", &body);
        answer.expect(200);
        assert_eq!(answer.header("x-model-used"), Some(model), "{name}");
    }
    let listed = bench.client.get("/v1/models").expect(200);
    let ids: Vec<_> = listed["data"].as_array().expect("a list").iter().map(|model| model["id"].clone()).collect();
    assert_eq!(ids, ["default", "failover", "low-cost", "openai/cheap", "openai/m", "openai/n"]);
    assert_eq!(bench.client.get("/v1/models/default").expect(200)["owned_by"], "openai");
    assert_eq!(bench.client.get("/v1/models/openai%2Fm").expect(200)["id"], "openai/m");
    bench.client.get("/v1/models/nothing").openai_error(404, "model_not_found", None);
}

#[test]
fn a_model_is_found_by_every_name_that_a_call_can_have() {
    let bench = Bench::start();
    set_price(&bench.server, "openai%2Forg%2Fmodel", "1", "2");
    for (path, id) in [
        ("default", "default"),
        ("openai/m", "openai/m"),
        ("openai%2Fm", "openai/m"),
        ("m", "m"),
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("openai/gpt-4o-mini", "openai/gpt-4o-mini"),
        ("openai/gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini-2024-07-18"),
        ("openai/org/model", "openai/org/model"),
        ("openai%2Forg%2Fmodel", "openai/org/model"),
        ("org/model", "org/model"),
    ] {
        let found = bench.client.get(&format!("/v1/models/{path}")).expect(200);
        let expected = json!({ "id": id, "object": "model", "created": 0, "owned_by": "openai" });
        assert_eq!(found, expected, "{path}");
        assert_eq!(bench.client.send("HEAD", &format!("/v1/models/{path}"), &[], None).status, 200);
        let body = json!({ "model": id, "messages": [], "max_tokens": 1 });
        bench.upstream.usually(hello());
        bench.client.post("/v1/chat/completions", &body).expect(200);
    }
    for path in ["openai/no-price", "no-price", "nobody/no-price"] {
        let answer = bench.client.get(&format!("/v1/models/{path}"));
        let said = answer.openai_error(404, "model_not_found", None);
        let said = said["error"]["message"].as_str().expect("a message").to_owned();
        assert!(said.contains("price of openai/") && said.contains("agentd price set openai/"), "{said}");
    }
    let answer = bench.client.get("/v1/models/openai/m/");
    let said = answer.openai_error(404, "model_not_found", None);
    assert!(said["error"]["message"].as_str().is_some_and(|said| said.ends_with("did you mean /v1/models/openai/m?")));
    bench.client.delete("/v1/models/openai/m").openai_error(405, "method_not_allowed", None);
    let labels = bench.server.anyone().get("/metrics").text;
    assert!(labels.contains("route=\"/v1/models/{model}\"") && !labels.contains(":.+"), "{labels}");
}

#[test]
fn tools_pictures_and_structured_output_go_through() {
    let bench = Bench::start();
    let price = json!({ "input_usd_per_million": "1", "output_usd_per_million": "2", "image_tokens": 1000 });
    bench.server.admin().put("/admin/models/prices/m", &price).expect(200);
    bench.upstream.script("m", Script::new().calls("weather", json!({ "city": "Rome" })).used(50, 20));
    let body = json!({
        "model": "default",
        "messages": [{ "role": "user", "content": [
            { "type": "text", "text": "What is this?" },
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw0KGgo=" } },
        ] }],
        "tools": [{ "type": "function", "function": { "name": "weather", "parameters": {
            "type": "object", "properties": { "city": { "type": "string" } },
        } } }],
        "response_format": { "type": "json_schema", "json_schema": { "name": "x", "schema": { "type": "object" } } },
        "max_completion_tokens": 50,
    });
    let said = bench.client.post("/v1/chat/completions", &body).expect(200);
    let call = &said["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "weather");
    assert_eq!(bench.upstream.last_request().json()["messages"], body["messages"]);
}

#[test]
fn what_a_provider_does_not_count_is_counted_here() {
    let bench = Bench::start();
    // A model whose vocabulary is known.
    set_price(&bench.server, "gpt-4o-mini", "1", "2");
    let mut body = question();
    body["model"] = json!("gpt-4o-mini");
    for usage in [Usage::Missing, Usage::Nonsense] {
        bench.upstream.script("gpt-4o-mini", Script::tokens(10, 7).usage(usage));
        let answer = bench.client.post("/v1/chat/completions", &body);
        answer.expect(200);
        // "Say hello." is 3 tokens, with 7 around it: 10 in, and 7 words out.
        assert_eq!(answer.header("x-cost-usd"), Some("0.000024"), "{usage:?}");
    }
}

#[test]
fn a_test_key_talks_to_the_echo_model() {
    let bench = Bench::start();
    let key = bench.server.key_with(&bench.tenant, &json!({ "name": "a test", "test": true }));
    let tester = bench.server.anyone().with_key(&key);
    let answer = tester.post("/v1/chat/completions", &question());
    assert_eq!(answer.expect(200)["choices"][0]["message"]["content"], "Say hello.");
    assert_eq!((answer.header("x-cost-usd"), answer.header("x-model-used")), (Some("0"), Some("echo")));
    assert_eq!(tester.get("/v1/models").expect(200)["data"][0]["id"], "echo");
    assert_eq!(tester.get("/v1/models/openai/whatever").expect(200)["owned_by"], "agentd");
    assert_eq!(bench.upstream.counts().requests, 0);
}

#[test]
fn a_key_needs_the_scope_and_errors_have_the_form_of_the_interface() {
    let bench = Bench::start();
    let key = bench.server.key_with(&bench.tenant, &json!({ "name": "jobs", "scopes": ["jobs:read"] }));
    let other = bench.server.anyone().with_key(&key);
    other.post("/v1/chat/completions", &question()).openai_error(403, "forbidden", None);
    bench.server.anyone().post("/v1/chat/completions", &question()).openai_error(401, "unauthorized", None);
    assert_eq!(bench.upstream.counts().requests, 0);
}
