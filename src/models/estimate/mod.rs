//! What a request can cost at most, told before it is sent.
//!
//! Input is counted exactly where the vocabulary and the frame of messages are
//! known, which is plain text for models of the maker of the interface.
//! Elsewhere the count is a bound that is never too low: bytes for text, the
//! largest that the provider counts for an image, the whole context for what is
//! only referred to. Output is what the request allows, or what the model can
//! write.

mod audio;
mod chat;
mod count;
mod output;
mod responses;
#[cfg(test)]
mod tests;
mod tools;

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::price::{Price, Unit};
use super::{Endpoint, Form, json};
use crate::http::Problem;
use crate::money::Usd;
use count::{Count, too_long, unknown_price};

pub use output::{older_limit, with_output_limit};

/// A request's body: its fields, as they were sent.
pub type Fields = BTreeMap<String, Box<RawValue>>;

/// What a request can cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens of input, at most; seconds or characters for models that are paid
    /// by those.
    pub input: u64,
    /// Tokens of output, at most.
    pub output: u64,
    /// What both cost.
    pub most: Usd,
}

impl Estimate {
    fn new(input: u64, output: u64, price: &Price) -> Self {
        let most = price.most(input, output);
        Self { input, output, most }
    }
}

/// What a request can cost at most.
///
/// # Errors
/// When it is not what the endpoint takes, is certain to be longer than the
/// model's context, or could cost what is not known.
pub fn estimate(endpoint: Endpoint, body: &Fields, price: &Price) -> Result<Estimate, Problem> {
    refuse_unpriced(body)?;
    match endpoint {
        Endpoint::ChatCompletions => {
            paid_by_tokens(price)?;
            let mut count = Count::new(price);
            chat::count(body, &mut count)?;
            written(endpoint, body, &count)
        }
        Endpoint::Responses => {
            paid_by_tokens(price)?;
            let mut count = Count::new(price);
            responses::count(body, &mut count)?;
            written(endpoint, body, &count)
        }
        Endpoint::Embeddings => embeddings(body, price),
        Endpoint::AudioSpeech => audio::speech(body, price),
        Endpoint::AudioTranscriptions => {
            Err(Problem::invalid("", "must be a form (multipart/form-data) with the field file"))
        }
    }
}

/// What a request that is a form can cost at most.
///
/// # Errors
/// As [`estimate`].
pub fn estimate_form(endpoint: Endpoint, form: &Form, price: &Price) -> Result<Estimate, Problem> {
    match endpoint {
        Endpoint::AudioTranscriptions => audio::transcription(form, price),
        _ => Err(Problem::invalid("", "must be JSON")),
    }
}

/// A request with output, once its input has been counted.
fn written(endpoint: Endpoint, body: &Fields, count: &Count<'_>) -> Result<Estimate, Problem> {
    let input = count.input()?;
    let output = output::most(endpoint, body, count)?;
    Ok(Estimate::new(input, output, count.price))
}

/// Options that cost more than tokens, which no price here tells.
fn refuse_unpriced(body: &Fields) -> Result<(), Problem> {
    let named = |name: &'static str| body.get(name).filter(|value| !json::is_null(value));
    if let Some(tier) = named("service_tier")
        && json::text(tier).is_some_and(|tier| tier == "priority")
    {
        let problem = Problem::bad_request("unknown_price", "what the service tier priority costs is not known");
        return Err(problem.with_hint("leave service_tier out, or send default or flex"));
    }
    for name in ["web_search_options", "search_parameters"] {
        if named(name).is_some() {
            let problem = Problem::bad_request("unknown_price", format!("what {name} costs is not known"));
            return Err(problem.with_hint("leave it out: a call whose cost has no bound is not made"));
        }
    }
    Ok(())
}

fn paid_by_tokens(price: &Price) -> Result<(), Problem> {
    if price.unit() != Unit::Token {
        return Err(Problem::bad_request("unknown_price", "this model is not paid by tokens")
            .with_hint("choose a model that writes text"));
    }
    if !price.pays_output() {
        return Err(unknown_price("what this model's output costs is not known", "output_usd_per_million"));
    }
    Ok(())
}

/// Texts, or tokens by their numbers.
fn embeddings(body: &Fields, price: &Price) -> Result<Estimate, Problem> {
    if price.unit() != Unit::Token {
        return Err(Problem::bad_request("unknown_price", "this model is not paid by tokens"));
    }
    let wrong = || Problem::invalid("/input", "must be a string, a list of strings, or a list of tokens");
    let input = body.get("input").ok_or_else(wrong)?;
    if json::text(input).is_some() || json::read::<Vec<u64>>(input).is_some() {
        return Ok(Estimate::new(one_embedding(input, "/input", price)?, 0, price));
    }
    let inputs = json::items(input).ok_or_else(wrong)?;
    let mut sum = 0_u64;
    for (place, input) in inputs.into_iter().enumerate() {
        sum = sum.saturating_add(one_embedding(input, &format!("/input/{place}"), price)?);
    }
    Ok(Estimate::new(sum, 0, price))
}

fn one_embedding(input: &RawValue, pointer: &str, price: &Price) -> Result<u64, Problem> {
    let mut count = Count::new(price);
    if let Some(text) = json::text(input) {
        count.text(&text);
    } else if let Some(tokens) = json::read::<Vec<u64>>(input) {
        count.exact(json::length(tokens.len()));
    } else {
        return Err(Problem::invalid(pointer, "must be a string or a list of tokens"));
    }
    if !price.vocabulary().is_known() {
        // Where a text begins and ends.
        count.at_most(2);
    }
    count.input().map_err(|problem| match price.context() {
        Some(context) => too_long(count.least, context).within(pointer),
        None => problem,
    })
}
