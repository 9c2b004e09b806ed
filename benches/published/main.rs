//! The published figures: `make bench` runs this and prints two tables.
//!
//! Limits first, then the service with everything on, then the same with a
//! million finished jobs in its database; after that what many tenants, jobs
//! and connections do to it. All in one run on one machine. `BENCH_ONLY` names
//! the sections to run, with commas between them.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program for measuring, run by people"
)]

mod backup;
mod batch;
mod connections;
mod fairness;
mod limits;
mod load;
mod million;
mod rates;
mod raw;
#[expect(dead_code, reason = "the soak uses the rest")]
mod service;
mod table;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use table::Row;

/// What is sent to everyone.
const INPUT: &str = r#"{"hello":"world","n":12345}"#;
/// Bytes of each result in the database of 2 GB.
const FINISHED_BYTES: usize = 1_500;
/// How long each figure is measured.
const TIME: Duration = Duration::from_secs(3);

/// The sections after the first, each of which gives rows of the second table.
type Section = fn(&mut Bench) -> Vec<Row>;
const SECTIONS: [(&str, Section); 8] = [
    ("batch", batch::batch),
    ("alone", fairness::alone),
    ("shares", fairness::shares),
    ("retention", million::retention),
    ("followers", connections::followers),
    ("idle", connections::idle),
    ("tls", tls::tls),
    ("backup", backup::backup),
];

/// What the sections share.
struct Bench {
    root: tempfile::TempDir,
    disk: limits::Disk,
}

impl Bench {
    /// A folder for a section of its own.
    fn folder(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

fn body(options: &str) -> String {
    format!(r#"{{"tool":"echo","input":{INPUT}{options}}}"#)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    if std::env::args().any(|argument| argument == "empty-handler") {
        limits::serve_empty();
        return;
    }
    let known = || std::iter::once("table").chain(SECTIONS.iter().map(|(name, _)| *name));
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = only.iter().find(|only| !known().any(|name| name == **only)) {
        eprintln!("BENCH_ONLY: {unknown:?} is none of {}", known().collect::<Vec<_>>().join(", "));
        std::process::exit(2);
    }
    let wanted = |name: &str| only.is_empty() || only.contains(&name);
    connections::allow_files();
    let root = tempfile::Builder::new().prefix("bench-").tempdir_in("target").expect("a folder");
    let disk = limits::Disk::new(root.path());
    let mut bench = Bench { root, disk };
    table::print_versions();
    if wanted("table") {
        rates::measure(&mut bench);
    }
    let mut rows = Vec::new();
    for (name, section) in SECTIONS.iter().filter(|(name, _)| wanted(name)) {
        rows.extend(section(&mut bench));
        let _ = std::fs::remove_dir_all(bench.folder(name));
    }
    table::print_rows(&rows);
    bench.disk.print_seen();
}
