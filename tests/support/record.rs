//! What a data folder holds once its process has ended, and whether that is
//! whole.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

const FINAL: [&str; 4] = ["succeeded", "failed", "cancelled", "dead"];

/// A job as the database has it.
#[derive(Clone, Debug)]
pub struct JobRecord {
    pub id: String,
    pub tool: String,
    pub status: String,
    pub attempt: i64,
    pub interruptions: i64,
    pub last_event: i64,
    pub input: String,
    pub events: Vec<(i64, String)>,
}

/// The jobs of a database by their ids.
#[derive(Clone, Debug)]
pub struct Record {
    pub jobs: BTreeMap<String, JobRecord>,
}

impl Record {
    /// Reads and checks the database of a data folder. Jobs may be unfinished
    /// only where `may_be_open` says so.
    #[track_caller]
    pub fn check(folder: &Path, may_be_open: impl Fn(&JobRecord) -> bool) -> Self {
        let database = open(&folder.join("agentd.db"));
        assert_eq!(rows(&database, "PRAGMA integrity_check"), ["ok"]);
        assert_eq!(rows(&database, "PRAGMA foreign_key_check"), Vec::<String>::new(), "a row refers to nothing");
        let record = Self { jobs: jobs(&database) };
        for job in record.jobs.values() {
            job.check(may_be_open(job));
        }
        record
    }
}

impl JobRecord {
    pub fn is_final(&self) -> bool {
        FINAL.contains(&self.status.as_str())
    }

    fn check(&self, may_be_open: bool) {
        assert!(self.is_final() || may_be_open, "stuck: {self:?}");
        let numbers: Vec<i64> = self.events.iter().map(|(seq, _)| *seq).collect();
        let expected: Vec<i64> = (1..).take(numbers.len()).collect();
        assert_eq!(numbers, expected, "events are not numbered without a gap: {self:?}");
        assert_eq!(numbers.last(), Some(&self.last_event), "last_event is another: {self:?}");
        let ends = self.events.iter().filter(|(_, kind)| is_final_event(kind)).count();
        assert_eq!(ends, usize::from(self.is_final()), "it must end once: {self:?}");
        if self.is_final() {
            let last = self.events.last().map(|(_, kind)| kind.as_str());
            assert_eq!(last, Some(format!("job.{}", self.status).as_str()), "its last event is another: {self:?}");
        }
    }
}

fn is_final_event(kind: &str) -> bool {
    kind.strip_prefix("job.").is_some_and(|status| FINAL.contains(&status))
}

fn open(path: &Path) -> Connection {
    let opened = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rows(database: &Connection, sql: &str) -> Vec<String> {
    let mut statement = database.prepare(sql).expect("a statement");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

fn jobs(database: &Connection) -> BTreeMap<String, JobRecord> {
    let sql = "SELECT no, lower(hex(id)), tool, status, attempt, interruptions, last_event, input FROM jobs";
    let mut statement = database.prepare(sql).expect("a statement");
    let read = statement.query_map([], |row| {
        let job = JobRecord {
            id: hyphenated(&row.get::<_, String>(1)?),
            tool: row.get(2)?,
            status: row.get(3)?,
            attempt: row.get(4)?,
            interruptions: row.get(5)?,
            last_event: row.get(6)?,
            input: row.get(7)?,
            events: Vec::new(),
        };
        Ok((row.get::<_, i64>(0)?, job))
    });
    let mut by_no: BTreeMap<i64, JobRecord> = read.expect("rows").map(|row| row.expect("a row")).collect();
    let mut statement =
        database.prepare("SELECT job_no, seq, type FROM job_events_each ORDER BY 1, 2").expect("a statement");
    let events = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)));
    for event in events.expect("rows") {
        let (no, seq, kind) = event.expect("a row");
        by_no.get_mut(&no).expect("the foreign keys have been checked").events.push((seq, kind));
    }
    by_no.into_values().map(|job| (job.id.clone(), job)).collect()
}

fn hyphenated(hex: &str) -> String {
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}
