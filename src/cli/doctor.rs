//! `agentd doctor`: whether what the service needs is there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::failure::Failure;
use super::output::plain;
use super::{ConfigFile, exit};
use crate::clock::Clock;
use crate::config::{self, Loaded, Sources};
use crate::doctor::{Finding, LONGEST, State, examine};

/// What the unit of the package reads, and the folders that it has.
const INSTALLED: &str = "/etc/agentd/agentd.toml";
const FOLDERS: [(&str, &str); 2] = [("STATE_DIRECTORY", "/var/lib/agentd"), ("RUNTIME_DIRECTORY", "/run/agentd")];
/// How long the service may take to take a connection.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  sudo agentd doctor\n  agentd doctor --config agentd.toml --json\n\n\
                        Without --config it looks at what is installed, /etc/agentd/agentd.toml, if that is there and \
                        there is no ./data. It changes nothing. Exit code 1 where something does not work so.")]
pub(super) struct Arguments {
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
    /// Data folder of the service
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::other(error).report(),
    };
    let findings = runtime.block_on(async {
        let looking = tokio::time::timeout(LONGEST, look(arguments)).await;
        let late = |_| vec![Finding::fail("doctor", "it did not come to an end", "look at the disk of this machine")];
        looking.unwrap_or_else(late)
    });
    // A folder that never answers must not keep it.
    runtime.shutdown_background();
    let failed = findings.iter().any(|finding| finding.state == State::Fail);
    if arguments.json {
        say!("{}", json!({ "ok": !failed, "findings": findings }));
    } else {
        print(&findings);
    }
    ExitCode::from(if failed { exit::FAILED } else { 0 })
}

async fn look(arguments: &Arguments) -> Vec<Finding> {
    let (sources, of) = sources(arguments);
    let what = format!("configuration {of}");
    let Loaded { config, warnings, .. } = match config::load(&sources) {
        Ok(loaded) => loaded,
        Err(faults) => {
            let advice = "correct it; agentd check reads it again";
            return faults.iter().map(|fault| Finding::fail(&what, fault.to_string(), advice)).collect();
        }
    };
    let mut findings = vec![Finding::ok(&what, "is valid")];
    findings.extend(warnings.into_iter().map(|it| Finding::warn(&what, it, "remove it, or set what is meant")));
    let (running, finding) = match config.control_socket() {
        Some(socket) => service(&socket).await,
        None => {
            let advice = "only with server.control_socket it can be seen whether it runs";
            (None, Finding::warn("service", "server.control_socket is off", advice))
        }
    };
    findings.push(finding);
    findings.extend(examine(&config, running, &Clock::system()).await);
    findings
}

/// What the service reads, as far as it can be known from here, and its name.
fn sources(arguments: &Arguments) -> (Sources, String) {
    let installed = Path::new(INSTALLED);
    let nobody_says = arguments.file.config.is_none() && arguments.data_dir.is_none();
    let found = nobody_says && installed.exists() && !Path::new("data").exists();
    let file = if found { Some(installed.to_owned()) } else { arguments.file.config.clone() };
    let name = file.as_ref().map_or_else(|| "of the environment".into(), |file| file.display().to_string());
    let mut sources = Sources::of_process(file);
    if sources.file.as_deref() == Some(installed) {
        for (variable, folder) in FOLDERS {
            sources.environment.entry(variable.into()).or_insert_with(|| folder.into());
        }
    }
    if let Some(dir) = &arguments.data_dir {
        sources.flags.push(("data.dir", "--data-dir", dir.to_string_lossy().into_owned()));
    }
    (sources, name)
}

/// Whether it runs, with its process.
async fn service(socket: &Path) -> (Option<u32>, Finding) {
    let connected = tokio::time::timeout(PATIENCE, UnixStream::connect(socket)).await;
    match connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(stream) => {
            let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok());
            (pid, ready(stream, pid.unwrap_or_default()).await)
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let detail = format!("{} may not be opened: {error}", socket.display());
            (None, Finding::warn("service", detail, "sudo agentd doctor"))
        }
        Err(_) => {
            let detail = format!("does not run (nobody answers at {})", socket.display());
            (None, Finding::warn("service", detail, "start it: systemctl start agentd, or agentd serve"))
        }
    }
}

/// What it says of itself: the kernel takes connections for one that hangs, too.
async fn ready(mut stream: UnixStream, pid: u32) -> Finding {
    let mut head = [0; 12];
    let exchange = async {
        stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        stream.read_exact(&mut head).await
    };
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(Ok(_)) if head.starts_with(b"HTTP/1.1 200") => Finding::ok("service", format!("runs, process {pid}")),
        Ok(Ok(_)) => {
            let detail = format!("runs, process {pid}, and is not ready");
            Finding::fail("service", detail, "GET /ready names what fails; the log says more")
        }
        Ok(Err(_)) | Err(_) => {
            let detail = format!("hangs, process {pid}: it takes a connection and does not answer");
            Finding::fail("service", detail, "systemctl restart agentd; the log says more: journalctl -u agentd -n 50")
        }
    }
}

fn print(findings: &[Finding]) {
    let mut counts = [0_usize; 2];
    for Finding { state, what, detail, advice } in findings {
        let word = match state {
            State::Ok => "ok  ",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        counts[0] += usize::from(*state == State::Fail);
        counts[1] += usize::from(*state == State::Warn);
        say!("{word}  {} — {}", plain(what), plain(detail));
        if let Some(advice) = advice {
            say!("      → {}", plain(advice));
        }
    }
    let [faults, warnings] = counts;
    say!("{faults} {}, {warnings} {}", counted("fault", faults), counted("warning", warnings));
}

fn counted(word: &str, count: usize) -> String {
    if count == 1 { word.into() } else { format!("{word}s") }
}
