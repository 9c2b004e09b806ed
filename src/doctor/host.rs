//! The machine: the data folder, open files, the service manager.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Finding, Service};
use crate::config::DataSection;
use crate::vault::{self, Standing};

/// Fewer open files than this are soon used up: each connection is one.
const FEW_FILES: u64 = 4096;
/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(4);
const UNIT: &str = "agentd.service";

pub(super) fn examine(data: &DataSection, service: Service) -> Vec<Finding> {
    let mut findings = vec![folder(&data.dir), space(data)];
    findings.extend(owners(&data.dir));
    findings.push(master_key(data));
    findings.push(files(service));
    findings.extend(systemd());
    findings
}

fn folder(dir: &Path) -> Finding {
    let what = format!("data folder {}", dir.display());
    let metadata = match std::fs::metadata(dir) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Finding::ok(what, "is not there yet; the first start makes it");
        }
        Err(error) => return Finding::warn(what, format!("cannot be looked at: {error}"), "sudo agentd doctor"),
    };
    if !metadata.is_dir() {
        return Finding::fail(what, "is no folder", "move it away, or set data.dir");
    }
    let read_only =
        rustix::fs::statvfs(dir).is_ok_and(|facts| facts.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    if read_only {
        return Finding::fail(
            what,
            "is on a file system that is mounted read-only",
            "look at dmesg, then mount it again",
        );
    }
    if let Err(error) = std::fs::read_dir(dir) {
        return Finding::warn(what, format!("cannot be read: {error}"), "sudo agentd doctor");
    }
    if metadata.mode() & 0o077 != 0 {
        let detail = format!("others than its owner may look into it (mode {:o})", metadata.mode() & 0o777);
        return Finding::warn(what, detail, format!("chmod 700 {}", dir.display()));
    }
    Finding::ok(what, "can be used")
}

/// Files that belong to somebody else than the folder, as a start by root
/// leaves them.
fn owners(dir: &Path) -> Option<Finding> {
    let owner = std::fs::metadata(dir).ok()?.uid();
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    // Of the file system's own, where the folder is where a volume begins.
    let entries = entries.filter(|entry| entry.file_name() != "lost+found");
    let foreign = entries.filter(|entry| entry.metadata().is_ok_and(|file| file.uid() != owner));
    let names: Vec<_> = foreign.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let first = names.first()?;
    let detail = format!("{} belongs to somebody else than the folder ({} such)", first, names.len());
    let dir = dir.display();
    Some(Finding::fail("owner of the data", detail, format!("stop the service; chown -R --reference={dir} {dir}")))
}

/// Whether the secrets in the database can be opened.
fn master_key(data: &DataSection) -> Finding {
    let what = "master key";
    match vault::examine(data) {
        Ok(Standing::Here(id)) => Finding::ok(what, format!("{id}, the one that the database belongs to")),
        Ok(Standing::Unused) => Finding::ok(what, "nothing is sealed yet"),
        Ok(Standing::Changes) => Finding::ok(what, "the next start seals everything anew with the new one"),
        Ok(Standing::Elsewhere(id)) => {
            let detail = format!("{id} cannot be seen from here; the service was last given it by its configuration");
            Finding::warn(what, detail, "nothing, where it is a credential of the unit: systemctl cat agentd")
        }
        Ok(Standing::Unseen(why)) => {
            Finding::warn(what, format!("the database cannot be looked at: {why}"), "sudo agentd doctor")
        }
        Err(fault) => Finding::fail(what, fault.to_string(), "the service does not start so: docs/secrets.md"),
    }
}

fn space(data: &DataSection) -> Finding {
    let what = "disk space";
    let there = data.dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
    match rustix::fs::statvfs(there) {
        Err(error) => Finding::warn(what, format!("cannot be measured: {error}"), "df shows it"),
        Ok(facts) => {
            let free = facts.f_bavail.saturating_mul(facts.f_frsize);
            let shown = format!("{} MiB free, {} MiB needed (data.min_free)", free >> 20, data.min_free >> 20);
            if free < data.min_free {
                return Finding::fail(what, shown, "make space: below that new jobs are refused");
            }
            if free < data.min_free.saturating_mul(4) {
                return Finding::warn(what, shown, "make space soon");
            }
            Finding::ok(what, shown)
        }
    }
}

fn files(service: Service) -> Finding {
    let what = "open files";
    let limits = match service {
        Service::Running(pid) => std::fs::read_to_string(format!("/proc/{pid}/limits")).ok(),
        Service::Absent | Service::Unknown => None,
    };
    let limit = match &limits {
        Some(limits) => most_files(limits),
        None => rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
    };
    let of = if limits.is_some() { "the service" } else { "a program started here" };
    match limit {
        Some(limit) if limit < FEW_FILES => {
            let detail = format!("{of} may have {limit} open, each connection is one");
            Finding::warn(what, detail, "raise LimitNOFILE= of the unit, or ulimit -Hn")
        }
        Some(limit) => Finding::ok(what, format!("{of} may have {limit}")),
        None => Finding::ok(what, format!("{of} may have any number")),
    }
}

/// The limit that holds, out of `/proc/PID/limits`.
fn most_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// What systemd says of the unit; nothing where it does not run or has none.
fn systemd() -> Option<Finding> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let what = format!("systemd {UNIT}");
    let text = match ask(&["show", UNIT, "--property=LoadState,ActiveState,SubState,Result,ExecMainStatus,NRestarts"]) {
        Ok(text) => text,
        Err(error) => return Some(Finding::warn(what, error, "systemctl status agentd")),
    };
    let facts: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let fact = |name| facts.get(name).copied().unwrap_or_default();
    if fact("LoadState") != "loaded" {
        return None;
    }
    Some(unit(what, fact("ActiveState"), fact("Result"), fact("ExecMainStatus"), fact("NRestarts")))
}

fn unit(what: String, active: &str, result: &str, status: &str, restarts: &str) -> Finding {
    let log = "journalctl -u agentd -n 50 says why";
    match active {
        "active" if restarts != "0" && !restarts.is_empty() => {
            Finding::warn(what, format!("runs, after {restarts} restarts that nobody asked for"), log)
        }
        "active" => Finding::ok(what, "runs"),
        "failed" | "activating" if status == "78" => {
            let detail = "ended because of its configuration (78), and is not started again";
            Finding::fail(what, detail, "agentd check --config /etc/agentd/agentd.toml, then systemctl restart agentd")
        }
        "failed" => Finding::fail(what, format!("failed: {result}, exit code {status}"), log),
        other => Finding::warn(what, format!("is {other}"), "systemctl enable --now agentd"),
    }
}

fn ask(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("systemctl");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("systemctl cannot be run: {error}"))?;
    let start = Instant::now();
    // What it prints fits into the pipe, so it need not be read meanwhile.
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("systemctl does not answer within {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn the_unit_is_judged_by_what_systemd_says() {
        let state = |active, status, restarts| unit("x".into(), active, "exit-code", status, restarts).state;
        assert_eq!(state("active", "0", "0"), State::Ok);
        assert_eq!(state("active", "0", "3"), State::Warn);
        assert_eq!(state("failed", "1", "0"), State::Fail);
        assert_eq!(state("inactive", "0", "0"), State::Warn);
        let configuration = unit("x".into(), "failed", "exit-code", "78", "0");
        assert!(configuration.advice.expect("advice").contains("agentd check"));
    }

    #[test]
    fn the_limit_of_open_files_is_read() {
        let text = std::fs::read_to_string("/proc/self/limits").expect("a file");
        assert_eq!(most_files(&text), rustix::process::getrlimit(rustix::process::Resource::Nofile).current);
    }

    #[test]
    fn a_folder_is_looked_at_before_it_is_there_and_after() {
        let folder_of = tempfile::TempDir::new().expect("a folder");
        assert_eq!(folder(&folder_of.path().join("none")).state, State::Ok);
        let file = folder_of.path().join("file");
        std::fs::write(&file, "").expect("written");
        assert_eq!(folder(&file).state, State::Fail);
    }
}
