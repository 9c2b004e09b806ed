//! The scripted provider does what its scripts say, or no test that uses it
//! says anything.

#![allow(clippy::expect_used, reason = "in a test a broken expectation is what it is there to tell")]

#[path = "../support/mod.rs"]
mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use support::client::Answer;
use support::raw::Raw;
use support::tls::Dial;
use support::upstream::{End, Gate, Options, Used};
use support::{Client, Fault, Price, Script, Shown, Upstream, Usage};

fn client(upstream: &Upstream) -> Client {
    Client::new(Arc::new(Mutex::new(upstream.base_url().trim_end_matches("/v1").to_owned())))
}

fn try_post(upstream: &Upstream, path: &str, body: &Value) -> Result<Answer, String> {
    let headers = [("Content-Type", "application/json"), ("Authorization", "Bearer sk-test")];
    let answer = client(upstream).exchange("POST", path, &headers, Some(body.to_string().as_bytes()));
    answer.map_err(|error| error.to_string())
}

#[track_caller]
fn post(upstream: &Upstream, path: &str, body: &Value) -> Answer {
    try_post(upstream, path, body).expect("an answer")
}

fn chat(model: &str, more: &Value) -> Value {
    let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": "Hello there" }] });
    body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    body
}

const CHAT: &str = "/v1/chat/completions";

/// A connection of our own, with a chat request sent.
fn begin(upstream: &Upstream, model: &str, more: &Value) -> Raw {
    let body = chat(model, more).to_string();
    let mut raw = Raw::connect(&upstream.address());
    assert!(raw.send(format!(
        "POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )));
    raw
}

/// The data of each event of a stream.
fn events(answer: &Answer) -> Vec<Value> {
    let data = answer.text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

#[test]
fn an_answer_is_billed_as_it_is_reported() {
    let upstream = Upstream::start();
    upstream.price("m", Price::tokens("1", "3").cached("0.5"));
    upstream.script("m", Script::tokens(1_001, 20).cached(1_000).reasoning(5));
    let answer = post(&upstream, CHAT, &chat("m", &json!({}))).expect(200);
    assert_eq!(answer["usage"]["prompt_tokens"], 1_001);
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 1_000);
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 5);
    assert_eq!(answer["choices"][0]["message"]["content"].as_str().expect("text").split(' ').count(), 15);
    // One token at 1,000 nano-USD, a thousand at 500, twenty at 3,000.
    assert_eq!(upstream.billed().nano(), 1_000 + 500_000 + 60_000);
    assert_eq!(upstream.bill()[0].end, End::Answered);
    assert_eq!(upstream.billed_by_model()["m"], upstream.billed());
}

#[test]
fn the_bill_is_the_same_where_single_calls_are_forgotten() {
    let bills = [true, false].map(|keep| {
        let upstream = Upstream::start_with(&Options { keep, ..Options::default() });
        upstream.price("m", Price::tokens("1", "2"));
        upstream.usually(Script::tokens(20, 8));
        for stream in [false, true] {
            assert_eq!(post(&upstream, CHAT, &chat("m", &json!({ "stream": stream }))).status, 200);
        }
        assert_eq!(upstream.bill().len(), if keep { 2 } else { 0 });
        upstream.billed().nano()
    });
    assert_eq!(bills, [2 * (20_000 + 16_000); 2]);
}

#[test]
fn parts_of_a_nano_dollar_are_rounded_up_once() {
    let price = Price::tokens("0.000001", "0.000001");
    let used = |input, output| Used { input, output, ..Used::default() };
    assert_eq!(price.cost(&used(1, 1)).nano(), 1);
    assert_eq!(price.cost(&used(999, 2)).nano(), 2);
    assert_eq!(price.cost(&used(0, 0)).nano(), 0);
    assert_eq!(Price::minute("0.006").cost(&Used { seconds: 7, ..Used::default() }).nano(), 700_000);
    assert_eq!(Price::characters("15").cost(&Used { characters: 3, ..Used::default() }).nano(), 45_000);
    assert_eq!(Price::default().call("0.01").cost(&used(5, 5)).nano(), 10_000_000);
}

#[test]
fn a_limit_of_the_request_is_kept_unless_the_script_breaks_it() {
    let upstream = Upstream::start();
    upstream.script("m", Script::tokens(10, 50));
    let body = chat("m", &json!({ "max_tokens": 7, "n": 2 }));
    let answer = post(&upstream, CHAT, &body).expect(200);
    assert_eq!(answer["usage"]["completion_tokens"], 14);
    assert_eq!(answer["choices"][1]["finish_reason"], "length");
    upstream.script("m", Script::tokens(10, 50).beyond_limits());
    assert_eq!(post(&upstream, CHAT, &body).expect(200)["usage"]["completion_tokens"], 100);
}

#[test]
fn a_stream_has_its_pieces_its_usage_and_its_end() {
    let upstream = Upstream::start();
    upstream.script("m", Script::reply("Grüße aus 東京 🌍 heute").chunks(2));
    let body = chat("m", &json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let answer = post(&upstream, CHAT, &body);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert!(answer.text.ends_with("data: [DONE]\n\n"), "{}", answer.text);
    let chunks = events(&answer);
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "Grüße aus 東京 🌍 heute");
    assert_eq!(chunks.len(), 5, "the role, two pieces, the reason, the usage: {chunks:?}");
    assert_eq!(chunks[4]["usage"]["completion_tokens"], 5);
    // The same in pieces of three bytes.
    upstream.script("m", Script::reply("Grüße aus 東京 🌍 heute").chunks(2).in_pieces(3));
    assert_eq!(events(&post(&upstream, CHAT, &body)).len(), 5);
    upstream.script("m", Script::new().usage(Usage::Missing).with_fault(Fault::NoEnd));
    let answer = post(&upstream, CHAT, &body);
    assert!(!answer.text.contains("usage\":{") && !answer.text.contains("[DONE]"), "{}", answer.text);
}

#[test]
fn scripts_come_one_after_the_other_and_then_the_usual_one() {
    let upstream = Upstream::start();
    upstream.price("m", Price::tokens("1", "1"));
    upstream.script("m", Script::reply("good"));
    upstream.next("m", [Script::busy(7), Script::busy_until(60), Script::status(503), Script::html(200)]);
    let ask = || post(&upstream, CHAT, &chat("m", &json!({})));
    let first = ask();
    assert_eq!((first.status, first.header("retry-after")), (429, Some("7")));
    assert_eq!(first.json()["error"]["code"], "rate_limit_exceeded");
    assert!(ask().header("retry-after").expect("a date").ends_with(" GMT"));
    assert_eq!(ask().status, 503);
    let page = ask();
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(upstream.billed().nano(), 0, "none of these is on the bill");
    assert_eq!(ask().expect(200)["choices"][0]["message"]["content"], "good");
    assert_eq!((upstream.left("m"), upstream.asked("m"), upstream.bill().len()), (0, 5, 1));
    upstream.next("m", [Script::invalid_json()]);
    assert!(serde_json::from_str::<Value>(&ask().text).is_err());
}

#[test]
fn connections_are_cut_where_the_script_says() {
    let upstream = Upstream::start();
    upstream.price("m", Price::tokens("1", "1"));
    let body = chat("m", &json!({}));
    upstream.next("m", [Script::fault(Fault::CutBefore), Script::fault(Fault::CutAfter(1))]);
    assert!(try_post(&upstream, CHAT, &body).is_err());
    assert!(try_post(&upstream, CHAT, &body).is_err());
    assert_eq!(upstream.bill().iter().filter(|call| call.end == End::Cut && call.used.output > 0).count(), 2);
    // In a stream what has been sent is on the bill.
    upstream.next("m", [Script::tokens(10, 8).with_fault(Fault::CutAfter(3))]);
    assert!(try_post(&upstream, CHAT, &chat("m", &json!({ "stream": true }))).is_err());
    upstream.wait_until_idle();
    assert_eq!(upstream.bill()[2].used, Used { input: 10, output: 3, ..Used::default() });
    upstream.next("m", [Script::tokens(10, 8).with_fault(Fault::ErrorAfter(2))]);
    let answer = post(&upstream, CHAT, &chat("m", &json!({ "stream": true })));
    assert_eq!(events(&answer).last().expect("an event")["error"]["type"], "server_error");
    upstream.set_down(true);
    assert!(try_post(&upstream, CHAT, &body).is_err());
    upstream.set_down(false);
    post(&upstream, CHAT, &body).expect(200);
}

#[test]
fn it_sees_that_a_client_hangs_up() {
    let upstream = Upstream::start();
    upstream.next("m", [Script::hang(), Script::tokens(10, 8).with_fault(Fault::HangAfter(2))]);
    let hanging = begin(&upstream, "m", &json!({}));
    upstream.wait_for_requests(1);
    drop(hanging);
    upstream.wait_until_cancelled(1);
    let mut hanging = begin(&upstream, "m", &json!({ "stream": true }));
    hanging.read_until("\" hello\"");
    drop(hanging);
    upstream.wait_until_cancelled(2);
    assert_eq!(upstream.bill()[1].used.output, 2);
    upstream.wait("it is gone", |counts| counts.connections == 0);
}

#[test]
fn a_gate_holds_what_is_behind_it() {
    let upstream = Upstream::start();
    let (gate, later) = (Gate::new(), Gate::new());
    upstream.next("m", [Script::new().behind(&gate), Script::tokens(5, 5).waits_after(2, &later)]);
    let mut held = begin(&upstream, "m", &json!({}));
    upstream.wait("it is asked", |counts| counts.active == 1);
    gate.open();
    held.read_until("\"usage\"");
    let mut held = begin(&upstream, "m", &json!({ "stream": true }));
    held.read_until("\" hello\"");
    assert_eq!(upstream.bill()[1].used.output, 2);
    later.open();
    held.read_until("[DONE]");
    upstream.wait_until_idle();
    assert_eq!((upstream.bill()[1].used.output, upstream.counts().most_active), (5, 1));
}

#[test]
fn tools_and_schemas_are_met() {
    let upstream = Upstream::start();
    upstream.script("m", Script::new().use_tools());
    let schema = json!({ "type": "object", "properties": {
        "city": { "type": "string" }, "days": { "type": "array", "items": { "$ref": "#/$defs/day" } } },
        "$defs": { "day": { "enum": ["today", "tomorrow"] } } });
    let tools = json!([{ "type": "function", "function": { "name": "weather", "parameters": schema } }]);
    let answer = post(&upstream, CHAT, &chat("m", &json!({ "tools": tools }))).expect(200);
    let call = &answer["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(
        (&call["function"]["name"], &answer["choices"][0]["finish_reason"]),
        (&json!("weather"), &json!("tool_calls"))
    );
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().expect("text")).expect("JSON");
    assert_eq!(arguments, json!({ "city": "text", "days": ["today"] }));
    let streamed = post(&upstream, CHAT, &chat("m", &json!({ "tools": tools, "stream": true })));
    let parts = events(&streamed);
    let parts =
        parts.iter().filter_map(|it| it["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str());
    assert_eq!(serde_json::from_str::<Value>(&parts.collect::<String>()).expect("JSON"), arguments);
    let format = json!({ "type": "json_schema", "json_schema": { "name": "w", "schema": schema } });
    upstream.script("m", Script::new());
    let answer = post(&upstream, CHAT, &chat("m", &json!({ "response_format": format }))).expect(200);
    let content = answer["choices"][0]["message"]["content"].as_str().expect("text");
    assert_eq!(serde_json::from_str::<Value>(content).expect("JSON"), arguments);
}

#[test]
fn responses_are_whole_or_in_numbered_events() {
    let upstream = Upstream::start();
    upstream.script("m", Script::tokens(12, 3));
    let body = json!({ "model": "m", "input": "Hello" });
    let answer = post(&upstream, "/v1/responses", &body).expect(200);
    assert_eq!(answer["output"][0]["content"][0]["text"], "hello hello hello");
    assert_eq!((&answer["usage"]["input_tokens"], &answer["usage"]["output_tokens"]), (&json!(12), &json!(3)));
    let streamed = post(&upstream, "/v1/responses", &json!({ "model": "m", "input": "Hello", "stream": true }));
    let events = events(&streamed);
    let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().expect("a type")).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("response.created", "response.completed"));
    assert_eq!(kinds.iter().filter(|kind| **kind == "response.output_text.delta").count(), 3);
    upstream.without("/v1/responses");
    assert_eq!(post(&upstream, "/v1/responses", &body).status, 404);
}

#[test]
fn embeddings_are_the_same_as_floats_and_as_base64() {
    use base64::Engine as _;
    let upstream = Upstream::start();
    let ask = |format: &str| {
        let body = json!({ "model": "e", "input": ["one", "two"], "dimensions": 3, "encoding_format": format });
        post(&upstream, "/v1/embeddings", &body).expect(200)
    };
    let floats = ask("float");
    assert_eq!(floats["data"][1]["embedding"].as_array().expect("a vector").len(), 3);
    let text = ask("base64")["data"][1]["embedding"].as_str().expect("text").to_owned();
    let bytes = base64::prelude::BASE64_STANDARD.decode(text).expect("base64");
    let decoded: Vec<_> = bytes.chunks(4).map(|it| json!(f32::from_le_bytes(it.try_into().expect("four")))).collect();
    assert_eq!(floats["data"][1]["embedding"], json!(decoded));
    assert_eq!(floats["usage"]["prompt_tokens"], 2);
}

#[test]
fn sound_is_heard_and_made() {
    let upstream = Upstream::start();
    upstream.price("whisper-1", Price::minute("0.006"));
    upstream.script("whisper-1", Script::reply("spoken words").seconds(30));
    let form = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\nContent-Disposition: \
                form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n--b--\r\n";
    let headers = [("Content-Type", "multipart/form-data; boundary=b")];
    let path = "/v1/audio/transcriptions";
    let answer = client(&upstream).exchange("POST", path, &headers, Some(form.as_bytes())).expect("an answer");
    assert_eq!(answer.expect(200), json!({ "text": "spoken words", "usage": { "type": "duration", "seconds": 30 } }));
    assert_eq!(upstream.billed().nano(), 3_000_000);
    let body = json!({ "model": "tts-1", "input": "Hi", "voice": "alloy", "response_format": "wav" });
    let answer = client(&upstream).exchange("POST", "/v1/audio/speech", &[], Some(body.to_string().as_bytes()));
    // Not all of the bytes are UTF-8, so they are not looked at as text.
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.header("content-type") == Some("audio/wav")));
    assert_eq!(upstream.bill()[1].used.characters, 2);
}

#[test]
fn keys_and_models_are_checked_before_anything_else() {
    let upstream = Upstream::start();
    upstream.expect_keys(&["sk-other"]);
    let refused = post(&upstream, CHAT, &chat("m", &json!({}))).expect(401);
    assert!(refused["error"]["message"].as_str().expect("text").contains("sk-test"), "{refused}");
    upstream.expect_keys(&["sk-test", "sk-other"]);
    post(&upstream, CHAT, &chat("m", &json!({}))).expect(200);
    upstream.only(&["a"]);
    assert_eq!(post(&upstream, CHAT, &chat("m", &json!({}))).expect(404)["error"]["code"], "model_not_found");
    let headers = [("Authorization", "Bearer sk-test")];
    let list = client(&upstream).exchange("GET", "/v1/models", &headers, None).expect("an answer").expect(200);
    assert_eq!((&list["data"][0]["id"], &list["data"][1]), (&json!("a"), &Value::Null));
}

#[test]
fn https_shows_the_certificate_that_is_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("authority.pem");
    for (shown, good) in [(Shown::Good, true), (Shown::Expired, false), (Shown::OtherName, false)] {
        let upstream = Upstream::start_tls(shown);
        std::fs::write(&file, upstream.authority()).expect("written");
        assert_eq!(Dial::trusting(&upstream.address(), &file).connect().is_ok(), good, "{shown:?}");
        if good {
            post(&upstream, CHAT, &chat("m", &json!({}))).expect(200);
        }
    }
}

#[test]
fn it_is_scripted_over_http_too() {
    let upstream = Upstream::start();
    let send = |path: &str, body: &Value| post(&upstream, &format!("/_scripted/{path}"), body);
    send("price", &json!({ "model": "m", "price": { "input": "1", "output": "2" } })).expect(200);
    let script = json!({ "used": { "input": 10, "output": 4 }, "fault": { "cut_after": 1 }, "latency_ms": 1 });
    send("next", &json!({ "model": "m", "scripts": [script, { "status": 500 }] })).expect(200);
    assert!(try_post(&upstream, CHAT, &chat("m", &json!({}))).is_err());
    assert_eq!(post(&upstream, CHAT, &chat("m", &json!({}))).status, 500);
    let state = client(&upstream).exchange("GET", "/_scripted/state", &[], None).expect("an answer").expect(200);
    assert_eq!((&state["billed"], &state["calls"][0]["end"]), (&json!("0.000018"), &json!("cut")));
    send("script", &json!({ "model": "m", "script": { "no_such": 1 } })).expect(400);
    let requests = client(&upstream).exchange("GET", "/_scripted/requests", &[], None).expect("an answer").expect(200);
    assert_eq!(requests.as_array().map(Vec::len), Some(2));
}

#[test]
fn many_streams_are_open_at_once() {
    let upstream = Upstream::start();
    let gate = Gate::new();
    upstream.script("m", Script::tokens(5, 4).waits_after(1, &gate));
    let mut all: Vec<_> = (0..300).map(|_| begin(&upstream, "m", &json!({ "stream": true }))).collect();
    for one in &mut all {
        one.read_until("\"hello\"");
    }
    assert_eq!(upstream.counts().active, 300);
    gate.open();
    for one in &mut all {
        one.read_until("[DONE]");
    }
    upstream.wait_until_idle();
    assert_eq!(upstream.counts().answered, 300);
}

#[test]
fn latency_comes_before_the_answer_and_a_body_may_come_in_chunks() {
    let upstream = Upstream::start();
    upstream.script("m", Script::new().latency(Duration::from_millis(1)).extra(json!({ "new": true })));
    let mut raw = Raw::connect(&upstream.address());
    let body = chat("m", &json!({})).to_string();
    let (first, rest) = body.split_at(9);
    assert!(raw.send(format!(
        "POST {CHAT} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n9\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n",
        rest.len()
    )));
    assert!(raw.read_until("x_extra").starts_with("HTTP/1.1 100 Continue"));
}
