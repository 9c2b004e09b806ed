//! The command line against the running service: every verb as somebody types
//! it, what it says to people and to scripts, and its exit codes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use insta::{Settings, assert_snapshot};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::cli::{Said, agentd, say};
use crate::support::{Server, Setup};

/// A printed text without what differs from run to run; its length stays, so
/// that columns still line up.
fn stable(text: &str) -> String {
    let is_time = |word: &str| word.len() == 20 && word.ends_with('Z') && word.as_bytes()[10] == b'T';
    let is_id = |word: &str| word.len() == 36 && word.matches('-').count() == 4;
    let mut stable = text.to_owned();
    for word in text.split_whitespace().map(|word| word.trim_matches(['(', ')'])) {
        if is_time(word) {
            stable = stable.replace(word, "0000-00-00T00:00:00Z");
        } else if is_id(word) {
            stable = stable.replace(word, "00000000-0000-0000-0000-000000000000");
        }
    }
    stable
}

fn snapshot(name: &str, text: &str) {
    let mut settings = Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| assert_snapshot!(name, stable(text)));
}

/// The service with one tenant, Acme.
fn acme(setup: Setup) -> (Server, String) {
    let server = setup.start();
    let tenant = server.tenant("Acme");
    (server, tenant)
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[test]
fn budgets_are_shown_and_set() {
    let (server, tenant) = acme(Setup::real());
    let set = server.ask(&["budget", "set", "--day", "5", "--month", "50.25"]);
    let more = server.ask(&["budget", "set", "--tenant", "Acme", "--month", "off", "--on-exhausted", "clamp"]);
    let shown = server.ask(&["budget", "show", "--tenant", "Acme", "--session", "s"]);
    snapshot("cli_budget", &[set, more, shown, server.ask(&["budget", "show"])].join("\n"));
    let budget = server.admin().get(&format!("/admin/tenants/{tenant}/budget")).expect(200);
    assert_eq!((&budget["day_usd"], &budget["month_usd"]), (&json!("5"), &Value::Null));
    assert_eq!(server.ask_json(&["budget", "show"])["day"]["limit_usd"], "50");
    for wrong in [["--day", "-1"], ["--day", "much"], ["--on-exhausted", "wait"]] {
        server.agentd(&["budget", "set", wrong[0], wrong[1]]).refused(2);
    }
    server.agentd(&["budget", "set"]).refused(2);
}

#[test]
fn tenants_are_made_shown_and_changed() {
    let server = Server::real();
    let id = server.ask(&["tenant", "create", "Acme"]).trim().to_owned();
    assert_eq!(server.admin().get(&format!("/admin/tenants/{id}")).expect(200)["name"], "Acme");
    let other = server.ask_json(&["tenant", "create", "日本"]);
    assert_eq!(other["name"], "日本");
    snapshot("cli_tenant_list", &server.ask(&["tenant", "list"]));
    snapshot("cli_tenant_show", &server.ask(&["tenant", "show", "Acme"]));

    let changes = [
        server.ask(&["tenant", "suspend", "Acme"]),
        server.ask(&["tenant", "resume", &id]),
        server.ask(&["tenant", "rename", "Acme", "Acme Ltd"]),
    ];
    snapshot("cli_tenant_changes", &changes.concat());
    let shown = server.ask_json(&["tenant", "show", "Acme Ltd"]);
    assert_eq!((&shown["tenant_id"], &shown["status"]), (&json!(id), &json!("active")));

    let said = server.agentd(&["tenant", "show", "Acme"]).refused(1);
    assert!(said.contains("there is no tenant \"Acme\""), "{said}");
    server.tenant("Acme Ltd");
    let said = server.agentd(&["tenant", "show", "Acme Ltd"]).refused(2);
    assert!(said.contains("2 tenants have the name") && said.contains(&id), "{said}");
}

#[test]
fn json_is_the_services_own() {
    let (server, tenant) = acme(Setup::real());
    let said = |arguments: &[&str]| server.agentd(&[arguments, &["--json"]].concat()).ok();
    let answer = |path: &str| server.admin().get(path).text + "\n";
    assert_eq!(said(&["tenant", "show", &tenant]), answer(&format!("/admin/tenants/{tenant}")));
    assert_eq!(said(&["tenant", "list"]), answer("/admin/tenants"));
    server.key(&tenant);
    assert_eq!(said(&["key", "list"]), answer(&format!("/admin/tenants/{tenant}/keys")));
}

#[test]
fn a_list_goes_on_over_pages() {
    let (server, tenant) = acme(Setup::real());
    let client = server.anyone().with_key(&server.key(&tenant));
    let jobs: Vec<_> = (0..203).map(|number| client.submit("echo", &json!(number))).collect();
    let ids = |listed: &Value| -> Vec<String> {
        let rows = listed["data"].as_array().expect("a list");
        rows.iter().map(|row| row["job_id"].as_str().expect("an id").to_owned()).collect()
    };
    let newest_first = |count: usize| jobs.iter().rev().take(count).cloned().collect::<Vec<_>>();
    let listed = server.ask_json(&["job", "list", "--limit", "202", "--tenant", "Acme"]);
    assert_eq!(ids(&listed), newest_first(202));
    assert!(listed["next_cursor"].is_string(), "there is one more");
    let listed = server.ask_json(&["job", "list", "--limit", "1000"]);
    assert_eq!((ids(&listed), &listed["next_cursor"]), (newest_first(203), &Value::Null));

    let said = server.agentd(&["job", "list", "--limit", "2"]);
    assert_eq!((said.code, said.out.lines().count()), (0, 3));
    assert!(said.err.contains("there are more"), "{said:?}");
}

/// Runs a verb on a terminal of its own, with somebody who types.
fn on_a_terminal(server: &Server, verb: &str, typed: &str) -> Said {
    let program = env!("CARGO_BIN_EXE_agentd");
    let line = format!("{program} {verb} --data-dir {}", server.data().display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("SHELL", "/bin/sh");
    say(&mut script, typed)
}

#[test]
fn a_tenant_is_deleted_only_when_somebody_says_yes() {
    let (server, tenant) = acme(Setup::real());
    let path = format!("/admin/tenants/{tenant}");
    let said = server.agentd(&["tenant", "delete", "Acme"]).refused(2);
    assert!(said.contains("--yes"), "{said}");
    let said = on_a_terminal(&server, "tenant delete Acme", "n\n");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("Delete the tenant Acme") && said.out.contains("nothing was done"), "{said:?}");
    server.admin().get(&path).expect(200);
    let said = on_a_terminal(&server, "tenant delete Acme", "y\n");
    assert_eq!(said.code, 0, "{said:?}");
    server.admin().get(&path).problem(404, "not_found");

    let other = server.tenant("Other");
    assert_eq!(server.ask(&["tenant", "delete", &other, "--yes"]), "Other is deleted\n");
}

#[test]
fn a_keys_secret_is_all_that_is_printed_and_works() {
    let (server, tenant) = acme(Setup::real());
    let said = server.agentd(&["key", "create", "--name", "reader", "--scope", "jobs:read", "--expires", "30d"]);
    assert!(said.err.contains("it is not shown again"), "{said:?}");
    let secret = said.ok();
    let client = server.anyone().with("X-API-Key", secret.trim());
    client.get("/v1/jobs").expect(200);
    client.post("/v1/jobs", &json!({ "tool": "echo" })).problem(403, "forbidden");

    let id = secret.split('_').nth(2).expect("an id").to_owned();
    let shown = server.ask_json(&["key", "show", &id]);
    assert_eq!(shown["scopes"], json!(["jobs:read"]));
    let expires = shown["expires_at"].as_str().expect("a time");
    assert!(expires > shown["created_at"].as_str().expect("a time"), "{expires}");
    let test = server.ask_json(&["key", "create", "--name", "t", "--test", "--tenant", &tenant]);
    assert!(test["api_key"].as_str().is_some_and(|key| key.starts_with("agk_test_")), "{test}");
    server.ask(&["key", "revoke", test["key_id"].as_str().expect("an id")]);

    let list = server.ask(&["key", "list"]);
    let list = list.replace(&id, "KKKKKKKKKKKK").replace(test["key_id"].as_str().expect("an id"), "TTTTTTTTTTTT");
    snapshot("cli_key_list", &list);
    assert!(server.ask(&["key", "revoke", &id]).contains("is revoked"));
    client.get("/v1/jobs").problem(401, "unauthorized");
}

#[test]
fn a_key_is_rotated_at_once_or_after_a_while() {
    let (server, tenant) = acme(Setup::real());
    let works = |secret: &str| server.anyone().with("X-API-Key", secret.trim()).get("/v1/jobs").status == 200;
    let id = |secret: &str| secret.split('_').nth(2).expect("an id").to_owned();
    let first = server.key(&tenant).secret;
    let second = server.ask(&["key", "rotate", &id(&first), "--grace", "1h"]);
    assert!(works(&first) && works(&second), "both count for an hour");
    let third = server.agentd(&["key", "rotate", &id(&second)]);
    assert!(third.err.contains("it is not shown again"), "{third:?}");
    assert!(works(&third.ok()) && !works(&second));
}

#[test]
fn a_goal_is_given_to_the_agent() {
    let (server, _) = acme(Setup::real());
    let job = server.ask_json(&["job", "submit", "--goal", "What is 2+3*4?", "--wait"]);
    assert_eq!(job["result"]["answer"], "2+3*4 = 14", "{job}");
    let listed = server.ask(&["job", "list"]);
    assert_eq!(words(listed.lines().nth(1).expect("a row"))[4], "agent", "{listed}");
}

#[test]
fn a_job_is_submitted_and_waited_for() {
    let (server, tenant) = acme(Setup::real());
    let client = server.anyone().with_key(&server.key(&tenant));
    let input = r#"{"b":12345678901234567890123,"a":1.50}"#;
    let id = server.ask(&["job", "submit", "--tool", "echo", "--input", input]).trim().to_owned();
    client.finished(&id);
    let shown = server.agentd(&["job", "show", &id, "--json"]).ok();
    assert!(shown.contains(&format!("\"input\":{input}")), "the input is kept as it was written: {shown}");

    snapshot("cli_job_waited", &server.ask(&["job", "submit", "--tool", "echo", "--input", "[1]", "--wait"]));
    let job = server.ask_json(&["job", "submit", "--tool", "time.now", "--wait"]);
    assert_eq!(job["status"], "succeeded");

    let rich = ["--priority", "-3", "--delay", "1h", "--timeout", "5s", "--max-attempts", "7", "--metadata", "a=b=c"];
    let id = server.ask(&[&["job", "submit", "--tool", "echo"], &rich[..]].concat()).trim().to_owned();
    let job = client.job(&id);
    assert_eq!((&job["priority"], &job["max_attempts"]), (&json!(-3), &json!(7)));
    assert_eq!((&job["status"], &job["metadata"]), (&json!("waiting"), &json!({ "a": "b=c" })));
    assert_eq!(server.ask(&["job", "cancel", &id]), "the job is cancelled\n");
    let said = server.agentd(&["job", "submit", "--tool", "math.eval", "--input", r#"{"expression":"1/0"}"#, "--wait"]);
    assert_eq!(said.code, 1, "a job that fails is a failure: {said:?}");
    assert!(said.out.contains("not_a_number"), "{said:?}");

    snapshot("cli_job_list", &server.ask(&["job", "list", "--tenant", "Acme"]));
    let filtered = ["job", "list", "--tenant", "Acme", "--status", "failed", "--tool", "math.eval"];
    snapshot("cli_job_list_filtered", &server.ask(&filtered));
}

#[test]
fn input_comes_from_a_file_or_standard_input() {
    let (server, _) = acme(Setup::real());
    let file = server.path("input.json");
    std::fs::write(&file, "{\"from\": \"a file\"}\n").expect("written");
    let at = format!("@{}", file.display());
    let result = |said: Said| said.json()["result"]["from"].clone();
    let arguments = ["job", "submit", "--tool", "echo", "--wait", "--json", "--input"];
    assert_eq!(result(server.agentd(&[&arguments[..], &[&at]].concat())), "a file");
    let mut piped = server.verb(&[&arguments[..], &["-"]].concat());
    assert_eq!(result(say(&mut piped, r#"{"from":"a pipe"}"#)), "a pipe");

    for (input, what) in [("{", "--input is not JSON"), ("@/nowhere/x.json", "/nowhere/x.json cannot be read")] {
        let said = server.agentd(&[&arguments[..], &[input]].concat()).refused(2);
        assert!(said.contains(what), "{said}");
    }
    let said = say(&mut server.verb(&[&arguments[..], &["-"]].concat()), "").refused(2);
    assert!(said.contains("standard input is not JSON"), "{said}");
}

/// A verb that goes on while the test does something.
struct Running {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, out }
    }

    /// The next event, as JSON.
    fn event(&mut self) -> Value {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut events = vec![self.event()];
        while events.last().is_some_and(|event| event["type"] != kind) {
            events.push(self.event());
        }
        events
    }

    /// Waits for its end: exit code, and what it said on standard error.
    fn end(mut self) -> (i32, String) {
        let mut said = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        (self.child.wait().expect("it ends").code().unwrap_or(-1), said)
    }
}

#[test]
fn following_goes_on_over_a_restart_and_misses_nothing() {
    let (mut server, _) = acme(Setup::testbed().env("AGENTD_SERVER_DRAIN_TIME", "10ms"));
    let gate = server.gate("gate");
    let input = json!({ "gate": gate.path() }).to_string();
    let id = server.ask(&["job", "submit", "--tool", "test.gate", "--input", &input]).trim().to_owned();
    let mut follow = Running::start(server.verb(&["job", "follow", &id, "--json"]));
    let mut events = follow.until("job.started");
    server.stop();
    server.start_again(|setup| setup);
    gate.open();
    events.extend(follow.until("job.succeeded"));
    let numbers: Vec<_> = events.iter().filter_map(|event| event["id"].as_i64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>());
    assert_eq!(follow.end(), (0, String::new()));

    // Of a job that has ended, all is shown at once.
    let shown = server.agentd(&["job", "follow", &id]).ok();
    assert_eq!(shown.lines().count(), events.len());
    assert!(shown.lines().last().is_some_and(|line| words(line)[1] == "job.succeeded"), "{shown}");
}

#[test]
fn ctrl_c_leaves_the_job_running() {
    let (server, tenant) = acme(Setup::testbed());
    let gate = server.gate("gate");
    let input = json!({ "gate": gate.path() }).to_string();
    let mut follow =
        Running::start(server.verb(&["job", "submit", "--tool", "test.gate", "--input", &input, "--follow", "--json"]));
    let started = follow.until("job.started");
    kill_process(Pid::from_child(&follow.child), Signal::INT).expect("it runs");
    let (code, said) = follow.end();
    assert_eq!(code, 130, "{said}");
    assert!(said.contains("the job goes on"), "{said}");
    gate.open();
    let client = server.anyone().with_key(&server.key(&tenant));
    let job = client.finished(started[0]["job_id"].as_str().expect("an id"));
    assert_eq!(job["status"], "succeeded");
}

#[test]
fn jobs_are_cancelled_and_done_again() {
    let (server, tenant) = acme(Setup::testbed());
    let client = server.anyone().with_key(&server.key(&tenant));
    let job = client.submit("test.obey", &json!({}));
    client.wait_for(&job, "job.started");
    let said = server.ask(&["job", "cancel", &job]);
    assert!(said.contains("told to stop"), "{said}");
    let said = server.agentd(&["job", "follow", &job]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("job.cancelled"), "{said:?}");
    let said = server.agentd(&["job", "cancel", &client.submit("echo", &json!(1))]);
    assert!([0, 1].contains(&said.code), "{said:?}");

    let failed = client.run(&json!({ "tool": "test.permanent" }));
    let said = server.agentd(&["job", "retry", failed["job_id"].as_str().expect("an id"), "--wait", "--json"]);
    assert_eq!(said.code, 1, "it fails again: {said:?}");
    let again: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(again["retry_of"], failed["job_id"]);
    let said =
        server.agentd(&["job", "retry", &client.submit_body(&json!({ "tool": "echo", "delay": 3600 }))]).refused(1);
    assert!(said.contains("only a finished one can be done again"), "{said}");
    let waiting = &client.get("/v1/jobs?status=waiting").expect(200)["data"][0];
    server.ask(&["job", "cancel", waiting["job_id"].as_str().expect("an id")]);
}

#[test]
fn whose_job_it_is_must_be_known() {
    let server = Server::real();
    let said = server.agentd(&["job", "submit", "--tool", "echo"]).refused(1);
    assert!(said.contains("agentd tenant create"), "{said}");
    let (one, _other) = (server.tenant("One"), server.tenant("Two"));
    let said = server.agentd(&["job", "submit", "--tool", "echo"]).refused(2);
    assert!(said.contains("--tenant"), "{said}");
    let job = server.ask_json(&["job", "submit", "--tool", "echo", "--tenant", "One", "--wait"]);
    let id = job["job_id"].as_str().expect("an id");
    assert_eq!(server.ask_json(&["job", "show", id, "--tenant", &one])["job_id"], *id);
    let said = server.agentd(&["job", "show", id, "--tenant", "Two"]).refused(1);
    assert!(said.contains("there is no such job"), "{said}");
}

#[test]
fn a_job_is_found_by_its_id_whosever_it_is() {
    let server = Server::real();
    server.tenant("One");
    let two = server.tenant("Two");
    let job = server.ask_json(&["job", "submit", "--tool", "echo", "--tenant", "Two", "--wait"]);
    let id = job["job_id"].as_str().expect("an id");
    assert_eq!(server.ask_json(&["job", "show", id])["job_id"], *id);
    server.ask(&["job", "follow", id]);
    let again = server.ask_json(&["job", "retry", id, "--wait"]);
    assert_eq!(again["retry_of"], *id);
    let listed = server.ask(&["job", "list", "--status", "succeeded"]);
    assert_eq!(listed.lines().filter(|line| line.starts_with(&format!("Two ({two})"))).count(), 2, "{listed}");
    snapshot("cli_job_list_of_all", &listed);
    let said = server.agentd(&["job", "show", "01a1fb1c-e4e7-7000-9b1a-ace7e35e343e"]).refused(1);
    assert!(said.contains("there is no such job"), "{said}");
}

#[test]
fn the_interface_is_described_without_a_service() {
    let said = say(&mut agentd(&["openapi"]), "").json();
    let server = Server::real();
    assert_eq!(said, server.anyone().get("/openapi.json").expect(200));
    let file = server.path("openapi.json");
    let to_a_file = say(&mut agentd(&["openapi", "--output", &file.to_string_lossy()]), "");
    assert_eq!(to_a_file.ok(), "");
    let written: Value = serde_json::from_slice(&std::fs::read(file).expect("a file")).expect("JSON");
    assert_eq!(written, said);
    let said = say(&mut agentd(&["openapi", "--output", "/nowhere/x.json"]), "").refused(1);
    assert!(said.contains("cannot be written"), "{said}");
}

#[test]
fn errors_are_told_as_the_service_explains_them() {
    let (server, _) = acme(Setup::real());
    let said = server.agentd(&["job", "submit", "--tool", "ecko"]).refused(1);
    assert_eq!(
        said,
        "agentd: there is no tool \"ecko\"; did you mean \"echo\"?\nhint: GET /v1/tools lists the tools\n"
    );
    let said = server.agentd(&["tenant", "create", " "]).refused(1);
    assert_eq!(said, "agentd: name: must not be empty\n");
    let said = server.agentd(&["job", "list", "--status", "done", "--tenant", "Acme"]).refused(1);
    assert!(said.contains("must be one of queued"), "{said}");
    for wrong in [&["tenant"][..], &["job", "show", "x"], &["job", "list", "--limit", "0"], &["key", "show", ".."]] {
        let said = say(&mut agentd(wrong), "");
        assert_eq!(said.code, 2, "{wrong:?}: {said:?}");
    }
}

#[test]
fn a_service_that_is_not_there_is_told_and_what_to_do() {
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().to_string_lossy().into_owned();
    let said = say(&mut agentd(&["tenant", "list", "--data-dir", &data]), "").refused(69);
    assert!(said.contains("control.sock") && said.contains("systemctl start agentd"), "{said}");

    let mut server = Server::real();
    server.kill();
    let said = server.agentd(&["job", "list"]).refused(69);
    assert!(said.contains("Connection refused"), "{said}");
    server.start_again(|setup| setup);
}

#[test]
fn a_full_queue_is_worth_another_try() {
    let setup = Setup::testbed().env("AGENTD_JOBS_CONCURRENCY", "1").env("AGENTD_JOBS_QUEUE", "1");
    let (server, _) = acme(setup);
    let gate = server.gate("gate");
    let input = json!({ "gate": gate.path() }).to_string();
    let submit = ["job", "submit", "--tool", "test.gate", "--input", &input];
    let mut first = Running::start(server.verb(&[&submit[..], &["--follow", "--json"]].concat()));
    first.until("job.started");
    let second = server.ask(&submit);
    let said = server.agentd(&submit).refused(75);
    assert!(said.contains("waiting already"), "{said}");
    gate.open();
    assert_eq!(first.end().0, 0);
    server.ask(&["job", "follow", second.trim()]);
}

#[test]
fn where_the_service_is_comes_from_the_configuration() {
    let place = TempDir::new().expect("a folder");
    let (socket, file) = (place.path().join("here.sock"), place.path().join("agentd.toml"));
    let server = Setup::real().env("AGENTD_SERVER_CONTROL_SOCKET", &socket.to_string_lossy()).start();
    let list = |extra: &[&str], environment: &[(&str, &Path)]| {
        let mut command = agentd(&[&["tenant", "list"], extra].concat());
        say(command.envs(environment.iter().copied()).current_dir(place.path()), "").code
    };
    std::fs::write(&file, format!("[server]\ncontrol_socket = {socket:?}\nlisten = \"wrong\"\n")).expect("written");
    let file = file.to_string_lossy();
    assert_eq!(list(&["--config", &file], &[]), 0, "only what is needed of the file is looked at");
    assert_eq!(list(&[], &[("AGENTD_CONFIG", Path::new(&*file))]), 0);
    assert_eq!(list(&[], &[("AGENTD_SERVER_CONTROL_SOCKET", &socket)]), 0);
    assert_eq!(list(&["--socket", "here.sock"], &[]), 0);
    assert_eq!(list(&[], &[]), 69);
    assert_eq!(list(&["--data-dir", &server.data().to_string_lossy()], &[]), 69, "it is not there");
    assert_eq!(list(&[], &[("AGENTD_SERVER_CONTROL_SOCKET", Path::new("off"))]), 78);
    assert_eq!(list(&["--config", "nowhere.toml"], &[]), 78);
}

#[test]
fn nobody_reading_is_no_fault() {
    let (server, _) = acme(Setup::real());
    let mut child =
        server.verb(&["tenant", "list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn the_schema_is_shown_with_and_without_the_service() {
    let mut server = Server::real();
    let running = server.ask(&["migrate", "status"]);
    let first = words(running.lines().nth(1).expect("a row"));
    assert_eq!((first[0], first[1], first[3]), ("1", "spine", "applied"));
    server.stop();
    assert_eq!(server.ask(&["migrate", "status"]), running);
    let database = rusqlite::Connection::open(server.data().join("agentd.db")).expect("the database");
    database
        .execute_batch(
            "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
             VALUES (9999, 'future', '2100-01-01T00:00:00.5Z', '1');
             UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1",
        )
        .expect("changed");
    let rows = server.ask_json(&["migrate", "status"])["data"].as_array().expect("rows").clone();
    let status = |row: Option<&Value>| row.map(|row| row["status"].clone());
    assert_eq!(status(rows.first()), Some(json!("changed")));
    assert_eq!(status(rows.last()), Some(json!("unknown")));
    drop(database);

    let nowhere = TempDir::new().expect("a folder");
    let said = say(&mut agentd(&["migrate", "status", "--data-dir", &nowhere.path().to_string_lossy()]), "").refused(1);
    assert!(said.contains("there is no database at"), "{said}");
    let files = std::fs::read_dir(nowhere.path()).expect("a folder").count();
    assert_eq!(files, 0, "looking makes nothing");
}

#[test]
fn completions_are_scripts() {
    let bash = say(&mut agentd(&["completions", "bash"]), "").ok();
    let checked = say(Command::new("bash").arg("-n"), &bash);
    assert_eq!((checked.code, checked.err.as_str()), (0, ""));
    // What bash offers behind `agentd tenant s`.
    let ask = format!(
        "{bash}\nCOMP_WORDS=(agentd tenant s) COMP_CWORD=2; _agentd agentd s tenant; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    // On standard input: an argument has a bound that the script is over.
    assert_eq!(say(&mut Command::new("bash"), &ask).ok(), "show\nsuspend\n");
    for shell in ["zsh", "fish"] {
        let script = say(&mut agentd(&["completions", shell]), "").ok();
        assert!(script.contains("tenant") && script.contains("suspend"), "{shell}: {script}");
    }
    assert_eq!(say(&mut agentd(&["completions", "csh"]), "").code, 2);
}

#[test]
fn the_version_is_for_people_and_scripts() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(say(&mut agentd(&["version"]), "").ok(), format!("agentd {version}\n"));
    let json = say(&mut agentd(&["version", "--json"]), "").json();
    assert_eq!(json, json!({ "name": "agentd", "version": version }));
}

/// Every verb's help, found by walking from the first; each has an example.
#[test]
fn help_has_examples() {
    let mut all = String::new();
    let mut left = vec![vec![]];
    while let Some(verbs) = left.pop() {
        let help = say(&mut agentd(&[&verbs[..], &["--help"]].concat()), "").ok();
        let listed = help.split("Commands:\n").nth(1).unwrap_or("").lines().take_while(|line| !line.is_empty());
        let below: Vec<_> = listed.map(|line| words(line)[0].to_owned()).filter(|verb| verb != "help").collect();
        assert!(help.contains("Example") || !below.is_empty(), "{verbs:?} has no example:\n{help}");
        let name = [&["agentd"], &verbs[..]].concat().join(" ");
        all = format!("{all}$ {name} --help\n{help}\n");
        for verb in below.into_iter().rev() {
            left.push([&verbs[..], &[&*verb.leak()]].concat());
        }
    }
    snapshot("cli_help", &all);
}
