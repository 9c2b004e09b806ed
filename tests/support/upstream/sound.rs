//! `/v1/audio/transcriptions` and `/v1/audio/speech`.

use serde_json::{Value, json};

use super::answer::{Answer, Ask, Body, Event, Kind};
use super::books::Used;
use super::peer::find;
use super::script::Usage;

/// What a transcription is of, when the script does not say.
const SECONDS: u64 = 5;

pub fn transcription(ask: &Ask<'_>) -> Answer {
    let said = ask.says(None, None);
    let scripted = ask.script.used.unwrap_or_default();
    let seconds = if scripted.seconds > 0 { scripted.seconds } else { SECONDS };
    let used = Used { input: scripted.input, output: said.tokens(), seconds, ..Used::default() };
    let text = said.text();
    let usage = (ask.script.usage == Usage::Right).then(|| {
        if ask.model.starts_with("whisper") {
            return json!({ "type": "duration", "seconds": seconds });
        }
        let (input, output) = (used.input, used.output);
        json!({ "type": "tokens", "input_tokens": input, "output_tokens": output, "total_tokens": input + output,
            "input_token_details": { "audio_tokens": input, "text_tokens": 0 } })
    });
    if ask.body["stream"] == "true" {
        let delta = |text: &str| json!({ "type": "transcript.text.delta", "delta": text });
        let pieces = said.pieces.iter().map(|(text, tokens)| Event::named(&delta(text), Kind::Content(*tokens)));
        let mut events: Vec<_> = pieces.collect();
        let done = with_usage(json!({ "type": "transcript.text.done", "text": text }), usage);
        events.push(Event::named(&done, Kind::End));
        return Answer::events(events, used);
    }
    let plain =
        |text: String| Answer { content_type: "text/plain; charset=utf-8", body: Body::Whole(text.into()), used };
    let end = format!("00:00:{seconds:02}");
    match ask.body["response_format"].as_str() {
        Some("text") => plain(format!("{text}\n")),
        Some("srt") => plain(format!("1\n00:00:00,000 --> {end},000\n{text}\n\n")),
        Some("vtt") => plain(format!("WEBVTT\n\n00:00:00.000 --> {end}.000\n{text}\n\n")),
        Some("verbose_json") => {
            let segment = json!({ "id": 0, "seek": 0, "start": 0.0, "end": seconds, "text": text, "tokens": [],
                "temperature": 0.0, "avg_logprob": -0.1, "compression_ratio": 1.0, "no_speech_prob": 0.0 });
            let body = json!({ "task": "transcribe", "language": "english", "duration": seconds, "text": text,
                "segments": [segment] });
            Answer::json(&with_usage(body, usage), used)
        }
        _ => Answer::json(&ask.with_extra(with_usage(json!({ "text": text }), usage)), used),
    }
}

fn with_usage(mut body: Value, usage: Option<Value>) -> Value {
    if let Some(usage) = usage {
        body["usage"] = usage;
    }
    body
}

/// Bytes that are no sound, a hundred for each letter.
pub fn speech(ask: &Ask<'_>) -> Answer {
    let characters = ask.body["input"].as_str().unwrap_or_default().chars().count() as u64;
    let scripted = ask.script.used.unwrap_or_default();
    let used = Used { input: scripted.input, output: scripted.output, characters, ..Used::default() };
    let content_type = match ask.body["response_format"].as_str() {
        Some("wav") => "audio/wav",
        Some("opus") => "audio/opus",
        Some("pcm") => "audio/pcm",
        _ => "audio/mpeg",
    };
    let bytes = (0..characters * 100).map(|place| u8::try_from(place % 251).unwrap_or_default()).collect();
    Answer { content_type, body: Body::Whole(bytes), used }
}

/// The fields of a form, as strings; of a file, how many bytes it has.
pub fn fields(content_type: &str, body: &[u8]) -> Value {
    let mut fields = serde_json::Map::new();
    let Some((_, boundary)) = content_type.split_once("boundary=") else { return Value::Null };
    let line = format!("--{}", boundary.trim_matches('"'));
    let mut rest = body;
    while let Some(start) = find(rest, line.as_bytes()) {
        rest = &rest[start + line.len()..];
        let Some(end) = find(rest, line.as_bytes()) else { break };
        let Some(head) = find(&rest[..end], b"\r\n\r\n") else { break };
        let text = String::from_utf8_lossy(&rest[..head]).into_owned();
        let content = &rest[head + 4..end.saturating_sub(2).max(head + 4)];
        let Some(name) = text.split("name=\"").nth(1).and_then(|it| it.split('"').next()) else { continue };
        let is_file = text.contains("filename=");
        let value = if is_file { json!(content.len()) } else { json!(String::from_utf8_lossy(content)) };
        fields.insert(name.to_owned(), value);
    }
    Value::Object(fields)
}
