//! Starting where it cannot be: each refusal has its exit code and says what
//! to do.

use std::path::Path;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::server::run;
use crate::support::{Server, Setup};

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

/// A data folder as a service that has ended leaves it.
fn used() -> TempDir {
    let mut server = Server::real();
    server.tenant("a");
    server.stop();
    server.into_folder()
}

fn database(data: &Path) -> Connection {
    Connection::open(data.join("agentd.db")).expect("the database opens")
}

#[test]
fn a_taken_port_is_told() {
    let server = Server::real();
    let other = folder();
    let data = other.path().join("data");
    let arguments = ["serve", "--listen", &server.address(), "--data-dir", &data.to_string_lossy()];
    let (code, said) = run(&mut Setup::real().command(&arguments));
    assert_eq!(code, 69, "{said}");
    assert!(said.contains(&server.address()) && said.contains("another program has it"), "{said}");
    assert!(!data.exists(), "the data is not touched before the port is had");
}

#[test]
fn a_data_folder_in_use_is_told_with_the_pid() {
    let server = Server::real();
    let (code, said) = Setup::real().refused(&server.data());
    assert_eq!(code, 75, "{said}");
    assert!(said.contains(&format!("in use by process {}", server.pid())), "{said}");
    server.admin().get("/admin/tenants").expect(200);
}

#[test]
fn a_folder_that_cannot_be_used_is_told_with_the_reason() {
    let place = folder();
    let path = |name: &str| place.path().join(name);
    std::fs::write(path("file"), "a regular file").expect("written");
    std::os::unix::fs::symlink(path("nothing"), path("link")).expect("a link");
    let long_name = path(&"x".repeat(300));
    let long_path = place.path().join("long/".repeat(150));
    for (data, why) in [
        (path("file"), "it is a file, not a folder"),
        (path("file/data"), "/file is a file, not a folder"),
        (path("link"), "it is a link to"),
        (path("link/data"), "/link is a link to"),
        (long_name, "255 for each name"),
        (long_path, "SQLite takes"),
    ] {
        let (code, said) = Setup::real().refused(&data);
        assert_eq!(code, 78, "{said}");
        assert!(said.contains("cannot be used") && said.contains(why), "{why} is missing in {said}");
    }
    assert!(!path("long").exists(), "nothing is made in vain");
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let place = used();
    let data = place.path().join("data");
    let sql = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
               VALUES (9999, 'future', '2100-01-01T00:00:00Z', '1')";
    database(&data).execute(sql, []).expect("a row");
    let (code, said) = Setup::real().refused(&data);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("schema version 9999") && said.contains("install the newer agentd"), "{said}");
    let kept: i64 =
        database(&data).query_row("SELECT count(*) FROM tenants WHERE no > 0", [], |row| row.get(0)).expect("a count");
    assert_eq!(kept, 1);
}

#[test]
fn somebody_elses_database_is_refused_and_not_touched() {
    let place = folder();
    let data = place.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    database(&data).execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").expect("a table");
    let before = std::fs::read(data.join("agentd.db")).expect("a file");
    let (code, said) = Setup::real().refused(&data);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("not one of agentd's"), "{said}");
    assert!(std::fs::read(data.join("agentd.db")).expect("a file") == before, "not a byte of it may change");
}

#[test]
fn a_file_that_is_no_database_is_refused_and_not_touched() {
    let place = folder();
    let data = place.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    let text = "not a database, but long enough to have been one: ".repeat(100);
    std::fs::write(data.join("agentd.db"), &text).expect("written");
    let (code, said) = Setup::real().refused(&data);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("agentd.db\" is damaged: file is not a database"), "{said}");
    assert_eq!(std::fs::read_to_string(data.join("agentd.db")).expect("a file"), text);
}

/// What happens to the bytes of a file.
type Damage = fn(&mut Vec<u8>);

/// Whatever is wrong with it, and whoever meets it first.
#[test]
fn a_damaged_database_is_told_with_the_file_and_the_way_back() {
    let place = used();
    let data = place.path().join("data");
    let database = data.join("agentd.db");
    let whole = std::fs::read(&database).expect("a file");
    std::fs::create_dir_all(data.join("snapshots")).expect("a folder");
    std::fs::write(data.join("snapshots/agentd-schema0001.db"), "x").expect("written");
    let page = 4096;
    let damage: [(&str, Damage); 4] = [
        ("its head", |bytes| bytes[..100].fill(0x5a)),
        ("cut off", |bytes| bytes.truncate(2 * 4096)),
        ("zeroes", |bytes| bytes[4096..20 * 4096].fill(0)),
        ("garbage", |bytes| bytes[3 * 4096..].fill(0xa5)),
    ];
    assert!(whole.len() > 30 * page);
    for (what, damage) in damage {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        std::fs::write(&database, &bytes).expect("written");
        let (code, said) = Setup::real().refused(&data);
        assert_eq!(code, 78, "{what}: {said}");
        for part in ["agentd.db\" is damaged", "agentd restore --force", "the snapshot is"] {
            assert!(said.contains(part), "{what}: {part} is missing in {said}");
        }
        assert_eq!(std::fs::read(&database).expect("a file").len(), bytes.len(), "{what}: it was changed");
    }
    std::fs::write(&database, &whole).expect("written");
    std::fs::remove_dir_all(data.join("snapshots")).expect("removed");
    Setup::real().start_in(place).client().run(&serde_json::json!({ "tool": "echo" }));
}

/// `ulimit -f`: a write that goes too far would end the process without a word.
#[test]
fn a_limit_on_the_size_of_files_is_told() {
    let place = folder();
    for (kibibytes, starts) in [(4, false), (64, false), (300, false), (100_000, true)] {
        let data = place.path().join(format!("data{kibibytes}"));
        let serve = Setup::real().command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data.to_string_lossy()]);
        let limit = kibibytes * 1024_u64;
        let mut limited = std::process::Command::new("prlimit");
        limited.arg(format!("--fsize={limit}:{limit}")).arg(serve.get_program()).args(serve.get_args());
        if starts {
            let mut child = limited.stdout(std::process::Stdio::piped()).spawn().expect("the program starts");
            let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("a pipe")));
            let mut lines = lines.map_while(Result::ok);
            assert!(lines.any(|line| line.contains("no file may become larger than this")), "it is told");
            assert!(lines.any(|line| line.contains("\"ready\"")), "it starts");
            rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
                .expect("told");
            lines.for_each(drop);
            assert!(child.wait().expect("it ends").success());
            continue;
        }
        let (code, said) = run(&mut limited);
        assert_eq!(code, 78, "{kibibytes}: {said}");
        assert!(said.contains("ulimit -f") && said.contains(&limit.to_string()), "{said}");
    }
}

#[test]
fn too_few_open_files_are_told_and_a_few_are_shared_out() {
    let place = folder();
    let data = place.path().join("data").to_string_lossy().into_owned();
    let serve = Setup::real().command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    let mut limited = std::process::Command::new("prlimit");
    limited.arg("--nofile=50:50").arg(serve.get_program()).args(serve.get_args());
    let (code, said) = run(&mut limited);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("only 50 files open") && said.contains("LimitNOFILE="), "{said}");
}

#[test]
fn an_edited_migration_is_refused() {
    let place = used();
    let data = place.path().join("data");
    database(&data).execute("UPDATE refinery_schema_history SET checksum = '1'", []).expect("a row");
    let (code, said) = Setup::real().refused(&data);
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("could not be brought to this version"), "{said}");
}

#[test]
fn an_empty_secret_is_told() {
    let place = used();
    let data = place.path().join("data");
    let secrets = data.join("secrets");
    std::fs::create_dir_all(&secrets).expect("a folder");
    std::fs::write(secrets.join("admin.key"), "\n").expect("written");
    let (code, said) = Setup::real().without_env("AGENT_ADMIN_KEY").refused(&data);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("admin.key") && said.contains("is empty"), "{said}");
}

#[test]
fn the_lock_of_a_killed_process_is_free() {
    let mut server = Server::real();
    server.kill();
    server.start_again(|setup| setup);
    server.admin().get("/admin/tenants").expect(200);
}

#[test]
fn files_that_are_no_text_are_told() {
    let place = folder();
    let path = |name: &str| place.path().join(name).to_string_lossy().into_owned();
    for (bytes, what) in [
        (&b"[log]\nlevel = \"caf\xe9\"\n"[..], "bad.toml:2:13: there is a byte that is not UTF-8"),
        (&b"\xff\xfe[\0l\0"[..], "bad.toml: is UTF-16: save it as UTF-8"),
    ] {
        std::fs::write(path("bad.toml"), bytes).expect("written");
        let (code, said) = run(&mut Setup::real().command(&["serve", "--config", &path("bad.toml")]));
        assert_eq!(code, 78, "{said}");
        assert!(said.contains(what), "{said}");
    }
    std::fs::write(path("good.toml"), b"\xef\xbb\xbf[log]\r\nlevel = \"info\"\r\n").expect("written");
    let (code, said) = run(&mut Setup::real().command(&["check", "--config", &path("good.toml")]));
    assert_eq!(code, 0, "as an editor of Windows writes it: {said}");

    std::fs::write(path("secret"), b"hide-me-hide-me-\xe9-hide-me").expect("written");
    for variable in ["AGENTD_AUTH_ADMIN_KEY_FILE", "AGENTD_DATA_MASTER_KEY_FILE", "AGENTD_AUTH_KEY_HASH_SECRET_FILE"] {
        let setup = Setup::real().without_env("AGENT_ADMIN_KEY").without_env("AGENT_KEY_HASH_SECRET");
        let (code, said) = setup.env(variable, &path("secret")).refused(&place.path().join("data"));
        assert_eq!(code, 78, "{said}");
        assert!(said.contains("not UTF-8") && !said.contains("hide-me"), "{said}");
    }
}
