//! The first table: the limits of this machine, the service on an empty
//! database, and the service with a million finished jobs.

use std::path::Path;
use std::time::{Duration, Instant};

use super::limits::{self, Disk};
use super::load::{self, Until, run};
use super::million::{self, FINISHED};
use super::raw::{RawSqlite, Rows};
use super::service::{self, Service};
use super::table::{micros, row, times};
use super::{Bench, TIME, body};

const JOBS: usize = 20_000;

/// Measures and prints it.
pub fn measure(bench: &mut Bench) {
    let folder = bench.root.path().to_owned();
    let limits = measure_limits(&folder, &mut bench.disk);
    let empty = measure_service(&bench.folder("empty"), &mut bench.disk);
    let full = measure_full(bench);
    print_table(&limits, &empty, &full);
}

struct Limits {
    empty: f64,
    raw_commits: f64,
    raw_p50: Duration,
    raw_rows: f64,
}

fn measure_limits(folder: &Path, disk: &mut Disk) -> Limits {
    eprintln!("limits …");
    let handler = limits::EmptyHandler::start();
    let target = load::Target {
        address: handler.address,
        path: "/agent/run".into(),
        headers: "X-API-Key: bench-key-of-the-default-tenant\r\n".into(),
        body: body(""),
    };
    run(&target, 64, Until::Time(Duration::from_secs(1)), None);
    let empty = run(&target, 64, Until::Time(TIME), None).per_second();
    drop(handler);
    let mut raw = RawSqlite::create(&folder.join("raw"));
    disk.settle();
    let (times, elapsed) = raw.commits(1, Rows::Job, TIME);
    let raw_commits = times.len() as f64 / elapsed.as_secs_f64();
    let raw_p50 = times[times.len() / 2];
    disk.settle();
    let (times, elapsed) = raw.commits(32, Rows::Job, TIME);
    Limits { empty, raw_commits, raw_p50, raw_rows: times.len() as f64 * 32.0 / elapsed.as_secs_f64() }
}

#[derive(Default)]
struct Figures {
    submits: Vec<(usize, f64)>,
    /// The same while nothing runs: jobs that are due in a day.
    parked: f64,
    jobs: f64,
    jobs_cpu: f64,
    alone_p50: Duration,
    alone_p99: Duration,
    half_rate: f64,
    half_p50: Duration,
    half_p99: Duration,
    events: f64,
    idle: f64,
    loaded: f64,
    cold_start: Duration,
}

fn measure_service(data: &Path, disk: &mut Disk) -> Figures {
    eprintln!("an empty database …");
    let service = Service::start(data);
    std::thread::sleep(Duration::from_secs(1));
    let mut figures = Figures { idle: service.memory("VmRSS"), cold_start: service.cold_start, ..Figures::default() };
    measure_rates(&service, &mut figures, disk);
    // Parked jobs would stay in the database, so this has a folder of its own.
    disk.settle();
    let other = Service::start(&data.with_extension("parked"));
    figures.parked = run(&other.target("", r#","delay":86400"#), 64, Until::Time(TIME), None).per_second();
    drop(other);
    eprintln!("followers …");
    disk.settle();
    figures.events = service::follow(&service, 16, 250);
    figures.loaded = service.memory("VmHWM");
    service.stop();
    figures
}

/// The figures that are compared between an empty and a full database.
fn measure_rates(service: &Service, figures: &mut Figures, disk: &mut Disk) {
    let mut submitted = service.finished();
    run(&service.target("", ""), 16, Until::Count(2_000), None);
    submitted += 2_000;
    service.wait_finished(submitted, Instant::now());
    for connections in [1, 16, 64] {
        disk.settle();
        let report = run(&service.target("", ""), connections, Until::Time(TIME), None);
        submitted += report.requests;
        figures.submits.push((connections, report.per_second()));
        service.wait_finished(submitted, Instant::now());
    }
    disk.settle();
    let (start, cpu) = (Instant::now(), service.cpu());
    run(&service.target("", ""), 64, Until::Count(JOBS), None);
    submitted += JOBS;
    let took = service.wait_finished(submitted, start);
    figures.jobs = JOBS as f64 / took.as_secs_f64();
    figures.jobs_cpu = (service.cpu() - cpu) / JOBS as f64 * 1e6;
    disk.settle();
    let alone = run(&service.target("?wait=10", ""), 1, Until::Time(TIME), None);
    (figures.alone_p50, figures.alone_p99) = (alone.quantile(0.5), alone.quantile(0.99));
    figures.half_rate = figures.jobs / 2.0;
    disk.settle();
    let half = run(&service.target("?wait=10", ""), 64, Until::Time(TIME), Some(figures.half_rate));
    (figures.half_p50, figures.half_p99) = (half.quantile(0.5), half.quantile(0.99));
}

fn measure_full(bench: &mut Bench) -> Figures {
    let data = million::folder(bench, "full");
    eprintln!("{FINISHED} finished jobs …");
    // The copied file may have lain there for longer than jobs are kept.
    let service = Service::start_with(&data, &[("AGENTD_JOBS_RETENTION", "off")]);
    let mut figures = Figures { cold_start: service.cold_start, idle: service.memory("VmRSS"), ..Figures::default() };
    measure_rates(&service, &mut figures, &mut bench.disk);
    service.stop();
    let _ = std::fs::remove_dir_all(data);
    figures
}

fn print_table(limits: &Limits, empty: &Figures, full: &Figures) {
    println!("| Figure | Empty database | {FINISHED} finished jobs | Limit or goal |");
    println!("|---|---:|---:|---|");
    row("empty handler, 64 connections, requests/s", &[limits.empty], "the limit of HTTP here");
    row("raw SQLite, 1 row a commit, commits/s", &[limits.raw_commits], "the limit of one writer");
    row("raw SQLite, 32 rows a commit, rows/s", &[limits.raw_rows], "");
    let at = |figures: &Figures, place: usize| figures.submits.get(place).map_or(0.0, |(_, rate)| *rate);
    for (place, connections) in [1, 16, 64].into_iter().enumerate() {
        let goal = if connections == 64 {
            format!("≥ {:.0} (20 % of the empty handler)", limits.empty * 0.2)
        } else {
            String::new()
        };
        row(&format!("durable submits/s, {connections} connections"), &[at(empty, place), at(full, place)], &goal);
    }
    row("durable submits/s, 64 connections, nothing due", &[empty.parked], "");
    row(
        &format!("jobs/s from submit to done, {JOBS} echo jobs"),
        &[empty.jobs, full.jobs],
        &format!("≥ {:.0} (10 %)", limits.empty * 0.1),
    );
    row("processor time of one job, µs", &[empty.jobs_cpu, full.jobs_cpu], "");
    times(
        "submit→done alone, p50",
        empty.alone_p50,
        full.alone_p50,
        &format!("≤ {} (5 raw commits of {})", micros(limits.raw_p50 * 5), micros(limits.raw_p50)),
    );
    times("submit→done alone, p99", empty.alone_p99, full.alone_p99, "");
    row("half load, jobs/s", &[empty.half_rate, full.half_rate], "");
    times("submit→done at half load, p50", empty.half_p50, full.half_p50, "");
    times("submit→done at half load, p99", empty.half_p99, full.half_p99, "≤ 20 ms");
    row("events/s to 16 SSE followers", &[empty.events], "");
    row("memory idle, MiB", &[empty.idle, full.idle], "≤ 30");
    row("memory under load, at most, MiB", &[empty.loaded], "");
    times("cold start to ready", empty.cold_start, full.cold_start, "≤ 200 ms");
    println!(
        "\nRatios: submits at 64 connections {:.1} % of the empty handler, jobs {:.1} %; alone p50 {:.1} raw commits; with {FINISHED} finished jobs: submits {:+.0} %, jobs {:+.0} % (goal: within 20 %).\n",
        at(empty, 2) / limits.empty * 100.0,
        empty.jobs / limits.empty * 100.0,
        empty.alone_p50.as_secs_f64() / limits.raw_p50.as_secs_f64(),
        (at(full, 2) / at(empty, 2) - 1.0) * 100.0,
        (full.jobs / empty.jobs - 1.0) * 100.0,
    );
}
