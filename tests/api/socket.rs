//! The control socket: who may use it, what it may do, and how it comes and
//! goes.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::cli::{over, say};
use crate::support::client::job_id;
use crate::support::{Server, Setup};

/// A user that is never ours.
const NOBODY: u32 = 65_534;

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).expect("a file").mode() & 0o7777
}

/// A service whose socket lies where everyone can come to, so that nothing but
/// its own mode guards it.
fn reachable(setup: Setup) -> (Server, std::path::PathBuf, tempfile::TempDir) {
    let folder = tempfile::TempDir::new().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("changed");
    let path = folder.path().join("control.sock");
    let server = setup.env("AGENTD_SERVER_CONTROL_SOCKET", &path.to_string_lossy()).start();
    (server, path, folder)
}

#[test]
fn it_is_for_its_owner_and_group_and_goes_away_at_a_stop() {
    let mut server = Server::real();
    let socket = server.socket();
    assert!(std::fs::symlink_metadata(&socket).expect("it is there").file_type().is_socket());
    assert_eq!(mode(&socket), 0o660);
    server.stop();
    assert!(!socket.exists(), "a clean stop removes it");
}

/// A program run as a user that is never ours. Becoming somebody else takes a
/// right, which root has and `sudo` lends.
fn as_another(group: u32, program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new(program);
        command.uid(NOBODY).gid(group);
        return command;
    }
    let mut command = Command::new("sudo");
    command.args(["-n", "-u", &format!("#{NOBODY}"), "-g", &format!("#{group}"), program]);
    command
}

/// Asks over the socket as another user; curl's exit code.
fn ask_as_another(group: u32, socket: &Path) -> Option<i32> {
    let mut curl = as_another(group, "curl");
    curl.args(["--silent", "--unix-socket", &socket.to_string_lossy(), "http://localhost/health"]);
    curl.stdout(Stdio::null()).status().expect("curl runs").code()
}

#[test]
fn another_user_cannot_connect() {
    let (_server, socket, _folder) = reachable(Setup::real());
    assert_eq!(ask_as_another(NOBODY, &socket), Some(7), "curl could connect");
    let group = rustix::process::getegid().as_raw();
    assert_eq!(ask_as_another(group, &socket), Some(0), "somebody of its group can");
}

#[test]
fn another_user_is_told() {
    let (server, socket, folder) = reachable(Setup::real());
    // The program may lie where only we can come to.
    let program = folder.path().join("agentd");
    std::fs::copy(env!("CARGO_BIN_EXE_agentd"), &program).expect("copied");
    let mut command = as_another(NOBODY, &program.to_string_lossy());
    command.args(["tenant", "list", "--socket"]).arg(&socket).current_dir("/");
    let said = say(&mut command, "").refused(69);
    assert!(said.contains("Permission denied") && said.contains("sudo"), "{said}");
    drop(server);
}

#[test]
fn over_it_everything_is_allowed_without_a_key() {
    let server = Server::real();
    let socket = server.socket();
    let (status, tenant) = over(&socket, "POST /admin/tenants", &[], r#"{"name":"a"}"#);
    assert_eq!(status, 201, "{tenant}");
    let (status, _) = over(&socket, "GET /metrics", &["X-Forwarded-For: 1.2.3.4"], "");
    assert_eq!(status, 200);
    // A tenant's routes need to know for whom.
    let (status, problem) = over(&socket, "GET /v1/jobs", &[], "");
    assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")));

    let line = server.wait_for_log("the request", |line| line["path"] == "/admin/tenants");
    assert_eq!(line["key"], "local");
    assert_eq!(line["peer_uid"], rustix::process::getuid().as_raw());
    assert_eq!(line["peer_pid"], std::process::id());
}

#[test]
fn it_acts_for_the_tenant_that_is_named() {
    let server = Server::real();
    let socket = server.socket();
    let tenant = server.tenant("a");
    let other = server.tenant("b");
    let header = |tenant: &str| format!("X-Agentd-Tenant: {tenant}");
    let body = r#"{"tool":"echo","input":1}"#;
    let (status, job) = over(&socket, "POST /v1/jobs", &[&header(&tenant)], body);
    assert_eq!(status, 202, "{job}");
    let path = format!("GET /v1/jobs/{}", job_id(&job));
    assert_eq!(over(&socket, &path, &[&header(&tenant)], "").0, 200);
    assert_eq!(over(&socket, &path, &[&header(&other)], "").0, 404, "another tenant's job");
    server.anyone().with_key(&server.key(&tenant)).finished(&job_id(&job));
    let line = server.wait_for_log("the request", |line| line["path"] == "/v1/jobs");
    assert_eq!((&line["key"], &line["tenant"]), (&json!("local"), &json!(tenant)));

    for unknown in ["01a1fb1c-e4e7-7000-9b1a-ace7e35e343e", "a", "x\u{e9}", "1"] {
        let (status, problem) = over(&socket, "GET /v1/jobs", &[&header(unknown)], "");
        assert_eq!((status, &problem["detail"]), (404, &json!("there is no such tenant")), "{unknown}");
    }
    server.admin().delete(&format!("/admin/tenants/{other}"));
    assert_eq!(over(&socket, "GET /v1/jobs", &[&header(&other)], "").0, 404, "a deleted tenant");
}

#[test]
fn tenants_of_the_last_run_are_known() {
    let mut server = Server::real();
    let tenant = server.tenant("without a key");
    server.restart();
    let header = format!("X-Agentd-Tenant: {tenant}");
    assert_eq!(over(&server.socket(), "GET /v1/jobs", &[&header], "").0, 200);
}

#[test]
fn a_suspended_tenants_work_can_be_looked_at_and_cancelled() {
    let server = Server::testbed();
    let socket = server.socket();
    let tenant = server.tenant("a");
    let key = server.anyone().with_key(&server.key(&tenant));
    let gate = server.gate("never");
    let job = key.submit("test.gate", &json!({ "gate": gate.path() }));
    key.wait_for(&job, "job.started");
    server.admin().patch(&format!("/admin/tenants/{tenant}"), &json!({ "status": "suspended" })).expect(200);
    key.get(&format!("/v1/jobs/{job}")).problem(403, "forbidden");

    let header = format!("X-Agentd-Tenant: {tenant}");
    let (status, shown) = over(&socket, &format!("GET /v1/jobs/{job}"), &[&header], "");
    assert_eq!((status, &shown["status"]), (200, &json!("running")));
    let (status, _) = over(&socket, &format!("POST /v1/jobs/{job}/cancel"), &[&header], "");
    assert_eq!(status, 202);
    // The stream is not cut off by the suspension, and ends with the job.
    let headers = [header.as_str(), "Accept: text/event-stream"];
    let (status, stream) = over(&socket, &format!("GET /v1/jobs/{job}/events"), &headers, "");
    assert_eq!(status, 200);
    assert!(stream.as_str().is_some_and(|text| text.contains("job.cancelled")), "{stream}");
}

#[test]
fn a_stream_ends_when_its_tenant_is_deleted() {
    let server = Server::testbed();
    let tenant = server.tenant("a");
    let key = server.anyone().with_key(&server.key(&tenant));
    let gate = server.gate("never");
    let job = key.submit("test.gate", &json!({ "gate": gate.path() }));
    key.wait_for(&job, "job.started");
    let socket = server.socket();
    let path = format!("GET /v1/jobs/{job}/events");
    let header = format!("X-Agentd-Tenant: {tenant}");
    let reading = std::thread::spawn(move || over(&socket, &path, &[&header, "Accept: text/event-stream"], ""));
    let following = || {
        let metrics = server.admin().get("/metrics").text;
        metrics.contains("agentd_job_followers 1").then_some(())
    };
    crate::support::eventually("it is followed", following);
    server.admin().delete(&format!("/admin/tenants/{tenant}"));
    let (status, stream) = reading.join().expect("it ended");
    assert_eq!(status, 200);
    assert!(stream.as_str().is_some_and(|text| text.contains("job.started")), "{stream}");
}

#[test]
fn the_header_has_no_power_over_tcp() {
    let server = Server::real();
    let tenant = server.tenant("a");
    let key = server.key(&tenant);
    let named = |client: crate::support::Client| client.with("X-Agentd-Tenant", &tenant);
    for client in [server.anyone(), server.anyone().with_key(&key), server.admin()] {
        let client = named(client);
        client.get("/v1/jobs").problem(400, "local_only");
        client.post("/v1/jobs", &json!({ "tool": "echo" })).problem(400, "local_only");
        client.get("/admin/tenants").problem(400, "local_only");
        client.get("/metrics").problem(400, "local_only");
    }
    let client = server.anyone().with_key(&key);
    assert_eq!(client.get("/v1/jobs").expect(200)["data"], json!([]), "nothing was submitted");
}

#[test]
fn the_socket_of_a_killed_process_is_replaced() {
    let mut server = Server::real();
    server.kill();
    assert!(server.socket().exists(), "a kill leaves it");
    server.start_again(|setup| setup);
    assert_eq!(over(&server.socket(), "GET /health", &[], "").0, 200);
}

#[test]
fn what_is_in_the_way_is_told_and_left_alone() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    std::fs::write(data.join("control.sock"), "mine").expect("written");
    let (code, said) = Setup::real().refused(&data);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("is no socket") && said.contains("server.control_socket"), "{said}");
    assert_eq!(std::fs::read_to_string(data.join("control.sock")).expect("still there"), "mine");
}

#[test]
fn a_deep_data_folder_goes_without_a_socket() {
    let folder = tempfile::Builder::new().prefix(&"x".repeat(100)).tempdir().expect("a folder");
    let server = Setup::real().start_in(folder);
    server.wait_for_log("that there is no socket", |line| {
        line["message"].as_str().is_some_and(|message| message.starts_with("there is no control socket"))
    });
    assert_eq!(server.client().run(&serde_json::json!({ "tool": "echo", "input": 1 }))["result"], 1);
}

#[test]
fn a_path_that_cannot_be_one_is_told() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let data = folder.path().join("x".repeat(100));
    let setup = Setup::real().env("AGENTD_SERVER_CONTROL_SOCKET", &data.join("c").to_string_lossy());
    let (code, said) = setup.refused(&folder.path().join("data"));
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("the system takes 107") && said.contains("server.control_socket"), "{said}");

    let missing = folder.path().join("missing/control.sock");
    let setup = Setup::real().env("AGENTD_SERVER_CONTROL_SOCKET", &missing.to_string_lossy());
    let (code, said) = setup.refused(&folder.path().join("data"));
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("cannot be made: No such file or directory"), "{said}");
}

#[test]
fn a_socket_that_another_service_has_is_not_taken() {
    let (server, socket, folder) = reachable(Setup::real());
    let setup = Setup::real().env("AGENTD_SERVER_CONTROL_SOCKET", &socket.to_string_lossy());
    let (code, said) = setup.refused(&folder.path().join("data"));
    assert_eq!(code, 75, "{said}");
    assert!(said.contains("another service answers"), "{said}");
    assert_eq!(over(&socket, "GET /health", &[], "").0, 200);
    drop(server);
}

#[test]
fn it_can_be_switched_off() {
    let server = Setup::real().env("AGENTD_SERVER_CONTROL_SOCKET", "off").start();
    assert!(!server.socket().exists());
    server.admin().get("/admin/tenants").expect(200);
}

/// A process starts with fewer open files than it may have; the service needs
/// one for each connection.
#[test]
fn the_number_of_open_files_is_raised_at_start() {
    use std::io::{BufRead as _, BufReader};
    let folder = tempfile::TempDir::new().expect("a folder");
    let line = r#"ulimit -Sn 64; exec "$0" serve --listen 127.0.0.1:0 --data-dir "$1""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", line, env!("CARGO_BIN_EXE_agentd")]).arg(folder.path().join("data"));
    let mut child = shell.env_clear().stdout(Stdio::piped()).spawn().expect("a shell");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let starting = lines.map_while(Result::ok).find(|line| line.contains("\"starting\"")).expect("a line");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("limits");
    child.kill().expect("killed");
    child.wait().expect("it ends");
    let limits = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let limits: Vec<_> = limits.split_whitespace().skip(3).take(2).collect();
    assert_eq!(limits[0], limits[1], "the one that holds is the highest that may be");
    let starting: Value = serde_json::from_str(&starting).expect("JSON");
    assert_eq!(starting["open_files"].to_string(), limits[0]);
}
