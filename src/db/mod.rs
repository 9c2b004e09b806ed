//! The database engine: one writer with group commit, a few readers,
//! migrations, maintenance. It knows SQL and files, and no feature.
//!
//! Features hand closures to [`Db::write`] and [`Db::read`]; only this folder
//! uses `rusqlite`. A write closure may run more than once, so it must be
//! short, touch nothing but its transaction, and decide again each time.

mod connect;
mod copy;
mod error;
#[cfg(test)]
mod expand;
mod file;
pub mod history;
pub mod limit;
mod lock;
mod maintenance;
mod metrics;
pub mod migrate;
mod place;
pub mod prepared;
mod progress;
mod reader;
#[cfg(test)]
mod tests;
mod tx;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

pub use error::Error;
pub use file::{DbFile, schema_of_this_binary};
pub use lock::{FolderLock, LOCK};
use metrics::{Health, Metrics};
pub use place::{filled, folder_of, refuse_unusable, remains_of};
pub use progress::Progress;
pub use rusqlite::params;
pub use rusqlite::types::{ToSql, Type as SqlType, Value};
pub use tx::{Row, Tx};

/// An error while reading a column, in the words of the engine.
pub type RowError = rusqlite::Error;

/// With less left on it a disk is full.
pub const NONE_LEFT: u64 = 64 << 10;
/// How long a connection waits for a lock of another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes in a page of the database and its log.
const PAGE_BYTES: u64 = 4096;

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database file; its folder also holds the log and the snapshots.
    pub path: PathBuf,
    /// Threads that read.
    pub readers: usize,
    /// A read longer than this is stopped.
    pub read_deadline: Duration,
    /// Writes and reads that may wait before more are refused.
    pub queue: usize,
    /// The log's size in bytes above which commits wait for it to start over.
    pub wal_bound: u64,
    /// New work is refused below this many free bytes on the file system.
    pub min_free_bytes: u64,
    /// Counts while the database is brought to this binary's schema.
    pub progress: Progress,
    /// Migrations after those of this binary; of a test build only.
    pub more_migrations: Vec<migrate::Migration>,
}

/// Why a data folder or its database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works on this folder.
    #[error("the data folder {folder:?} is in use by process {pid}; stop it first, or choose another folder")]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The other process's id.
        pid: String,
    },
    /// The folder cannot be made or written.
    #[error("the data folder {} cannot be used: {}", place::shown(.folder), place::why_not(.folder, .source))]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// There is no room left for it.
    #[error(
        "the disk that holds the database {database:?} is full: make space there (df -h shows it), and start again"
    )]
    Full {
        /// The file.
        database: PathBuf,
    },
    /// The file cannot be a database where it lies.
    #[error("the database {} cannot be used: {why}", place::shown(.database))]
    Place {
        /// The file.
        database: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The file is there, and nothing is in it.
    #[error(
        "the database {database:?} has 0 bytes: its content is lost. Put it back, or restore a backup with \
         agentd restore --force; to begin anew with an empty service, remove that file"
    )]
    Empty {
        /// The file.
        database: PathBuf,
    },
    /// There is none where one has been.
    #[error(
        "{} {database:?}, but this is not a first start; there is {}. Look whether data.dir and \
         data.database are right and the disk is mounted; put the database back, or restore a backup with agentd \
         restore. To begin anew with an empty service, move these away first",
        if *.empty { "there is nothing in the database" } else { "there is no database" }, .found.join(", ")
    )]
    Missing {
        /// Where it should be.
        database: PathBuf,
        /// Whether it is there and has no table.
        empty: bool,
        /// What is left of it.
        found: Vec<String>,
    },
    /// A database that another program made.
    #[error("this file is a database, but not one of agentd's; choose another path, agentd will not touch it")]
    Foreign,
    /// A newer agentd has been here.
    #[error("the database has schema version {found}, this agentd knows {known}: install the newer agentd again, or restore a snapshot from before the upgrade{}", named(.snapshot.as_deref()))]
    Newer {
        /// The version in the file.
        found: i32,
        /// The newest version this binary knows.
        known: i32,
        /// A snapshot that this binary can use.
        snapshot: Option<PathBuf>,
    },
    /// A migration did not go through; the database is as it was before it.
    #[error("the database could not be brought to this version: {reason}{}", named(.snapshot.as_deref()))]
    Migration {
        /// What the runner says.
        reason: String,
        /// The snapshot from before the upgrade.
        snapshot: Option<PathBuf>,
    },
    /// A migration left rows that refer to nothing.
    #[error("after the migration a row of table {table:?} refers to one that is not there; restore the snapshot from before it{}", named(.snapshot.as_deref()))]
    Inconsistent {
        /// The table of the row.
        table: String,
        /// The snapshot from before the upgrade.
        snapshot: Option<PathBuf>,
    },
    /// The database fails SQLite's own check.
    #[error("the database is damaged ({verdict}); restore a backup")]
    Damaged {
        /// The first line of the check.
        verdict: String,
    },
    /// The database of this service cannot be read any more.
    #[error(
        "the database {database:?} is damaged: {verdict}. Restore a backup with agentd restore --force, which keeps \
         the damaged file{}", named(.snapshot.as_deref())
    )]
    Broken {
        /// The file.
        database: PathBuf,
        /// What SQLite says.
        verdict: String,
        /// The newest snapshot beside it that this binary can use.
        snapshot: Option<PathBuf>,
    },
    /// Anything else SQLite says.
    #[error(transparent)]
    Database(#[from] Error),
    /// The metrics could not be registered: a fault of ours.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

fn named(snapshot: Option<&Path>) -> String {
    snapshot.map_or_else(String::new, |path| format!("; the snapshot is {}", path.display()))
}

/// The engine. Clones share it.
#[derive(Clone)]
pub struct Db(Arc<Shared>);

struct Shared {
    writes: Arc<writer::Inbox>,
    reads: Arc<reader::Inbox>,
    health: Arc<Health>,
    options: Options,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    stop_maintenance: Option<mpsc::Sender<()>>,
}

impl OpenError {
    /// The same, with the file and the way back where it means that the database
    /// is damaged, and what really holds it up where it only looks like the disk.
    #[must_use]
    pub fn of(self, database: &Path) -> Self {
        let verdict = match self {
            Self::Database(Error::Damaged(verdict)) | Self::Damaged { verdict } => verdict,
            Self::Database(Error::Full) => return Self::Full { database: database.into() },
            // SQLite reports a disk that fails where the index of its log does not fit.
            Self::Database(Error::Io(_)) if free_bytes(folder_of(database)).is_some_and(|free| free < NONE_LEFT) => {
                return Self::Full { database: database.into() };
            }
            Self::Database(Error::Io(_)) if limit::is_reached(database) => {
                return Self::Place { database: database.into(), why: limit::advice() };
            }
            other => return other,
        };
        let snapshot = migrate::newest_snapshot(&folder_of(database).join("snapshots"), schema_of_this_binary());
        Self::Broken { database: database.into(), verdict, snapshot }
    }
}

impl Db {
    /// Opens the database, brings it to this binary's schema, starts the threads.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is left running.
    pub fn open(options: Options, registry: &prometheus::Registry) -> Result<(Self, migrate::Report), OpenError> {
        let database = options.path.clone();
        Self::open_as_it_is(options, registry).map_err(|error| error.of(&database))
    }

    fn open_as_it_is(options: Options, registry: &prometheus::Registry) -> Result<(Self, migrate::Report), OpenError> {
        let folder = folder_of(&options.path);
        place::refuse_unusable(&options.path)?;
        // As long as nobody has the file open.
        let ready = prepared::catch_up(&options.path, &options.progress);
        // Opening for writing sets the journal's mode, so a file that is not ours
        // is refused before that. The look stays open until the writer is: the
        // last connection to close would checkpoint the log.
        if !options.path.exists() {
            place::make(&options.path)?;
        }
        let look = connect::plain(&options.path)?;
        migrate::refuse_foreign(&look)?;
        let mut connection = connect::writer(&options.path)?;
        drop(look);
        let migrations = migrate::embedded().into_iter().chain(options.more_migrations.iter().cloned()).collect();
        let report = migrate::run(&mut connection, migrations, &folder.join("snapshots"), ready, &options.progress)?;
        prepared::discard(&options.path);
        let metrics = Metrics::new(registry)?;
        let db = Self(Arc::new(Shared {
            writes: Arc::new(writer::Inbox::new(options.queue)),
            reads: Arc::new(reader::Inbox::new(options.queue)),
            health: Arc::default(),
            options,
            threads: Mutex::default(),
        }));
        db.measure_space();
        db.start(connection, metrics)?;
        Ok((db, report))
    }

    fn start(&self, connection: rusqlite::Connection, metrics: Metrics) -> Result<(), OpenError> {
        let shared = &self.0;
        let path = shared.options.path.clone();
        let mut threads = shared.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let writer_path = path.clone();
        let writer = writer::Writer {
            open: Box::new(move || connect::writer(&writer_path)),
            database: path.clone(),
            inbox: shared.writes.clone(),
            health: shared.health.clone(),
            metrics,
            wal_bound_pages: shared.options.wal_bound / PAGE_BYTES,
        };
        threads.handles.push(spawn("agentd-db-write", move || writer.run(connection))?);
        let reader_path = path.clone();
        let open: Arc<dyn Fn() -> _ + Send + Sync> = Arc::new(move || connect::reader(&reader_path));
        for _ in 0..shared.options.readers {
            let reader = reader::Reader {
                open: open.clone(),
                inbox: shared.reads.clone(),
                deadline: shared.options.read_deadline,
            };
            threads.handles.push(spawn("agentd-db-read", move || reader.run())?);
        }
        let (stop, stopped) = mpsc::channel();
        let maintenance = maintenance::Maintenance::new(self.clone(), &path);
        threads.handles.push(spawn("agentd-db-care", move || maintenance.run(&stopped))?);
        threads.stop_maintenance = Some(stop);
        Ok(())
    }

    /// Runs `work` in a write transaction; the answer comes after the commit.
    ///
    /// # Errors
    /// When nothing was written; see [`Error`].
    pub async fn write<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&Tx<'_>) -> Result<T, Error> + Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.write_with(work, move |outcome| {
            let _ = sender.send(outcome);
        });
        receiver.await.unwrap_or(Err(Error::Closed))
    }

    /// Like [`write`](Self::write), and runs `after` on the writer's thread
    /// between the commit and the answer, also when whoever asked has gone
    /// away: for what must be in step with the database, such as a cache.
    ///
    /// # Errors
    /// When nothing was written; see [`Error`].
    pub async fn write_then<T, F, A>(&self, work: F, after: A) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&Tx<'_>) -> Result<T, Error> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.write_with(work, move |outcome| {
            let _ = sender.send(outcome.inspect(after));
        });
        receiver.await.unwrap_or(Err(Error::Closed))
    }

    /// Like [`write`](Self::write), but tells `done` instead, on the writer's
    /// thread right after the commit, so it must be short and never wait. It
    /// is told even when whoever asked has gone away.
    pub fn write_with<T, F, D>(&self, work: F, done: D)
    where
        T: Send + 'static,
        F: FnMut(&Tx<'_>) -> Result<T, Error> + Send + 'static,
        D: FnOnce(Result<T, Error>) + Send + 'static,
    {
        self.0.writes.put(writer::closure(work, done), false);
    }

    /// Like [`write_with`](Self::write_with), but never refused for want of
    /// room: for writes whose number something else bounds, such as the ends
    /// of running jobs.
    pub fn write_always<T, F, D>(&self, work: F, done: D)
    where
        T: Send + 'static,
        F: FnMut(&Tx<'_>) -> Result<T, Error> + Send + 'static,
        D: FnOnce(Result<T, Error>) + Send + 'static,
    {
        self.0.writes.put(writer::closure(work, done), true);
    }

    /// How often the writer has done with some of what waited. While this grows
    /// it works, however much waits.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.0.health.batches()
    }

    /// Runs `work` in a read transaction on a reader's thread.
    ///
    /// # Errors
    /// When the read failed, took too long, or too many wait.
    pub async fn read<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T, Error> + Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let done = move |outcome| {
            let _ = sender.send(outcome);
        };
        self.0.reads.put(reader::read(work, done));
        let outcome = receiver.await.unwrap_or(Err(Error::Closed));
        reader::name_deadline(outcome, self.0.options.read_deadline)
    }

    /// Why the last writes failed; `None` while they work.
    #[must_use]
    pub fn fault(&self) -> Option<Error> {
        self.0.health.fault()
    }

    /// Whether the file system has less free space than new work needs.
    #[must_use]
    pub fn nearly_full(&self) -> bool {
        self.0.health.free_bytes() < self.0.options.min_free_bytes
    }

    /// Free bytes on the file system, as last measured.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.0.health.free_bytes()
    }

    /// Writes that wait for the writer.
    #[must_use]
    pub fn waiting_writes(&self) -> usize {
        self.0.writes.len()
    }

    /// Empties the log, so that nothing of what was overwritten is left in it.
    /// Blocks, as long as others read or write.
    ///
    /// # Errors
    /// What SQLite answers.
    pub fn empty_log(&self) -> Result<(), Error> {
        writer::checkpoint(&connect::plain(&self.0.options.path)?, "TRUNCATE").map(drop)
    }

    /// Bytes of the database file and of its log.
    #[must_use]
    pub fn file_bytes(&self) -> (u64, u64) {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
        let path = &self.0.options.path;
        (size(path), size(&place::beside(path, "-wal")))
    }

    /// Finishes what waits, checkpoints, closes the files, joins the threads.
    /// Blocks; later calls on any clone answer [`Error::Closed`].
    pub fn close(&self) {
        let threads = std::mem::take(&mut *self.0.threads.lock().unwrap_or_else(PoisonError::into_inner));
        drop(threads.stop_maintenance);
        self.0.reads.close();
        self.0.writes.close();
        for handle in threads.handles {
            let _ = handle.join();
        }
    }

    fn wal_pages(&self) -> u64 {
        self.0.health.wal_pages()
    }

    fn measure_space(&self) {
        self.0.health.set_free_bytes(free_bytes(folder_of(&self.0.options.path)).unwrap_or(0));
    }
}

/// Bytes that may still be written on a folder's file system, by who is not
/// root; `None` where that cannot be known.
#[must_use]
pub fn free_bytes(folder: &Path) -> Option<u64> {
    rustix::fs::statvfs(folder).ok().map(|found| found.f_bavail * found.f_frsize)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(work);
    spawned.map_err(|error| Error::Io(format!("no thread {name}: {error}")).into())
}
