//! The built-in model of test keys: it says what it is told, and costs nothing.

use std::sync::Arc;
use std::time::Duration;

use async_openai::types::chat::{
    ChatChoice, ChatChoiceStream, ChatCompletionResponseMessage, ChatCompletionStreamResponseDelta, CompletionUsage,
    CreateChatCompletionResponse, CreateChatCompletionStreamResponse, FinishReason, Role,
};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};

use super::request::Request;
use crate::http::Problem;
use crate::models::{Answer, Endpoint, Receipt, Reply, Streamed};
use crate::money::Usd;

/// What it is called.
pub(super) const NAME: &str = "echo";
/// Numbers in an embedding where nobody says how many.
const DIMENSIONS: usize = 256;
/// Numbers in one at most.
const MOST_DIMENSIONS: u64 = 4096;
/// Texts that are embedded together at most, and numbers of all of them.
const MOST_INPUTS: usize = 2048;
const MOST_NUMBERS: usize = 1 << 20;
/// Characters that it says again.
const MOST_SAID: usize = 16 << 10;

/// What the echo model answers.
pub(super) fn reply(request: &Request) -> Result<Reply, Problem> {
    let body = request.json();
    match request.endpoint {
        Endpoint::ChatCompletions if request.stream => streamed(&said(&body), !request.hides_usage),
        Endpoint::ChatCompletions => {
            let answer = serde_json::to_vec(&chat(&said(&body))).map_err(Problem::internal)?;
            Ok(whole("application/json", answer))
        }
        Endpoint::Embeddings => Ok(whole("application/json", embeddings(&body)?.to_string())),
        Endpoint::AudioTranscriptions => Ok(whole("application/json", json!({ "text": "echo" }).to_string())),
        Endpoint::AudioSpeech => Ok(whole("audio/wav", Bytes::from_static(SILENCE))),
        Endpoint::Responses => Err(Problem::not_available("/model", "the echo model for responses")),
    }
}

fn receipt() -> Receipt {
    Receipt {
        cost: Some(Usd::ZERO),
        model: NAME.into(),
        provider: Arc::from("agentd"),
        fallbacks: 0,
        left: None,
        overhead: Duration::ZERO,
        reduced: false,
        age: None,
    }
}

fn whole(content_type: &str, body: impl Into<Bytes>) -> Reply {
    Reply::Whole(Answer { status: 200, content_type: content_type.into(), body: body.into(), receipt: receipt() })
}

/// The text of the last message of a user, as far as it is said again.
fn said(body: &Value) -> String {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = messages.iter().rev().find(|message| message["role"] == "user").or(messages.last());
    let text = match last.map(|message| &message["content"]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts: Vec<_> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    };
    text.chars().take(MOST_SAID).collect()
}

/// It counts words.
fn usage(text: &str) -> CompletionUsage {
    let words = u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX / 2);
    CompletionUsage {
        prompt_tokens: words,
        completion_tokens: words,
        total_tokens: 2 * words,
        ..CompletionUsage::default()
    }
}

fn chat(text: &str) -> CreateChatCompletionResponse {
    let message = ChatCompletionResponseMessage {
        content: Some(text.into()),
        role: Role::Assistant,
        ..ChatCompletionResponseMessage::default()
    };
    CreateChatCompletionResponse {
        id: "chatcmpl-echo".into(),
        object: "chat.completion".into(),
        model: NAME.into(),
        choices: vec![ChatChoice { message, finish_reason: Some(FinishReason::Stop), ..ChatChoice::default() }],
        usage: Some(usage(text)),
        ..CreateChatCompletionResponse::default()
    }
}

fn streamed(text: &str, with_usage: bool) -> Result<Reply, Problem> {
    let chunk = |choices: Vec<ChatChoiceStream>, usage: Option<CompletionUsage>| {
        let chunk = CreateChatCompletionStreamResponse {
            id: "chatcmpl-echo".into(),
            object: "chat.completion.chunk".into(),
            model: NAME.into(),
            choices,
            usage,
            ..CreateChatCompletionStreamResponse::default()
        };
        serde_json::to_string(&chunk).map(|chunk| Bytes::from(format!("data: {chunk}\n\n")))
    };
    let said = |content: &str, role: Option<Role>, finish_reason: Option<FinishReason>| {
        let content = Some(content.to_owned());
        let delta = ChatCompletionStreamResponseDelta { content, role, ..ChatCompletionStreamResponseDelta::default() };
        chunk(vec![ChatChoiceStream { delta, finish_reason, ..ChatChoiceStream::default() }], None)
    };
    let words = text.split_inclusive(' ').map(|word| said(word, None, None));
    let chunks = std::iter::once(said("", Some(Role::Assistant), None)).chain(words);
    let chunks = chunks.chain([said("", None, Some(FinishReason::Stop))]);
    let chunks = chunks.chain(with_usage.then(|| chunk(Vec::new(), Some(usage(text)))));
    let mut chunks = chunks.collect::<Result<Vec<_>, _>>().map_err(Problem::internal)?;
    chunks.push(Bytes::from_static(b"data: [DONE]\n\n"));
    let pieces = stream::iter(chunks).boxed();
    Ok(Reply::Stream(Streamed { content_type: "text/event-stream".into(), pieces, receipt: receipt() }))
}

/// The same text always has the same numbers, of length 1 together.
fn embeddings(body: &Value) -> Result<Value, Problem> {
    let inputs: Vec<String> = match &body["input"] {
        Value::String(text) => vec![text.clone()],
        Value::Array(inputs) if inputs.iter().all(Value::is_number) => vec![body["input"].to_string()],
        Value::Array(inputs) => {
            inputs.iter().map(|input| input.as_str().map_or_else(|| input.to_string(), str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    let wanted = body["dimensions"].as_u64().map(|wanted| wanted.clamp(1, MOST_DIMENSIONS));
    let dimensions = wanted.and_then(|wanted| usize::try_from(wanted).ok()).unwrap_or(DIMENSIONS);
    if inputs.len() > MOST_INPUTS || inputs.len() * dimensions > MOST_NUMBERS {
        let detail = format!("the echo model embeds at most {MOST_INPUTS} texts and {MOST_NUMBERS} numbers together");
        return Err(Problem::invalid("/input", detail));
    }
    let base64 = body["encoding_format"] == "base64";
    let data: Vec<_> = inputs
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let numbers = numbers(text, dimensions);
            let embedding = if base64 { in_base64(&numbers) } else { json!(numbers) };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let words: usize = inputs.iter().map(|text| text.split_whitespace().count()).sum();
    let usage = json!({ "prompt_tokens": words, "total_tokens": words });
    Ok(json!({ "object": "list", "data": data, "model": NAME, "usage": usage }))
}

fn numbers(text: &str, dimensions: usize) -> Vec<f32> {
    let mut seed = [0_u8; 4];
    let mut numbers = Vec::with_capacity(dimensions);
    while numbers.len() < dimensions {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[&seed, text.as_bytes()].concat());
        let pairs = hash.as_ref().chunks_exact(2);
        numbers.extend(pairs.map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0));
        seed = (u32::from_le_bytes(seed) + 1).to_le_bytes();
    }
    numbers.truncate(dimensions);
    let length = numbers.iter().map(|number| number * number).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    numbers.into_iter().map(|number| number / length).collect()
}

fn in_base64(numbers: &[f32]) -> Value {
    use base64::Engine as _;
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    base64::prelude::BASE64_STANDARD.encode(bytes).into()
}

/// A WAV file without a sample: 8 bits, 8 kHz, one channel.
const SILENCE: &[u8] = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\0\0\0\0";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Body;

    fn answer(endpoint: Endpoint, body: &'static str) -> Reply {
        let request = Request::read(endpoint, Body::Json(Bytes::from_static(body.as_bytes()))).expect("a request");
        reply(&request).map_err(|problem| problem.to_string()).expect("a reply")
    }

    fn json(endpoint: Endpoint, body: &'static str) -> Value {
        let Reply::Whole(answer) = answer(endpoint, body) else { panic!("it is streamed") };
        assert_eq!(answer.receipt.cost, Some(Usd::ZERO));
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    #[test]
    fn it_says_what_it_is_told() {
        let body = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a b"}]},{"role":"tool"}]}"#;
        assert_eq!(json(Endpoint::ChatCompletions, body)["choices"][0]["message"]["content"], "a b");
        assert_eq!(json(Endpoint::ChatCompletions, "{}")["usage"]["total_tokens"], 0);
    }

    #[test]
    fn a_text_has_its_numbers() {
        let body = r#"{"input":["a","b","a"],"dimensions":3}"#;
        let data = json(Endpoint::Embeddings, body)["data"].clone();
        assert_eq!(data[0]["embedding"], data[2]["embedding"]);
        assert_ne!(data[0]["embedding"], data[1]["embedding"]);
        assert_eq!(data[0]["embedding"].as_array().map(Vec::len), Some(3));
        let body = r#"{"input":"a","encoding_format":"base64","dimensions":3}"#;
        assert_eq!(json(Endpoint::Embeddings, body)["data"][0]["embedding"].as_str().map(str::len), Some(16));
    }

    #[tokio::test]
    async fn a_stream_ends_and_tells_its_usage_when_asked() {
        for (body, frames) in [
            (r#"{"stream":true,"messages":[{"role":"user","content":"a b"}]}"#, 5),
            (
                r#"{"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"a b"}]}"#,
                6,
            ),
        ] {
            let Reply::Stream(streamed) = answer(Endpoint::ChatCompletions, body) else { panic!("it is whole") };
            let pieces: Vec<_> = streamed.pieces.collect().await;
            assert_eq!(pieces.len(), frames);
            assert_eq!(pieces.last().map(|piece| &piece[..]), Some(&b"data: [DONE]\n\n"[..]));
        }
    }
}
