//! `/v1/embeddings`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::answer::{Answer, Ask, count};
use super::books::Used;
use super::script::Usage;

pub fn answer(ask: &Ask<'_>) -> Answer {
    let inputs = match &ask.body["input"] {
        Value::Array(all) if !all.iter().all(Value::is_number) => all.clone(),
        one => vec![one.clone()],
    };
    let size = ask.body["dimensions"].as_u64().unwrap_or(8);
    let (input, cached) = ask.input(|| inputs.iter().map(|input| tokens(ask.model, input)).sum());
    let used = Used { input, cached, ..Used::default() };
    let base64 = ask.body["encoding_format"] == "base64";
    let data: Vec<_> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let vector = vector(input, size);
            let embedding = if base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|it| it.to_le_bytes()).collect();
                json!(BASE64_STANDARD.encode(bytes))
            } else {
                json!(vector)
            };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let mut body = json!({ "object": "list", "data": data, "model": ask.model });
    match ask.script.usage {
        Usage::Right => body["usage"] = json!({ "prompt_tokens": input, "total_tokens": input }),
        Usage::Nonsense => body["usage"] = json!("none"),
        Usage::Missing => {}
    }
    Answer::json(&ask.with_extra(body), used)
}

fn tokens(model: &str, input: &Value) -> u64 {
    match input {
        Value::String(text) => count(model, text),
        Value::Array(tokens) => tokens.len() as u64,
        _ => 0,
    }
}

/// The same for the same input, and exact in 32 bits.
fn vector(input: &Value, size: u64) -> Vec<f32> {
    let seed = input.to_string().bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    (0..size)
        .map(|place| {
            let mixed = seed.wrapping_mul(2_654_435_761).rotate_left(u32::try_from(place % 32).unwrap_or_default());
            f32::from(u8::try_from(mixed >> 24).unwrap_or_default()) / 256.0
        })
        .collect()
}
