//! Certificates by ACME (RFC 8555): a name has one, it is renewed in time, and
//! whatever goes wrong is tried again at the right moment and can be seen.
//!
//! Never is anything ordered because a client connects. A loop looks at each
//! name every few minutes; what is due becomes a job of the service's own,
//! `certificate.renew`, which makes one attempt and writes down what came of it.

mod account;
mod cert;
mod client;
mod fault;
mod job;
mod metrics;
mod order;
mod policy;
mod proof;
mod routes;
mod sql;
mod state;

use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Certificates, HttpChallenges, Shown, Source};
use crate::clock::{Clock, Timestamp};
use crate::config::{AcmeSection, CertName, TlsMode};
use crate::db::{self, Db};
use crate::jobs::{JobId, Jobs};
use crate::outbound::{self, Outbound};
use crate::vault::Vault;

pub use job::handler;
pub use policy::Why;
pub use routes::routes;
pub use state::{CertificateState, CertificateStatus};

use account::Replacements;
use cert::Parsed;
use client::again;
use metrics::Metrics;
use policy::Window;
use sql::Row;

/// What is needed to order certificates.
pub struct Parts {
    /// Where everything is kept.
    pub db: Db,
    /// Where private keys are kept.
    pub vault: Vault,
    /// The time.
    pub clock: Clock,
    /// The way out.
    pub outbound: Outbound,
    /// Where certificates are shown.
    pub certificates: Certificates,
    /// Where the answers to `http-01` are shown.
    pub http: HttpChallenges,
}

/// The service. Clones share it.
#[derive(Clone)]
pub struct Acme(Arc<Inner>);

struct Inner {
    db: Db,
    vault: Vault,
    clock: Clock,
    outbound: Outbound,
    certificates: Certificates,
    http: HttpChallenges,
    metrics: Metrics,
    /// `None` where nothing is ordered.
    settings: RwLock<Option<Arc<Settings>>>,
    /// Somebody changed what there is to look at.
    changed: Notify,
    jobs: OnceLock<Jobs>,
    /// Held while an account is looked for or made, so that names whose
    /// certificates are ordered at the same time share one.
    registering: tokio::sync::Mutex<()>,
    replacements: Mutex<Replacements>,
    /// Held from looking at what is kept to showing it.
    installing: tokio::sync::Mutex<()>,
    /// Held while a record of `dns-01` is there: programs that set them often
    /// cannot do two things at once.
    dns_turn: Arc<tokio::sync::Mutex<()>>,
}

/// The settings, ready to be used.
struct Settings {
    section: AcmeSection,
    eab: Option<Eab>,
    /// Leads to the directories wherever they are, since the administrator
    /// wrote them down, and trusts whom the settings say.
    outbound: Outbound,
}

/// External account binding (RFC 8555, 7.3.4).
struct Eab {
    kid: String,
    key: Vec<u8>,
}

/// Why certificates cannot be ordered with these settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The key for external account binding cannot be used.
    #[error("acme.eab_key: {0}")]
    Eab(String),
    /// The authorities of `acme.ca_file` cannot be read.
    #[error(transparent)]
    Ca(#[from] outbound::BuildError),
    /// The database cannot be read.
    #[error(transparent)]
    Database(#[from] db::Error),
}

impl Acme {
    /// The service, ordering nothing before [`configure`](Self::configure).
    ///
    /// # Errors
    /// When a metric's name is taken.
    pub fn new(parts: Parts, registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let Parts { db, vault, clock, outbound, certificates, http } = parts;
        let metrics = Metrics::new(&certificates, registry)?;
        Ok(Self(Arc::new(Inner {
            db,
            vault,
            clock,
            outbound,
            certificates,
            http,
            metrics,
            settings: RwLock::default(),
            changed: Notify::new(),
            jobs: OnceLock::new(),
            registering: tokio::sync::Mutex::default(),
            replacements: Mutex::default(),
            installing: tokio::sync::Mutex::default(),
            dns_turn: Arc::default(),
        })))
    }

    /// Seals private keys that an agentd without a vault has kept as they are.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub async fn seal_plain(&self) -> Result<(), db::Error> {
        let (db, vault) = (&self.0.db, self.0.vault.clone());
        let sealed = db.write(move |tx| sql::seal_plain(tx, &vault)).await?;
        if sealed > 0 {
            db.empty_log()?;
            tracing::warn!(
                secrets = sealed,
                "sealed private keys that were kept as they are in the database; the snapshot from before this upgrade, in \
                 snapshots/ of the data folder, still has them as they were: delete it when you will not go back"
            );
        }
        Ok(())
    }

    /// Takes new settings: shows what the database has for their names, and
    /// nothing for others any more. On an error the old ones stay.
    ///
    /// # Errors
    /// When they cannot be used.
    pub async fn configure(&self, mode: TlsMode, section: &AcmeSection) -> Result<(), SettingsError> {
        let settings = match mode {
            TlsMode::Acme => Some(Arc::new(self.0.settings(section)?)),
            TlsMode::Off | TlsMode::SelfSigned | TlsMode::Files => None,
        };
        let names = settings.iter().flat_map(|it| it.section.domains.clone()).collect::<Vec<_>>();
        // What is issued meanwhile must not be hidden by what was read before.
        let _alone = self.0.installing.lock().await;
        let mut rows = Vec::new();
        for name in &names {
            rows.push((name, self.0.row(name).await?));
        }
        *self.0.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        let wanted =
            |shown: &Shown| shown.source != Source::Acme || names.iter().any(|name| shown.names == [name.clone()]);
        self.0.certificates.retain(wanted);
        self.0.metrics.retain(&names);
        for (name, row) in rows {
            self.0.install(name, &row);
        }
        self.0.changed.notify_one();
        Ok(())
    }

    /// What certificates are to be had for; nothing where another source than
    /// ACME is configured.
    #[must_use]
    pub fn names(&self) -> Vec<CertName> {
        let settings = self.0.settings.read().unwrap_or_else(PoisonError::into_inner);
        settings.iter().flat_map(|it| it.section.domains.iter().cloned()).collect()
    }

    /// Looks again and again whether something is due, until `stop`.
    pub async fn run(&self, jobs: Jobs, stop: &CancellationToken) {
        if self.0.jobs.set(jobs).is_err() {
            return;
        }
        let look = async {
            loop {
                let pause = self.0.look().await;
                let _ = tokio::time::timeout(pause, self.0.changed.notified()).await;
            }
        };
        stop.run_until_cancelled(look).await;
    }

    /// How all certificates stand.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn states(&self) -> Result<Vec<CertificateState>, db::Error> {
        self.0.states().await
    }
}

impl Inner {
    fn settings(&self, section: &AcmeSection) -> Result<Settings, SettingsError> {
        let eab = match (&section.eab_kid, section.eab_key.resolve().map_err(SettingsError::Eab)?) {
            (Some(kid), Some(key)) => {
                let key = BASE64_URL_SAFE_NO_PAD.decode(key.trim_end_matches('='));
                let key = key.map_err(|_| SettingsError::Eab("is no base64url".into()))?;
                Some(Eab { kid: kid.clone(), key })
            }
            _ => None,
        };
        let mut outbound = self.outbound.clone();
        if let Some(file) = &section.ca_file {
            outbound = outbound.trusting("acme.ca_file", file)?;
        }
        for directory in section.directories.iter().chain(&section.staging) {
            outbound = outbound.allowing(directory);
        }
        Ok(Settings { section: section.clone(), eab, outbound })
    }

    fn current(&self) -> Option<Arc<Settings>> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn row(&self, name: &CertName) -> Result<Row, db::Error> {
        let (name, vault) = (name.to_string(), self.vault.clone());
        self.db.read(move |tx| sql::get(tx, &vault, &name)).await
    }

    /// Shows a name's certificate from now on, if it has one.
    fn install(&self, name: &CertName, row: &Row) {
        let Some(parsed) = parsed(name, row) else { return };
        self.certificates.install(Shown {
            source: Source::Acme,
            names: vec![name.clone()],
            not_before: parsed.validity.from,
            not_after: parsed.validity.until,
            key: parsed.key,
            warnings: Vec::new(),
        });
    }

    /// Looks at every name once, at all at the same time, since an authority may
    /// be slow to answer; how long to wait before the next time.
    async fn look(&self) -> Duration {
        const AFTER_A_FAULT: Duration = Duration::from_secs(60);
        let Some(settings) = self.current() else { return Duration::MAX };
        let looks = settings.section.domains.iter().map(async |name| {
            self.look_at(name, &settings).await.unwrap_or_else(|error| {
                tracing::warn!(%name, "a certificate could not be looked at: {error}");
                AFTER_A_FAULT
            })
        });
        // A clock that is set may make something due at any time, so the pause
        // is never longer than the settings say.
        futures_util::future::join_all(looks).await.into_iter().fold(settings.section.check_every, Duration::min)
    }

    /// Looks at one name; how long until it is due.
    async fn look_at(&self, name: &CertName, settings: &Settings) -> Result<Duration, String> {
        let row = self.row(name).await.map_err(|error| error.to_string())?;
        let row = self.ask_window(name, row, settings).await.map_err(|error| error.to_string())?;
        let now = self.clock.now();
        let (due, why) = next(name, &row, now);
        if due > now {
            return Ok(due.since(now));
        }
        tracing::debug!(%name, ?why, "a certificate is due");
        self.submit(name, false).await.map_err(|problem| problem.to_string())?;
        // The job's end has it looked at again.
        Ok(Duration::MAX)
    }

    /// Has a certificate renewed, now or if it is due; the job, `None` while
    /// another is at it.
    async fn submit(&self, name: &CertName, now: bool) -> Result<Option<JobId>, crate::http::Problem> {
        let jobs =
            self.jobs.get().ok_or_else(|| crate::http::Problem::unavailable("starting", "the service starts", 1))?;
        let input = serde_json::json!({ "name": name.to_string(), "now": now });
        jobs.submit_own(job::NAME, &input, format!("certificate:{name}")).await
    }

    /// Asks the authority when it suggests to renew, if it is time to ask.
    async fn ask_window(&self, name: &CertName, row: Row, settings: &Settings) -> Result<Row, db::Error> {
        let now = self.clock.now();
        // Further away than it is ever set, it was set while the clock was wrong.
        let longest = now.plus(policy::ask_again(Duration::MAX));
        let is_time = row.ask_window_at.is_none_or(|at| at <= now || at > longest);
        let Some(stored) = row.issued.as_ref().filter(|_| is_time) else {
            return Ok(row);
        };
        let (window, again_in) = match self.suggestion(name, stored, settings).await {
            Ok(found) => found,
            Err(what) => {
                // What it last suggested still counts.
                tracing::debug!(%name, "no suggestion when to renew: {what}");
                (row.window, Duration::from_secs(6 * 3600))
            }
        };
        let (key, issued_at, ask_at) = (name.to_string(), stored.issued_at, now.plus(policy::ask_again(again_in)));
        self.db.write(move |tx| sql::set_window(tx, &key, issued_at, window, ask_at)).await?;
        Ok(Row { window, ask_window_at: Some(ask_at), ..row })
    }

    async fn suggestion(
        &self,
        name: &CertName,
        stored: &sql::Stored,
        settings: &Settings,
    ) -> Result<(Option<Window>, Duration), String> {
        let parsed = Parsed::read(&stored.chain, &stored.key)?;
        let certificate = parsed.identifier().ok_or("the certificate does not say who issued it")?;
        let account = self.account_of(stored, settings).await?;
        let (info, again_in) = match again!(account.renewal_info(&certificate)) {
            Ok(found) => found,
            // The directory has no such thing.
            Err(instant_acme::Error::Unsupported(_)) => return Ok((None, Duration::from_secs(24 * 3600))),
            Err(error) => return Err(error.to_string()),
        };
        let time = |nanos: i128| Timestamp::from_micros(i64::try_from(nanos / 1000).unwrap_or(i64::MAX));
        let suggested = info.suggested_window;
        let (start, end) = (suggested.start.unix_timestamp_nanos(), suggested.end.unix_timestamp_nanos());
        let window = Window { start: time(start), end: time(end) };
        if let Some(url) = info.explanation_url {
            tracing::info!(%name, url, "the authority explains when it wants the certificate renewed");
        }
        Ok((Some(window), again_in))
    }
}

fn parsed(name: &CertName, row: &Row) -> Option<Parsed> {
    let stored = row.issued.as_ref()?;
    match Parsed::read(&stored.chain, &stored.key) {
        Ok(parsed) => Some(parsed),
        Err(what) => {
            tracing::error!(%name, "the kept certificate cannot be used, so another is ordered: {what}");
            None
        }
    }
}

/// When the next attempt is due, and why.
fn next(name: &CertName, row: &Row, now: Timestamp) -> (Timestamp, Why) {
    let (due, why) = match (parsed(name, row), row.issued.as_ref(), row.revoked_at) {
        (Some(_), _, Some(revoked_at)) => (revoked_at, Why::Revoked),
        (Some(parsed), Some(stored), None) => {
            let (due, why) = policy::renewal(parsed.validity, row.window, parsed.seed());
            (due.max(policy::rested(parsed.validity, stored.issued_at, why, now)), why)
        }
        _ => (Timestamp::from_micros(0), Why::Missing),
    };
    // After a failure the pause decides, and then the reason still holds. One from
    // the future was written while the clock was wrong.
    let pause = row.next_attempt_at.filter(|_| row.problem_at.is_none_or(|at| at <= now));
    (pause.map_or(due, |at| at.max(due)), why)
}
