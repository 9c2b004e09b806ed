//! What a request lets the model write.

use serde_json::value::RawValue;

use super::Fields;
use super::count::Count;
use crate::http::Problem;
use crate::models::price::Price;
use crate::models::tokens::Vocabulary;
use crate::models::{Endpoint, json};

/// The newer name of that limit. `OpenAI`'s own models obey it; others may not
/// know it, and ignore it.
const NEWER: &str = "max_completion_tokens";
const OLDER: &str = "max_tokens";

/// Choices that one call may ask for.
const MOST_CHOICES: u64 = 128;

/// The fields that limit output, the one first that is set when there is none.
fn limits(endpoint: Endpoint) -> &'static [&'static str] {
    match endpoint {
        Endpoint::ChatCompletions => &[NEWER, OLDER],
        Endpoint::Responses => &["max_output_tokens"],
        Endpoint::Embeddings | Endpoint::AudioTranscriptions | Endpoint::AudioSpeech => &[],
    }
}

/// Tokens of output at most, over all choices.
///
/// # Errors
/// When a limit is none, is more than the model can write, or is missing where
/// nothing else limits the model.
pub(super) fn most(endpoint: Endpoint, body: &Fields, count: &Count<'_>) -> Result<u64, Problem> {
    let price = count.price;
    let choices = if endpoint == Endpoint::ChatCompletions { choices(body)? } else { 1 };
    let able = price.output().into_iter().chain(price.context()).min();
    // Which of several counts is up to the provider.
    let mut asked: Option<u64> = None;
    for name in limits(endpoint) {
        let Some(limit) = whole(body, name)? else { continue };
        if let Some(able) = able.filter(|able| limit > *able) {
            return Err(Problem::invalid(
                format!("/{name}"),
                format!("must be at most {able}, which is what this model writes"),
            ));
        }
        asked = Some(asked.map_or(limit, |other| other.max(limit)));
    }
    let Some(each) = asked.or(able) else {
        let name = limits(endpoint).last().unwrap_or(&OLDER);
        let detail = "must be given, because it is not known how much this model writes at most";
        return Err(Problem::invalid(format!("/{name}"), detail));
    };
    let room = price.context().map_or(u64::MAX, |context| context.saturating_sub(count.least));
    let predicted = body.get("prediction").map_or(0, |prediction| json::bytes(prediction));
    Ok(each.min(room).saturating_mul(choices).saturating_add(predicted))
}

/// The limit under the name that every model knows, where a request for a model
/// that is not one of `OpenAI`'s has it under the newer name alone: what is reserved
/// must be what the model keeps to.
pub fn older_limit(endpoint: Endpoint, body: &Fields, price: &Price) -> Option<(&'static str, Box<RawValue>)> {
    let unsure = endpoint == Endpoint::ChatCompletions && price.vocabulary() == Vocabulary::Unknown;
    let is_set = |name: &str| body.get(name).is_some_and(|value| !json::is_null(value));
    let limit = body.get(NEWER).filter(|_| unsure && is_set(NEWER) && !is_set(OLDER))?;
    Some((OLDER, limit.clone()))
}

fn choices(body: &Fields) -> Result<u64, Problem> {
    match whole(body, "n")? {
        Some(n) if n > MOST_CHOICES => {
            Err(Problem::invalid("/n", format!("must be a whole number from 1 to {MOST_CHOICES}")))
        }
        n => Ok(n.unwrap_or(1)),
    }
}

/// A field that is a whole number from 1; none where it is absent or null.
fn whole(body: &Fields, name: &str) -> Result<Option<u64>, Problem> {
    let Some(value) = body.get(name).filter(|value| !json::is_null(value)) else { return Ok(None) };
    match json::read::<u64>(value) {
        Some(number) if number > 0 => Ok(Some(number)),
        _ => Err(Problem::invalid(format!("/{name}"), "must be a whole number from 1")),
    }
}

/// Limits each output of a call to so many tokens, in the field that the request
/// limits it by, or else in the one that its model knows. A limit that is lower
/// already stays; of several choices each may have so many.
pub fn with_output_limit(endpoint: Endpoint, body: &mut Fields, limit: u64) {
    let limit = limit.max(1);
    let mut is_set = false;
    for name in limits(endpoint) {
        if let Ok(Some(asked)) = whole(body, name) {
            body.insert((*name).into(), number(asked.min(limit)));
            is_set = true;
        }
    }
    if is_set {
        return;
    }
    let name = match endpoint {
        Endpoint::ChatCompletions => {
            let model = body.get("model").and_then(|model| json::text(model));
            let newer = model.is_some_and(|model| knows_completion_tokens(&model));
            if newer { NEWER } else { OLDER }
        }
        Endpoint::Responses => "max_output_tokens",
        Endpoint::Embeddings | Endpoint::AudioTranscriptions | Endpoint::AudioSpeech => return,
    };
    body.insert(name.into(), number(limit));
}

/// Models that refuse `max_tokens`, which all others know.
fn knows_completion_tokens(model: &str) -> bool {
    let model = model.rsplit_once('/').map_or(model, |(_, name)| name);
    ["gpt-5", "o1", "o3", "o4"].iter().any(|begins| model.starts_with(begins))
}

fn number(number: u64) -> Box<RawValue> {
    RawValue::from_string(number.to_string()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
