//! Lists of jobs: filters, cursors to the end, and what is refused.

use serde_json::{Value, json};

use crate::support::client::job_id;
use crate::{real, testbed};

fn ids(rows: &[Value]) -> Vec<String> {
    rows.iter().map(job_id).collect()
}

#[test]
fn pages_give_every_job_once_newest_first() {
    let (_server, client) = real();
    let submitted: Vec<_> = (0..25).map(|place| client.submit("echo", &json!(place))).collect();
    for id in &submitted {
        client.finished(id);
    }
    let newest_first: Vec<_> = submitted.iter().rev().cloned().collect();
    for limit in [1, 7, 25, 200] {
        assert_eq!(ids(&client.all_pages(&format!("/v1/jobs?limit={limit}"))), newest_first, "limit {limit}");
    }
    let page = client.get("/v1/jobs?limit=25").expect(200);
    assert_eq!(page["next_cursor"], Value::Null, "there is nothing after the last row");
}

#[test]
fn jobs_that_come_meanwhile_do_not_disturb_a_walk() {
    let (_server, client) = real();
    let old: Vec<_> = (0..5).map(|place| job_id(&client.run(&json!({ "tool": "echo", "input": place })))).collect();
    let first = client.get("/v1/jobs?limit=2").expect(200);
    client.run(&json!({ "tool": "echo", "input": "new" }));
    let cursor = first["next_cursor"].as_str().expect("there are more");
    let rest = client.get(&format!("/v1/jobs?cursor={cursor}")).expect(200);
    let mut walked = ids(first["data"].as_array().expect("a list"));
    walked.extend(ids(rest["data"].as_array().expect("a list")));
    assert_eq!(walked, old.into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn a_list_can_be_narrowed() {
    let (server, client) = testbed();
    let gate = server.gate("gate");
    let done = job_id(&client.run(&json!({ "tool": "echo", "metadata": { "order": "1", "a.b": "x" } })));
    let failed = job_id(&client.run(&json!({ "tool": "test.permanent", "metadata": { "order": "2" } })));
    let dead = job_id(&client.run(&json!({ "tool": "test.flaky", "input": { "until": 2 }, "max_attempts": 1 })));
    let running = client.submit("test.single", &json!({ "gate": gate.path() }));
    client.wait_for(&running, "job.started");
    let queued = client.submit("test.single", &json!({}));
    let waiting = client.submit_body(&json!({ "tool": "echo", "delay": 3600 }));
    let cancelled = client.submit_body(&json!({ "tool": "echo", "delay": 3600 }));
    client.post(&format!("/v1/jobs/{cancelled}/cancel"), &json!({})).expect(200);

    let narrowed = |query: &str| ids(&client.all_pages(&format!("/v1/jobs?{query}")));
    let by_status = [
        ("succeeded", &done),
        ("failed", &failed),
        ("dead", &dead),
        ("running", &running),
        ("queued", &queued),
        ("waiting", &waiting),
        ("cancelled", &cancelled),
    ];
    for (status, id) in by_status {
        assert_eq!(narrowed(&format!("status={status}")), std::slice::from_ref(id), "{status}");
    }
    assert_eq!(narrowed("tool=echo"), [cancelled.clone(), waiting.clone(), done.clone()]);
    assert_eq!(narrowed("tool=echo&status=succeeded"), std::slice::from_ref(&done));
    assert_eq!(narrowed("tool=nonsense"), Vec::<String>::new());
    assert_eq!(narrowed("metadata.order=2"), std::slice::from_ref(&failed));
    assert_eq!(narrowed("metadata.a.b=x"), std::slice::from_ref(&done));
    assert_eq!(narrowed("metadata.order=3"), Vec::<String>::new());
    let since = client.job(&running)["created_at"].as_str().expect("a time").to_owned();
    assert_eq!(narrowed(&format!("created_after={since}")), [cancelled.clone(), waiting.clone(), queued, running]);
    assert_eq!(narrowed(&format!("created_before={since}")), [dead, failed, done]);
    client.post(&format!("/v1/jobs/{waiting}/cancel"), &json!({})).expect(200);
    gate.open();
    for job in client.all_pages("/v1/jobs") {
        client.finished(&job_id(&job));
    }
}

#[test]
fn a_list_says_what_it_does_not_understand() {
    let (_server, client) = real();
    let fault = |query: &str, pointer: &str| client.get(&format!("/v1/jobs?{query}")).fault("invalid_request", pointer);
    fault("status=done", "?status");
    fault("limit=0", "?limit");
    fault("limit=201", "?limit");
    fault("limit=-1", "?limit");
    fault("limit=many", "?limit");
    fault("cursor=nonsense", "?cursor");
    fault("cursor=c-1", "?cursor");
    fault("cursor=cffffffffffffffffff", "?cursor");
    let time = fault("created_after=yesterday", "?created_after");
    assert!(time["detail"].as_str().is_some_and(|detail| detail.contains("such as 2030-01-31T09:30:00Z")), "{time}");
    assert!(time["hint"].as_str().is_some_and(|hint| hint.contains("%2B")), "{time}");
    // The + of an offset is a blank in a query.
    for time in ["2024-01-01T00:00:00+02:00", "2024-01-01T00:00:00%2B02:00", "9999-12-31T23:59:59Z"] {
        client.get(&format!("/v1/jobs?created_after={time}")).expect(200);
    }
    fault("limit=1&limit=2", "?limit");
    let far = fault("state=queued", "?state");
    assert!(far["hint"].as_str().is_some_and(|hint| hint.starts_with("known are status, ")), "{far}");
    let unknown = fault("staus=queued", "?staus");
    assert!(unknown["hint"].as_str().is_some_and(|hint| hint.contains("did you mean status?")), "{unknown}");
}
