//! The limit by rate: what callers are told of it on every answer, when they
//! are refused, and when they are let in again.

use serde_json::json;

use crate::support::raw::Raw;
use crate::support::{Answer, Client, Server, Setup};

/// The limit as it is when nobody says otherwise, and a clock that can be set.
fn limited() -> Server {
    Setup::testbed().without_env("RATE_LIMIT_ENABLED").start()
}

fn limited_to(requests: u32) -> Server {
    Setup::testbed().without_env("RATE_LIMIT_ENABLED").env("RATE_LIMIT_PER_MIN", &requests.to_string()).start()
}

fn number(answer: &Answer, header: &str) -> u64 {
    let value = answer.header(header).unwrap_or_else(|| panic!("no {header} on {} {}", answer.status, answer.text));
    value.parse().expect("a number")
}

fn remaining(answer: &Answer) -> u64 {
    number(answer, "x-ratelimit-remaining")
}

/// Sends until it is refused; how many were served.
fn use_up(client: &Client) -> u64 {
    let served = |answer: &Answer| answer.status != 429;
    (0..1_000).take_while(|_| served(&client.get("/v1/jobs?limit=1"))).count() as u64
}

#[test]
fn a_key_may_send_120_requests_in_a_minute_unless_told_otherwise() {
    let server = limited();
    let client = server.client();
    for left in (0..120).rev() {
        let answer = client.get("/v1/jobs?limit=1");
        answer.expect(200);
        assert_eq!((number(&answer, "x-ratelimit-limit"), remaining(&answer)), (120, left));
        assert!((1..=61).contains(&number(&answer, "x-ratelimit-reset")));
    }
    let refused = client.get("/v1/jobs?limit=1");
    refused.problem(429, "rate_limited");
    assert_eq!((number(&refused, "x-ratelimit-limit"), remaining(&refused)), (120, 0));
    let wait = number(&refused, "retry-after");
    assert_eq!(wait, number(&refused, "x-ratelimit-reset"));
    assert!((1..=61).contains(&wait));
    client.post("/v1/jobs", &json!({ "tool": "echo" })).problem(429, "rate_limited");
    // Being refused does not make it worse.
    server.set_clock(i64::try_from(wait).expect("small"));
    let again = client.get("/v1/jobs?limit=1");
    again.expect(200);
    server.set_clock(3600);
    let rested = client.get("/v1/jobs?limit=1");
    assert_eq!(remaining(&rested), 119, "after a pause everything is possible again");
}

#[test]
fn every_answer_to_a_known_caller_tells_what_is_left() {
    let server = limited();
    let tenant = server.tenant("a");
    let client = server.anyone().with_key(&server.key(&tenant));
    let reader = server.anyone().with_key(&server.key_with(&tenant, &json!({ "name": "r", "scopes": ["jobs:read"] })));
    let id = crate::support::client::job_id(&client.run(&json!({ "tool": "echo" })));
    let key = [("Idempotency-Key", "k")];
    client.post_with("/v1/jobs", &key, &json!({ "tool": "echo" })).expect(202);
    let answers = [
        (200, client.get("/v1/tools")),
        (202, client.post("/v1/jobs", &json!({ "tool": "echo" }))),
        (202, client.post_with("/v1/jobs", &key, &json!({ "tool": "echo" }))),
        (200, client.get(&format!("/v1/jobs/{id}/events?starting_after=0"))),
        (400, client.post("/v1/jobs", &json!({ "tool": 1 }))),
        (400, client.send("POST", "/v1/jobs", &[], Some(b"{"))),
        (403, reader.post("/v1/jobs", &json!({ "tool": "echo" }))),
        (404, client.get("/v1/jobs/x")),
        (409, client.post(&format!("/v1/jobs/{id}/cancel"), &json!({}))),
        (415, client.send("POST", "/v1/jobs", &[("Content-Type", "image/png")], Some(b"{}"))),
        (422, client.post_with("/v1/jobs", &key, &json!({ "tool": "time.now" }))),
        (200, client.send("HEAD", "/v1/tools", &[], None)),
        (204, client.send("DELETE", &format!("/v1/jobs/{id}"), &[], None)),
    ];
    for (status, answer) in &answers {
        assert_eq!(answer.status, *status, "{}", answer.text);
        assert_eq!(number(answer, "x-ratelimit-limit"), 120, "{status}");
        assert!(remaining(answer) < 120 && number(answer, "x-ratelimit-reset") <= 61);
    }
    let mut stream = Raw::connect(&client.address());
    let gated = client.submit("test.gate", &json!({ "gate": server.gate("g").path() }));
    let key = client.key_header();
    stream.send(format!(
        "GET /v1/jobs/{gated}/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nAccept: text/event-stream\r\n\r\n"
    ));
    assert!(stream.read_until("\r\n\r\n").to_lowercase().contains("x-ratelimit-remaining: "));
    server.gate("g").open();
    client.finished(&gated);
}

#[test]
fn nobody_else_is_limited_or_told() {
    let server = limited_to(3);
    let (client, admin, anyone) = (server.client(), server.admin(), server.anyone());
    assert_eq!(use_up(&client), 3);
    for _ in 0..10 {
        for answer in [anyone.get("/health"), admin.get("/admin/tenants"), anyone.get("/metrics"), anyone.get("/ready")]
        {
            answer.expect_text(200);
            assert_eq!(answer.header("x-ratelimit-limit"), None);
        }
        let unknown = anyone.with("X-API-Key", "agk_live_000000000000_00000000000000000000000000000000");
        let refused = unknown.get("/v1/jobs");
        refused.problem(401, "unauthorized");
        assert_eq!(refused.header("x-ratelimit-limit"), None, "it would tell that the key is known");
    }
}

#[test]
fn keys_have_limits_of_their_own_and_a_tenants_quota_is_over_all_its_keys() {
    let server = limited_to(5);
    let tenant = server.tenant("a");
    let [one, other] = [(); 2].map(|()| server.anyone().with_key(&server.key(&tenant)));
    assert_eq!((use_up(&one), use_up(&other)), (5, 5));
    let quota = format!("/admin/tenants/{tenant}/quota");
    server.admin().put(&quota, &json!({ "requests_per_minute": 8 })).expect(200);
    let answer = one.get("/v1/jobs?limit=1");
    assert_eq!((answer.status, number(&answer, "x-ratelimit-limit"), remaining(&answer)), (200, 8, 7));
    assert_eq!(use_up(&other), 7, "the keys share it");
    one.get("/v1/jobs").problem(429, "rate_limited");
    assert_eq!(use_up(&server.client()), 5, "another tenant is not concerned");
    server.admin().put(&quota, &json!({ "requests_per_minute": 10 })).expect(200);
    assert_eq!(use_up(&one), 2, "a greater quota counts at once, and what was sent still does");
    server.admin().put(&quota, &json!({})).expect(200);
    server.set_clock(120);
    assert_eq!((use_up(&one), use_up(&other)), (5, 5));
}

#[test]
fn no_minute_holds_more_than_the_limit() {
    let server = limited_to(10);
    let client = server.client();
    let mut served = 0;
    // The test's own time is added, so nothing here is nearer to a minute than
    // a slow machine takes.
    for second in (0..=50).step_by(5) {
        server.set_clock(second);
        served += u64::from(client.get("/v1/jobs?limit=1").status == 200);
    }
    assert_eq!(served, 10);
    server.set_clock(67);
    assert_eq!(use_up(&client), 2, "those of the first seconds have gone, no more");
}

#[test]
fn many_at_once_are_counted_exactly() {
    let server = limited_to(50);
    let client = server.client();
    let served: usize = std::thread::scope(|scope| {
        let ask = || (0..15).filter(|_| client.get("/v1/tools").status == 200).count();
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|one| one.join().expect("it ends")).sum()
    });
    assert_eq!(served, 50);
}

#[test]
fn a_clock_that_is_set_back_locks_nobody_out() {
    let server = limited_to(3);
    let client = server.client();
    server.set_clock(7200);
    assert_eq!(use_up(&client), 3);
    server.set_clock(0);
    assert_eq!(use_up(&client), 3);
}

#[test]
fn the_limit_can_be_switched_off() {
    let server = Setup::real().env("RATE_LIMIT_ENABLED", "false").env("RATE_LIMIT_PER_MIN", "2").start();
    let tenant = server.tenant("a");
    let client = server.anyone().with_key(&server.key(&tenant));
    server.admin().put(&format!("/admin/tenants/{tenant}/quota"), &json!({ "requests_per_minute": 1 })).expect(200);
    for _ in 0..5 {
        let answer = client.get("/v1/tools");
        answer.expect(200);
        assert_eq!(answer.header("x-ratelimit-limit"), None);
    }
}

#[test]
fn bodies_have_limits_by_route() {
    let server = Server::real();
    let (client, admin) = (server.client(), server.admin());
    let text = |bytes: usize| "x".repeat(bytes);
    admin.post("/admin/tenants", &json!({ "name": text(70 << 10) })).problem(413, "payload_too_large");
    admin.post("/admin/tenants", &json!({ "name": text(60 << 10) })).fault("invalid_request", "/name");
    client.post("/v1/jobs", &json!({ "tool": "echo", "input": text(70 << 10) })).expect(202);
    client.post("/v1/jobs", &json!({ "tool": "echo", "input": text(1 << 20) })).problem(413, "payload_too_large");
}
