//! Holds every answer that a test gets against the document of the interface:
//! its status, its media type, the headers it must have, its JSON.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jsonschema::Validator;
use serde_json::{Value, json};

use super::Answer;

type Validators = Mutex<BTreeMap<String, Arc<Validator>>>;

fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| agentd::app::routes().document())
}

/// Panics when the document does not say that this answer can be.
#[track_caller]
pub fn check(method: &str, path: &str, answer: &Answer) {
    let path = path.split('?').next().unwrap_or_default();
    let Some((template, operation)) = operation(method, path) else { return };
    // Answered by the server below the routes.
    if answer.text.is_empty() && answer.header("x-request-id").is_none() {
        return;
    }
    // What a provider says is wrong has statuses and codes of its own.
    let passed = answer.status >= 400 && answer.header("x-model-used").is_some();
    let place = format!("{method} {template} {}{}", answer.status, if passed { " passed on" } else { "" });
    let own = resolve(&operation["responses"][answer.status.to_string()]);
    let response = if passed { resolve(&operation["responses"]["default"]) } else { own };
    assert!(response.is_object(), "{place} is not in the document: {}", answer.text);
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        let required = resolve(header)["required"] == true;
        assert!(!required || answer.header(name).is_some(), "{place} has no {name}");
    }
    let kind = answer.header("content-type").unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default();
    let Some(contents) = response["content"].as_object() else {
        assert!(answer.text.is_empty(), "{place} has a body that is not in the document: {}", answer.text);
        return;
    };
    let content = contents.get(media).unwrap_or_else(|| panic!("{place}: {media:?} is not in the document"));
    if media.ends_with("json") {
        let validator = validator(&format!("{place} {media}"), &content["schema"]);
        let faults: Vec<_> = validator
            .iter_errors(&answer.json())
            .map(|fault| format!("{fault} at {}", fault.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{place} does not fit the document: {faults:?}\n{}", answer.text);
    }
}

/// The operation at a path, with its template; paths without parameters first.
fn operation(method: &str, path: &str) -> Option<(&'static str, &'static Value)> {
    let paths = document()["paths"].as_object()?;
    let fits = |template: &str| {
        let (mut parts, mut wanted) = (path.split('/'), template.split('/'));
        loop {
            match (parts.next(), wanted.next()) {
                (None, None) => return true,
                (Some(part), Some(want)) if part == want || want.starts_with('{') && !part.is_empty() => {}
                _ => return false,
            }
        }
    };
    let exact = paths.get_key_value(path);
    let (template, item) = exact.or_else(|| paths.iter().find(|(template, _)| fits(template)))?;
    item.get(method.to_ascii_lowercase()).map(|operation| (template.as_str(), operation))
}

fn resolve(value: &'static Value) -> &'static Value {
    let reference = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.map_or(value, |pointer| document().pointer(pointer).expect("a reference that leads somewhere"))
}

fn validator(place: &str, schema: &Value) -> Arc<Validator> {
    static KNOWN: OnceLock<Validators> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Validators::default).lock().unwrap_or_else(PoisonError::into_inner);
    let make = || {
        let whole = json!({ "allOf": [schema], "components": document()["components"] });
        Arc::new(jsonschema::draft202012::new(&whole).expect("a schema"))
    };
    known.entry(place.to_owned()).or_insert_with(make).clone()
}
