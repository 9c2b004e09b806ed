//! Setting up providers, keys and aliases while the service runs.

use std::process::Command;

use serde_json::{Value, json};

use super::{Bench, PROVIDER_KEY, hello, question, set_price};
use crate::support::cli::say;
use crate::support::server::ADMIN_KEY;
use crate::support::upstream::{Price, Script, Upstream};
use crate::support::{Server, Setup};

const SECOND_KEY: &str = "sk-second-key-that-nobody-may-see";

fn second(bench: &Bench) -> Upstream {
    let upstream = Upstream::start();
    upstream.price("x", Price::tokens("3", "6"));
    upstream.usually(hello());
    upstream.expect_keys(&[SECOND_KEY]);
    set_price(&bench.server, "x", "3", "6");
    let body = json!({ "base_url": upstream.base_url(), "api_key": SECOND_KEY });
    let made = bench.server.admin().put("/admin/models/providers/second", &body);
    assert_eq!(made.expect(200)["has_key"], true);
    assert!(!made.text.contains(SECOND_KEY));
    upstream
}

#[test]
fn several_providers_stand_behind_one_alias_and_survive_a_restart() {
    let mut bench = Bench::start();
    let other = second(&bench);
    let route = json!({ "targets": [
        { "provider": "openai", "model": "m" }, { "provider": "second", "model": "x" },
    ] });
    bench.server.admin().put("/admin/models/routes/mine", &route).expect(200);
    bench.upstream.script("m", Script::status(401));
    let mut body = question();
    body["model"] = json!("mine");
    for _ in 0..2 {
        let answer = bench.client.post("/v1/chat/completions", &body);
        answer.expect(200);
        assert_eq!((answer.header("x-model-used"), answer.header("x-fallbacks")), (Some("x"), Some("1")));
        bench.server.restart();
    }
    assert_eq!(other.last_request().header("authorization"), Some(format!("Bearer {SECOND_KEY}").as_str()));
    bench.server.stop();
    for file in std::fs::read_dir(bench.server.data()).expect("a folder").flatten() {
        let bytes = std::fs::read(file.path()).unwrap_or_default();
        let shown = bytes.windows(SECOND_KEY.len()).any(|window| window == SECOND_KEY.as_bytes());
        assert!(!shown, "{} holds the key as it is", file.path().display());
    }
}

#[test]
fn a_key_is_changed_without_a_restart() {
    let bench = Bench::start();
    let other = second(&bench);
    let mut body = question();
    body["model"] = json!("second/x");
    bench.client.post("/v1/chat/completions", &body).expect(200);
    other.expect_keys(&["the-new-one"]);
    bench.client.post("/v1/chat/completions", &body).openai_error(502, "provider_key_refused", None);
    let admin = bench.server.admin();
    let url = other.base_url();
    admin.put("/admin/models/providers/second", &json!({ "base_url": url, "api_key": "the-new-one" })).expect(200);
    bench.client.post("/v1/chat/completions", &body).expect(200);
    // What is left out stays, as long as it goes to the same place.
    admin.put("/admin/models/providers/second", &json!({ "base_url": url, "responses": true })).expect(200);
    bench.client.post("/v1/chat/completions", &body).expect(200);
    let moved = json!({ "base_url": bench.upstream.base_url() });
    assert_eq!(admin.put("/admin/models/providers/second", &moved).expect(200)["has_key"], false);
}

#[test]
fn the_configured_key_counts_after_a_reload() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("key");
    std::fs::write(&file, PROVIDER_KEY).expect("written");
    let upstream = Upstream::start();
    upstream.usually(hello());
    let server: Server = Setup::real()
        .env("OPENAI_BASE_URL", &upstream.base_url())
        .env("OPENAI_MODEL", "m")
        .env("AGENTD_MODELS_OPENAI_API_KEY_FILE", &file.to_string_lossy())
        .start();
    set_price(&server, "m", "1", "2");
    let client = server.client();
    upstream.expect_keys(&["the-next-one"]);
    client.post("/v1/chat/completions", &question()).openai_error(502, "provider_key_refused", None);
    std::fs::write(&file, "the-next-one").expect("written");
    let reloaded = server.admin().post("/admin/reload", &json!({})).expect(200);
    assert_eq!(reloaded["changed"], json!(["models.openai_api_key"]));
    client.post("/v1/chat/completions", &question()).expect(200);
}

#[test]
fn what_cannot_be_set_up_is_refused() {
    let bench = Bench::start();
    let admin = bench.server.admin();
    let provider = |name: &str, body: Value| admin.put(&format!("/admin/models/providers/{name}"), &body);
    provider("x", json!({ "base_url": "no url" })).fault("invalid_request", "/base_url");
    provider("x", json!({ "base_url": "ftp://example.com/v1" })).fault("invalid_request", "/base_url");
    provider("x", json!({ "base_url": "http://u:p@example.com/v1" })).fault("invalid_request", "/base_url");
    provider("x", json!({ "base_url": "http://a/v1", "api_key": "two words" })).fault("invalid_request", "/api_key");
    provider("x", json!({ "base_url": "http://a/v1", "total_seconds": 0 })).fault("invalid_request", "/total_seconds");
    provider("x", json!({ "base_url": "http://a/v1", "concurrency": 0 })).fault("invalid_request", "/concurrency");
    provider("x", json!({ "base_url": "http://a/v1", "pool": 1 })).fault("unknown_field", "/pool");
    provider("X", json!({ "base_url": "http://a/v1" })).problem(400, "invalid_request");
    provider("openai", json!({ "base_url": "http://a/v1" })).problem(409, "configured");
    let route = |alias: &str, body: Value| admin.put(&format!("/admin/models/routes/{alias}"), &body);
    route("a", json!({ "targets": [] })).fault("invalid_request", "/targets");
    let unknown = json!({ "targets": [{ "provider": "nobody", "model": "m" }] });
    route("a", unknown).fault("invalid_request", "/targets/0/provider");
    let empty = json!({ "targets": [{ "provider": "openai", "model": "" }] });
    route("a", empty).fault("invalid_request", "/targets/0/model");
    route("default", json!({ "targets": [{ "provider": "openai", "model": "m" }] })).problem(409, "configured");
    admin.delete("/admin/models/providers/nobody").problem(404, "not_found");
    admin.delete("/admin/models/routes/nobody").problem(404, "not_found");
    admin.delete("/admin/models/providers/openai").problem(409, "configured");
}

/// What a client is told of a model without a price, taken at its word.
#[test]
fn the_hint_of_a_model_without_a_price_can_be_followed() {
    let bench = Bench::start();
    bench.upstream.usually(hello());
    let ask = |model: &str| {
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": "x" }], "max_tokens": 10 });
        bench.client.post("/v1/chat/completions", &body)
    };
    let told = |model: &str, status: u16, code: &str| {
        let said = ask(model).openai_error(status, code, None);
        said["error"]["message"].as_str().expect("a message").to_owned()
    };
    // By the address, as curl sends it.
    for model in ["openai/gpt-x", "openai/org/model:free 1"] {
        let said = told(model, 400, "unknown_price");
        assert!(said.contains(&format!("the price of {model} is not known")), "{said}");
        let (_, rest) = said.split_once("PUT ").expect("an address");
        let (path, body) = rest.split_once(" with ").expect("a body");
        let body = body.replace("USD\"", "1\"");
        let base = format!("http://{}", bench.client.address());
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-X", "PUT", "-H", &format!("X-Admin-Key: {ADMIN_KEY}"), "-d", &body]);
        let said = say(curl.arg(format!("{base}{path}")), "").json();
        assert_eq!((&said["model"], &said["counts"]), (&json!(model), &json!(true)));
        ask(model).expect(200);
    }
    // By the command, as a shell reads it; the model is named without its provider.
    for model in ["gpt-y", "it's/a b"] {
        let said = told(model, 404, "model_not_found");
        assert!(said.contains(&format!("the price of openai/{model} is not known")), "{said}");
        let (_, rest) = said.split_once("agentd price set ").expect("a command");
        let (words, _) = rest.split_once(" or PUT ").expect("an address");
        let program = bench.server.verb(&[]).get_program().to_string_lossy().into_owned();
        let data = bench.server.data().display().to_string();
        let line = format!("'{program}' price set {} --data-dir '{data}'", words.replace("USD", "1"));
        say(Command::new("sh").args(["-c", &line]).env_clear(), "").ok();
        ask(model).expect(200);
    }
    // Slashes in an address may also stay as they are.
    let price = json!({ "input_usd_per_million": "1", "output_usd_per_million": "2" });
    let path = "/admin/models/prices/openai/org/other";
    assert_eq!(bench.server.admin().put(path, &price).expect(200)["model"], "openai/org/other");
    bench.server.admin().delete(path).expect_text(204);
}

#[test]
fn a_provider_that_an_alias_needs_stays() {
    let bench = Bench::start();
    let _other = second(&bench);
    let admin = bench.server.admin();
    let route = json!({ "targets": [{ "provider": "second", "model": "x" }] });
    admin.put("/admin/models/routes/mine", &route).expect(200);
    admin.delete("/admin/models/providers/second").problem(409, "in_use");
    admin.delete("/admin/models/routes/mine").expect_text(204);
    admin.delete("/admin/models/providers/second").expect_text(204);
    let mut body = question();
    body["model"] = json!("second/x");
    let answer = bench.client.post("/v1/chat/completions", &body);
    assert!(matches!(answer.status, 400 | 404), "{}", answer.text);
}

#[test]
fn without_a_provider_it_says_how_to_get_one() {
    let server = Server::real();
    let answer = server.client().post("/v1/chat/completions", &question());
    answer.openai_error(404, "model_not_found", None);
    assert!(answer.text.contains("/admin/models/providers"), "{}", answer.text);
}
