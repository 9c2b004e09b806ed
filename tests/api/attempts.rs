//! Attempts: retries and their pauses, error classes, time limits, steps.

use serde_json::{Value, json};

use crate::support::client::job_id;
use crate::testbed;

/// Pauses too short to notice.
fn at_once() -> Value {
    json!({ "initial": 0.0, "max": 0.0 })
}

#[test]
fn a_failure_that_may_pass_is_tried_again() {
    let (_server, client) = testbed();
    let job = client.run(&json!({ "tool": "test.flaky", "input": { "until": 3 }, "backoff": at_once() }));
    assert_eq!((&job["status"], &job["attempt"]), (&json!("succeeded"), &json!(3)));
    assert_eq!((&job["result"]["attempt"], &job["error"]), (&json!(3), &Value::Null));
    let types = client.event_types(&job_id(&job));
    let attempt = ["job.started", "step.started", "step.failed", "job.retrying"];
    let mut expected = vec!["job.queued"];
    expected.extend(attempt.iter().chain(&attempt));
    expected.extend(["job.started", "step.started", "step.finished", "job.succeeded"]);
    assert_eq!(types, expected);
}

#[test]
fn after_the_last_attempt_a_job_is_dead() {
    let (_server, client) = testbed();
    let body = json!({ "tool": "test.flaky", "input": { "until": 99 }, "max_attempts": 4, "backoff": at_once() });
    let job = client.run(&body);
    assert_eq!((&job["status"], &job["attempt"], &job["max_attempts"]), (&json!("dead"), &json!(4), &json!(4)));
    assert_eq!((&job["error"]["code"], &job["error"]["retryable"]), (&json!("not_yet"), &json!(true)));
    let retries = client.event_types(&job_id(&job)).iter().filter(|kind| *kind == "job.retrying").count();
    assert_eq!(retries, 3);
}

#[test]
fn three_attempts_are_made_when_nobody_says_how_many() {
    let (_server, client) = testbed();
    let job = client.run(&json!({ "tool": "test.flaky", "input": { "until": 99 }, "backoff": at_once() }));
    assert_eq!((&job["status"], &job["attempt"]), (&json!("dead"), &json!(3)));
}

#[test]
fn a_permanent_failure_is_not_tried_again() {
    let (_server, client) = testbed();
    let job = client.run(&json!({ "tool": "test.permanent", "max_attempts": 50 }));
    assert_eq!((&job["status"], &job["attempt"]), (&json!("failed"), &json!(1)));
    let error = json!({ "code": "out_of_order", "message": "it is broken", "retryable": false });
    assert_eq!(job["error"], error);
}

#[test]
fn pauses_grow_and_lie_between_half_and_all_of_their_bound() {
    let (_server, client) = testbed();
    let backoff = json!({ "initial": 0.1, "factor": 2.0, "max": 0.25 });
    let body = json!({ "tool": "test.flaky", "input": { "until": 4 }, "max_attempts": 4, "backoff": backoff });
    let job = client.run(&body);
    assert_eq!(job["status"], "succeeded");
    let events = client.events(&job_id(&job));
    let retries = events.iter().filter(|event| event["type"] == "job.retrying");
    let pauses: Vec<f64> = retries
        .map(|event| micros(&event["data"]["due_at"]) - micros(&event["at"]))
        .map(|micros| micros as f64 / 1e6)
        .collect();
    assert_eq!(pauses.len(), 3);
    for (pause, bound) in pauses.iter().zip([0.1, 0.2, 0.25]) {
        assert!((bound / 2.0 - 0.05..=bound + 0.01).contains(pause), "{pause} for a bound of {bound}");
    }
    let starts = events.iter().filter(|event| event["type"] == "job.started").skip(1);
    let dues = events.iter().filter(|event| event["type"] == "job.retrying");
    for (start, due) in starts.zip(dues) {
        assert!(micros(&start["at"]) >= micros(&due["data"]["due_at"]), "an attempt began too early");
    }
}

fn micros(time: &Value) -> i64 {
    agentd::clock::Timestamp::parse(time.as_str().expect("a time")).expect("RFC 3339").micros()
}

#[test]
fn who_is_told_to_come_back_later_does() {
    let (_server, client) = testbed();
    let body = json!({ "tool": "test.rate_limited", "input": { "after": 0.3 }, "backoff": at_once() });
    let job = client.run(&body);
    assert_eq!((&job["status"], &job["attempt"]), (&json!("succeeded"), &json!(2)));
    let events = client.events(&job_id(&job));
    let retry = events.iter().find(|event| event["type"] == "job.retrying").expect("a retry");
    assert_eq!(retry["data"]["error"]["code"], "too_many");
    let pause = micros(&retry["data"]["due_at"]) - micros(&retry["at"]);
    assert!((200_000..=350_000).contains(&pause), "{pause} µs");
}

#[test]
fn an_attempt_that_takes_too_long_is_stopped_and_tried_again() {
    let (_server, client) = testbed();
    for tool in ["test.sleep", "test.loop"] {
        let body = json!({
            "tool": tool, "input": { "seconds": 3600 }, "timeout": 0.05, "max_attempts": 2, "backoff": at_once()
        });
        let job = client.run(&body);
        assert_eq!((&job["status"], &job["attempt"]), (&json!("dead"), &json!(2)), "{tool}");
        assert_eq!(job["error"]["code"], "timeout");
    }
}

/// The handler's own last word comes in a race with the end of its time.
#[test]
fn an_attempt_out_of_time_is_that_also_when_its_handler_fails_on_being_told() {
    let (_server, client) = testbed();
    for tool in ["test.obey", "test.obey_async"] {
        let job = client.run(&json!({ "tool": tool, "timeout": 0.05, "max_attempts": 1 }));
        assert_eq!((&job["status"], &job["error"]["code"]), (&json!("dead"), &json!("timeout")), "{tool}");
    }
}

#[test]
fn the_whole_job_has_a_time_limit_too() {
    let (_server, client) = testbed();
    let running = client.run(&json!({ "tool": "test.sleep", "input": { "seconds": 3600 }, "total_timeout": 0.1 }));
    assert_eq!((&running["status"], &running["error"]["code"]), (&json!("failed"), &json!("total_timeout")));
    // A pause that would end after the limit is not begun.
    let backoff = json!({ "initial": 100.0, "max": 100.0 });
    let retrying = json!({ "tool": "test.flaky", "input": { "until": 9 }, "total_timeout": 10, "backoff": backoff });
    let retrying = client.run(&retrying);
    assert_eq!((&retrying["status"], &retrying["attempt"]), (&json!("dead"), &json!(1)));
}

#[test]
fn a_job_whose_time_passed_while_it_waited_is_not_begun() {
    let (server, client) = testbed();
    let gate = server.gate("gate");
    let first = client.submit("test.single", &json!({ "gate": gate.path() }));
    client.wait_for(&first, "job.started");
    let late = client.submit_body(&json!({ "tool": "test.single", "total_timeout": 60 }));
    server.set_clock(61);
    gate.open();
    let late = client.finished(&late);
    assert_eq!((&late["status"], &late["error"]["code"]), (&json!("failed"), &json!("total_timeout")));
    client.finished(&first);
}

#[test]
fn every_attempt_is_a_step() {
    let (_server, client) = testbed();
    let job = client.run(&json!({ "tool": "test.flaky", "input": { "until": 2 }, "backoff": at_once() }));
    let page = client.get(&format!("/v1/jobs/{}/steps", job_id(&job))).expect(200);
    let steps = page["data"].as_array().expect("a list");
    assert_eq!((steps.len(), &page["next_cursor"]), (2, &Value::Null));
    assert_eq!((&steps[0]["status"], &steps[0]["attempt"]), (&json!("failed"), &json!(1)));
    assert_eq!((&steps[0]["error"]["code"], &steps[0]["output"]), (&json!("not_yet"), &Value::Null));
    assert_eq!((&steps[1]["status"], &steps[1]["attempt"]), (&json!("succeeded"), &json!(2)));
    assert_eq!((&steps[1]["output"], &steps[1]["error"]), (&json!({ "attempt": 2 }), &Value::Null));
    for step in steps {
        assert_eq!((&step["kind"], &step["name"]), (&json!("tool"), &json!("test.flaky")));
        assert!(step["started_at"].as_str() <= step["finished_at"].as_str());
    }
}

#[test]
fn a_job_waiting_for_its_next_attempt_can_be_cancelled() {
    let (_server, client) = testbed();
    let backoff = json!({ "initial": 3600.0, "max": 3600.0 });
    let id = client.submit_body(&json!({ "tool": "test.flaky", "input": { "until": 9 }, "backoff": backoff }));
    client.wait_for(&id, "job.retrying");
    assert_eq!(client.job(&id)["status"], "waiting");
    client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).expect(200);
    assert_eq!(client.job(&id)["status"], "cancelled");
}
