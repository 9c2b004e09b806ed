//! Doors for made-up input to what is private here. Compiled for the fuzz
//! program only.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;

use super::estimate::{Fields, estimate, with_output_limit};
use super::form::{FormLimits, FormReader};
use super::price::Prices;
use super::sse::{Event, Reader};
use super::usage::{StreamCounter, count_output, usage};
use super::{Endpoint, batches};

const ENDPOINTS: [Endpoint; 5] = [
    Endpoint::ChatCompletions,
    Endpoint::Responses,
    Endpoint::Embeddings,
    Endpoint::AudioTranscriptions,
    Endpoint::AudioSpeech,
];
/// By vocabulary, by bytes, by the character.
const MODELS: [&str; 4] = ["gpt-4o", "claude-haiku-4-5", "text-embedding-3-small", "tts-1"];

/// A form that comes in pieces of so many bytes, as it is written again; `None`
/// when it is none.
#[must_use]
pub fn form(body: &[u8], boundary: &str, piece: usize, limit: u64) -> Option<(String, Bytes)> {
    let pieces: Vec<_> = body.chunks(piece.max(1)).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let limits = FormLimits { bytes: limit, stall: Duration::from_secs(30) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
    let read = async { FormReader::new(boundary, stream::iter(pieces), limits).whole().await };
    let form = runtime.block_on(read).ok()?;
    Some(form.encode("m"))
}

/// A line of a batch's input: the text of its answer in the output, if it is one.
#[must_use]
pub fn batch_line(text: &[u8], answer: &[u8]) -> Option<String> {
    batches::fuzzing(text, answer)
}

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
        let (mut reader, mut counter) = (Reader::default(), StreamCounter::new(endpoint, &price));
        let mut each = |event: &Event<'_>| {
            if let Some(data) = &event.data {
                counter.event(event.name, data);
            }
        };
        for piece in pieces {
            let _ = reader.feed(piece, &mut each);
        }
        reader.finish(&mut each);
        let usage = counter.usage().map(|it| (it.tokens.input, it.tokens.output));
        (usage, counter.output(), counter.is_complete())
    })
}

/// A request and an answer. Where the request can be paid, a limit of its output
/// never makes it cost more: both costs in nano-USD.
#[must_use]
pub fn model(kind: u8, bytes: &[u8]) -> Option<(i64, i64)> {
    let endpoint = ENDPOINTS[usize::from(kind) % ENDPOINTS.len()];
    let price = Prices::shipped().of("", MODELS[usize::from(kind / 8) % MODELS.len()])?;
    let _ = usage(endpoint, bytes, price.unit());
    let _ = count_output(endpoint, bytes, &price);
    let mut fields: Fields = serde_json::from_slice(bytes).ok()?;
    let whole = estimate(endpoint, &fields, &price).ok()?;
    with_output_limit(endpoint, &mut fields, 100);
    let limited = estimate(endpoint, &fields, &price).ok()?;
    Some((whole.most.nano(), limited.most.nano()))
}
