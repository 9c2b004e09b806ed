//! Schemas as words and tables. They are those of our own types, so only what
//! schemars writes is known here.

use std::fmt::Write as _;

use serde_json::Value;

use super::html::{Text, markdown};

/// The fields of an object as rows of a table; empty when it has none.
pub(super) fn fields(schema: &Value) -> String {
    let Some(members) = schema["properties"].as_object().filter(|members| !members.is_empty()) else {
        return String::new();
    };
    let required = |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|known| known == name));
    let mut rows = String::from("<div class=\"wide\"><table><thead><tr><th>Field<th>Type<th></tr></thead><tbody>");
    // What must be there comes first.
    let (needed, rest): (Vec<_>, Vec<_>) = members.iter().partition(|(name, _)| required(name));
    for (name, member) in needed.into_iter().chain(rest) {
        let mark = if required(name) { "" } else { " <small>optional</small>" };
        let _ = write!(rows, "<tr><td><code>{}</code>{mark}<td>{}<td>{}</tr>", Text(name), kind(member), about(member));
    }
    rows.push_str("</tbody></table></div>");
    rows
}

/// What a schema asks for, in a few words.
pub(super) fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return format!("<a href=\"#schema-{0}\">{0}</a>", Text(name));
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        if let Some(parts) = schema[choice].as_array() {
            let constants = parts.iter().filter(|part| part.get("const").is_some());
            if constants.count() == parts.len() {
                return "string".to_owned();
            }
            let parts: Vec<_> = parts.iter().map(kind).collect();
            return parts.join(if choice == "allOf" { " and " } else { " or " });
        }
    }
    let one = |name: &str| match name {
        "array" if schema["items"].is_null() => "array".to_owned(),
        "array" => format!("array of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"]["type"].is_string() => {
            format!("object of {}", kind(&schema["additionalProperties"]))
        }
        name => Text(name).to_string(),
    };
    let mut words = match &schema["type"] {
        Value::String(name) => one(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(one).collect::<Vec<_>>().join(" or "),
        _ => "anything".to_owned(),
    };
    // The widths of numbers are said by their bounds.
    if let Some(format) = schema["format"].as_str().filter(|format| format.contains(['-', 'i']) && !is_number(format)) {
        let _ = write!(words, " <small>{}</small>", Text(format));
    }
    words
}

fn is_number(format: &str) -> bool {
    format.starts_with("int") || format.starts_with("uint")
}

/// What there is to say of a field beside its type.
pub(super) fn about(schema: &Value) -> String {
    let mut words = markdown(schema["description"].as_str().unwrap_or_default());
    let choices = choices(schema);
    if !choices.is_empty() {
        let _ = write!(words, "<p class=\"choices\">{choices}</p>");
    }
    let bounds = bounds(schema);
    if !bounds.is_empty() {
        let _ = write!(words, "<p class=\"bounds\">{bounds}</p>");
    }
    words
}

fn choices(schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        let values = values.iter().map(|value| format!("<code>{}</code>", Text(&value.to_string())));
        return values.collect::<Vec<_>>().join(" ");
    }
    if let Some(value) = schema.get("const") {
        return format!("<code>{}</code>", Text(&value.to_string()));
    }
    let parts = ["oneOf", "anyOf"].iter().filter_map(|choice| schema[*choice].as_array()).flatten();
    let each = parts.filter_map(|part| match part.get("const") {
        Some(value) => {
            let meaning = part["description"].as_str().unwrap_or_default();
            Some(format!("<code>{}</code> {}", Text(&value.to_string()), Text(meaning)))
        }
        None => Some(choices(part)).filter(|inner| !inner.is_empty()),
    });
    each.collect::<Vec<_>>().join("<br>")
}

fn bounds(schema: &Value) -> String {
    let number = |name: &str| schema.get(name).filter(|value| value.is_number()).map(ToString::to_string);
    let range = |least: &str, most: &str, what: &str| match (number(least), number(most)) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}{what}")),
        // That there is something goes without saying.
        (Some(least), None) if least == "1" && !what.is_empty() => None,
        (Some(least), None) => Some(format!("at least {least}{what}")),
        (None, Some(most)) => Some(format!("at most {most}{what}")),
        (None, None) => None,
    };
    let ranges = [
        range("minimum", "maximum", ""),
        range("minLength", "maxLength", " characters"),
        range("minItems", "maxItems", " of them"),
        range("minProperties", "maxProperties", " members"),
    ];
    let default = schema.get("default").filter(|value| !value.is_null());
    let default = default.map(|value| format!("default <code>{}</code>", Text(&value.to_string())));
    ranges.into_iter().flatten().chain(default).collect::<Vec<_>>().join("; ")
}
