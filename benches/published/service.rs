//! agentd as an administrator runs it: the release binary, everything on.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::load::Target;

/// A running service.
pub struct Service {
    child: Child,
    pub address: SocketAddr,
    /// From the start of the process to the first 200 of `/ready`.
    pub cold_start: Duration,
    key: String,
    data: PathBuf,
}

const KEY: &str = "bench-key-of-the-default-tenant";

impl Service {
    /// Starts it on a data folder, with a key for the default tenant.
    pub fn start(data: &Path) -> Self {
        let start = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_agentd"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .env("AGENT_API_KEY", KEY)
            .stdout(Stdio::piped())
            .spawn()
            .expect("agentd starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its log")).lines();
        let address = loop {
            let line = lines.next().expect("agentd says ready").expect("a line");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if line["message"] == "ready" {
                break line["address"].as_str().and_then(|text| text.parse().ok()).expect("an address");
            }
        };
        let mut service = Self { child, address, cold_start: Duration::ZERO, key: KEY.into(), data: data.into() };
        while !service.get("/ready").starts_with("HTTP/1.1 200") {}
        service.cold_start = start.elapsed();
        // The log goes where journald would take it; here nobody keeps it.
        std::thread::spawn(move || lines.for_each(drop));
        service
    }

    pub fn target(&self, query: &str, options: &str) -> Target {
        Target {
            address: self.address,
            path: format!("/agent/run{query}"),
            headers: format!("X-API-Key: {}\r\n", self.key),
            body: super::body(options),
        }
    }

    /// One answer, head and body.
    pub fn get(&self, path: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(self.address) else { return String::new() };
        let key = &self.key;
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        if stream.write_all(request.as_bytes()).is_ok() {
            let _ = stream.read_to_string(&mut answer);
        }
        answer
    }

    /// The sum of a metric over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics");
        let values = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub fn finished(&self) -> usize {
        self.metric("agentd_jobs_finished_total") as usize
    }

    /// Until so many jobs have ended; how long that took from `start`.
    pub fn wait_finished(&self, count: usize, start: Instant) -> Duration {
        while self.finished() < count {
            assert!(start.elapsed() < Duration::from_secs(300), "jobs do not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        start.elapsed()
    }

    /// A line of `/proc/PID/status` in MiB.
    pub fn memory(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or("0 0");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    }

    /// Processor seconds used so far.
    pub fn cpu(&self) -> f64 {
        self.metric("process_cpu_seconds_total")
    }

    /// SIGTERM, and until it has gone.
    pub fn stop(mut self) -> PathBuf {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("a signal");
        assert!(self.child.wait().expect("it ends").success());
        self.data.clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Jobs followed over SSE from before their start to their end, one after the
/// other on each of `followers` connections: events a second.
pub fn follow(service: &Service, followers: usize, jobs_each: usize) -> f64 {
    let start = Instant::now();
    let threads: Vec<_> = (0..followers)
        .map(|_| {
            let (address, key) = (service.address, service.key.clone());
            std::thread::spawn(move || (0..jobs_each).map(|_| follow_one(address, &key)).sum::<usize>())
        })
        .collect();
    let events: usize = threads.into_iter().map(|thread| thread.join().expect("a follower")).sum();
    events as f64 / start.elapsed().as_secs_f64()
}

fn follow_one(address: SocketAddr, key: &str) -> usize {
    let mut stream = BufReader::new(TcpStream::connect(address).expect("connects"));
    stream.get_ref().set_nodelay(true).expect("nodelay");
    let body = super::body("");
    let request = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.get_mut().write_all(request.as_bytes()).expect("a request");
    let mut location = String::new();
    let mut length = 0;
    let mut line = String::new();
    while stream.read_line(&mut line).expect("a line") > 2 {
        if let Some((name, value)) = line.trim().split_once(": ") {
            match name {
                "location" => value.clone_into(&mut location),
                "content-length" => length = value.parse().expect("a number"),
                _ => {}
            }
        }
        line.clear();
    }
    std::io::copy(&mut (&mut stream).take(length), &mut std::io::sink()).expect("the body");
    let request = format!(
        "GET {location}/events HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nAccept: text/event-stream\r\n\
         Connection: close\r\n\r\n"
    );
    stream.get_mut().write_all(request.as_bytes()).expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("the stream");
    text.matches("\nevent: ").count()
}
