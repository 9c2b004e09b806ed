//! `agentd doctor`: whether what the service needs is there.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::control::{Service as CliService, as_installed, read};
use super::failure::Failure;
use super::output::plain;
use super::{ConfigFile, exit};
use crate::clock::Clock;
use crate::config::{self, Config, Loaded};
use crate::doctor::{Finding, LONGEST, Service, State, examine};

/// How long the service may take to take a connection.
const PATIENCE: Duration = Duration::from_secs(3);
/// What to do with one that hangs.
const HANGS: &str = "systemctl restart agentd; the log says more: journalctl -u agentd -n 50";

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
    let (sources, of) = as_installed(arguments.file.config.as_deref(), arguments.data_dir.as_deref());
    let what = format!("configuration {of}");
    let Loaded { config, warnings, .. } = match config::load(&sources) {
        Ok(loaded) => loaded,
        Err(faults) => {
            let advice = "correct it; agentd check reads it again";
            return faults.iter().map(|fault| Finding::fail(&what, fault.to_string(), advice)).collect();
        }
    };
    let mut config = config;
    let mut findings = vec![Finding::ok(&what, "is valid")];
    findings.extend(warnings.into_iter().map(|it| Finding::warn(&what, it, "remove it, or set what is meant")));
    let (service, finding) = match config.control_socket() {
        Some(socket) => {
            let (service, finding) = look_for(&socket).await;
            if let Service::Running(_) = service {
                findings.extend(as_it_runs(&socket, &mut config).await);
            }
            (service, finding)
        }
        None => {
            let advice = "only with server.control_socket it can be seen whether it runs";
            (Service::Unknown, Finding::warn("service", "server.control_socket is off", advice))
        }
    };
    findings.push(finding);
    findings.extend(examine(&config, service, &Clock::system()).await);
    findings
}

/// Whether it runs.
async fn look_for(socket: &Path) -> (Service, Finding) {
    let what = "service";
    let connected = tokio::time::timeout(PATIENCE, UnixStream::connect(socket)).await;
    match connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
        Ok(stream) => {
            let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok());
            let of = pid.map_or_else(String::new, |pid| format!(", process {pid}"));
            (pid.map_or(Service::Unknown, Service::Running), ready(stream, &of).await)
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            let detail = format!("does not run (nobody answers at {})", socket.display());
            (Service::Absent, Finding::warn(what, detail, "start it: systemctl start agentd, or agentd serve"))
        }
        // So many have connected that the kernel takes no more: nobody fetches them.
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
            let detail = format!("hangs: it takes no connection at {}", socket.display());
            (Service::Unknown, Finding::fail(what, detail, HANGS))
        }
        Err(error) => {
            let detail = format!("whether it runs cannot be seen: {}: {error}", socket.display());
            (Service::Unknown, Finding::warn(what, detail, "sudo agentd doctor"))
        }
    }
}

/// Where it says that it listens.
#[derive(Deserialize)]
struct Listens {
    listen: SocketAddr,
    http_listen: Option<SocketAddr>,
}

/// Looks at the service that runs where its configuration is another by now, or it
/// was started with `--listen`, or systemd listens for it.
async fn as_it_runs(socket: &Path, config: &mut Config) -> Vec<Finding> {
    let asked = async { read::<Listens>(&CliService::at(socket.to_owned())?.get("/admin/status").await?) };
    let Ok(Ok(Listens { listen, http_listen })) = tokio::time::timeout(PATIENCE, asked).await else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let mut differs = |what: &str, runs: SocketAddr, configured: SocketAddr| {
        if runs != configured && (configured.port() != 0 || runs.ip() != configured.ip()) {
            let detail =
                format!("the service listens on {runs}, as it was started; the configuration says {configured}");
            findings.push(Finding::ok(what, detail));
        }
    };
    differs("server.listen", listen, config.server.listen);
    config.server.listen = listen;
    if let (Some(runs), Some(configured)) = (http_listen, config.server.http_listen) {
        differs("server.http_listen", runs, configured);
        config.server.http_listen = Some(runs);
    }
    findings
}

/// What it says of itself: the kernel takes connections for one that hangs, too.
async fn ready(mut stream: UnixStream, of: &str) -> Finding {
    let mut head = [0; 12];
    let exchange = async {
        stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        stream.read_exact(&mut head).await
    };
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(Ok(_)) if head.starts_with(b"HTTP/1.1 200") => Finding::ok("service", format!("runs{of}")),
        Ok(Ok(_)) => {
            let detail = format!("runs{of}, and is not ready");
            Finding::fail("service", detail, "GET /ready names what fails; the log says more")
        }
        Ok(Err(_)) | Err(_) => {
            let detail = format!("hangs{of}: it takes a connection and does not answer");
            Finding::fail("service", detail, HANGS)
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
