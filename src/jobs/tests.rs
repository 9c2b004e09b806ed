//! The service as a whole, in process: idempotency, fencing, recovery.

use std::sync::atomic::{AtomicUsize, Ordering as Order};

use actix_web::test::TestRequest;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::request::SubmitBody;
use super::types::{Claim, Ending, NewJob};
use super::*;
use crate::clock::Timestamp;
use crate::db::params;
use crate::http::idempotency::IdempotencyKey;

const TENANT: i64 = 1;

struct House {
    jobs: Jobs,
    db: Db,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = db::Options {
            path: folder.path().join("agentd.db"),
            readers: 1,
            read_deadline: Duration::from_secs(10),
            queue: 10_000,
            wal_bound: 64 << 20,
            min_free_bytes: 0,
            progress: db::Progress::default(),
            more_migrations: Vec::new(),
        };
        let metrics = prometheus::Registry::new();
        let (db, _) = Db::open(options, &metrics).expect("opens");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("one");
        let tenant = "INSERT INTO tenants (no, id, name, status, cohort, created_at, updated_at)
                      VALUES (1, 'x', 'x', 'active', 'everyone', 0, 0)";
        runtime.block_on(db.write(move |tx| tx.execute(tenant, []))).expect("a tenant");
        let mut registry = Registry::default();
        let echo = Handler {
            name: "echo",
            description: "",
            class: Class::Read,
            input_schema: Value::Bool(true),
            timeout: Duration::from_secs(10),
            concurrency: None,
            run: Run::Inline(|call| Ok(call.input.to_string())),
        };
        registry.add(echo).expect("a handler");
        let limits = Limits {
            concurrency: 8,
            queue: 10_000,
            result_bytes: 1 << 20,
            wait: Duration::from_secs(10),
            retention: None,
        };
        let clock = Clock::system();
        let ids = IdSource::new(clock.clone(), 0);
        let quotas = Arc::new(crate::limits::Limits::new(None));
        let settings = crate::config::load(&crate::config::Sources::default()).expect("valid").config.budget;
        let budgets = crate::budgets::Parts {
            db: db.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            settings,
            runtime: runtime.handle().clone(),
        };
        let budgets = runtime.block_on(crate::budgets::Budgets::open(budgets, &metrics)).expect("opens");
        let runs_on = runtime.handle().clone();
        let parts = Parts { db: db.clone(), clock, ids, registry, limits, quotas, budgets, runtime: runs_on };
        let jobs = Jobs::new(parts, &metrics).expect("a service");
        Self { jobs, db, stop: CancellationToken::new(), _folder: folder, runtime }
    }

    fn started() -> Self {
        let house = Self::new();
        house.runtime.block_on(house.jobs.start(&house.stop)).expect("starts");
        house
    }

    fn job(&self, body: &Value) -> NewJob {
        let body: SubmitBody = serde_json::from_value(body.clone()).expect("a body");
        self.jobs.check(TENANT, body).expect("a job")
    }

    fn count(&self, sql: &'static str) -> i64 {
        let count = self.db.read(move |tx| tx.one(sql, [], |row| row.get(0)));
        self.runtime.block_on(count).expect("counts").expect("a number")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
        self.db.close();
    }
}

fn key(name: u8, body: u8) -> IdempotencyKey {
    let request = TestRequest::post().uri("/v1/jobs").insert_header(("Idempotency-Key", format!("k{name}")));
    let body = Bytes::from(vec![body]);
    IdempotencyKey::of(&request.to_http_request(), TENANT, &body).expect("valid").expect("a key")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// However requests with a few keys and bodies are mixed, one after the
    /// other or at once: each key is one job, its first body decides, the same
    /// body gets the same answer, another is refused.
    #[test]
    fn a_key_is_one_job(rounds in prop::collection::vec(prop::collection::vec((0_u8..4, 0_u8..2), 1..8), 1..6)) {
        let house = House::started();
        let mut known: HashMap<u8, (u8, String)> = HashMap::new();
        for round in rounds {
            let asked = round.iter().map(|(name, body)| {
                let job = house.job(&json!({ "tool": "echo", "input": body }));
                house.jobs.submit(job, Some(key(*name, *body)))
            });
            let answers = house.runtime.block_on(futures_util::future::join_all(asked));
            // Those of a round are at once: whichever answered anew was first.
            for ((name, body), answer) in round.iter().zip(&answers) {
                if let Ok(answer) = answer && !answer.replayed {
                    let first = known.insert(*name, (*body, answer.answer.body.clone()));
                    prop_assert!(first.is_none(), "key {name} made two jobs");
                }
            }
            for ((name, body), answer) in round.iter().zip(&answers) {
                let (first, stored) = &known[name];
                match answer {
                    Ok(answer) => {
                        prop_assert_eq!(first, body);
                        prop_assert_eq!(&answer.answer.body, stored);
                    }
                    Err(problem) => {
                        prop_assert_ne!(first, body);
                        prop_assert_eq!(problem.code(), "idempotency_key_reused");
                    }
                }
            }
        }
        prop_assert_eq!(house.count("SELECT count(*) FROM jobs"), i64::try_from(known.len()).expect("small"));
    }
}

fn begin(house: &House) -> (QueueEntry, Claim) {
    let job = house.job(&json!({ "tool": "echo" }));
    let entry = job.entry(0);
    let claimed = house.db.write(move |tx| {
        sql::write::insert(tx, &job, None)?;
        sql::write::claim(tx, &entry, "echo", 7, Timestamp::from_micros(1))
    });
    (entry, house.runtime.block_on(claimed).expect("written").expect("claimed"))
}

fn finish(house: &House, claim: Claim) -> bool {
    let ending = Ending::Succeeded("1".into());
    let work = move |tx: &db::Tx<'_>| sql::write::finish(tx, &claim, "echo", &ending, Timestamp::from_micros(2));
    house.runtime.block_on(house.db.write(work)).expect("written").is_some()
}

#[test]
fn a_job_is_claimed_once_and_a_late_writer_is_fenced_off() {
    let house = House::new();
    let (entry, late) = begin(&house);
    let again = house.db.write(move |tx| sql::write::claim(tx, &entry, "echo", 8, Timestamp::from_micros(1)));
    assert!(house.runtime.block_on(again).expect("written").is_none(), "it is running");

    // The process of epoch 0 is gone; its jobs go back and start again.
    let recover = house.db.write(|tx| sql::care::recover(tx, 1, Timestamp::from_micros(3), 10));
    assert_eq!(house.runtime.block_on(recover).expect("written").requeued, 1);
    let again = house.db.write(move |tx| sql::write::claim(tx, &entry, "echo", 1 << 32, Timestamp::from_micros(4)));
    let valid = house.runtime.block_on(again).expect("written").expect("claimed again");
    assert_eq!(valid.attempt, 1, "our own end used up no attempt");

    assert!(!finish(&house, late), "the old lease counts no more");
    assert!(finish(&house, valid));
    assert_eq!(house.count("SELECT count(*) FROM job_events_each"), 8);
    assert_eq!(house.count("SELECT last_event FROM jobs"), 8);
}

#[test]
fn three_lost_processes_end_a_job_as_dead() {
    let house = House::new();
    let (entry, _) = begin(&house);
    for epoch in 1..=3 {
        let recover = house.db.write(move |tx| sql::care::recover(tx, epoch, Timestamp::from_micros(3), 10));
        let recovered = house.runtime.block_on(recover).expect("written");
        assert_eq!((recovered.requeued, recovered.given_up), if epoch < 3 { (1, 0) } else { (0, 1) });
        let lease = epoch << 32;
        let again = house.db.write(move |tx| sql::write::claim(tx, &entry, "echo", lease, Timestamp::from_micros(4)));
        assert_eq!(house.runtime.block_on(again).expect("written").is_some(), epoch < 3);
    }
    assert_eq!(house.count("SELECT count(*) FROM jobs WHERE status = 'dead' AND interruptions = 3"), 1);
}

#[test]
fn what_waited_at_the_end_of_one_run_is_done_in_the_next() {
    let house = House::new();
    let ids: Vec<_> = (0..50).map(|number| house.job(&json!({ "tool": "echo", "input": number }))).collect();
    let insert = move |tx: &db::Tx<'_>| ids.iter().try_for_each(|job| sql::write::insert(tx, job, None));
    house.runtime.block_on(house.db.write(insert)).expect("written");
    house.runtime.block_on(house.jobs.start(&house.stop)).expect("starts");
    house.runtime.block_on(house.jobs.0.idle_and_empty());
    assert_eq!(house.count("SELECT count(*) FROM jobs WHERE status = 'succeeded'"), 50);
}

#[test]
fn a_write_that_panics_after_its_commit_harms_nobody() {
    let house = House::new();
    let told = Arc::new(AtomicUsize::new(0));
    let tell = told.clone();
    house.db.write_with(|_| Ok(()), |_| panic!("on purpose"));
    house
        .runtime
        .block_on(house.db.write(|tx| tx.execute("DELETE FROM meta WHERE key = ?1", params!["x"])))
        .expect("on");
    house.db.write_with(
        |_| Ok(()),
        move |_| {
            tell.fetch_add(1, Order::SeqCst);
        },
    );
    house.db.close();
    assert_eq!(told.load(Order::SeqCst), 1);
}

impl Inner {
    /// Until nothing waits and nothing runs.
    async fn idle_and_empty(&self) {
        loop {
            let released = self.released.notified();
            let (ready, running) = {
                let queue = self.queue();
                (queue.ready(), queue.running())
            };
            if ready + running == 0 {
                return;
            }
            released.await;
        }
    }
}
