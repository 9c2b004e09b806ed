//! Certificates as far as no authority is needed, and the jobs of the service's
//! own. `tests/acme` has what authorities answer.

use serde_json::{Value, json};

use crate::support::cli::over;
use crate::support::{Server, Setup, eventually};

const NAME: &str = "agents.example.test";
const SYSTEM: &str = "00000000-0000-0000-0000-000000000000";

/// A service that orders from a directory where nobody listens.
fn alone(setup: Setup) -> Server {
    setup
        .env("AGENTD_TLS_MODE", "acme")
        .env("AGENTD_ACME_DOMAINS", NAME)
        .env("AGENTD_ACME_DIRECTORIES", "https://127.0.0.1:1/directory")
        .env("AGENTD_SERVER_HTTP_LISTEN", "127.0.0.1:0")
        .start()
}

#[track_caller]
fn ordered(server: &Server) -> Value {
    let all = server.admin().get("/admin/certificates").expect(200);
    let found = all["data"].as_array().expect("a list").iter().find(|it| it["source"] == "acme");
    found.unwrap_or_else(|| panic!("none in {all}")).clone()
}

#[track_caller]
fn failed(server: &Server, failures: u64) -> Value {
    eventually("an attempt fails", || {
        Some(ordered(server)).filter(|state| state["failures"].as_u64() >= Some(failures))
    })
}

#[test]
fn the_services_own_is_listed_and_cannot_be_ordered() {
    let server = Setup::real().https().start();
    let list = server.admin().get("/admin/certificates").expect(200);
    let only = &list["data"][0];
    assert_eq!((&only["source"], &only["status"]), (&json!("self_signed"), &json!("valid")), "{list}");
    assert!(only["serial"].is_string() && only["not_after"].is_string() && only["next_attempt_at"].is_null(), "{list}");
    server.admin().post("/admin/certificates/localhost/renew", &json!({})).problem(404, "not_found");
    server.admin().post("/admin/certificates/localhost/revoke", &json!({})).problem(404, "not_found");
    let told = server.agentd(&["cert", "list"]);
    assert!(told.out.contains("self_signed"), "{told:?}");
    let told = server.agentd(&["cert", "renew"]);
    assert!(told.code == 1 && told.err.contains("acme.domains"), "{told:?}");
}

#[test]
fn certificates_are_for_the_administrator() {
    let server = Server::real();
    let client = server.client();
    assert_eq!(server.admin().get("/admin/certificates").expect(200)["data"], json!([]));
    for path in ["/admin/certificates", "/admin/certificates?x=1"] {
        client.get(path).problem(401, "unauthorized");
    }
    client.post(&format!("/admin/certificates/{NAME}/renew"), &json!({})).problem(401, "unauthorized");
    server.admin().get("/admin/certificates?limit=1").fault("invalid_request", "?limit");
}

#[test]
fn a_directory_that_cannot_be_reached_is_said_and_tried_again() {
    let server = alone(Setup::testbed());
    let state = failed(&server, 1);
    assert_eq!((&state["status"], &state["why"]), (&json!("missing"), &json!("missing")), "{state}");
    assert!(state["problem"].as_str().is_some_and(|text| text.contains("127.0.0.1")), "{state}");
    assert!(state["next_attempt_at"].as_str() > state["problem_at"].as_str(), "{state}");
    server.admin().post(&format!("/admin/certificates/{NAME}/revoke"), &json!({})).problem(409, "no_certificate");
    // The log says it too, and nothing of it is a secret.
    server.wait_for_log("a warning", |line| {
        line["level"] == "WARN" && line["name"] == NAME && line["next_attempt"].is_string()
    });
    let renewing = server.admin().post(&format!("/admin/certificates/{NAME}/renew"), &json!({})).expect(202);
    let path = format!("/admin/jobs/{}", renewing["job_id"].as_str().expect("an id"));
    let job = eventually("the job ends", || {
        Some(server.admin().get(&path).expect(200)).filter(|job| job["finished_at"].is_string())
    });
    assert_eq!((&job["tool"], &job["status"]), (&json!("certificate.renew"), &json!("failed")), "{job}");
    assert_eq!((&job["error"]["code"], &job["tenant_id"]), (&json!("no_certificate"), &json!(SYSTEM)), "{job}");
    assert!(failed(&server, 2)["failures"] == 2);
    let metric = format!("agentd_certificate_renewal_failures_total{{name=\"{NAME}\"}} 2");
    assert!(server.admin().get("/metrics").text.contains(&metric));
    let told = server.agentd(&["cert", "renew", NAME]);
    assert!(told.code == 1 && told.err.contains(NAME) && told.err.contains("127.0.0.1"), "{told:?}");
}

#[test]
fn what_failed_before_a_restart_still_waits_its_turn() {
    let mut server = alone(Setup::real());
    let before = failed(&server, 1);
    server.restart();
    let after = ordered(&server);
    assert_eq!((&after["failures"], &after["next_attempt_at"]), (&json!(1), &before["next_attempt_at"]), "{after}");
}

#[test]
fn the_services_own_jobs_are_nobody_elses() {
    let server = alone(Setup::testbed());
    failed(&server, 1);
    let (admin, client) = (server.admin(), server.client());
    let jobs = admin.all_pages("/admin/jobs?tool=certificate.renew");
    assert_eq!(jobs[0]["tenant_id"], SYSTEM);
    let job = jobs[0]["job_id"].as_str().expect("an id");
    // It is no tool, whoever asks.
    assert!(!client.get("/v1/tools").expect(200).to_string().contains("certificate"));
    let body = json!({ "tool": "certificate.renew", "input": { "name": NAME, "now": true } });
    let refused = client.post("/v1/jobs", &body).fault("unknown_tool", "/tool");
    assert!(!refused["detail"].as_str().is_some_and(|text| text.contains("did you mean \"certificate")), "{refused}");
    client.get(&format!("/v1/jobs/{job}")).problem(404, "not_found");
    client.post(&format!("/v1/jobs/{job}/retry"), &json!({})).problem(404, "not_found");
    // Its tenant is in no list and cannot be changed, nor acted for.
    assert!(admin.all_pages("/admin/tenants").iter().all(|tenant| tenant["tenant_id"] != SYSTEM));
    let tenant = format!("/admin/tenants/{SYSTEM}");
    admin.get(&tenant).problem(404, "not_found");
    admin.patch(&tenant, &json!({ "status": "suspended" })).problem(404, "not_found");
    admin.delete(&tenant).problem(404, "not_found");
    admin.post(&format!("{tenant}/keys"), &json!({ "name": "k" })).problem(404, "not_found");
    let acting = format!("X-Agentd-Tenant: {SYSTEM}");
    let (status, _) = over(&server.socket(), "GET /v1/jobs", &[acting.as_str()], "");
    assert!((400..500).contains(&status), "{status}");
}

#[test]
fn settings_that_cannot_be_used_are_refused_at_the_start() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let acme = || {
        Setup::real()
            .env("AGENTD_TLS_MODE", "acme")
            .env("AGENTD_ACME_DOMAINS", NAME)
            .env("AGENTD_ACME_DIRECTORIES", "https://127.0.0.1:1/directory")
    };
    let missing = folder.path().join("ca.pem");
    let (code, said) = acme().env("AGENTD_ACME_CA_FILE", &missing.to_string_lossy()).refused(folder.path());
    assert!(code == 78 && said.contains("acme.ca_file") && said.contains("ca.pem"), "{code} {said}");
    let key = acme().env("AGENTD_ACME_EAB_KID", "kid").env("AGENTD_ACME_EAB_KEY", "no base64url!");
    let (code, said) = key.refused(folder.path());
    assert!(code == 78 && said.contains("acme.eab_key") && !said.contains("no base64url!"), "{code} {said}");
}
