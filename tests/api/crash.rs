//! The end of the process while jobs run, by `kill -9` and by the jobs'
//! own doing.

use serde_json::json;

use crate::testbed;

#[test]
fn a_job_that_was_running_is_done_after_the_crash() {
    let (mut server, client) = testbed();
    let gate = server.gate("gate");
    let id = client.submit_body(&json!({ "tool": "test.gate", "input": { "gate": gate.path() }, "max_attempts": 1 }));
    client.wait_for(&id, "step.started");
    server.kill();
    gate.open();
    server.start_again(|setup| setup);
    server.wait_for_log("what it took up", |line| line["requeued"] == 1);
    let job = client.finished(&id);
    assert_eq!((&job["status"], &job["attempt"], &job["interruptions"]), (&json!("succeeded"), &json!(1), &json!(1)));
    let metrics = client.get("/metrics").text;
    assert!(metrics.contains("\nagentd_jobs_interrupted_total 1\n"), "{metrics}");
}

#[test]
fn what_waited_waits_on_after_the_crash() {
    let (mut server, client) = testbed();
    let gate = server.gate("gate");
    let first = client.submit("test.single", &json!({ "gate": gate.path() }));
    client.wait_for(&first, "job.started");
    let queued: Vec<_> = (0..5).map(|_| client.submit("test.single", &json!({}))).collect();
    let appointed = client.submit_body(&json!({ "tool": "echo", "run_at": "2100-01-01T00:00:00Z" }));
    let backoff = json!({ "initial": 0.5, "max": 0.5 });
    let retrying = client.submit_body(&json!({ "tool": "test.flaky", "input": { "until": 2 }, "backoff": backoff }));
    client.wait_for(&retrying, "job.retrying");
    server.kill();
    gate.open();
    server.start_again(|setup| setup);
    for id in queued.iter().chain([&first, &retrying]) {
        assert_eq!(client.finished(id)["status"], "succeeded");
    }
    assert_eq!(client.job(&retrying)["attempt"], 2);
    assert_eq!(client.job(&appointed)["status"], "waiting");
    client.post(&format!("/v1/jobs/{appointed}/cancel"), &json!({})).expect(200);
}

#[test]
fn a_cancellation_that_was_asked_for_is_not_forgotten() {
    let (mut server, client) = testbed();
    // The grace for handlers that do not stop leaves time to be killed in.
    let id = client.submit("test.loop", &json!({}));
    client.wait_for(&id, "job.started");
    client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).expect(202);
    server.kill();
    server.start_again(|setup| setup);
    assert_eq!(client.finished(&id)["status"], "cancelled");
}

#[test]
fn a_job_that_kills_its_process_three_times_is_given_up() {
    let (mut server, client) = testbed();
    // The delay lets the acknowledgement out before the process ends.
    let id = client.submit_body(&json!({ "tool": "test.abort", "delay": 0.2 }));
    for _ in 0..2 {
        let (status, _) = server.wait_for_end();
        assert!(!status.success());
        // It may kill the next process before that one is ready.
        server.start_until_ready_or_dead();
    }
    let (status, _) = server.wait_for_end();
    assert!(!status.success());
    server.start_again(|setup| setup);
    let job = client.job(&id);
    assert_eq!((&job["status"], &job["interruptions"]), (&json!("dead"), &json!(3)));
    assert_eq!(job["error"]["code"], "interrupted");
    let types = client.event_types(&id);
    let attempt = ["job.started", "step.started", "job.retrying"];
    let expected =
        ["job.queued", "job.waiting"].iter().chain(&attempt).chain(&attempt).chain(&attempt[..2]).chain(&["job.dead"]);
    assert_eq!(types, expected.copied().collect::<Vec<_>>());
    assert_eq!(client.run(&json!({ "tool": "echo" }))["status"], "succeeded");
}
