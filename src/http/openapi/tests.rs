//! How descriptions become a document.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use super::{Answer, CODES};
use crate::http::query::NoQuery;
use crate::http::{Json, Open, Routes};

#[derive(serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sample {
    /// What it is called.
    name: String,
}

async fn handler(_: Open, _: HttpRequest, _: NoQuery, body: Json<Sample>) -> HttpResponse {
    HttpResponse::Ok().json(body.value)
}

fn sample() -> serde_json::Value {
    let routes = Routes::of("Samples", "For the test.").with(Method::POST, "/a/{id}/b/{other}", handler, |it| {
        it.named("doIt", "Do it")
            .about("First.")
            .about("Second.")
            .example("one", json!({ "name": "x" }))
            .query("q", "A question.", json!({ "type": "string" }))
            .answer(StatusCode::OK, Answer::json::<Sample>("Done.").header("Location").showing(json!({ "name": "x" })))
            .problems(StatusCode::CONFLICT, &["job_finished"])
            .idempotent()
    });
    routes.document()
}

#[test]
fn arguments_answers_and_words_come_together() {
    let document = sample();
    let it = &document["paths"]["/a/{id}/b/{other}"]["post"];
    assert_eq!(it["operationId"], "doIt");
    assert_eq!(it["description"], "First.\n\nSecond.");
    assert_eq!(it["tags"], json!(["Samples"]));
    let parameters = it["parameters"].as_array().expect("a list").iter().map(|it| it["name"].clone());
    assert_eq!(parameters.collect::<Vec<_>>(), ["id", "other", "q", "Idempotency-Key"]);
    let body = &it["requestBody"]["content"]["application/json"];
    assert_eq!(body["schema"], json!({ "$ref": "#/components/schemas/Sample" }));
    assert_eq!(body["examples"]["one"]["value"], json!({ "name": "x" }));
    let headers = it["responses"]["200"]["headers"].as_object().expect("an object");
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["Idempotency-Replayed", "Location", "X-Request-Id"]);
    let statuses = it["responses"].as_object().expect("an object").keys();
    assert_eq!(statuses.collect::<Vec<_>>(), ["200", "400", "408", "409", "413", "415", "422"]);
    assert_eq!(it["responses"]["409"], json!({ "$ref": "#/components/responses/409.job_finished" }));
}

#[test]
fn the_document_is_the_same_every_time() {
    assert_eq!(sample().to_string(), sample().to_string());
}

#[test]
fn requests_and_answers_agree_on_what_a_name_means() {
    let torn = super::document::torn(&crate::app::routes());
    assert!(torn.is_empty(), "mark these #[schemars(inline)]: {torn:?}");
}

#[test]
fn codes_are_in_order_and_once() {
    let all: Vec<_> = CODES.iter().map(|known| (known.status, known.code)).collect();
    let mut sorted = all.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(all, sorted);
}

/// Codes in the source, so that none is used that clients cannot look up.
#[test]
fn every_code_of_the_source_is_known() {
    let mut files = vec![std::path::PathBuf::from("src")];
    let mut unknown = Vec::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a file");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for call in ["Problem::new(", "Self::new(", "bad_request(", "conflict(", "unavailable("] {
            for after in code.split(call).skip(1) {
                // The code is the first text among the arguments, if it is a text at all.
                let arguments = after.split(';').next().unwrap_or_default();
                let Some(name) = arguments.split('"').nth(1) else { continue };
                let is_code = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                if is_code && !CODES.iter().any(|known| known.code == name) {
                    unknown.push(format!("{name} in {}", path.display()));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "codes that src/http/openapi/codes.rs does not list:\n{}", unknown.join("\n"));
}
