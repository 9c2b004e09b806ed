//! Concurrency keys, conflicts, and the turns that tenants take.

use serde_json::{Value, json};

use crate::support::{Client, Gate, Server, Setup};
use crate::testbed;

fn gated(gate: &Gate, key: &str) -> Value {
    json!({ "tool": "test.gate", "input": { "gate": gate.path() }, "concurrency_key": key })
}

fn status(client: &Client, id: &str) -> Value {
    client.job(id)["status"].clone()
}

#[test]
fn one_job_of_a_key_runs_at_a_time() {
    let (server, client) = testbed();
    let gate = server.gate("gate");
    let first = client.submit_body(&gated(&gate, "report"));
    client.wait_for(&first, "job.started");
    let second = client.submit_body(&gated(&gate, "report"));
    let other = client.run(&json!({ "tool": "echo", "concurrency_key": "another" }));
    assert_eq!(other["concurrency_key"], "another");
    let theirs = server.client().run(&json!({ "tool": "echo", "concurrency_key": "report" }));
    assert_eq!(theirs["status"], "succeeded", "another tenant's key is another key");
    assert_eq!(status(&client, &second), "queued");
    gate.open();
    let (first, second) = (client.finished(&first), client.finished(&second));
    assert!(first["finished_at"].as_str() <= second["started_at"].as_str(), "{first} {second}");
}

#[test]
fn a_key_is_held_through_a_crash() {
    let (mut server, client) = testbed();
    let (gate, shut) = (server.gate("gate"), server.gate("shut"));
    let first = client.submit_body(&gated(&gate, "k"));
    client.wait_for(&first, "job.started");
    let others: Vec<_> = (0..3).map(|_| client.submit_body(&gated(&shut, "k"))).collect();
    server.kill();
    server.start_again(|setup| setup);
    client.wait_for_nth(&first, "job.started", 2);
    assert!(others.iter().all(|id| status(&client, id) == "queued"));
    gate.open();
    shut.open();
    let all: Vec<_> = [&first].into_iter().chain(&others).map(|id| client.finished(id)).collect();
    for pair in all.windows(2) {
        assert!(pair[0]["finished_at"].as_str() <= pair[1]["started_at"].as_str(), "{pair:?}");
    }
}

#[test]
fn a_conflict_is_refused_where_that_is_wanted() {
    let (server, client) = testbed();
    let gate = server.gate("gate");
    let mut body = gated(&gate, "k");
    body["on_conflict"] = json!("reject");
    let first = client.submit_body(&body);
    let problem = client.post("/v1/jobs", &body).problem(409, "concurrency_conflict");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(&first)), "{problem}");
    let refused = client.post_with("/v1/jobs", &[("Idempotency-Key", "a")], &body);
    refused.problem(409, "concurrency_conflict");
    gate.open();
    client.finished(&first);
    let answer = client.post_with("/v1/jobs", &[("Idempotency-Key", "a")], &body);
    assert_eq!(answer.header("Idempotency-Replayed"), None, "a refusal is not remembered");
    let id = answer.expect(202)["job_id"].as_str().expect("an id").to_owned();
    assert_eq!(client.finished(&id)["status"], "succeeded");
}

#[test]
fn a_newer_job_replaces_those_with_its_key() {
    let (server, client) = testbed();
    let gate = server.gate("gate");
    let running = client.submit_body(&gated(&gate, "k"));
    client.wait_for(&running, "job.started");
    let queued = client.submit_body(&gated(&gate, "k"));
    let mut later = gated(&gate, "k");
    later["delay"] = json!(1000);
    let later = client.submit_body(&later);
    let theirs = server.client().submit_body(&gated(&gate, "k"));
    let newer =
        client.submit_body(&json!({ "tool": "echo", "input": 1, "concurrency_key": "k", "on_conflict": "replace" }));
    for id in [&running, &queued, &later] {
        assert_eq!(client.finished(id)["status"], "cancelled");
    }
    assert_eq!(client.finished(&newer)["result"], 1);
    gate.open();
    let everyone = server.admin().get("/admin/jobs?status=cancelled").expect(200);
    assert_eq!(everyone["data"].as_array().map(Vec::len), Some(3), "{theirs} is another tenant's");
}

#[test]
fn a_key_must_be_one() {
    let (_server, client) = testbed();
    let fault = |body: Value, pointer: &str| client.post("/v1/jobs", &body).fault("invalid_request", pointer);
    fault(json!({ "tool": "echo", "concurrency_key": "" }), "/concurrency_key");
    fault(json!({ "tool": "echo", "concurrency_key": "x".repeat(129) }), "/concurrency_key");
    fault(json!({ "tool": "echo", "concurrency_key": "a\nb" }), "/concurrency_key");
    fault(json!({ "tool": "echo", "on_conflict": "reject" }), "/on_conflict");
    fault(json!({ "tool": "echo", "concurrency_key": "k", "on_conflict": "perhaps" }), "/on_conflict");
}

/// A testbed with one place, taken until the gate opens, and two tenants.
fn one_place() -> (Server, Gate, Client, Client, String) {
    let server = Setup::testbed().env("AGENTD_JOBS_CONCURRENCY", "1").start();
    let (gate, one, other) = (server.gate("gate"), server.client(), server.client());
    let holder = one.submit("test.gate", &json!({ "gate": gate.path() }));
    one.wait_for(&holder, "job.started");
    (server, gate, one, other, holder)
}

#[test]
fn a_tenant_with_little_does_not_wait_for_one_with_much() {
    let (_server, gate, busy, calm, _) = one_place();
    let jobs: Vec<_> = (0..500).map(|number| json!({ "tool": "echo", "input": number })).collect();
    let many = busy.post("/v1/jobs/batch", &json!({ "jobs": jobs })).expect(202);
    let single = calm.submit("echo", &json!("mine"));
    gate.open();
    let started = calm.finished(&single)["started_at"].as_str().expect("a time").to_owned();
    let ids: Vec<_> = many["data"].as_array().expect("a list").iter().map(|job| job["job_id"].clone()).collect();
    let before = ids.iter().filter(|id| {
        let job = busy.finished(id.as_str().expect("an id"));
        job["started_at"].as_str().expect("a time") < started.as_str()
    });
    // What one write starts together is told apart by nothing.
    assert!(before.count() <= 32);
}

#[test]
fn priority_goes_first_and_waiting_makes_up_for_it() {
    let (server, gate, client, _, _) = one_place();
    let old = client.submit_body(&json!({ "tool": "echo", "priority": -2 }));
    server.set_clock(60);
    let high = client.submit_body(&json!({ "tool": "echo", "priority": 5 }));
    server.set_clock(600);
    let late = client.submit_body(&json!({ "tool": "echo", "priority": 1 }));
    gate.open();
    let events: Vec<_> = [&high, &old, &late].iter().map(|id| client.finished(id)["job_id"].clone()).collect();
    let mut order: Vec<_> = [&high, &old, &late].iter().map(|id| client.job(id)).collect();
    // One write starts several; which place each got is in the lease, not in the
    // time, so the order is compared by when each ended.
    order.sort_by_key(|job| job["finished_at"].as_str().map(str::to_owned));
    let order: Vec<_> = order.iter().map(|job| job["job_id"].clone()).collect();
    assert_eq!(order, events);
}

#[test]
fn a_tenants_own_limit_makes_its_jobs_wait() {
    let server = Server::testbed();
    let tenant = server.tenant("a");
    let client = server.anyone().with_key(&server.key(&tenant));
    let quota = |limit: Value| {
        let body = json!({ "concurrent_jobs": limit }).to_string();
        let path = format!("/admin/tenants/{tenant}/quota");
        server.admin().send("PUT", &path, &[], Some(body.as_bytes())).expect(200);
    };
    quota(json!(2));
    let gate = server.gate("gate");
    let ids: Vec<_> = (0..5).map(|_| client.submit("test.gate", &json!({ "gate": gate.path() }))).collect();
    for id in &ids[..2] {
        client.wait_for(id, "job.started");
    }
    assert!(ids[2..].iter().all(|id| status(&client, id) == "queued"));
    let other = server.client().run(&json!({ "tool": "echo" }));
    assert_eq!(other["status"], "succeeded", "nobody else waits for that");
    quota(json!(null));
    for id in &ids[2..] {
        client.wait_for(id, "job.started");
    }
    gate.open();
    for id in &ids {
        assert_eq!(client.finished(id)["status"], "succeeded");
    }
}

#[test]
fn a_limit_counts_again_after_a_restart() {
    let mut server = Server::testbed();
    let tenant = server.tenant("a");
    let client = server.anyone().with_key(&server.key(&tenant));
    let path = format!("/admin/tenants/{tenant}/quota");
    server.admin().send("PUT", &path, &[], Some(br#"{"concurrent_jobs":1}"#)).expect(200);
    server.restart();
    let gate = server.gate("gate");
    let first = client.submit("test.gate", &json!({ "gate": gate.path() }));
    client.wait_for(&first, "job.started");
    let second = client.submit("echo", &json!(1));
    assert_eq!(status(&client, &second), "queued");
    gate.open();
    assert_eq!(client.finished(&second)["result"], 1);
}
