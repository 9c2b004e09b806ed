//! Speech to text and back, and vectors.

use serde_json::json;

use super::{Bench, send_form};
use crate::support::upstream::Script;

#[test]
fn a_recording_is_passed_on_and_its_text_comes_back_in_each_format() {
    let bench = Bench::start();
    bench.upstream.usually(Script::reply("Hello there."));
    let sound: Vec<u8> = (0..300_000_u32).map(|place| (place % 253) as u8).collect();
    let ask = |format: &str| {
        let fields = [("model", "openai/whisper-1"), ("response_format", format), ("unknown", "kept")];
        send_form(&bench.client, "/v1/audio/transcriptions", Some(("a.wav", &sound)), &fields)
    };
    let answer = ask("json");
    assert_eq!(answer.expect(200)["text"], "Hello there.");
    assert!(answer.header("x-cost-usd").is_some_and(|cost| cost != "0"), "{:?}", answer.headers);
    assert_eq!(answer.header("x-model-used"), Some("whisper-1"));
    assert_eq!(ask("verbose_json").expect(200)["task"], "transcribe");
    for (format, part) in [("text", "Hello there."), ("srt", "-->"), ("vtt", "WEBVTT")] {
        assert!(ask(format).expect_text(200).contains(part), "{format}");
    }
    let passed = String::from_utf8_lossy(&bench.upstream.last_request().body).into_owned();
    assert!(passed.contains("\r\n\r\nkept\r\n") && passed.contains("\r\n\r\nwhisper-1\r\n"));
    assert!(!passed.contains("openai/whisper-1"), "its own name for the model");
}

#[test]
fn a_form_without_a_recording_or_with_too_long_a_one_is_refused() {
    let bench = Bench::start();
    let path = "/v1/audio/transcriptions";
    let model = [("model", "openai/whisper-1")];
    send_form(&bench.client, path, None, &model).openai_error(400, "invalid_request", Some("file"));
    let perhaps = [("model", "openai/whisper-1"), ("stream", "perhaps")];
    send_form(&bench.client, path, Some(("a.wav", b"a")), &perhaps).openai_error(
        400,
        "invalid_request",
        Some("stream"),
    );
    let sound = vec![0; 26 << 20];
    send_form(&bench.client, path, Some(("a.wav", &sound)), &model).openai_error(413, "payload_too_large", None);
    bench.client.post(path, &json!({})).openai_error(415, "unsupported_media_type", None);
    assert_eq!(bench.upstream.counts().requests, 0);
}

#[test]
fn a_text_is_spoken() {
    let bench = Bench::start();
    bench.upstream.usually(Script::default().body("audio/mpeg", "a sound"));
    let body = json!({ "model": "openai/tts-1", "voice": "alloy", "input": "Hello.", "unknown": 1 });
    let answer = bench.client.post("/v1/audio/speech", &body);
    assert_eq!(answer.expect_text(200), "a sound");
    assert_eq!(answer.header("content-type"), Some("audio/mpeg"));
    assert!(answer.header("x-cost-usd").is_some_and(|cost| cost != "0"));
    assert_eq!(bench.upstream.last_request().json()["unknown"], 1);
}

#[test]
fn texts_become_vectors() {
    let bench = Bench::start();
    bench.upstream.usually(Script::tokens(100, 0));
    let body = json!({ "model": "openai/text-embedding-3-small", "input": ["a", "b"], "unknown": 1 });
    let answer = bench.client.post("/v1/embeddings", &body);
    assert_eq!(answer.expect(200)["data"].as_array().map(Vec::len), Some(2));
    assert!(answer.header("x-cost-usd").is_some_and(|cost| cost != "0"));
    assert_eq!(bench.upstream.last_request().json()["unknown"], 1);
}
