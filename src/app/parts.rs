//! What the services are told of the configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry as Metrics;
use tokio::runtime::Handle;

use super::BuildError;
use crate::auth::{Auth, KeyHasher};
use crate::backups::Backups;
use crate::budgets::{self, Budgets};
use crate::clock::Clock;
use crate::config::{Config, SearchProvider, Secret, TlsMode};
use crate::db::{self, Db, DbFile, FolderLock, OpenError, Progress};
use crate::http::cors::Cors;
use crate::id::IdSource;
use crate::jobs::{self, Handler, Jobs, Registry};
use crate::limits::Limits;
use crate::outbound::{self, Outbound};
use crate::s3::Bucket;
use crate::tenants::Tenants;
use crate::tls::{Certificates, HttpChallenges, acme};
use crate::tools::web::SearchKey;
use crate::users::Users;
use crate::vault::{self, Vault};
use crate::{agents, backups, setup, status, tools};

/// A database without tables is not larger.
const EMPTY_DATABASE: u64 = 64 << 10;
/// Threads that read the database.
const READERS: usize = 2;
/// A read longer than this is stopped.
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// Reads and writes that may wait for the database.
const DB_QUEUE: usize = 16_384;

/// Everything that a job can do.
pub(super) fn build_registry(
    config: &Config,
    outbound: &Outbound,
    own: Vec<Handler>,
    search_key: &SearchKey,
    more: Vec<Handler>,
) -> Result<Registry, BuildError> {
    let mut registry = Registry::default();
    for handler in own {
        registry.add_internal(handler).map_err(BuildError::Internal)?;
    }
    let web = web_options(config, outbound, search_key)?;
    tools::register(&mut registry, outbound.clone(), web).map_err(BuildError::Internal)?;
    agents::register(&mut registry).map_err(BuildError::Internal)?;
    for handler in more {
        registry.add(handler).map_err(BuildError::Internal)?;
    }
    Ok(registry)
}

pub(super) fn job_limits(config: &Config) -> jobs::Limits {
    jobs::Limits {
        concurrency: config.jobs.concurrency,
        queue: config.jobs.queue,
        result_bytes: config.jobs.result_bytes,
        wait: config.jobs.wait,
        retention: config.jobs.retention,
    }
}

/// The data folder, and the database's where that is another one.
pub(super) fn lock(config: &Config) -> Result<Vec<FolderLock>, BuildError> {
    // Before a folder is made in vain.
    db::refuse_unusable(&config.data.database)?;
    let mut locks = vec![FolderLock::acquire(&config.data.dir)?];
    if backups::restore::was_cut_short(&config.data.dir) {
        return Err(BuildError::CutShort(config.data.dir.clone()));
    }
    let folder = db::folder_of(&config.data.database);
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
    if real(folder) != real(&config.data.dir) {
        locks.push(FolderLock::acquire(folder)?);
    }
    refuse_remains(config)?;
    Ok(locks)
}

/// Refuses to begin an empty service where there has been one.
fn refuse_remains(config: &Config) -> Result<(), OpenError> {
    let (database, dir) = (&config.data.database, &config.data.dir);
    let empty = match std::fs::metadata(database) {
        // A first start that was cut short leaves one without tables too, but nothing beside it.
        Ok(file) if file.len() <= EMPTY_DATABASE => DbFile::open(database).and_then(|file| file.schema())? == 0,
        _ => false,
    };
    if database.exists() && !empty {
        return Ok(());
    }
    let mut found = db::remains_of(database);
    let usual = dir.join("agentd.db");
    if usual != *database && usual.exists() {
        found.push(usual.display().to_string());
    }
    let backups = dir.join("backups");
    found.extend([vault::kept::folder(dir), backups.clone()].iter().filter_map(|folder| db::filled(folder)));
    if !found.is_empty() {
        return Err(OpenError::Missing { database: database.clone(), empty, found });
    }
    // It may be that of several services, so it says nothing for certain.
    if config.backup.dir != backups
        && let Some(kept) = db::filled(&config.backup.dir)
    {
        let database = database.display();
        tracing::warn!(
            "beginning with an empty database {database}, though there is something in backup.dir, {kept}: if this is not \
             a first start, stop it and restore a backup with agentd restore"
        );
    }
    Ok(())
}

/// The database, brought to this binary's schema.
pub(super) fn open_db(
    config: &Config,
    progress: Progress,
    more_migrations: Vec<db::migrate::Migration>,
    metrics: &Metrics,
) -> Result<Db, OpenError> {
    let (db, migrated) = Db::open(db_options(config, progress, more_migrations), metrics)?;
    if migrated.from != migrated.to {
        tracing::info!(from = migrated.from, to = migrated.to, snapshot = ?migrated.snapshot, "migrated the database");
    }
    Ok(db)
}

fn db_options(config: &Config, progress: Progress, more_migrations: Vec<db::migrate::Migration>) -> db::Options {
    db::Options {
        path: config.data.database.clone(),
        readers: READERS,
        read_deadline: READ_DEADLINE,
        queue: DB_QUEUE,
        wal_bound: config.data.wal_bound,
        min_free_bytes: config.data.min_free,
        progress,
        more_migrations,
    }
}

/// What may be spent and was.
pub(super) async fn build_budgets(
    config: &Config,
    db: &Db,
    clock: &Clock,
    ids: &IdSource,
    runtime: &Handle,
    metrics: &Metrics,
) -> Result<Budgets, budgets::OpenError> {
    let (db, clock, ids, runtime) = (db.clone(), clock.clone(), ids.clone(), runtime.clone());
    Budgets::open(budgets::Parts { db, clock, ids, settings: config.budget.clone(), runtime }, metrics).await
}

/// The way out of the service.
pub(super) fn build_outbound(config: &Config, metrics: &Metrics) -> Result<Outbound, outbound::BuildError> {
    Outbound::new(config.outbound.clone().into(), metrics)
}

/// What makes backups, and sends them where the settings say.
pub(super) async fn build_backups(
    config: &Config,
    db: &Db,
    clock: &Clock,
    outbound: &Outbound,
    configuration: Option<PathBuf>,
    metrics: &Metrics,
) -> Result<Backups, BuildError> {
    let bucket = config.s3.as_ref().map(|section| Bucket::new(section, outbound)).transpose()?;
    let parts = backups::Parts { db: db.clone(), clock: clock.clone(), bucket, configuration };
    Ok(Backups::open(config, parts, metrics).await?)
}

/// What orders certificates, and shows them and its answers to clients.
pub(super) async fn build_acme(
    config: &Config,
    db: &Db,
    vault: &Vault,
    clock: &Clock,
    outbound: &Outbound,
    (certificates, http): (Certificates, HttpChallenges),
    metrics: &Metrics,
) -> Result<acme::Acme, BuildError> {
    let (db, vault, clock, outbound) = (db.clone(), vault.clone(), clock.clone(), outbound.clone());
    let acme = acme::Acme::new(acme::Parts { db, vault, clock, outbound, certificates, http }, metrics)?;
    acme.seal_plain().await?;
    acme.configure(config.tls.mode, &config.acme).await?;
    Ok(acme)
}

/// What makes the first user of a fresh service.
pub(super) fn build_setup(
    config: &Config,
    db: &Db,
    clock: &Clock,
    users: &Arc<Users>,
    tenants: &Arc<Tenants>,
) -> setup::Setup {
    let (users, tenants, data) = (users.clone(), tenants.clone(), config.data.dir.clone());
    setup::Setup::new(db.clone(), clock.clone(), users, tenants, data, runtime_folder())
}

/// How the service is.
pub(super) fn build_status(
    config: &Config,
    db: &Db,
    jobs: &Jobs,
    users: &Arc<Users>,
    (certificates, acme): (&Certificates, &acme::Acme),
    backups: &Backups,
    clock: Clock,
) -> status::Status {
    let (db, jobs, users, backups) = (db.clone(), jobs.clone(), users.clone(), backups.clone());
    let (certificates, acme) = (certificates.clone(), acme.clone());
    status::Status::new(config, status::Parts { db, jobs, users, certificates, acme, backups, clock })
}

/// The folder that systemd makes for what need not outlive the service; the
/// first one, where the unit names several.
fn runtime_folder() -> Option<PathBuf> {
    let folders = std::env::var_os("RUNTIME_DIRECTORY")?;
    std::env::split_paths(&folders).next().filter(|folder| folder.is_absolute())
}

/// What the tools that read the web are told by. Naming a search provider's
/// address allows it, for searches alone.
pub(super) fn web_options(
    config: &Config,
    outbound: &Outbound,
    search_key: &SearchKey,
) -> Result<tools::web::Options, BuildError> {
    use tools::web::{Options, Provider, Search};
    let section = &config.web;
    if let Some((_, key)) = section.search_key() {
        search_key.set(key.resolve().map_err(BuildError::Secret)?.unwrap_or_default());
    }
    let key = search_key.clone();
    let provider = section.provider().map(|provider| match provider {
        SearchProvider::Tavily => Provider::Tavily { key },
        SearchProvider::Brave => Provider::Brave { key },
        SearchProvider::Searxng => Provider::Searxng,
    });
    let base = section.search_url.clone();
    let way = base.as_ref().map_or_else(|| outbound.clone(), |url| outbound.allowing(url));
    Ok(Options {
        page_bytes: section.page_bytes,
        page_time: section.page_time,
        robots: section.robots,
        search: provider.map(|provider| Search { provider, base, outbound: way }),
    })
}

pub(super) fn build_auth(config: &Config, clock: &Clock) -> Result<Auth, BuildError> {
    let kept = |secret: &Secret, name: &str| match secret.resolve() {
        Ok(Some(text)) => Ok(text),
        Ok(None) => vault::kept::secret(&config.data.dir, name).map_err(BuildError::Secret),
        Err(fault) => Err(BuildError::Secret(fault)),
    };
    let before = config.auth.previous_key_hash_secret.resolve().map_err(BuildError::Secret)?;
    let hasher = KeyHasher::new(&kept(&config.auth.key_hash_secret, "key-hash.secret")?, before.as_deref());
    let admin = kept(&config.auth.admin_key, "admin.key")?;
    let token = config.auth.metrics_token.resolve().map_err(BuildError::Secret)?;
    let limits = Arc::new(Limits::new(config.limits.requests_per_minute));
    let cors = Arc::new(Cors::new(config.cors.clone()));
    let secure = config.tls.mode != TlsMode::Off;
    Ok(Auth::new(hasher, clock.clone(), limits, cors, &admin, token.as_deref(), secure))
}
