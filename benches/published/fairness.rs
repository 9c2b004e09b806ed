//! What one tenant's many jobs do to the others.

use std::time::{Duration, Instant};

use agentd::clock::Timestamp;

use super::load::{Target, Until, run};
use super::raw::RawSqlite;
use super::service::{Service, call, headers};
use super::table::Row;
use super::{Bench, body};

/// Jobs of the crowd that wait whenever the other submits.
const WAITING: usize = 100_000;
/// Jobs of the crowd at the start, so that it lasts a while.
const CROWD: usize = 250_000;
const BACKLOGS: [usize; 4] = [20_000, 20_000, 40_000, 80_000];

/// A backlog for each tenant that is due once the service starts again. Made as
/// jobs for tomorrow; then the calendar is changed while the service is down.
fn backlogs(bench: &mut Bench, name: &str, sizes: &[usize]) -> (Service, Vec<String>) {
    let data = bench.folder(name);
    let service = Service::start(&data);
    let keys: Vec<_> = (0..sizes.len()).map(|number| service.new_tenant(&format!("crowd {number}"))).collect();
    for (key, size) in keys.iter().zip(sizes) {
        let parked = Target { headers: headers(key), ..service.target("", r#","delay":86400"#) };
        run(&parked, 64, Until::Count(*size), None);
    }
    service.stop();
    let mut raw = RawSqlite::open(&data);
    let changed = raw.connection().execute("UPDATE jobs SET status = 'queued', due_at = created_at", []);
    assert_eq!(changed.expect("an update"), sizes.iter().sum::<usize>());
    drop(raw);
    bench.disk.settle();
    (Service::start(&data), keys)
}

/// How soon a single job starts while another tenant has a crowd waiting.
pub fn alone(bench: &mut Bench) -> Vec<Row> {
    eprintln!("a single job beside {WAITING} of another tenant …");
    let (service, _) = backlogs(bench, "alone", &[CROWD]);
    let ready = service.cold_start;
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    let key = headers(&service.new_tenant("single"));
    let body = body("");
    while service.metric("agentd_jobs_ready") >= WAITING as f64 {
        for _ in 0..20 {
            let start = Instant::now();
            let (status, job) = call(service.address, "POST", "/agent/run?wait=10", &key, &body);
            ends.push(start.elapsed());
            assert!(status == 200, "a finished job: {job}");
            let at = |name: &str| job[name].as_str().and_then(Timestamp::parse).expect("a moment");
            starts.push(at("started_at").since(at("created_at")));
        }
    }
    service.stop();
    starts.sort_unstable();
    ends.sort_unstable();
    let quantile = |times: &[Duration], q: f64| times[((times.len() - 1) as f64 * q) as usize];
    let limit = Duration::from_millis(50);
    let tries = format!("{} tries", starts.len());
    vec![
        Row::of(format!("start of a single job while another tenant has {WAITING} queued, p50"))
            .time(quantile(&starts, 0.5))
            .within(limit)
            .note(tries),
        Row::of("the same, p99").time(quantile(&starts, 0.99)).within(limit),
        Row::of("the same, at most").time(quantile(&starts, 1.0)).within(limit),
        Row::of("submit→done of that job, p50").time(quantile(&ends, 0.5)),
        Row::of("submit→done of that job, p99").time(quantile(&ends, 0.99)),
        Row::of(format!("cold start to ready with {CROWD} jobs queued")).time(ready),
    ]
}

/// What of their fair share the tenants get while all of them have jobs waiting.
pub fn shares(bench: &mut Bench) -> Vec<Row> {
    eprintln!("{} tenants with backlogs …", BACKLOGS.len());
    let (service, _) = backlogs(bench, "shares", &BACKLOGS);
    service.wait_idle();
    service.stop();
    let mut raw = RawSqlite::open(&bench.folder("shares"));
    // Until the first of them has none left to start.
    let counted: Vec<i64> = raw
        .connection()
        .prepare(
            "WITH ends AS (SELECT tenant_no, max(started_at) AS at FROM jobs GROUP BY tenant_no)
             SELECT count(*) FROM jobs WHERE started_at <= (SELECT min(at) FROM ends) GROUP BY tenant_no",
        )
        .expect("a statement")
        .query_map([], |row| row.get(0))
        .expect("rows")
        .map(|row| row.expect("a count"))
        .collect();
    assert_eq!(counted.len(), BACKLOGS.len(), "every tenant started something");
    let fair = counted.iter().sum::<i64>() as f64 / counted.len() as f64;
    let least = counted.iter().min().map_or(0.0, |least| *least as f64);
    vec![
        Row::of(format!("smallest share of {} tenants with backlogs, % of the fair one", counted.len()))
            .value(least / fair * 100.0)
            .least(80.0)
            .note(format!("jobs started: {counted:?}")),
    ]
}
