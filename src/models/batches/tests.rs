//! Batches against a caller that the tests script: every line is called once and
//! counts once, whatever happens in between.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use futures_util::FutureExt as _;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::lines::Lines;
use super::types::{Counts, Place as LinePlace, Times};
use super::*;
use crate::clock::Timestamp;
use crate::http::idempotency::Created;
use crate::models::files::{BATCH, Bound, CHUNK, FileId, FileRow, NewFile};
use crate::models::testing::Place;
use crate::models::{Answer, Body, Receipt};
use crate::money::Usd;

const CHAT: &str = "/v1/chat/completions";

/// What a call is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    Good,
    Status(u16),
    Refused(u16),
    NoMoney,
    /// Never.
    Hang,
}

/// How a line's calls are answered, one after the other; the last goes on.
type Script = Arc<dyn Fn(u64, usize) -> Reaction + Send + Sync>;

/// How often each line has been called.
type Calls = Arc<Mutex<BTreeMap<u64, usize>>>;

struct Bench {
    place: Place,
    calls: Calls,
    /// One for every call that hangs.
    hanging: Arc<Semaphore>,
}

fn problem(status: u16, code: &'static str) -> Problem {
    Problem::new(StatusCode::from_u16(status).expect("a status"), code, "no such luck")
}

fn answer(status: u16, n: u64) -> Reply {
    let receipt = Receipt {
        cost: Some(Usd::ZERO),
        model: "m".into(),
        provider: "p".into(),
        fallbacks: 0,
        left: None,
        overhead: Duration::ZERO,
        reduced: false,
        age: None,
    };
    let body = format!("{{\"n\": {n}}}").into();
    Reply::Whole(Answer { status, content_type: "application/json".into(), body, receipt })
}

impl Bench {
    fn new() -> Self {
        Self { place: Place::new(), calls: Arc::default(), hanging: Arc::new(Semaphore::new(0)) }
    }

    /// The service as one process after another has it.
    fn batches(&self, concurrency: usize, script: impl Fn(u64, usize) -> Reaction + Send + Sync + 'static) -> Batches {
        let (calls, hanging, script): (_, _, Script) = (self.calls.clone(), self.hanging.clone(), Arc::new(script));
        let call: CallFn = Arc::new(move |call| {
            let (calls, hanging, script) = (calls.clone(), hanging.clone(), script.clone());
            async move {
                assert_eq!((call.payer.tenant, call.payer.key.as_deref()), (1, Some("k")));
                let Body::Json(body) = call.body else { panic!("no JSON") };
                let n = serde_json::from_slice::<Value>(&body).expect("JSON")["n"].as_u64().expect("a number");
                let before = {
                    let mut calls = calls.lock().expect("calls");
                    let count = calls.entry(n).or_default();
                    *count += 1;
                    *count - 1
                };
                match script(n, before) {
                    Reaction::Good => Ok(answer(200, n)),
                    Reaction::Status(status) => Ok(answer(status, n)),
                    Reaction::Refused(status) => Err(problem(status, "refused")),
                    Reaction::NoMoney => Err(problem(402, "budget_exceeded")),
                    Reaction::Hang => {
                        hanging.add_permits(1);
                        std::future::pending().await
                    }
                }
            }
            .boxed()
        });
        let pace = Pace {
            slice: Duration::from_secs(60),
            first: Duration::from_millis(1),
            longest: Duration::from_millis(2),
            busy: Duration::from_millis(1),
            budget: Duration::from_secs(6),
            after_fault: Duration::from_millis(1),
        };
        let (db, clock, ids) = (self.place.db.clone(), self.place.clock.clone(), self.place.ids.clone());
        Batches::with_pace(Parts { db, clock, ids, files: self.place.files.clone(), call, concurrency }, pace)
    }

    async fn upload(&self, content: &str) -> FileRow {
        let new = NewFile { tenant: 1, name: "in.jsonl".into(), purpose: BATCH, keep: None };
        let mut writer = self.place.files.begin(new, Bound::Client).await.expect("begins");
        writer.write(content.as_bytes()).await.expect("writes");
        writer.finish().await.expect("writes").publish_as(BATCH, None).await.expect("a file")
    }

    async fn make(&self, batches: &Batches, content: &str) -> BatchId {
        let (input, created) = (self.upload(content).await.id, self.place.clock.now());
        let id = BatchId(self.place.ids.next());
        let times = Times {
            created,
            expires: created.plus(Duration::from_secs(86_400)),
            in_progress: None,
            finalizing: None,
            cancelling: None,
            ended: None,
        };
        let batch = Batch {
            id,
            tenant: 1,
            key: Some("k".into()),
            session: None,
            test: false,
            input,
            endpoint: CHAT.into(),
            metadata: None,
            keep_output: None,
            status: Status::Validating,
            ending: None,
            times,
            counts: Counts::default(),
            next: LinePlace::BEGIN,
            errors: None,
            output: None,
            error: None,
        };
        let made = batches.create(batch, None).await.expect("writes");
        assert!(matches!(made, Created::New(Ok(_))));
        id
    }

    async fn lines_of(&self, file: Option<FileId>) -> Vec<Value> {
        let Some(file) = file else { return Vec::new() };
        let row = self.place.files.get(1, file).await.expect("reads").expect("a file");
        assert!(row.expires_at.is_some());
        let mut lines = Lines::from(self.place.files.clone(), row.id.no(), LinePlace::BEGIN);
        let mut read = Vec::new();
        while let Some(line) = lines.next().await.expect("reads") {
            read.push(serde_json::from_slice(&line.text).expect("JSON"));
        }
        read
    }

    /// Goes on until the batch has ended.
    async fn finish(&self, batches: &Batches, id: BatchId) -> Ended {
        for _ in 0..1_000 {
            let worked = batches.0.work_on(id, &CancellationToken::new()).await;
            if worked.expect("works").is_final() {
                return self.ended(batches, id).await;
            }
        }
        panic!("it does not end");
    }

    async fn ended(&self, batches: &Batches, id: BatchId) -> Ended {
        let batch = batches.get(1, id).await.expect("reads").expect("a batch");
        let (good, bad) = (self.lines_of(batch.output).await, self.lines_of(batch.error).await);
        assert_eq!(batch.counts.completed, good.len() as u64);
        assert_eq!(batch.output.is_some(), !good.is_empty());
        assert_eq!(batch.error.is_some(), !bad.is_empty());
        Ended { batch, good, bad }
    }

    fn called(&self, n: u64) -> usize {
        self.calls.lock().expect("calls").get(&n).copied().unwrap_or(0)
    }
}

struct Ended {
    batch: Batch,
    good: Vec<Value>,
    bad: Vec<Value>,
}

impl Ended {
    fn counts(&self) -> (u64, u64, u64) {
        let Counts { total, completed, failed } = self.batch.counts;
        (total, completed, failed)
    }

    /// `custom_id` and the status or the code of each error.
    fn errors(&self) -> Vec<(String, Value)> {
        let told = |line: &Value| {
            let what = if line["error"].is_null() { &line["response"]["status_code"] } else { &line["error"]["code"] };
            (line["custom_id"].as_str().expect("an id").to_owned(), what.clone())
        };
        self.bad.iter().map(told).collect()
    }

    fn ids(&self) -> Vec<&str> {
        self.good.iter().chain(&self.bad).map(|line| line["custom_id"].as_str().expect("an id")).collect()
    }
}

fn line(n: u64) -> String {
    json!({ "custom_id": format!("c{n}"), "method": "POST", "url": CHAT, "body": { "model": "m", "n": n } }).to_string()
}

fn input(lines: u64) -> String {
    (1..=lines).map(|n| line(n) + "\n").collect()
}

#[test]
fn all_lines_are_called_once_and_answered_in_order() {
    let bench = Bench::new();
    bench.place.run(async {
        let batches = bench.batches(3, |_, _| Reaction::Good);
        // Blank lines, other ends of lines, and none at the end.
        let content = format!("\n{}\r\n  \n{}\n{}", line(1), line(2), line(3));
        let id = bench.make(&batches, &content).await;
        let ended = bench.finish(&batches, id).await;
        assert_eq!((ended.batch.status, ended.counts()), (Status::Completed, (3, 3, 0)));
        assert_eq!(ended.ids(), ["c1", "c2", "c3"]);
        assert_eq!(ended.good[1]["response"]["body"], json!({ "n": 2 }));
        assert_eq!((1..=3).map(|n| bench.called(n)).collect::<Vec<_>>(), [1, 1, 1]);
        let times = ended.batch.times;
        assert!(times.in_progress.is_some() && times.finalizing.is_some() && times.ended.is_some());
        let now = bench.place.clock.now();
        while batches.0.db.write(move |tx| sql::clear(tx, Timestamp::from_micros(0))).await.expect("clears") {}
        assert_eq!((bench.place.count("batch_lines"), bench.place.count("batches")), (0, 1));
        while batches.0.db.write(move |tx| sql::clear(tx, now.plus(Duration::from_secs(1)))).await.expect("clears") {}
        assert_eq!(bench.place.count("batches"), 0);
    });
}

#[test]
fn a_wrong_input_is_told_line_by_line() {
    let bench = Bench::new();
    bench.place.run(async {
        let batches = bench.batches(1, |_, _| Reaction::Good);
        let id = bench.make(&batches, &format!("{}\n{{\n{}\n{}", line(1), line(1), line(2))).await;
        let ended = bench.finish(&batches, id).await;
        assert_eq!(ended.batch.status, Status::Failed);
        let errors: Value = serde_json::from_str(ended.batch.errors.as_deref().expect("errors")).expect("JSON");
        let told: Vec<_> = errors.as_array().expect("a list").iter().map(|it| (&it["line"], &it["code"])).collect();
        assert_eq!(told, [(&json!(2), &json!("invalid_json_line")), (&json!(3), &json!("duplicate_custom_id"))]);
        assert_eq!(bench.called(1), 0);
        let id = bench.make(&batches, "\n\n").await;
        let ended = bench.finish(&batches, id).await;
        assert!(ended.batch.errors.expect("errors").contains("empty_file"));
    });
}

#[test]
fn what_may_pass_is_called_again_and_what_will_not_is_told() {
    let bench = Bench::new();
    bench.place.run(async {
        let batches = bench.batches(2, |n, before| match (n, before) {
            (1, 0..30) => Reaction::Refused(429),
            (2, 0..3) => Reaction::Refused(503),
            (3, _) => Reaction::Status(400),
            (4, _) => Reaction::Refused(404),
            (5, _) => Reaction::Status(500),
            _ => Reaction::Good,
        });
        let id = bench.make(&batches, &input(6)).await;
        let ended = bench.finish(&batches, id).await;
        assert_eq!((ended.batch.status, ended.counts()), (Status::Completed, (6, 3, 3)));
        assert_eq!(ended.errors(), [("c3".into(), 400.into()), ("c4".into(), 404.into()), ("c5".into(), 500.into())]);
        assert_eq!((1..=6).map(|n| bench.called(n)).collect::<Vec<_>>(), [31, 4, 1, 1, 20, 1]);
        assert_eq!(ended.bad[1]["response"]["body"]["error"]["code"], "refused");
    });
}

#[test]
fn without_money_it_waits_and_goes_on() {
    let bench = Bench::new();
    bench.place.run(async {
        let batches = bench.batches(2, |_, before| if before == 0 { Reaction::NoMoney } else { Reaction::Good });
        let id = bench.make(&batches, &input(3)).await;
        let status = batches.0.work_on(id, &CancellationToken::new()).await.expect("works");
        assert_eq!((status, bench.called(1), bench.called(3)), (Status::InProgress, 1, 0), "it gives its place back");
        let now = bench.place.clock.now();
        let due = batches.0.db.read(move |tx| sql::next_due(tx, now)).await.expect("reads").expect("it is due");
        assert_eq!(due.since(now), Duration::from_secs(6));
        bench.place.set_clock(due);
        // The third has to wait in its turn.
        batches.0.work_on(id, &CancellationToken::new()).await.expect("works");
        bench.place.set_clock(due.plus(Duration::from_secs(6)));
        let ended = bench.finish(&batches, id).await;
        assert_eq!((ended.batch.status, ended.counts()), (Status::Completed, (3, 3, 0)));
    });
}

#[test]
fn at_the_end_of_its_window_the_rest_is_told_as_expired() {
    let bench = Bench::new();
    bench.place.run(async {
        let batches = bench.batches(2, |n, _| if n == 1 { Reaction::Good } else { Reaction::NoMoney });
        let id = bench.make(&batches, &input(5)).await;
        batches.0.work_on(id, &CancellationToken::new()).await.expect("works");
        bench.place.set_clock(bench.place.clock.now().plus(Duration::from_secs(86_400)));
        let ended = bench.finish(&batches, id).await;
        assert_eq!((ended.batch.status, ended.counts()), (Status::Expired, (5, 1, 4)));
        let expired = |n| (format!("c{n}"), json!("batch_expired"));
        assert_eq!(ended.errors(), (2..=5).map(expired).collect::<Vec<_>>());
    });
}

#[test]
fn a_wish_for_its_end_is_heard_at_once() {
    let bench = Bench::new();
    bench.place.run(async {
        let batches = bench.batches(2, |n, _| if n == 1 { Reaction::Good } else { Reaction::Hang });
        let id = bench.make(&batches, &input(9)).await;
        let stop = CancellationToken::new();
        let work = batches.0.work_on(id, &stop);
        let wish = async {
            bench.hanging.acquire_many(2).await.expect("two hang").forget();
            batches.cancel(1, id).await.expect("writes").expect("a batch").status
        };
        let (status, wished) = tokio::join!(work, wish);
        assert_eq!((status.expect("works"), wished), (Status::Cancelled, Status::Cancelling));
        let ended = bench.ended(&batches, id).await;
        assert_eq!(ended.counts(), (9, 1, 2));
        let cancelled = |n| (format!("c{n}"), json!("batch_cancelled"));
        assert_eq!(ended.errors(), [cancelled(2), cancelled(3)]);
        // Before it was begun.
        let id = bench.make(&batches, &input(9)).await;
        batches.cancel(1, id).await.expect("writes").expect("a batch");
        let ended = bench.finish(&batches, id).await;
        assert_eq!((ended.batch.status, ended.good.len() + ended.bad.len()), (Status::Cancelled, 0));
    });
}

#[test]
fn after_a_crash_nothing_is_called_twice() {
    let bench = Bench::new();
    bench.place.run(async {
        let batches = bench.batches(2, |n, _| if n == 1 { Reaction::Good } else { Reaction::Hang });
        let id = bench.make(&batches, &input(5)).await;
        let stop = CancellationToken::new();
        let two = async { bench.hanging.acquire_many(2).await.expect("two hang").forget() };
        tokio::select! {
            _ = batches.0.work_on(id, &stop) => panic!("two hang"),
            () = two => {}
        }
        let batches = bench.batches(2, |_, _| Reaction::Good);
        nothing_is_written_any_more(&batches).await;
        let ended = bench.finish(&batches, id).await;
        assert_eq!((ended.batch.status, ended.counts()), (Status::Completed, (5, 3, 2)));
        let interrupted = |n| (format!("c{n}"), json!("interrupted"));
        assert_eq!(ended.errors(), [interrupted(2), interrupted(3)]);
        assert_eq!((1..=5).map(|n| bench.called(n)).collect::<Vec<_>>(), [1; 5]);
    });
}

#[test]
fn a_stopping_service_leaves_the_rest_for_the_next_start() {
    let bench = Bench::new();
    bench.place.run(async {
        let batches = bench.batches(1, |n, _| if n == 2 { Reaction::Hang } else { Reaction::Good });
        let id = bench.make(&batches, &input(3)).await;
        let stop = CancellationToken::new();
        let ask = async {
            bench.hanging.acquire().await.expect("one hangs").forget();
            stop.cancel();
        };
        let (worked, ()) = tokio::join!(batches.0.work_on(id, &stop), ask);
        assert!(matches!(worked, Err(run::SliceError::Stopped)));
        let ended = bench.finish(&bench.batches(1, |_, _| Reaction::Good), id).await;
        assert_eq!((ended.counts(), ended.errors()), ((3, 2, 1), vec![("c2".into(), json!("interrupted"))]));
    });
}

#[test]
fn suspended_tenants_wait_and_deleted_ones_go() {
    let bench = Bench::new();
    bench.place.run(async {
        let batches = bench.batches(1, |_, _| Reaction::Good);
        let id = bench.make(&batches, &input(1)).await;
        let input = batches.get(1, id).await.expect("reads").expect("a batch").input;
        assert_eq!(bench.place.files.delete(1, input).await.expect_err("it is read").code(), "in_use");
        let due = async || {
            let now = bench.place.clock.now();
            batches.0.db.read(move |tx| sql::due(tx, now, 9)).await.expect("reads").len()
        };
        assert_eq!(due().await, 1);
        let suspend = "UPDATE tenants SET status = 'suspended' WHERE no = 1";
        batches.0.db.write(|tx| tx.execute(suspend, [])).await.expect("writes");
        assert_eq!(due().await, 0);
        assert!(batches.get(2, id).await.expect("reads").is_none(), "another tenant's");
        assert!(batches.cancel(2, id).await.expect("writes").is_none());
        batches.clear_tenant(1).await;
        bench.place.files.clear_tenant(1).await;
    });
    for table in ["batches", "batch_lines", "files", "file_chunks"] {
        assert_eq!(bench.place.count(table), 0, "{table}");
    }
}

#[test]
fn a_line_may_be_longer_than_a_piece_and_reading_goes_on_anywhere() {
    let bench = Bench::new();
    bench.place.run(async {
        let lengths = [1, CHUNK - 2, CHUNK, 3 * CHUNK + 5, 0, 7];
        let content: Vec<_> = lengths.iter().enumerate().map(|(n, len)| n.to_string().repeat(*len)).collect();
        let file = bench.upload(&content.join("\n")).await.id.no();
        let all = async |from| {
            let mut lines = Lines::from(bench.place.files.clone(), file, from);
            let mut read = Vec::new();
            while let Some(line) = lines.next().await.expect("reads") {
                let part = lines::part(&bench.place.files, file, line.place.start, line.text.len() as u64);
                assert!(part.await.expect("reads") == line.text);
                read.push((line.place, line.text, lines.place()));
            }
            read
        };
        let read = all(LinePlace::BEGIN).await;
        assert_eq!(read.iter().map(|(place, ..)| place.line).collect::<Vec<_>>(), [1, 2, 3, 4, 6]);
        assert!(read.iter().map(|(_, text, _)| text).eq(content.iter().filter(|text| !text.is_empty())));
        for (place, (.., next)) in read.iter().enumerate() {
            assert!(all(*next).await[..] == read[place + 1..]);
        }
    });
}

/// A lost process writes nothing; what one that is merely dropped has handed over
/// comes before this.
async fn nothing_is_written_any_more(batches: &Batches) {
    batches.0.db.write(|_| Ok(())).await.expect("writes");
}

fn reaction() -> impl Strategy<Value = Reaction> {
    prop_oneof![
        4 => Just(Reaction::Good),
        1 => Just(Reaction::Refused(429)),
        1 => Just(Reaction::Status(503)),
        1 => Just(Reaction::Status(404)),
        1 => Just(Reaction::Hang),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the answers are and wherever the process dies: every line is told
    /// of once, and is called again only after an answer that asks for it.
    #[test]
    fn every_line_is_told_of_once(
        scripts in prop::collection::vec(prop::collection::vec(reaction(), 1..4), 1..8),
        concurrency in 1_usize..4,
        cuts in prop::collection::vec(1_usize..60, 0..4),
    ) {
        let bench = Bench::new();
        let lines = scripts.len() as u64;
        let scripts = Arc::new(scripts);
        let place = |n: u64| usize::try_from(n).expect("small") - 1;
        let asked = |reaction: Reaction| matches!(reaction, Reaction::Refused(429) | Reaction::Status(503));
        bench.place.run(async {
            let service = || {
                let scripts = scripts.clone();
                bench.batches(concurrency, move |n, before| {
                    let script = &scripts[place(n)];
                    // The last answer is one that ends it.
                    script.get(before).copied().unwrap_or(Reaction::Good)
                })
            };
            let id = bench.make(&service(), &input(lines)).await;
            for polls in cuts {
                let (batches, stop) = (service(), CancellationToken::new());
                nothing_is_written_any_more(&batches).await;
                let mut work = std::pin::pin!(batches.0.work_on(id, &stop));
                for _ in 0..polls {
                    if work.as_mut().now_or_never().is_some() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_micros(300)).await;
                }
            }
            // In the last process what hangs is cut off by a new one.
            let ended = loop {
                let (batches, stop) = (service(), CancellationToken::new());
                let hang = bench.hanging.clone();
                nothing_is_written_any_more(&batches).await;
                tokio::select! {
                    biased;
                    worked = batches.0.work_on(id, &stop) => if worked.expect("works").is_final() {
                        break bench.ended(&batches, id).await;
                    },
                    one = hang.acquire() => one.expect("one hangs").forget(),
                }
            };
            let mut ids: Vec<_> = ended.ids().into_iter().map(str::to_owned).collect();
            ids.sort();
            assert_eq!(ids, (1..=lines).map(|n| format!("c{n}")).collect::<Vec<_>>());
            let (total, completed, failed) = ended.counts();
            assert_eq!((total, completed + failed), (lines, lines));
            for n in 1..=lines {
                let script = &scripts[place(n)];
                let first_end = script.iter().position(|reaction| !asked(*reaction)).unwrap_or(script.len());
                assert!(bench.called(n) <= first_end + 1, "line {n} was called {} times: {script:?}", bench.called(n));
            }
        });
    }
}
