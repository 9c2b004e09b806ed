//! Search providers, imitated by servers that follow their published formats.

use serde_json::json;

use super::*;

const KEY: &str = "tvly-a-secret-key-of-the-tests";

#[track_caller]
fn search(client: &Client, input: &Value) -> Value {
    client.run(&json!({ "tool": "web.search", "input": input, "max_attempts": 1 }))
}

/// A provider that answers so.
fn provider(status: &'static str, body: &Value) -> Site {
    let body = body.to_string();
    Site::start(move |_, wire| reply(wire, status, &[("Content-Type", "application/json")], body.as_bytes()))
}

/// What is configured as an administrator would, without an allow-list: the
/// address of the provider is written down by naming it.
fn with(provider: &str, site: &Site) -> Setup {
    let setup = Setup::real().env("AGENTD_WEB_SEARCH_PROVIDER", provider).env("AGENTD_WEB_SEARCH_URL", &site.url("/"));
    match provider {
        "tavily" => setup.env("TAVILY_API_KEY", KEY),
        "brave" => setup.env("AGENTD_WEB_BRAVE_API_KEY", KEY),
        _ => setup,
    }
}

fn tavily() -> Value {
    json!({
        "query": "heron", "follow_up_questions": null, "answer": null, "images": [], "response_time": 1.09,
        "request_id": "123e4567-e89b-12d3-a456-426614174111",
        "results": [
            { "title": "Heron", "url": "https://birds.example/heron", "content": "A <b>bird</b> &amp; a fisher.",
              "score": 0.98, "raw_content": null, "published_date": "Tue, 03 Feb 2026 10:00:00 GMT" },
            { "title": "Egret", "url": "https://birds.example/egret", "content": "White.", "score": 0.5, "raw_content": null }
        ]
    })
}

#[test]
fn tavily_is_asked_as_it_wants_to_be() {
    let site = provider("200 OK", &tavily());
    let (_server, client) = start(with("tavily", &site));
    let job = search(&client, &json!({ "query": "heron", "max_results": 2 }));
    insta::assert_json_snapshot!(job["result"]);
    let request = &site.requests()[0];
    assert!(request.starts_with("POST /search HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("authorization: Bearer {KEY}\r\n")), "{request}");
    let body: Value = serde_json::from_str(request.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    assert_eq!(body, json!({ "query": "heron", "max_results": 2, "search_depth": "basic" }));
}

#[test]
fn brave_is_asked_as_it_wants_to_be() {
    let site = provider(
        "200 OK",
        &json!({
            "type": "search", "query": { "original": "a & b", "more_results_available": true },
            "mixed": { "type": "mixed", "main": [{ "type": "web", "index": 0, "all": false }] },
            "web": { "type": "search", "family_friendly": true, "results": [{
                "title": "Heron &#x27;bird&#x27;", "url": "https://birds.example/heron", "is_source_local": false,
                "description": "A <strong>bird</strong>.", "page_age": "2026-02-03T10:00:00", "age": "3 days ago",
                "language": "en", "meta_url": { "hostname": "birds.example" }
            }] }
        }),
    );
    let (_server, client) = start(with("brave", &site));
    insta::assert_json_snapshot!(search(&client, &json!({ "query": "a & b" }))["result"]);
    let request = &site.requests()[0];
    let line = "GET /res/v1/web/search?q=a+%26+b&count=5&text_decorations=false HTTP/1.1\r\n";
    assert!(request.starts_with(line) && request.contains(&format!("x-subscription-token: {KEY}\r\n")), "{request}");
}

#[test]
fn another_key_counts_after_a_reload() {
    let site = provider("200 OK", &tavily());
    let folder = tempfile::TempDir::new().expect("a folder");
    let key = folder.path().join("key");
    let path = key.to_string_lossy().into_owned();
    std::fs::write(&key, "tvly-the-first-key").expect("written");
    let setup = with("tavily", &site).without_env("TAVILY_API_KEY").env("AGENTD_WEB_TAVILY_API_KEY_FILE", &path);
    let (server, client) = start(setup);
    search(&client, &json!({ "query": "heron" }));
    std::fs::write(&key, "tvly-the-second-key").expect("written");
    assert_eq!(server.ask(&["reload"]), "reloaded; these count now: web.tavily_api_key\n");
    search(&client, &json!({ "query": "heron" }));
    let requests = site.requests();
    assert!(requests[0].contains("Bearer tvly-the-first-key\r\n"), "{requests:?}");
    assert!(requests[1].contains("Bearer tvly-the-second-key\r\n"), "{requests:?}");
}

#[test]
fn searxng_is_asked_as_it_wants_to_be() {
    let site = provider(
        "200 OK",
        &json!({
            "query": "heron", "number_of_results": 0, "answers": [], "corrections": [], "infoboxes": [], "suggestions": [],
            "unresponsive_engines": [["engine", "timeout"]],
            "results": [
                { "template": "default.html", "url": "https://birds.example/heron", "title": "Heron", "content": "A bird.",
                  "publishedDate": "2026-02-03T10:00:00", "engine": "one", "engines": ["one", "two"], "score": 4.0,
                  "parsed_url": ["https", "birds.example", "/heron", "", "", ""], "category": "general", "positions": [1] },
                { "url": "https://birds.example/egret", "title": "Egret", "content": "", "publishedDate": null, "score": 1.0 },
                { "url": "https://birds.example/stork", "title": "Stork", "content": "Not asked for.", "score": 0.5 }
            ]
        }),
    );
    let (_server, client) = start(with("searxng", &site));
    insta::assert_json_snapshot!(search(&client, &json!({ "query": "heron", "max_results": 2 }))["result"]);
    assert!(site.requests()[0].starts_with("GET /search?q=heron&format=json HTTP/1.1\r\n"));
    // Only the search may go there.
    assert_failed(&client, &site.url("/"), "blocked_address", false);
}

#[test]
fn refusals_and_faults_of_a_provider_are_told_apart_without_its_key() {
    for (status, code, retryable) in [
        ("400 Bad Request", "provider_error", false),
        ("401 Unauthorized", "provider_refused", false),
        ("403 Forbidden", "provider_refused", false),
        ("429 Too Many Requests", "rate_limited", true),
        ("432 Plan Limit", "provider_refused", false),
        ("500 Internal Server Error", "provider_error", true),
        ("302 Found", "provider_error", false),
    ] {
        // Some repeat in their answer what they were sent.
        let site = provider(status, &json!({ "detail": { "error": format!("Unauthorized: invalid key {KEY}") } }));
        let (server, client) = start(with("tavily", &site));
        let error = search(&client, &json!({ "query": "heron" }))["error"].clone();
        assert_eq!((&error["code"], &error["retryable"]), (&json!(code), &json!(retryable)), "{status}");
        let told = format!("{error} {}", server.log().join("\n"));
        assert!(!told.contains(KEY), "the key is told: {told}");
    }
}

#[test]
fn what_is_no_result_is_an_error_and_what_is_missing_is_left_out() {
    let site = Site::start(|_, wire| reply(wire, "200 OK", &[("Content-Type", "text/html")], b"<html>Please log in"));
    let (_server, client) = start(with("searxng", &site));
    assert_eq!(search(&client, &json!({ "query": "heron" }))["error"]["code"], "provider_error");
    let site = provider(
        "200 OK",
        &json!({ "results": [{ "title": "no URL" }, { "url": "https://a.example/" }, { "url": 7 }] }),
    );
    let (_server, client) = start(with("searxng", &site));
    let results = search(&client, &json!({ "query": "heron" }))["result"]["results"].clone();
    assert_eq!(results, json!([{ "title": "https://a.example/", "url": "https://a.example/", "snippet": "" }]));
}

#[test]
fn a_key_alone_turns_tavily_on() {
    let site = provider("200 OK", &tavily());
    let setup = Setup::real().env("TAVILY_API_KEY", KEY).env("AGENTD_WEB_SEARCH_URL", &site.url("/base/"));
    let (_server, client) = start(setup);
    assert_eq!(search(&client, &json!({ "query": "heron" }))["result"]["provider"], "tavily");
    assert!(site.requests()[0].starts_with("POST /base/search "));
}

#[test]
fn without_a_provider_it_says_what_to_set() {
    let (_server, client) = start(Setup::real());
    let error = search(&client, &json!({ "query": "heron" }))["error"].clone();
    assert_eq!(error["code"], "not_configured");
    for name in ["TAVILY_API_KEY", "web.brave_api_key", "web.search_url"] {
        assert!(error["message"].as_str().expect("a message").contains(name), "{error}");
    }
}

#[test]
fn half_a_provider_keeps_the_service_from_starting() {
    let folder = tempfile::TempDir::new().expect("a folder");
    for (provider, missing) in
        [("searxng", "web.search_url"), ("tavily", "web.tavily_api_key"), ("brave", "web.brave_api_key")]
    {
        let (code, said) = Setup::real().env("AGENTD_WEB_SEARCH_PROVIDER", provider).refused(folder.path());
        assert_eq!(code, 78, "{said}");
        assert!(said.contains(missing), "{said}");
    }
}
