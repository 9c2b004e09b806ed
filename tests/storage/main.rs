//! A disk that is full, or refuses to be written: the service says so, loses
//! nothing, and goes on by itself once the disk does. The file systems are real
//! and small, so these tests need root.

#![allow(clippy::expect_used, reason = "a test says what it expected")]

mod start;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Client, Setup, eventually};
use tempfile::TempDir;

/// A file system of its own below a test's folder.
struct Mount(PathBuf);

impl Mount {
    #[track_caller]
    fn new(place: &Path, options: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "run the storage tests as root: they mount small file systems");
        std::fs::create_dir_all(place).expect("a folder");
        call("mount", &["-t", "tmpfs", "-o", options, "tmpfs", &place.to_string_lossy()]);
        Self(place.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = self.0.parent().map(std::fs::remove_dir_all);
    }
}

#[track_caller]
fn call(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().expect("the program is there");
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A testbed on so small a disk, with a ballast on it that can be thrown out: as
/// much as it takes to bring a log of all the rest into the database.
fn on_small_disk() -> (Mount, PathBuf, support::Server) {
    let folder = TempDir::new().expect("a folder");
    let mount = Mount::new(&folder.path().join("data"), "size=10m");
    let ballast = mount.0.join("ballast");
    std::fs::write(&ballast, vec![0; 5 << 20]).expect("written");
    let server = Setup::testbed().env("AGENTD_DATA_MIN_FREE", "0").start_in(folder);
    (mount, ballast, server)
}

/// Submits jobs of these sizes until the disk is full for each; those that were
/// acknowledged.
fn fill(client: &Client, sizes: &[usize]) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for &bytes in sizes {
        let job = json!({ "tool": "echo", "input": "x".repeat(bytes), "delay": 86_400 });
        loop {
            let answer = client.post("/v1/jobs", &job);
            if answer.status != 202 {
                let problem = answer.problem(503, "disk_full");
                assert_eq!(problem["detail"], "the disk is full; nothing was changed");
                assert!(answer.header("retry-after").is_some());
                break;
            }
            acknowledged.push(support::client::job_id(&answer.json()));
            assert!(acknowledged.len() < 500, "the disk does not fill");
        }
    }
    acknowledged
}

fn failing_parts(client: &Client) -> Vec<String> {
    let ready = client.get("/ready").json();
    let part = |failing: &Value| failing["part"].as_str().unwrap_or_default().to_owned();
    ready["failing"].as_array().into_iter().flatten().map(part).collect()
}

#[test]
fn a_full_disk_is_said_loses_nothing_and_is_recovered_from_without_a_restart() {
    let (_mount, ballast, mut server) = on_small_disk();
    let client = server.client();
    let gate = server.gate("gate");
    let running = client.submit("test.gate", &json!({ "gate": gate.path() }));
    client.wait_for(&running, "step.started");

    // Down to the smallest, or there may be room for a job's end.
    let acknowledged = fill(&client, &[100_000, 5_000, 1]);
    assert_eq!(failing_parts(&client), ["database"]);
    assert_eq!(client.job(&acknowledged[0])["status"], "waiting", "reading goes on");

    // What is running ends while nothing can be written; its end must wait.
    gate.open();
    client.post("/v1/jobs", &json!({ "tool": "echo", "input": "x".repeat(100_000) })).problem(503, "disk_full");
    assert_eq!(client.job(&running)["status"], "running", "its end cannot be on disk yet");
    std::fs::remove_file(ballast).expect("removed");

    eventually("ready again", || failing_parts(&client).is_empty().then_some(()));
    assert_eq!(client.finished(&running)["status"], "succeeded");
    assert_eq!(client.run(&json!({ "tool": "echo", "input": 1 }))["status"], "succeeded");
    for job in &acknowledged {
        assert_eq!(client.job(job)["status"], "waiting");
        server.leave_open(job);
    }
}

#[test]
fn a_full_disk_and_kill_9_leave_a_whole_database() {
    let (_mount, ballast, mut server) = on_small_disk();
    let client = server.client();
    let acknowledged = fill(&client, &[100_000]);
    server.kill();
    std::fs::remove_file(ballast).expect("removed");
    server.start_again(|setup| setup);
    for job in &acknowledged {
        assert_eq!(client.job(job)["status"], "waiting");
        server.leave_open(job);
    }
}

#[test]
fn new_work_is_refused_before_the_disk_is_full() {
    let folder = TempDir::new().expect("a folder");
    let _mount = Mount::new(&folder.path().join("data"), "size=16m");
    let server = Setup::real().env("AGENTD_DATA_MIN_FREE", "1GiB").start_in(folder);
    let client = server.client();
    client.post("/v1/jobs", &json!({ "tool": "echo" })).problem(503, "disk_nearly_full");
    assert_eq!(failing_parts(&client), ["disk"]);
    client.get("/v1/jobs").expect(200);
}

#[test]
fn a_file_that_refuses_writes_is_said_and_recovered_from() {
    let server = Setup::real().start();
    let client = server.client();
    let log = server.data().join("agentd.db-wal");
    let log = log.to_string_lossy();
    call("chattr", &["+i", &log]);
    let answer = client.post("/v1/jobs", &json!({ "tool": "echo" }));
    let parts = failing_parts(&client);
    call("chattr", &["-i", &log]);
    let problem = answer.json();
    let codes = ["storage_unavailable", "disk_read_only"];
    assert!(answer.status == 503 && codes.iter().any(|code| problem["code"] == *code), "{problem}");
    assert_eq!(parts, ["database"]);
    eventually("ready again", || failing_parts(&client).is_empty().then_some(()));
    assert_eq!(client.run(&json!({ "tool": "echo" }))["status"], "succeeded");
}

#[test]
fn a_read_only_file_system_is_refused_at_start() {
    let folder = TempDir::new().expect("a folder");
    let mount = Mount::new(&folder.path().join("data"), "size=4m,ro");
    let (code, said) = Setup::real().refused(&mount.0.join("below"));
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("cannot be used") && said.contains("must be a folder that this user can write"), "{said}");
}

/// Has a service stand still that has begun to copy its database, and leaves no
/// room but for the few pages that say how that ended.
fn fill_up_during_the_copy(server: &support::Server, disk: &Path, ballast: &Path) {
    let copy = disk.join("backups/.copy.partial");
    eventually("the copy is begun", || copy.exists().then_some(()));
    server.signal(Signal::STOP);
    let space = rustix::fs::statvfs(disk).expect("its space");
    let free = usize::try_from(space.f_bavail * space.f_frsize).expect("a small disk");
    std::fs::write(ballast, vec![0; free.saturating_sub(1 << 20)]).expect("written");
    server.signal(Signal::CONT);
}

#[test]
fn a_disk_that_fills_up_while_a_backup_is_made_costs_only_the_backup() {
    let folder = TempDir::new().expect("a folder");
    let mount = Mount::new(&folder.path().join("data"), "size=400m");
    let server = Setup::testbed().env("AGENTD_DATA_MIN_FREE", "0").start_in(folder);
    let client = server.client();
    for _ in 0..30 {
        client.submit("echo", &json!("x".repeat(900_000)));
    }
    let ballast = mount.0.join("ballast");
    // Where the copy was done before the disk was full, that is no answer.
    let full_in_time = || {
        let said = std::thread::scope(|scope| {
            scope.spawn(|| fill_up_during_the_copy(&server, &mount.0, &ballast));
            server.agentd(&["backup", "create"])
        });
        if said.code == 0 {
            std::fs::remove_file(&ballast).expect("removed");
            std::fs::remove_dir_all(mount.0.join("backups")).expect("removed");
        }
        (said.code != 0).then_some(said)
    };
    let said = eventually("the disk is full in time", full_in_time);
    assert!(said.code == 1 && said.err.contains("the disk is full"), "{} {}", said.code, said.err);
    std::fs::remove_file(ballast).expect("removed");
    let left = std::fs::read_dir(mount.0.join("backups")).expect("a folder").count();
    assert_eq!(left, 0, "nothing of it is left");
    eventually("ready again", || failing_parts(&client).is_empty().then_some(()));
    server.ask(&["backup", "create"]);
    assert_eq!(client.run(&json!({ "tool": "echo", "input": 1 }))["status"], "succeeded");
}
