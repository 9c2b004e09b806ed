//! Tenants: made, listed, changed, suspended, deleted.

use serde_json::{Value, json};

use crate::support::client::job_id;
use crate::support::{Server, eventually};
use crate::testbed;

#[test]
fn a_tenant_is_made_found_changed_and_deleted() {
    let server = Server::real();
    let admin = server.admin();
    let answer = admin.post("/admin/tenants", &json!({ "name": "  MyCompany " }));
    let made = answer.expect(201);
    assert_eq!(
        (&made["name"], &made["status"], &made["cohort"]),
        (&json!("MyCompany"), &json!("active"), &json!("everyone"))
    );
    let path = format!("/admin/tenants/{}", made["tenant_id"].as_str().expect("an id"));
    assert_eq!(answer.header("location"), Some(path.as_str()));
    assert_eq!(admin.get(&path).expect(200), made);
    let changed = admin.patch(&path, &json!({ "name": "Other", "cohort": "pilot" })).expect(200);
    assert_eq!((&changed["name"], &changed["cohort"]), (&json!("Other"), &json!("pilot")));
    assert_eq!(changed["created_at"], made["created_at"]);
    assert!(changed["updated_at"].as_str() >= made["updated_at"].as_str());
    assert_eq!(admin.patch(&path, &json!({})).expect(200)["name"], "Other");
    assert_eq!(admin.delete(&path).status, 204);
    admin.get(&path).problem(404, "not_found");
    admin.delete(&path).problem(404, "not_found");
    admin.patch(&path, &json!({ "name": "x" })).problem(404, "not_found");
    assert_eq!(admin.all_pages("/admin/tenants"), Vec::<Value>::new());
}

#[test]
fn tenants_are_listed_to_the_end() {
    let server = Server::real();
    let admin = server.admin();
    let mut made: Vec<_> = (0..7).map(|place| server.tenant(&format!("t{place}"))).collect();
    made.reverse();
    for limit in [1, 3, 7, 200] {
        let rows = admin.all_pages(&format!("/admin/tenants?limit={limit}"));
        let ids: Vec<_> = rows.iter().map(|row| row["tenant_id"].as_str().expect("an id").to_owned()).collect();
        assert_eq!(ids, made);
    }
    admin.get("/admin/tenants?status=active").fault("invalid_request", "?status");
}

#[test]
fn names_have_bounds() {
    let server = Server::real();
    let admin = server.admin();
    let long = "x".repeat(201);
    for name in ["", "   ", "a\nb", "a\u{0}", &long] {
        admin.post("/admin/tenants", &json!({ "name": name })).fault("invalid_request", "/name");
    }
    admin.post("/admin/tenants", &json!({ "name": "ü".repeat(200) })).expect(201);
    admin.post("/admin/tenants", &json!({})).problem(400, "invalid_request");
    admin.post("/admin/tenants", &json!({ "name": 5 })).fault("invalid_request", "/name");
    let path = format!("/admin/tenants/{}", server.tenant("a"));
    admin.patch(&path, &json!({ "status": "deleted" })).fault("invalid_request", "/status");
    admin.patch(&path, &json!({ "cohort": "nobody" })).fault("invalid_request", "/cohort");
    admin.patch(&path, &json!({ "name": "" })).fault("invalid_request", "/name");
}

#[test]
fn a_suspended_tenant_is_refused_and_its_jobs_wait() {
    let (server, client) = testbed();
    let admin = server.admin();
    let path = format!("/admin/tenants/{}", only_tenant(&server));
    let gate = server.gate("gate");
    let running = client.submit("test.single", &json!({ "gate": gate.path() }));
    client.wait_for(&running, "job.started");
    let queued = client.submit("test.single", &json!({}));
    admin.patch(&path, &json!({ "status": "suspended" })).expect(200);
    // From the answer on it counts.
    client.get("/v1/jobs").problem(403, "forbidden");
    client.post("/agent/run", &json!({ "tool": "echo" })).problem(403, "forbidden");
    gate.open();
    // A job of somebody else after it shows that the queue has moved on.
    let other = server.client();
    assert_eq!(other.run(&json!({ "tool": "test.single" }))["status"], "succeeded");
    admin.patch(&path, &json!({ "status": "active" })).expect(200);
    let late = client.finished(&queued);
    assert_eq!(late["status"], "succeeded");
    assert_eq!(client.finished(&running)["status"], "succeeded", "what runs may end");
}

#[test]
fn a_suspension_outlasts_a_restart() {
    let (mut server, client) = testbed();
    let path = format!("/admin/tenants/{}", only_tenant(&server));
    let delayed = client.submit_body(&json!({ "tool": "echo", "delay": 0.01 }));
    client.finished(&delayed);
    server.admin().patch(&path, &json!({ "status": "suspended" })).expect(200);
    server.restart();
    client.get("/v1/jobs").problem(403, "forbidden");
    server.admin().patch(&path, &json!({ "status": "active" })).expect(200);
    client.get("/v1/jobs").expect(200);
}

#[test]
fn a_deleted_tenant_takes_everything_along() {
    let (mut server, client) = testbed();
    let admin = server.admin();
    let tenant = only_tenant(&server);
    for place in 0..5 {
        client.run(&json!({ "tool": "echo", "input": place }));
    }
    client.post_with("/v1/jobs?wait=30", &[("Idempotency-Key", "k")], &json!({ "tool": "echo" })).expect(200);
    let running = client.submit("test.sleep", &json!({ "seconds": 3600 }));
    client.wait_for(&running, "job.started");
    client.submit_body(&json!({ "tool": "echo", "delay": 3600 }));
    assert_eq!(admin.delete(&format!("/admin/tenants/{tenant}")).status, 204);
    client.get("/v1/jobs").problem(401, "unauthorized");
    admin.get(&format!("/admin/tenants/{tenant}/keys")).problem(404, "not_found");
    // Clearing away goes on behind the answer.
    eventually("its rows are gone", || {
        let counts = ["tenants WHERE no > 0", "api_keys", "jobs", "job_events", "job_steps", "idempotency"]
            .map(|table| count(&server, table));
        (counts == [0; 6]).then_some(())
    });
    server.restart();
    assert_eq!(server.admin().all_pages("/admin/tenants"), Vec::<Value>::new());
}

fn only_tenant(server: &Server) -> String {
    let tenants = server.admin().all_pages("/admin/tenants");
    assert_eq!(tenants.len(), 1);
    tenants[0]["tenant_id"].as_str().expect("an id").to_owned()
}

/// Rows of a table, read beside the running service.
fn count(server: &Server, table: &str) -> i64 {
    let database = rusqlite::Connection::open_with_flags(
        server.data().join("agentd.db"),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    );
    let database = database.expect("the database opens");
    database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a count")
}

#[test]
fn one_tenants_key_is_not_found_under_another() {
    let server = Server::real();
    let (one, other) = (server.tenant("one"), server.tenant("other"));
    let key = server.key(&one);
    let admin = server.admin();
    admin.get(&format!("/admin/tenants/{other}/keys/{}", key.id)).problem(404, "not_found");
    admin.post(&format!("/admin/tenants/{other}/keys/{}/revoke", key.id), &json!({})).problem(404, "not_found");
    let client = server.anyone().with_key(&key);
    let id = job_id(&client.run(&json!({ "tool": "echo" })));
    client.job(&id);
}

/// The database must not give a deleted tenant's number to the next one.
#[test]
fn a_new_tenant_inherits_nothing_of_a_deleted_one() {
    let server = Server::real();
    let id = server.tenant("first");
    let first = server.anyone().with_key(&server.key(&id));
    let body = json!({ "tool": "echo", "input": "first" });
    let old = first.post_with("/v1/jobs?wait=10", &[("Idempotency-Key", "k")], &body).expect(200);
    assert_eq!(server.admin().delete(&format!("/admin/tenants/{id}")).status, 204);
    eventually("its row is gone", || (count(&server, "tenants WHERE no > 0") == 0).then_some(()));
    let second = server.anyone().with_key(&server.key(&server.tenant("second")));
    let new = second.post_with("/v1/jobs?wait=10", &[("Idempotency-Key", "k")], &body).expect(200);
    assert_eq!(new["status"], "succeeded");
    assert_ne!(new["job_id"], old["job_id"]);
}
