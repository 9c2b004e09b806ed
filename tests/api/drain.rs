//! Stopping: what runs is finished or put back, new work is refused, streams
//! end with a hint, and nothing can hold the process up.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::raw::Raw;
use crate::support::{Client, Server, Setup, eventually};
use crate::testbed;

/// A server that puts back what does not end within a moment.
fn hasty() -> (Server, Client) {
    let server = Setup::testbed().env("AGENTD_SERVER_DRAIN_TIME", "100ms").start();
    let client = server.client();
    (server, client)
}

fn stopping(server: &Server) {
    server.signal(Signal::TERM);
    server.wait_for_log("that it stops", |line| {
        line["message"].as_str().is_some_and(|message| message.starts_with("stopping"))
    });
}

#[test]
fn what_runs_may_end() {
    let (mut server, client) = testbed();
    let gate = server.gate("gate");
    let id = client.submit("test.gate", &json!({ "gate": gate.path() }));
    client.wait_for(&id, "job.started");
    stopping(&server);
    assert_eq!(client.job(&id)["status"], "running", "looking is possible meanwhile");
    gate.open();
    let (status, _) = server.wait_for_end();
    assert!(status.success(), "{status}");
    let record = server.record();
    assert_eq!(record.jobs[&id].status, "succeeded");
}

#[test]
fn new_work_is_refused_meanwhile() {
    let (mut server, client) = testbed();
    let gate = server.gate("gate");
    let id = client.submit("test.gate", &json!({ "gate": gate.path() }));
    client.wait_for(&id, "job.started");
    stopping(&server);
    let refused = client.post("/v1/jobs", &json!({ "tool": "echo" }));
    refused.problem(503, "draining");
    assert!(refused.header("retry-after").is_some());
    let ready = client.get("/ready").expect(503);
    assert_eq!((&ready["status"], &ready["failing"][0]["part"]), (&json!("unavailable"), &json!("service")));
    client.get("/health").expect(200);
    gate.open();
    // It ends by itself; another signal would cut the job off.
    assert!(server.wait_for_end().0.success());
}

#[test]
fn what_does_not_end_in_time_is_put_back_and_done_after_the_restart() {
    let (mut server, client) = hasty();
    let gate = server.gate("gate");
    let id = client.submit_body(&json!({ "tool": "test.gate", "input": { "gate": gate.path() }, "max_attempts": 1 }));
    client.wait_for(&id, "job.started");
    server.leave_open(&id);
    server.stop();
    let job = &server.record().jobs[&id];
    assert_eq!((job.status.as_str(), job.attempt, job.interruptions), ("queued", 0, 0));
    gate.open();
    server.start_again(|setup| setup);
    let job = client.finished(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&json!("succeeded"), &json!(1)), "the attempt was not used up");
    let retrying = client.events(&id).into_iter().find(|event| event["type"] == "job.retrying");
    assert_eq!(retrying.expect("it tells")["data"], json!({ "reason": "shutdown" }));
}

/// Failing on being told to stop is how an honest handler gives its work back;
/// that must not end the job.
#[test]
fn a_handler_that_fails_on_being_told_is_put_back_too() {
    for tool in ["test.obey", "test.obey_async"] {
        let (mut server, client) = hasty();
        let jobs: Vec<_> = (0..4).map(|_| client.submit_body(&json!({ "tool": tool, "max_attempts": 1 }))).collect();
        for id in &jobs {
            client.wait_for(id, "job.started");
            server.leave_open(id);
        }
        server.stop();
        let record = server.record();
        for id in &jobs {
            let job = &record.jobs[id];
            assert_eq!((job.status.as_str(), job.attempt), ("queued", 0), "{tool}: {job:?}");
        }
    }
}

#[test]
fn a_handler_that_never_ends_does_not_hold_the_process_up() {
    let (mut server, client) = hasty();
    let id = client.submit("test.loop", &json!({}));
    client.wait_for(&id, "job.started");
    server.leave_open(&id);
    let asked = Instant::now();
    server.stop();
    assert!(asked.elapsed() < Duration::from_secs(30), "it took {:?}", asked.elapsed());
    assert_eq!(server.record().jobs[&id].status, "queued");
}

#[test]
fn waiting_jobs_stay_and_are_done_after_the_restart() {
    let (mut server, client) = hasty();
    let gate = server.gate("gate");
    let first = client.submit("test.single", &json!({ "gate": gate.path() }));
    client.wait_for(&first, "job.started");
    let queued = client.submit("test.single", &json!({}));
    let delayed = client.submit_body(&json!({ "tool": "echo", "delay": 1.0 }));
    for id in [&first, &queued, &delayed] {
        server.leave_open(id);
    }
    server.stop();
    gate.open();
    server.start_again(|setup| setup);
    for id in [&first, &queued, &delayed] {
        assert_eq!(client.finished(id)["status"], "succeeded");
    }
}

#[test]
fn streams_end_with_when_to_come_back() {
    let (mut server, client) = hasty();
    let id = client.submit("test.sleep", &json!({ "seconds": 3600 }));
    let mut stream = client.follow(&id);
    stream.until("step.started");
    server.leave_open(&id);
    server.signal(Signal::TERM);
    let mut frames = Vec::new();
    while let Some(frame) = stream.frame() {
        frames.push(frame);
    }
    assert_eq!(frames.last().and_then(|frame| frame.retry), Some(2000), "{frames:?}");
    let (status, _) = server.wait_for_end();
    assert!(status.success());
    server.start_again(|setup| setup);
    let last = client.events(&id).len() as i64;
    client.post(&format!("/v1/jobs/{id}/cancel"), &json!({}));
    assert_eq!(client.finished(&id)["status"], "cancelled");
    assert!(client.events(&id).len() as i64 > last - 1);
}

#[test]
fn whoever_waits_for_a_job_is_answered_before_the_end() {
    let (mut server, client) = hasty();
    let waiting = client.clone();
    let asked = std::thread::spawn(move || {
        waiting.post("/v1/jobs?wait=30", &json!({ "tool": "test.sleep", "input": { "seconds": 3600 } }))
    });
    let id = eventually("the job runs", || {
        let running = client.get("/v1/jobs?status=running").expect(200);
        running["data"][0]["job_id"].as_str().map(str::to_owned)
    });
    server.leave_open(&id);
    server.stop();
    let answer = asked.join().expect("an answer").expect(202);
    assert_eq!(answer["job_id"], id);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let (mut server, client) = testbed();
        let id = client.submit("test.sleep", &json!({ "seconds": 3600 }));
        client.wait_for(&id, "job.started");
        server.leave_open(&id);
        stopping(&server);
        let asked = Instant::now();
        // Until one comes that is not part of the first.
        eventually("it stops at once", || {
            server.signal(second);
            server.log().iter().any(|line| line.contains("stopped at once by a second signal")).then_some(())
        });
        assert!(asked.elapsed() >= Duration::from_millis(300), "within half a second two are one");
        let (status, _) = server.wait_for_end();
        assert!(status.success(), "{status}");
        assert!(asked.elapsed() < Duration::from_secs(20), "it took {:?}", asked.elapsed());
    }
}

/// Service managers, container runtimes and shells send theirs at the same time.
#[test]
fn two_signals_together_are_one() {
    for second in [Signal::TERM, Signal::INT] {
        let (mut server, client) = testbed();
        let gate = server.gate("gate");
        let id = client.submit("test.gate", &json!({ "gate": gate.path() }));
        client.wait_for(&id, "job.started");
        server.signal(Signal::TERM);
        server.signal(second);
        server.wait_for_log("that it stops", |line| {
            line["message"].as_str().is_some_and(|message| message.starts_with("stopping"))
        });
        assert_eq!(client.job(&id)["status"], "running", "what runs may end");
        gate.open();
        let (status, log) = server.wait_for_end();
        assert!(status.success(), "{status}");
        assert!(!log.iter().any(|line| line.contains("second signal")), "{log:?}");
        assert_eq!(server.record().jobs[&id].status, "succeeded");
    }
}

#[test]
fn an_interrupt_from_the_terminal_stops_it_too() {
    let (mut server, _) = testbed();
    server.signal(Signal::INT);
    let (status, log) = server.wait_for_end();
    assert!(status.success());
    assert!(log.last().is_some_and(|line| line.contains("stopped")), "{log:?}");
}

#[test]
fn idle_connections_do_not_hold_the_process_up() {
    let (mut server, _) = testbed();
    let mut used = Raw::connect(&server.address());
    used.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    used.read_until("ok");
    let unused = Raw::connect(&server.address());
    let asked = Instant::now();
    server.stop();
    assert!(asked.elapsed() < Duration::from_secs(20), "it took {:?}", asked.elapsed());
    drop((used, unused));
}
