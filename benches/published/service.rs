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
const ADMIN: &str = "bench-key-of-the-administrator";

/// The program that is measured: this build, or with `BENCH_AGENTD` another one to
/// compare it with.
fn program() -> std::ffi::OsString {
    std::env::var_os("BENCH_AGENTD").unwrap_or_else(|| env!("CARGO_BIN_EXE_agentd").into())
}

impl Service {
    /// Starts it on a data folder, with a key for the default tenant.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same with more settings, as variables of its environment.
    pub fn start_with(data: &Path, settings: &[(&str, &str)]) -> Self {
        let start = Instant::now();
        let mut child = Command::new(program())
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .env("AGENT_API_KEY", KEY)
            // Counted, so that its cost is in the figures, and never reached.
            .env("RATE_LIMIT_PER_MIN", "10000000")
            .env("AGENT_ADMIN_KEY", ADMIN)
            .envs(settings.iter().copied())
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
        let plain = !settings.iter().any(|(name, _)| *name == "AGENTD_TLS_MODE");
        while plain && !service.get("/ready").starts_with("HTTP/1.1 200") {}
        service.cold_start = start.elapsed();
        // The log goes where journald would take it; here nobody keeps it.
        std::thread::spawn(move || lines.for_each(drop));
        service
    }

    pub fn target(&self, query: &str, options: &str) -> Target {
        Target {
            address: self.address,
            path: format!("/agent/run{query}"),
            headers: self.headers(),
            body: super::body(options),
        }
    }

    /// The default tenant's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The headers of the default tenant's requests.
    pub fn headers(&self) -> String {
        headers(&self.key)
    }

    /// A new tenant's key.
    pub fn new_tenant(&self, name: &str) -> String {
        let admin = admin_headers();
        let (status, tenant) = call(self.address, "POST", "/admin/tenants", &admin, &format!(r#"{{"name":"{name}"}}"#));
        assert!(status == 201, "a tenant: {tenant}");
        let path = format!("/admin/tenants/{}/keys", tenant["tenant_id"].as_str().expect("an id"));
        let (status, key) = call(self.address, "POST", &path, &admin, r#"{"name":"bench"}"#);
        assert!(status == 201, "a key: {key}");
        key["api_key"].as_str().expect("a key").to_owned()
    }

    /// The ids of the newest jobs.
    pub fn job_ids(&self, count: usize) -> Vec<String> {
        let (mut ids, mut path) = (Vec::new(), "/v1/jobs?limit=200".to_owned());
        while ids.len() < count {
            let (_, page) = call(self.address, "GET", &path, &self.headers(), "");
            let rows = page["data"].as_array().expect("a list");
            ids.extend(rows.iter().filter_map(|job| Some(job["job_id"].as_str()?.to_owned())));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("/v1/jobs?limit=200&cursor={cursor}");
        }
        ids.truncate(count);
        ids
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

    /// Until nothing is waiting for a place or running.
    pub fn wait_idle(&self) {
        let start = Instant::now();
        while self.metric("agentd_jobs_ready") + self.metric("agentd_jobs_running") > 0.0 {
            assert!(start.elapsed() < Duration::from_secs(300), "jobs do not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A line of `/proc/PID/status` in MiB.
    pub fn memory(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or("0 0");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    }

    /// Files and connections that it has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).map_or(0, Iterator::count)
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

/// The headers of requests with a key.
pub fn headers(key: &str) -> String {
    format!("X-API-Key: {key}\r\n")
}

/// The headers of the administrator's requests.
pub fn admin_headers() -> String {
    format!("X-Admin-Key: {ADMIN}\r\n")
}

/// One request with such headers; the status and the JSON of its answer.
pub fn call(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, serde_json::Value) {
    let mut stream = TcpStream::connect(address).expect("connects");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_default())
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

/// A job of its own, followed to its end: the events heard.
pub fn follow_one(address: SocketAddr, key: &str) -> usize {
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
