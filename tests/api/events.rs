//! Events: as JSON, live, resumed from every point, after a restart and after
//! the end, to readers who are slow.

use serde_json::{Value, json};

use crate::support::client::job_id;
use crate::support::{Client, Frame};
use crate::{real, testbed};

/// A job with so many attempts and therefore events that they fill pages.
fn long_job(client: &Client, attempts: u32, padding: u32) -> String {
    client.submit_body(&json!({
        "tool": "test.flaky",
        "input": { "until": attempts, "padding": padding },
        "max_attempts": attempts,
        "backoff": { "initial": 0.0, "max": 0.0 }
    }))
}

fn numbers(frames: &[Frame]) -> Vec<i64> {
    frames.iter().map(|frame| frame.id.expect("events have ids")).collect()
}

#[test]
fn events_tell_the_whole_story_in_json_and_as_a_stream() {
    let (_server, client) = real();
    let id = job_id(&client.run(&json!({ "tool": "echo", "input": "hi" })));
    let events = client.events(&id);
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect();
    assert_eq!(types, ["job.queued", "job.started", "step.started", "step.finished", "job.succeeded"]);
    assert_eq!(events[4]["data"], json!({ "result": "hi" }));
    for (place, event) in (1..).zip(&events) {
        assert_eq!((&event["id"], &event["job_id"]), (&json!(place), &json!(id)));
    }
    let frames = client.follow(&id).into_events();
    let streamed: Vec<_> = frames.iter().map(Frame::json).collect();
    assert_eq!(streamed, events, "both forms tell the same");
    for frame in &frames {
        assert_eq!(frame.json()["id"], json!(frame.id));
        assert_eq!(frame.json()["type"], json!(frame.event));
    }
}

#[test]
fn a_job_is_followed_live() {
    let (server, client) = testbed();
    let gate = server.gate("gate");
    let id = client.submit("test.gate", &json!({ "gate": gate.path() }));
    let mut stream = client.follow(&id);
    stream.until("step.started");
    assert_eq!(client.job(&id)["status"], "running", "the stream is ahead of the end");
    let metrics = client.get("/metrics").text;
    assert!(metrics.contains("\nagentd_job_followers 1\n"), "{metrics}");
    gate.open();
    let rest = stream.into_events();
    assert_eq!(rest.last().map(|frame| frame.event.as_str()), Some("job.succeeded"));
}

#[test]
fn many_follow_one_job_and_hear_the_same() {
    let (server, client) = testbed();
    let gate = server.gate("gate");
    let id = client.submit("test.gate", &json!({ "gate": gate.path() }));
    client.wait_for(&id, "job.started");
    let streams: Vec<_> = (0..20).map(|_| client.follow(&id)).collect();
    gate.open();
    for stream in streams {
        assert_eq!(numbers(&stream.into_events()), [1, 2, 3, 4, 5]);
    }
}

#[test]
fn a_stream_resumes_exactly_after_any_event() {
    let (_server, client) = testbed();
    let id = long_job(&client, 5, 0);
    client.finished(&id);
    let last = client.events(&id).len() as i64;
    assert_eq!(last, 21);
    for after in 0..last {
        let expected: Vec<i64> = (after + 1..=last).collect();
        let by_query = client.follow_with(&id, &format!("?starting_after={after}"), &[]);
        assert_eq!(numbers(&by_query.into_events()), expected);
        let by_header = client.follow_with(&id, "", &[("Last-Event-ID", &after.to_string())]);
        assert_eq!(numbers(&by_header.into_events()), expected);
    }
    // What is asked for in the address counts before the header.
    let both = client.follow_with(&id, &format!("?starting_after={}", last - 1), &[("Last-Event-ID", "3")]);
    assert_eq!(numbers(&both.into_events()), [last]);
}

#[test]
fn a_running_jobs_stream_resumes_without_gap_or_repeat() {
    let (_server, client) = testbed();
    let id = long_job(&client, 60, 0);
    let mut heard = Vec::new();
    // Hang up again and again while events come, and go on where it stopped.
    loop {
        let after = heard.len();
        let path = format!("/v1/jobs/{id}/events?starting_after={after}");
        if client.send("HEAD", &path, &[("Accept", "text/event-stream")], None).status == 204 {
            break;
        }
        let mut stream = client.follow_with(&id, &format!("?starting_after={after}"), &[]);
        for _ in 0..17 {
            let Some(frame) = stream.event() else { break };
            heard.push(frame.id.expect("events have ids"));
        }
    }
    assert_eq!(heard, (1..=241).collect::<Vec<i64>>());
}

#[test]
fn nothing_comes_after_the_end() {
    let (_server, client) = real();
    let id = job_id(&client.run(&json!({ "tool": "echo" })));
    let stream = ("Accept", "text/event-stream");
    let path = format!("/v1/jobs/{id}/events");
    // Browsers come back until they are told with 204 that this was all.
    assert_eq!(client.send("GET", &path, &[stream, ("Last-Event-ID", "5")], None).status, 204);
    assert_eq!(client.send("GET", &format!("{path}?starting_after=5"), &[stream], None).status, 204);
    for wrong in ["6", "-1"] {
        let answer = client.send("GET", &format!("{path}?starting_after={wrong}"), &[stream], None);
        answer.fault("invalid_request", "?starting_after");
    }
    client.send("GET", &path, &[stream, ("Last-Event-ID", "x")], None).problem(400, "invalid_request");
    client.get(&format!("{path}?starting_after=x")).fault("invalid_request", "?starting_after");
    client.get(&format!("{path}?since=1")).fault("invalid_request", "?since");
}

#[test]
fn streams_are_for_nobody_to_keep() {
    let (_server, client) = real();
    let id = job_id(&client.run(&json!({ "tool": "echo" })));
    let path = format!("/v1/jobs/{id}/events");
    for method in ["HEAD", "GET"] {
        let answer = client.send(method, &path, &[("Accept", "text/event-stream")], None);
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{method}");
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        assert_eq!(answer.header("x-accel-buffering"), Some("no"));
        assert_eq!(answer.text.is_empty(), method == "HEAD");
    }
}

#[test]
fn events_are_paged_in_json() {
    let (_server, client) = testbed();
    let id = long_job(&client, 3, 0);
    client.finished(&id);
    let (mut seen, mut after) = (Vec::new(), json!(0));
    while !after.is_null() {
        let page = client.get(&format!("/v1/jobs/{id}/events?limit=4&starting_after={after}")).expect(200);
        seen.extend(page["data"].as_array().expect("a list").clone());
        after = page["next_starting_after"].clone();
    }
    assert_eq!(seen, client.events(&id));
    assert_eq!(seen.len(), 13);
}

#[test]
fn followers_go_on_after_a_restart() {
    let (mut server, client) = testbed();
    let gate = server.gate("gate");
    let id = client.submit("test.gate", &json!({ "gate": gate.path() }));
    let mut stream = client.follow(&id);
    let last = stream.until("step.started").id.expect("events have ids");
    server.kill();
    server.start_again(|setup| setup);
    let mut stream = client.follow_with(&id, "", &[("Last-Event-ID", &last.to_string())]);
    let next = stream.event().expect("it goes on");
    assert_eq!((next.id, next.event.as_str()), (Some(last + 1), "job.retrying"));
    assert_eq!(next.json()["data"], json!({ "reason": "interrupted", "interruptions": 1 }));
    gate.open();
    let rest = stream.into_events();
    assert_eq!(rest.last().map(|frame| frame.event.as_str()), Some("job.succeeded"));
    let all = client.follow(&id).into_events();
    assert_eq!(numbers(&all), (1..=all.len() as i64).collect::<Vec<_>>());
}

#[test]
fn a_slow_reader_misses_nothing_and_holds_nobody_up() {
    let (_server, client) = testbed();
    // About 8 MB of events: more than the sockets between them hold.
    let id = long_job(&client, 100, 40_000);
    let slow = client.follow(&id);
    let job = client.finished(&id);
    assert_eq!(job["status"], "succeeded", "the job does not wait for its follower");
    let frames = slow.into_events();
    assert_eq!(numbers(&frames), (1..=401).collect::<Vec<i64>>());
}

#[test]
fn a_follower_who_hangs_up_cancels_nothing_and_is_forgotten() {
    let (server, client) = testbed();
    let gate = server.gate("gate");
    let id = client.submit("test.gate", &json!({ "gate": gate.path() }));
    let mut stream = client.follow(&id);
    stream.until("job.started");
    drop(stream);
    gate.open();
    assert_eq!(client.finished(&id)["status"], "succeeded");
    crate::support::eventually("the follower is forgotten", || {
        client.get("/metrics").text.contains("\nagentd_job_followers 0\n").then_some(())
    });
}

#[test]
fn both_forms_need_the_job_to_be_ones_own() {
    let (server, client) = real();
    let id = job_id(&client.run(&json!({ "tool": "echo" })));
    let stranger = server.client();
    let answer = stranger.send("GET", &format!("/v1/jobs/{id}/events"), &[("Accept", "text/event-stream")], None);
    answer.problem(404, "not_found");
    let anyone = server.anyone().send("GET", &format!("/v1/jobs/{id}/events"), &[], None);
    anyone.problem(401, "unauthorized");
    assert_ne!(client.events(&id), Vec::<Value>::new());
}
