//! How the service is, for the people who look after it: one answer with
//! everything, and one line for the service manager. Whatever is not as it
//! should be comes with what to do about it.

mod backup;
mod certificate;
mod clock;
mod routes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

pub use routes::routes;

use crate::backups::{Backups, Drill, Last};
use crate::clock::{Clock, Timestamp};
use crate::config::{CertName, Config, TlsMode, https_address};
use crate::db::{self, Db};
use crate::jobs::Jobs;
use crate::tls::Certificates;
use crate::tls::acme::{Acme, CertificateState};
use crate::users::Users;

/// A certificate that ends sooner than this should have been renewed.
const LATE: Duration = Duration::from_secs(5 * 86_400);
/// Jobs that wait longer than this wait too long.
const LONG_WAIT: Duration = Duration::from_secs(600);

/// What of the configuration is shown, and decides what is fine.
#[derive(Clone, Debug)]
struct Facts {
    listen: SocketAddr,
    data: PathBuf,
    mode: TlsMode,
}

/// What is looked at.
pub struct Parts {
    /// Where everything is kept.
    pub db: Db,
    /// What is done.
    pub jobs: Jobs,
    /// Who may sign in.
    pub users: Arc<Users>,
    /// What clients are shown.
    pub certificates: Certificates,
    /// Orders certificates.
    pub acme: Acme,
    /// Makes backups.
    pub backups: Backups,
    /// The time.
    pub clock: Clock,
}

/// The service. One per process, behind an `Arc`.
pub struct Status {
    parts: Parts,
    /// On the monotonic clock.
    started: Duration,
    facts: Facts,
    /// Where it really listens.
    listens: OnceLock<Listens>,
}

#[derive(Clone, Copy, Debug)]
struct Listens {
    main: SocketAddr,
    http: Option<SocketAddr>,
}

/// Everything at once.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Status")]
pub struct Report {
    version: &'static str,
    state: State,
    /// By the clock as it is now.
    started_at: Timestamp,
    /// For how long it has run, whatever the clock did meanwhile.
    uptime_seconds: u64,
    /// Where it answers, as people write it.
    address: String,
    /// The address and port that it listens on.
    listen: SocketAddr,
    /// The same for plain HTTP that is sent on to HTTPS.
    http_listen: Option<SocketAddr>,
    data_dir: String,
    /// Nobody has made the first user yet: `agentd setup` does.
    in_setup: bool,
    tls: TlsReport,
    queue: Queue,
    storage: Storage,
    /// The last backup that was made.
    last_backup: Option<Last>,
    /// When one was last restored as a test.
    last_drill: Option<Drill>,
    /// What is not as it should be.
    warnings: Vec<Warning>,
}

/// Whether it does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum State {
    Starting,
    Running,
    Stopping,
}

#[derive(Serialize, JsonSchema)]
struct TlsReport {
    /// Where certificates come from.
    #[schemars(extend("enum" = ["off", "self_signed", "files", "acme"]))]
    mode: &'static str,
    /// Those that are wanted, and others that are shown to clients.
    certificates: Vec<CertificateState>,
}

#[derive(Serialize, JsonSchema)]
struct Queue {
    running: usize,
    /// That wait for a place.
    waiting: usize,
    /// That wait for their time.
    delayed: usize,
    /// Since when the one has waited that waits longest.
    oldest_since: Option<Timestamp>,
}

#[derive(Serialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "their unit belongs to their names")]
struct Storage {
    database_bytes: u64,
    /// The database's write-ahead log.
    log_bytes: u64,
    /// Left on the file system.
    free_bytes: u64,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "StatusWarning")]
struct Warning {
    what: String,
    /// What to do about it.
    todo: String,
}

impl Warning {
    fn new(what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { what: what.into(), todo: todo.into() }
    }
}

impl Status {
    /// Looks at these from now on.
    #[must_use]
    pub fn new(config: &Config, parts: Parts) -> Self {
        let facts = Facts { listen: config.server.listen, data: config.data.dir.clone(), mode: config.tls.mode };
        Self { started: parts.clock.ticks(), parts, facts, listens: OnceLock::new() }
    }

    /// Tells where it listens.
    pub fn listens(&self, main: SocketAddr, http: Option<SocketAddr>) {
        // It begins once.
        let _ = self.listens.set(Listens { main, http });
    }

    /// How it is, in one line for the service manager. Reads no disk.
    #[must_use]
    pub fn line(&self, address: SocketAddr) -> String {
        let state = match self.state() {
            State::Starting => "starting",
            State::Running => "serving",
            State::Stopping => "stopping",
        };
        let (waiting, delayed, running) = self.parts.jobs.counts();
        let mut parts = vec![format!("{state} on {address}; jobs: {running} running, {} waiting", waiting + delayed)];
        let (shown, now) = (self.parts.certificates.all(), self.parts.clock.now());
        if let Some(first) = shown.first() {
            let name = first.names.first().map_or_else(|| "this host".into(), ToString::to_string);
            let until = first.not_after.to_string();
            parts.push(format!("certificate of {name} until {}", until.get(..10).unwrap_or(&until)));
        }
        let standing = self.parts.backups.standing();
        parts.extend(backup::in_short(&standing));
        let certificates = certificate::in_short(&self.parts.certificates, &self.parts.acme.names(), now);
        parts.extend(self.warnings(None).into_iter().chain(certificates).map(|warning| warning.what));
        parts.join("; ")
    }

    async fn report(&self) -> Result<Report, db::Error> {
        let oldest_since = self.parts.jobs.oldest_waiting().await?;
        let (waiting, delayed, running) = self.parts.jobs.counts();
        let (database_bytes, log_bytes) = self.parts.db.file_bytes();
        let certificates = self.parts.acme.states().await?;
        let standing = self.parts.backups.standing();
        let mut warnings = self.warnings(oldest_since);
        let now = self.parts.clock.now();
        warnings.extend(certificates.iter().filter_map(|state| certificate::warning(state, now)));
        warnings.extend(certificates.iter().flat_map(certificate::objections));
        let uptime = self.parts.clock.ticks().saturating_sub(self.started);
        let listens = self.listens.get().copied().unwrap_or(Listens { main: self.facts.listen, http: None });
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            state: self.state(),
            started_at: now.minus(uptime),
            uptime_seconds: uptime.as_secs(),
            address: self.facts.address(&self.parts.acme.names()),
            listen: listens.main,
            http_listen: listens.http,
            data_dir: self.facts.data.display().to_string(),
            in_setup: !self.parts.users.any(),
            tls: TlsReport { mode: self.facts.mode_name(), certificates },
            queue: Queue { running, waiting, delayed, oldest_since },
            storage: Storage { database_bytes, log_bytes, free_bytes: self.parts.db.free_bytes() },
            last_backup: standing.last,
            last_drill: standing.drill,
            warnings,
        })
    }

    fn state(&self) -> State {
        if self.parts.jobs.is_draining() {
            State::Stopping
        } else if self.parts.jobs.is_running() {
            State::Running
        } else {
            State::Starting
        }
    }

    fn warnings(&self, oldest_since: Option<Timestamp>) -> Vec<Warning> {
        let now = self.parts.clock.now();
        let mut warnings = Vec::new();
        if let Some(fault) = self.parts.db.fault() {
            let what = format!("the database cannot be written: {fault}");
            warnings.push(Warning::new(what, "look at the disk; work goes on by itself once it takes writes again"));
        }
        if self.parts.db.nearly_full() {
            let what = format!(
                "the disk is nearly full ({} bytes are left), so new jobs are refused",
                self.parts.db.free_bytes()
            );
            warnings.push(Warning::new(what, format!("free some space on the disk of {}", self.facts.data.display())));
        }
        if !self.parts.users.any() {
            let todo = "sudo agentd setup makes the first user and gets a certificate";
            warnings.push(Warning::new("the service is not set up: nobody can sign in", todo));
        }
        if oldest_since.is_some_and(|since| now.since(since) > LONG_WAIT) {
            let what = "jobs have been waiting for a place for more than ten minutes";
            warnings.push(Warning::new(
                what,
                "agentd job list --status queued shows them; jobs.concurrency is how many run",
            ));
        }
        warnings.extend(backup::warnings(&self.parts.backups.standing()));
        warnings.extend(clock::warning(self.parts.clock.held()));
        warnings.extend(self.facts.exposed());
        warnings
    }
}

impl Facts {
    fn mode_name(&self) -> &'static str {
        match self.mode {
            TlsMode::Off => "off",
            TlsMode::SelfSigned => "self_signed",
            TlsMode::Files => "files",
            TlsMode::Acme => "acme",
        }
    }

    fn address(&self, domains: &[CertName]) -> String {
        match self.mode {
            TlsMode::Off => format!("http://{}", self.listen),
            TlsMode::Acme => https_address(domains, self.listen),
            TlsMode::SelfSigned | TlsMode::Files => https_address(&[], self.listen),
        }
    }

    fn exposed(&self) -> Option<Warning> {
        let plain = self.mode == TlsMode::Off && !self.listen.ip().to_canonical().is_loopback();
        let what = format!("{} is plain HTTP on the network: everyone on the way can read keys and jobs", self.listen);
        plain.then(|| Warning::new(what, "set tls.mode, or listen on 127.0.0.1 behind something that encrypts"))
    }
}
