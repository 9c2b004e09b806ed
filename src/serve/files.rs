//! How many files the process may have open, and how many of them connections
//! take: the database, calls of models and whatever jobs fetch need some too, and
//! a service that has none left can do nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Fewer are too few to start with.
const FEWEST: u64 = 96;
/// What the database, the log, timers and the like have open.
const OWN: usize = 36;
/// What each thread that speaks HTTP has open.
const EACH_WORKER: usize = 6;
/// Most that is left for jobs, calls of models, backups.
const MOST_FOR_JOBS: usize = 4_096;
/// Connections of the command line, at most.
const CONTROL: usize = 1_024;
/// Connections whose requests are sent on to HTTPS, at most.
const REDIRECT: usize = 1_024;
/// How often it is looked whether all are in use.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often that is said.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Why the service cannot run with so few open files.
#[derive(Debug, thiserror::Error)]
#[error(
    "this process may have only {limit} files open, and each connection is one; it needs at least {FEWEST}: raise the \
     limit (ulimit -Hn, LimitNOFILE= of the unit, --ulimit nofile= of the container)"
)]
pub struct TooFewFiles {
    limit: u64,
}

/// Refuses a limit with which nothing could be served.
pub(super) fn refuse_too_few(limit: Option<u64>) -> Result<(), TooFewFiles> {
    match limit {
        Some(limit) if limit < FEWEST => Err(TooFewFiles { limit }),
        _ => Ok(()),
    }
}

/// Connections that each server may have, and the threads for callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    pub workers: usize,
    /// For each of the workers.
    pub callers: usize,
    pub control: usize,
    pub redirect: usize,
}

impl Shares {
    /// What a limit allows; `wanted` is what the settings say for callers, `http`
    /// whether plain HTTP is sent on.
    pub(super) fn of(limit: Option<u64>, wanted: usize, http: bool) -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        Self::with(limit, wanted, http, processors)
    }

    fn with(limit: usize, wanted: usize, http: bool, processors: usize) -> Self {
        let workers = processors.min(limit / 64).max(1);
        let own = OWN + EACH_WORKER * (workers + 2);
        let for_jobs = (limit / 4).min(1_024 + limit / 16).min(MOST_FOR_JOBS);
        let left = limit.saturating_sub(own + for_jobs).max(8);
        let control = (left / 8).min(CONTROL);
        let redirect = if http { (left / 8).min(REDIRECT) } else { 0 };
        let callers = (left - control - redirect).min(wanted).max(workers) / workers;
        Self { workers, callers, control, redirect }
    }

    /// Connections of callers, all together.
    pub(super) fn all_callers(&self) -> usize {
        self.workers * self.callers
    }
}

/// Raises the limit as far as it may be without asking anyone, since each
/// connection and follower is an open file; the limit that now holds, `None`
/// for none.
pub(super) fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the number of open files could not be raised");
            limit.current
        }
    }
}

/// Connections of callers that there are now.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Arc<AtomicUsize>);

/// One of them, for as long as it lives.
#[derive(Debug)]
pub(super) struct Connected(Connections);

impl Connections {
    pub(super) fn one_more(&self) -> Connected {
        self.0.fetch_add(1, Ordering::Relaxed);
        Connected(self.clone())
    }

    /// Says, once a minute at most, that no more connections are taken. Never ends.
    pub(super) async fn watch(self, most: usize) {
        let mut said: Option<Instant> = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let is_quiet = said.is_some_and(|said| said.elapsed() < SAY_EVERY);
            let now = self.0.load(Ordering::Relaxed);
            let none_left = no_descriptor_left();
            if is_quiet || (now < most && !none_left) {
                continue;
            }
            said = Some(Instant::now());
            let limit = getrlimit(Resource::Nofile).current;
            if none_left {
                tracing::warn!(
                    connections = now,
                    limit,
                    "no file descriptor is left: connections wait, and jobs that need one fail; raise LimitNOFILE= of the \
                     unit (ulimit -n)"
                );
            } else {
                tracing::warn!(
                    connections = now,
                    limit,
                    "all connections are in use, so further ones wait: raise tls.connections, or LimitNOFILE= of the unit \
                     (ulimit -n) where it allows fewer"
                );
            }
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn no_descriptor_left() -> bool {
    let opened = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    matches!(opened, Err(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_usual_limit_leaves_what_the_settings_say() {
        let shares = Shares::with(524_288, 20_000, true, 4);
        assert_eq!(shares, Shares { workers: 4, callers: 5_000, control: CONTROL, redirect: REDIRECT });
        assert_eq!(Shares::with(usize::MAX, 20_000, true, 4), shares);
    }

    #[test]
    fn too_few_are_said() {
        assert!(refuse_too_few(None).is_ok() && refuse_too_few(Some(96)).is_ok());
        let said = refuse_too_few(Some(50)).expect_err("too few").to_string();
        assert!(said.contains("only 50 files") && said.contains("LimitNOFILE="), "{said}");
    }

    proptest! {
        #[test]
        fn connections_never_take_all(limit in 96..200_000_usize, wanted in 1..50_000_usize, processors in 1..256_usize, http: bool) {
            let shares = Shares::with(limit, wanted, http, processors);
            prop_assert!(shares.callers >= 1 && shares.control >= 1 && shares.workers >= 1);
            prop_assert_eq!(shares.redirect >= 1, http);
            let taken = shares.all_callers() + shares.control + shares.redirect;
            let own = OWN + EACH_WORKER * (shares.workers + 2);
            prop_assert!(taken + own <= limit, "{shares:?} of {limit}");
            prop_assert!(shares.all_callers() <= wanted.max(shares.workers));
        }
    }

    #[test]
    fn connections_are_counted_for_as_long_as_they_live() {
        let connections = Connections::default();
        let (one, two) = (connections.one_more(), connections.one_more());
        assert_eq!(connections.0.load(Ordering::Relaxed), 2);
        drop((one, two));
        assert_eq!(connections.0.load(Ordering::Relaxed), 0);
        assert!(!no_descriptor_left());
    }
}
