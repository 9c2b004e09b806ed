//! Starts on a disk that is full, and in a root folder that has no devices.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::Setup;
use crate::{Mount, call};

/// Takes work however little space there is.
fn roomy() -> Setup {
    Setup::real().env("AGENTD_DATA_MIN_FREE", "0")
}

/// Takes all of a disk but so many bytes.
fn take_all_but(disk: &Path, left: usize) -> PathBuf {
    let ballast = disk.join("ballast");
    let space = rustix::fs::statvfs(disk).expect("its space");
    let free = usize::try_from(space.f_bavail * space.f_frsize).expect("a small disk");
    std::fs::write(&ballast, vec![0; free.saturating_sub(left)]).expect("written");
    ballast
}

/// The service manager tries again, and somebody makes space meanwhile.
#[track_caller]
fn is_to_be_tried_again(disk: &Path, left: usize) {
    let ballast = take_all_but(disk, left);
    let (code, said) = roomy().refused(disk);
    assert_eq!(code, 75, "with {left} bytes left: {said}");
    assert!(said.contains("full") || said.contains("No space left"), "with {left} bytes left: {said}");
    assert!(said.contains("make space"), "with {left} bytes left: {said}");
    std::fs::remove_file(ballast).expect("removed");
}

#[test]
fn a_first_start_on_a_full_disk_ends_with_75_and_the_next_one_is_whole() {
    let folder = TempDir::new().expect("a folder");
    let mount = Mount::new(&folder.path().join("data"), "size=16m");
    for left in [0, 4 << 10, 32 << 10, 100 << 10] {
        is_to_be_tried_again(&mount.0, left);
    }
    let server = roomy().start_in(folder);
    assert_eq!(server.client().run(&json!({ "tool": "echo" }))["status"], "succeeded");
}

#[test]
fn a_start_on_a_disk_that_has_become_full_ends_with_75_and_loses_nothing() {
    let folder = TempDir::new().expect("a folder");
    let mount = Mount::new(&folder.path().join("data"), "size=16m");
    let mut server = roomy().start_in(folder);
    let client = server.client();
    let done = client.run(&json!({ "tool": "echo", "input": "kept" }));
    server.stop();
    for left in [0, 4 << 10] {
        is_to_be_tried_again(&mount.0, left);
    }
    server.start_again(|setup| setup);
    assert_eq!(client.job(done["job_id"].as_str().expect("an id"))["status"], "succeeded");
}

/// A service whose root folder holds nothing but the program and its data.
struct Bare(Child);

impl Bare {
    /// Starts it; its address. The program is linked statically.
    fn serve(root: &Path, settings: &[(&str, &str)]) -> (Self, String) {
        std::fs::copy(env!("CARGO_BIN_EXE_agentd"), root.join("agentd")).expect("copied");
        let mut setup = Setup::real();
        for (name, value) in settings {
            setup = setup.env(name, value);
        }
        let serve = setup.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", "/data"]);
        let mut bare = std::process::Command::new("chroot");
        bare.arg(root).arg("/agentd").args(serve.get_args());
        bare.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = bare.stdout(Stdio::piped()).spawn().expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line).expect("JSON"));
        let ready = lines.find(|line| line["message"] == "ready").expect("it is ready");
        std::thread::spawn(move || lines.for_each(drop));
        (Self(child), ready["address"].as_str().expect("an address").to_owned())
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("told");
        assert!(self.0.wait().expect("it ends").success());
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn without_devices_jobs_are_taken_and_keys_are_made() {
    assert!(rustix::process::geteuid().is_root(), "run the storage tests as root: they change the root folder");
    let root = TempDir::new().expect("a folder");
    let settings = [("AGENT_API_KEY", "a-single-key-of-the-tests-01"), ("AGENTD_TLS_MODE", "self_signed")];
    let (service, address) = Bare::serve(root.path(), &settings);
    assert!(!root.path().join("dev").exists());
    let url = format!("https://{address}/v1/jobs?wait=10");
    for place in 0..20 {
        let body = format!("{{\"tool\":\"echo\",\"input\":{place}}}");
        let head =
            ["--header", "X-API-Key: a-single-key-of-the-tests-01", "--header", "Content-Type: application/json"];
        let asked = ["--silent", "--show-error", "--fail", "--insecure", "--data", &body, &url];
        call("curl", &[&head[..], &asked[..]].concat());
    }
    service.stop();
}
