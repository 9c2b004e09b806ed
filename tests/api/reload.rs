//! `agentd reload`: all of it or nothing, and what needs a restart is said.

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::support::tls::{Dial, Made, replace};
use crate::support::{Client, Server, Setup};

/// A service on a file that a test changes.
struct Place {
    server: Server,
    folder: TempDir,
}

impl Place {
    fn new(text: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("agentd.toml");
        std::fs::write(&file, text).expect("written");
        let setup = Setup::real().env("AGENTD_CONFIG", &file.to_string_lossy()).without_env("RATE_LIMIT_ENABLED");
        Self { server: setup.start(), folder }
    }

    fn write(&self, text: &str) {
        std::fs::write(self.folder.path().join("agentd.toml"), text).expect("written");
    }

    fn reload(&self, text: &str) -> String {
        self.write(text);
        self.server.ask(&["reload"])
    }

    #[track_caller]
    fn refused(&self, text: &str) -> String {
        self.write(text);
        self.server.agentd(&["reload"]).refused(78)
    }
}

fn limit(client: &Client) -> String {
    let answer = client.get("/v1/jobs");
    answer.expect(200);
    answer.header("x-ratelimit-limit").expect("a limit").to_owned()
}

#[test]
fn what_can_count_at_once_does() {
    let place = Place::new("");
    let client = place.server.client();
    let page = "https://app.example.com";
    assert_eq!(limit(&client), "120");
    client.send("GET", "/v1/jobs", &[("Origin", page)], None).problem(403, "origin_not_allowed");
    let said = place.reload(
        "[limits]\nrequests_per_minute = 77\n\
         [cors]\norigins = [\"https://app.example.com\"]\n\
         [log]\nlevel = \"debug\"\n\
         [server]\ntrusted_proxies = [\"127.0.0.1\"]\n",
    );
    assert_eq!(
        said,
        "reloaded; these count now: cors.origins, limits.requests_per_minute, log.level, server.trusted_proxies\n"
    );
    assert_eq!(limit(&client), "77");
    client.send("GET", "/v1/jobs", &[("Origin", page)], None).expect(200);
    client.send("GET", "/version", &[("X-Forwarded-For", "192.0.2.7")], None).expect(200);
    place.server.wait_for_log("where the client is", |line| line["address"] == "192.0.2.7");
    place.server.anyone().get("/health").expect(200);
    place.server.wait_for_log("what only debug says", |line| line["level"] == "DEBUG" && line["path"] == "/health");
    assert_eq!(place.server.ask(&["reload"]), "reloaded; nothing that counts at once has changed\n");
    // What is no longer in the file is as if it had never been there.
    place.reload("");
    assert_eq!(limit(&client), "120");
}

#[test]
fn a_fault_anywhere_changes_nothing() {
    let place = Place::new("[limits]\nrequests_per_minute = 50\n");
    let client = place.server.client();
    let said = place.refused("[limits]\nrequests_per_minute = 60\n[jobs]\nqueu = 5\n");
    assert!(said.contains("agentd.toml:4:1: unknown key \"jobs.queu\"; did you mean \"jobs.queue\"?"), "{said}");
    assert!(said.contains("the one before it counts"), "{said}");
    assert_eq!(limit(&client), "50");
    // Every fault is told, not the first alone.
    let said = place.refused("[jobs]\nconcurrency = 0\n[log]\nlevel = \"a=b=c\"\n");
    assert!(said.contains("jobs.concurrency must be") && said.contains("log.level"), "{said}");
    place.refused("[limits\n");
    place.refused("[auth]\nmetrics_token_file = \"/does/not/exist\"\n");
    std::fs::remove_file(place.folder.path().join("agentd.toml")).expect("removed");
    let said = place.server.agentd(&["reload", "--socket", &place.server.socket().to_string_lossy()]).refused(78);
    assert!(said.contains("agentd.toml"), "{said}");
    assert_eq!(limit(&client), "50");
    place.server.wait_for_log("that it was refused", |line| {
        line["level"] == "ERROR" && line["message"].as_str().is_some_and(|text| text.contains("was not reloaded"))
    });
    assert_eq!(place.reload("[limits]\nrequests_per_minute = 51\n").lines().count(), 1);
    assert_eq!(limit(&client), "51");
}

#[test]
fn what_needs_a_restart_is_said_until_it_has_happened() {
    let mut place = Place::new("");
    let text = "[jobs]\nqueue = 7\n[limits]\nrequests_per_minute = 9\n";
    let restart = "these count after a restart (systemctl restart agentd): jobs.queue\n";
    assert_eq!(place.reload(text), format!("reloaded; these count now: limits.requests_per_minute\n{restart}"));
    assert_eq!(place.reload(text), format!("reloaded; nothing that counts at once has changed\n{restart}"));
    place.server.restart();
    assert_eq!(place.server.ask(&["reload"]), "reloaded; nothing that counts at once has changed\n");
}

#[test]
fn a_secret_is_read_again_from_its_file_and_stays_secret() {
    let folder = TempDir::new().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "the-first-token-0123456789").expect("written");
    let place = Place::new(&format!("[auth]\nmetrics_token_file = {:?}\n", token.to_string_lossy()));
    let metrics = |token: &str| {
        let bearer = format!("Bearer {token}");
        // From somewhere else, as far as anybody can tell.
        let headers = [("Authorization", bearer.as_str()), ("X-Forwarded-For", "192.0.2.7")];
        place.server.anyone().send("GET", "/metrics", &headers, None).status
    };
    assert_eq!(metrics("the-first-token-0123456789"), 200);
    std::fs::write(&token, "the-other-token-0123456789").expect("written");
    assert_eq!(place.server.ask(&["reload"]), "reloaded; these count now: auth.metrics_token\n");
    assert_eq!((metrics("the-first-token-0123456789"), metrics("the-other-token-0123456789")), (401, 200));
    assert!(!place.server.log().join("\n").contains("-token-0123"), "a secret is in the log");
}

#[test]
fn many_at_once_do_no_harm() {
    let place = Place::new("");
    place.write("[limits]\nrequests_per_minute = 33\n");
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| place.server.ask_json(&["reload"]))).collect();
        let changed = all.into_iter().map(|one| one.join().expect("it ends"));
        let counted = changed.filter(|answer| answer["changed"] != serde_json::json!([])).count();
        assert_eq!(counted, 1, "exactly one of them has found something new");
    });
}

#[test]
fn without_a_service_the_verb_says_so() {
    let mut server = Server::real();
    server.stop();
    let said = server.agentd(&["reload"]).refused(69);
    assert!(said.contains("no service at"), "{said}");
}

#[test]
fn a_certificate_is_looked_at_at_once_and_a_broken_one_refused() {
    let (first, second) = (Made::of(&["a.test"]), Made::of(&["b.test"]));
    let folder = TempDir::new().expect("a folder");
    let (certificate, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
    first.write(&certificate, &key);
    let text = format!("[tls]\nmode = \"files\"\ncert_file = {certificate:?}\nkey_file = {key:?}\n");
    let place = Place::new(&text);
    let shown = || Dial::anybody(&place.server.address()).connect().expect("a connection").serial();
    assert_eq!(shown(), first.serial);
    replace(&certificate, &second.certificate);
    let said = place.refused(&format!("{text}[limits]\nrequests_per_minute = 3\n"));
    assert!(said.contains("does not belong to the key"), "{said}");
    assert_eq!((shown(), limit(&place.server.client()).as_str()), (first.serial.clone(), "120"));
    replace(&key, &second.key);
    place.reload(&text);
    assert_eq!(shown(), second.serial);
}

#[test]
fn names_of_certificates_come_and_go() {
    let config = |names: &str| {
        format!(
            "[tls]\nmode = \"acme\"\n[acme]\ndomains = [{names}]\ndirectories = [\"http://127.0.0.1:1/directory\"]\n\
             check_every = \"1d\"\n"
        )
    };
    let place = Place::new(&config("\"a.example.com\""));
    assert_eq!(place.reload(&config("\"b.example.com\"")), "reloaded; these count now: acme.domains\n");
    let listed = place.server.ask(&["cert", "list"]);
    assert!(listed.contains("b.example.com") && !listed.contains("a.example.com"), "{listed}");
    let status = place.server.agentd(&["status"]).out;
    assert!(status.contains("https://b.example.com") && !status.contains("a.example.com"), "{status}");
    let said = place.refused(&format!("{}ca_file = \"/nowhere\"\n", config("\"c.example.com\"")));
    assert!(said.contains("acme.ca_file"), "{said}");
    let listed = place.server.ask(&["cert", "list"]);
    assert!(listed.contains("b.example.com") && !listed.contains("c.example.com"), "{listed}");
    // Another source of certificates needs a restart, and what belongs to it too.
    let said = place.reload("[tls]\nmode = \"self_signed\"\n");
    assert!(said.contains("after a restart (systemctl restart agentd): acme."), "{said}");
    assert!(said.contains("tls.mode"), "{said}");
}

#[test]
fn the_administrators_key_is_taken_again_from_its_file() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("agentd.toml");
    std::fs::write(&file, "").expect("written");
    let setup = Setup::real().env("AGENTD_CONFIG", &file.to_string_lossy()).without_env("AGENT_ADMIN_KEY");
    let server = setup.start();
    let admin = |key: &str| server.anyone().with("X-Admin-Key", key.trim()).get("/admin/tenants").status;
    let kept = server.data().join("secrets/admin.key");
    let first = std::fs::read_to_string(&kept).expect("made at the first start");
    assert_eq!(admin(&first), 200);
    // One that lies in the data folder is made anew when it is gone.
    std::fs::remove_file(&kept).expect("removed");
    assert_eq!(server.ask(&["reload"]), "reloaded; these count now: auth.admin_key\n");
    let second = std::fs::read_to_string(&kept).expect("made anew");
    assert_eq!((admin(&first), admin(&second)), (401, 200));
    let mine = folder.path().join("mine");
    std::fs::write(&mine, "an-admin-key-of-my-own-0123456789").expect("written");
    std::fs::write(&file, format!("[auth]\nadmin_key_file = {mine:?}\n")).expect("written");
    assert_eq!(server.ask(&["reload"]), "reloaded; these count now: auth.admin_key, auth.admin_key_file\n");
    assert_eq!((admin(&second), admin("an-admin-key-of-my-own-0123456789")), (401, 200));
    assert_eq!(server.ask(&["reload"]), "reloaded; nothing that counts at once has changed\n");
}

#[test]
fn the_single_key_comes_changes_and_goes() {
    let place = Place::new("");
    let works = |key: &str| place.server.anyone().with("X-API-Key", key).get("/v1/jobs").status;
    let (one, other) = ("the-single-key-number-one", "the-single-key-number-two");
    assert_eq!(works(one), 401);
    for (key, gone) in [(one, other), (other, one), (one, other)] {
        let said = place.reload(&format!("[auth]\napi_key = {key:?}\n"));
        assert_eq!(said, "reloaded; these count now: auth.api_key\n");
        assert_eq!((works(key), works(gone)), (200, 401));
    }
    assert_eq!(place.server.admin().all_pages("/admin/tenants").len(), 1, "they act for the same tenant");
    place.reload("");
    assert_eq!((works(one), works(other)), (401, 401));
}

/// As `systemctl reload` does, for those who have no systemd.
#[test]
fn a_hangup_reads_the_configuration_again_and_ends_nothing() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, "[log]\nlevel = \"info\"\n").expect("written");
    let path = file.path().to_str().expect("a path").to_owned();
    let mut server = Setup::testbed().env("AGENTD_CONFIG", &path).start();
    let client = server.client();
    let gate = server.gate("gate");
    let id = client.submit("test.gate", &json!({ "gate": gate.path() }));
    client.wait_for(&id, "job.started");
    std::fs::write(&file, "[log]\nlevel = \"debug\"\n").expect("written");
    server.signal(Signal::HUP);
    let told = server.wait_for_log("that it was read", |line| line["message"] == "configuration reloaded");
    assert_eq!(told["changed"], "log.level");
    // What is wrong changes nothing and is told.
    std::fs::write(&file, "[log]\nlevl = \"info\"\n").expect("written");
    server.signal(Signal::HUP);
    server
        .wait_for_log("that it was not read", |line| line["level"] == "ERROR" && line.to_string().contains("log.levl"));
    gate.open();
    assert_eq!(client.finished(&id)["status"], "succeeded", "the job was not disturbed");
    // While it stops there is nothing to reload, and it is no signal to stop at once.
    server.signal(Signal::TERM);
    server.signal(Signal::HUP);
    let (status, _) = server.wait_for_end();
    assert!(status.success(), "{status}");
}

#[test]
fn a_hangup_while_it_starts_does_not_end_it() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let data = folder.path().join("data").to_string_lossy().into_owned();
    let mut command = Setup::real().command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("the program starts");
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("a pipe")));
    let mut lines = lines.map_while(Result::ok);
    let pid = rustix::process::Pid::from_child(&child);
    assert!(lines.any(|line| line.contains("\"starting\"")), "it starts");
    rustix::process::kill_process(pid, Signal::HUP).expect("told");
    assert!(lines.any(|line| line.contains("\"ready\"")), "it goes on");
    assert!(lines.any(|line| line.contains("configuration reloaded")), "and does what it was told");
    rustix::process::kill_process(pid, Signal::TERM).expect("told");
    lines.for_each(drop);
    assert!(child.wait().expect("it ends").success());
}
