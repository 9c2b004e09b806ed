//! Many jobs in one request, against SQLite alone with as many rows a commit.

use super::load::{Target, Until, run};
use super::raw::{RawSqlite, Rows};
use super::service::Service;
use super::table::Row;
use super::{Bench, TIME, body};

const JOBS: usize = 1_000;
const CONNECTIONS: usize = 4;

/// Jobs a second that batches bring to disk.
pub fn batch(bench: &mut Bench) -> Vec<Row> {
    eprintln!("batches …");
    let mut raw = RawSqlite::create(&bench.folder("batch").join("raw"));
    bench.disk.settle();
    let (times, elapsed) = raw.commits(JOBS, Rows::JobAndEvents, TIME);
    drop(raw);
    let raw = (times.len() * JOBS) as f64 / elapsed.as_secs_f64();
    // Jobs that are due in a day: only the submission is measured.
    let mut measure = |name: &str, options: &str| {
        // More than may wait by default would be refused.
        let settings = [("AGENTD_JOBS_QUEUE", "10000000")];
        let service = Service::start_with(&bench.folder("batch").join(name), &settings);
        let jobs = vec![body(options); JOBS].join(",");
        let target = Target {
            address: service.address,
            path: "/v1/jobs/batch".into(),
            headers: service.headers(),
            body: format!(r#"{{"jobs":[{jobs}]}}"#),
        };
        bench.disk.settle();
        let report = run(&target, CONNECTIONS, Until::Time(TIME), None);
        assert_eq!(service.metric("agentd_jobs_submitted_total") as usize, report.requests * JOBS, "all were taken");
        report.per_second() * JOBS as f64
    };
    let parked = measure("parked", r#","delay":86400"#);
    let running = measure("running", "");
    vec![
        Row::of(format!("raw SQLite, {JOBS} jobs a commit with their first events, jobs/s")).value(raw),
        Row::of(format!("batch submits of {JOBS}, {CONNECTIONS} connections, nothing due, jobs/s"))
            .value(parked)
            .least(raw * 0.3)
            .note(format!("{:.0} % of raw (goal 30 %)", parked / raw * 100.0)),
        Row::of("the same while the jobs run, jobs/s").value(running),
    ]
}
