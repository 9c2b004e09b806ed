//! A copy of the database as it is at one moment, taken while others write.
//!
//! The connection that is copied from reads in one transaction from the first
//! page to the last, so that no write can make the copy begin anew. Meanwhile
//! the write-ahead log cannot start over, so it is let grow.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::metrics::Health;
use super::place::plain_name;
use super::writer::checkpoint;
use super::{Db, Error, PAGE_BYTES, connect};

/// Pages that are copied in one go: 1 MiB.
const PAGES: i32 = 256;
/// Goes after which the copy is brought to the disk. Left to the kernel, it
/// would all be written at once, and commits would wait behind it.
const GOES_A_FLUSH: u32 = 4;
/// The least pause after a flush.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
/// Looks at a log that has grown, before commits wait for the rest of it.
const CATCH_UP: usize = 20;

/// Held while a copy is taken.
struct Copying<'a>(&'a Health);

impl<'a> Copying<'a> {
    fn begin(health: &'a Health) -> Self {
        health.copies(1);
        Self(health)
    }
}

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        self.0.copies(-1);
    }
}

impl Db {
    /// Copies the database as it is now into a new file, which is then no
    /// longer in the mode of a running one; its size in bytes. Blocks. Works
    /// half of the time at most, so that others come to their turn, and gives
    /// up when the disk runs full.
    ///
    /// # Errors
    /// When it could not be copied, or `go_on` said no ([`Error::Closed`]).
    pub fn copy_to(&self, path: &Path, go_on: impl Fn() -> bool) -> Result<u64, Error> {
        let guard = Copying::begin(&self.0.health);
        let source = connect::reader(&self.0.options.path)?;
        source.execute_batch("BEGIN")?;
        // A transaction sees what was there at its first read.
        source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        let bytes = self.copy_pages(&source, path, go_on)?;
        drop(source);
        self.catch_up();
        drop(guard);
        Ok(bytes)
    }

    fn copy_pages(&self, source: &Connection, path: &Path, go_on: impl Fn() -> bool) -> Result<u64, Error> {
        let io = |error: std::io::Error| Error::from_io(path, &error);
        let mut target = new(path)?;
        let file = std::fs::File::open(path).map_err(io)?;
        let copy = Backup::new(source, &mut target)?;
        let mut goes = 0_u32;
        loop {
            let start = Instant::now();
            let step = copy.step(PAGES)?;
            goes += 1;
            if goes.is_multiple_of(GOES_A_FLUSH) || step == StepResult::Done {
                file.sync_data().map_err(io)?;
            }
            if step == StepResult::Done {
                break;
            }
            if !go_on() {
                return Err(Error::Closed);
            }
            if self.nearly_full() {
                return Err(Error::Full);
            }
            std::thread::sleep(start.elapsed().max(SHORTEST_PAUSE));
        }
        let pages = copy.progress().pagecount;
        drop(copy);
        // A file for itself: without this, whoever reads it would have to make a log.
        target.execute_batch("PRAGMA journal_mode = DELETE")?;
        drop(target);
        file.sync_all().map_err(io)?;
        Ok(u64::try_from(pages).unwrap_or(0) * PAGE_BYTES)
    }

    /// Brings the log that has grown into the database behind the writer's back,
    /// so that commits need not wait for all of it.
    fn catch_up(&self) {
        let Ok(connection) = connect::plain(&self.0.options.path) else { return };
        for _ in 0..CATCH_UP {
            // Done: what is left is what was written during this very checkpoint.
            if !matches!(checkpoint(&connection, "PASSIVE"), Ok(true))
                || self.wal_pages() < self.0.options.wal_bound / PAGE_BYTES
            {
                return;
            }
        }
    }
}

/// The file of a copy. It is worth nothing before it is whole, so no journal
/// need protect it.
fn new(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(plain_name(path), flags)?;
    connection.execute_batch(
        "PRAGMA journal_mode = OFF;
         PRAGMA synchronous = OFF;
         PRAGMA locking_mode = EXCLUSIVE;
         PRAGMA cache_size = -1024;",
    )?;
    Ok(connection)
}
