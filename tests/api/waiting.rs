//! Answers that are held back, and streams that outlive what opened them.

use serde_json::{Value, json};

use super::support::{Client, Server, eventually};
use super::testbed;

/// The answer of `?wait=` comes from memory, that of GET from the database.
#[track_caller]
fn waited_like_read(client: &Client, body: &Value) -> Value {
    let waited = client.run(body);
    let id = waited["job_id"].as_str().expect("an id");
    assert_eq!(waited, client.job(id));
    waited
}

#[test]
fn who_waits_is_told_what_is_on_disk() {
    let (_server, client) = testbed();
    let full = json!({
        "tool": "echo", "input": { "a": [1, null, "ü"] }, "priority": -3, "max_attempts": 7,
        "metadata": { "order": "7" }, "timeout": 3, "backoff": { "initial": 0.5, "factor": 3, "max": 9 }
    });
    assert_eq!(waited_like_read(&client, &full)["status"], "succeeded");
    let failed = json!({ "tool": "math.eval", "input": { "expression": "1 / 0" } });
    assert_eq!(waited_like_read(&client, &failed)["status"], "failed");
    let dead = json!({ "tool": "test.flaky", "input": { "until": 99 }, "max_attempts": 1 });
    assert_eq!(waited_like_read(&client, &dead)["status"], "dead");
    let delayed = json!({ "tool": "echo", "delay": 0.05 });
    assert_eq!(waited_like_read(&client, &delayed)["status"], "succeeded");
    let again = json!({ "tool": "test.flaky", "input": { "until": 2 }, "backoff": { "initial": 0.01 } });
    assert_eq!(waited_like_read(&client, &again)["attempt"], 2);
}

#[test]
fn null_is_an_input_and_nothing_is_an_empty_object() {
    let (_server, client) = testbed();
    assert_eq!(client.run(&json!({ "tool": "echo", "input": null }))["result"], Value::Null);
    assert_eq!(client.run(&json!({ "tool": "echo" }))["result"], json!({}));
}

#[test]
fn a_stream_ends_with_the_key_that_opened_it() {
    let server = Server::testbed();
    let tenant = server.tenant("a tenant");
    let (key, other) = (server.key(&tenant), server.key(&tenant));
    let (client, owner) = (server.anyone().with_key(&key), server.anyone().with_key(&other));
    let gate = server.gate("gate");
    let job = owner.submit("test.gate", &json!({ "gate": gate.path() }));
    let mut stream = client.follow(&job);
    stream.until("step.started");
    server.admin().post(&format!("/admin/tenants/{tenant}/keys/{}/revoke", key.id), &json!({})).expect(200);
    gate.open();
    assert_eq!(owner.finished(&job)["status"], "succeeded");
    // What happened after the revocation is not for this key any more.
    assert_eq!(stream.event().map(|frame| frame.event), None);
}

#[test]
fn a_client_that_hangs_up_while_it_waits_is_no_longer_counted() {
    let (server, client) = testbed();
    let gate = server.gate("gate");
    let body = json!({ "tool": "test.gate", "input": { "gate": gate.path() } }).to_string();
    let mut raw = super::support::raw::Raw::connect(&server.address());
    let key = server.key(&server.tenant("another"));
    raw.send(format!(
        "POST /v1/jobs?wait=30 HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\nContent-Length: {}\r\n\r\n{body}",
        key.secret,
        body.len()
    ));
    let in_flight = || {
        let metrics = client.get("/metrics").text;
        let line = metrics.lines().find(|line| line.starts_with("http_requests_in_flight ")).expect("the gauge");
        line.rsplit(' ').next().expect("a value").to_owned()
    };
    // The request that asks is one itself.
    eventually("the waiting one is counted", || (in_flight() == "2").then_some(()));
    drop(raw);
    eventually("it is gone", || (in_flight() == "1").then_some(()));
    gate.open();
}

#[test]
fn what_a_proxy_passes_on_is_not_from_this_machine() {
    let (server, client) = testbed();
    assert_eq!(client.get("/metrics").status, 200);
    for header in ["X-Forwarded-For", "Forwarded"] {
        server.anyone().with(header, "for=203.0.113.9").get("/metrics").problem(401, "unauthorized");
    }
    assert_eq!(server.admin().with("Forwarded", "for=203.0.113.9").get("/metrics").status, 200);
}

#[test]
fn parameters_and_encodings_that_nobody_reads_are_refused() {
    let (server, client) = testbed();
    let job = client.submit("echo", &json!({}));
    for path in [format!("/v1/jobs/{job}?x=1"), format!("/v1/jobs/{job}/steps?x=1"), "/v1/tools?x=1".into()] {
        client.get(&path).fault("invalid_request", "?x");
    }
    server.admin().post("/admin/tenants?x=1", &json!({ "name": "a" })).fault("invalid_request", "?x");
    let body = json!({ "tool": "echo" });
    client.post_with("/v1/jobs", &[("Content-Encoding", "gzip")], &body).problem(415, "unsupported_media_type");
    let half = client.send("POST", "/v1/jobs", &[], Some(br#"{"tool":"echo","input":"\ud800"}"#));
    half.problem(400, "malformed_json");
    client.finished(&job);
}
