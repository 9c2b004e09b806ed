//! The composition root: builds every service once, in order, and connects
//! them. Nothing below knows how it is put together.

mod error;
mod master_key;
mod models;
pub mod offline;
mod parts;
mod reload;
mod steady;

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use prometheus::Registry as Metrics;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;
use crate::backups::Backups;
use crate::budgets::{self, Budgets};
use crate::clock::Clock;
use crate::config::{Config, Shown, Sources, TlsMode};
use crate::db::{self, Db, FolderLock, Progress};
use crate::http::{BodyLimits, HttpMetrics, Routes, TrustedProxies};
use crate::id::IdSource;
use crate::jobs::{self, Handler, Jobs};
use crate::limits::Quota;
use crate::outbound::Outbound;
use crate::telemetry::ProcessMetrics;
use crate::tenants::{self, Status, Tenants};
use crate::tls::{Certificates, HttpChallenges, acme};
use crate::tools::web::SearchKey;
use crate::users::{self, Users};
use crate::vault::Vault;
use crate::{backups, docs, health, setup, status, tls};
pub use error::BuildError;
use models::Models;
use parts::{
    build_acme, build_auth, build_backups, build_budgets, build_outbound, build_registry, build_setup, build_status,
    job_limits, lock, open_db,
};

/// How often it is written when keys were last used and what tenants used.
const FLUSH_EVERY: Duration = Duration::from_secs(10);

/// What a test build adds to the service.
#[derive(Default)]
pub struct Extras {
    /// A clock that can be set.
    pub clock: Option<Clock>,
    /// Handlers beside the built-in tools.
    pub handlers: Vec<Handler>,
    /// Handlers that pay for something.
    pub paying: Option<fn(&Budgets) -> Vec<Handler>>,
    /// Migrations after those of this binary.
    pub migrations: Vec<db::migrate::Migration>,
}

impl Extras {
    fn handlers(self, budgets: &Budgets) -> Vec<Handler> {
        let paying = self.paying.map(|make| make(budgets)).unwrap_or_default();
        self.handlers.into_iter().chain(paying).collect()
    }
}

/// How the process was started.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// What the configuration was read from, and is again at a reload.
    pub sources: Sources,
    /// What it said.
    pub shown: Vec<Shown>,
    /// Counts while a migration gets further.
    pub progress: Progress,
}

/// Everything, ready to be served. Clones share it.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub db: Db,
    /// Running jobs.
    pub jobs: Jobs,
    /// Tenants and keys.
    pub tenants: Arc<Tenants>,
    /// Every metric.
    pub metrics: Metrics,
    /// The way out.
    pub outbound: Outbound,
    /// How the service is.
    pub status: Arc<status::Status>,
    /// What clients are shown.
    pub certificates: Certificates,
    /// What ACME servers are answered over plain HTTP.
    pub challenges: HttpChallenges,
    /// Orders certificates.
    pub acme: acme::Acme,
    /// What may be spent and was.
    pub budgets: Budgets,
    backups: Backups,
    models: Models,
    users: Arc<Users>,
    setup: Arc<setup::Setup>,
    /// The certificate that there is without asking anybody.
    pub kept: tls::Kept,
    vault: Vault,
    auth: Arc<Auth>,
    proxies: Arc<TrustedProxies>,
    reloader: Arc<reload::Reloader>,
    body_limits: BodyLimits,
    http_metrics: HttpMetrics,
    health: Arc<health::Health>,
    docs: Arc<docs::Docs>,
    routes: Arc<Routes>,
    stop: CancellationToken,
    clock: Clock,
    _lock: Arc<Vec<FolderLock>>,
}

/// Every route of the service.
#[must_use]
pub fn routes() -> Routes {
    jobs::routes()
        .and(crate::models::routes())
        .and(tenants::routes())
        .and(budgets::routes())
        .and(users::routes())
        .and(setup::routes())
        .and(status::routes())
        .and(reload::routes())
        .and(master_key::routes())
        .and(health::routes())
        .and(docs::routes())
        .and(acme::routes())
        .and(backups::routes())
}

impl App {
    /// Builds the services over the data folder, which it locks. Jobs do not
    /// run before [`start`](Self::start).
    ///
    /// # Errors
    /// When the folder, the database or a secret cannot be used.
    pub async fn build(config: &Config, start: Start, extras: Extras, jobs_on: Handle) -> Result<Self, BuildError> {
        Self::assemble(config, start, extras, jobs_on).await.map_err(|error| error.of(config))
    }

    async fn assemble(config: &Config, start: Start, mut extras: Extras, jobs_on: Handle) -> Result<Self, BuildError> {
        let clock = extras.clock.clone().unwrap_or_else(Clock::system);
        let lock = lock(config)?;
        let certificates = Certificates::default();
        let kept = tls::Kept::open(config, &certificates, &clock)?;
        let metrics = Metrics::new();
        let db = open_db(config, start.progress, std::mem::take(&mut extras.migrations), &metrics)?;
        let vault = Vault::open(&db, &config.data).await?;
        let auth = Arc::new(build_auth(config, &clock)?);
        let last_no = models::last_no(&db).await?;
        steady::recall(&db, &clock, last_no).await?;
        let ids = IdSource::new(clock.clone(), last_no);
        let tenants = Arc::new(Tenants::new(db.clone(), clock.clone(), ids.clone(), auth.clone()));
        load_tenants(config, &tenants).await?;
        let budgets = build_budgets(config, &db, &clock, &ids, &jobs_on, &metrics).await?;
        let secure = config.tls.mode != TlsMode::Off;
        let users = Arc::new(Users::new(db.clone(), clock.clone(), auth.clone(), secure));
        users.load().await?;
        let outbound = build_outbound(config, &metrics)?;
        let challenges = HttpChallenges::default();
        let to_clients = (certificates.clone(), challenges.clone());
        let acme = build_acme(config, &db, &vault, &clock, &outbound, to_clients, &metrics).await?;
        let file = start.sources.file.clone();
        let backups = build_backups(config, &db, &clock, &outbound, file, &metrics).await?;
        let over = models::Parts {
            config,
            db: &db,
            vault: &vault,
            clock: &clock,
            ids: &ids,
            outbound: &outbound,
            budgets: &budgets,
        };
        let models = Models::open(over, &metrics).await?;
        let own = [acme::handler(&acme)].into_iter().chain(models.handlers());
        let own = own.chain(backups::handlers(&backups)).collect();
        let search_key = SearchKey::default();
        let more = extras.handlers(&budgets);
        let registry = build_registry(config, &outbound, own, &search_key, more)?;
        let (limits, quotas) = (job_limits(config), auth.limits().clone());
        let parts = jobs::Parts {
            db: db.clone(),
            clock: clock.clone(),
            ids,
            registry,
            limits,
            quotas,
            budgets: budgets.clone(),
            runtime: jobs_on,
        };
        let jobs = Jobs::new(parts, &metrics)?;
        models.begin(&jobs);
        let process = ProcessMetrics::new(&metrics, &clock)?;
        let routes = Arc::new(routes());
        let proxies = Arc::new(TrustedProxies::new(config.server.trusted_proxies.clone()));
        let live = reload::Live {
            auth: auth.clone(),
            proxies: proxies.clone(),
            kept: kept.clone(),
            acme: acme.clone(),
            gateway: models.gateway.clone(),
            tenants: tenants.clone(),
            budgets: budgets.clone(),
            search_key,
            mode: config.tls.mode,
            clock: clock.clone(),
        };
        let reloader = reload::Reloader::new(start.sources, config, start.shown, live).map_err(BuildError::Secret)?;
        let setup = build_setup(config, &db, &clock, &users, &tenants);
        let status = build_status(config, &db, &jobs, &users, (&certificates, &acme), &backups, clock.clone());
        Ok(Self {
            health: Arc::new(health::Health::new(db.clone(), jobs.clone(), models.gateway.clone(), process, &metrics)?),
            http_metrics: HttpMetrics::new(&metrics)?,
            reloader: Arc::new(reloader),
            proxies,
            body_limits: BodyLimits { bytes: config.server.body_bytes, time: config.server.body_time },
            docs: Arc::new(docs::Docs::new(routes.clone())),
            routes,
            stop: CancellationToken::new(),
            clock,
            _lock: Arc::new(lock),
            db,
            jobs,
            tenants,
            users,
            setup: Arc::new(setup),
            status: Arc::new(status),
            metrics,
            outbound,
            certificates,
            challenges,
            acme,
            budgets,
            backups,
            models,
            kept,
            vault,
            auth,
        })
    }

    /// Takes up the work of the last run and begins to do it.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn start(&self, jobs_on: &Handle) -> Result<(), BuildError> {
        for tenant in self.tenants.suspended().await? {
            self.jobs.hold(tenant, true);
        }
        let (jobs, tenants) = (self.jobs.clone(), Arc::downgrade(&self.tenants));
        let clear = {
            let (jobs, models, runtime) = (self.jobs.clone(), self.models.clone(), jobs_on.clone());
            move |tenant| {
                let (tenants, models, runtime) = (tenants.clone(), models.clone(), runtime.clone());
                jobs.clear_tenant(tenant, move |tenant| {
                    runtime.spawn(async move {
                        if let Err(error) = models.clear_tenant(tenant).await {
                            tracing::warn!(%error, tenant, "what a deleted tenant has left stays until the next start");
                            return;
                        }
                        if let Some(tenants) = tenants.upgrade() {
                            tenants.forget(tenant).await;
                        }
                    });
                });
            }
        };
        for tenant in self.tenants.deleted().await? {
            clear(tenant);
        }
        for (tenant, quota) in self.auth.limits().quotas() {
            apply_quota(&jobs, tenant, quota);
        }
        let models = self.models.clone();
        self.tenants.on_change(move |change| {
            apply_quota(&jobs, change.tenant, change.quota);
            models.hold(change.tenant, change.status != Status::Active);
            match change.status {
                Status::Active => jobs.hold(change.tenant, false),
                Status::Suspended => jobs.hold(change.tenant, true),
                Status::Deleted => clear(change.tenant),
            }
        });
        let (within, after) = (self.budgets.clone(), self.budgets.clone());
        self.tenants.on_rotation(move |tx, keys| within.pass_on(tx, keys), move |keys| after.passed_on(keys));
        self.setup.begin();
        self.jobs.start(&self.stop).await?;
        let (acme, jobs, stop) = (self.acme.clone(), self.jobs.clone(), self.stop.clone());
        jobs_on.spawn(async move { acme.run(jobs, &stop).await });
        let (backups, jobs, stop) = (self.backups.clone(), self.jobs.clone(), self.stop.clone());
        jobs_on.spawn(async move { backups.run(jobs, &stop).await });
        self.models.run(&self.jobs, jobs_on, &self.stop);
        jobs_on.spawn(self.kept.clone().watch(self.stop.clone()));
        let app = self.clone();
        let mut watch = steady::Watch::new(self.clock.clone());
        jobs_on.spawn(async move {
            watch.look(&app.db).await;
            // Only the pause is cut short: a flush that is dropped would be
            // written all the same, and then once more.
            while app.stop.run_until_cancelled(tokio::time::sleep(FLUSH_EVERY)).await.is_some() {
                app.flush().await;
                watch.look(&app.db).await;
            }
        });
        Ok(())
    }

    /// Registers routes and what they need with one HTTP worker.
    pub fn configure(&self, config: &mut web::ServiceConfig) {
        config
            .app_data(web::Data::from(self.auth.clone()))
            .app_data(web::Data::from(self.auth.cors().clone()))
            .app_data(web::Data::from(self.proxies.clone()))
            .app_data(web::Data::from(self.reloader.clone()))
            .app_data(web::Data::from(self.tenants.clone()))
            .app_data(web::Data::from(self.users.clone()))
            .app_data(web::Data::from(self.setup.clone()))
            .app_data(web::Data::from(self.status.clone()))
            .app_data(web::Data::from(self.health.clone()))
            .app_data(web::Data::from(self.docs.clone()))
            .app_data(web::Data::new(self.jobs.clone()))
            .app_data(web::Data::new(self.acme.clone()))
            .app_data(web::Data::new(self.backups.clone()))
            .app_data(web::Data::new(self.vault.clone()))
            .app_data(web::Data::new(self.body_limits))
            .app_data(web::Data::new(self.http_metrics.clone()))
            .app_data(web::Data::new(self.metrics.clone()));
        self.models.configure(config);
        self.routes.configure(config);
    }

    /// Reads the configuration again, as `POST /admin/reload` does.
    ///
    /// # Errors
    /// When it is refused; the settings from before then go on counting.
    pub async fn reload(&self) -> Result<(), crate::http::Problem> {
        self.reloader.reload().await.map(drop)
    }

    /// Stops timers, writes what is kept in memory, closes the database.
    pub async fn close(&self) {
        self.stop.cancel();
        self.flush().await;
        steady::keep(&self.db, &self.clock).await;
        self.budgets.close().await;
        self.setup.forget();
        self.db.close();
    }

    /// Writes what is kept in memory only because a write for each request
    /// would be too many.
    async fn flush(&self) {
        if let Err(error) = self.tenants.flush_last_used().await {
            tracing::warn!(%error, "the last use of keys could not be written");
        }
        if let Err(error) = self.users.flush().await {
            tracing::warn!(%error, "the last use of sessions could not be written");
        }
        if let Err(error) = self.auth.limits().flush_usage(&self.db).await {
            tracing::warn!(%error, "what tenants have used could not be written");
        }
    }
}

/// Tells the jobs what of a tenant's quota concerns them.
fn apply_quota(jobs: &Jobs, tenant: i64, quota: Quota) {
    let concurrency = quota.concurrent_jobs.map(|jobs| jobs as usize);
    jobs.set_share(tenant, jobs::Share { weight: quota.weight, concurrency });
    let keep = quota.retention_days.map(|days| Duration::from_secs(u64::from(days) * 86_400));
    jobs.set_retention(tenant, keep);
}

/// Brings keys and quotas into memory.
async fn load_tenants(config: &Config, tenants: &Tenants) -> Result<(), BuildError> {
    let legacy = config.auth.api_key.resolve().map_err(BuildError::Secret)?;
    let loaded = tenants.load(legacy.as_deref()).await?;
    if loaded.unusable > 0 {
        tracing::warn!(
            keys = loaded.unusable,
            "the key-hash secret is not the one that these API keys were made with, so they are refused; \
             set the old one as auth.previous_key_hash_secret, or make new keys"
        );
    }
    if loaded.before > 0 {
        tracing::info!(
            keys = loaded.before,
            "API keys that are hashed with auth.previous_key_hash_secret, and anew when they are used"
        );
    }
    Ok(())
}

#[cfg(test)]
mod table;
