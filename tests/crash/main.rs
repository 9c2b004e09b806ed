//! `kill -9` at random moments, under load, again and again: what has been
//! acknowledged is done, stands in the record once, and nothing of it is lost.
//!
//! `CRASH_ROUNDS` sets how often, `CRASH_SEED` repeats the choices of a run
//! (not the timing of the machine).

#![allow(clippy::expect_used, reason = "in a test a broken expectation is what it is there to tell")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "the numbers of the tests are small"
)]

#[path = "../support/mod.rs"]
mod support;

mod mixed;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::client::job_id;
use support::{Client, Server, Setup, eventually};

const SUBMITTERS: u64 = 4;

/// A small generator (SplitMix64): the same seed, the same choices.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn milliseconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from * 1000 + self.below((to - from) * 1000))
    }
}

/// A request that may have been lost on its way, or its answer.
#[derive(Clone)]
struct Request {
    /// Unlike every other's, so that the record tells how often it was taken.
    mark: String,
    body: Value,
    key: Option<String>,
}

/// Sends requests one after the other; those with a key again until they are
/// acknowledged.
struct Submitter {
    client: Client,
    name: u64,
    random: Random,
    count: u64,
    pending: Option<Request>,
    acknowledged: Vec<(String, Request)>,
}

impl Submitter {
    fn new(client: Client, name: u64, seed: u64) -> Self {
        Self { client, name, random: Random(seed ^ name), count: 0, pending: None, acknowledged: Vec::new() }
    }

    fn request(&mut self) -> Request {
        self.count += 1;
        let mark = format!("{}-{}", self.name, self.count);
        let mut body = json!({ "tool": "echo", "input": mark });
        match self.random.below(8) {
            0 => body["delay"] = json!(0.03),
            1 => body["priority"] = json!(self.random.below(20)),
            2 => body["metadata"] = json!({ "filler": "x".repeat(500) }),
            _ => {}
        }
        let key = (self.random.below(2) == 0).then(|| format!("key-{mark}"));
        Request { mark, body, key }
    }

    /// Until the server is gone.
    fn submit_on(&mut self) {
        loop {
            let request = self.pending.take().unwrap_or_else(|| self.request());
            let Some(id) = submit(&self.client, &request) else {
                // Without a key nobody can know whether it was taken.
                self.pending = Some(request).filter(|request| request.key.is_some());
                return;
            };
            self.acknowledged.push((id, request));
        }
    }
}

/// The job's id when it was acknowledged; nothing when the server has gone.
fn submit(client: &Client, request: &Request) -> Option<String> {
    let key = request.key.iter().map(|key| ("Idempotency-Key", key.as_str()));
    let headers: Vec<_> = key.chain([("Content-Type", "application/json")]).collect();
    let answer = client.exchange("POST", "/v1/jobs", &headers, Some(request.body.to_string().as_bytes())).ok()?;
    Some(job_id(&answer.expect(202)))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// The seed of this run, said so that a failure can be looked at again.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = number("CRASH_SEED").unwrap_or(now.as_micros() as u64);
    println!("CRASH_SEED={seed}");
    seed
}

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let rounds = number("CRASH_ROUNDS").unwrap_or(15);
    let seed = seed();
    let mut random = Random(seed);

    let mut server = Setup::real().env("AGENTD_LOG_LEVEL", "info,agentd::request=warn").start();
    let client = server.client();
    let mut submitters: Vec<_> = (0..SUBMITTERS).map(|name| Submitter::new(client.clone(), name, seed)).collect();
    for _ in 0..rounds {
        let moment = random.milliseconds(20, 200);
        std::thread::scope(|scope| {
            for submitter in &mut submitters {
                scope.spawn(|| submitter.submit_on());
            }
            std::thread::sleep(moment);
            server.kill();
        });
        if random.below(4) == 0 {
            server.start_and_kill(random.milliseconds(0, 60));
        }
        server.start_again(|setup| setup);
    }
    for submitter in &mut submitters {
        submitter.finish();
    }
    let acknowledged: Vec<_> = submitters.into_iter().flat_map(|submitter| submitter.acknowledged).collect();
    println!("{} jobs acknowledged", acknowledged.len());
    assert!(acknowledged.len() as u64 > rounds, "there was no load");
    check(server, &client, &acknowledged);
}

impl Submitter {
    /// Sends what is still in doubt, and the last one with a key once more.
    fn finish(&mut self) {
        if let Some(request) = self.pending.take() {
            let id = submit(&self.client, &request).expect("the server stays up now");
            self.acknowledged.push((id, request));
        }
        if let Some((id, request)) = self.acknowledged.iter().rev().find(|(_, request)| request.key.is_some()) {
            let again = submit(&self.client, request).expect("the server stays up now");
            assert_eq!(again, *id, "a key gives another job after a crash");
        }
    }
}

fn check(mut server: Server, client: &Client, acknowledged: &[(String, Request)]) {
    eventually("everything is done", || {
        let open = ["queued", "waiting", "running"].map(|status| client.get(&format!("/v1/jobs?status={status}")));
        let empty = |answer: &support::Answer| answer.expect(200)["data"].as_array().is_some_and(Vec::is_empty);
        open.iter().all(empty).then_some(())
    });
    server.stop();
    let record = server.record();
    let mut by_mark: BTreeMap<&str, Vec<&support::record::JobRecord>> = BTreeMap::new();
    for job in record.jobs.values() {
        // On a slow machine three kills in a row can meet one job; by the rule
        // that stops jobs from killing the service for ever it is given up.
        let given_up = job.status == "dead" && job.interruptions == 3;
        assert!(job.status == "succeeded" || given_up, "{job:?}");
        by_mark.entry(job.input.trim_matches('"')).or_default().push(job);
    }
    for (mark, jobs) in &by_mark {
        assert_eq!(jobs.len(), 1, "{mark} was taken more than once: {jobs:?}");
    }
    for (id, request) in acknowledged {
        let job = record.jobs.get(id).unwrap_or_else(|| panic!("{id} ({}) was lost", request.mark));
        assert_eq!(job.input.trim_matches('"'), request.mark, "{id} is another job");
    }
    let ids: BTreeSet<_> = acknowledged.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), acknowledged.len(), "two requests were given one job");
    let interrupted = record.jobs.values().filter(|job| job.interruptions > 0).count();
    println!("{} jobs in the record, {interrupted} of them were interrupted", record.jobs.len());
}
