//! Jobs that ended long ago are forgotten; others are not.

use serde_json::json;

use crate::support::{Server, Setup, eventually};

const DAY: i64 = 86_400;

fn left(server: &Server) -> usize {
    server.admin().all_pages("/admin/jobs").len()
}

fn gone(server: &Server, jobs: usize) {
    eventually("old jobs are gone", || (left(server) == jobs).then_some(()));
}

#[test]
fn what_ended_long_ago_is_forgotten() {
    let mut server = Setup::testbed().env("AGENTD_JOBS_RETENTION", "7d").start();
    let client = server.client();
    let old: Vec<_> = (0..3).map(|_| client.run(&json!({ "tool": "echo" }))).collect();
    client.run(&json!({ "tool": "test.permanent" }));
    let waiting = client.submit_body(&json!({ "tool": "echo", "run_at": "2100-01-01T00:00:00Z" }));
    server.let_pass(6 * DAY);
    server.restart();
    let fresh = client.run(&json!({ "tool": "echo" }));
    assert_eq!(left(&server), 6, "nothing is old enough");
    server.let_pass(8 * DAY);
    server.restart();
    gone(&server, 2);
    for job in &old {
        client.get(&format!("/v1/jobs/{}", job["job_id"].as_str().expect("an id"))).problem(404, "not_found");
    }
    assert_eq!(client.job(fresh["job_id"].as_str().expect("an id"))["status"], "succeeded");
    assert_eq!(client.job(&waiting)["status"], "waiting");
    let metrics = server.anyone().get("/metrics").text;
    assert!(metrics.contains("\nagentd_jobs_expired_total 4\n"), "{metrics}");
    client.post(&format!("/v1/jobs/{waiting}/cancel"), &json!({})).expect(200);
}

#[test]
fn a_job_that_ran_for_long_counts_from_its_end() {
    let mut server = Setup::testbed().env("AGENTD_JOBS_RETENTION", "7d").start();
    let client = server.client();
    let id = client.submit_body(&json!({ "tool": "echo", "delay": 9 * DAY }));
    server.let_pass(10 * DAY);
    assert_eq!(client.finished(&id)["status"], "succeeded");
    client.run(&json!({ "tool": "echo" }));
    server.restart();
    assert_eq!(client.job(&id)["status"], "succeeded");
}

#[test]
fn nothing_is_forgotten_where_that_is_off() {
    let mut server = Setup::testbed().env("AGENTD_JOBS_RETENTION", "off").start();
    let client = server.client();
    client.run(&json!({ "tool": "echo" }));
    server.let_pass(3650 * DAY);
    server.restart();
    client.run(&json!({ "tool": "echo" }));
    assert_eq!(left(&server), 2);
}

/// Has the service look for what is old: a quota that changes makes it.
fn have_it_look(server: &Server, tenant: &str, days: u32) {
    server.admin().put(&format!("/admin/tenants/{tenant}/quota"), &json!({ "retention_days": days })).expect(200);
}

/// Somebody mistypes a date, or a time server lies.
#[test]
fn a_clock_that_is_ahead_deletes_nothing_before_a_day_has_passed() {
    let server = Setup::testbed().env("AGENTD_JOBS_RETENTION", "off").start();
    let tenant = server.tenant("a tenant");
    let client = server.anyone().with_key(&server.key(&tenant));
    client.run(&json!({ "tool": "echo", "input": "old" }));
    server.let_pass(8 * DAY);
    let recent = client.run(&json!({ "tool": "echo", "input": "recent" }));
    server.set_clock(408 * DAY);
    have_it_look(&server, &tenant, 7);
    // That one has gone says that it was looked, and by which clock.
    gone(&server, 1);
    assert_eq!(client.job(recent["job_id"].as_str().expect("an id"))["status"], "succeeded");
    let said = server.wait_for_log("that the clock was set", |line| {
        line["message"]
            .as_str()
            .is_some_and(|message| message.starts_with("the clock was set forward: nothing is deleted"))
    });
    assert_eq!(said["level"], "WARN");
    let status = server.agentd(&["status"]);
    assert_eq!(status.code, 1, "{status:?}");
    assert!(
        status.out.contains("the clock was set forward by 400 d") && status.out.contains("timedatectl"),
        "{status:?}"
    );

    // Put right, it is as if nothing had been.
    server.set_clock(8 * DAY);
    let status = server.agentd(&["status"]);
    assert!(!status.out.contains("the clock was set"), "{status:?}");

    // Left alone for a day it is the time.
    server.set_clock(408 * DAY);
    have_it_look(&server, &tenant, 8);
    assert_eq!(left(&server), 1);
    server.set_clocks(409 * DAY + 60, 9 * DAY + 60);
    have_it_look(&server, &tenant, 7);
    gone(&server, 0);
}

/// A machine whose battery is dead starts with a wrong clock, and a time server
/// puts it right some minutes later.
#[test]
fn a_start_with_a_clock_that_is_ahead_deletes_nothing() {
    for ahead in [2, 400] {
        let mut server = Setup::testbed().env("AGENTD_JOBS_RETENTION", "1d").start();
        let client = server.client();
        let kept = client.run(&json!({ "tool": "echo", "input": "kept" }));
        server.stop();
        server.set_clock(ahead * DAY);
        server.start_again(|setup| setup);
        // What is done first at a start is looking for what is old.
        client.run(&json!({ "tool": "echo", "input": "done with the wrong clock" }));
        server.set_clock(0);
        client.run(&json!({ "tool": "echo", "input": "and with the right one" }));
        assert_eq!(client.job(kept["job_id"].as_str().expect("an id"))["status"], "succeeded", "{ahead} d");
        let metrics = server.anyone().get("/metrics").text;
        assert!(metrics.contains("\nagentd_jobs_expired_total 0\n"), "{metrics}");
    }
}
