//! Steps that a job takes itself: recorded one by one, never taken twice.

use serde_json::{Value, json};

use crate::support::{Client, Server, Setup};
use crate::testbed;

fn counted(server: &Server, name: &str) -> Value {
    json!({ "tool": "test.count", "input": { "file": server.path(name) } })
}

fn gated(gate: &str) -> Value {
    json!({ "tool": "test.gate", "input": { "gate": gate } })
}

fn calls(server: &Server, name: &str) -> usize {
    std::fs::read_to_string(server.path(name)).unwrap_or_default().lines().count()
}

fn steps(client: &Client, id: &str) -> Vec<Value> {
    client.get(&format!("/v1/jobs/{id}/steps")).json()["data"].as_array().expect("a list").clone()
}

#[test]
fn each_step_is_an_event_and_a_row() {
    let (server, client) = testbed();
    let list = [counted(&server, "a"), json!({ "tool": "echo", "input": { "x": 1 } })];
    let id = client.submit("test.steps", &json!({ "steps": list }));
    assert_eq!(client.finished(&id)["result"], json!([{ "calls": 1 }, { "x": 1 }]));
    let found = steps(&client, &id);
    let own: Vec<_> = found.iter().filter(|step| step.get("input").is_some()).collect();
    let names: Vec<_> = own.iter().map(|step| (&step["kind"], &step["name"], &step["status"])).collect();
    let done = json!("succeeded");
    let (plan, tool) = (json!("plan"), json!("tool"));
    assert_eq!(
        names,
        [(&plan, &json!("test"), &done), (&tool, &json!("test.count"), &done), (&tool, &json!("echo"), &done)]
    );
    assert_eq!((&own[2]["input"], &own[2]["output"]), (&json!({ "x": 1 }), &json!({ "x": 1 })));
    let events = client.events(&id);
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().expect("a type")).collect();
    let step = ["step.started", "step.finished"];
    let expected: Vec<_> = ["job.queued", "job.started", "step.started"]
        .into_iter()
        .chain(step.repeat(3))
        .chain(["step.finished", "job.succeeded"])
        .collect();
    assert_eq!(kinds, expected);
    for started in events.iter().filter(|event| event["type"] == "step.started") {
        assert_eq!(started["id"], started["data"]["step"], "a step is named after the event that began it");
    }
}

#[test]
fn a_step_that_was_finished_is_not_repeated_after_a_crash() {
    let (mut server, client) = testbed();
    let gate = server.gate("gate");
    let list = [counted(&server, "a"), gated(&gate.path()), counted(&server, "b")];
    let id = client.submit_body(&json!({ "tool": "test.steps", "input": { "steps": list }, "max_attempts": 1 }));
    client.wait_for_nth(&id, "step.started", 4);
    server.kill();
    gate.open();
    server.start_again(|setup| setup);
    let job = client.finished(&id);
    assert_eq!(job["result"], json!([{ "calls": 1 }, { "attempt": 1 }, { "calls": 1 }]));
    assert_eq!((calls(&server, "a"), calls(&server, "b"), &job["interruptions"]), (1, 1, &json!(1)));
}

#[test]
fn steps_at_the_same_time_keep_their_numbers_through_a_crash() {
    let (mut server, client) = testbed();
    let gate = server.gate("gate");
    let list = [gated(&gate.path()), counted(&server, "a"), counted(&server, "b")];
    let id = client.submit("test.steps", &json!({ "steps": list, "parallel": true }));
    client.wait_for_nth(&id, "step.finished", 3);
    server.kill();
    gate.open();
    server.start_again(|setup| setup);
    assert_eq!(client.finished(&id)["status"], "succeeded");
    assert_eq!((calls(&server, "a"), calls(&server, "b")), (1, 1));
}

#[test]
fn another_attempt_takes_only_the_steps_that_failed() {
    let (server, client) = testbed();
    let mut second = counted(&server, "b");
    second["input"]["until"] = json!(3);
    let list = [counted(&server, "a"), second, counted(&server, "c")];
    let body = json!({ "tool": "test.steps", "input": { "steps": list }, "backoff": { "initial": 0 } });
    let id = client.submit_body(&body);
    let job = client.finished(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&json!("succeeded"), &json!(3)));
    assert_eq!(["a", "b", "c"].map(|name| calls(&server, name)), [1, 3, 1]);
}

#[test]
fn a_step_that_cannot_be_taken_says_why() {
    let (_server, client) = testbed();
    let failure = |tool: &str, input: Value| {
        let id = client.submit("test.steps", &json!({ "steps": [{ "tool": tool, "input": input }] }));
        let job = client.finished(&id);
        let started = client.events(&id).iter().filter(|event| event["data"]["name"] == tool).count();
        assert_eq!((&job["status"], started), (&json!("failed"), 2), "{job}");
        job["error"]["code"].clone()
    };
    assert_eq!(failure("no \"such\" tool", json!({})), "unknown_tool");
    assert_eq!(failure("test.strict", json!({ "count": 11 })), "invalid_input");
    assert_eq!(failure("test.panic", json!({})), "panicked");
    assert_eq!(failure("test.panic_async", json!({})), "panicked");
    assert_eq!(failure("test.invalid", json!({})), "invalid_result");
    assert_eq!(failure("test.huge", json!({})), "result_too_large");
}

#[test]
fn a_step_that_was_finished_is_not_repeated_after_a_stop() {
    let mut server = Setup::testbed().env("AGENTD_SERVER_DRAIN_TIME", "20ms").start();
    let client = server.client();
    let gate = server.gate("gate");
    let list = [counted(&server, "a"), gated(&gate.path()), counted(&server, "b")];
    let id = client.submit_body(&json!({ "tool": "test.steps", "input": { "steps": list }, "max_attempts": 1 }));
    client.wait_for_nth(&id, "step.started", 4);
    server.restart();
    gate.open();
    let job = client.finished(&id);
    assert_eq!((&job["status"], &job["attempt"], &job["interruptions"]), (&json!("succeeded"), &json!(1), &json!(0)));
    assert_eq!((calls(&server, "a"), calls(&server, "b")), (1, 1));
}
