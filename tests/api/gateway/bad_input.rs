//! What is refused before anybody is asked, and in which words.

use serde_json::{Value, json};

use super::{Bench, question};

#[test]
fn what_is_wrong_is_named_and_nobody_is_asked() {
    let bench = Bench::start();
    let with = |name: &str, value: Value| {
        let mut body = question();
        body[name] = value;
        body.to_string()
    };
    let cases = [
        ("empty", String::new()),
        ("no JSON", "{".into()),
        ("a list", "[]".into()),
        ("model is a number", with("model", json!(5))),
        ("model is empty", with("model", json!(""))),
        ("model that nobody has", with("model", json!("no-such-model"))),
        ("model without a price", with("model", json!("openai/no-such-model"))),
        ("messages are missing", json!({ "model": "default" }).to_string()),
        ("messages are a text", with("messages", json!("hello"))),
        ("max_tokens is negative", with("max_tokens", json!(-1))),
        ("max_tokens is zero", with("max_tokens", json!(0))),
        ("max_tokens is a text", with("max_tokens", json!("many"))),
        ("n is zero", with("n", json!(0))),
        ("n is huge", with("n", json!(100_000))),
        ("stream is a text", with("stream", json!("yes"))),
        ("tools are an object", with("tools", json!({}))),
        (
            "parameters of a tool are no schema",
            with(
                "tools",
                json!([{ "type": "function", "function": { "name": "f", "parameters": { "type": "thing" } } }]),
            ),
        ),
    ];
    let mut told = Vec::new();
    for (name, body) in cases {
        let headers = [("Content-Type", "application/json")];
        let answer = bench.client.send("POST", "/v1/chat/completions", &headers, Some(body.as_bytes()));
        assert!((400..500).contains(&answer.status), "{name}: {} {}", answer.status, answer.text);
        let error = &answer.json()["error"];
        let line = format!(
            "{name}\n  {} {} {}\n  {}",
            answer.status,
            error["code"].as_str().unwrap_or("-"),
            error["param"].as_str().unwrap_or("-"),
            error["message"].as_str().unwrap_or("-"),
        );
        told.push(line);
    }
    assert_eq!(bench.upstream.counts().requests, 0);
    insta::assert_snapshot!("gateway_bad_input", told.join("\n"));
}
