//! A database with a million finished jobs, and what taking them away costs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agentd::clock::system_now;

use super::load::{Until, run};
use super::raw::RawSqlite;
use super::service::Service;
use super::table::Row;
use super::{Bench, TIME, median};

/// Finished jobs in the big database.
pub const FINISHED: usize = 1_000_000;

/// What the disk is given to recover from the copy.
const RECOVERY: Duration = Duration::from_secs(45);

/// A data folder of its own with that many finished jobs. They are written by
/// SQL in the shape that the service gives them, once for each schema, and
/// copied.
pub fn folder(bench: &mut Bench, name: &str) -> PathBuf {
    let template = template();
    let data = bench.folder(name);
    std::fs::create_dir_all(&data).expect("a folder");
    let start = Instant::now();
    let copy = data.join("agentd.db");
    std::fs::copy(&template, &copy).expect("copied");
    std::fs::File::open(&copy).expect("the copy").sync_all().expect("on disk");
    eprintln!("copied in {:.1} s", start.elapsed().as_secs_f64());
    // A rented disk has an allowance that so many bytes use up, and a short look
    // at it does not show that: it answers quickly until it is asked for more.
    std::thread::sleep(RECOVERY);
    bench.disk.settle();
    data
}

/// The file that is copied; its name says for which schema and how many jobs.
fn template() -> PathBuf {
    let fresh = tempfile::Builder::new().prefix("bench-").tempdir_in("target").expect("a folder");
    Service::start(fresh.path()).stop();
    // A schema is told by the checksums of its migrations.
    let schema: i64 = RawSqlite::open(fresh.path())
        .connection()
        .query_row("SELECT sum(CAST(substr(checksum, 1, 15) AS INTEGER)) FROM refinery_schema_history", [], |row| {
            row.get(0)
        })
        .expect("the migrations");
    let kept = PathBuf::from(format!("target/bench-finished-{FINISHED}-{schema:x}.db"));
    if !kept.exists() {
        eprintln!("writing {FINISHED} finished jobs, once …");
        fill(fresh.path());
        std::fs::rename(fresh.path().join("agentd.db"), &kept).expect("kept");
    }
    kept
}

const DAY_MS: i64 = 24 * 3600 * 1000;

fn fill(folder: &Path) {
    let mut raw = RawSqlite::open(folder);
    let connection = raw.connection();
    // Ids grow with time, as the service's own do. All ended two days ago.
    let sql = format!(
        "PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -262144;
         BEGIN;
         CREATE TEMP TABLE numbers AS
         WITH RECURSIVE count (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM count LIMIT {FINISHED})
         SELECT ({ms} + n) << 12 AS no, ({ms} + n) * 1000 AS at,
             unhex(printf('%012x70008', {ms} + n) || substr(hex(randomblob(8)), 2)) AS id FROM count;
         INSERT INTO jobs (no, id, tenant_no, tool, status, priority, attempt, interruptions, last_event, due_at,
             created_at, started_at, finished_at, options, input, result)
         SELECT no, id, (SELECT no FROM tenants WHERE is_default = 1), 'echo', 'succeeded', 0, 1, 0, 5, at, at, at, at + 900, '{{}}', '{input}',
             '{input}' FROM numbers;
         INSERT INTO job_events (job_no, seq, at, events)
         SELECT no, e.seq, at, e.events FROM numbers, (
             SELECT 3 AS seq, '[[\"job.queued\",{{}}],[\"job.started\",{{\"attempt\":1}}],'
                 || '[\"step.started\",{{\"step\":3,\"name\":\"echo\"}}]]' AS events
             UNION ALL SELECT 5,
                 '[[\"step.finished\",{{\"step\":3,\"name\":\"echo\"}}],[\"job.succeeded\",{{}}]]') AS e;
         INSERT INTO job_steps (job_no, seq, kind, name, attempt, status, started_at, finished_at)
         SELECT no, 3, 'tool', 'echo', 1, 'succeeded', at, at + 900 FROM numbers;
         COMMIT;
         PRAGMA wal_checkpoint(TRUNCATE);",
        ms = system_now().micros() / 1000 - 2 * DAY_MS,
        input = super::INPUT,
    );
    connection.execute_batch(&sql).expect("a million jobs");
}

/// Turns of submitting without and with retention at work.
const TURNS: usize = 3;
/// The rest is deleted, and the file made smaller, while nobody submits; after
/// this long it is left as it is.
const PATIENCE: Duration = Duration::from_secs(120);

/// What deleting all of them costs submissions, and what it gives back.
pub fn retention(bench: &mut Bench) -> Vec<Row> {
    let data = folder(bench, "retention");
    let before = size(&data);
    eprintln!("retention of {FINISHED} jobs …");
    let (mut alone, mut beside, mut deleted_each) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        alone.push(submits(bench, &data, "off").0);
        let (rate, deleted) = submits(bench, &data, "1d");
        beside.push(rate);
        deleted_each.push(deleted);
    }
    let service = Service::start_with(&data, &[("AGENTD_JOBS_RETENTION", "1d")]);
    let start = Instant::now();
    // Until nothing changes any more.
    let (mut last, mut since) = ((0.0, 0.0), Instant::now());
    while since.elapsed() < Duration::from_secs(12) && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(500));
        let now = (service.metric("agentd_jobs_expired_total"), size(&data));
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    let rested = since.duration_since(start).as_secs_f64();
    service.stop();
    let after = size(&data);
    let mut raw = RawSqlite::open(&data);
    let mut count = |sql: &str| raw.connection().query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a count");
    let left = count(&format!(
        "SELECT count(*) FROM jobs WHERE finished_at < {}",
        (system_now().micros() / 1000 - DAY_MS) * 1000
    ));
    let new = count("SELECT count(*) FROM jobs") - left;
    let free = (count("PRAGMA freelist_count") * count("PRAGMA page_size")) >> 20;
    let (alone, beside) = (median(&mut alone), median(&mut beside));
    vec![
        Row::of(format!("durable submits/s, 64 connections, {FINISHED} finished jobs")).value(alone),
        Row::of("the same while retention deletes them").value(beside).least(alone * 0.8),
        Row::of("jobs deleted/s meanwhile").value(median(&mut deleted_each)),
        Row::of("file before, MiB").value(before),
        Row::of("file after, MiB").value(after).most(before).note(format!(
            "{left} of {FINISHED} left, {new} new ones, {free} MiB free inside; {rested:.0} s after the last submission"
        )),
    ]
}

/// Submissions a second, and old jobs deleted a second meanwhile.
fn submits(bench: &mut Bench, data: &Path, retention: &str) -> (f64, f64) {
    bench.disk.settle();
    let service = Service::start_with(data, &[("AGENTD_JOBS_RETENTION", retention)]);
    let (start, deleted) = (Instant::now(), service.metric("agentd_jobs_expired_total"));
    let report = run(&service.target("", ""), 64, Until::Time(TIME), None);
    let deleted = service.metric("agentd_jobs_expired_total") - deleted;
    let took = start.elapsed();
    service.wait_idle();
    service.stop();
    (report.per_second(), deleted / took.as_secs_f64())
}

/// MiB of the database.
fn size(data: &Path) -> f64 {
    std::fs::metadata(data.join("agentd.db")).map_or(0.0, |file| file.len() as f64) / f64::from(1 << 20)
}
