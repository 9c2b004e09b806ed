//! Backups of a service that works, and restoring them without it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::cli::{Said, agentd, say};
use crate::support::{Key, Server, Setup, eventually};

/// An age key of an administrator, who keeps it elsewhere.
struct AgeKey {
    folder: TempDir,
    public: String,
}

impl AgeKey {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let made = Command::new("age-keygen").arg("-o").arg(folder.path().join("key.txt")).output();
        assert!(made.expect("age is there (make test-deps)").status.success());
        let made = Command::new("age-keygen").arg("-y").arg(folder.path().join("key.txt")).output().expect("it runs");
        let public = String::from_utf8(made.stdout).expect("text").trim().to_owned();
        Self { folder, public }
    }

    fn path(&self) -> String {
        self.folder.path().join("key.txt").display().to_string()
    }
}

/// The only backup there is.
#[track_caller]
fn only(server: &Server) -> PathBuf {
    let all = names(&server.data().join("backups"));
    assert_eq!(all.len(), 1, "{all:?}");
    server.data().join("backups").join(&all[0])
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[track_caller]
fn restore(backup: &Path, data: &Path, more: &[&str]) -> Said {
    let mut command = agentd(&["restore", &backup.display().to_string()]);
    // Nothing of the tests' own secrets: those of the backup are what counts.
    command.env_remove("AGENT_KEY_HASH_SECRET").env_remove("AGENT_ADMIN_KEY");
    say(command.arg("--data-dir").arg(data).args(more), "")
}

/// With the secrets that every installed service makes for itself.
fn installed() -> Setup {
    Setup::real().without_env("AGENT_KEY_HASH_SECRET")
}

/// A service with a tenant, a key and a job that is done.
fn busy(setup: Setup) -> (Server, Key, String) {
    let server = setup.start();
    let tenant = server.tenant("acme");
    let key = server.key(&tenant);
    let client = server.anyone().with_key(&key);
    let job = client.submit("echo", &json!({ "kept": "yes" }));
    client.finished(&job);
    (server, key, job)
}

#[track_caller]
fn goes_on(folder: TempDir, key: &Key, job: &str) -> Server {
    let server = installed().start_in(folder);
    let client = server.anyone().with_key(key);
    assert_eq!(client.job(job)["result"]["kept"], "yes", "the job is there, and so is the right to see it");
    client.finished(&client.submit("echo", &json!({})));
    server
}

#[test]
fn what_is_lost_comes_back_with_everything_that_it_needs() {
    let admin = AgeKey::new();
    let (mut server, key, job) = busy(installed().env("AGENTD_BACKUP_RECIPIENTS", &admin.public));
    let said = server.ask(&["backup", "create"]);
    assert!(said.contains("tar.zst.age is made"), "{said}");
    let listed = server.ask_json(&["backup", "list"]);
    assert_eq!((&listed["data"][0]["encrypted"], &listed["data"][0]["here"]), (&json!(true), &json!(true)), "{listed}");
    assert!(server.ask(&["backup", "verify"]).contains("can be restored"));
    let backup = only(&server);
    server.stop();

    // Another machine, with nothing but the file and the key of the administrator.
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    let refused = restore(&backup, &data, &[]).refused(1);
    assert!(refused.contains("--identity"), "{refused}");
    let said = restore(&backup, &data, &["--identity", &admin.path()]).ok();
    assert!(said.contains("start the service"), "{said}");
    let mut restored = goes_on(folder, &key, &job);

    // It makes one at once, which is a line of its own, and its own key opens it.
    eventually("it makes one", || {
        names(&restored.data().join("backups"))
            .into_iter()
            .find(|name| name.starts_with("agentd-") && name.contains("-t2-"))
    });
    eventually("it can be restored", || {
        let said = restored.agentd(&["backup", "verify"]);
        (said.code == 0 && said.out.contains("-t2-")).then_some(())
    });
    restored.stop();
}

#[test]
fn a_backup_opens_without_agentd() {
    let admin = AgeKey::new();
    let (mut server, ..) = busy(installed().env("AGENTD_BACKUP_RECIPIENTS", &admin.public));
    server.ask(&["backup", "create"]);
    let backup = only(&server);
    let folder = TempDir::new().expect("a folder");
    let pipe = format!(
        "age -d -i {} {} | zstd -dc | tar x -C {} && sha256sum {0}.db 2>/dev/null; ls {2}/secrets",
        admin.path(),
        backup.display(),
        folder.path().display()
    );
    let done = Command::new("sh").args(["-c", &pipe]).output().expect("a shell");
    let listed = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(listed.contains("key-hash.secret"), "{listed}{}", String::from_utf8_lossy(&done.stderr));
    let manifest = std::fs::read_to_string(folder.path().join("manifest.json")).expect("the manifest");
    let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
    assert_eq!(manifest["agentd"], env!("CARGO_PKG_VERSION"));
    assert!(folder.path().join("agentd.db").is_file());
    server.stop();
}

#[test]
fn without_encryption_there_are_no_secrets_in_it() {
    let (mut server, key, job) = busy(installed());
    server.ask(&["backup", "create"]);
    let backup = only(&server);
    server.stop();
    let unpacked = zstd(&backup);
    let secret = std::fs::read_to_string(server.data().join("secrets/key-hash.secret")).expect("the secret");
    assert!(!unpacked.windows(secret.trim().len()).any(|window| window == secret.trim().as_bytes()));

    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    let refused = restore(&backup, &data, &[]).refused(1);
    assert!(refused.contains("--secrets") && refused.contains("--new-secrets"), "{refused}");
    assert!(!data.join("agentd.db").exists());
    let kept = server.data().join("secrets").display().to_string();
    restore(&backup, &data, &["--secrets", &kept]).ok();
    goes_on(folder, &key, &job).stop();

    let folder = TempDir::new().expect("a folder");
    restore(&backup, &folder.path().join("data"), &["--new-secrets"]).ok();
    let mut server = installed().start_in(folder);
    server.anyone().with_key(&key).get("/v1/jobs").problem(401, "unauthorized");
    server.stop();
}

fn zstd(path: &Path) -> Vec<u8> {
    let done = Command::new("zstd").arg("-dc").arg(path).output().expect("zstd is there (make test-deps)");
    done.stdout
}

#[test]
fn nothing_is_put_over_what_is_there() {
    let (mut server, key, job) = busy(installed());
    server.ask(&["backup", "create"]);
    let backup = only(&server);
    let refused = restore(&backup, &server.data(), &["--force"]).refused(1);
    assert!(refused.contains("is in use by process"), "while the service runs: {refused}");
    let later = server.anyone().with_key(&key).submit("echo", &json!({ "later": true }));
    server.anyone().with_key(&key).finished(&later);
    server.stop();

    let before = names(&server.data());
    let refused = restore(&backup, &server.data(), &[]).refused(1);
    assert!(refused.contains("--force"), "{refused}");
    assert_eq!(names(&server.data()), before, "nothing was touched");
    let said = restore(&backup, &server.data(), &["--force"]).ok();
    assert!(said.contains("before-restore-"), "{said}");
    let aside = names(&server.data()).into_iter().find(|name| name.starts_with("before-restore-")).expect("a folder");
    let old = server.data().join(aside).join("agentd.db");
    assert!(old.is_file(), "what was there is moved aside");
    server.start_again(|setup| setup);
    let client = server.anyone().with_key(&key);
    assert_eq!(client.job(&job)["result"]["kept"], "yes");
    client.get(&format!("/v1/jobs/{later}")).problem(404, "not_found");
    server.stop();
}

#[test]
fn a_log_that_was_left_behind_is_not_taken_for_the_restored_ones() {
    let (mut server, key, job) = busy(installed());
    server.ask(&["backup", "create"]);
    let backup = only(&server);
    let client = server.anyone().with_key(&key);
    for at in 0..200 {
        client.submit("echo", &json!({ "at": at }));
    }
    server.kill();
    server.unchecked();
    let log = server.data().join("agentd.db-wal");
    assert!(log.metadata().is_ok_and(|log| log.len() > 0), "it was killed");
    std::fs::remove_file(server.data().join("agentd.db")).expect("removed by somebody in a hurry");
    restore(&backup, &server.data(), &[]).ok();
    assert!(!log.exists(), "it is moved aside");
    server.start_again(|setup| setup);
    let client = server.anyone().with_key(&key);
    assert_eq!(client.job(&job)["result"]["kept"], "yes");
    assert!(client.all_pages("/v1/jobs").len() < 200, "those of the log are not there");
    server.stop();
}

#[test]
fn a_restore_that_was_cut_short_keeps_the_service_from_beginning_anew() {
    let (mut server, key, job) = busy(installed());
    server.ask(&["backup", "create"]);
    let backup = only(&server);
    server.stop();
    // As it is when the power goes between two files.
    std::fs::remove_file(server.data().join("agentd.db")).expect("moved aside");
    std::fs::write(server.data().join("restore-under-way"), "").expect("written");
    let (code, said) = installed().refused(&server.data());
    assert!(code == 78 && said.contains("was cut short"), "{code} {said}");
    assert!(!server.data().join("agentd.db").exists(), "nothing was begun");
    restore(&backup, &server.data(), &[]).ok();
    server.start_again(|setup| setup);
    assert_eq!(server.anyone().with_key(&key).job(&job)["result"]["kept"], "yes");
    server.stop();
}

#[test]
fn the_secrets_of_another_instance_are_not_taken_for_its_own() {
    let (mut server, ..) = busy(installed());
    server.ask(&["backup", "create"]);
    let backup = only(&server);
    server.stop();
    // As the package leaves a new machine.
    let (mut other, ..) = busy(installed());
    other.stop();
    let secrets = names(&other.data().join("secrets"));
    let refused = restore(&backup, &other.data(), &["--force"]).refused(1);
    assert!(refused.contains("holds no secrets"), "{refused}");
    assert_eq!(names(&other.data().join("secrets")), secrets);
    assert!(other.data().join("agentd.db").is_file(), "nothing was touched");
}

#[test]
fn a_backup_of_no_use_is_refused_and_said_why() {
    let admin = AgeKey::new();
    let (mut server, ..) = busy(installed().env("AGENTD_BACKUP_RECIPIENTS", &admin.public));
    server.ask(&["backup", "create"]);
    let backup = only(&server);
    server.stop();
    let whole = std::fs::read(&backup).expect("the file");
    let folder = TempDir::new().expect("a folder");
    let (file, data) = (folder.path().join("backup"), folder.path().join("data"));
    let mut altered = whole.clone();
    let last = altered.len() / 2;
    altered[last] ^= 1;
    let stranger = AgeKey::new().path();
    for (what, bytes, said) in [
        ("cut off", &whole[..whole.len() - 200], "is damaged"),
        ("altered", &altered[..], "is damaged"),
        ("nothing", b"", "is no backup"),
        ("another file", b"#!/bin/sh\nexit 0\n# and something more\n", "is no backup"),
    ] {
        std::fs::write(&file, bytes).expect("written");
        let refused = restore(&file, &data, &["--identity", &admin.path()]).refused(1);
        assert!(refused.contains(said), "{what}: {refused}");
        let refused = say(
            agentd(&["backup", "verify", &file.display().to_string(), "--identity", &admin.path()])
                .current_dir(folder.path()),
            "",
        );
        assert!(refused.refused(1).contains(said), "{what}");
    }
    std::fs::write(&file, &whole).expect("written");
    let other = AgeKey::new();
    let refused = restore(&file, &data, &["--identity", &other.path()]).refused(1);
    assert!(refused.contains("for somebody else"), "{refused}");
    let refused = restore(&file, &data, &["--identity", &stranger]).refused(1);
    assert!(refused.contains("cannot read"), "a file that is gone: {refused}");
    let refused = restore(&folder.path().join("none"), &data, &[]).refused(1);
    assert!(refused.contains("none"), "{refused}");
    assert!(!data.join("agentd.db").exists(), "nothing was restored");
    assert_eq!(names(&data).iter().filter(|name| name.contains("partial")).count(), 0, "nothing is left");
}

#[test]
fn a_newer_schema_is_refused() {
    let migrations = TempDir::new().expect("a folder");
    let migration = migrations.path().join("migration.sql");
    std::fs::write(&migration, "CREATE TABLE of_the_future (x INTEGER) STRICT;").expect("written");
    let mut server = Setup::testbed().env("TESTBED_MIGRATION_FILE", &migration.display().to_string()).start();
    server.ask(&["backup", "create"]);
    let backup = only(&server);
    server.stop();
    server.unchecked();
    let folder = TempDir::new().expect("a folder");
    let refused = restore(&backup, &folder.path().join("data"), &["--new-secrets"]).refused(1);
    assert!(refused.contains("schema version") && refused.contains("install the agentd that made it"), "{refused}");
}

#[test]
fn two_at_once_are_one() {
    let server = Server::real();
    let admin = server.admin();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = || admin.post("/admin/backups", &json!({})).status;
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|asked| asked.join().expect("no panic")).collect()
    });
    let made = answers.iter().filter(|status| **status == 202).count();
    assert!(made >= 1 && answers.iter().all(|status| matches!(status, 202 | 409)), "{answers:?}");
    eventually("those that were accepted are made", || {
        (names(&server.data().join("backups")).iter().filter(|name| name.ends_with("zst")).count() == made)
            .then_some(())
    });
}

#[test]
fn one_is_made_each_day_and_old_ones_go() {
    let folder = TempDir::new().expect("a folder");
    let clock = |setup: Setup| {
        setup.env("AGENTD_BACKUP_EVERY", "24h").env("AGENTD_BACKUP_KEEP", "2").env("AGENTD_BACKUP_KEEP_DAYS", "2")
    };
    let mut server = clock(Setup::testbed().clock(folder.path())).start_in(folder);
    let backups = server.data().join("backups");
    let made = |count: usize| {
        eventually("a backup is made", || {
            let log = server.log();
            (log.iter().filter(|line| line.contains("a backup was made")).count() >= count).then_some(())
        });
    };
    for day in 1..=5 {
        server.let_pass(day * 86_400 + 3_600);
        made(usize::try_from(day).expect("few"));
    }
    // Nothing but one for each day, of which the newest are kept.
    assert_eq!(server.log().iter().filter(|line| line.contains("a backup was made")).count(), 5);
    eventually("old ones go", || (names(&backups).len() == 2).then_some(()));
    // An hour after a backup it is tried out for the first time, by itself.
    server.let_pass(5 * 86_400 + 3 * 3_600);
    let tried =
        server.wait_for_log("that it can be restored", |line| line["message"].to_string().contains("as a test"));
    assert_eq!(tried["level"], "INFO", "{tried}");
    let status = server.admin().get("/admin/status").expect(200);
    assert!(status["last_drill"]["at"].is_string() && status["last_drill"]["problem"].is_null(), "{status}");
    server.stop();
}

#[test]
fn what_a_killed_service_left_is_cleared_away() {
    let mut server = Server::real();
    let backups = server.data().join("backups");
    std::fs::create_dir_all(&backups).expect("a folder");
    std::fs::write(backups.join(".copy.partial"), "half").expect("written");
    std::fs::write(backups.join("mine.txt"), "not ours").expect("written");
    server.ask(&["backup", "create"]);
    let left = names(&backups);
    assert!(left.len() == 2 && left.contains(&"mine.txt".to_owned()), "{left:?}");
    server.stop();
}

#[test]
fn a_failure_is_said_everywhere() {
    let server = Setup::real().env("AGENTD_BACKUP_DIR", "/proc/nowhere").start();
    let refused = server.agentd(&["backup", "create"]).refused(1);
    assert!(refused.contains("/proc/nowhere"), "{refused}");
    server.wait_for_log("the failure", |line| {
        line["level"] == "ERROR" && line["message"].to_string().contains("no backup")
    });
    let status = server.admin().get("/admin/status").expect(200);
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("no backup has succeeded") && warnings.contains("/proc/nowhere"), "{status}");
    let metrics = server.admin().get("/metrics").expect_text(200).to_owned();
    assert!(metrics.contains("\nagentd_backup_failures_total 1\n"), "{metrics}");
    assert!(metrics.contains("\nagentd_backup_last_success_timestamp_seconds 0\n"), "{metrics}");
}

#[test]
fn backups_are_for_the_administrator() {
    let server = Server::real();
    let made = server.ask_json(&["backup", "create"]);
    let name = made["name"].as_str().expect("a name").to_owned();
    let client = server.client();
    let path = format!("/admin/backups/{name}");
    for path in ["/admin/backups", &path] {
        client.get(path).problem(401, "unauthorized");
    }
    let admin = server.admin();
    let whole = admin.bytes(&path);
    assert_eq!(whole, std::fs::read(only(&server)).expect("the file"));
    for name in ["nothing", "..%2f..%2fagentd.db", "agentd-00000000-t1-s5-20300131T093000.000Z.tar.zst"] {
        admin.get(&format!("/admin/backups/{name}")).problem(404, "not_found");
        admin.post(&format!("/admin/backups/{name}/verify"), &json!({})).problem(404, "not_found");
    }
}

#[test]
fn what_was_acknowledged_before_it_was_begun_is_in_it() {
    let (mut server, key, _) = busy(installed());
    let client = server.anyone().with_key(&key);
    let before: Vec<_> =
        (0..200).map(|at| client.submit("echo", &json!({ "at": at, "pad": "x".repeat(2_000) }))).collect();
    // Others go on meanwhile.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let stop = &stop;
    std::thread::scope(|scope| {
        let writer = client.clone();
        scope.spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                writer.submit("echo", &json!({ "meanwhile": true }));
            }
        });
        server.ask(&["backup", "create"]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let backup = only(&server);
    server.stop();
    let folder = TempDir::new().expect("a folder");
    let kept = server.data().join("secrets").display().to_string();
    restore(&backup, &folder.path().join("data"), &["--secrets", &kept]).ok();
    let mut restored = installed().start_in(folder);
    let client = restored.anyone().with_key(&key);
    for job in &before {
        client.finished(job);
    }
    restored.stop();
    restored.record();
}
