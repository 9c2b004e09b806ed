//! How the service is, as `agentd status` says it.

use insta::{Settings, assert_snapshot};
use serde_json::{Value, json};

use crate::support::cli::{Said, agentd, say};
use crate::support::{Server, Setup, eventually};

/// What differs from run to run is taken out.
fn stable(server: &Server, said: &Said) -> String {
    let data = server.data().display().to_string();
    let line = |line: &str| match line.split_once(' ') {
        Some(("service", _)) => "service     agentd [version], running for [span]".to_owned(),
        Some(("storage", _)) => "storage     [sizes]".to_owned(),
        _ => line.replace(&data, "[data]"),
    };
    said.out.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn snapshot(name: &str, text: &str) {
    let mut settings = Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| assert_snapshot!(name, text));
}

fn with_a_user(server: &Server) {
    let user = json!({ "name": "alice", "password": "correct horse battery", "role": "admin" });
    server.admin().post("/admin/users", &user).expect(201);
}

#[test]
fn a_fresh_service_says_what_is_to_be_done() {
    let server = Server::real();
    let said = server.agentd(&["status"]);
    assert_eq!(said.code, 1, "{said:?}");
    snapshot("cli_status_in_setup", &stable(&server, &said));
    let report = say(&mut server.verb(&["status", "--json"]), "");
    let json: Value = serde_json::from_str(&report.out).expect("JSON");
    assert_eq!((report.code, &json["in_setup"]), (1, &json!(true)));
    with_a_user(&server);
    let said = server.agentd(&["status"]);
    assert_eq!(said.code, 0, "{said:?}");
    snapshot("cli_status", &stable(&server, &said));
}

#[test]
fn the_last_backup_is_told() {
    let server = Server::real();
    with_a_user(&server);
    server.ask(&["backup", "create"]);
    let json: Value = serde_json::from_str(&server.ask(&["status", "--json"])).expect("JSON");
    let last = &json["last_backup"];
    assert!(last["name"].as_str().is_some_and(|name| name.starts_with("agentd-")), "{json}");
    let said = server.ask(&["status"]);
    let line = said.lines().find(|line| line.starts_with("backup ")).expect("a line on backups");
    let at = last["at"].as_str().expect("a time");
    assert!(line.contains(&at[..16]) || line.contains(last["name"].as_str().expect("a name")), "{line}");
}

#[test]
fn what_waits_is_counted() {
    let mut server = Setup::testbed().env("AGENTD_JOBS_CONCURRENCY", "1").start();
    with_a_user(&server);
    let client = server.client();
    let gate = server.gate("gate");
    let input = json!({ "gate": gate.path() });
    let first = client.submit("test.gate", &input);
    client.wait_for(&first, "job.started");
    let second = client.submit("test.gate", &input);
    let third = client.submit_body(&json!({ "tool": "echo", "delay": 86_400 }));
    server.leave_open(&third);
    let report = server.admin().get("/admin/status").expect(200);
    let queue = &report["queue"];
    assert_eq!((&queue["running"], &queue["waiting"], &queue["delayed"]), (&json!(1), &json!(1), &json!(1)));
    assert!(queue["oldest_since"].is_string(), "{report}");
    assert_eq!(report["warnings"], json!([]));
    server.set_clock(700);
    let report = server.admin().get("/admin/status").expect(200);
    assert!(report["warnings"][0]["what"].as_str().expect("a text").contains("ten minutes"), "{report}");
    server.set_clock(0);
    gate.open();
    client.finished(&second);
}

#[test]
fn a_nearly_full_disk_and_plain_http_are_warned_of() {
    let server = Setup::real().env("AGENTD_DATA_MIN_FREE", "1000000GiB").start();
    with_a_user(&server);
    let said = server.agentd(&["status"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("warning: the disk is nearly full") && said.out.contains("what to do: free"), "{said:?}");
    let ready = server.agentd(&["status", "--ready"]);
    assert_eq!((ready.code, ready.out.as_str()), (75, ""), "{ready:?}");
    assert!(ready.err.contains("nearly full"), "{ready:?}");
    assert!(server.admin().get("/metrics").text.contains("\nagentd_ready 0\n"));
}

#[test]
fn a_health_check_asks_whether_work_is_done_and_nothing_else() {
    let mut server = Server::real();
    let ready = server.agentd(&["status", "--ready"]);
    assert_eq!((ready.code, ready.out.as_str(), ready.err.as_str()), (0, "", ""), "warnings are no reason: {ready:?}");
    assert!(server.admin().get("/metrics").text.contains("\nagentd_ready 1\n"));
    server.stop();
    assert_eq!(server.agentd(&["status", "--ready"]).code, 69);
}

#[test]
fn certificates_are_shown_and_a_missing_one_is_a_warning() {
    let server = Setup::real().https().start();
    with_a_user(&server);
    let said = server.agentd(&["status"]);
    assert_eq!(said.code, 0, "{said:?}");
    let line = said.out.lines().find(|line| line.starts_with("certificate")).expect("a certificate");
    assert!(line.contains("localhost") && line.contains("valid, self-signed, until"), "{line}");

    let server = Setup::real()
        .https()
        .env("AGENTD_TLS_MODE", "acme")
        .env("AGENTD_ACME_DOMAINS", "agents.example.com")
        .env("AGENTD_ACME_DIRECTORIES", "http://127.0.0.1:1/directory")
        .start();
    with_a_user(&server);
    let problem = eventually("the first attempt has failed", || {
        let report = server.admin().get("/admin/status").expect(200);
        let warning = report["warnings"][0]["what"].as_str()?.to_owned();
        warning.contains("no connection to 127.0.0.1").then_some((warning, report))
    });
    assert!(problem.0.starts_with("there is no certificate for agents.example.com yet"), "{problem:?}");
    assert_eq!(problem.1["address"], "https://agents.example.com:0");
    let said = server.agentd(&["status"]);
    assert!(said.code == 1 && said.out.contains("agentd cert renew agents.example.com"), "{said:?}");
}

#[test]
fn without_a_service_it_says_where_to_look() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let mut verb = agentd(&["status", "--data-dir", &folder.path().to_string_lossy()]);
    let said = say(&mut verb, "").refused(69);
    assert!(said.contains("systemctl status agentd") && said.contains("journalctl"), "{said}");
}
