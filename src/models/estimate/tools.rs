//! Tools that a request describes to the model.

use std::borrow::Cow;

use serde_json::Value;
use serde_json::value::RawValue;

use super::count::Count;
use crate::http::Problem;
use crate::models::json::{self, Entries};

/// What describing a function adds to its text.
const FRAME: u64 = 64;
/// What describing functions at all adds, whose words are the provider's own.
const PREAMBLE: u64 = 1024;

/// Where the function stands in a tool.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// In `function`, as chat has it.
    Nested,
    /// In the tool itself, as responses have it.
    Flat,
}

/// Counts the tools, and refuses those that cost what is not known.
pub(super) fn count(tools: &RawValue, form: Form, count: &mut Count<'_>) -> Result<(), Problem> {
    let Some(tools) = json::items(tools) else { return Err(Problem::invalid("/tools", "must be a list of tools")) };
    if !tools.is_empty() {
        count.at_most(PREAMBLE);
    }
    for (place, tool) in tools.into_iter().enumerate() {
        // How it is written for the model is the provider's matter, but it is no longer than this.
        count.at_most(json::bytes(tool).saturating_add(FRAME));
        let pointer = format!("/tools/{place}");
        let tool = Entries::of(tool).ok_or_else(|| Problem::invalid(pointer.as_str(), "must be an object"))?;
        check(&tool, form).map_err(|problem| problem.within(&pointer))?;
    }
    Ok(())
}

/// Counts functions in the form that came before tools.
pub(super) fn count_functions(functions: &RawValue, count: &mut Count<'_>) -> Result<(), Problem> {
    let wrong = || Problem::invalid("/functions", "must be a list of functions");
    count.at_most(PREAMBLE);
    for (place, raw) in json::items(functions).ok_or_else(wrong)?.into_iter().enumerate() {
        count.at_most(json::bytes(raw).saturating_add(FRAME));
        let function = Entries::of(raw).ok_or_else(wrong)?;
        check_parameters(&function, "").map_err(|problem| problem.within(&format!("/functions/{place}")))?;
    }
    Ok(())
}

fn check(tool: &Entries<'_>, form: Form) -> Result<(), Problem> {
    let kind = tool.text("type").unwrap_or(Cow::Borrowed("function"));
    match (kind.as_ref(), form) {
        ("function", Form::Flat) => check_parameters(tool, ""),
        ("function", Form::Nested) => {
            let function = tool.get("function").and_then(Entries::of);
            let function = function.ok_or_else(|| Problem::invalid("/function", "must be an object"))?;
            check_parameters(&function, "/function")
        }
        ("custom", _) => Ok(()),
        // Such a tool runs at the provider, and is paid for besides the tokens that it reads.
        (other, _) => {
            let detail = format!("what the provider's tool {other:?} costs is not known");
            Err(Problem::bad_request("unknown_price", detail).with_hint("send functions only"))
        }
    }
}

/// Parameters are a JSON Schema, or are left out.
fn check_parameters(function: &Entries<'_>, pointer: &str) -> Result<(), Problem> {
    let Some(raw) = function.get("parameters") else { return Ok(()) };
    let wrong = |detail: String| Err(Problem::invalid(format!("{pointer}/parameters"), detail));
    let Some(schema @ Value::Object(_)) = json::read(raw) else { return wrong("must be an object".into()) };
    let Err(fault) = check_schema(&schema) else { return Ok(()) };
    let place = fault.instance_path().to_string();
    wrong(format!("is no JSON Schema: {place}{}{}", if place.is_empty() { "" } else { ": " }, fault.masked()))
}

/// By the draft that it names, of those that the library has; by the newest
/// where it names none.
fn check_schema(schema: &Value) -> Result<(), jsonschema::ValidationError<'_>> {
    let named = schema.get("$schema").and_then(Value::as_str).unwrap_or_default();
    let is = |draft: &str| named.contains(draft);
    if is("draft-07") {
        jsonschema::draft7::meta::validate(schema)
    } else if is("draft-06") {
        jsonschema::draft6::meta::validate(schema)
    } else if is("draft-04") {
        jsonschema::draft4::meta::validate(schema)
    } else if is("2019-09") {
        jsonschema::draft201909::meta::validate(schema)
    } else {
        jsonschema::draft202012::meta::validate(schema)
    }
}
