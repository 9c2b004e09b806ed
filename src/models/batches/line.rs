//! A batch's lines, as they are read and written. Pure.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;

use super::types::LineEnd;
use crate::http::{OpenAiError, Problem, json_fault};
use crate::id::{hex, random_bytes};
use crate::jobs::one_line;

/// Characters that a `custom_id` may have.
const LONGEST_ID: usize = 512;

/// A line of the input that can be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub custom_id: String,
    pub body: Bytes,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "BatchError")]
pub(super) struct Fault {
    /// What it is, for programs.
    pub code: String,
    /// What it is, for people.
    pub message: String,
    /// The field of the line.
    pub param: Option<String>,
    /// The line, from 1; null when it is the file as a whole.
    pub line: Option<u64>,
}

impl Fault {
    /// A fault of the file as a whole.
    pub(super) fn of_file(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), param: None, line: None }
    }

    fn of_field(code: &str, param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::of_file(code, message) }
    }

    /// An id that an earlier line has.
    pub(super) fn twice(custom_id: &str) -> Self {
        let message = format!("{} is the id of an earlier line", shorten(&Value::from(custom_id).to_string()));
        Self::of_field("duplicate_custom_id", "custom_id", message)
    }

    /// The same, of this line.
    pub(super) fn at(self, line: u64) -> Self {
        Self { line: Some(line), ..self }
    }
}

#[derive(Deserialize)]
struct Raw<'a> {
    custom_id: Option<Value>,
    method: Option<Value>,
    url: Option<Value>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

/// What of a body is looked at.
#[derive(Deserialize)]
struct Body {
    model: Option<Value>,
    #[serde(default)]
    stream: Value,
    #[serde(default)]
    background: Value,
}

/// Reads a line of a batch that calls `endpoint`.
pub(super) fn read(text: &[u8], endpoint: &str) -> Result<Line, Fault> {
    let wrong_json = |error: &dyn std::fmt::Display| Fault::of_file("invalid_json_line", format!("no JSON: {error}"));
    // Some programs write a byte order mark before the first line.
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(wrong_json(&"the line must be an object"));
    }
    crate::http::check_json(text).map_err(|problem| wrong_json(&problem))?;
    let raw: Raw<'_> = serde_json::from_slice(text).map_err(|error| wrong_json(&json_fault(&error)))?;
    let custom_id = match raw.custom_id {
        None | Some(Value::Null) => return Err(missing("custom_id")),
        Some(Value::String(id)) if !id.is_empty() && id.chars().count() <= LONGEST_ID => id,
        Some(_) => {
            let message = format!("must be a text of 1 to {LONGEST_ID} characters");
            return Err(Fault::of_field("invalid_custom_id", "custom_id", message));
        }
    };
    match raw.method.as_ref() {
        None => return Err(missing("method")),
        Some(method) if method == "POST" => {}
        Some(method) => return Err(Fault::of_field("invalid_method", "method", format!("{method} is not POST"))),
    }
    match raw.url.as_ref() {
        None => return Err(missing("url")),
        Some(url) if url == endpoint => {}
        Some(url) => {
            let message = format!("{} is not the batch's endpoint, {endpoint}", shorten(&url.to_string()));
            return Err(Fault::of_field("invalid_url", "url", message));
        }
    }
    let body = raw.body.ok_or_else(|| missing("body"))?.get();
    check_body(body)?;
    Ok(Line { custom_id, body: Bytes::copy_from_slice(body.as_bytes()) })
}

fn check_body(body: &str) -> Result<(), Fault> {
    let wrong = |message: &str| Fault::of_field("invalid_body", "body", message);
    if !body.starts_with('{') {
        return Err(wrong("must be an object"));
    }
    let seen: Body = serde_json::from_str(body).map_err(|error| wrong(&json_fault(&error)))?;
    match seen.model {
        Some(Value::String(_) | Value::Null) | None => {}
        Some(_) => return Err(Fault::of_field("invalid_body", "body.model", "must be a text")),
    }
    for (field, value) in [("body.stream", seen.stream), ("body.background", seen.background)] {
        if value == true {
            return Err(Fault::of_field("invalid_body", field, "is not possible in a batch"));
        }
    }
    Ok(())
}

fn missing(field: &str) -> Fault {
    Fault::of_field("missing_required_parameter", field, format!("{field} is missing"))
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 100 { text.to_owned() } else { text.chars().take(100).chain(['…']).collect() }
}

/// What becomes of a line that a provider has answered.
pub(super) fn answered(custom_id: &str, status: u16, body: &[u8]) -> LineEnd {
    let text = str::from_utf8(body).ok();
    // What is no JSON is shown as text.
    let body = text.and_then(|text| one_line(text).ok());
    let body = body.map_or_else(|| Value::from(text.unwrap_or_default()).to_string(), |body| body.to_string());
    let succeeded = (200..300).contains(&status);
    LineEnd { succeeded, result: written(custom_id, Some((status, &body)), None) }
}

/// What becomes of a line that was refused before a provider answered it.
pub(super) fn refused(custom_id: &str, problem: &Problem) -> LineEnd {
    let status = actix_web::ResponseError::status_code(problem).as_u16();
    let error: OpenAiError = problem.openai_error();
    let body = serde_json::to_string(&error).unwrap_or_else(|_| "null".into());
    LineEnd { succeeded: false, result: written(custom_id, Some((status, &body)), None) }
}

/// What becomes of a line without an answer.
pub(super) fn failed(custom_id: &str, code: &str, message: &str) -> LineEnd {
    LineEnd { succeeded: false, result: written(custom_id, None, Some((code, message))) }
}

fn written(custom_id: &str, answer: Option<(u16, &str)>, error: Option<(&str, &str)>) -> String {
    let id = || hex(&random_bytes::<16>());
    let response = answer.map_or_else(
        || "null".to_owned(),
        |(status, body)| format!("{{\"status_code\":{status},\"request_id\":\"{}\",\"body\":{body}}}", id()),
    );
    let error = error.map_or(Value::Null, |(code, message)| json!({ "code": code, "message": message }));
    let custom_id = Value::from(custom_id);
    format!("{{\"id\":\"batch_req_{}\",\"custom_id\":{custom_id},\"response\":{response},\"error\":{error}}}", id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHAT: &str = "/v1/chat/completions";

    fn fault(text: &str) -> (String, Option<String>) {
        let fault = read(text.as_bytes(), CHAT).expect_err("it is refused");
        (fault.code, fault.param)
    }

    #[test]
    fn a_line_is_read() {
        let text = r#" {"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m", "x": 1.0},"more":1}"#;
        let line = read(text.as_bytes(), CHAT).expect("a line");
        assert_eq!(line, Line { custom_id: "a".into(), body: Bytes::from_static(br#"{"model":"m", "x": 1.0}"#) });
    }

    #[test]
    fn faults_have_their_codes() {
        let with = |method: &str, url: &str, body: &str| {
            fault(&format!(r#"{{"custom_id":"a","method":{method},"url":{url},"body":{body}}}"#))
        };
        let named = |code: &str, param: &str| (code.to_owned(), Some(param.to_owned()));
        let url = "\"/v1/chat/completions\"";
        assert_eq!(fault("{"), ("invalid_json_line".into(), None));
        assert_eq!(fault("[]"), ("invalid_json_line".into(), None));
        assert_eq!(fault(&format!("{{\"a\":{}{}}}", "[".repeat(99), "]".repeat(99))).0, "invalid_json_line");
        assert_eq!(fault("{}"), named("missing_required_parameter", "custom_id"));
        assert_eq!(fault(r#"{"custom_id":7}"#), named("invalid_custom_id", "custom_id"));
        assert_eq!(fault(r#"{"custom_id":""}"#), named("invalid_custom_id", "custom_id"));
        assert_eq!(with("\"GET\"", url, "{}"), named("invalid_method", "method"));
        assert_eq!(with("\"POST\"", "\"/v1/embeddings\"", "{}"), named("invalid_url", "url"));
        assert_eq!(with("\"POST\"", url, "null"), named("missing_required_parameter", "body"));
        assert_eq!(with("\"POST\"", url, "[]"), named("invalid_body", "body"));
        assert_eq!(with("\"POST\"", url, r#"{"model":1}"#), named("invalid_body", "body.model"));
        assert_eq!(with("\"POST\"", url, r#"{"model":"m","stream":true}"#), named("invalid_body", "body.stream"));
        assert!(
            read(
                format!(r#"{{"custom_id":"a","method":"POST","url":{url},"body":{{"model":"m","stream":false}}}}"#)
                    .as_bytes(),
                CHAT
            )
            .is_ok()
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_one_line_of_json(id in ".*", status in 100_u16..600, body in prop::collection::vec(any::<u8>(), 0..60)) {
            for end in [answered(&id, status, &body), failed(&id, "code", "message\n"), refused(&id, &Problem::not_found("x"))] {
                prop_assert!(!end.result.contains('\n'));
                let value: Value = serde_json::from_str(&end.result).expect("JSON");
                prop_assert_eq!(value["custom_id"].as_str(), Some(id.as_str()));
            }
        }

        #[test]
        fn no_line_is_too_strange(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&text, CHAT);
        }
    }

    #[test]
    fn an_answer_is_passed_on_as_it_is() {
        let end = answered("a", 200, b"{ \"x\" : 1.10,\n \"y\": \"\\u00e9 \" }");
        assert!(end.succeeded);
        assert!(end.result.contains(r#""body":{"x":1.10,"y":"\u00e9 "}},"error":null}"#), "{}", end.result);
        assert!(!answered("a", 404, b"<html>").succeeded);
        assert!(answered("a", 404, b"<html>").result.contains(r#""body":"<html>""#));
    }
}
