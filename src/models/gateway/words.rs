//! What the gateway itself says in a stream.

use bytes::Bytes;
use serde_json::{Value, json};

use super::relay::End;
use crate::http::Problem;
use crate::models::Endpoint;

/// The event that says that no more comes, in the words of the interface.
pub(super) fn cut_off(endpoint: Endpoint, provider: &str, end: End) -> Bytes {
    let (code, what) = match end {
        End::Late => ("provider_timeout", "took too long"),
        _ => ("provider_failed", "broke off"),
    };
    let message = format!("the provider {provider} {what} in the middle of its answer");
    let error = json!({ "message": message, "type": "server_error", "param": null, "code": code });
    event(endpoint, &error)
}

/// The event that says what an answer without a stream would have said.
pub(super) fn problem(endpoint: Endpoint, problem: &Problem) -> Bytes {
    let error = serde_json::to_value(problem.openai_error()).unwrap_or_default();
    event(endpoint, &error["error"])
}

/// The event for an error in the words of a provider.
pub(super) fn passed(endpoint: Endpoint, body: &[u8]) -> Bytes {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match body.get("error") {
        Some(error) => event(endpoint, error),
        None => event(endpoint, &body),
    }
}

fn event(endpoint: Endpoint, error: &Value) -> Bytes {
    if endpoint == Endpoint::Responses {
        let message = error["message"].as_str().or(error.as_str());
        let data = json!({ "type": "error", "code": error["code"], "message": message, "param": error["param"] });
        return format!("event: error\ndata: {data}\n\n").into();
    }
    format!("data: {}\n\n", json!({ "error": error })).into()
}
