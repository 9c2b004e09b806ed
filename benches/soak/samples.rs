//! What is looked at while it runs.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::service::Service;

const MIB: f64 = 1024.0 * 1024.0;

/// What was seen, every few seconds.
#[derive(Default)]
pub struct Samples(Vec<Sample>);

#[derive(Clone, Copy)]
struct Sample {
    hours: f64,
    /// MiB, as the next two.
    memory: f64,
    database: f64,
    log: f64,
    files: f64,
    threads: f64,
}

type Column = (&'static str, fn(&Sample) -> f64);
const COLUMNS: [Column; 5] = [
    ("memory, MiB", |sample| sample.memory),
    ("database, MiB", |sample| sample.database),
    ("log of it, MiB", |sample| sample.log),
    ("open files", |sample| sample.files),
    ("threads", |sample| sample.threads),
];

impl Samples {
    pub const HEAD: &str = "   time  memory, MiB  database, MiB  log of it, MiB  open files  threads";

    pub fn take(&mut self, service: &Service, data: &Path, at: Duration) {
        let size = |name: &str| std::fs::metadata(data.join(name)).map_or(0.0, |file| file.len() as f64 / MIB);
        self.0.push(Sample {
            hours: at.as_secs_f64() / 3600.0,
            memory: service.memory("VmRSS"),
            database: size("agentd.db"),
            log: size("agentd.db-wal"),
            files: service.open_files() as f64,
            threads: service.threads() as f64,
        });
    }

    /// The last sample.
    pub fn line(&self) -> String {
        let Some(sample) = self.0.last() else { return String::new() };
        let Sample { hours, memory, database, log, files, threads } = sample;
        format!("{:5.0} s  {memory:11.1}  {database:13.1}  {log:14.1}  {files:10}  {threads:7}", hours * 3600.0)
    }

    fn halves(&self) -> (&[Sample], &[Sample]) {
        self.0.split_at(self.0.len() / 2)
    }

    pub fn summary(&self) -> String {
        let mut text =
            "| | first | last | at most | slope in the second half, 1/h |\n|---|---:|---:|---:|---:|".to_owned();
        for (name, value) in COLUMNS {
            let ends = self.0.first().zip(self.0.last()).map_or((0.0, 0.0), |(a, b)| (value(a), value(b)));
            let most = most(&self.0, value);
            let slope = slope(self.halves().1, value);
            let _ = write!(text, "\n| {name} | {:.1} | {:.1} | {most:.1} | {slope:+.1} |", ends.0, ends.1);
        }
        text
    }

    /// What grew that must not.
    pub fn faults(&self, memory: f64, files: f64) -> Vec<String> {
        let (first, second) = self.halves();
        let mut faults = Vec::new();
        let slope = slope(second, |sample| sample.memory);
        if slope > memory {
            faults.push(format!("memory grows by {slope:.1} MiB an hour; the bound is {memory}"));
        }
        for (name, value) in &COLUMNS[1..] {
            let (before, after) = (most(first, *value), most(second, *value));
            if after > before * files + 8.0 {
                faults.push(format!("{name}: {after:.1} in the second half, {before:.1} in the first"));
            }
        }
        faults
    }
}

fn most(samples: &[Sample], value: fn(&Sample) -> f64) -> f64 {
    samples.iter().map(value).fold(0.0, f64::max)
}

/// By least squares, an hour.
fn slope(samples: &[Sample], value: fn(&Sample) -> f64) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (time, level) = (mean(&|sample| sample.hours), mean(&|sample| value(sample)));
    let over: f64 = samples.iter().map(|sample| (sample.hours - time) * (value(sample) - level)).sum();
    let under: f64 = samples.iter().map(|sample| (sample.hours - time).powi(2)).sum();
    if under > 0.0 { over / under } else { 0.0 }
}
