//! Batches: all or nothing. Dead letters: done again, each once.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Client, Server, Setup};
use crate::{real, testbed};

fn ids(answer: &Value) -> Vec<String> {
    let list = answer["data"].as_array().expect("a list");
    list.iter().map(|job| job["job_id"].as_str().expect("an id").to_owned()).collect()
}

fn echoes(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!({ "tool": "echo", "input": number })).collect()
}

fn count(client: &Client) -> usize {
    client.all_pages("/v1/jobs?limit=200").len()
}

#[test]
fn a_batch_is_done_as_if_each_had_been_submitted() {
    let (_server, client) = real();
    let ids = ids(&client.post("/v1/jobs/batch", &json!({ "jobs": echoes(1000) })).expect(202));
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 1000);
    for (number, id) in ids.iter().enumerate().step_by(37) {
        assert_eq!(client.finished(id)["result"], number);
    }
    for id in &ids {
        assert_eq!(client.finished(id)["status"], "succeeded");
    }
}

#[test]
fn a_row_that_is_wrong_is_named_and_nothing_is_written() {
    let (_server, client) = testbed();
    let with = |place: usize, job: Value| {
        let mut jobs = echoes(5);
        jobs[place] = job;
        client.post("/v1/jobs/batch", &json!({ "jobs": jobs }))
    };
    with(3, json!({ "tool": "ecko" })).fault("unknown_tool", "/jobs/3/tool");
    let problem = with(1, json!({ "tool": "test.strict", "input": { "count": 11 } }));
    let problem = problem.fault("invalid_input", "/jobs/1/input/count");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.starts_with("/jobs/1")), "{problem}");
    with(4, json!({ "tool": "echo", "nmae": 1 })).fault("unknown_field", "/jobs/4/nmae");
    with(0, json!({ "tool": "echo", "max_attempts": 0 })).fault("invalid_request", "/jobs/0/max_attempts");
    with(2, json!({ "tool": "echo", "callback_url": "http://x" })).fault("not_available", "/jobs/2/callback_url");
    let key = json!({ "tool": "echo", "concurrency_key": "k", "on_conflict": "reject" });
    let twice = client.post("/v1/jobs/batch", &json!({ "jobs": [key, echoes(1)[0], key] }));
    let problem = twice.problem(409, "concurrency_conflict");
    assert_eq!(problem["errors"][0]["pointer"], "/jobs/2", "{problem}");
    assert_eq!(count(&client), 0);
}

#[test]
fn a_batch_has_bounds() {
    let (_server, client) = testbed();
    client.post("/v1/jobs/batch", &json!({ "jobs": [] })).fault("invalid_request", "/jobs");
    client.post("/v1/jobs/batch", &json!({ "jobs": echoes(1001) })).fault("invalid_request", "/jobs");
    client.post("/v1/jobs/batch", &json!({})).problem(400, "invalid_request");
    client.post("/v1/jobs/batch?wait=1", &json!({ "jobs": echoes(1) })).fault("invalid_request", "?wait");
    assert_eq!(count(&client), 0);
}

#[test]
fn a_batch_with_a_key_is_written_once() {
    let (mut server, client) = real();
    let body = json!({ "jobs": echoes(10) });
    let key = [("Idempotency-Key", "batch-1")];
    let first = client.post_with("/v1/jobs/batch", &key, &body);
    server.restart();
    let second = client.post_with("/v1/jobs/batch", &key, &body);
    assert_eq!(second.header("Idempotency-Replayed"), Some("true"));
    assert_eq!(first.expect(202), second.expect(202));
    client.post_with("/v1/jobs/batch", &key, &json!({ "jobs": echoes(9) })).problem(422, "idempotency_key_reused");
    for id in ids(&first.json()) {
        client.finished(&id);
    }
    assert_eq!(count(&client), 10);
}

#[test]
fn dead_letters_are_done_again_once() {
    let (server, client) = testbed();
    let file = server.path("calls");
    let dead = json!({ "tool": "test.count", "input": { "file": file, "until": 4 }, "max_attempts": 1 });
    let first: Vec<_> = (0..3).map(|_| client.submit_body(&dead)).collect();
    for id in &first {
        assert_eq!(client.finished(id)["status"], "dead");
    }
    let failed = client.submit("test.permanent", &json!({}));
    client.finished(&failed);

    let again = client.post("/v1/jobs/redrive", &json!({ "limit": 2 })).expect(202);
    assert_eq!(again["more"], true);
    let rest = client.post("/v1/jobs/redrive", &json!({ "tool": "test.count" })).expect(202);
    assert_eq!((rest["data"].as_array().map(Vec::len), &rest["more"]), (Some(1), &json!(false)));
    let pairs = again["data"].as_array().into_iter().chain(rest["data"].as_array()).flatten();
    for (pair, old) in pairs.zip(&first) {
        let new = pair["job_id"].as_str().expect("an id");
        assert_eq!(pair["retry_of"], **old);
        assert_eq!(client.finished(new)["status"], "succeeded");
        assert_eq!(client.job(new)["retry_of"], **old);
        assert_eq!(client.job(old)["retried_by"], new);
    }
    let nothing = client.post("/v1/jobs/redrive", &json!({})).expect(202);
    assert_eq!(nothing, json!({ "data": [], "more": false }));
    let others = client.post("/v1/jobs/redrive", &json!({ "status": "failed" })).expect(202);
    assert_eq!(others["data"][0]["retry_of"], failed);
    client.finished(&ids(&others)[0]);
    client.post("/v1/jobs/redrive", &json!({ "status": "succeeded" })).fault("invalid_request", "/status");
    client.post("/v1/jobs/redrive", &json!({ "limit": 0 })).fault("invalid_request", "/limit");
}

#[test]
fn a_redrive_touches_nobody_elses_jobs() {
    let (server, client) = testbed();
    client.run(&json!({ "tool": "test.permanent" }));
    let other = server.client();
    let answer = other.post("/v1/jobs/redrive", &json!({ "status": "failed" })).expect(202);
    assert_eq!(answer["data"], json!([]));
}

#[test]
fn what_this_version_has_no_tool_for_stays_and_is_not_counted() {
    let mut server = Server::testbed();
    let key = server.key(&server.tenant("a tenant"));
    let client = server.anyone().with_key(&key);
    client.run(&json!({ "tool": "test.permanent" }));
    client.run(&json!({ "tool": "math.eval", "input": { "expression": "1/0" } }));
    server.stop();
    // The shipped program does not know the handlers of the tests.
    let server = Setup::real().start_in(server.into_folder());
    let client = server.anyone().with_key(&key);
    let failed = json!({ "status": "failed", "limit": 1 });
    let first = client.post("/v1/jobs/redrive", &failed).expect(202);
    assert_eq!((ids(&first).len(), &first["more"]), (1, &json!(false)));
    let named = json!({ "status": "failed", "tool": "test.permanent" });
    assert_eq!(client.post("/v1/jobs/redrive", &named).expect(202), json!({ "data": [], "more": false }));
}
