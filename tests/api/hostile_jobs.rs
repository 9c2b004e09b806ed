//! Handlers that misbehave harm their own job and nothing else.

use serde_json::json;

use crate::support::Setup;
use crate::testbed;

#[test]
fn a_panic_fails_its_job_alone() {
    let (server, client) = testbed();
    let bystander = client.submit("test.sleep", &json!({ "seconds": 0.2 }));
    for tool in ["test.panic", "test.panic_inline", "test.panic_async"] {
        let job = client.run(&json!({ "tool": tool }));
        assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("panicked")), "{tool}");
        assert!(!job["error"].to_string().contains("on purpose"), "what a panic says goes to the log only");
    }
    server.wait_for_log("that a handler panicked", |line| line["panic"] == "a panic on purpose");
    assert_eq!(client.finished(&bystander)["status"], "succeeded");
    assert_eq!(client.run(&json!({ "tool": "echo" }))["status"], "succeeded");
}

#[test]
fn loops_do_not_keep_other_jobs_from_running() {
    let (server, client) = testbed();
    let endless: Vec<_> = (0..8).map(|_| client.submit("test.loop", &json!({}))).collect();
    for id in &endless {
        client.wait_for(id, "job.started");
    }
    assert_eq!(client.run(&json!({ "tool": "echo" }))["status"], "succeeded");
    for id in &endless {
        client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).expect(202);
    }
    for id in &endless {
        assert_eq!(client.finished(id)["status"], "cancelled");
    }
    let metrics = client.get("/metrics").text;
    assert!(metrics.contains("\nagentd_job_handlers_abandoned_total 8\n"), "{metrics}");
    server.wait_for_log("what was left behind", |line| {
        line["message"].as_str().is_some_and(|message| message.contains("was left behind"))
    });
}

#[test]
fn a_loop_that_was_left_behind_gives_its_place_back() {
    let server = Setup::testbed().env("AGENTD_JOBS_CONCURRENCY", "1").start();
    let client = server.client();
    let job = client.run(&json!({ "tool": "test.loop", "timeout": 0.05, "max_attempts": 1 }));
    assert_eq!(job["status"], "dead");
    assert_eq!(client.run(&json!({ "tool": "echo" }))["status"], "succeeded");
}

#[test]
fn a_result_of_50_mb_is_refused() {
    let (server, client) = testbed();
    let job = client.run(&json!({ "tool": "test.huge" }));
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("result_too_large")));
    assert_eq!(job["attempt"], 1, "another attempt would end the same");
    let database = std::fs::metadata(server.data().join("agentd.db")).expect("a file").len();
    assert!(database < 10 << 20, "nothing of it is kept, but the database has {database} bytes");
}

#[test]
fn a_result_of_the_allowed_size_is_kept() {
    let server = Setup::testbed().env("AGENTD_JOBS_RESULT_BYTES", "100").start();
    let client = server.client();
    let fits = "x".repeat(98);
    assert_eq!(client.run(&json!({ "tool": "echo", "input": fits }))["result"], json!(fits));
    let over = client.run(&json!({ "tool": "echo", "input": "x".repeat(99) }));
    assert_eq!(over["error"]["code"], "result_too_large");
}

#[test]
fn a_result_that_is_no_json_is_refused() {
    let (_server, client) = testbed();
    let job = client.run(&json!({ "tool": "test.invalid" }));
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("invalid_result")));
}
