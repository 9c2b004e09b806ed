//! Never a silent fresh service: what looks like the path of the data and is not,
//! and what is left of a service whose database is gone.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::raw::Raw;
use crate::support::server::run;
use crate::support::{Server, Setup};

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

/// A service in a folder of its own, started without `--data-dir`.
fn serve(place: &TempDir, setup: &Setup) -> (i32, String) {
    run(setup.command(&["serve", "--listen", "127.0.0.1:0"]).current_dir(place.path()))
}

fn entries(place: &TempDir) -> usize {
    std::fs::read_dir(place.path()).expect("a folder").count()
}

/// A data folder as a service that has ended leaves it.
fn used() -> TempDir {
    let mut server = Server::real();
    server.tenant("a");
    server.stop();
    server.into_folder()
}

#[test]
fn what_nobody_sees_in_a_path_is_refused_and_shown() {
    let place = folder();
    let data = place.path().join("data").to_string_lossy().into_owned();
    let paths = [
        ("AGENTD_DATA_DIR", "data.dir"),
        ("AGENT_DB_PATH", "data.database"),
        ("AGENTD_DATA_DATABASE", "data.database"),
        ("AGENTD_BACKUP_DIR", "backup.dir"),
        ("AGENTD_BACKUP_IDENTITY_FILE", "backup.identity_file"),
        ("AGENTD_SERVER_CONTROL_SOCKET", "server.control_socket"),
        ("AGENTD_TLS_CERT_FILE", "tls.cert_file"),
        ("AGENTD_TLS_KEY_FILE", "tls.key_file"),
        ("AGENTD_AUTH_ADMIN_KEY_FILE", "auth.admin_key_file"),
        ("AGENTD_DATA_MASTER_KEY_FILE", "data.master_key_file"),
        ("AGENTD_OUTBOUND_EXTRA_CA", "outbound.extra_ca"),
        ("AGENTD_ACME_DNS_HOOK", "acme.dns_hook"),
    ];
    let odd = [
        (format!("\"{data}\""), format!(r#""\"{data}\"""#), "quotation marks"),
        (format!("'{data}'"), format!("\"'{data}'\""), "quotation marks"),
        (format!("{data}\r"), format!(r#""{data}\r""#), "carriage return"),
        (format!("{data}\n"), format!(r#""{data}\n""#), "line break"),
        (format!("{data}\t"), format!(r#""{data}\t""#), "a tab"),
        (format!("{data} "), format!("\"{data} \""), "a blank"),
        (format!(" {data}"), format!("\" {data}\""), "a blank"),
        (format!("{data}\u{200b}"), format!(r#""{data}\u{{200b}}""#), "U+200B"),
    ];
    for (variable, key) in paths {
        for (value, shown, what) in &odd {
            let (code, said) = serve(&place, &Setup::real().without_env("AGENT_ADMIN_KEY").env(variable, value));
            assert_eq!(code, 78, "{variable}={value:?}: {said}");
            let told = format!("environment {variable}: {key} is {shown}, and ");
            assert!(said.contains(&told) && said.contains(what), "{told} {what} is missing in {said}");
        }
    }
    assert_eq!(entries(&place), 0, "nothing was begun elsewhere");
}

#[test]
fn the_same_is_refused_in_the_file_and_on_the_command_line() {
    let place = folder();
    let file = place.path().join("agentd.toml");
    std::fs::write(&file, "[data]\ndir = \"data \"\n[backup]\ndir = 7\n").expect("written");
    let file = file.to_string_lossy();
    let (code, said) = run(Setup::real().command(&["serve", "--config", &file]).current_dir(place.path()));
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("agentd.toml:2:1: data.dir is \"data \", and a blank"), "{said}");
    assert!(
        said.contains("agentd.toml:4:1: backup.dir must be a string: write it in quotation marks, as \"7\""),
        "{said}"
    );
    let flags: [&[&str]; 3] = [
        &["serve", "--data-dir", "\"data\""],
        &["serve", "--config", "'agentd.toml'"],
        &["check", "--config", "agentd.toml\r"],
    ];
    for arguments in flags {
        let (code, said) = run(Setup::real().command(arguments).current_dir(place.path()));
        assert_eq!(code, 78, "{arguments:?}: {said}");
        assert!(said.contains("quotation marks") || said.contains("carriage return"), "{said}");
    }
    assert_eq!(entries(&place), 1, "only the file");
}

#[test]
fn what_is_not_utf8_is_refused_and_not_left_out() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let place = folder();
    let bytes = OsStr::from_bytes(b"/tmp/caf\xe9");
    let mut by_variable = Setup::real().command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut by_flag = Setup::real().command(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
    for command in [by_variable.env("AGENTD_DATA_DIR", bytes), by_flag.arg(bytes)] {
        let (code, said) = run(command.current_dir(place.path()));
        assert_eq!(code, 78, "{said}");
        assert!(said.contains("data.dir is") && said.contains("not UTF-8"), "{said}");
    }
    assert_eq!(entries(&place), 0);
}

#[test]
fn secrets_are_not_shown_when_something_is_odd_about_them() {
    let place = folder();
    for odd in ["\"hide-me-hide-me-hide-me\"", "hide-me\nhide-me-hide-me"] {
        let (code, said) = serve(&place, &Setup::real().env("AGENT_ADMIN_KEY", odd));
        assert_eq!(code, 78, "{said}");
        assert!(said.contains("environment AGENT_ADMIN_KEY: auth.admin_key: ") && !said.contains("hide-me"), "{said}");
    }
    let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIHide\n-----END PRIVATE KEY-----";
    let (code, said) = serve(&place, &Setup::real().env("AGENTD_TLS_KEY_FILE", key));
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("tls.key_file is (the text of a key or certificate, not shown)"), "{said}");
    assert!(!said.contains("MC4CAQ"), "{said}");
}

#[test]
fn a_misspelt_variable_is_refused_and_those_of_kubernetes_are_not() {
    let place = folder();
    let (code, said) = serve(&place, &Setup::real().env("AGENTD_DATADIR", "/nowhere"));
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("environment AGENTD_DATADIR: unknown variable; did you mean \"AGENTD_DATA_DIR\"?"), "{said}");
    let (code, said) = serve(&place, &Setup::real().env("AGENTD_COLOUR", "blue"));
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("AGENTD_COLOUR: unknown variable") && !said.contains("did you mean"), "{said}");
    assert_eq!(entries(&place), 0);

    let mut setup = Setup::real();
    for service in ["AGENTD", "AGENTD_SERVER", "AGENTD_DATA"] {
        for (name, value) in [
            ("SERVICE_HOST", "10.96.0.7"),
            ("SERVICE_PORT", "8000"),
            ("SERVICE_PORT_HTTP", "8000"),
            ("PORT", "tcp://10.96.0.7:8000"),
            ("PORT_8000_TCP", "tcp://10.96.0.7:8000"),
            ("PORT_8000_TCP_PROTO", "tcp"),
            ("PORT_8000_TCP_PORT", "8000"),
            ("PORT_8000_TCP_ADDR", "10.96.0.7"),
        ] {
            setup = setup.env(&format!("{service}_{name}"), value);
        }
    }
    let server = setup.start();
    let told = server.wait_for_log("what is ignored", |line| {
        line["message"].as_str().is_some_and(|message| message.starts_with("ignoring variables that Kubernetes"))
    });
    assert_eq!(told["level"], "INFO");
    assert!(told["message"].to_string().contains("AGENTD_SERVER_PORT_8000_TCP"), "{told}");
}

/// Starts a service in a folder, asks whether it is ready, and stops it; the answer.
#[track_caller]
fn readiness(place: &TempDir, command: &mut Command) -> String {
    let mut child = command.current_dir(place.path()).stdout(Stdio::piped()).spawn().expect("the program starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let mut lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(&line).expect("JSON"));
    let ready = lines.find(|line| line["message"] == "ready").expect("it is ready");
    let mut asked = Raw::connect(ready["address"].as_str().expect("an address"));
    asked.send("GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = asked.read_to_end();
    kill_process(Pid::from_child(&child), Signal::TERM).expect("told");
    lines.for_each(drop);
    assert!(child.wait().expect("it ends").success());
    answer
}

#[test]
fn a_database_without_a_folder_in_its_name_lies_in_the_present_one() {
    let place = folder();
    let mut command = Setup::real().env("AGENT_DB_PATH", "jobs.db").command(&["serve", "--listen", "127.0.0.1:0"]);
    let answer = readiness(&place, &mut command);
    assert!(answer.starts_with("HTTP/1.1 200"), "its disk is not full: {answer}");
    assert!(place.path().join("jobs.db").exists());
}

#[test]
fn a_folder_whose_name_looks_like_a_uri_is_a_folder() {
    let place = folder();
    let mut command = Setup::real().command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", "file:data"]);
    let answer = readiness(&place, &mut command);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(place.path().join("file:data/agentd.db").exists());
    assert_eq!(entries(&place), 1, "there is no database elsewhere");
}

#[test]
fn names_that_are_no_file_are_refused() {
    let place = folder();
    for name in
        ["file:jobs.db", "file:/tmp/jobs.db?mode=memory", ":memory:", "jobs.db?mode=ro", "/data/", "sqlite:jobs.db"]
    {
        let (code, said) = serve(&place, &Setup::real().env("AGENT_DB_PATH", name));
        assert_eq!(code, 78, "{name}: {said}");
        assert!(said.contains(&format!("data.database is {name:?}")) && said.contains("write the path of"), "{said}");
    }
    assert_eq!(entries(&place), 0);
}

#[test]
fn a_link_does_not_get_past_the_lock() {
    let server = Server::real();
    let place = folder();
    let real = server.data().join("agentd.db");
    let link = place.path().join("link.db");
    symlink(&real, &link).expect("a link");
    let data = place.path().join("data");
    let (code, said) = Setup::real().env("AGENT_DB_PATH", &link.to_string_lossy()).refused(&data);
    assert_eq!(code, 75, "{said}");
    assert!(said.contains(&format!("in use by process {}", server.pid())), "{said}");
    // One link more, and the folder as a link.
    let other = place.path().join("other");
    symlink(server.data(), &other).expect("a link");
    let (code, said) = Setup::real().refused(&other);
    assert_eq!(code, 75, "{said}");

    std::fs::hard_link(&real, place.path().join("hard.db")).expect("a link");
    let (code, said) =
        Setup::real().env("AGENT_DB_PATH", &place.path().join("hard.db").to_string_lossy()).refused(&data);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("2 names (hard links)"), "{said}");
    std::fs::remove_file(place.path().join("hard.db")).expect("removed");

    symlink(place.path().join("nothing.db"), place.path().join("dangling.db")).expect("a link");
    let (code, said) =
        Setup::real().env("AGENT_DB_PATH", &place.path().join("dangling.db").to_string_lossy()).refused(&data);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("dangling.db is a link to") && said.contains("nothing.db"), "{said}");
    server.admin().get("/admin/tenants").expect(200);
}

/// Refused with what was found and the way back, and nothing is made.
#[track_caller]
fn is_no_first_start(data: &Path, found: &str) {
    let count = || {
        std::fs::read_dir(data)
            .expect("a folder")
            .filter(|it| it.as_ref().expect("one").file_name() != "agentd.lock")
            .count()
    };
    let before = count();
    let (code, said) = Setup::real().refused(data);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("agentd.db") && said.contains(found), "{found} is missing in {said}");
    assert!(said.contains("agentd restore") && said.to_lowercase().contains("to begin anew"), "{said}");
    assert_eq!(count(), before, "nothing was made");
}

#[test]
fn a_database_that_is_gone_or_empty_is_no_first_start() {
    let place = used();
    let data = place.path().join("data");
    let database = data.join("agentd.db");
    std::fs::write(&database, "").expect("written");
    is_no_first_start(&data, "has 0 bytes");
    std::fs::remove_file(&database).expect("removed");
    is_no_first_start(&data, "secrets");

    // Without secrets too, where something else is left.
    std::fs::remove_dir_all(data.join("secrets")).expect("removed");
    for (remains, is_folder) in
        [("backups", true), ("snapshots", true), ("agentd.db-wal", false), ("agentd.db-shm", false)]
    {
        let path = data.join(remains);
        if is_folder {
            std::fs::create_dir(&path).expect("a folder");
            std::fs::write(path.join("a"), "x").expect("written");
        } else {
            std::fs::write(&path, "").expect("written");
        }
        is_no_first_start(&data, remains);
        if is_folder { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.expect("removed");
    }

    // A database of somebody's that has no tables.
    std::fs::create_dir(data.join("secrets")).expect("a folder");
    std::fs::write(data.join("secrets/admin.key"), "x").expect("written");
    rusqlite::Connection::open(&database)
        .and_then(|it| it.execute_batch("PRAGMA user_version = 1"))
        .expect("a database");
    is_no_first_start(&data, "there is nothing in the database");

    // Moved away, it is one.
    for left in ["secrets", "agentd.db"] {
        std::fs::rename(data.join(left), place.path().join(left)).expect("moved");
    }
    let started = Setup::real().start_in(place);
    started.client().run(&serde_json::json!({ "tool": "echo" }));
}

#[test]
fn a_database_elsewhere_is_missed_too() {
    let place = used();
    let elsewhere = place.path().join("elsewhere/jobs.db");
    let (code, said) =
        Setup::real().env("AGENT_DB_PATH", &elsewhere.to_string_lossy()).refused(&place.path().join("data"));
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("jobs.db") && said.contains("data/agentd.db") && said.contains("secrets"), "{said}");
    assert!(!elsewhere.exists());
}

/// A first start that is killed at any moment is followed by another one.
#[test]
fn a_first_start_that_was_cut_short_is_done_again() {
    let place = folder();
    let data = place.path().join("data");
    for milliseconds in (0..40).chain([60, 80, 120, 200]) {
        let mut server = command_in(&data);
        std::thread::sleep(Duration::from_millis(milliseconds));
        server.kill().expect("killed");
        server.wait().expect("it ends");
        if data.join("secrets").exists() {
            break;
        }
        let left = data.join("agentd.db");
        assert!(!left.exists() || std::fs::metadata(&left).expect("a file").len() > 0, "a file of 0 bytes is left");
    }
    let mut server = Setup::real().start_in(place);
    server.tenant("a");
    server.stop();
}

fn command_in(data: &Path) -> Child {
    let data = data.to_string_lossy();
    let mut command = Setup::real().command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts")
}

#[test]
fn backups_elsewhere_are_told_at_a_first_start() {
    let backups = folder();
    std::fs::write(backups.path().join("agentd-5f3c9a1e-t1-s6-20300131T093000.000Z.tar.zst"), "x").expect("written");
    let server = Setup::real().env("AGENTD_BACKUP_DIR", &backups.path().to_string_lossy()).start();
    let told = server.wait_for_log("that there are backups", |line| {
        line["message"].as_str().is_some_and(|message| message.starts_with("beginning with an empty database"))
    });
    assert!(told["message"].to_string().contains("agentd restore"), "{told}");
}
