//! A database with two tenants and a clock that can be set, for this room's tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::files::Files;
use crate::clock::{Clock, Timestamp, system_now};
use crate::config::FilesSection;
use crate::db::{Db, Options, Progress};
use crate::id::IdSource;

pub(super) struct Place {
    pub db: Db,
    pub clock: Clock,
    pub ids: IdSource,
    pub files: Files,
    runtime: tokio::runtime::Runtime,
    now: Arc<AtomicI64>,
    _folder: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        Self::with(FilesSection { file_bytes: 100 << 20, bytes_per_tenant: 1 << 30, batch_concurrency: 4 })
    }

    pub(super) fn with(limits: FilesSection) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options {
            path: folder.path().join("agentd.db"),
            readers: 1,
            read_deadline: Duration::from_secs(30),
            queue: 1_000,
            wal_bound: 64 << 20,
            min_free_bytes: 0,
            progress: Progress::default(),
            more_migrations: Vec::new(),
        };
        let (db, _) = Db::open(options, &prometheus::Registry::new()).expect("opens");
        let now = Arc::new(AtomicI64::new(system_now().micros()));
        let shared = now.clone();
        let clock = Clock::from_fn(move || Timestamp::from_micros(shared.load(Ordering::Relaxed)));
        let ids = IdSource::new(clock.clone(), 0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let tenants = "INSERT INTO tenants (no, id, name, status, cohort, created_at, updated_at)
                       VALUES (1, '1', 'one', 'active', '', 0, 0), (2, '2', 'two', 'active', '', 0, 0)";
        runtime.block_on(db.write(|tx| tx.execute(tenants, []))).expect("tenants");
        let files = Files::new(db.clone(), clock.clone(), ids.clone(), limits);
        Self { db, clock, ids, files, runtime, now, _folder: folder }
    }

    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(super) fn set_clock(&self, now: Timestamp) {
        self.now.store(now.micros(), Ordering::Relaxed);
    }

    /// Rows of a table. Blocks, so that it can be asked from anywhere.
    pub(super) fn count(&self, table: &'static str) -> i64 {
        let (sender, receiver) = std::sync::mpsc::channel();
        let count =
            move |tx: &crate::db::Tx<'_>| tx.one(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
        self.db.write_with(count, move |found| drop(sender.send(found)));
        receiver.recv().expect("an answer").expect("reads").expect("a number")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.db.close();
    }
}
