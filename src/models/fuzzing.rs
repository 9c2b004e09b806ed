//! A door for made-up input to what is private here. Compiled for the fuzz
//! program only.

use super::Endpoint;
use super::estimate::{Fields, estimate, with_output_limit};
use super::price::Prices;
use super::usage::{StreamCounter, count_output, usage};

const ENDPOINTS: [Endpoint; 5] = [
    Endpoint::ChatCompletions,
    Endpoint::Responses,
    Endpoint::Embeddings,
    Endpoint::AudioTranscriptions,
    Endpoint::AudioSpeech,
];
/// By vocabulary, by bytes, by the character.
const MODELS: [&str; 4] = ["gpt-4o", "claude-haiku-4-5", "text-embedding-3-small", "tts-1"];

/// A stream, whole and in two pieces; what was told of it both times: input and
/// output that the provider counted, output that was counted here, and whether it
/// was complete.
#[must_use]
pub fn stream(kind: u8, bytes: &[u8], cut: usize) -> [(Option<(u64, u64)>, u64, bool); 2] {
    let endpoint = ENDPOINTS[usize::from(kind) % ENDPOINTS.len()];
    let price = Prices::shipped().of("", MODELS[usize::from(kind / 8) % 2]);
    let Some(price) = price else { return Default::default() };
    let (first, second) = bytes.split_at(cut.min(bytes.len()));
    [&[bytes, &[]], &[first, second]].map(|pieces: &[&[u8]; 2]| {
        let mut counter = StreamCounter::new(endpoint, &price);
        for piece in pieces {
            counter.feed(piece);
        }
        (counter.usage().map(|it| (it.input, it.output)), counter.output(), counter.is_complete())
    })
}

/// A request and an answer. Where the request can be paid, a limit of its output
/// never makes it cost more: both costs in nano-USD.
#[must_use]
pub fn model(kind: u8, bytes: &[u8]) -> Option<(i64, i64)> {
    let endpoint = ENDPOINTS[usize::from(kind) % ENDPOINTS.len()];
    let price = Prices::shipped().of("", MODELS[usize::from(kind / 8) % MODELS.len()])?;
    let _ = usage(endpoint, bytes);
    let _ = count_output(endpoint, bytes, &price);
    let mut fields: Fields = serde_json::from_slice(bytes).ok()?;
    let whole = estimate(endpoint, &fields, &price).ok()?;
    with_output_limit(endpoint, &mut fields, 100);
    let limited = estimate(endpoint, &fields, &price).ok()?;
    Some((whole.most.nano(), limited.most.nano()))
}
