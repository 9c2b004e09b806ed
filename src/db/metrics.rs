//! What the engine tells about itself.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, Registry};

use super::Error;

/// Counters and histograms, registered once.
#[derive(Clone)]
pub(super) struct Metrics {
    pub batch_size: Histogram,
    pub commit_seconds: Histogram,
    pub writes: IntCounter,
    pub failed_batches: IntCounter,
    pub wal_restart_seconds: Histogram,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let times = vec![0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];
        Ok(Self {
            batch_size: histogram(
                "agentd_db_batch_writes",
                "Writes that shared one commit.",
                vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0],
            )?,
            commit_seconds: histogram(
                "agentd_db_commit_seconds",
                "Time from the start of a batch to its commit on disk.",
                times.clone(),
            )?,
            writes: counter("agentd_db_writes_total", "Writes run, failed ones too.")?,
            failed_batches: counter(
                "agentd_db_failed_batches_total",
                "Batches that failed as a whole, such as on a full disk.",
            )?,
            wal_restart_seconds: histogram(
                "agentd_db_wal_restart_seconds",
                "Time that commits waited while the write-ahead log was started over.",
                times,
            )?,
        })
    }

    pub(super) fn batch(&self, writes: usize, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most some hundred writes")]
        self.batch_size.observe(writes as f64);
        self.commit_seconds.observe(took.as_secs_f64());
        self.writes.inc_by(writes as u64);
    }
}

/// The engine's present state, for readiness and refusals.
#[derive(Default)]
pub(super) struct Health {
    fault: Mutex<Option<Error>>,
    wal_pages: AtomicU64,
    free_bytes: AtomicU64,
    batches: AtomicU64,
    copies: AtomicI32,
}

impl Health {
    /// A copy of the database is begun (1), or done with (-1).
    pub(super) fn copies(&self, change: i32) {
        self.copies.fetch_add(change, Ordering::Relaxed);
    }

    /// Whether somebody copies, so that the log cannot start over.
    pub(super) fn is_copied(&self) -> bool {
        self.copies.load(Ordering::Relaxed) > 0
    }

    /// The writer has done with some writes, well or not.
    pub(super) fn batch_done(&self) {
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    pub(super) fn writes(&self, error: Option<&Error>) {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if fault.as_ref() == error {
            return;
        }
        match error {
            Some(error) => tracing::error!(%error, "writes to the database fail"),
            None => tracing::info!("writes to the database work again"),
        }
        *fault = error.cloned();
    }

    pub(super) fn fault(&self) -> Option<Error> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_wal_pages(&self, pages: u64) {
        self.wal_pages.store(pages, Ordering::Relaxed);
    }

    pub(super) fn wal_pages(&self) -> u64 {
        self.wal_pages.load(Ordering::Relaxed)
    }

    pub(super) fn set_free_bytes(&self, bytes: u64) {
        self.free_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }
}
