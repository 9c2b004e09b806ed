//! What the machine and the libraries can do at most: an empty handler, and
//! SQLite alone with the same schema.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};
use rusqlite::{Connection, params};

/// The empty handler's process.
pub struct EmptyHandler {
    child: Child,
    pub address: SocketAddr,
}

impl EmptyHandler {
    /// Started as a process of its own, as agentd is.
    pub fn start() -> Self {
        use std::io::BufRead as _;
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .arg("empty-handler")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the empty handler starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        std::io::BufReader::new(stdout).read_line(&mut line).expect("its address");
        Self { child, address: line.trim().parse().expect("an address") }
    }
}

impl Drop for EmptyHandler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What that process does: takes the same body and answers 202.
pub fn serve_empty() {
    actix_web::rt::System::new().block_on(async {
        let app = || {
            App::new()
                .route("/agent/run", web::post().to(|_: web::Bytes| async { HttpResponse::Accepted().body("{}") }))
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        HttpServer::new(app).tcp_nodelay(true).listen(listener).expect("listens").run().await.expect("runs");
    });
}

/// SQLite's own speed with agentd's schema, indexes and durability.
pub struct RawSqlite {
    connection: Connection,
    next: i64,
}

impl RawSqlite {
    pub fn open(folder: &Path) -> Self {
        let connection = Connection::open(folder.join("raw.db")).expect("opens");
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
            .expect("settings");
        connection.execute_batch(include_str!("../../migrations/main/V0001__spine.sql")).expect("the schema");
        connection
            .execute_batch(
                "INSERT INTO tenants (no, id, name, status, cohort, created_at, updated_at)
                 VALUES (1, 'x', 'x', 'active', 'everyone', 0, 0)",
            )
            .expect("a tenant");
        Self { connection, next: 1 }
    }

    /// Commits of `rows` job rows each, for so long: their times, sorted.
    pub fn commits(&mut self, rows: usize, time: Duration) -> (Vec<Duration>, Duration) {
        let start = Instant::now();
        let mut times = Vec::new();
        while start.elapsed() < time {
            let one = Instant::now();
            self.commit(rows);
            times.push(one.elapsed());
        }
        let elapsed = start.elapsed();
        times.sort_unstable();
        (times, elapsed)
    }

    fn commit(&mut self, rows: usize) {
        let transaction = self.connection.transaction().expect("a transaction");
        {
            let mut insert = transaction
                .prepare_cached(
                    "INSERT INTO jobs (no, id, tenant_no, tool, status, priority, attempt, interruptions, last_event,
                         due_at, created_at, options, input)
                     VALUES (?1, ?2, 1, 'echo', 'queued', 0, 0, 0, 1, ?3, ?3, '{}', ?4)",
                )
                .expect("a statement");
            for _ in 0..rows {
                self.next += 1;
                let id = u128::try_from(self.next).expect("positive").to_be_bytes();
                insert.execute(params![self.next, id, self.next, super::INPUT]).expect("a row");
            }
        }
        transaction.commit().expect("a commit");
    }
}

/// The disk under everything. Those of rented machines are throttled after a
/// burst, by twenty times and for tens of seconds, which would measure the
/// landlord; so each figure starts once a bare `fdatasync` is as fast as it was
/// at the beginning, or after a minute as things are.
pub struct Disk {
    file: std::fs::File,
    best: Duration,
    /// What bare `fdatasync` took before each figure, for the table.
    pub seen: Vec<Duration>,
}

impl Disk {
    pub fn new(folder: &Path) -> Self {
        let file = std::fs::File::create(folder.join("fdatasync")).expect("a file");
        let mut disk = Self { file, best: Duration::MAX, seen: Vec::new() };
        for _ in 0..5 {
            disk.best = disk.best.min(disk.median());
            std::thread::sleep(Duration::from_millis(200));
        }
        disk
    }

    pub fn settle(&mut self) {
        let start = Instant::now();
        let mut now = self.median();
        while now > self.best * 2 && start.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_secs(3));
            now = self.median();
        }
        self.seen.push(now);
    }

    fn median(&self) -> Duration {
        use std::os::unix::fs::FileExt as _;
        let mut times: Vec<_> = (0..60)
            .map(|number| {
                let start = Instant::now();
                self.file.write_all_at(&[1; 8192], number * 8192).expect("written");
                self.file.sync_data().expect("synced");
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[times.len() / 2]
    }
}
