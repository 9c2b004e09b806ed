//! The service that is being set up: how it is, restarting it, and what is made
//! in it.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Plan;
use crate::cli::control::{Service, is_no_route, read};
use crate::cli::failure::Failure;
use crate::cli::output::{field, plain};
use crate::cli::password::Chosen;

/// How long a restarted service may take to answer.
const START: Duration = Duration::from_secs(90);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);

/// The service.
pub(super) struct Running(Service);

/// What is looked at of `GET /admin/status`.
#[derive(Deserialize)]
pub(super) struct Report {
    pub in_setup: bool,
    address: String,
    tls: Tls,
}

#[derive(Deserialize)]
struct Tls {
    mode: String,
    certificates: Vec<Value>,
}

/// What was made; the key is seen this once.
#[derive(Deserialize)]
pub(super) struct Made {
    pub admin: String,
    pub tenant_id: String,
    pub key: String,
}

/// What of the certificates was seen.
#[derive(Default)]
pub(super) struct Seen {
    pub rows: Vec<Value>,
    /// Whether one is missing.
    pub is_waiting: bool,
}

impl Report {
    /// Whether the service runs with what the plan says.
    pub(super) fn is_current(&self, plan: &Plan) -> bool {
        self.tls.mode == "acme" && self.address == plan.address()
    }

    /// The certificates that were ordered.
    fn ordered(self) -> Vec<Value> {
        self.tls.certificates.into_iter().filter(|row| row["source"] == "acme").collect()
    }
}

impl Running {
    pub(super) fn new(service: Service) -> Self {
        Self(service)
    }

    pub(super) async fn must_look(&self) -> Result<Report, Failure> {
        match self.0.get("/admin/status").await {
            Err(failure) if is_no_route(&failure) => {
                Err(Failure::other("the running service is of another version than this program: restart it first"))
            }
            answer => read(&answer?),
        }
    }

    /// How it is; `None` when it does not run.
    pub(super) async fn look(&self) -> Result<Option<Report>, Failure> {
        match self.must_look().await {
            Ok(report) => Ok(Some(report)),
            Err(Failure::Unreachable { why, .. }) if why != std::io::ErrorKind::PermissionDenied => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Restarts the unit; whether there was one to restart.
    pub(super) fn restart(&self, is_running: bool) -> Result<bool, Failure> {
        let systemctl = |arguments: &[&str]| {
            Command::new("systemctl").args(arguments).stdin(Stdio::null()).stderr(Stdio::piped()).output()
        };
        let state = systemctl(&["is-active", "agentd.service"]).map(|output| output.stdout).unwrap_or_default();
        if !matches!(state.trim_ascii(), b"active" | b"activating" | b"reloading" | b"failed") {
            if is_running {
                return Ok(false);
            }
            eprintln!("the configuration is ready; once the service runs, do this again");
            return Err(self.0.absent("it does not run"));
        }
        eprintln!("restarting the service");
        let done = systemctl(&["restart", "agentd.service"]).map_err(Failure::other)?;
        if done.status.success() {
            return Ok(true);
        }
        let said = String::from_utf8_lossy(&done.stderr);
        Err(Failure::other(format_args!(
            "the service did not start again: {}; journalctl -u agentd -n 50 says why; then run this again",
            plain(said.trim())
        )))
    }

    /// Waits until it answers with what the plan says.
    pub(super) async fn until_current(&self, plan: &Plan) -> Result<Report, Failure> {
        let start = Instant::now();
        loop {
            let why = match self.look().await? {
                Some(report) if report.is_current(plan) => return Ok(report),
                Some(report) => format!(
                    "the service runs as {} and not as {}: its unit or its environment says something else than the \
                     file (systemctl cat agentd, agentd check --show)",
                    plain(&report.address),
                    plan.address()
                ),
                None => "the service does not answer after its restart: journalctl -u agentd -n 50 says why".into(),
            };
            if start.elapsed() > START {
                return Err(Failure::Other(why));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Makes the first user, with a token that is asked for now: the first one
    /// may have ended.
    pub(super) async fn complete(&self, plan: &Plan, password: &Chosen) -> Result<Made, Failure> {
        #[derive(Deserialize)]
        struct Token {
            token: String,
        }
        let token: Token = read(&self.0.send(self.0.request(Method::POST, "/admin/setup-token")).await?)?;
        let body = json!({
            "token": token.token,
            "admin": { "name": plan.admin.as_str(), "password": password.password.reveal() },
            "tenant": { "name": plan.tenant },
        });
        read(&self.0.send(self.0.request(Method::POST, "/setup").json(&body)).await?)
    }

    /// Waits until every name has its certificate, or for so long, and says what
    /// goes wrong meanwhile.
    pub(super) async fn follow(&self, plan: &Plan, wait: Duration) -> Seen {
        let (start, mut told) = (Instant::now(), BTreeSet::new());
        let mut rows = Vec::new();
        eprintln!("waiting for the certificate");
        loop {
            // A service that cannot answer for a moment is asked again.
            if let Ok(report) = self.must_look().await {
                rows = report.ordered();
            }
            for row in rows.iter().filter(|row| row["problem"].is_string()) {
                let what = format!("not yet: {}: {}", field(row, "name"), field(row, "problem"));
                // With the time it is another problem each time.
                if told.insert((what.clone(), row["problem_at"].to_string())) {
                    eprintln!("{what} (next attempt {})", field(row, "next_attempt_at"));
                }
            }
            let has = |name: &String| rows.iter().any(|row| row["name"] == **name && row["not_after"].is_string());
            let is_waiting = !plan.domains.iter().map(ToString::to_string).all(|name| has(&name));
            if !is_waiting || start.elapsed() >= wait {
                return Seen { rows, is_waiting };
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
