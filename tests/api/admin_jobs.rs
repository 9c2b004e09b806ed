//! The administrator's view over all tenants' jobs.

use serde_json::json;

use crate::support::Server;
use crate::testbed;

#[test]
fn the_administrator_sees_everybodys_jobs() {
    let server = Server::testbed();
    let tenants = ["one", "two"].map(|name| server.tenant(name));
    let clients = tenants.each_ref().map(|tenant| server.anyone().with_key(&server.key(tenant)));
    for client in &clients {
        client.run(&json!({ "tool": "echo", "metadata": { "a": "b" } }));
        client.run(&json!({ "tool": "test.permanent" }));
    }
    let admin = server.admin();
    let all = admin.all_pages("/admin/jobs?limit=1");
    assert_eq!(all.len(), 4);
    assert_eq!(all.iter().filter(|job| job["tenant_id"] == tenants[0].as_str()).count(), 2);
    let of = |query: &str| admin.all_pages(&format!("/admin/jobs?{query}")).len();
    assert_eq!(of("status=failed"), 2);
    assert_eq!(of(&format!("tenant_id={}&status=failed", tenants[1])), 1);
    assert_eq!(of("metadata.a=b"), 2);
    assert_eq!(of("tool=echo&created_after=2100-01-01T00:00:00Z"), 0);
    admin.get("/admin/jobs?tenant_id=nobody").problem(404, "not_found");
    admin.get("/admin/jobs?tenant=x").fault("invalid_request", "?tenant");
    let id = all[0]["job_id"].as_str().expect("an id");
    assert_eq!(admin.get(&format!("/admin/jobs/{id}")).expect(200), all[0]);
    admin.get("/admin/jobs/00000000-0000-7000-8000-000000000000").problem(404, "not_found");
    admin.get("/admin/jobs/x").problem(404, "not_found");
    clients[0].get("/admin/jobs").problem(401, "unauthorized");
}

#[test]
fn the_administrator_can_cancel_any_job() {
    let (server, client) = testbed();
    let id = client.submit("test.obey", &json!({}));
    client.wait_for(&id, "job.started");
    let answer = server.admin().post(&format!("/admin/jobs/{id}/cancel"), &json!({})).expect(202);
    assert_eq!(answer["cancel_requested"], true);
    assert_eq!(client.finished(&id)["status"], "cancelled");
}
