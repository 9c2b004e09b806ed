//! The sections of the file, each with its keys.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::database;
use super::legacy::Mode;
use super::reader::{Key, Origin, Reader};
use super::setting::{Bytes, ControlSocket, DAY, HOUR, INSTANT, List, LogFormat, MINUTE, SECOND, Setting};
use super::tls::{TlsMode, TlsSection};
use crate::net::Network;

pub(super) const fn key(path: &'static str, doc: &'static str) -> Key {
    Key { path, alias: None, doc }
}

pub(super) const fn aliased(path: &'static str, alias: &'static str, doc: &'static str) -> Key {
    Key { path, alias: Some(alias), doc }
}

/// `[server]`
#[derive(Clone, Debug)]
pub struct ServerSection {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where plain HTTP is answered with a redirect, and with what ACME's
    /// `http-01` asks for; `None`: nowhere.
    pub http_listen: Option<SocketAddr>,
    /// Whether plain HTTP may leave this machine.
    pub expose_unencrypted: bool,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Time for a client to send a body.
    pub body_time: Duration,
    /// Time for a client to send the head of a request.
    pub head_time: Duration,
    /// Time for running jobs to end when the service stops.
    pub drain_time: Duration,
    /// Where the command line reaches the service; in the data folder when not
    /// set.
    pub control_socket: Option<ControlSocket>,
    /// Proxies whose word on a client's address counts.
    pub trusted_proxies: Vec<Network>,
}

impl ServerSection {
    /// Where it is not set, the folder that systemd has made for what lives as
    /// long as the service.
    pub(super) fn read_control_socket(reader: &mut Reader<'_>) -> Option<ControlSocket> {
        let doc = "Socket that the command line uses, or off; control.sock in data.dir, or in systemd's \
                   RuntimeDirectory, when not set.";
        let usual = reader.folder("RUNTIME_DIRECTORY").map(|folder| ControlSocket::At(folder.join("control.sock")));
        reader.optional(key("server.control_socket", doc)).or(usual)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let body_bytes = reader.value(
            aliased("server.body_bytes", "MAX_PAYLOAD_BYTES", "Bytes that a request's body may have."),
            Bytes(1 << 20),
        );
        Self {
            listen: reader.value(
                key("server.listen", "Address and port to listen on."),
                SocketAddr::from(([127, 0, 0, 1], 8000)),
            ),
            http_listen: reader.optional(key(
                "server.http_listen",
                "With TLS: address and port, such as 0.0.0.0:80, where plain HTTP is sent on to HTTPS.",
            )),
            expose_unencrypted: reader.value(
                key(
                    "server.expose_keys_and_jobs_unencrypted",
                    "Allow plain HTTP on an address that is not loopback: everyone on the way can read keys and jobs.",
                ),
                false,
            ),
            body_bytes: usize::try_from(body_bytes.0).unwrap_or(usize::MAX),
            body_time: reader.span(
                key("server.body_time", "Time that a client has to send a body."),
                Duration::from_secs(30),
                INSTANT..=DAY,
            ),
            head_time: reader.span(
                key("server.head_time", "Time that a client has to send the head of a request."),
                Duration::from_secs(10),
                INSTANT..=DAY,
            ),
            drain_time: reader.span(
                key("server.drain_time", "Time that running jobs have to end when the service stops; 0s: none."),
                Duration::from_secs(20),
                Duration::ZERO..=DAY,
            ),
            control_socket: Self::read_control_socket(reader),
            trusted_proxies: reader
                .value(
                    key("server.trusted_proxies", "Addresses or networks of proxies that tell where a client is."),
                    List(Vec::new()),
                )
                .0,
        }
    }

    pub(super) fn check(&self, reader: &mut Reader<'_>, tls: &TlsSection) {
        for network in self.trusted_proxies.iter().filter(|network| network.is_vast()) {
            reader.warn(format!(
                "server.trusted_proxies has {network}: whoever comes from there can claim any address, which passes the \
                 address lists of keys and the limits on wrong passwords; name the proxies alone"
            ));
        }
        let plain = tls.mode == TlsMode::Off;
        if self.http_listen.is_some() && plain {
            let what = "server.http_listen sends on to HTTPS, which tls.mode = \"off\" does not have";
            reader.fault_at_key("server.http_listen", what.into());
        }
        if plain && !self.listen.ip().to_canonical().is_loopback() && !self.expose_unencrypted {
            let what = format!(
                "{} is not a loopback address and this is plain HTTP: everyone on the way could read keys and jobs; \
                 listen on 127.0.0.1 behind something that encrypts, or set \
                 server.expose_keys_and_jobs_unencrypted = true",
                self.listen
            );
            reader.fault_at_key("server.listen", what);
        }
        if !(1024..=1 << 30).contains(&self.body_bytes) {
            reader.fault_at_key("server.body_bytes", "server.body_bytes must be from 1KiB to 1GiB".into());
        }
    }
}

/// `[data]`
#[derive(Clone, Debug)]
pub struct DataSection {
    /// The folder of everything that is kept.
    pub dir: PathBuf,
    /// The database file.
    pub database: PathBuf,
    /// Free space below which new work is refused.
    pub min_free: u64,
    /// Size of the write-ahead log above which it is started over.
    pub wal_bound: u64,
    /// What seals the secrets in the database.
    pub master_key: Secret,
    /// What did so before.
    pub previous_master_key: Secret,
}

impl DataSection {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let dir = Self::read_dir(reader);
        let wal_bound = reader.value(
            key("data.wal_bound", "Size of the database's log above which writes wait while it starts over."),
            Bytes(64 << 20),
        );
        if wal_bound.0 < 1 << 20 {
            reader.fault_at_key("data.wal_bound", "data.wal_bound must be at least 1MiB".into());
        }
        Self {
            database: database::read(reader, &dir),
            dir,
            min_free: reader
                .value(key("data.min_free", "Free disk space below which new work is refused."), Bytes(64 << 20))
                .0,
            wal_bound: wal_bound.0,
            master_key: Secret::read(
                reader,
                key(
                    "data.master_key",
                    "What seals the secrets in the database; made at the first start, as secrets/master.key in data.dir, when not set.",
                ),
                key("data.master_key_file", "A file that holds it."),
            ),
            previous_master_key: Secret::read(
                reader,
                key(
                    "data.previous_master_key",
                    "The one before, for one start: everything is then sealed anew with the other.",
                ),
                key("data.previous_master_key_file", "A file that holds it."),
            ),
        }
    }

    pub(super) fn check(&self, reader: &mut Reader<'_>) {
        for (file, secret) in
            [("data.master_key_file", &self.master_key), ("data.previous_master_key_file", &self.previous_master_key)]
        {
            if let Err(fault) = secret.resolve() {
                reader.fault_at_key(file, fault);
            }
        }
    }

    pub(super) fn read_dir(reader: &mut Reader<'_>) -> PathBuf {
        let usual = reader.folder("STATE_DIRECTORY").unwrap_or_else(|| PathBuf::from("data"));
        reader.value(key("data.dir", "Folder of everything that is kept."), usual)
    }
}

/// A secret, or the file that holds it. Printing it prints nothing of it.
#[derive(Clone)]
pub enum Secret {
    /// Given as such.
    Text(String, Origin),
    /// To be read from there.
    File(PathBuf),
    /// Not configured.
    Unset,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_, origin) => write!(f, "Secret({origin})"),
            Self::File(path) => write!(f, "Secret(file {})", path.display()),
            Self::Unset => f.write_str("Secret(not set)"),
        }
    }
}

impl Secret {
    pub(super) fn read(reader: &mut Reader<'_>, text: Key, file: Key) -> Self {
        let text = reader.secret(text).map(|(text, origin)| Self::Text(text, origin));
        let path = reader.optional::<PathBuf>(file);
        match (text, path) {
            (Some(_), Some(_)) => {
                reader.fault_at_key(
                    file.path,
                    format!("{} is set as well as the secret itself; set one of them", file.path),
                );
                Self::Unset
            }
            (Some(text), None) => text,
            (None, Some(path)) => Self::File(path),
            (None, None) => Self::Unset,
        }
    }

    /// Whether somebody has set it.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !matches!(self, Self::Unset)
    }

    /// The secret, without the white space around it; `None` when it is not set.
    ///
    /// # Errors
    /// When its file cannot be read or is empty.
    pub fn resolve(&self) -> Result<Option<String>, String> {
        match self {
            Self::Text(text, _) => Ok(Some(text.trim().to_owned())),
            Self::Unset => Ok(None),
            Self::File(path) => {
                let place = format!("the secret in {}", path.display());
                let bytes = std::fs::read(path).map_err(|error| format!("{place} cannot be read: {error}"))?;
                // Nothing of it is told, also not what is wrong with it.
                let text =
                    String::from_utf8(bytes).map_err(|_| format!("{place} is not UTF-8: save the file as UTF-8"))?;
                let text = String::parse(text.trim());
                text.map(Some).ok_or_else(|| format!("{place} is empty: write the secret into it"))
            }
        }
    }
}

/// `[auth]`
#[derive(Clone, Debug)]
pub struct AuthSection {
    /// What the administrator presents.
    pub admin_key: Secret,
    /// What API keys are hashed with.
    pub key_hash_secret: Secret,
    /// What they were hashed with before.
    pub previous_key_hash_secret: Secret,
    /// The single key that acts for the default tenant.
    pub api_key: Secret,
    /// What a Prometheus elsewhere presents.
    pub metrics_token: Secret,
}

/// Less is no room for any result.
const SMALLEST_RESULT: u64 = 64;
/// Shorter secrets can be guessed.
const SHORTEST_SECRET: usize = 16;

impl AuthSection {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            admin_key: Secret::read(
                reader,
                aliased(
                    "auth.admin_key",
                    "AGENT_ADMIN_KEY",
                    "The administrator's key; made at the first start when not set.",
                ),
                key("auth.admin_key_file", "A file that holds it."),
            ),
            key_hash_secret: Secret::read(
                reader,
                aliased(
                    "auth.key_hash_secret",
                    "AGENT_KEY_HASH_SECRET",
                    "What API keys are hashed with; made at the first start when not set. Who changes it sets the previous one too.",
                ),
                key("auth.key_hash_secret_file", "A file that holds it."),
            ),
            previous_key_hash_secret: Secret::read(
                reader,
                key(
                    "auth.previous_key_hash_secret",
                    "The one before: keys hashed with it count, and are hashed anew when they are used.",
                ),
                key("auth.previous_key_hash_secret_file", "A file that holds it."),
            ),
            api_key: Secret::read(
                reader,
                aliased("auth.api_key", "AGENT_API_KEY", "A single key that acts for the default tenant."),
                key("auth.api_key_file", "A file that holds it."),
            ),
            metrics_token: Secret::read(
                reader,
                key("auth.metrics_token", "What may read the metrics from another machine, as a bearer token."),
                key("auth.metrics_token_file", "A file that holds it."),
            ),
        }
    }

    pub(super) fn check(&self, reader: &mut Reader<'_>, mode: Mode) {
        if let Err(fault) = self.previous_key_hash_secret.resolve() {
            reader.fault_at_key("auth.previous_key_hash_secret_file", fault);
        }
        let secrets = [
            ("auth.admin_key", &self.admin_key),
            ("auth.key_hash_secret", &self.key_hash_secret),
            ("auth.api_key", &self.api_key),
            ("auth.metrics_token", &self.metrics_token),
        ];
        for (key, secret) in secrets {
            let text = match secret.resolve() {
                Ok(text) => text,
                Err(fault) => {
                    reader.fault_at_key(&format!("{key}_file"), fault);
                    continue;
                }
            };
            if key == "auth.api_key" && text.as_ref().is_some_and(|text| text.starts_with("agk_")) {
                let what = "auth.api_key must not look like a tenant's key (agk_…): those are made through the API";
                reader.fault_at_key(key, what.into());
            }
            if text.is_some_and(|text| text.len() < SHORTEST_SECRET) {
                let what =
                    format!("{key} has fewer than {SHORTEST_SECRET} characters; openssl rand -hex 32 makes a good one");
                match mode {
                    Mode::Production => reader.fault_at_key(key, what),
                    Mode::Other => reader.warn(what),
                }
            }
        }
    }
}

/// `[jobs]`
#[derive(Clone, Debug)]
pub struct JobsSection {
    /// Jobs that run at the same time.
    pub concurrency: usize,
    /// Jobs that may wait.
    pub queue: usize,
    /// Bytes that a job may give back.
    pub result_bytes: usize,
    /// The longest `?wait=`.
    pub wait: Duration,
    /// How long finished jobs are kept; none: for ever.
    pub retention: Option<Duration>,
}

impl JobsSection {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let result = reader.value(key("jobs.result_bytes", "Bytes of JSON that a job may give back."), Bytes(1 << 20));
        if result.0 < SMALLEST_RESULT {
            let what = format!("jobs.result_bytes must be at least {SMALLEST_RESULT}: with less, jobs fail");
            reader.fault_at_key("jobs.result_bytes", what);
        }
        Self {
            concurrency: reader.value(key("jobs.concurrency", "Jobs that run at the same time."), 64),
            queue: reader.value(key("jobs.queue", "Jobs that may wait before submissions are refused."), 500_000),
            result_bytes: usize::try_from(result.0).unwrap_or(usize::MAX),
            wait: reader.span(
                key("jobs.wait", "The longest time that ?wait= holds an answer back; 0s: not at all."),
                MINUTE,
                Duration::ZERO..=HOUR,
            ),
            retention: reader.span_or_off(
                key("jobs.retention", "How long finished jobs are kept: a span such as 30d, or off for ever."),
                30 * DAY,
                SECOND,
            ),
        }
    }
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct LogSection {
    /// A level, or directives for parts.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

impl LogSection {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let level =
            key("log.level", "error, warn, info, debug or trace; or directives such as info,agentd::request=warn.");
        let level = reader.value(level, "info".to_owned());
        let format = key("log.format", "json, text, or auto: text on a terminal and JSON elsewhere.");
        let section = Self { level, format: reader.value(format, LogFormat::Auto) };
        if let Err(error) = section.filter() {
            reader.fault_at_key("log.level", format!("log.level: {error}"));
        }
        section
    }

    /// The level or directives, read.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn filter(&self) -> Result<tracing_subscriber::EnvFilter, String> {
        // What a client sends wrong is not worth a line of the server's own; a
        // later directive for the same target wins.
        let directives = format!("actix_http=off,actix_server=warn,{}", self.level);
        tracing_subscriber::EnvFilter::builder().parse(directives).map_err(|error| error.to_string())
    }
}
