//! What holds for every route: the shape of errors, request ids, HEAD, health,
//! metrics, and who may see what.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::client::job_id;
use crate::support::raw::Raw;
use crate::support::{ADMIN_KEY, Server};
use crate::{real, testbed};

#[test]
fn there_is_nothing_at_an_unknown_path() {
    let (server, client) = real();
    for path in ["/v1", "/v1/job", "/v1/jobs/", "/admin", "//health", "/health/", "/%2e%2e/etc/passwd", "/ü"] {
        for method in ["GET", "POST"] {
            let path = path.replace('ü', "%C3%BC");
            client.send(method, &path, &[], None).problem(404, "no_route");
        }
    }
    server.anyone().get("/nonsense?x=1").problem(404, "no_route");
    client.send("POST", "/", &[], None).problem(405, "method_not_allowed");
}

#[test]
fn the_root_leads_browsers_to_the_documents_and_tells_programs_where_they_are() {
    let server = Server::real();
    let anyone = server.anyone();
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
    for accept in [browser, "text/html", "TEXT/HTML;q=0.9, application/json;q=0.8", "text/*"] {
        for method in ["GET", "HEAD"] {
            let answer = anyone.send(method, "/?utm_source=x", &[("Accept", accept)], None);
            answer.expect_text(303);
            assert_eq!(answer.header("location"), Some("/docs"), "{method} {accept}");
            assert_eq!(answer.header("vary"), Some("Accept"));
        }
    }
    assert!(anyone.get("/docs").expect_text(200).contains("<html"));
    let expected = json!({
        "name": "agentd", "version": env!("CARGO_PKG_VERSION"), "docs": "/docs", "openapi": "/openapi.json",
    });
    for accept in ["*/*", "application/json", "application/json, text/plain, */*", "text/html;q=0.1, */*"] {
        let answer = anyone.send("GET", "/", &[("Accept", accept)], None);
        assert_eq!(answer.expect(200), expected, "{accept}");
    }
    assert_eq!(anyone.get("/").expect(200), expected);
    assert_eq!(anyone.send("HEAD", "/", &[], None).status, 200);
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let (server, client) = real();
    let wrong = |method: &str, path: &str| {
        let answer = client.send(method, path, &[], None);
        if method != "HEAD" {
            answer.problem(405, "method_not_allowed");
        }
        let mut allowed: Vec<_> = answer.header("allow").expect("Allow").split(", ").map(str::to_owned).collect();
        allowed.sort();
        allowed.join(" ")
    };
    assert_eq!(wrong("PUT", "/v1/jobs"), "GET HEAD POST");
    assert_eq!(wrong("POST", "/health"), "GET HEAD");
    assert_eq!(wrong("GET", "/agent/run"), "POST");
    assert_eq!(wrong("PATCH", "/v1/jobs/abc"), "DELETE GET HEAD");
    assert_eq!(wrong("OPTIONS", "/v1/tools"), "GET HEAD");
    drop(server);
}

#[test]
fn a_request_id_is_kept_or_made() {
    let (_server, client) = real();
    let id_of = |given: &[(&str, &str)]| {
        let answer = client.send("GET", "/health", given, None);
        answer.header("x-request-id").expect("an id").to_owned()
    };
    assert_eq!(id_of(&[("X-Request-Id", "my-id_1.2")]), "my-id_1.2");
    let made = id_of(&[]);
    assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
    assert_ne!(made, id_of(&[]));
    for harmful in ["a b", "<script>", "\"", "{}", &"x".repeat(65), ""] {
        assert_ne!(id_of(&[("X-Request-Id", harmful)]), harmful, "it would stand in logs as it is");
    }
    let refused = client.send("GET", "/nonsense", &[("X-Request-Id", "mine")], None);
    assert_eq!(refused.problem(404, "no_route")["request_id"], "mine");
}

#[test]
fn the_log_has_a_line_for_each_request() {
    let (server, client) = real();
    let trace = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    client.send("GET", "/v1/jobs?limit=1", &[("X-Request-Id", "find-me"), trace], None).expect(200);
    let line = server.wait_for_log("that request", |line| line["request_id"] == "find-me");
    assert_eq!((&line["method"], &line["path"], &line["status"]), (&json!("GET"), &json!("/v1/jobs"), &json!(200)));
    assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    for field in ["timestamp", "level", "duration_ms", "tenant", "key", "target"] {
        assert!(!line[field].is_null(), "no {field} in {line}");
    }
    for line in server.log() {
        serde_json::from_str::<Value>(&line).expect("every line is JSON");
    }
}

#[test]
fn head_answers_as_get_without_a_body() {
    let (server, client) = real();
    let id = job_id(&client.run(&json!({ "tool": "echo" })));
    let admin = server.admin();
    let tenant = admin.all_pages("/admin/tenants")[0]["tenant_id"].as_str().expect("an id").to_owned();
    let job = [format!("/v1/jobs/{id}"), format!("/v1/jobs/{id}/events"), format!("/v1/jobs/{id}/steps")];
    let fixed = ["/health", "/ready", "/version", "/v1/jobs", "/v1/tools", "/admin/tenants"].map(str::to_owned);
    let both = client.with("X-Admin-Key", ADMIN_KEY);
    for path in job.into_iter().chain(fixed).chain([format!("/admin/tenants/{tenant}/keys")]) {
        let (get, head) = (both.get(&path), both.send("HEAD", &path, &[], None));
        assert_eq!((get.status, head.status), (200, 200), "{path}");
        assert_eq!(get.header("content-type"), head.header("content-type"), "{path}");
        assert_eq!(get.header("content-length"), head.header("content-length"), "{path}");
        assert!(head.text.is_empty() && !get.text.is_empty(), "{path}");
    }
    assert_eq!(both.send("HEAD", "/v1/jobs/nonsense", &[], None).status, 404);
}

#[test]
fn health_is_for_everyone() {
    let server = Server::real();
    let anyone = server.anyone();
    for path in ["/health", "/api/v1/health"] {
        assert_eq!(anyone.get(path).expect(200), json!({ "status": "ok" }));
    }
    assert_eq!(anyone.get("/health").text, r#"{"status":"ok"}"#, "as the documents have it");
    assert_eq!(anyone.get("/ready").expect(200), json!({ "status": "ready", "failing": [], "degraded": [] }));
    let version = json!({ "name": "agentd", "version": env!("CARGO_PKG_VERSION") });
    assert_eq!(anyone.get("/version").expect(200), version);
}

#[test]
fn tools_are_listed_with_their_schemas() {
    let (_server, client) = real();
    let tools = client.get("/v1/tools").expect(200);
    let names: Vec<_> = tools["data"].as_array().expect("a list").iter().map(|tool| tool["name"].clone()).collect();
    assert_eq!(names, ["echo", "math.eval", "time.now", "web.summarize", "web.fetch", "web.search"]);
    assert_eq!(tools["data"][1]["input_schema"]["required"], json!(["expression"]));
}

#[test]
fn metrics_follow_the_conventions() {
    let (_server, client) = testbed();
    client.run(&json!({ "tool": "echo" }));
    client.run(&json!({ "tool": "test.permanent" }));
    client.get("/v1/jobs/nonsense").problem(404, "not_found");
    let answer = client.get("/metrics");
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    for line in [
        "agentd_jobs_finished_total{status=\"failed\",tool=\"test.permanent\"} 1",
        "agentd_jobs_finished_total{status=\"succeeded\",tool=\"echo\"} 1",
        "agentd_jobs_submitted_total{tool=\"echo\"} 1",
        "http_requests_total{method=\"GET\",route=\"/v1/jobs/{id}\",status=\"404\"} 1",
    ] {
        assert!(answer.text.contains(&format!("\n{line}\n")), "no {line} in\n{}", answer.text);
    }
    promtool(&answer.text);
}

/// Prometheus's own opinion.
fn promtool(metrics: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut checking = command.spawn().unwrap_or_else(|error| {
        panic!("promtool cannot be run ({error}); it comes with the Debian package `prometheus`")
    });
    checking.stdin.take().expect("a pipe").write_all(metrics.as_bytes()).expect("it reads");
    let said = checking.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && text.trim().is_empty(), "promtool says:\n{text}");
}

#[test]
fn labels_do_not_grow_with_what_clients_invent() {
    let (_server, client) = real();
    for path in ["/a", "/b", "/v1/jobs/x", "/v1/jobs/y"] {
        client.get(path);
    }
    let mut raw = Raw::connect(&client.address());
    raw.send("PROPFIND /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(raw.read_until("\r\n").starts_with("HTTP/1.1 405 "));
    let text = client.get("/metrics").text;
    for invented in ["/a\"", "/b\"", "jobs/x", "jobs/y", "PROPFIND"] {
        assert!(!text.contains(invented), "{invented} is a label");
    }
}

#[test]
fn a_wrong_admin_key_is_slowed_down_without_harm_to_the_right_one() {
    let server = Server::real();
    let wrong = server.anyone().with("X-Admin-Key", "a wrong one");
    let answers: Vec<_> = (0..15).map(|_| wrong.get("/admin/tenants")).collect();
    for answer in &answers[..10] {
        answer.problem(401, "unauthorized");
    }
    for answer in &answers[10..] {
        answer.problem(429, "too_many_attempts");
        let after: u64 = answer.header("retry-after").expect("when").parse().expect("seconds");
        assert!((1..=60).contains(&after));
    }
    server.admin().get("/admin/tenants").expect(200);
    wrong.get("/admin/tenants").problem(429, "too_many_attempts");
}

#[test]
fn who_has_no_credential_is_told_how_to_send_one() {
    let (server, client) = real();
    let anyone = server.anyone();
    for path in ["/v1/jobs", "/v1/tools", "/agent/status/x", "/v1/jobs/x/events", "/admin/tenants"] {
        let answer = anyone.get(path);
        let body = answer.problem(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"agentd\""));
        assert!(body["hint"].as_str().is_some_and(|hint| hint.contains("X-API-Key")), "{body}");
    }
    anyone.post("/agent/run", &json!({ "tool": "echo" })).problem(401, "unauthorized");
    client.get("/admin/tenants").problem(401, "unauthorized");
    server.admin().get("/v1/jobs").problem(401, "unauthorized");
}
