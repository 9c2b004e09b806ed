//! The load: everything that clients do, at rates that leave the machine idle
//! most of the time.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::body;
use super::load::{self, Until};
use super::service::{Service, call, follow_one};

/// Single submissions a second.
const SUBMITS: f64 = 300.0;
/// Jobs in a batch.
const BATCH: usize = 100;

/// The threads that make it.
pub struct Mix {
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    address: SocketAddr,
    headers: String,
    end: Instant,
    requests: AtomicUsize,
    faults: Mutex<Vec<String>>,
}

/// What was done, and what went wrong.
pub struct Done {
    requests: usize,
    pub faults: Vec<String>,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} answered wrongly", self.requests, self.faults.len())
    }
}

impl Mix {
    pub fn start(service: &Service, end: Instant) -> Self {
        let shared = Arc::new(Shared {
            address: service.address,
            headers: service.headers(),
            end,
            requests: AtomicUsize::new(0),
            faults: Mutex::default(),
        });
        let submits = {
            let (target, shared) = (service.target("", r#","metadata":{"team":"a"}"#), shared.clone());
            std::thread::spawn(move || {
                let left = Until::Time(shared.end.saturating_duration_since(Instant::now()));
                let report = load::run(&target, 4, left, Some(SUBMITS));
                shared.requests.fetch_add(report.requests, Ordering::Relaxed);
            })
        };
        let key = service.key().to_owned();
        let address = service.address;
        let threads = vec![
            submits,
            repeat(&shared, 500, batch),
            repeat(&shared, 50, cancel_and_delete),
            repeat(&shared, 50, look_around),
            repeat(&shared, 100, fail),
            repeat(&shared, 100, the_same_twice),
            repeat(&shared, 1000, tenant),
            repeat(&shared, 20, move |_| {
                let events = follow_one(address, &key);
                if events == 5 { Ok(()) } else { Err(format!("a follower heard {events} events of 5")) }
            }),
        ];
        Self { threads, shared }
    }

    pub fn finish(self) -> Done {
        let mut faults = Vec::new();
        for thread in self.threads {
            if thread.join().is_err() {
                faults.push("a client met an error that it did not expect; see above".into());
            }
        }
        faults.append(&mut self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner));
        Done { requests: self.shared.requests.load(Ordering::Relaxed), faults }
    }
}

/// One kind of client: does something, pauses, and again.
fn repeat(
    shared: &Arc<Shared>,
    pause_ms: u64,
    work: impl Fn(&Shared) -> Result<(), String> + Send + 'static,
) -> JoinHandle<()> {
    let shared = shared.clone();
    std::thread::spawn(move || {
        while Instant::now() < shared.end {
            if let Err(fault) = work(&shared) {
                shared.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
            }
            std::thread::sleep(Duration::from_millis(pause_ms));
        }
    })
}

impl Shared {
    /// A request that must be answered so.
    fn ask(&self, expected: u16, method: &str, path: &str, body: &str) -> Result<serde_json::Value, String> {
        self.ask_as(&self.headers, expected, method, path, body)
    }

    fn ask_as(
        &self,
        headers: &str,
        expected: u16,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<serde_json::Value, String> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let (status, answer) = call(self.address, method, path, headers, body);
        if status == expected {
            return Ok(answer);
        }
        Err(format!("{method} {path} was answered with {status}, not {expected}: {answer}"))
    }
}

fn id(job: &serde_json::Value) -> Result<&str, String> {
    job["job_id"].as_str().ok_or_else(|| format!("no job: {job}"))
}

fn batch(shared: &Shared) -> Result<(), String> {
    let jobs = vec![body(""); BATCH].join(",");
    shared.ask(202, "POST", "/v1/jobs/batch", &format!(r#"{{"jobs":[{jobs}]}}"#)).map(drop)
}

fn cancel_and_delete(shared: &Shared) -> Result<(), String> {
    let job = shared.ask(202, "POST", "/v1/jobs", &body(r#","delay":3600"#))?;
    let path = format!("/v1/jobs/{}", id(&job)?);
    shared.ask(200, "POST", &format!("{path}/cancel"), "")?;
    shared.ask(200, "GET", &format!("{path}/events"), "")?;
    shared.ask(204, "DELETE", &path, "").map(drop)
}

fn look_around(shared: &Shared) -> Result<(), String> {
    let page = shared.ask(200, "GET", "/v1/jobs?limit=100&status=succeeded", "")?;
    if let Some(cursor) = page["next_cursor"].as_str() {
        shared.ask(200, "GET", &format!("/v1/jobs?limit=100&metadata.team=a&cursor={cursor}"), "")?;
    }
    shared.ask(200, "GET", "/v1/tools", "")?;
    shared.ask(200, "GET", "/metrics", "").map(drop)
}

fn fail(shared: &Shared) -> Result<(), String> {
    let wrong = r#"{"tool":"math.eval","input":{"expression":"1 / 0"}}"#;
    let job = shared.ask(200, "POST", "/v1/jobs?wait=10", wrong)?;
    shared.ask(200, "GET", &format!("/v1/jobs/{}/steps", id(&job)?), "")?;
    shared.ask(400, "POST", "/v1/jobs", r#"{"tool":"ehco"}"#)?;
    shared.ask(400, "POST", "/v1/jobs", r#"{"tool":"echo","input":[[["#)?;
    shared.ask(404, "GET", "/v1/jobs/01890a5d-ac96-774b-bcce-b302099a8057", "").map(drop)
}

fn the_same_twice(shared: &Shared) -> Result<(), String> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let key = NEXT.fetch_add(1, Ordering::Relaxed);
    let headers = format!("{}Idempotency-Key: soak-{key}\r\n", shared.headers);
    let first = shared.ask_as(&headers, 202, "POST", "/v1/jobs", &body(""))?;
    let again = shared.ask_as(&headers, 202, "POST", "/v1/jobs", &body(""))?;
    if first == again { Ok(()) } else { Err(format!("{first} was answered again as {again}")) }
}

/// A tenant that comes, works and goes.
fn tenant(shared: &Shared) -> Result<(), String> {
    let admin = super::service::admin_headers();
    let tenant = shared.ask_as(&admin, 201, "POST", "/admin/tenants", r#"{"name":"passing"}"#)?;
    let path = format!("/admin/tenants/{}", tenant["tenant_id"].as_str().ok_or("no tenant")?);
    let key = shared.ask_as(&admin, 201, "POST", &format!("{path}/keys"), r#"{"name":"a"}"#)?;
    let headers = super::service::headers(key["api_key"].as_str().ok_or("no key")?);
    shared.ask_as(&headers, 200, "POST", "/v1/jobs?wait=10", &body(""))?;
    shared.ask_as(&admin, 204, "DELETE", &path, "").map(drop)
}
