//! All kinds of work at once, through kills and orderly stops: jobs that take
//! their time, fail, are tried again, wait for a place, are cancelled. Each
//! ends, once, and in a way that it can end in.

use serde_json::{Value, json};

use crate::support::client::job_id;
use crate::support::record::JobRecord;
use crate::support::{Client, Server, Setup, eventually};
use crate::{Random, number, seed};

const KINDS: [(&str, &[&str]); 6] = [
    ("echo", &["succeeded"]),
    ("test.sleep", &["succeeded"]),
    ("test.single", &["succeeded"]),
    ("test.flaky", &["succeeded"]),
    ("test.permanent", &["failed"]),
    ("test.invalid", &["failed"]),
];

fn body(random: &mut Random) -> Value {
    let (tool, _) = KINDS[random.below(KINDS.len() as u64) as usize];
    let input = json!({ "seconds": random.below(20) as f64 / 1e3, "until": 1 + random.below(3) });
    let mut body = json!({ "tool": tool, "input": input, "backoff": { "initial": 0.005 } });
    if random.below(4) == 0 {
        body["delay"] = json!(random.below(50) as f64 / 1e3);
    }
    body["priority"] = json!(random.below(5));
    body
}

/// Submits, and cancels now and then, until the server is gone; the ids of
/// what was acknowledged.
fn work(client: &Client, mut random: Random) -> Vec<String> {
    let mut acknowledged: Vec<String> = Vec::new();
    let json = [("Content-Type", "application/json")];
    loop {
        let body = body(&mut random).to_string();
        let Ok(answer) = client.exchange("POST", "/v1/jobs", &json, Some(body.as_bytes())) else { return acknowledged };
        if answer.status == 503 {
            answer.problem(503, "draining");
            return acknowledged;
        }
        acknowledged.push(job_id(&answer.expect(202)));
        if random.below(5) == 0 {
            let id = &acknowledged[random.below(acknowledged.len() as u64) as usize];
            let Ok(answer) = client.exchange("POST", &format!("/v1/jobs/{id}/cancel"), &[], Some(b"")) else {
                return acknowledged;
            };
            assert!([200, 202, 409, 503].contains(&answer.status), "{}", answer.text);
        }
    }
}

#[test]
fn every_kind_of_job_ends_once_through_kills_and_stops() {
    let rounds = number("CRASH_ROUNDS").unwrap_or(12);
    let seed = seed();
    let mut random = Random(seed);
    let mut server = Setup::testbed()
        .env("AGENTD_SERVER_DRAIN_TIME", "20ms")
        .env("AGENTD_LOG_LEVEL", "info,agentd::request=warn")
        .start();
    let client = server.client();
    let mut acknowledged = Vec::new();
    for _ in 0..rounds {
        let moment = random.milliseconds(5, 150);
        let kill = random.below(3) != 0;
        let randoms = [random.next(), random.next()].map(Random);
        std::thread::scope(|scope| {
            let working = randoms.map(|random| scope.spawn(|| work(&client, random)));
            std::thread::sleep(moment);
            if kill {
                server.kill();
            } else {
                server.stop();
            }
            acknowledged.extend(working.into_iter().flat_map(|thread| thread.join().expect("it ends")));
        });
        server.start_again(|setup| setup);
    }
    println!("{} jobs acknowledged", acknowledged.len());
    check(server, &client, &acknowledged);
}

fn check(mut server: Server, client: &Client, acknowledged: &[String]) {
    eventually("everything is done", || {
        // These three are of one moment; three lists would be of three, and a job
        // can go from one to another meanwhile.
        let metrics = client.get("/metrics").text;
        let none = |name: &str| metrics.contains(&format!("\nagentd_jobs_{name} 0\n"));
        ["ready", "delayed", "running"].into_iter().all(none).then_some(())
    });
    server.stop();
    let record = server.record();
    for id in acknowledged {
        assert!(record.jobs.contains_key(id), "{id} was lost");
    }
    for job in record.jobs.values() {
        assert!(may_have_ended_so(job), "{job:?}");
    }
}

fn may_have_ended_so(job: &JobRecord) -> bool {
    let (_, usual) = KINDS.iter().find(|(tool, _)| *tool == job.tool).expect("a tool of ours");
    match job.status.as_str() {
        "cancelled" => true,
        // Three processes were lost while it ran.
        "dead" => job.interruptions == 3,
        status => usual.contains(&status) && job.interruptions < 3,
    }
}
