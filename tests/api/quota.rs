//! Quotas: set, shown, and held to: jobs in the queue, jobs in a day.

use serde_json::{Value, json};

use crate::support::{Client, Server, Setup, eventually};

struct Tenant {
    client: Client,
    admin: Client,
    quota: String,
}

fn tenant(server: &Server) -> Tenant {
    let id = server.tenant("a tenant");
    let client = server.anyone().with_key(&server.key(&id));
    Tenant { client, admin: server.admin(), quota: format!("/admin/tenants/{id}/quota") }
}

impl Tenant {
    #[track_caller]
    fn set(&self, quota: &Value) -> Value {
        self.admin.put(&self.quota, quota).expect(200)
    }

    fn submit(&self) -> u16 {
        self.client.post("/v1/jobs", &json!({ "tool": "echo" })).status
    }

    /// Submits until it is refused; how many were taken.
    fn submit_all(&self) -> usize {
        (0..100).take_while(|_| self.submit() == 202).count()
    }
}

#[test]
fn a_quota_is_shown_and_replaced_as_a_whole() {
    let mut server = Server::real();
    let tenant = tenant(&server);
    let none = json!({
        "requests_per_minute": null, "queued_jobs": null, "concurrent_jobs": null, "jobs_per_day": null,
        "weight": 1, "retention_days": null
    });
    assert_eq!(tenant.admin.get(&tenant.quota).expect(200), none);
    let full = json!({
        "requests_per_minute": 600, "queued_jobs": 1000, "concurrent_jobs": 4, "jobs_per_day": 5000,
        "weight": 10, "retention_days": 30
    });
    assert_eq!(tenant.set(&full), full);
    server.restart();
    assert_eq!(tenant.admin.get(&tenant.quota).expect(200), full);
    let mut one = none.clone();
    one["weight"] = json!(7);
    assert_eq!(tenant.set(&json!({ "weight": 7, "jobs_per_day": null })), one, "what is left out is no limit");
    assert_eq!(tenant.set(&json!({})), none);
}

#[test]
fn a_quota_is_read_strictly() {
    let server = Server::real();
    let tenant = tenant(&server);
    for (field, wrong) in [
        ("requests_per_minute", json!(0)),
        ("requests_per_minute", json!(-1)),
        ("requests_per_minute", json!(1.5)),
        ("queued_jobs", json!("5")),
        ("concurrent_jobs", json!(100_001)),
        ("jobs_per_day", json!(4_294_967_296_u64)),
        ("weight", json!(0)),
        ("weight", json!(101)),
        ("retention_days", json!(36_501)),
    ] {
        tenant.admin.put(&tenant.quota, &json!({ field: wrong })).fault("invalid_request", &format!("/{field}"));
    }
    tenant.admin.put(&tenant.quota, &json!({ "jobs_per_dya": 5 })).fault("unknown_field", "/jobs_per_dya");
    tenant.admin.put("/admin/tenants/x/quota", &json!({})).problem(404, "not_found");
    tenant.admin.get("/admin/tenants/x/quota").problem(404, "not_found");
    tenant.client.get(&tenant.quota).problem(401, "unauthorized");
}

#[test]
fn a_full_queue_of_a_tenant_is_its_own_affair() {
    let server = Setup::testbed().env("AGENTD_JOBS_CONCURRENCY", "1").start();
    let (busy, other) = (tenant(&server), tenant(&server));
    busy.set(&json!({ "queued_jobs": 3 }));
    let gate = server.gate("gate");
    let running = busy.client.submit("test.gate", &json!({ "gate": gate.path() }));
    busy.client.wait_for(&running, "job.started");
    busy.client.submit_body(&json!({ "tool": "echo", "delay": 0.01 }));
    assert_eq!(busy.submit_all(), 2, "one that waits for its time counts too, one that runs does not");
    let refused = busy.client.post("/v1/jobs", &json!({ "tool": "echo" }));
    let problem = refused.problem(429, "queue_full");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("queued_jobs")), "{problem}");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(other.submit(), 202);
    gate.open();
    eventually("the queue is empty again", || (busy.submit() == 202).then_some(()));
    for job in busy.client.all_pages("/v1/jobs").iter().chain(&other.client.all_pages("/v1/jobs")) {
        let client = if other.client.get(&path_of(job)).status == 200 { &other.client } else { &busy.client };
        assert_eq!(client.finished(job["job_id"].as_str().expect("an id"))["status"], "succeeded");
    }
}

fn path_of(job: &Value) -> String {
    format!("/v1/jobs/{}", job["job_id"].as_str().expect("an id"))
}

#[test]
fn a_day_has_so_many_jobs_and_begins_at_midnight_utc() {
    let server = Server::testbed();
    let tenant = tenant(&server);
    // Noon, so that no midnight falls into the test by itself.
    let noon = to_noon();
    server.set_clock(noon);
    tenant.client.run(&json!({ "tool": "echo" }));
    tenant.set(&json!({ "jobs_per_day": 4 }));
    assert_eq!(tenant.submit_all(), 3, "what was submitted before counts");
    let refused = tenant.client.post("/v1/jobs", &json!({ "tool": "echo" }));
    let problem = refused.problem(429, "daily_quota_exceeded");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("jobs_per_day")), "{problem}");
    let wait: i64 = refused.header("retry-after").expect("when").parse().expect("seconds");
    assert!((43_000..=43_201).contains(&wait), "{wait} s to midnight");
    tenant.client.get("/v1/jobs").expect(200);
    tenant.set(&json!({ "jobs_per_day": 5 }));
    assert_eq!(tenant.submit_all(), 1);
    server.set_clock(noon + wait - 60);
    assert_eq!(tenant.submit_all(), 0);
    server.set_clock(noon + wait);
    assert_eq!(tenant.submit_all(), 5);
}

/// Seconds by which the clock is to be set so that it is noon.
fn to_noon() -> i64 {
    let now = agentd::clock::system_now().micros() / 1_000_000;
    43_200 - now.rem_euclid(86_400)
}

#[test]
fn a_day_is_counted_exactly_through_kills_and_deletions() {
    let mut server = Server::testbed();
    server.set_clock(to_noon());
    let tenant = tenant(&server);
    tenant.set(&json!({ "jobs_per_day": 10 }));
    let key = [("Idempotency-Key", "first")];
    let first = tenant.client.post_with("/v1/jobs", &key, &json!({ "tool": "echo" })).expect(202);
    let again = tenant.client.post_with("/v1/jobs", &key, &json!({ "tool": "echo" }));
    assert_eq!(again.expect(202), first);
    // Refused ones take nothing of the day.
    tenant.client.post("/v1/jobs", &json!({ "tool": "nonsense" })).problem(400, "unknown_tool");
    tenant.client.post_with("/v1/jobs", &key, &json!({ "tool": "time.now" })).problem(422, "idempotency_key_reused");
    let deleted = crate::support::client::job_id(&tenant.client.run(&json!({ "tool": "echo" })));
    assert_eq!(tenant.client.delete(&format!("/v1/jobs/{deleted}")).status, 204);
    assert_eq!(tenant.submit(), 202);
    server.kill();
    server.start_again(|setup| setup);
    for _ in 0..4 {
        assert_eq!(tenant.submit(), 202);
    }
    server.restart();
    assert_eq!(tenant.submit_all(), 3, "seven were submitted before");
    let again = tenant.client.post_with("/v1/jobs", &key, &json!({ "tool": "echo" }));
    assert_eq!(again.header("idempotency-replayed"), Some("true"), "what was taken before is not refused now");
    assert_eq!(again.expect(202), first);
    finish_all(&tenant.client);
}

fn finish_all(client: &Client) {
    for job in client.all_pages("/v1/jobs") {
        client.finished(job["job_id"].as_str().expect("an id"));
    }
}

#[test]
fn a_day_is_not_overdrawn_by_many_at_once() {
    let server = Server::testbed();
    server.set_clock(to_noon());
    let tenant = tenant(&server);
    tenant.set(&json!({ "jobs_per_day": 40 }));
    let taken: usize = std::thread::scope(|scope| {
        let submit = || (0..10).filter(|_| tenant.submit() == 202).count();
        let submitting: Vec<_> = (0..8).map(|_| scope.spawn(submit)).collect();
        submitting.into_iter().map(|one| one.join().expect("it ends")).sum()
    });
    assert_eq!(taken, 40);
    assert_eq!(tenant.client.all_pages("/v1/jobs").len(), 40);
    finish_all(&tenant.client);
}
