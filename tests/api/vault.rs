//! The master key: what is sealed with it, what happens without it, and another
//! in its place.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;

use crate::support::cli::{agentd, say};
use crate::support::{Server, Setup};

const PLAIN: &str = "-----BEGIN PRIVATE KEY-----\nTm90aGluZyB0byBzZWUgaGVyZQ==\n-----END PRIVATE KEY-----\n";
const ACCOUNT: &str = r#"{"id":"https://ca.example/acct/1","key_pkcs8":"dGhlIGFjY291bnQncyBrZXk="}"#;

fn key_file(server: &Server) -> std::path::PathBuf {
    server.data().join("secrets/master.key")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn database(server: &Server) -> Connection {
    Connection::open(server.data().join("agentd.db")).expect("opens")
}

/// What an agentd without a vault leaves behind, also between its rows.
fn write_plain(database: &Connection) {
    database.execute("INSERT INTO acme_accounts VALUES ('https://ca.example/dir', ?1, 1)", [ACCOUNT]).expect("written");
    for row in 0..20 {
        let name = format!("{row}.example.test");
        let sql = "INSERT INTO certificates (name, chain, private_key, directory, issued_at, order_key)
                   VALUES (?1, 'none', ?2, 'https://ca.example/dir', 1, ?2)";
        database.execute(sql, [&name, PLAIN]).expect("written");
        let sql = "UPDATE certificates SET private_key = ?2, order_key = NULL WHERE name = ?1";
        database.execute(sql, [&name, &PLAIN.replace("Tm90", "QW5v")]).expect("written");
    }
    database.execute("DELETE FROM certificates WHERE name LIKE '1_.%'", []).expect("deleted");
}

/// The files of the database in which one of these is to be read.
fn files_with(server: &Server, hidden: &[&str]) -> Vec<String> {
    let files = std::fs::read_dir(server.data()).expect("a folder").flatten();
    let files = files.filter(|file| file.file_name().to_string_lossy().starts_with("agentd.db"));
    let has = |file: &std::fs::DirEntry| {
        let bytes = std::fs::read(file.path()).expect("a file");
        hidden.iter().any(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    };
    files.filter(has).map(|file| file.file_name().to_string_lossy().into_owned()).collect()
}

fn sealed(server: &Server) -> Vec<(String, String)> {
    let database = database(server);
    let mut statement = database.prepare("SELECT name, sealed FROM secrets ORDER BY name").expect("a table");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.collect::<Result<_, _>>().expect("rows")
}

/// A service with something sealed in it, stopped.
fn with_secrets() -> Server {
    let mut server = Server::real();
    server.stop();
    write_plain(&database(&server));
    server.start_again(|setup| setup);
    server.stop();
    server
}

#[test]
fn what_was_plain_is_sealed_once_and_nothing_of_it_is_left() {
    let hidden = ["PRIVATE KEY", "Tm90aGluZyB0", "QW5vaGluZyB0", "key_pkcs8", "dGhlIGFjY291bnQ"];
    let mut server = Server::real();
    // The log of the database stays beside it, with what was in it.
    server.kill();
    write_plain(&database(&server));
    assert!(!files_with(&server, &hidden).is_empty(), "the test would see it");
    server.start_again(|setup| setup);
    let line = server.wait_for_log("that it was sealed", |line| line["secrets"].is_u64());
    assert_eq!(line["secrets"], 11, "{line}");
    assert_eq!(files_with(&server, &hidden), Vec::<String>::new());
    let log = server.stop().join("\n");
    assert!(!log.contains("PRIVATE KEY") && !log.contains("dGhlIGFj"), "{log}");
    assert_eq!(files_with(&server, &hidden), Vec::<String>::new());
    let rows = sealed(&server);
    assert_eq!(rows.len(), 12);
    assert!(rows.iter().all(|(_, sealed)| sealed.starts_with("sealed:1:")), "{rows:?}");
    // The binary from before finds nothing in its columns, and no rows are lost.
    let left =
        "SELECT (SELECT count(*) FROM acme_accounts), count(private_key), count(order_key), count(*) FROM certificates";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    let counts: (i64, i64, i64, i64) = database(&server).query_row(left, [], row).expect("a row");
    assert_eq!(counts, (0, 0, 0, 10));
    server.start_again(|setup| setup);
    let log = server.stop().join("\n");
    assert!(!log.contains("sealed private keys"), "{log}");
}

#[test]
fn without_its_key_nothing_starts_and_it_is_said_what_to_do() {
    let mut server = with_secrets();
    let (path, kept) = (key_file(&server), text(&key_file(&server)));
    let id = sealed(&server)[0].1.split(':').nth(2).expect("an id").to_owned();
    let other = say(&mut agentd(&["admin", "new-master-key"]), "").ok();
    for wrong in [None, Some(other.as_str()), Some("agmk1_0011"), Some("")] {
        match wrong {
            None => std::fs::remove_file(&path).expect("removed"),
            Some(text) => std::fs::write(&path, text).expect("written"),
        }
        let (code, said) = Setup::real().refused(&server.data());
        assert_eq!(code, 78, "{wrong:?}: {said}");
        assert!(said.contains("secrets/master.key"), "{wrong:?}: {said}");
        if wrong.is_none() || wrong == Some(&other) {
            for part in [id.as_str(), "Put that key back", "restore an encrypted backup", "agentd admin forget-secrets"]
            {
                assert!(said.contains(part), "{wrong:?}: no {part} in {said}");
            }
        }
        let mut check = agentd(&["check"]);
        let said = say(check.env("AGENTD_DATA_DIR", server.data()), "");
        assert!(said.code == 78 && said.err.contains("secrets/master.key"), "{wrong:?}: {said:?}");
        let said = server.agentd(&["doctor", "--json"]);
        let found: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
        let found = found["findings"].as_array().expect("a list").iter().find(|it| it["what"] == "master key");
        assert_eq!(found.expect("a finding")["state"], "fail", "{wrong:?}: {said:?}");
        assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), wrong, "no other key is made");
    }
    std::fs::write(&path, kept).expect("written");
    let found = server.agentd(&["doctor"]).out;
    assert!(found.contains(&format!("master key — {id}")), "{found}");
    server.start_again(|setup| setup);
}

#[test]
fn secrets_can_be_given_up_when_the_key_is_lost_for_good() {
    let mut server = with_secrets();
    let path = key_file(&server);
    std::fs::remove_file(&path).expect("removed");
    Setup::real().refused(&server.data());
    let said = server.agentd(&["admin", "forget-secrets"]).refused(2);
    assert!(said.contains("--yes"), "{said}");
    let said = server.ask(&["admin", "forget-secrets", "--yes"]);
    assert!(said.starts_with("given up: 11;"), "{said}");
    assert_eq!(sealed(&server).len(), 0);
    server.start_again(|setup| setup);
    assert!(path.exists(), "with a key of its own");
    let said = server.agentd(&["admin", "forget-secrets", "--yes"]).refused(75);
    assert!(said.contains("in use by process"), "{said}");
    server.stop();
    assert_eq!(sealed(&server).len(), 1, "the mark of the new key");
    let said = agentd(&["admin", "forget-secrets", "--yes", "--data-dir", "/does/not/exist"]);
    assert!(say(&mut { said }, "").refused(1).contains("no database"));
}

#[test]
fn the_running_service_changes_its_key() {
    let mut server = with_secrets();
    server.start_again(|setup| setup);
    let (path, old, before) = (key_file(&server), text(&key_file(&server)), sealed(&server));
    let said = server.ask(&["admin", "rotate-master-key"]);
    assert!(said.contains("the master key is ") && said.contains("anew: 11"), "{said}");
    assert_ne!(text(&path), old);
    server.wait_for_log("who changed it", |line| line["message"] == "audit: the master key was changed");
    let rotated = server.admin().post("/admin/master-key/rotate", &json!({})).expect(200);
    assert_eq!(rotated["secrets"], 11);
    server.client().post("/admin/master-key/rotate", &json!({})).problem(401, "unauthorized");
    let log = server.stop().join("\n");
    assert!(!log.contains("agmk1_"), "a key is in the log");
    let after = sealed(&server);
    assert!(before.iter().zip(&after).all(|(one, other)| one.0 == other.0 && one.1 != other.1));
    std::fs::write(&path, old).expect("written");
    let (code, said) = Setup::real().refused(&server.data());
    assert!(code == 78 && said.contains(rotated["key_id"].as_str().expect("an id")), "{said}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("a file").permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn killed_at_any_point_of_a_change_the_key_opens_the_database() {
    let mut server = with_secrets();
    let path = key_file(&server);
    let next = path.with_extension("key.new");
    // Before the transaction: the new key lies there, and nothing is sealed with it.
    let other = say(&mut agentd(&["admin", "new-master-key"]), "").ok();
    std::fs::write(&next, other).expect("written");
    server.start_again(|setup| setup);
    // After it: all is sealed with the new one, which has not come into its place.
    let old = text(&path);
    server.ask(&["admin", "rotate-master-key"]);
    server.kill();
    std::fs::rename(&path, &next).expect("renamed");
    std::fs::write(&path, &old).expect("written");
    let check = say(agentd(&["check"]).env("AGENTD_DATA_DIR", server.data()), "");
    assert_eq!(check.code, 0, "{check:?}");
    server.start_again(|setup| setup);
    assert!(text(&path) != old && !next.exists());
    // And wherever chance has it.
    for round in 0..8_u64 {
        std::thread::scope(|scope| {
            let admin = server.admin();
            let rotating = scope
                .spawn(move || while admin.exchange("POST", "/admin/master-key/rotate", &[], Some(b"{}")).is_ok() {});
            std::thread::sleep(Duration::from_millis(3 + 7 * round));
            server.signal(rustix::process::Signal::KILL);
            rotating.join().expect("it ends");
        });
        server.wait_for_end();
        server.start_again(|setup| setup);
    }
    server.ask(&["admin", "rotate-master-key"]);
    server.stop();
    assert_eq!(sealed(&server).len(), 12);
}

#[test]
fn a_credential_is_not_missed_by_those_who_do_not_have_it() {
    let mut server = with_secrets();
    let credentials = server.path("credentials");
    std::fs::create_dir(&credentials).expect("made");
    std::fs::rename(key_file(&server), credentials.join("data.master_key")).expect("moved");
    server.start_again(|setup| setup.env("CREDENTIALS_DIRECTORY", &credentials.to_string_lossy()));
    let said = say(agentd(&["check"]).env("AGENTD_DATA_DIR", server.data()), "");
    assert!(said.code == 0 && said.err.contains("cannot be seen from here"), "{said:?}");
    let said = server.agentd(&["doctor"]).out;
    assert!(said.contains("warn  master key"), "{said}");
    server.agentd(&["admin", "rotate-master-key"]).refused(1);
    server.stop();
    assert!(!key_file(&server).exists());
    let (code, said) = Setup::real().refused(&server.data());
    assert!(code == 78 && said.contains("master.key has nothing"), "{said}");
}

#[test]
fn a_configured_key_is_changed_where_it_is_configured() {
    let mut server = with_secrets();
    let new = |name: &str| {
        let path = server.path(name);
        std::fs::write(&path, say(&mut agentd(&["admin", "new-master-key"]), "").ok()).expect("written");
        path.to_string_lossy().into_owned()
    };
    let (first, second) = (new("first"), new("second"));
    let kept = key_file(&server).to_string_lossy().into_owned();
    let set = |name: &str, path: &str| (format!("AGENTD_DATA_{name}_FILE"), path.to_owned());
    for (now, before) in [(&first, &kept), (&second, &first)] {
        let ((key, key_path), (previous, previous_path)) = (set("MASTER_KEY", now), set("PREVIOUS_MASTER_KEY", before));
        let alone = Setup::real().env(&key, &key_path);
        let (code, said) = alone.refused(&server.data());
        assert!(code == 78 && said.contains("data.master_key is the key "), "{said}");
        server.start_again(|setup| setup.env(&key, &key_path).env(&previous, &previous_path));
        server.wait_for_log("that it was sealed anew", |line| line["secrets"] == 11 && line["to"].is_string());
        let said = server.agentd(&["admin", "rotate-master-key"]).refused(1);
        assert!(said.contains("data.previous_master_key"), "{said}");
        server.admin().post("/admin/master-key/rotate", &json!({})).problem(409, "master_key_configured");
        server.restart();
        server.stop();
        server.start_again(|setup| setup.without_env(&previous));
        server.stop();
    }
    let said = Setup::real().env("AGENTD_DATA_MASTER_KEY", "agmk1_mistyped").refused(&server.data());
    assert!(said.0 == 78 && said.1.contains("data.master_key is no master key"), "{said:?}");
}

#[test]
fn a_backup_is_not_restored_without_the_key_that_its_secrets_need() {
    let mut server = with_secrets();
    server.start_again(|setup| setup);
    server.ask(&["backup", "create"]);
    server.stop();
    let backups = server.data().join("backups");
    let backup = std::fs::read_dir(backups).expect("a folder").flatten().next().expect("a backup").path();
    let kept = server.path("kept");
    std::fs::create_dir(&kept).expect("a folder");
    std::fs::write(kept.join("key-hash.secret"), "something that is no master key\n").expect("written");
    let data = server.path("elsewhere");
    let restore = |more: &[&str]| {
        let mut command = agentd(&["restore", &backup.display().to_string()]);
        say(command.arg("--data-dir").arg(&data).args(more), "")
    };
    let refused = restore(&["--secrets", &kept.display().to_string()]).refused(1);
    assert!(refused.contains("sealed with the master key") && refused.contains("is not there"), "{refused}");
    assert!(!data.join("agentd.db").exists(), "nothing was restored");
    std::fs::copy(key_file(&server), kept.join("master.key")).expect("copied");
    restore(&["--secrets", &kept.display().to_string()]).ok();
    assert!(data.join("secrets/master.key").is_file());
}
