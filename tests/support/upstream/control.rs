//! The same by HTTP, for those who are in another process.
//!
//! | Request | |
//! |---|---|
//! | `POST /_scripted/script {"model", "script"}` | what it does with a model from now on |
//! | `POST /_scripted/next {"model", "scripts"}` | and with the next requests |
//! | `POST /_scripted/price {"model", "price"}` | what a model costs |
//! | `POST /_scripted/keys ["key"]` | the keys that it takes |
//! | `POST /_scripted/without ["path"]` | paths that it does not have |
//! | `GET /_scripted/state` | counts, and what is on the bill |
//! | `GET /_scripted/requests` | what was asked |

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::books::Price;
use super::peer::Request;
use super::script::Script;
use super::{Shared, State};

pub const PREFIX: &str = "/_scripted/";

#[derive(Deserialize)]
struct ForModel {
    model: String,
    #[serde(default)]
    script: Script,
}

#[derive(Deserialize)]
struct Next {
    model: String,
    scripts: Vec<Script>,
}

#[derive(Deserialize)]
struct Priced {
    model: String,
    price: Price,
}

pub fn answer(shared: &Shared, path: &str, request: &Request) -> (u16, Value) {
    let body = &request.body;
    let mut state = shared.lock();
    let done = match path {
        "script" => read(body).map(|ForModel { model, script }| {
            state.scripts.insert(model, script);
        }),
        "next" => read(body).map(|Next { model, scripts }| state.next.entry(model).or_default().extend(scripts)),
        "price" => read(body).map(|Priced { model, price }| {
            state.books.prices.insert(model, price);
        }),
        "keys" => read(body).map(|keys| state.keys = Some(keys)),
        "without" => read(body).map(|paths| state.missing = paths),
        "state" => return (200, summary(&state)),
        "requests" => return (200, requests(&state)),
        _ => return (404, json!({ "error": "no such path" })),
    };
    match done {
        Ok(()) => (200, json!({})),
        Err(error) => (400, json!({ "error": error })),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn summary(state: &State) -> Value {
    let by_model: serde_json::Map<_, _> =
        state.books.by_model().into_iter().map(|(model, cost)| (model, json!(cost))).collect();
    let calls: Vec<_> = state.books.calls.values().collect();
    json!({ "counts": state.counts, "billed": state.books.total(), "by_model": by_model, "calls": calls })
}

fn requests(state: &State) -> Value {
    let requests = state.requests.iter().map(|request| {
        json!({ "method": request.method, "path": request.path, "headers": request.headers,
            "body": String::from_utf8_lossy(&request.body) })
    });
    requests.collect()
}
