//! What keeps the files small without standing in anybody's way: a thread that
//! checkpoints behind the writer's back, gives free pages back to the file
//! system in small pieces, watches the free space, and tries again after a
//! fault whether writing works.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::writer::checkpoint;
use super::{Db, connect};

/// How often the thread looks.
const EVERY: Duration = Duration::from_millis(500);
/// Pages in the log from which a checkpoint is worth its `fsync`.
const CHECKPOINT_FROM_PAGES: u64 = 1_000;
/// A smaller log is checkpointed too when it has lain for this long.
const CHECKPOINT_AT_LEAST_EVERY: Duration = Duration::from_secs(60);
/// How often free pages are looked for.
const VACUUM_EVERY: Duration = Duration::from_secs(10);
/// Free pages that are left for new rows.
const KEEP_FREE_PAGES: i64 = 2_000;
/// Pages given back in one write, so that no commit waits long for it.
const VACUUM_PAGES: i64 = 500;

/// The thread's state between two looks.
pub(super) struct Maintenance {
    db: Db,
    path: PathBuf,
    connection: Option<Connection>,
    checkpointed: Instant,
    vacuumed: Instant,
}

impl Maintenance {
    pub(super) fn new(db: Db, path: &Path) -> Self {
        let now = Instant::now();
        Self { db, path: path.into(), connection: None, checkpointed: now, vacuumed: now }
    }

    /// Looks until the other end of `stop` is gone.
    pub(super) fn run(mut self, stop: &Receiver<()>) {
        while stop.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            self.db.measure_space();
            if self.db.fault().is_some() {
                self.probe();
                self.connection = None;
                continue;
            }
            self.connect();
            let Some(connection) = &self.connection else { continue };
            let pages = self.db.wal_pages();
            let due = pages > 0 && self.checkpointed.elapsed() > CHECKPOINT_AT_LEAST_EVERY;
            if pages >= CHECKPOINT_FROM_PAGES || due {
                self.checkpointed = Instant::now();
                if let Err(error) = checkpoint(connection, "PASSIVE") {
                    tracing::warn!(%error, "a checkpoint failed");
                }
            }
            if self.vacuumed.elapsed() > VACUUM_EVERY && !self.vacuum() {
                self.vacuumed = Instant::now();
            }
        }
    }

    pub(super) fn connect(&mut self) {
        if self.connection.is_none() {
            self.connection = connect::plain(&self.path).ok();
        }
    }

    /// A write that changes nothing, to learn whether writing works again.
    fn probe(&self) {
        let touch = |tx: &super::Tx<'_>| tx.execute("UPDATE meta SET value = value WHERE key = 'boot_epoch'", []);
        self.db.write_with(touch, |_| {});
    }

    /// Gives some free pages back; whether there are more to give.
    pub(super) fn vacuum(&self) -> bool {
        let Some(connection) = &self.connection else { return false };
        let free = connection.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0));
        let spare = free.unwrap_or(0) - KEEP_FREE_PAGES;
        if spare <= 0 {
            return false;
        }
        let sql = format!("PRAGMA incremental_vacuum({})", spare.min(VACUUM_PAGES));
        self.db.write_with(move |tx| tx.all(&sql, [], |_| Ok(())), |_| {});
        true
    }
}
