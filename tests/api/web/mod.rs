//! The tools that read the web, and the guard that they go out through. Every
//! server here is a real one on loopback; names come from a name server of the
//! tests' own.

mod charset;
pub mod dns;
mod guard;
mod limits;
mod refresh;
mod robots;
mod search;
pub mod site;
pub mod tls;

use serde_json::{Value, json};

use crate::support::{Client, Server, Setup};
use site::{Site, Wire, reply};

/// The shipped binary, which may reach these sites and does not ask for
/// robots.txt.
fn reaching(sites: &[&Site]) -> Setup {
    let allowed: Vec<_> = sites.iter().map(|site| site.address()).collect();
    Setup::real().env("AGENTD_OUTBOUND_ALLOW", &allowed.join(",")).env("AGENTD_WEB_ROBOTS", "false")
}

fn start(setup: Setup) -> (Server, Client) {
    let server = setup.start();
    let client = server.client();
    (server, client)
}

/// Fetches a page in one attempt and gives the job at its end.
#[track_caller]
fn fetch(client: &Client, url: &str) -> Value {
    fetch_as(client, &json!({ "url": url }))
}

#[track_caller]
fn fetch_as(client: &Client, input: &Value) -> Value {
    client.run(&json!({ "tool": "web.fetch", "input": input, "max_attempts": 1 }))
}

/// The result of a page that must have been fetched.
#[track_caller]
fn fetched(client: &Client, url: &str) -> Value {
    let job = fetch(client, url);
    assert_eq!(job["status"], "succeeded", "{job}");
    job["result"].clone()
}

/// The code of the failure of a page that must not have been fetched, and
/// whether it is tried again.
#[track_caller]
fn failed(client: &Client, url: &str) -> (String, bool) {
    let job = fetch(client, url);
    let error = &job["error"];
    let code = error["code"].as_str().unwrap_or_else(|| panic!("it was fetched: {job}"));
    (code.to_owned(), error["retryable"] == true)
}

#[track_caller]
fn assert_failed(client: &Client, url: &str, code: &str, retryable: bool) {
    assert_eq!(failed(client, url), (code.to_owned(), retryable), "{url}");
}

/// Answers every request with one page.
fn page(kind: &'static str, body: impl Into<Vec<u8>>) -> Site {
    let body = body.into();
    Site::start(move |_, wire| reply(wire, "200 OK", &[("Content-Type", kind)], &body))
}

#[test]
fn a_page_is_fetched_as_markdown_text_or_html() {
    let html = "<title>A page</title><nav>menu</nav><h1>Heading</h1><p>Some <b>bold</b> text, \
                <a href=\"/next\">a link</a>.</p><script>alert(1)</script>";
    let site = page("text/html; charset=utf-8", html);
    let (_server, client) = start(reaching(&[&site]));
    let url = site.url("/page#part");
    let mut result = fetched(&client, &url);
    assert_eq!((&result["url"], &result["final_url"]), (&json!(url), &json!(site.url("/page"))));
    for member in ["url", "final_url"] {
        result[member] = json!("…");
    }
    let port = site.address();
    result["content"] = json!(result["content"].as_str().expect("a text").replace(port, "host"));
    insta::assert_json_snapshot!(result, { ".fetched_at" => "…" });
    let text = fetch_as(&client, &json!({ "url": url, "format": "text" }));
    assert_eq!(text["result"]["content"], "Heading\n\nSome bold text, a link.");
    let raw = fetch_as(&client, &json!({ "url": url, "format": "html", "max_chars": 21 }));
    assert_eq!((&raw["result"]["content"], &raw["result"]["truncated"]), (&json!(html[..21]), &json!(true)));
    let head = &site.requests()[0];
    assert!(head.contains("user-agent: agentd/") && head.contains("accept-encoding: gzip, deflate\r\n"), "{head}");
}

#[test]
fn text_is_given_as_it_is_and_what_is_no_text_is_refused() {
    let site = Site::start(|head, wire| {
        let (kind, body): (&str, &[u8]) = match head.split(' ').nth(1).expect("a path") {
            "/json" => ("application/json", b"{\"a\": 1}"),
            "/markdown" => ("text/markdown; charset=utf-8", b"# Heading"),
            "/feed" => ("application/rss+xml", b"<rss/>"),
            "/picture" => ("image/png", b"\x89PNG\r\n"),
            "/archive" => ("application/zip", b"PK"),
            _ => ("text/plain", b"\0\x01\x02"),
        };
        reply(wire, "200 OK", &[("Content-Type", kind)], body);
    });
    let (_server, client) = start(reaching(&[&site]));
    for (path, content) in [("/json", "{\"a\": 1}"), ("/markdown", "# Heading"), ("/feed", "<rss/>")] {
        let result = fetched(&client, &site.url(path));
        assert_eq!((&result["content"], &result["title"]), (&json!(content), &Value::Null), "{path}");
    }
    for path in ["/picture", "/archive", "/binary"] {
        assert_failed(&client, &site.url(path), "unsupported_content", false);
    }
    let message = fetch(&client, &site.url("/picture"))["error"]["message"].to_string();
    assert!(message.contains("image/png"), "{message}");
}

#[test]
fn statuses_are_failures_of_their_kind() {
    let site = Site::start(|head, wire| {
        let status = head.split(' ').nth(1).and_then(|path| path.get(1..4)).expect("a status");
        reply(wire, &format!("{status} Status"), &[("Retry-After", "0")], b"<p>an error page");
    });
    let (_server, client) = start(reaching(&[&site]));
    for (status, retryable) in
        [(400, false), (404, false), (410, false), (408, true), (429, true), (500, true), (503, true)]
    {
        assert_failed(&client, &site.url(&format!("/{status}")), "http_status", retryable);
    }
}

#[test]
fn too_many_requests_is_waited_out_as_long_as_asked() {
    let site = Site::start(|_, wire| reply(wire, "429 Too Many", &[("Retry-After", "3600")], b""));
    let (mut server, client) = start(reaching(&[&site]));
    let id = client.submit("web.fetch", &json!({ "url": site.url("/") }));
    server.leave_open(&id);
    client.wait_for(&id, "job.retrying");
    let job = client.job(&id);
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("waiting"), &json!("http_status")), "{job}");
    assert!(job["run_at"].as_str() > job["created_at"].as_str(), "{job}");
    assert_eq!(site.connections(), 1);
}

#[test]
fn inputs_are_held_to_the_schema() {
    let (_server, client) = start(Setup::real());
    for input in [json!({}), json!({ "url": 1 }), json!({ "url": "x", "format": "pdf" }), json!({ "url": "x", "a": 1 })]
    {
        client.post("/v1/jobs", &json!({ "tool": "web.fetch", "input": input })).problem(400, "invalid_input");
    }
    for (url, code) in [
        ("no url", "invalid_url"),
        ("file:///etc/passwd", "unsupported_scheme"),
        ("ftp://example.com/", "unsupported_scheme"),
        ("http://user:word@example.com/", "invalid_url"),
        ("http://127.0.0.1:0/", "invalid_url"),
    ] {
        assert_failed(&client, url, code, false);
    }
}
