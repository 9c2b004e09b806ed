//! What counts as an answer of a provider, whole or as a stream, and what does
//! not, although it comes with a status of success.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use super::streams::{events, said};
use super::{Bench, hello, question, streamed};
use crate::support::upstream::Script;
use crate::support::{Answer, Setup};

const CHAT: &str = "/v1/chat/completions";

/// One attempt at each provider, so that each failure leads to the next one.
fn bench() -> Bench {
    Bench::start_with(Setup::real().env("AGENTD_MODELS_ATTEMPTS", "1"))
}

fn json_body(body: &Value) -> Script {
    Script::default().body("application/json", &body.to_string()).billed(false)
}

fn only_m(mut body: Value) -> Value {
    body["model"] = json!("openai/m");
    body
}

fn chunk(content: &str, finish: impl Into<Value>) -> String {
    let chunk = json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": { "content": content }, "finish_reason": finish.into() }] });
    format!("data: {chunk}\n\n")
}

fn used() -> String {
    let usage = json!({ "prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020 });
    format!("data: {}\n\n", json!({ "choices": [], "usage": usage }))
}

/// A good stream of a few words.
fn stream() -> String {
    [chunk("a", Value::Null), chunk(" b", json!("stop")), used(), "data: [DONE]\n\n".into()].concat()
}

#[track_caller]
fn is_of(answer: &Answer, model: &str) {
    assert_eq!((answer.status, answer.header("x-model-used")), (200, Some(model)), "{}", answer.text);
}

#[test]
fn an_error_in_a_success_is_a_failure_and_costs_nothing() {
    let bench = bench();
    bench.upstream.script("n", hello());
    for (body, status, code) in [
        (json!({ "error": { "message": "Provider returned error", "code": 502 } }), 502, "provider_failed"),
        (json!({ "error": { "message": "Provider returned error" } }), 502, "provider_failed"),
        (json!({ "error": "overloaded" }), 502, "provider_failed"),
        (json!({ "error": { "message": "overloaded", "code": "503" } }), 503, "provider_unavailable"),
        (json!({ "error": { "message": "overloaded", "code": 529 } }), 529, "provider_unavailable"),
        (json!({ "error": { "message": "slow down", "code": 429 } }), 429, "provider_rate_limited"),
        (json!({ "error": { "message": "no", "code": 200 } }), 502, "provider_failed"),
        (json!({ "error": { "type": "insufficient_quota" } }), 502, "provider_key_refused"),
        (json!({ "choices": [] }), 502, "provider_failed"),
        (json!({ "choices": null }), 502, "provider_failed"),
        (json!({ "choices": [{ "index": 0, "message": null }] }), 502, "provider_failed"),
        (json!({ "id": "x", "object": "chat.completion" }), 502, "provider_failed"),
        (json!({ "object": "error", "message": "no such thing", "code": 40303 }), 502, "provider_failed"),
        (json!({}), 502, "provider_failed"),
    ] {
        bench.keep_healthy(3);
        bench.upstream.script("m", json_body(&body));
        is_of(&bench.client.post(CHAT, &question()), "n");
        let mut cached = only_m(question());
        cached["seed"] = json!(body.to_string());
        for _ in 0..2 {
            let asked = bench.upstream.asked("m");
            let answer = bench.client.with("Cache-Control", "max-age=3600").post(CHAT, &cached);
            answer.openai_error(status, code, None);
            assert_eq!(bench.upstream.asked("m"), asked + 1, "{body}: an error is not cached");
        }
    }
    bench.settled();
    assert_eq!(bench.tenant_day("spent_usd"), bench.upstream.billed().to_string());
}

/// What the provider says about the request comes back with its own status.
#[test]
fn an_error_about_the_request_in_a_success_is_passed_on() {
    let bench = bench();
    let error = json!({ "error": { "message": "The request is not good.", "code": 400 } });
    bench.upstream.usually(json_body(&error));
    let answer = bench.client.post(CHAT, &question());
    assert_eq!(answer.expect(400), error);
    assert_eq!((bench.upstream.asked("m"), bench.upstream.asked("n")), (1, 1));
}

#[test]
fn a_failure_that_tells_its_usage_is_paid_for() {
    let bench = bench();
    let usage = json!({ "prompt_tokens": 1000, "completion_tokens": 0 });
    bench.upstream.script("m", json_body(&json!({ "choices": [], "usage": usage })));
    let answer = bench.client.post(CHAT, &only_m(question()));
    answer.openai_error(502, "provider_failed", None);
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    bench.settled();
    assert_eq!(bench.tenant_day("spent_usd"), "0.001");
}

#[test]
fn a_stream_that_begins_with_an_error_or_with_nothing_leads_to_the_next_model() {
    let bench = bench();
    bench.upstream.script("n", Script::tokens(10, 5));
    let error = r#"{"error":{"message":"Provider returned error","code":502}}"#;
    for stream in [
        format!("data: {error}\n\n"),
        format!(": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\ndata: {error}\n\ndata: [DONE]\n\n"),
        "data: {\"error\":\"overloaded\"}\n\n".into(),
        "event: error\ndata: {\"message\":\"overloaded\"}\n\n".into(),
        "data:\n\nevent: ping\n\ndata: {\"error\":{\"code\":429}}\n\n".into(),
        ": a comment\n\n: and another\n\n".into(),
        "data:\n\ndata\n\n".into(),
        "data: [DONE]\n\n".into(),
        "data: <html>\n\n".into(),
        "<html><body>Oops</body></html>".into(),
        error.into(),
        "\u{feff}data: {\"error\":{}, \"choices\":[{\"error\":{\"code\":502}}]}\r\r".into(),
        String::new(),
    ] {
        for (kind, pieces) in [("text/event-stream", None), ("text/plain", Some(1)), ("", Some(7))] {
            let script = Script::default().bytes(kind, stream.clone().into()).billed(false);
            let script = pieces.map_or(script.clone(), |bytes| script.in_pieces(bytes));
            bench.keep_healthy(1);
            bench.upstream.next("m", [script]);
            let answer = bench.client.post(CHAT, &streamed());
            is_of(&answer, "n");
            assert_eq!(answer.header("x-fallbacks"), Some("1"), "{stream:?}");
            assert_eq!(said(&events(&answer.text)).split_whitespace().count(), 5, "{stream:?}");
        }
    }
    // Alone it is answered with a status.
    bench.upstream.next("m", [Script::default().events(&format!("data: {error}\n\n"))]);
    bench.client.post(CHAT, &only_m(streamed())).openai_error(502, "provider_failed", None);
}

#[test]
fn a_stream_that_ends_before_its_end_says_so() {
    let bench = bench();
    let two = [chunk("a", Value::Null), chunk(" b", Value::Null)].concat();
    for (stream, error) in [
        (two.clone(), Some("provider_failed")),
        (two.clone() + &used(), Some("provider_failed")),
        (two.clone() + ": the end\n\n", Some("provider_failed")),
        (two.clone() + "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" c\"", Some("provider_failed")),
        (two.clone() + &chunk("", json!("stop")), None),
        (two.clone() + "data: [DONE]\n\n", None),
        (two.clone() + "data: [DONE]", None),
        (two.clone() + "data: {\"error\":{\"message\":\"no\",\"code\":\"theirs\"}}\n\n", Some("theirs")),
    ] {
        bench.keep_healthy(1);
        bench.upstream.script("m", Script::default().events(&stream));
        let answer = bench.client.post(CHAT, &streamed());
        let events = events(answer.expect_text(200));
        let errors: Vec<_> = events.iter().filter(|event| event["error"].is_object()).collect();
        let codes: Vec<_> = errors.iter().map(|event| event["error"]["code"].as_str().expect("a code")).collect();
        assert_eq!(codes, Vec::from_iter(error), "{stream:?}");
        assert_eq!(answer.text.ends_with("data: [DONE]\n\n"), error.is_none(), "{stream:?}");
        assert!(said(&events).starts_with("a b"), "{stream:?}");
    }
    assert_eq!(bench.upstream.asked("n"), 0);
}

#[test]
fn a_stream_is_read_by_the_standard_and_under_any_media_type() {
    let bench = bench();
    let good = stream();
    let noisy = format!("\u{feff}: hello\n\nevent: ping\n\ndata:\n\n{good}");
    let texts =
        [good.clone(), noisy, good.replace('\n', "\r\n"), good.replace('\n', "\r"), good.replace("data: ", "data:")];
    for (text, kind) in texts.iter().zip([
        "Text/Event-Stream; Charset=UTF-8",
        "text/plain",
        "",
        "application/octet-stream",
        "application/json",
    ]) {
        for pieces in [None, Some(1), Some(11)] {
            let script = Script::default().bytes(kind, text.clone().into_bytes());
            bench.upstream.script("m", pieces.map_or(script.clone(), |bytes| script.in_pieces(bytes)));
            let answer = bench.client.post(CHAT, &streamed());
            is_of(&answer, "m");
            assert_eq!(answer.header("content-type"), Some("text/event-stream"), "{kind}");
            let events = events(&answer.text);
            assert_eq!((events.len(), said(&events).as_str()), (2, "a b"), "{kind} {text:?}: {:?}", answer.text);
            assert!(answer.text.ends_with("data: [DONE]\n\n") && !answer.text.contains('\r'), "{:?}", answer.text);
            assert!(!answer.text.contains("data:\n"), "{:?}", answer.text);
        }
    }
}

#[test]
fn usage_that_was_not_asked_for_is_not_passed_on() {
    let bench = bench();
    let usage = json!({ "prompt_tokens": 1000, "completion_tokens": 20 });
    for event in [
        json!({ "choices": [], "usage": usage }),
        json!({ "choices": null, "usage": usage }),
        json!({ "id": "c", "object": "chat.completion.chunk", "usage": usage }),
    ] {
        let text = [chunk("a", json!("stop")), format!("data: {event}\n\n"), "data: [DONE]\n\n".into()].concat();
        bench.upstream.script("m", Script::default().events(&text));
        let answer = bench.client.post(CHAT, &streamed());
        assert_eq!(events(answer.expect_text(200)).len(), 1, "{event}: {}", answer.text);
        let mut body = streamed();
        body["stream_options"] = json!({ "include_usage": true });
        assert_eq!(events(bench.client.post(CHAT, &body).expect_text(200)).len(), 2, "{event}");
    }
    bench.settled();
    let spent = bench.tenant_day("spent_usd");
    assert_eq!(spent, "0.00624", "each of six calls had 1,000 and 20 tokens");
}

#[test]
fn one_answer_in_place_of_a_stream_becomes_one() {
    let bench = bench();
    let usage = json!({ "prompt_tokens": 1000, "completion_tokens": 20 });
    let choice = json!({ "index": 0, "message": { "role": "assistant", "content": "a b" }, "finish_reason": "stop" });
    let answer = json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage });
    for kind in ["application/json", "text/event-stream", "text/plain", ""] {
        bench.upstream.script("m", Script::default().bytes(kind, answer.to_string().into()).in_pieces(9));
        let streamed = bench.client.post(CHAT, &streamed());
        is_of(&streamed, "m");
        assert_eq!(streamed.header("content-type"), Some("text/event-stream"));
        let events = events(&streamed.text);
        assert_eq!(said(&events), "a b", "{kind}: {}", streamed.text);
        assert!(streamed.text.ends_with("data: [DONE]\n\n"));
        assert!(events.iter().any(|event| event["choices"][0]["finish_reason"] == "stop"));
    }
    bench.settled();
    assert_eq!(bench.tenant_day("spent_usd"), "0.00416");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("packed");
    encoder.finish().expect("packed")
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("packed");
    encoder.finish().expect("packed")
}

#[test]
fn what_comes_packed_is_read_and_counted() {
    let bench = bench();
    let whole = json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "a b" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 1000, "completion_tokens": 20 } });
    let mut calls = 0;
    for (coding, pack) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("x-gzip", gzip), ("GZIP", gzip), ("deflate", zlib)]
    {
        for pieces in [1, 50, 10_000] {
            let packed = |kind: &str, text: &str| {
                Script::default()
                    .bytes(kind, pack(text.as_bytes()))
                    .header("Content-Encoding", coding)
                    .in_pieces(pieces)
            };
            bench.upstream.script("m", packed("text/event-stream", &stream()));
            let answer = bench.client.post(CHAT, &streamed());
            assert_eq!(said(&events(answer.expect_text(200))), "a b", "{coding}");
            assert_eq!(answer.header("content-encoding"), None);
            bench.upstream.script("m", packed("application/json", &whole.to_string()));
            assert_eq!(bench.client.post(CHAT, &question()).expect(200)["choices"][0]["message"]["content"], "a b");
            calls += 2;
        }
    }
    let encoding = bench.upstream.last_request().header("accept-encoding").map(str::to_owned);
    assert_eq!(encoding.as_deref(), Some("identity"));
    bench.settled();
    let spent: f64 = bench.tenant_day("spent_usd").parse().expect("an amount");
    assert!((spent - 0.00104 * f64::from(calls)).abs() < 1e-9, "{spent}");
}

#[test]
fn what_cannot_be_unpacked_is_a_failure_and_is_not_free() {
    let prices = Setup::real().env("AGENTD_MODELS_UNKNOWN_INPUT_USD", "1").env("AGENTD_MODELS_UNKNOWN_OUTPUT_USD", "2");
    let bench = Bench::start_with(prices.env("AGENTD_MODELS_ATTEMPTS", "1"));
    let budget = format!("/admin/tenants/{}/budget", bench.tenant);
    bench.server.admin().put(&budget, &json!({ "day_usd": "0.005" })).expect(200);
    let (mut failed, mut refused) = (0, 0);
    for round in 0..5 {
        for (place, (coding, bytes)) in [
            ("br", b"\x0b\x02\x80data\x03".to_vec()),
            ("zstd", vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0]),
            ("gzip, gzip", gzip(&gzip(stream().as_bytes()))),
            ("gzip", stream().into_bytes()),
        ]
        .into_iter()
        .enumerate()
        {
            for mut body in [streamed(), question()] {
                let model = format!("x{round}{place}{}", body["stream"]);
                let script = Script::default().bytes("text/event-stream", bytes.clone());
                bench.upstream.script(&model, script.header("Content-Encoding", coding));
                body["model"] = json!(format!("openai/{model}"));
                let answer = bench.client.post(CHAT, &body);
                if answer.status == 402 {
                    refused += 1;
                    continue;
                }
                failed += 1;
                answer.openai_error(502, "provider_failed", None);
                assert_eq!(answer.header("x-should-retry"), Some("false"), "{coding}");
            }
        }
    }
    assert!(failed > 0 && refused > 0, "{failed} calls that nobody can count, {refused} refused");
    bench.settled();
    let spent: f64 = bench.tenant_day("spent_usd").parse().expect("an amount");
    assert!(spent > 0.0 && spent <= 0.005, "{spent}");
}

/// A proxy in front gives up after a minute of silence.
#[test]
fn a_stream_is_never_silent_for_long() {
    let bench = bench();
    let gate = crate::support::upstream::Gate::new();
    let began = std::time::Instant::now();
    // Three at once: no head at all, a head and nothing, and a pause in the middle.
    bench.upstream.next("m", [Script::tokens(10, 5).behind(&gate)]);
    bench.upstream.script("cheap", Script::tokens(10, 5).waits_after(0, &gate));
    bench.upstream.script("n", Script::tokens(10, 5).waits_after(2, &gate));
    let of = |model: &str| {
        let mut body = streamed();
        body["model"] = json!(model);
        body
    };
    std::thread::scope(|scope| {
        let open = |model: &'static str| {
            let bench = &bench;
            scope.spawn(move || {
                let mut stream = bench.client.open("POST", CHAT, &of(model));
                let mut frames = Vec::new();
                while !frames.last().is_some_and(|frame: &crate::support::Frame| frame.comment) {
                    frames.push(stream.frame().expect("a frame"));
                }
                (stream, frames.len(), began.elapsed())
            })
        };
        let waiting = ["openai/m", "openai/cheap", "openai/n"].map(open).map(|it| it.join().expect("a comment"));
        gate.open();
        for ((mut stream, frames, after), before) in waiting.into_iter().zip([1, 2, 4]) {
            assert!(after < std::time::Duration::from_secs(25), "{after:?}");
            assert_eq!(frames, before);
            let mut last = None;
            while let Some(frame) = stream.frame() {
                last = Some(frame);
            }
            assert_eq!(last.map(|frame| frame.data).as_deref(), Some("[DONE]"));
        }
    });
    bench.settled();
    assert_eq!(bench.tenant_day("spent_usd"), bench.upstream.billed().to_string());
}

#[test]
fn a_response_is_never_silent_for_long() {
    let bench = bench();
    let gate = crate::support::upstream::Gate::new();
    bench.upstream.script("m", Script::tokens(10, 5).behind(&gate));
    let body = json!({ "model": "openai/m", "input": "Say hello.", "stream": true, "max_output_tokens": 100 });
    let mut stream = bench.client.open("POST", "/v1/responses", &body);
    while !stream.frame().expect("a frame").comment {}
    gate.open();
    let frames = std::iter::from_fn(|| stream.frame()).filter(|frame| !frame.comment);
    assert_eq!(frames.last().map(|frame| frame.event).as_deref(), Some("response.completed"));
}

/// What fails after the head was sent says so in the stream.
#[test]
fn a_failure_after_a_long_silence_is_an_event() {
    let bench = bench();
    for model in ["m", "n"] {
        let gate = crate::support::upstream::Gate::new();
        bench.upstream.script(model, Script::status(400).behind(&gate));
        let mut body = streamed();
        body["model"] = json!(format!("openai/{model}"));
        if model == "n" {
            bench.upstream.script(model, Script::status(500).behind(&gate));
        }
        let mut stream = bench.client.open("POST", CHAT, &body);
        assert!(stream.frame().is_some_and(|frame| frame.comment));
        gate.open();
        let frames: Vec<_> = std::iter::from_fn(|| stream.frame()).filter(|frame| !frame.comment).collect();
        let [error] = frames.as_slice() else { panic!("{frames:?}") };
        let message = error.json()["error"]["message"].as_str().map(str::to_owned).unwrap_or_default();
        let expected = if model == "m" { "The request is not good." } else { "answered with an error (500)" };
        assert!(message.contains(expected), "{message}");
    }
    bench.settled();
    assert_eq!(bench.tenant_day("spent_usd"), "0");
}

impl Bench {
    /// Good calls around so many that fail keep the breaker of the model closed.
    fn keep_healthy(&self, failed: usize) {
        self.upstream.next("m", vec![hello(); 2 * failed + 1]);
        for _ in 0..=2 * failed {
            self.client.post(CHAT, &only_m(question())).expect(200);
        }
    }
}
