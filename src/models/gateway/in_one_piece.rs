//! A chat that was to be streamed and came as one answer, as the events that it
//! would have been.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::models::lenient;

/// The events of an answer, with its usage where the client has asked for that.
pub(super) fn events(answer: &[u8], with_usage: bool) -> Bytes {
    let answer: Value = serde_json::from_slice(&lenient::repair(answer)).unwrap_or_default();
    let mut frame = match &answer {
        Value::Object(members) => members.clone(),
        _ => Map::new(),
    };
    let usage = frame.remove("usage").filter(|usage| with_usage && !usage.is_null());
    let choices = frame.remove("choices");
    frame.insert("object".into(), "chat.completion.chunk".into());
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = frame.clone();
        chunk.insert("choices".into(), choices);
        if with_usage {
            chunk.insert("usage".into(), usage);
        }
        format!("data: {}\n\n", Value::Object(chunk))
    };
    let mut events = String::new();
    for (place, choice) in choices.as_ref().and_then(Value::as_array).into_iter().flatten().enumerate() {
        let index = choice.get("index").cloned().unwrap_or_else(|| place.into());
        let finish = choice["finish_reason"].as_str().unwrap_or("stop");
        let said = json!([{
            "index": index, "delta": delta(&choice["message"]), "logprobs": choice["logprobs"], "finish_reason": null,
        }]);
        events += &chunk(said, Value::Null);
        let ended = json!([{ "index": index, "delta": {}, "logprobs": null, "finish_reason": finish }]);
        events += &chunk(ended, Value::Null);
    }
    if let Some(usage) = usage {
        events += &chunk(json!([]), usage);
    }
    events += "data: [DONE]\n\n";
    events.into()
}

/// A message as what a stream adds: calls of tools are numbered there.
fn delta(message: &Value) -> Value {
    let mut delta = message.clone();
    for (place, call) in delta["tool_calls"].as_array_mut().into_iter().flatten().enumerate() {
        if call.is_object() && call["index"].is_null() {
            call["index"] = place.into();
        }
    }
    if delta["tool_calls"].is_null()
        && let Some(members) = delta.as_object_mut()
    {
        members.remove("tool_calls");
    }
    delta
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(events: &Bytes) -> Vec<Value> {
        let text = std::str::from_utf8(events).expect("text");
        let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).expect("JSON")).collect()
    }

    #[test]
    fn an_answer_becomes_a_stream() {
        let answer = json!({
            "id": "x", "object": "chat.completion", "created": 1, "model": "m", "x": 1,
            "choices": [
                { "index": 0, "message": { "role": "assistant", "content": "hello" }, "finish_reason": "stop" },
                { "message": { "role": "assistant", "content": null, "tool_calls": [{ "id": "a" }, { "id": "b" }] },
                  "finish_reason": "tool_calls" },
            ],
            "usage": { "prompt_tokens": 1 },
        });
        let made = events(answer.to_string().as_bytes(), true);
        assert!(made.ends_with(b"data: [DONE]\n\n"));
        let chunks = data(&made);
        assert_eq!(chunks.len(), 5);
        assert!(chunks.iter().all(|it| it["id"] == "x" && it["x"] == 1 && it["object"] == "chat.completion.chunk"));
        assert_eq!(chunks[0]["choices"][0]["delta"]["content"], "hello");
        assert_eq!(chunks[1]["choices"][0]["finish_reason"], "stop");
        assert_eq!(chunks[2]["choices"][0]["index"], 1);
        assert_eq!(chunks[2]["choices"][0]["delta"]["tool_calls"][1], json!({ "id": "b", "index": 1 }));
        assert_eq!(chunks[4]["usage"]["prompt_tokens"], 1);
        let without = data(&events(answer.to_string().as_bytes(), false));
        assert!(without.len() == 4 && without.iter().all(|chunk| chunk.get("usage").is_none()));
    }
}
