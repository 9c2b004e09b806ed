//! Audio that is read aloud or written down.

use super::count::{Count, unknown_price};
use super::{Estimate, Fields};
use crate::http::Problem;
use crate::models::json::{self, length};
use crate::models::price::{Price, Unit};
use crate::models::{Form, form::Part};

/// Bytes that a second of audio has at least: less than codecs of speech need.
/// Nothing short of decoding the file could tell better.
const BYTES_A_SECOND: u64 = 500;
/// Seconds that a provider counts for a short file.
const LEAST_SECONDS: u64 = 10;
/// Tokens of audio for a character that is read slowly: 21 tokens a second, and
/// some four characters in it at a quarter of the usual speed, with pauses.
const TOKENS_A_CHARACTER: u64 = 16;

/// What reading a text aloud can cost.
pub(super) fn speech(body: &Fields, price: &Price) -> Result<Estimate, Problem> {
    let text = body.get("input").and_then(|input| json::text(input));
    let text = text.ok_or_else(|| Problem::invalid("/input", "must be the text to read"))?;
    let characters = length(text.chars().count());
    match price.unit() {
        Unit::Character => Ok(Estimate::new(characters, 0, price)),
        Unit::Token if price.pays_audio() => {
            let mut count = Count::new(price);
            count.text(&text);
            if let Some(instructions) = body.get("instructions").filter(|value| !json::is_null(value)) {
                count.at_most(json::bytes(instructions));
            }
            count.frame(0);
            let output = characters.saturating_mul(TOKENS_A_CHARACTER).saturating_add(TOKENS_A_CHARACTER);
            Ok(Estimate::new(count.input()?, output, price))
        }
        Unit::Token | Unit::Second => {
            Err(unknown_price("what speech costs with this model is not known", "characters_usd_per_million"))
        }
    }
}

/// What writing down a file can cost.
pub(super) fn transcription(form: &Form, price: &Price) -> Result<Estimate, Problem> {
    let files: Vec<_> = form.parts.iter().filter(|part| part.name == "file").collect();
    if files.is_empty() {
        return Err(Problem::invalid("/file", "must be the audio to write down"));
    }
    let bytes: u64 = files.iter().map(|part| length(part.body.len())).sum();
    let seconds = (bytes / BYTES_A_SECOND + 1).max(LEAST_SECONDS);
    match price.unit() {
        Unit::Second => Ok(Estimate::new(seconds, 0, price)),
        Unit::Token if price.pays_audio() && price.pays_output() => {
            let mut count = Count::new(price);
            count.audio(bytes)?;
            let words = |part: &Part| !["file", "model"].contains(&part.name.as_str());
            for part in form.parts.iter().filter(|part| words(part)) {
                count.at_most(length(part.body.len()));
            }
            count.frame(0);
            let input = count.input()?;
            // Nobody speaks more tokens than these of audio are.
            let output = price.output().unwrap_or(input);
            Ok(Estimate::new(input, output, price))
        }
        Unit::Token | Unit::Character => {
            Err(unknown_price("what this model takes for audio is not known", "audio_usd_per_minute"))
        }
    }
}
