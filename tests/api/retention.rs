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
    server.stop();
    server.set_clock(6 * DAY);
    server.start_again(|setup| setup);
    let fresh = client.run(&json!({ "tool": "echo" }));
    assert_eq!(left(&server), 6, "nothing is old enough");
    server.stop();
    server.set_clock(8 * DAY);
    server.start_again(|setup| setup);
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
    server.stop();
    server.set_clock(10 * DAY);
    server.start_again(|setup| setup);
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
    server.stop();
    server.set_clock(3650 * DAY);
    server.start_again(|setup| setup);
    client.run(&json!({ "tool": "echo" }));
    assert_eq!(left(&server), 2);
}
