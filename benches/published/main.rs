//! The published figures: `make bench` runs this and prints one table.
//!
//! Limits first, then the service with everything on, then the service with
//! 100,000 finished jobs in its database; all in one run on one machine.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program for measuring, run by people"
)]

mod limits;
mod load;
mod service;

use std::path::Path;
use std::time::{Duration, Instant};

use limits::Disk;
use load::{Until, run};
use service::Service;

/// What is sent to everyone.
const INPUT: &str = r#"{"hello":"world","n":12345}"#;
/// How long each figure is measured.
const TIME: Duration = Duration::from_secs(3);
const JOBS: usize = 20_000;
const FINISHED: usize = 100_000;

fn body(options: &str) -> String {
    format!(r#"{{"tool":"echo","input":{INPUT}{options}}}"#)
}

fn main() {
    if std::env::args().any(|argument| argument == "empty-handler") {
        limits::serve_empty();
        return;
    }
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in("target").expect("a folder");
    let mut disk = limits::Disk::new(folder.path());
    let limits = measure_limits(folder.path(), &mut disk);
    let data = folder.path().join("data");
    let empty = measure_service(&data, &mut disk);
    let full = measure_full(&data, &mut disk);
    print_table(&limits, &empty, &full, &disk);
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
    let mut raw = limits::RawSqlite::open(folder);
    disk.settle();
    let (times, elapsed) = raw.commits(1, TIME);
    let raw_commits = times.len() as f64 / elapsed.as_secs_f64();
    let raw_p50 = times[times.len() / 2];
    disk.settle();
    let (times, elapsed) = raw.commits(32, TIME);
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

fn measure_full(data: &Path, disk: &mut Disk) -> Figures {
    eprintln!("{FINISHED} finished jobs …");
    let service = Service::start(data);
    let target = service.target("", "");
    run(&target, 64, Until::Count(FINISHED), None);
    service.wait_finished(FINISHED, Instant::now());
    let data = service.stop();
    let service = Service::start(&data);
    let mut figures = Figures { cold_start: service.cold_start, idle: service.memory("VmRSS"), ..Figures::default() };
    measure_rates(&service, &mut figures, disk);
    service.stop();
    figures
}

fn print_table(limits: &Limits, empty: &Figures, full: &Figures, disk: &Disk) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "agentd {} · actix-web {} · rusqlite {} with SQLite {} · {cores} cores\n\
         journal_mode=WAL, synchronous=FULL, authentication, limits and request log on\n",
        env!("CARGO_PKG_VERSION"),
        locked("actix-web"),
        locked("rusqlite"),
        rusqlite::version(),
    );
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
        "\nRatios: submits at 64 connections {:.1} % of the empty handler, jobs {:.1} %; alone p50 {:.1} raw commits; with {FINISHED} finished jobs: submits {:+.0} %, jobs {:+.0} %.",
        at(empty, 2) / limits.empty * 100.0,
        empty.jobs / limits.empty * 100.0,
        empty.alone_p50.as_secs_f64() / limits.raw_p50.as_secs_f64(),
        (at(full, 2) / at(empty, 2) - 1.0) * 100.0,
        (full.jobs / empty.jobs - 1.0) * 100.0,
    );
    let slowest = disk.seen.iter().max().copied().unwrap_or_default();
    println!("Bare fdatasync of 8 KiB before the figures, median of 60: at most {}.", micros(slowest));
}

/// The version of a library in this build.
fn locked(name: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let package = lock.split("[[package]]").find(|package| package.contains(&format!("name = \"{name}\"\n")));
    let version = package.and_then(|package| package.split("version = \"").nth(1)?.split('"').next());
    version.unwrap_or("unknown")
}

fn row(name: &str, values: &[f64], goal: &str) {
    let text = |value: &f64| if *value < 1000.0 { format!("{value:.1}") } else { format!("{value:.0}") };
    let second = values.get(1).map_or(String::new(), text);
    println!("| {name} | {} | {second} | {goal} |", text(&values[0]));
}

fn times(name: &str, empty: Duration, full: Duration, goal: &str) {
    println!("| {name} | {} | {} | {goal} |", micros(empty), micros(full));
}

fn micros(time: Duration) -> String {
    if time < Duration::from_millis(10) {
        format!("{} µs", time.as_micros())
    } else {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    }
}
