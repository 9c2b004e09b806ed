//! What is wrong with a body, in the words of JSON: the reader that serde derives speaks of the types of this
//! program, which no client knows.

use schemars::JsonSchema;
use schemars::generate::{Contract, SchemaSettings};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::{FieldError, Problem};
use crate::clock::Timestamp;
use crate::text::near;

/// What serde's reader says where it has looked for a value.
const NO_VALUE: &str = "expected value";
/// How deep references between schemas are followed.
const DEEPEST: usize = 16;

/// Reads a body again, slowly, to find the path of the fault.
pub(super) fn explain<T: DeserializeOwned + JsonSchema>(bytes: &[u8], error: &serde_json::Error) -> Problem {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Problem::bad_request("malformed_json", "the body is empty; a JSON object is expected");
    }
    // An enumeration that is given another type looks to the reader as if the grammar were broken.
    let is_json = || serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    let is_type = !error.is_syntax() && !error.is_eof() || without_place(error) == NO_VALUE && is_json();
    if !is_type {
        return Problem::bad_request("malformed_json", format!("the body is not JSON: {}", syntax(error)));
    }
    if let Some(problem) = no_object(bytes) {
        return problem;
    }
    let Err(found) = serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_slice(bytes)) else {
        return Problem::bad_request("malformed_json", format!("the body is not JSON: {}", syntax(error)));
    };
    let place = pointer(found.path());
    let Fault { member, detail, hint, code } =
        Fault::read(&without_place(found.inner()), || expected::<T>(found.path()));
    let pointer = match member {
        // serde reports these at the object that holds them, or would hold them.
        Some(name) if !place.ends_with(&format!("/{}", escape(&name))) => format!("{place}/{}", escape(&name)),
        _ => place,
    };
    let error = FieldError { pointer, detail };
    let problem = Problem::bad_request(code, error.to_string()).with_errors(vec![error]);
    match hint {
        Some(hint) => problem.with_hint(hint),
        None => problem,
    }
}

/// What is wrong with a body of JSON that is not an object. A list would be taken for the fields in their order.
pub(super) fn no_object(bytes: &[u8]) -> Option<Problem> {
    let what = match bytes.trim_ascii_start().first()? {
        b'{' => return None,
        b'[' => "an array",
        b'"' => "a string",
        b't' | b'f' => "true or false",
        b'n' => "null",
        _ => "a number",
    };
    let error = FieldError { pointer: String::new(), detail: format!("must be an object, not {what}") };
    let detail = format!("the body must be an object, not {what}");
    Some(Problem::bad_request("invalid_request", detail).with_errors(vec![error]))
}

/// What is wrong with JSON that is read outside of a body, in a client's words.
#[must_use]
pub fn json_fault(error: &serde_json::Error) -> String {
    if error.is_syntax() || error.is_eof() || error.is_io() {
        return syntax(error);
    }
    in_words(&without_place(error))
}

/// The same of what serde says of a file in another format.
#[must_use]
pub fn in_words(said: &str) -> String {
    match Fault::read(said, || None) {
        Fault { member: Some(name), detail, hint: Some(hint), .. } => {
            let near = detail.strip_prefix("unknown field").unwrap_or_default();
            format!("unknown field `{name}`, {hint}{near}")
        }
        Fault { member: Some(name), detail, .. } => format!("`{name}` {detail}"),
        Fault { detail, .. } => detail,
    }
}

/// What breaks the grammar, with its place.
fn syntax(error: &serde_json::Error) -> String {
    error.to_string().replacen("expected ident at", "expected true, false or null at", 1)
}

fn without_place(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    if let Some(place) = text.rfind(" at line ") {
        text.truncate(place);
    }
    text
}

/// A fault, said anew.
struct Fault {
    /// The member that it is about, where that is not the value itself.
    member: Option<String>,
    detail: String,
    hint: Option<String>,
    code: &'static str,
}

impl Fault {
    fn new(detail: impl Into<String>) -> Self {
        Self { member: None, detail: detail.into(), hint: None, code: "invalid_request" }
    }

    fn of(member: &str, detail: impl Into<String>) -> Self {
        Self { member: Some(member.to_owned()), ..Self::new(detail) }
    }

    /// `said` is what serde says; `schema` tells what belongs there.
    fn read(said: &str, schema: impl Fn() -> Option<String>) -> Self {
        let names = quoted(said);
        let first = names.first().copied().unwrap_or_default();
        if said.starts_with("unknown field `") {
            let (detail, hint) = unknown(first, names.get(1..).unwrap_or_default());
            return Self { hint: Some(hint), code: "unknown_field", ..Self::of(first, detail) };
        }
        if said.starts_with("missing field `") {
            return Self::of(first, "is missing");
        }
        if said.starts_with("duplicate field `") {
            return Self::of(first, "is given twice");
        }
        if said.starts_with("unknown variant `") {
            let known = names.get(1..).unwrap_or_default();
            let known = if known.is_empty() { schema() } else { Some(one_of(known)) };
            return Self::new(must_be(known));
        }
        let wrong = ["invalid type: ", "invalid value: ", "invalid length "];
        if !wrong.iter().any(|start| said.starts_with(start)) {
            // What a type of this program says itself, which is written for clients.
            return if said == NO_VALUE || is_foreign(said) { Self::new(must_be(schema())) } else { Self::new(said) };
        }
        let expected = said.rsplit_once(", expected ").map_or("", |(_, expected)| expected);
        Self::new(must_be(match translated(expected) {
            Some(known) => schema().or(Some(known)),
            // Where the reader has words of its own, they say more than the schema.
            None if !expected.is_empty() && !is_foreign(expected) => Some(expected.to_owned()),
            None => schema(),
        }))
    }
}

fn must_be(expected: Option<String>) -> String {
    expected.map_or_else(|| "is not of a form that is possible here".into(), |expected| format!("must be {expected}"))
}

/// What stands between backticks.
fn quoted(said: &str) -> Vec<&str> {
    said.split('`').skip(1).step_by(2).collect()
}

fn one_of(names: &[&str]) -> String {
    match names {
        [name] => format!("{name:?}"),
        names => format!("one of {}", names.join(", ")),
    }
}

fn unknown(name: &str, known: &[&str]) -> (String, String) {
    let near = near(name, known.iter().copied());
    let detail = near.map_or_else(|| "unknown field".into(), |near| format!("unknown field; did you mean {near}?"));
    let hint =
        if known.is_empty() { "no fields are possible here".into() } else { format!("known are {}", known.join(", ")) };
    (detail, hint)
}

/// Words of serde and of this program's language.
const FOREIGN: [&str; 10] = [
    "invalid type",
    "invalid value",
    "invalid length",
    "variant",
    "struct ",
    "tuple",
    "a sequence",
    "a map",
    "unit",
    "missing field",
];

fn is_foreign(said: &str) -> bool {
    FOREIGN.iter().any(|word| said.contains(word))
}

/// What a reader that serde comes with expects, in the words of JSON.
fn translated(expected: &str) -> Option<String> {
    let known = match expected {
        "a string" | "str" | "string" | "a borrowed string" | "a character" | "an identifier" => "a string",
        "a boolean" => "true or false",
        "f32" | "f64" => "a number",
        "unit" | "null" => "null",
        "a sequence" | "an array" => "a list",
        "a map" | "map" => "an object",
        "string or map" => "a string or an object",
        "any valid JSON value" | "any value" => "JSON",
        _ if expected.starts_with("struct ") => "an object",
        _ if expected.starts_with("tuple ") || expected.starts_with("an array of ") => "a list",
        _ => "",
    };
    if !known.is_empty() {
        return Some(known.to_owned());
    }
    let (nonzero, width) = match expected.strip_prefix("a nonzero ") {
        Some(width) => (true, width),
        None => (false, expected),
    };
    let (least, most) = width_of(width)?;
    Some(whole(Some(if nonzero { least.max(1) } else { least }), most))
}

/// The numbers that a type of integers can hold; those of 64 bits have no end that anyone reaches.
fn width_of(name: &str) -> Option<(i128, Option<i128>)> {
    let (signed, bits) = match name {
        "usize" | "uint" => (false, 64),
        "isize" | "int" => (true, 64),
        _ => {
            let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
            let kind = &name[..name.len() - digits.len()];
            let signed = matches!(kind, "i" | "int");
            (signed, digits.parse::<u32>().ok().filter(|_| signed || matches!(kind, "u" | "uint"))?)
        }
    };
    Some(match (signed, bits) {
        (false, 64..) => (0, None),
        (true, 64..) => (i128::MIN, None),
        (false, bits) => (0, Some((1 << bits) - 1)),
        (true, bits) => (-(1 << (bits - 1)), Some((1 << (bits - 1)) - 1)),
    })
}

fn whole(least: Option<i128>, most: Option<i128>) -> String {
    range("a whole number", least.filter(|least| *least != i128::MIN), most)
}

fn range(what: &str, least: Option<impl std::fmt::Display>, most: Option<impl std::fmt::Display>) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!("{what} from {least} to {most}"),
        (Some(least), None) => format!("{what} from {least}"),
        (None, Some(most)) => format!("{what} up to {most}"),
        (None, None) => what.to_owned(),
    }
}

/// What the schema of `T` asks for at a path.
fn expected<T: JsonSchema>(path: &Path) -> Option<String> {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.contract = Contract::Deserialize);
    let root = settings.into_generator().into_root_schema_for::<T>().to_value();
    let mut at = vec![&root];
    for segment in path {
        at = at.into_iter().flat_map(|schema| below(&root, schema, segment, DEEPEST)).collect();
    }
    let mut all: Vec<_> = at.into_iter().flat_map(|schema| forms(&root, schema, DEEPEST)).collect();
    // That a field may be null says nothing to who has sent something else.
    if all.iter().any(|form| form != "null") {
        all.retain(|form| form != "null");
    }
    all.dedup();
    (!all.is_empty()).then(|| all.join(" or "))
}

/// The schemas that a schema is made of.
fn parts<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let reference = schema["$ref"].as_str().and_then(|it| root.pointer(it.strip_prefix('#')?));
    let choices = ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|name| schema[name].as_array()).flatten();
    reference.into_iter().chain(choices).collect()
}

/// What a schema says of a member or an element.
fn below<'a>(root: &'a Value, schema: &'a Value, segment: &Segment, deep: usize) -> Vec<&'a Value> {
    let own = match segment {
        Segment::Seq { index } => {
            schema["prefixItems"].get(index).or_else(|| schema.get("items")).filter(|it| it.is_object())
        }
        Segment::Map { key } => {
            schema["properties"].get(key).or_else(|| schema.get("additionalProperties")).filter(|it| it.is_object())
        }
        Segment::Enum { .. } | Segment::Unknown => Some(schema),
    };
    match own {
        Some(own) => vec![own],
        None if deep == 0 => Vec::new(),
        None => parts(root, schema).into_iter().flat_map(|part| below(root, part, segment, deep - 1)).collect(),
    }
}

/// What a value has to be that fits a schema, one phrase for each form.
fn forms(root: &Value, schema: &Value, deep: usize) -> Vec<String> {
    if let Some(list) = schema["enum"].as_array() {
        let names: Vec<_> = list.iter().filter(|name| !name.is_null()).map(shown).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        return vec![one_of(&names)];
    }
    if let Some(value) = schema.get("const") {
        return vec![one_of(&[&shown(value)])];
    }
    let kinds = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ if deep == 0 => return Vec::new(),
        _ => {
            let parts = parts(root, schema);
            // An enumeration whose members are described one by one.
            let names: Option<Vec<_>> = parts.iter().map(|part| Some(shown(part.get("const")?))).collect();
            if let Some(names) = names.filter(|names| !names.is_empty()) {
                return vec![one_of(&names.iter().map(String::as_str).collect::<Vec<_>>())];
            }
            return parts.into_iter().flat_map(|part| forms(root, part, deep - 1)).collect();
        }
    };
    kinds.into_iter().filter_map(|kind| form(schema, kind)).collect()
}

fn form(schema: &Value, kind: &str) -> Option<String> {
    let bound = |name: &str| schema[name].as_number().cloned();
    Some(match kind {
        "integer" => {
            let (least, most) = schema["format"].as_str().and_then(width_of).unwrap_or((i128::MIN, None));
            let bound = |name: &str| schema[name].as_i64().map(i128::from);
            whole(bound("minimum").or(Some(least)), bound("maximum").or(most))
        }
        "number" => range("a number", bound("minimum"), bound("maximum")),
        "string" if schema["format"] == "date-time" => Timestamp::EXPECTED.into(),
        "string" => "a string".into(),
        "boolean" => "true or false".into(),
        "array" => "a list".into(),
        "object" => "an object".into(),
        "null" => "null".into(),
        _ => return None,
    })
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A JSON pointer (RFC 6901).
fn pointer(path: &Path) -> String {
    let segment = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(format!("/{index}")),
        Segment::Map { key } => Some(format!("/{}", escape(key))),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(segment).collect()
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
