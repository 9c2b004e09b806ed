//! What becomes of a job: submitted, waiting, in order, cancelled, done again,
//! deleted.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::job_id;
use crate::support::{PATIENCE, Server, eventually};
use crate::{real, testbed};

#[test]
fn a_job_is_acknowledged_and_done() {
    let (_server, client) = real();
    let answer = client.post("/agent/run", &json!({ "tool": "echo", "input": { "hello": "world" } }));
    let accepted = answer.expect(202);
    let id = job_id(&accepted);
    assert_eq!(accepted["status"], "queued");
    assert_eq!(answer.header("location"), Some(format!("/v1/jobs/{id}").as_str()));
    let job = client.finished(&id);
    assert_eq!(job["status"], "succeeded");
    assert_eq!(job["result"], json!({ "hello": "world" }));
    assert_eq!((&job["attempt"], &job["interruptions"]), (&json!(1), &json!(0)));
    assert_eq!(client.get(&format!("/agent/status/{id}")).expect(200), job);
}

#[test]
fn every_built_in_tool_does_its_work() {
    let (_server, client) = real();
    let result = |tool: &str, input: Value| client.run(&json!({ "tool": tool, "input": input }))["result"].clone();
    assert_eq!(result("math.eval", json!({ "expression": "2 + 3 * 4" }))["value"], 14.0);
    assert_eq!(result("time.now", json!({ "zone": "Asia/Tokyo" }))["offset"], "+09:00");
    assert_eq!(result("echo", json!([1, "two", null, { "ü": "ö \n" }])), json!([1, "two", null, { "ü": "ö \n" }]));
    let without_input = client.run(&json!({ "tool": "echo" }));
    assert_eq!(without_input["result"], json!({}));
}

#[test]
fn a_waiting_submitter_gets_the_finished_job() {
    let (_server, client) = testbed();
    let body = json!({ "tool": "test.sleep", "input": { "seconds": 0.05 } });
    let job = client.post("/v1/jobs?wait=30", &body).expect(200);
    assert_eq!((&job["status"], &job["result"]["slept"]), (&json!("succeeded"), &json!(0.05)));
    let failed = client.post("/agent/run?wait=30", &json!({ "tool": "test.permanent" })).expect(200);
    assert_eq!(failed["status"], "failed");
}

#[test]
fn a_wait_that_is_too_short_gives_the_acknowledgement() {
    let (server, client) = testbed();
    let gate = server.gate("gate");
    let body = json!({ "tool": "test.gate", "input": { "gate": gate.path() } });
    let accepted = client.post("/v1/jobs?wait=0.05", &body).expect(202);
    assert_eq!(accepted["status"], "queued");
    client.post("/v1/jobs?wait=0", &json!({ "tool": "echo" })).expect(202);
    gate.open();
    assert_eq!(client.finished(&job_id(&accepted))["status"], "succeeded");
}

#[test]
fn a_delayed_job_waits_for_its_time() {
    let (_server, client) = real();
    let accepted = client.post("/v1/jobs", &json!({ "tool": "echo", "delay": 0.3 })).expect(202);
    assert_eq!(accepted["status"], "waiting");
    let job = client.finished(&job_id(&accepted));
    assert_eq!(job["status"], "succeeded");
    assert!(job["started_at"].as_str() >= job["run_at"].as_str(), "it began before its time: {job}");
    let types = client.event_types(&job_id(&accepted));
    assert_eq!(&types[..3], ["job.queued", "job.waiting", "job.started"]);
}

#[test]
fn a_job_can_be_appointed() {
    let (server, client) = testbed();
    let body = json!({ "tool": "echo", "run_at": "2100-01-01T00:00:00+01:00" });
    let id = client.submit_body(&body);
    assert_eq!(client.job(&id)["run_at"], "2099-12-31T23:00:00.000000Z");
    assert_eq!(client.job(&id)["status"], "waiting");
    let past = client.run(&json!({ "tool": "echo", "run_at": "2001-01-01T00:00:00Z" }));
    assert_eq!(past["status"], "succeeded");
    client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).expect(200);
    drop(server);
}

#[test]
fn higher_priorities_start_first_and_equal_ones_in_order() {
    let (server, client) = testbed();
    let gate = server.gate("gate");
    let first = client.submit("test.single", &json!({ "gate": gate.path() }));
    client.wait_for(&first, "job.started");
    let submit = |priority: i64| client.submit_body(&json!({ "tool": "test.single", "priority": priority }));
    let jobs: Vec<_> = [0, -5, 10, 0, 127, 10].into_iter().map(|priority| (priority, submit(priority))).collect();
    for (_, id) in &jobs {
        assert_eq!(client.job(id)["status"], "queued", "only one may run");
    }
    gate.open();
    let mut started: Vec<_> = jobs
        .iter()
        .enumerate()
        .map(|(place, (priority, id))| (client.finished(id)["started_at"].to_string(), *priority, place))
        .collect();
    started.sort();
    let order: Vec<_> = started.iter().map(|(_, priority, place)| (*priority, *place)).collect();
    assert_eq!(order, [(127, 4), (10, 2), (10, 5), (0, 0), (0, 3), (-5, 1)]);
}

#[test]
fn one_tenants_backlog_does_not_hold_another_up() {
    let (server, busy) = testbed();
    let gate = server.gate("gate");
    let first = busy.submit("test.single", &json!({ "gate": gate.path() }));
    busy.wait_for(&first, "job.started");
    let backlog: Vec<_> = (0..20).map(|_| busy.submit("test.single", &json!({}))).collect();
    let other = server.client();
    let late = other.submit("test.single", &json!({}));
    gate.open();
    let late = other.finished(&late);
    let before = backlog.iter().filter(|id| busy.finished(id)["started_at"].as_str() < late["started_at"].as_str());
    assert!(before.count() <= 1, "tenants do not take turns");
}

#[test]
fn a_queued_job_is_cancelled_at_once() {
    let (server, client) = testbed();
    let gate = server.gate("gate");
    let first = client.submit("test.single", &json!({ "gate": gate.path() }));
    client.wait_for(&first, "job.started");
    let queued = client.submit("test.single", &json!({}));
    let delayed = client.submit_body(&json!({ "tool": "echo", "delay": 3600 }));
    for id in [&queued, &delayed] {
        let job = client.post(&format!("/agent/cancel/{id}"), &json!({})).expect(200);
        assert_eq!((&job["status"], &job["cancel_requested"]), (&json!("cancelled"), &json!(true)));
        // Asking again is no error and changes nothing.
        assert_eq!(client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).expect(200), job);
        assert_eq!(client.event_types(id).last().map(String::as_str), Some("job.cancelled"));
    }
    gate.open();
    client.finished(&first);
    assert_eq!(client.job(&queued)["started_at"], Value::Null);
}

#[test]
fn a_running_job_is_cancelled_within_a_second() {
    let (_server, client) = testbed();
    for tool in ["test.sleep", "test.loop"] {
        let id = client.submit(tool, &json!({ "seconds": 3600 }));
        client.wait_for(&id, "job.started");
        let asked = Instant::now();
        let job = client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).expect(202);
        assert_eq!(job["cancel_requested"], true);
        assert_eq!(client.finished(&id)["status"], "cancelled");
        // A second by the design; the rest is for a busy machine, and far from the hour that it would sleep.
        assert!(asked.elapsed() < Duration::from_secs(20), "{tool} took {:?}", asked.elapsed());
    }
}

/// The handler's own last word comes in a race with the wish that it stops;
/// whoever asked for the end has to win it.
#[test]
fn a_cancelled_job_is_cancelled_also_when_its_handler_fails_on_being_told() {
    let (_server, client) = testbed();
    for _ in 0..10 {
        for tool in ["test.obey", "test.obey_async"] {
            let id = client.submit_body(&json!({ "tool": tool, "max_attempts": 1 }));
            client.wait_for(&id, "job.started");
            client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).expect(202);
            assert_eq!(client.finished(&id)["status"], "cancelled", "{tool}");
        }
    }
}

#[test]
fn a_finished_job_cannot_be_cancelled() {
    let (_server, client) = testbed();
    let done = client.submit("echo", &json!({}));
    let failed = client.submit("test.permanent", &json!({}));
    for id in [done, failed] {
        client.finished(&id);
        client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).problem(409, "job_finished");
    }
}

#[test]
fn a_finished_job_is_done_again_as_a_new_one() {
    let (_server, client) = testbed();
    let body = json!({
        "tool": "test.permanent", "input": { "a": 1 }, "priority": 7, "max_attempts": 5, "metadata": { "order": "12" }
    });
    let first = client.run(&body);
    assert_eq!(first["status"], "failed");
    let first_id = job_id(&first);
    let answer = client.post(&format!("/v1/jobs/{first_id}/retry?wait=30"), &json!({}));
    let second = answer.expect(200);
    assert_ne!(second["job_id"], first["job_id"]);
    assert_eq!(second["retry_of"], first["job_id"]);
    for same in ["tool", "input", "priority", "max_attempts", "metadata"] {
        assert_eq!(second[same], first[same], "{same}");
    }
    let mut then = client.job(&first_id);
    assert_eq!(then["retried_by"].take(), second["job_id"]);
    then.as_object_mut().expect("an object").remove("retried_by");
    assert_eq!(then, first, "else the first is left as it was");
}

#[test]
fn an_unfinished_job_can_neither_be_done_again_nor_deleted() {
    let (server, client) = testbed();
    let gate = server.gate("gate");
    let id = client.submit("test.gate", &json!({ "gate": gate.path() }));
    client.wait_for(&id, "job.started");
    client.post(&format!("/v1/jobs/{id}/retry"), &json!({})).problem(409, "job_not_finished");
    client.delete(&format!("/v1/jobs/{id}")).problem(409, "job_not_finished");
    gate.open();
    client.finished(&id);
}

#[test]
fn a_deleted_job_leaves_nothing() {
    let (mut server, client) = real();
    let job = client.run(&json!({ "tool": "echo", "input": "a text that must go" }));
    let id = job_id(&job);
    assert_eq!(client.delete(&format!("/v1/jobs/{id}")).status, 204);
    for path in ["", "/events", "/steps"] {
        client.get(&format!("/v1/jobs/{id}{path}")).problem(404, "not_found");
    }
    client.delete(&format!("/v1/jobs/{id}")).problem(404, "not_found");
    assert_eq!(client.all_pages("/v1/jobs"), Vec::<Value>::new());
    server.stop();
    assert!(server.record().jobs.is_empty());
}

#[test]
fn a_foreign_job_is_no_job() {
    let (server, owner) = real();
    let job = owner.run(&json!({ "tool": "echo" }));
    let id = job_id(&job);
    let stranger = server.client();
    for path in ["", "/events", "/steps"] {
        stranger.get(&format!("/v1/jobs/{id}{path}")).problem(404, "not_found");
    }
    stranger.get(&format!("/agent/status/{id}")).problem(404, "not_found");
    stranger.delete(&format!("/v1/jobs/{id}")).problem(404, "not_found");
    for verb in ["cancel", "retry"] {
        stranger.post(&format!("/v1/jobs/{id}/{verb}"), &json!({})).problem(404, "not_found");
    }
    assert_eq!(stranger.all_pages("/v1/jobs"), Vec::<Value>::new());
    assert_eq!(owner.job(&id), job);
}

#[test]
fn ids_that_are_none_are_no_jobs() {
    let (_server, client) = real();
    let made_up = "0190a5c0-0000-7000-8000-000000000000";
    for id in ["1", "abc", made_up, "ffffffff-ffff-ffff-ffff-ffffffffffff", "%00", "a%2Fb"] {
        client.get(&format!("/v1/jobs/{id}")).problem(404, "not_found");
    }
    // The first half finds the row, the second has to fit as well.
    let job = client.run(&json!({ "tool": "echo" }));
    let id = job_id(&job);
    let other = format!("{}000000000000", &id[..24]);
    client.get(&format!("/v1/jobs/{other}")).problem(404, "not_found");
}

#[test]
fn a_full_queue_refuses_new_work_and_takes_it_again() {
    let server = crate::support::Setup::testbed().env("AGENTD_JOBS_QUEUE", "2").start();
    let client = server.client();
    let gate = server.gate("gate");
    let running = client.submit("test.single", &json!({ "gate": gate.path() }));
    client.wait_for(&running, "job.started");
    let waiting: Vec<_> = (0..2).map(|_| client.submit("test.single", &json!({}))).collect();
    let refused = client.post("/v1/jobs", &json!({ "tool": "test.single" }));
    refused.problem(429, "queue_full");
    assert!(refused.header("retry-after").is_some());
    gate.open();
    for id in waiting {
        client.finished(&id);
    }
    eventually("work is taken again", || {
        (client.post("/v1/jobs?wait=30", &json!({ "tool": "echo" })).status == 200).then_some(())
    });
}

#[test]
fn waiting_is_bounded_by_the_configuration() {
    let server: Server = crate::support::Setup::testbed().env("AGENTD_JOBS_WAIT", "50ms").start();
    let client = server.client();
    let gate = server.gate("gate");
    let asked = Instant::now();
    let body = json!({ "tool": "test.gate", "input": { "gate": gate.path() } });
    let accepted = client.post("/v1/jobs?wait=3600", &body).expect(202);
    assert!(asked.elapsed() < PATIENCE);
    gate.open();
    client.finished(&job_id(&accepted));
}
