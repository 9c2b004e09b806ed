//! `agentd setup`: the file that it changes, what it makes, and what it refuses
//! to begin with. What systemd and a certificate authority have to do with it is
//! tested where these are.

use std::path::{Path, PathBuf};

use insta::{Settings, assert_snapshot};
use serde_json::{Value, json};

use crate::support::cli::{Said, agentd, say};
use crate::support::{Server, Setup, eventually};

const PASSWORD: &str = "correct horse battery";
/// Nobody is asked for a certificate in these tests.
const NOWHERE: &str = "http://127.0.0.1:1/directory";
const TEXT: &str =
    "# The service of the tests.\n\n[server]\n# listen = \"127.0.0.1:8000\"\n\n[log]\nlevel = \"info\" # not more\n";

/// A service with a configuration file.
fn configured() -> (Server, PathBuf, tempfile::TempDir) {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("agentd.toml");
    std::fs::write(&file, TEXT).expect("written");
    let server = Setup::real().env("AGENTD_CONFIG", &file.to_string_lossy()).start();
    (server, file, folder)
}

fn flags<'a>(file: &'a Path, rest: &[&'a str]) -> Vec<&'a str> {
    let file = file.to_str().expect("text");
    let usual = [
        "setup",
        "--no-restart",
        "--config",
        file,
        "--domain",
        "agents.example.com",
        "--email",
        "ops@example.com",
        "--accept-terms",
        "--directory",
        NOWHERE,
        "--listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
        "--wait",
        "0s",
    ];
    usual.into_iter().chain(rest.iter().copied()).collect()
}

#[track_caller]
fn set_up(server: &Server, file: &Path, rest: &[&str]) -> Said {
    say(&mut server.verb(&flags(file, rest)), PASSWORD)
}

fn field<'a>(out: &'a str, name: &str) -> &'a str {
    let line = out.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {out}"));
    line[name.len()..].trim()
}

#[test]
fn a_fresh_service_is_set_up_and_nothing_is_done_twice() {
    let (mut server, file, _folder) = configured();
    let said = set_up(&server, &file, &["--password-file", "-", "--tenant", "Acme"]);
    assert!(said.err.contains("agentd.toml has been changed"), "{said:?}");
    let out = said.ok();
    let key = field(&out, "API key").split(' ').next().expect("a key").to_owned();
    let tenant = field(&out, "tenant").rsplit(' ').next().expect("an id").to_owned();
    let mut settings = Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| assert_snapshot!("cli_setup", out.replace(&key, "[key]").replace(&tenant, "[tenant_id]")));
    server.anyone().with("X-API-Key", &key).run(&json!({ "tool": "echo" }));
    server.anyone().post("/admin/session", &json!({ "name": "admin", "password": PASSWORD })).expect(201);
    let changed = std::fs::read_to_string(&file).expect("text");
    Settings::clone_current().bind(|| assert_snapshot!("setup_file", changed));

    // Again before the restart: nothing to do but the restart.
    let again = set_up(&server, &file, &[]);
    assert!(again.err.contains("says all this already"), "{again:?}");
    assert!(again.ok().contains("Restart it"));
    assert_eq!(std::fs::read_to_string(&file).expect("text"), changed);

    server.stop();
    server.start_again(|setup| setup);
    let said = set_up(&server, &file, &[]);
    assert_eq!(said.code, 75, "{said:?}");
    let again = said.out;
    assert!(again.contains("The certificate is not there yet"), "{again}");
    assert!(field(&again, "admin").contains("there was one already"));
    let listed = server.ask_json(&["tenant", "list"]);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "no second tenant");
    let log = server.stop().join("\n");
    for secret in [PASSWORD, &key] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn what_is_made_up_is_printed_once() {
    let (server, file, _folder) = configured();
    let said =
        say(&mut server.verb(&flags(&file, &["--generate-password", "--json", "--admin", "Ops@Example.com"])), "");
    let made: Value = serde_json::from_str(&said.clone().ok()).expect("JSON");
    assert_eq!((&made["admin"], &made["needs_restart"]), (&json!("ops@example.com"), &json!(true)));
    assert_eq!(made["address"], "https://agents.example.com:0");
    let password = made["password"].as_str().expect("a password");
    assert!(!said.err.contains(password));
    server.anyone().post("/admin/session", &json!({ "name": "ops@example.com", "password": password })).expect(201);
}

#[test]
fn an_expired_token_is_no_hindrance() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("agentd.toml");
    let server = Setup::testbed().start();
    server.set_clock(7200);
    // There is no file yet.
    set_up(&server, &file, &["--password-file", "-"]).ok();
    assert!(std::fs::read_to_string(&file).expect("made").contains("mode = \"acme\""));
}

#[test]
fn answers_come_from_a_file() {
    let (server, file, folder) = configured();
    let answers = folder.path().join("answers.toml");
    let verb = [
        "setup",
        "--no-restart",
        "--config",
        file.to_str().expect("text"),
        "--answers",
        answers.to_str().expect("text"),
    ];
    let with = |text: &str| {
        std::fs::write(&answers, text).expect("written");
        say(&mut server.verb(&verb), PASSWORD)
    };
    let good = format!(
        "domain = ['agents.example.com', 'www.example.com']\nemail = 'ops@example.com'\naccept_terms = true\n\
         directory = '{NOWHERE}'\nlisten = '127.0.0.1:0'\nhttp_listen = '127.0.0.1:0'\npassword_file = '-'\n"
    );
    for (wrong, told) in [
        ("domain = 3\n", "answers.toml:1: must be a name or a list of names"),
        ("# first\ndomian = 'a.example'\n", "answers.toml:2: unknown field `domian`"),
        (
            "domain = \"a.example\\nb\"\nemail = 'a@b.example'\naccept_terms = true\n",
            "--domain \"a.example\\nb\" must be",
        ),
        ("domain = 'a.example'\nemail = 'nobody'\naccept_terms = true\n", "--email \"nobody\" must be"),
        ("domain = 'a.example'\nemail = 'a@b.example'\n", "--accept-terms is missing"),
        ("domain = 'a.example'\n", "--email is missing"),
        ("[domain\n", "answers.toml:1: "),
    ] {
        let err = with(wrong).refused(2);
        assert!(err.contains(told), "{wrong:?}: {err}");
    }
    assert_eq!(std::fs::read_to_string(&file).expect("text"), TEXT, "nothing is changed");
    assert!(server.data().join("setup-token").exists());
    with(&good).ok();
    assert!(std::fs::read_to_string(&file).expect("text").contains("\"agents.example.com\", \"www.example.com\""));
}

#[test]
fn nothing_is_begun_that_cannot_be_ended() {
    let (server, file, folder) = configured();
    let refused = |rest: &[&str], code: i32, told: &str| {
        let err = set_up(&server, &file, rest).refused(code);
        assert!(err.contains(told), "{rest:?}: {err}");
        assert_eq!(std::fs::read_to_string(&file).expect("text"), TEXT, "{rest:?}: nothing is changed");
    };
    refused(&[], 2, "--password-file");
    let password = folder.path().join("password");
    std::fs::write(&password, "short\n").expect("written");
    refused(&["--password-file", password.to_str().expect("text")], 2, "must have at least 12 characters");
    refused(&["--password-file", "/nonexistent"], 1, "cannot be read");
    refused(&["--generate-password", "--domain", "*.example.com"], 78, "dns-01");
    refused(&["--generate-password", "--admin", "a b"], 2, "--admin");
    refused(&["--generate-password", "--ca-file", "/x", "--listen", "nonsense"], 2, "--listen");
    assert!(server.data().join("setup-token").exists(), "it is still in setup");

    std::fs::write(&file, "[server]\nbody_time = 3\n").expect("written");
    let err = set_up(&server, &file, &["--generate-password"]).refused(78);
    assert!(err.contains("agentd.toml:2:"), "{err}");
    std::fs::write(&file, "[server\n").expect("written");
    let err = set_up(&server, &file, &["--generate-password"]).refused(78);
    assert!(err.contains("agentd.toml:1"), "{err}");
}

#[test]
fn without_a_service_it_says_what_to_start() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (file, data) = (folder.path().join("agentd.toml"), folder.path().join("data"));
    let mut verb = agentd(&flags(&file, &["--generate-password", "--data-dir", data.to_str().expect("text")]));
    let said = say(&mut verb, "").refused(69);
    assert!(said.contains("start it"), "{said}");
}

/// A `systemctl` of the tests: the unit is active, and restarting it ends so.
fn systemctl(folder: &Path, restart: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let program = folder.join("systemctl");
    let text = format!("#!/bin/sh\ncase $1 in is-active) echo active;; restart) {restart};; esac\n");
    std::fs::write(&program, text).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    format!("{}:/usr/bin:/bin", folder.display())
}

#[test]
fn the_unit_is_restarted_and_waited_for() {
    let (mut server, file, folder) = configured();
    let asked = folder.path().join("asked");
    let path = systemctl(folder.path(), &format!("echo \"$2\" > {}", asked.display()));
    let arguments = flags(&file, &["--password-file", "-"]);
    let arguments: Vec<_> = arguments.into_iter().filter(|flag| *flag != "--no-restart").collect();
    let mut verb = server.verb(&arguments);
    verb.env("PATH", &path);
    let said = std::thread::scope(|scope| {
        let verb = scope.spawn(|| say(&mut verb, PASSWORD));
        eventually("the unit is restarted", || asked.exists().then_some(()));
        server.stop();
        server.start_again(|setup| setup);
        verb.join().expect("it ends")
    });
    assert_eq!(said.code, 75, "all is done but the certificate: {said:?}");
    assert_eq!(std::fs::read_to_string(&asked).expect("text"), "agentd.service\n");
    assert_eq!(field(&said.out, "admin"), "admin");
    assert!(said.out.contains("The certificate is not there yet"), "{said:?}");

    // From here on there is nothing to restart it for.
    std::fs::remove_file(&asked).expect("removed");
    let mut verb = server.verb(&arguments);
    verb.env("PATH", &path);
    assert_eq!(say(&mut verb, "").code, 75);
    assert!(!asked.exists());
}

#[test]
fn a_unit_that_does_not_start_is_told_of() {
    let (server, file, folder) = configured();
    let path = systemctl(folder.path(), "echo 'Job for agentd.service failed.' >&2; exit 1");
    let arguments = flags(&file, &["--generate-password"]);
    let mut verb = server.verb(&arguments.into_iter().filter(|flag| *flag != "--no-restart").collect::<Vec<_>>());
    let said = say(verb.env("PATH", &path), "").refused(1);
    assert!(said.contains("Job for agentd.service failed.") && said.contains("journalctl -u agentd"), "{said}");
    assert!(server.data().join("setup-token").exists(), "nobody has been made");
}

#[test]
fn on_a_terminal_it_asks() {
    let (server, file, _folder) = configured();
    let program = env!("CARGO_BIN_EXE_agentd");
    let line = format!(
        "{program} setup --no-restart --config {} --data-dir {} --directory {NOWHERE} --listen 127.0.0.1:0 \
         --http-listen 127.0.0.1:0",
        file.display(),
        server.data().display()
    );
    let terminal = |typed: &str| {
        let mut script = std::process::Command::new("script");
        script.args(["--quiet", "--return", "--echo", "never", "--command", &line, "/dev/null"]);
        say(script.env("SHELL", "/bin/sh"), typed)
    };
    let said = terminal("agents.example.com\nops@example.com\nn\n");
    assert_eq!((said.code, said.out.contains("nothing was changed")), (1, true), "{said:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("text"), TEXT);
    let said = terminal(&format!("a b\nagents.example.com\nops\nops@example.com\ny\n{PASSWORD}\n{PASSWORD}\n"));
    assert_eq!(said.code, 0, "{said:?}");
    for told in
        ["It must be a name such as", "It must be an e-mail address", "terms of service of http://127", "API key"]
    {
        assert!(said.out.contains(told), "{told}: {said:?}");
    }
    server.anyone().post("/admin/session", &json!({ "name": "admin", "password": PASSWORD })).expect(201);
}
