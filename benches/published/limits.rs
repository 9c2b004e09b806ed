//! What the machine can do at most: an empty handler, and the disk.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};

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

    /// The last line of the output.
    pub fn print_seen(&self) {
        let slowest = self.seen.iter().max().copied().unwrap_or_default();
        println!(
            "Bare fdatasync of 8 KiB before the figures, median of 60: at most {}.",
            super::table::micros(slowest)
        );
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
