//! What a backup of a large database costs those who write meanwhile, and how
//! long it takes until another machine could go on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::load::{Until, run};
use super::million::folder;
use super::raw::RawSqlite;
use super::service::{Service, admin_headers, call};
use super::table::Row;
use super::{Bench, FINISHED_BYTES};

/// Submissions a second while it is looked: much more than most services have,
/// and far from what this machine could take.
const RATE: f64 = 2_000.0;
/// How long is looked without a backup.
const BEFORE: Duration = Duration::from_secs(15);
/// A backup that takes longer has gone wrong.
const PATIENCE: Duration = Duration::from_secs(600);

pub fn backup(bench: &mut Bench) -> Vec<Row> {
    let data = folder(bench, "backup");
    grow(&data);
    bench.disk.settle();
    let service = Service::start_with(&data, &[("AGENTD_JOBS_RETENTION", "off"), ("AGENTD_BACKUP_EVERY", "off")]);
    eprintln!("a backup of {:.1} GB …", size(&data.join("agentd.db")) / 1e9);
    let target = service.target("", "");
    run(&target, 64, Until::Time(Duration::from_secs(3)), Some(RATE));
    let without = run(&target, 64, Until::Time(BEFORE), Some(RATE));
    let (status, job) = call(service.address, "POST", "/admin/backups", &admin_headers(), "");
    assert!(status == 202, "a backup: {job}");
    let (path, start) = (format!("/admin/jobs/{}", job["job_id"].as_str().expect("an id")), Instant::now());
    let mut during = Vec::new();
    let made = loop {
        during.extend(run(&target, 64, Until::Time(Duration::from_secs(1)), Some(RATE)).latencies);
        let (_, job) = call(service.address, "GET", &path, &admin_headers(), "");
        if !job["finished_at"].is_null() {
            assert!(job["status"] == "succeeded", "{job}");
            break job["result"].clone();
        }
        assert!(start.elapsed() < PATIENCE, "no backup");
    };
    during.sort_unstable();
    let at = |q: f64| during[((during.len() as f64 - 1.0) * q) as usize];
    let memory = service.memory("VmHWM");
    service.stop();
    let name = made["name"].as_str().expect("a name");
    let (restored, recovered) = restore(&data, &data.join("backups").join(name));
    let (bytes, seconds) = (made["bytes"].as_f64().unwrap_or(0.0), made["seconds"].as_f64().unwrap_or(0.0));
    vec![
        Row::of("submit p99 at 2000/s, no backup").time(without.quantile(0.99)),
        Row::of("the same while a backup is made, p99").time(at(0.99)).within(2 * without.quantile(0.99)),
        Row::of("the same, at most").time(at(1.0)),
        Row::of("a backup, s").value(seconds).most(240.0).note(format!(
            "of {:.1} GB, packed {:.0} MB",
            made["database_bytes"].as_f64().unwrap_or(0.0) / 1e9,
            bytes / 1e6
        )),
        Row::of("memory meanwhile, at most, MiB").value(memory),
        Row::of("restoring it elsewhere, s").value(restored.as_secs_f64()),
        Row::of("until the service is ready there, s")
            .value((restored + recovered).as_secs_f64())
            .most(60.0)
            .note("RTO"),
    ]
}

/// Makes results of the finished jobs longer, of what hardly can be packed.
fn grow(data: &Path) {
    let mut raw = RawSqlite::open(data);
    let sql = format!(
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -262144;
         UPDATE jobs SET result = '{{\"text\":\"' || hex(randomblob({})) || '\"}}';
         PRAGMA wal_checkpoint(TRUNCATE);",
        FINISHED_BYTES / 2
    );
    raw.connection().execute_batch(&sql).expect("grown");
    std::fs::File::open(data.join("agentd.db")).expect("the file").sync_all().expect("on disk");
}

fn restore(data: &Path, backup: &Path) -> (Duration, Duration) {
    let elsewhere: PathBuf = data.with_extension("restored");
    let start = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_agentd"))
        .arg("restore")
        .arg(backup)
        .arg("--secrets")
        .arg(data.join("secrets"))
        .arg("--data-dir")
        .arg(&elsewhere)
        .stdout(Stdio::null())
        .status();
    assert!(status.is_ok_and(|status| status.success()), "restored");
    let restored = start.elapsed();
    let service = Service::start_with(&elsewhere, &[("AGENTD_JOBS_RETENTION", "off")]);
    let recovered = service.cold_start;
    service.stop();
    let _ = std::fs::remove_dir_all(&elsewhere);
    (restored, recovered)
}

fn size(path: &Path) -> f64 {
    std::fs::metadata(path).map_or(0.0, |found| found.len() as f64)
}
