//! The engine's promises: together or alone, in order, and never half.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use proptest::prelude::*;

struct Place {
    db: Db,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self::with(|options| options)
    }

    fn with(change: impl FnOnce(Options) -> Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = change(Options {
            path: folder.path().join("agentd.db"),
            readers: 2,
            read_deadline: Duration::from_secs(5),
            queue: 1_000,
            wal_bound: 64 << 20,
            min_free_bytes: 0,
            progress: Progress::default(),
            more_migrations: Vec::new(),
        });
        let (db, _) = Db::open(options, &prometheus::Registry::new()).expect("opens");
        Self { db, folder }
    }

    fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("agentd.db")).expect("opens")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.db.close();
    }
}

fn put(tx: &Tx<'_>, key: &str, value: &str) -> Result<usize, Error> {
    tx.execute("INSERT INTO meta (key, value) VALUES (?1, ?2)", params![key, value])
}

async fn keys(db: &Db) -> Vec<String> {
    let sql = "SELECT key FROM meta WHERE key <> 'boot_epoch' ORDER BY key";
    db.read(|tx| tx.all(sql, [], |row| row.get(0))).await.expect("reads")
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// Holds the writer until told, so that what is put meanwhile shares a batch.
fn hold(db: &Db) -> mpsc::Sender<()> {
    let (go, wait) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel();
    let mut wait = Some(wait);
    db.write_with(
        move |_| {
            let _ = begun.send(());
            let _ = wait.take().map(|wait| wait.recv());
            Ok(())
        },
        |_| {},
    );
    has_begun.recv().expect("the writer runs");
    go
}

/// Until everything put before has been written.
fn settle(db: &Db) {
    let (done, settled) = mpsc::channel();
    db.write_always(|_| Ok(()), move |outcome| done.send(outcome).expect("heard"));
    settled.recv().expect("the writer runs").expect("after the others");
}

#[test]
fn a_failing_write_fails_alone_among_those_that_share_its_commit() {
    let place = Place::new();
    let outcomes = block_on(async {
        let go = hold(&place.db);
        let good = place.db.write(|tx| put(tx, "a", "1"));
        let bad = place.db.write(|tx| {
            put(tx, "b", "half")?;
            put(tx, "a", "again")
        });
        let panics = place.db.write(|tx| -> Result<(), Error> {
            put(tx, "c", "half")?;
            panic!("on purpose")
        });
        let other = place.db.write(|tx| put(tx, "d", "2"));
        let all = futures_util::future::join4(good, bad, panics, other);
        let release = async {
            while place.db.waiting_writes() < 4 {
                tokio::task::yield_now().await;
            }
            go.send(()).expect("held");
        };
        futures_util::future::join(all, release).await.0
    });
    assert_eq!(outcomes.0, Ok(1));
    assert!(matches!(outcomes.1, Err(Error::Constraint(_))), "{:?}", outcomes.1);
    assert_eq!(outcomes.2, Err(Error::Panicked("on purpose".into())));
    assert_eq!(outcomes.3, Ok(1));
    assert_eq!(block_on(keys(&place.db)), ["a", "d"]);
    assert_eq!(place.db.fault(), None, "one write's fault is not the engine's");
}

#[test]
fn an_acknowledged_write_is_on_disk_for_another_process() {
    let place = Place::new();
    block_on(place.db.write(|tx| put(tx, "a", "1"))).expect("writes");
    let found: String =
        place.raw().query_row("SELECT value FROM meta WHERE key = 'a'", [], |row| row.get(0)).expect("there");
    assert_eq!(found, "1");
}

#[test]
fn settings_are_those_that_keep_a_commit() {
    let place = Place::new();
    let pragma = |name: &'static str| {
        block_on(place.db.write(move |tx| tx.one(&format!("PRAGMA {name}"), [], |row| row.get::<_, Value>(0))))
            .expect("asks")
    };
    assert_eq!(pragma("synchronous"), Some(Value::Integer(2)));
    assert_eq!(pragma("journal_mode"), Some(Value::Text("wal".into())));
    assert_eq!(pragma("foreign_keys"), Some(Value::Integer(1)));
    assert_eq!(pragma("auto_vacuum"), Some(Value::Integer(2)));
}

#[test]
fn a_read_that_takes_too_long_is_stopped_and_the_reader_goes_on() {
    let place = Place::with(|options| Options { read_deadline: Duration::from_millis(50), readers: 1, ..options });
    let endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
    let outcome = block_on(place.db.read(move |tx| tx.one(endless, [], |row| row.get::<_, i64>(0))));
    assert_eq!(outcome, Err(Error::Deadline(Duration::from_millis(50))));
    assert_eq!(block_on(keys(&place.db)), Vec::<String>::new());
}

#[test]
fn readers_cannot_write_and_a_panic_harms_nobody() {
    let place = Place::new();
    let outcome = block_on(place.db.read(|tx| put(tx, "a", "1")));
    assert!(matches!(outcome, Err(Error::ReadOnly(_))), "{outcome:?}");
    let outcome = block_on(place.db.read(|_| -> Result<(), Error> { panic!("on purpose") }));
    assert_eq!(outcome, Err(Error::Panicked("on purpose".into())));
    assert_eq!(block_on(keys(&place.db)), Vec::<String>::new());
}

#[test]
fn a_full_queue_refuses_and_what_must_be_written_still_is() {
    let place = Place::with(|options| Options { queue: 2, ..options });
    let go = hold(&place.db);
    let refused = Arc::new(AtomicUsize::new(0));
    for number in 0..5 {
        let refused = refused.clone();
        let done = move |outcome: Result<usize, Error>| {
            if outcome == Err(Error::Overloaded) {
                refused.fetch_add(1, Ordering::SeqCst);
            }
        };
        place.db.write_with(move |tx| put(tx, &format!("k{number}"), ""), done);
    }
    place.db.write_always(|tx| put(tx, "must", ""), |_| {});
    assert_eq!(refused.load(Ordering::SeqCst), 3);
    go.send(()).expect("held");
    settle(&place.db);
    assert_eq!(block_on(keys(&place.db)), ["k0", "k1", "must"]);
}

#[test]
fn closing_writes_what_waits_and_refuses_what_comes() {
    let place = Place::new();
    let go = hold(&place.db);
    place.db.write_with(|tx| put(tx, "waits", ""), |_| {});
    go.send(()).expect("held");
    place.db.close();
    assert_eq!(block_on(place.db.write(|tx| put(tx, "late", ""))), Err(Error::Closed));
    assert_eq!(block_on(place.db.read(|_| Ok(()))), Err(Error::Closed));
    let count: i64 =
        place.raw().query_row("SELECT count(*) FROM meta WHERE key = 'waits'", [], |row| row.get(0)).expect("counts");
    assert_eq!(count, 1);
    let wal = place.folder.path().join("agentd.db-wal");
    assert!(std::fs::metadata(wal).map_or(0, |found| found.len()) == 0, "the log was not taken over");
}

#[test]
fn the_log_stays_bounded_while_a_reader_comes_and_goes() {
    let bound = 1 << 20;
    let place = Place::with(|options| Options { wal_bound: bound, queue: 10_000, ..options });
    let text = "x".repeat(4_000);
    for round in 0..40 {
        for number in 0..50 {
            let (key, text) = (format!("{round}-{number}"), text.clone());
            place.db.write_always(move |tx| put(tx, &key, &text), |_| {});
        }
        settle(&place.db);
        block_on(keys(&place.db));
    }
    let (_, wal) = place.db.file_bytes();
    assert!(wal < 3 * bound, "the log has {wal} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever mixture of good and bad writes shares commits, the database
    /// ends as if each had run alone in the order in which it was put.
    #[test]
    fn a_batch_is_its_writes_one_after_the_other(
        writes in prop::collection::vec((0_u8..12, any::<bool>()), 1..60)
    ) {
        let place = Place::new();
        let mut model = std::collections::BTreeSet::new();
        let expected: Vec<bool> = writes.iter().map(|(key, fails)| !fails && model.insert(*key)).collect();
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let go = hold(&place.db);
        for (key, fails) in writes {
            let outcomes = outcomes.clone();
            let work = move |tx: &Tx<'_>| {
                put(tx, &format!("{key:02}"), "")?;
                if fails { Err(Error::Sql("on purpose".into())) } else { Ok(()) }
            };
            place.db.write_with(work, move |outcome| outcomes.lock().expect("lock").push(outcome.is_ok()));
        }
        go.send(()).expect("held");
        settle(&place.db);
        prop_assert_eq!(&*outcomes.lock().expect("lock"), &expected);
        let names: Vec<_> = model.iter().map(|key| format!("{key:02}")).collect();
        prop_assert_eq!(block_on(keys(&place.db)), names);
    }
}

#[test]
fn space_of_deleted_rows_goes_back_to_the_file_system() {
    let place = Place::new();
    let text = "x".repeat(4_000);
    for number in 0..6_000 {
        let (key, text) = (number.to_string(), text.clone());
        place.db.write_always(move |tx| put(tx, &key, &text), |_| {});
    }
    settle(&place.db);
    let size = || {
        super::writer::checkpoint(&place.raw(), "TRUNCATE").expect("a checkpoint");
        place.db.file_bytes().0
    };
    let full = size();
    block_on(place.db.write(|tx| tx.execute("DELETE FROM meta WHERE key <> 'boot_epoch'", []))).expect("deleted");
    let mut care = maintenance::Maintenance::new(place.db.clone(), &place.folder.path().join("agentd.db"));
    care.connect();
    while care.vacuum() {
        settle(&place.db);
    }
    let after = size();
    // Some free pages are kept for new rows.
    assert!(full > 24 << 20 && after < 12 << 20, "{full} bytes became {after}");
}
