//! The quick start of the system before this one, steps 2 to 4, with the very
//! commands that its document shows; only the port and the placeholders are
//! filled in, as its readers do.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Server};

/// Runs a line of the document in a shell.
#[track_caller]
fn shell(server: &Server, line: &str, placeholders: &[(&str, &str)]) -> Value {
    let mut line = line.replace("127.0.0.1:8000", &server.address()).replace("YOUR_ADMIN_KEY", ADMIN_KEY);
    for (name, value) in placeholders {
        line = line.replace(name, value);
    }
    let run = Command::new("sh").args(["-c", &line]).output().expect("a shell");
    let said = String::from_utf8(run.stdout).expect("text");
    assert!(run.status.success(), "{line}: {said} {}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn the_quick_start_works_as_it_is_written() {
    let version = Command::new("curl").arg("--version").output();
    assert!(version.is_ok(), "curl cannot be run; it is the Debian package `curl`");
    let server = Server::real();

    let health = shell(&server, "curl http://127.0.0.1:8000/health", &[]);
    assert_eq!(health, json!({ "status": "ok" }));

    let tenant = shell(
        &server,
        r#"curl -X POST http://127.0.0.1:8000/admin/tenants \
  -H "X-Admin-Key: YOUR_ADMIN_KEY" \
  -H "Content-Type: application/json" \
  -d '{"name": "MyCompany"}'"#,
        &[],
    );
    assert_eq!(tenant["name"], "MyCompany");
    let tenant_id = tenant["tenant_id"].as_str().expect("a tenant_id");

    let key = shell(
        &server,
        r#"curl -X POST http://127.0.0.1:8000/admin/tenants/TENANT_ID/keys \
  -H "X-Admin-Key: YOUR_ADMIN_KEY" \
  -H "Content-Type: application/json" \
  -d '{"name": "Production Key"}'"#,
        &[("TENANT_ID", tenant_id)],
    );
    let api_key = key["api_key"].as_str().expect("an api_key");
    assert!(api_key.starts_with("agk_live_"));

    let job = shell(
        &server,
        r#"curl -X POST http://127.0.0.1:8000/agent/run \
  -H "X-API-Key: agk_live_YOUR_KEY" \
  -H "Content-Type: application/json" \
  -d '{"tool": "echo", "input": {"hello": "world"}}'"#,
        &[("agk_live_YOUR_KEY", api_key)],
    );
    let job_id = job["job_id"].as_str().expect("a job_id");

    let status = crate::support::eventually("the job is done", || {
        let status = shell(
            &server,
            r#"curl http://127.0.0.1:8000/agent/status/JOB_ID \
  -H "X-API-Key: agk_live_YOUR_KEY""#,
            &[("JOB_ID", job_id), ("agk_live_YOUR_KEY", api_key)],
        );
        (status["status"] == "succeeded").then_some(status)
    });
    assert_eq!(status["result"], json!({ "hello": "world" }));
}
