//! What a tenant has used: counted, shown up to the moment, and kept.

use serde_json::{Value, json};

use crate::support::client::job_id;
use crate::support::{Client, Server, Setup};

fn total(usage: &Value, of: &str) -> u64 {
    usage["total"][of].as_u64().unwrap_or_else(|| panic!("no {of} in {usage}"))
}

/// Requests, submitted, succeeded, failed.
fn totals(usage: &Value) -> [u64; 4] {
    ["requests", "jobs_submitted", "jobs_succeeded", "jobs_failed"].map(|of| total(usage, of))
}

fn usage_of(server: &Server, tenant: &str) -> Value {
    server.admin().get(&format!("/admin/tenants/{tenant}/usage")).expect(200)
}

fn tenant(server: &Server) -> (String, Client) {
    let id = server.tenant("a tenant");
    let client = server.anyone().with_key(&server.key(&id));
    (id, client)
}

#[test]
fn usage_is_counted_to_the_moment_and_kept_over_a_restart() {
    let mut server = Server::testbed();
    let (id, client) = tenant(&server);
    let (other, _) = tenant(&server);
    for _ in 0..3 {
        client.post("/v1/jobs?wait=30", &json!({ "tool": "echo" })).expect(200);
    }
    let slow = json!({ "tool": "test.sleep", "input": { "seconds": 0.2 } });
    client.post("/v1/jobs?wait=30", &slow).expect(200);
    client.post("/v1/jobs?wait=30", &json!({ "tool": "test.permanent" })).expect(200);
    let delayed = job_id(&client.post("/v1/jobs", &json!({ "tool": "echo", "delay": 3600 })).expect(202));
    client.post(&format!("/v1/jobs/{delayed}/cancel"), &json!({})).expect(200);
    client.post("/v1/jobs", &json!({ "tool": "nonsense" })).problem(400, "unknown_tool");
    let own = client.get("/v1/usage").expect(200);
    assert_eq!(totals(&own), [9, 6, 4, 1], "this request included: {own}");
    assert!(own["total"]["run_seconds"].as_f64().is_some_and(|seconds| (0.2..30.0).contains(&seconds)), "{own}");
    assert_eq!(usage_of(&server, &id), own);
    assert_eq!(totals(&usage_of(&server, &other)), [0; 4]);
    server.restart();
    assert_eq!(usage_of(&server, &id), own);
    client.post("/v1/jobs?wait=30", &json!({ "tool": "echo" })).expect(200);
    assert_eq!(totals(&usage_of(&server, &id)), [10, 7, 5, 1]);
}

#[test]
fn refused_requests_are_counted_apart() {
    let server = Setup::real().without_env("RATE_LIMIT_ENABLED").env("RATE_LIMIT_PER_MIN", "5").start();
    let (id, client) = tenant(&server);
    let refused = (0..8).filter(|_| client.get("/v1/tools").status == 429).count();
    let usage = usage_of(&server, &id);
    assert_eq!((refused, total(&usage, "requests"), total(&usage, "rate_limited")), (3, 8, 3));
}

#[test]
fn days_are_those_of_the_calendar_in_utc() {
    let server = Server::testbed();
    let (id, client) = tenant(&server);
    let midnight = agentd::clock::system_now().micros() / 1_000_000 / 86_400 * 86_400;
    let now = agentd::clock::system_now().micros() / 1_000_000;
    // Noon of this day and of the two after it.
    for day in 0..3 {
        server.set_clock(midnight + 43_200 + day * 86_400 - now);
        for _ in 0..=day {
            client.get("/v1/tools").expect(200);
        }
    }
    let usage = usage_of(&server, &id);
    let days = usage["days"].as_array().expect("days");
    let counts: Vec<_> = days.iter().map(|day| day["requests"].as_u64().expect("a number")).collect();
    assert_eq!((counts, total(&usage, "requests")), (vec![1, 2, 3], 6));
    let date = |place: usize| days[place]["date"].as_str().expect("a date").to_owned();
    assert_eq!(usage["to"], json!(date(2)));
    let path = format!("/admin/tenants/{id}/usage");
    let middle = server.admin().get(&format!("{path}?from={0}&to={0}", date(1))).expect(200);
    assert_eq!((total(&middle, "requests"), middle["days"].as_array().map(Vec::len)), (2, Some(1)));
    for (query, pointer) in [
        ("from=yesterday", "?from"),
        ("from=2030-02-31", "?from"),
        ("to=2030-01-01T00:00:00Z", "?to"),
        ("from=2030-01-02&to=2030-01-01", "?from"),
        ("from=2020-01-01&to=2025-01-01", "?from"),
        ("day=2030-01-01", "?day"),
    ] {
        server.admin().get(&format!("{path}?{query}")).fault("invalid_request", pointer);
    }
}

#[test]
fn usage_needs_its_scope_and_is_ones_own() {
    let server = Server::real();
    let id = server.tenant("a");
    let with =
        |scope: &str| server.anyone().with_key(&server.key_with(&id, &json!({ "name": "k", "scopes": [scope] })));
    with("usage:read").get("/v1/usage").expect(200);
    with("jobs:read").get("/v1/usage").problem(403, "forbidden");
    server.anyone().get("/v1/usage").problem(401, "unauthorized");
    server.admin().get("/admin/tenants/x/usage").problem(404, "not_found");
}

#[test]
fn a_kill_loses_only_what_was_not_written_yet() {
    let mut server = Server::testbed();
    let (id, client) = tenant(&server);
    client.post("/v1/jobs?wait=30", &json!({ "tool": "echo" })).expect(200);
    server.restart();
    let before = totals(&usage_of(&server, &id));
    client.get("/v1/tools").expect(200);
    server.kill();
    server.start_again(|setup| setup);
    let after = totals(&usage_of(&server, &id));
    assert!(after == before || after[0] == before[0] + 1, "{before:?} {after:?}");
}
