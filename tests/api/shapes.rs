//! The shapes that callers depend on, kept as snapshots: a change of one of
//! them is a change of the interface and has to be seen in a review.
//!
//! `INSTA_UPDATE=always cargo test --test api shapes` writes them anew.

use std::fmt::Write as _;

use insta::{Settings, assert_json_snapshot, assert_snapshot};
use serde_json::{Value, json};

use crate::support::client::job_id;
use crate::support::{Answer, Server, Setup};
use crate::testbed;

/// What differs from run to run, and only that, is taken out.
fn stable(check: impl FnOnce()) {
    let mut settings = Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_sort_maps(false);
    for id in ["tenant_id", "key_id", "job_id", "request_id", "retry_of"] {
        settings.add_redaction(&format!(".**.{id}"), format!("[{id}]"));
    }
    for time in ["created_at", "updated_at", "started_at", "finished_at", "run_at", "revoked_at", "at", "due_at"] {
        settings.add_dynamic_redaction(&format!(".**.{time}"), |value, _| match value.as_str() {
            Some(_) => "[time]".into(),
            None => value,
        });
    }
    settings.add_redaction(".**.api_key", "[agk_live_ID_SECRET]");
    settings.add_redaction(".**.prefix", "[agk_live_ID]");
    settings.bind(check);
}

#[test]
fn tenants_and_keys() {
    let server = Server::real();
    let admin = server.admin();
    let tenant = admin.post("/admin/tenants", &json!({ "name": "MyCompany" })).expect(201);
    let keys = format!("/admin/tenants/{}/keys", tenant["tenant_id"].as_str().expect("an id"));
    let body = json!({ "name": "Production Key", "scopes": ["jobs:read"], "expires_at": "2100-01-01T00:00:00Z" });
    let key = admin.post(&keys, &body).expect(201);
    let id = key["key_id"].as_str().expect("an id");
    let revoked = admin.post(&format!("{keys}/{id}/revoke"), &json!({})).expect(200);
    let list = admin.get("/admin/tenants").expect(200);
    stable(|| {
        assert_json_snapshot!("tenant", tenant);
        assert_json_snapshot!("tenant_list", list);
        assert_json_snapshot!("key_created", key);
        assert_json_snapshot!("key_revoked", revoked);
    });
}

#[test]
fn a_job_from_submission_to_success() {
    let (_server, client) = testbed();
    let metadata = json!({ "order": "12" });
    let body = json!({ "tool": "echo", "input": { "hello": "world" }, "priority": 3, "metadata": metadata });
    let accepted = client.post("/v1/jobs", &body).expect(202);
    let id = job_id(&accepted);
    let job = client.finished(&id);
    let events = client.get(&format!("/v1/jobs/{id}/events")).expect(200);
    let steps = client.get(&format!("/v1/jobs/{id}/steps")).expect(200);
    let list = client.get("/v1/jobs").expect(200);
    stable(|| {
        assert_json_snapshot!("job_accepted", accepted);
        assert_json_snapshot!("job_succeeded", job);
        assert_json_snapshot!("job_events", events);
        assert_json_snapshot!("job_steps", steps);
        assert_json_snapshot!("job_list", list);
    });
}

#[test]
fn jobs_that_did_not_succeed() {
    let (_server, client) = testbed();
    let failed = client.run(&json!({ "tool": "test.permanent" }));
    let backoff = json!({ "initial": 0.0, "max": 0.0 });
    let dead =
        client.run(&json!({ "tool": "test.flaky", "input": { "until": 9 }, "max_attempts": 2, "backoff": backoff }));
    let events = client.get(&format!("/v1/jobs/{}/events", job_id(&dead))).expect(200);
    let delayed = client.submit_body(&json!({ "tool": "echo", "delay": 3600 }));
    let waiting = client.job(&delayed);
    let cancelled = client.post(&format!("/v1/jobs/{delayed}/cancel"), &json!({})).expect(200);
    let retried = client.post(&format!("/v1/jobs/{}/retry?wait=30", job_id(&failed)), &json!({})).expect(200);
    stable(|| {
        assert_json_snapshot!("job_failed", failed);
        assert_json_snapshot!("job_dead", dead);
        assert_json_snapshot!("job_dead_events", events);
        assert_json_snapshot!("job_waiting", waiting);
        assert_json_snapshot!("job_cancelled", cancelled);
        assert_json_snapshot!("job_retried", retried);
    });
}

#[test]
fn tools_and_readiness() {
    let server = Server::real();
    let tools = server.client().get("/v1/tools").expect(200);
    let ready = server.anyone().get("/ready").expect(200);
    stable(|| {
        assert_json_snapshot!("tools", tools);
        assert_json_snapshot!("ready", ready);
    });
}

#[test]
fn every_kind_of_problem() {
    let server = Setup::testbed().env("AGENTD_SERVER_BODY_BYTES", "1KiB").start();
    let client = server.client();
    let done = job_id(&client.run(&json!({ "tool": "echo" })));
    let reader = server.key_with(&server.tenant("b"), &json!({ "name": "k", "scopes": ["jobs:read"] }));
    let submit = |body: Value| client.post("/v1/jobs", &body);
    let key = [("Idempotency-Key", "k")];
    client.post_with("/v1/jobs?wait=30", &key, &json!({ "tool": "echo" })).expect(200);
    let problems: Vec<Answer> = vec![
        client.send("POST", "/v1/jobs", &[], Some(b"{")),
        client.send("POST", "/v1/jobs", &[("Content-Type", "image/png")], Some(b"{}")),
        submit(json!({ "tool": 1 })),
        submit(json!({ "tool": "echo", "nonsense": 1 })),
        submit(json!({ "tool": "ecko" })),
        submit(json!({ "tool": "test.strict", "input": { "count": 11 } })),
        submit(json!({ "tool": "echo", "callback_url": "x" })),
        submit(json!({ "tool": "echo", "input": "x".repeat(2_000) })),
        client.send("POST", "/v1/jobs", &[], Some("[".repeat(100).as_bytes())),
        client.post_with("/v1/jobs", &key, &json!({ "tool": "time.now" })),
        client.post_with("/v1/jobs", &[("Idempotency-Key", "")], &json!({ "tool": "echo" })),
        client.get("/v1/jobs?status=done"),
        client.get("/v1/jobs?state=done"),
        client.get("/v1/jobs?cursor=x"),
        client.get("/v1/jobs/x"),
        client.post(&format!("/v1/jobs/{done}/cancel"), &json!({})),
        client.get("/nonsense"),
        client.send("PUT", "/v1/jobs", &[], None),
        server.anyone().get("/v1/jobs"),
        server.anyone().with_key(&reader).post("/v1/jobs", &json!({ "tool": "echo" })),
    ];
    let by_code: Vec<Value> = problems.iter().map(Answer::json).collect();
    stable(|| assert_json_snapshot!("problems", by_code));
}

/// A route that is missing here, or whose policy has changed, is to be seen.
#[test]
fn every_route_with_its_policy() {
    let mut table = String::new();
    for route in agentd::app::routes().list() {
        let policy = format!("{:?}", route.policy);
        writeln!(table, "{:6} {:44} {policy}", route.method, route.path).expect("text");
    }
    stable(|| assert_snapshot!("routes", table));
}

/// The table says what the service does: nothing but the open routes answers
/// somebody without a credential.
#[test]
fn policies_are_kept() {
    use agentd::http::Policy;
    let server = Server::real();
    let (anyone, client, admin) = (server.anyone(), server.client(), server.admin());
    for route in agentd::app::routes().list() {
        let path = route.path.replace("{id}", "x").replace("{key_id}", "y").replace("{name}", "z");
        let status = |who: &crate::support::Client| who.send(&route.method, &path, &[], None).status;
        let refused = |status: u16| status == 401 || status == 403;
        let answers = [status(&anyone), status(&client), status(&admin)].map(refused);
        let expected = match route.policy {
            Policy::Open | Policy::Local | Policy::Metrics => [false, false, false],
            Policy::Tenant(_) => [true, false, true],
            Policy::Admin => [true, true, false],
        };
        assert_eq!(answers, expected, "{} {}: who is refused", route.method, path);
    }
}
