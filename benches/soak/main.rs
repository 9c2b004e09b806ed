//! A long run of everything at once: `make soak` drives the release binary for
//! `SOAK_MINUTES` (10) with a mixed load far below what it can do, watches its
//! memory and its files, and says whether they stay where they are.
//!
//! Ends with 1 when anything was answered wrongly, when memory grows faster than
//! [`MEMORY_BOUND`] in the second half, or when the files do.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program for measuring, run by people"
)]

#[path = "../published/load.rs"]
#[expect(dead_code, reason = "the benchmark uses the rest")]
mod load;
mod mix;
mod samples;
#[path = "../published/service.rs"]
#[expect(dead_code, reason = "the benchmark uses the rest")]
mod service;

use std::time::{Duration, Instant};

use samples::Samples;
use service::Service;

/// How often memory and files are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// Lines that are printed on the way.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// MiB an hour that memory may grow by in the second half of the run. What a
/// leak of one job's row in every thousand would come to is above it.
const MEMORY_BOUND: f64 = 24.0;
/// By how much the largest size of a file in the second half may be above that
/// of the first.
const FILE_BOUND: f64 = 1.25;

fn body(options: &str) -> String {
    format!(r#"{{"tool":"echo","input":{{"hello":"world","n":12345}}{options}}}"#)
}

fn main() {
    let minutes = std::env::var("SOAK_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(10.0);
    let time = Duration::from_secs_f64(minutes * 60.0);
    let folder = tempfile::Builder::new().prefix("soak-").tempdir_in("target").expect("a folder");
    let data = folder.path().join("data");
    // Kept for so short a time that the run sees many jobs come and go.
    let kept = format!("{}s", (time.as_secs() / 10).clamp(5, 60));
    let service = Service::start_with(&data, &[("AGENTD_JOBS_RETENTION", &kept)]);
    println!("{minutes} minutes; finished jobs are kept for {kept}\n\n{}", Samples::HEAD);
    let mix = mix::Mix::start(&service, Instant::now() + time);
    let mut samples = Samples::default();
    let (start, mut line) = (Instant::now(), Instant::now());
    while start.elapsed() < time {
        std::thread::sleep(EVERY);
        samples.take(&service, &data, start.elapsed());
        if line.elapsed() >= LINE_EVERY {
            line = Instant::now();
            println!("{}", samples.line());
        }
    }
    let done = mix.finish();
    let finished = service.finished();
    service.stop();
    println!("\n{}\n{done}, {finished} jobs ended", samples.summary());
    let mut faults = samples.faults(MEMORY_BOUND, FILE_BOUND);
    faults.extend(done.faults);
    for fault in &faults {
        println!("FAULT: {fault}");
    }
    std::process::exit(i32::from(!faults.is_empty()));
}
