//! Backups: made while the service works, tried out before they are called so,
//! kept here and sent elsewhere, and restored when everything else is lost.
//!
//! A loop looks whether one is due; making it is a job of the service's own,
//! `backup.create`. Restoring is done without a service, by [`restore`].

mod archive;
mod error;
pub mod fetch;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod job;
mod keep;
mod keys;
mod make;
mod metrics;
mod name;
mod pace;
pub mod restore;
mod routes;
pub mod standby;
mod state;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{BackupSection, Config};
use crate::db::{self, Db};
use crate::http::Problem;
use crate::jobs::{JobId, Jobs};
use crate::s3::Bucket;

pub use archive::Manifest;
pub use error::BackupError;
pub use job::handlers;
pub use keys::Keys;
pub use name::Name;
pub use routes::routes;
pub use state::{Drill, Identity, Last};

use keep::Keep;
use make::{Made, Source};
use metrics::Metrics;
use pace::Pace;
use state::State;

/// How often it is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The folder of secrets in the data folder.
pub const SECRETS: &str = "secrets";

/// What is needed to make backups.
pub struct Parts {
    /// What they are made of.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// Where they are sent to.
    pub bucket: Option<Bucket>,
    /// The configuration file.
    pub configuration: Option<PathBuf>,
}

/// The service. Clones share it.
#[derive(Clone)]
pub struct Backups(Arc<Inner>);

struct Inner {
    clock: Clock,
    section: BackupSection,
    source: Source,
    bucket: Option<Bucket>,
    metrics: Metrics,
    identity: Identity,
    state: RwLock<State>,
    jobs: OnceLock<Jobs>,
    /// Held while one is made, tried out or cleared away; by the thread that does
    /// it until that is done, also when nobody waits for it any more.
    working: Arc<tokio::sync::Mutex<()>>,
}

/// Whoever has this is the only one at work.
type Alone = Arc<OwnedMutexGuard<()>>;

/// Why backups cannot be made at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The service's own key.
    #[error(transparent)]
    Keys(#[from] BackupError),
    /// The database.
    #[error(transparent)]
    Database(#[from] db::Error),
    /// A metric's name is taken: a fault of ours.
    #[error(transparent)]
    Metric(#[from] prometheus::Error),
}

/// How backups stand.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The last that was made.
    pub last: Option<Last>,
    /// What went wrong since.
    pub problem: Option<state::Problem>,
    /// The last restore as a test.
    pub drill: Option<Drill>,
    /// Whether none has been completed for much longer than it should be.
    pub is_late: bool,
}

impl Backups {
    /// The service; it makes nothing before [`run`](Self::run).
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(config: &Config, parts: Parts, registry: &prometheus::Registry) -> Result<Self, OpenError> {
        let Parts { db, clock, bucket, configuration } = parts;
        let section = config.backup.clone();
        let secrets = config.data.dir.join(SECRETS);
        let keys = Keys::of_service(&secrets, &section.recipients)?;
        let now = clock.now();
        let (identity, state) = db.write(move |tx| Ok((state::identify(tx)?, state::read(tx, now)?))).await?;
        let metrics = Metrics::new(registry)?;
        metrics.show(&state);
        let source = Source { db, dir: section.dir.clone(), secrets, configuration, keys };
        Ok(Self(Arc::new(Inner {
            clock,
            section,
            source,
            bucket,
            metrics,
            identity,
            state: RwLock::new(state),
            jobs: OnceLock::new(),
            working: Arc::default(),
        })))
    }

    /// Looks again and again whether something is due, until `stop`.
    pub async fn run(&self, jobs: Jobs, stop: &CancellationToken) {
        if self.0.jobs.set(jobs).is_err() {
            return;
        }
        let look = async {
            loop {
                self.0.look().await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        stop.run_until_cancelled(look).await;
    }

    /// How backups stand.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner).clone();
        let now = self.0.clock.now();
        let is_late = self.0.section.every.is_some_and(|every| state.is_late(every, now));
        Standing { last: state.last, problem: state.problem, drill: state.drill, is_late }
    }
}

impl Inner {
    async fn look(&self) {
        let (now, state) = (self.clock.now(), self.state());
        if self.section.every.is_some_and(|every| state.due(every, now) <= now) {
            self.submit_if_free(job::CREATE).await;
        } else if self
            .section
            .drill_every
            .is_some_and(|every| state.drill_due(every, now).is_some_and(|due| due <= now))
        {
            self.submit_if_free(job::VERIFY).await;
        }
    }

    async fn submit_if_free(&self, handler: &'static str) {
        let input = job::Input { scheduled: true, ..job::Input::default() };
        if let Err(problem) = self.submit(handler, &input).await {
            tracing::warn!(handler, "a job for backups could not be submitted: {problem}");
        }
    }

    /// Has something done; the job, `None` while another is at it.
    async fn submit(&self, handler: &'static str, input: &job::Input) -> Result<Option<JobId>, Problem> {
        let jobs = self.jobs.get().ok_or_else(|| Problem::unavailable("starting", "the service starts", 1))?;
        let input = serde_json::to_value(input).map_err(Problem::internal)?;
        jobs.submit_own(handler, &input, handler.to_owned()).await
    }

    fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn change(&self, change: impl Fn(&mut State) + Send + 'static) -> Result<(), db::Error> {
        let now = self.clock.now();
        let state = self.source.db.write(move |tx| state::change(tx, now, &change)).await?;
        self.metrics.show(&state);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    /// Makes one, sends it, clears away what is too old. A scheduled one is made
    /// only if it is due, and where the last has merely not been sent that is all.
    async fn create(self: &Arc<Self>, scheduled: bool, stop: &CancellationToken) -> Result<Option<Last>, BackupError> {
        let alone = self.alone().await;
        let (now, state) = (self.clock.now(), self.state());
        let every = self.section.every.filter(|_| scheduled);
        if every.is_some_and(|every| state.due(every, now) > now) {
            return Ok(None);
        }
        let unsent = every.and_then(|every| state.unsent(every, now)).filter(|last| self.local(&last.name).is_file());
        // What cannot be asked now is asked again before it is sent.
        if let Ok(remote) = self.remote().await {
            self.refuse_if_taken_over(&remote)?;
        }
        let last = match unsent {
            Some(last) => last.clone(),
            None => self.make(&alone, stop).await?,
        };
        // Also while nothing can be sent: the disk must not fill up with them.
        self.clear_away_here();
        let last = self.send(last).await?;
        self.clear_away_there().await;
        Ok(Some(last))
    }

    async fn make(self: &Arc<Self>, alone: &Alone, stop: &CancellationToken) -> Result<Last, BackupError> {
        let (at, start) = (self.clock.now(), Instant::now());
        let Made { name, bytes, database_bytes } =
            self.on_a_thread(alone, stop, move |inner, go_on| make::make(&inner.source, at, go_on)).await?;
        let last = Last {
            name: name.to_string(),
            at,
            bytes,
            database_bytes,
            seconds: start.elapsed().as_secs_f64(),
            sent: self.bucket.is_none(),
        };
        let made = last.clone();
        self.change(
            move |state| if made.sent { state.succeeded(made.clone()) } else { state.last = Some(made.clone()) },
        )
        .await?;
        tracing::info!(name = last.name, bytes, database_bytes, seconds = last.seconds, "a backup was made");
        Ok(last)
    }

    async fn send(&self, mut last: Last) -> Result<Last, BackupError> {
        if last.sent {
            return Ok(last);
        }
        let Some(bucket) = &self.bucket else {
            // There was one when it was made.
            last.sent = true;
            let kept = last.clone();
            self.change(move |state| state.succeeded(kept.clone())).await?;
            return Ok(last);
        };
        let fault = |error: crate::s3::Error| {
            BackupError::Refused(format!(
                "{} was made and could not be sent to {}: {error}",
                last.name,
                bucket.describe()
            ))
        };
        self.refuse_if_taken_over(&self.remote().await?)?;
        bucket.put(&last.name, &self.local(&last.name)).await.map_err(fault)?;
        last.sent = true;
        let sent = last.clone();
        self.change(move |state| state.succeeded(sent.clone())).await?;
        tracing::info!(name = last.name, to = bucket.describe(), "a backup was sent");
        Ok(last)
    }

    /// Another host that goes on with this instance's work must not find its
    /// backups beside those of one that it has taken the place of.
    fn refuse_if_taken_over(&self, remote: &[Name]) -> Result<(), BackupError> {
        let taken = remote.iter().find(|name| name.timeline > self.identity.timeline);
        taken.map_or(Ok(()), |name| {
            Err(BackupError::Refused(format!(
                "another host has been restored from this service's backups and goes on with its work since {} ({name}): \
                 stop this service, or give one of the two a place of its own (backup.s3_prefix)",
                name.at
            )))
        })
    }

    /// Those of this instance in the bucket.
    async fn remote(&self) -> Result<Vec<Name>, BackupError> {
        Ok(self.remote_with_sizes().await?.into_iter().map(|(name, _)| name).collect())
    }

    async fn remote_with_sizes(&self) -> Result<Vec<(Name, u64)>, BackupError> {
        let Some(bucket) = &self.bucket else { return Ok(Vec::new()) };
        let listed = bucket.list().await;
        let listed =
            listed.map_err(|error| BackupError::Refused(format!("{} cannot be read: {error}", bucket.describe())))?;
        Ok(listed.iter().filter_map(|object| Some((self.ours(&object.name)?, object.bytes))).collect())
    }

    fn ours(&self, name: &str) -> Option<Name> {
        name.parse().ok().filter(|name: &Name| name.instance == Name::instance_of(&self.identity.instance))
    }

    /// Those of this instance in the folder.
    fn here(&self) -> Vec<Name> {
        let Ok(entries) = std::fs::read_dir(&self.section.dir) else { return Vec::new() };
        entries.flatten().filter_map(|entry| self.ours(entry.file_name().to_str()?)).collect()
    }

    fn local(&self, name: &str) -> PathBuf {
        self.section.dir.join(name)
    }

    fn keep(&self) -> Keep {
        Keep { newest: self.section.keep, days: self.section.keep_days }
    }

    /// What cannot be cleared away now is tried again after the next.
    fn clear_away_here(&self) {
        for name in self.keep().too_many(&self.here(), &self.clock) {
            if let Err(error) = std::fs::remove_file(self.local(&name.to_string())) {
                tracing::warn!(%name, "an old backup could not be deleted: {error}");
            }
        }
    }

    async fn clear_away_there(&self) {
        let Some(bucket) = &self.bucket else { return };
        let remote = self.remote().await.unwrap_or_default();
        for name in self.keep().too_many(&remote, &self.clock) {
            if let Err(error) = bucket.remove(&name.to_string()).await {
                tracing::warn!(%name, from = bucket.describe(), "an old backup could not be deleted: {error}");
            }
        }
    }

    /// Restores one beside the data, the newest if none is named, to see that it
    /// can be.
    async fn drill(
        self: &Arc<Self>,
        name: Option<String>,
        stop: &CancellationToken,
    ) -> Result<Option<Drill>, BackupError> {
        let alone = self.alone().await;
        let (now, state) = (self.clock.now(), self.state());
        let Some(name) = name.or_else(|| state.last.map(|last| last.name)) else { return Ok(None) };
        let tried = job::in_time(job::PATIENCE, self.try_out(&name, &alone, stop)).await;
        let problem = match tried {
            Err(BackupError::Stopped) => return Err(BackupError::Stopped),
            Err(error) => Some(error.to_string()),
            Ok(_) => None,
        };
        let drill = Drill { name, at: now, problem };
        let kept = drill.clone();
        self.change(move |state| state.drill = Some(kept.clone())).await?;
        Ok(Some(drill))
    }

    /// Unpacks a backup, looks through the database in it as a restore does, and
    /// throws it away. Where there is a bucket it is the one there that counts.
    async fn try_out(
        self: &Arc<Self>,
        name: &str,
        alone: &Alone,
        stop: &CancellationToken,
    ) -> Result<Manifest, BackupError> {
        let is_there = async |name: &str| match self.remote().await {
            Ok(names) => names.iter().any(|known| known.to_string() == name),
            // Then fetching it says why not, unless it is here.
            Err(_) => !self.local(name).is_file(),
        };
        let fetched = match &self.bucket {
            Some(bucket) if is_there(name).await => {
                let partial = make::Partial::new(&self.section.dir, "fetched");
                let fault = |error| {
                    BackupError::Refused(format!("{name} cannot be fetched from {}: {error}", bucket.describe()))
                };
                bucket.get(name, partial.path()).await.map_err(fault)?;
                Some(partial)
            }
            _ => None,
        };
        let local = self.local(name);
        self.on_a_thread(alone, stop, move |inner, _| {
            let from = fetched.as_ref().map_or(local.as_path(), make::Partial::path);
            let copy = make::Partial::new(&inner.section.dir, "tried");
            restore::try_out(from, &inner.source.keys, copy.path(), Pace::Half).map(|unpacked| unpacked.manifest)
        })
        .await
    }

    /// Does what takes long on a thread of its own, which is not waited for when
    /// the process ends.
    async fn on_a_thread<T: Send + 'static>(
        self: &Arc<Self>,
        alone: &Alone,
        stop: &CancellationToken,
        work: impl FnOnce(&Inner, &dyn Fn() -> bool) -> Result<T, BackupError> + Send + 'static,
    ) -> Result<T, BackupError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (inner, alone, unwanted) = (self.clone(), alone.clone(), CancellationToken::new());
        // In whatever way this is let go.
        let _wanted = unwanted.clone().drop_guard();
        let run = move || {
            let done = work(&inner, &|| !unwanted.is_cancelled());
            drop(alone);
            let _ = sender.send(done);
        };
        let io = |source| BackupError::Io { what: "no thread for a backup".into(), source };
        std::thread::Builder::new().name("agentd-backup".into()).spawn(run).map_err(io)?;
        tokio::select! {
            done = receiver => done.unwrap_or(Err(BackupError::Refused("making a backup panicked".into()))),
            () = stop.cancelled() => Err(BackupError::Stopped),
        }
    }

    async fn alone(&self) -> Alone {
        Arc::new(self.working.clone().lock_owned().await)
    }
}
