//! A clock that somebody sets, forwards or backwards, while the service runs:
//! spans stay as long as they were, appointed times are kept.

use serde_json::json;

use crate::support::{Client, Server, Setup};

#[test]
fn a_clock_that_is_set_back_does_no_harm() {
    let server: Server = Setup::testbed().start();
    let client = server.client();
    server.set_clock(3600);
    let first = client.run(&json!({ "tool": "echo", "input": 1 }));
    server.set_clock(-3600);
    let second = client.run(&json!({ "tool": "echo", "input": 2 }));
    assert_eq!((&first["status"], &second["status"]), (&json!("succeeded"), &json!("succeeded")));
    let list = client.all_pages("/v1/jobs");
    assert_eq!(list, [second, first], "the order is that of submission all the same");
    let retried = json!({ "tool": "test.flaky", "input": { "until": 2 }, "backoff": { "initial": 0.05 } });
    assert_eq!(client.run(&retried)["status"], "succeeded");
    let timed = json!({ "tool": "test.sleep", "input": { "seconds": 0.05 }, "total_timeout": 20 });
    assert_eq!(client.run(&timed)["status"], "succeeded");
}

#[test]
fn a_clock_that_is_set_back_while_jobs_wait_does_not_hold_them_up() {
    let server: Server = Setup::testbed().start();
    let client = server.client();
    let id = client.submit_body(&json!({ "tool": "echo", "delay": 0.5 }));
    server.set_clock(-3600);
    assert_eq!(client.finished(&id)["status"], "succeeded");
    server.wait_for_log("that the clock was set", |line| line["message"] == "the clock was set");
}

#[test]
fn ids_go_on_upwards_after_a_restart_with_an_earlier_clock() {
    let mut server: Server = Setup::testbed().start();
    let client = server.client();
    server.set_clock(86_400);
    let first = client.run(&json!({ "tool": "echo" }));
    server.set_clock(-86_400);
    server.restart();
    let second = client.run(&json!({ "tool": "echo" }));
    assert!(second["job_id"].as_str() > first["job_id"].as_str());
}

#[test]
fn a_clock_that_is_set_forward_does_not_shorten_waiting() {
    let server: Server = Setup::testbed().start();
    let client = server.client();
    let spans = client.submit_body(&json!({ "tool": "echo", "delay": 1800 }));
    let appointed = client.submit_body(&json!({ "tool": "echo", "run_at": in_seconds(1800) }));
    server.set_clock(3600);
    assert_eq!(client.finished(&appointed)["status"], "succeeded", "its time has come");
    server.wait_for_log("that the clock was set", |line| line["message"] == "the clock was set");
    assert_eq!(client.job(&spans)["status"], "waiting", "half an hour has not passed");
    cancel(&client, &spans);
}

/// Jobs that come after the clock was set have reckoned with the new time
/// already.
#[test]
fn a_span_that_begins_after_the_clock_was_set_is_not_moved_with_it() {
    for (set, delay) in [(3600, 0.3), (-3600, 0.3), (-3600, 3.0)] {
        let server: Server = Setup::testbed().start();
        let client = server.client();
        let bystander = client.submit_body(&json!({ "tool": "echo", "delay": 1800 }));
        server.set_clock(set);
        let asked = std::time::Instant::now();
        let id = client.submit_body(&json!({ "tool": "echo", "delay": delay }));
        client.finished(&id);
        let took = asked.elapsed().as_secs_f64();
        assert!((delay - 0.2..20.0).contains(&took), "{took} s instead of {delay} s after {set} s");
        cancel(&client, &bystander);
    }
}

fn in_seconds(seconds: u64) -> agentd::clock::Timestamp {
    agentd::clock::system_now().plus(std::time::Duration::from_secs(seconds))
}

fn cancel(client: &Client, id: &str) {
    client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).expect(200);
}
