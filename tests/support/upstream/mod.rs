//! A provider of language models as the tests want it: OpenAI's wire format
//! over HTTP and HTTPS, scripted to be good, slow, busy, broken or gone, and
//! with books of its own, which the service's ledger is held against.
//!
//! It runs in the process of a test, or by itself (`scripted-upstream`) for
//! benchmarks and for tests that are not in Rust.

#![allow(clippy::expect_used, reason = "in a test a broken expectation is what it is there to tell")]
#![allow(dead_code, reason = "each test crate uses a part of it")]
#![allow(unreachable_pub, reason = "to the test crates this is a library")]
#![allow(unused_imports, reason = "each test crate uses a part of it")]

mod answer;
mod books;
mod certificate;
mod chat;
mod control;
mod embeddings;
mod peer;
mod responses;
mod script;
mod serve;
mod sound;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use agentd::money::Usd;
use serde_json::Value;
use tokio::sync::oneshot;

pub use books::{Billed, End, Price, Used};
pub use certificate::Shown;
pub use peer::Request;
pub use script::{Fault, Gate, Script, Usage};

use books::Books;
use certificate::Authority;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How it is to be started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub listen: String,
    /// With which certificate it speaks HTTPS.
    pub tls: Option<Shown>,
    /// Whether requests and calls are kept for a test to look at; else only sums
    /// are.
    pub keep: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { listen: "127.0.0.1:0".into(), tls: None, keep: true }
    }
}

/// What there has been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Connections that are open.
    pub connections: usize,
    /// Those that were ever made.
    pub accepted: usize,
    /// Requests, whatever became of them.
    pub requests: usize,
    /// Those under way.
    pub active: usize,
    /// Most of those at once.
    pub most_active: usize,
    /// Answers that were written to their end.
    pub answered: usize,
    /// Requests whose client hung up before.
    pub cancelled: usize,
}

#[derive(Default)]
struct State {
    usual: Script,
    scripts: BTreeMap<String, Script>,
    next: BTreeMap<String, VecDeque<Script>>,
    keys: Option<BTreeSet<String>>,
    only: Option<BTreeSet<String>>,
    missing: BTreeSet<String>,
    down: bool,
    books: Books,
    requests: Vec<Request>,
    counts: Counts,
}

impl State {
    /// What to do with the next request for a model.
    fn script(&mut self, model: &str) -> Script {
        let next = self.next.get_mut(model).and_then(VecDeque::pop_front);
        next.unwrap_or_else(|| self.scripts.get(model).unwrap_or(&self.usual).clone())
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    number: AtomicU64,
    keep: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that tests may wait for.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }
}

/// The provider. Dropping it ends it.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    authority: Option<Authority>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Over plain HTTP, on a free port.
    pub fn start() -> Self {
        Self::start_with(&Options::default())
    }

    /// Over HTTPS, with a certificate of an authority of its own.
    pub fn start_tls(shown: Shown) -> Self {
        Self::start_with(&Options { tls: Some(shown), ..Options::default() })
    }

    pub fn start_with(options: &Options) -> Self {
        let state = State { books: Books::new(!options.keep), ..State::default() };
        let shared =
            Shared { state: Mutex::new(state), changed: Condvar::new(), number: AtomicU64::new(0), keep: options.keep };
        let shared = Arc::new(shared);
        let authority = options.tls.map(Authority::new);
        let listener = std::net::TcpListener::bind(&options.listen).expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let (here, tls) = (shared.clone(), authority.as_ref().map(Authority::acceptor));
        let serving = std::thread::Builder::new()
            .name("upstream".into())
            .spawn(move || serve::run(listener, tls.as_ref(), &here, stopped))
            .expect("a thread");
        Self { address, shared, authority, stop: Some(stop), serving: Some(serving) }
    }

    /// `host:port`
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// As clients are told it: `http://host:port/v1`.
    pub fn base_url(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/v1", self.address)
    }

    /// The certificate of its authority, as PEM.
    #[track_caller]
    pub fn authority(&self) -> &str {
        self.authority.as_ref().map(|it| it.pem.as_str()).expect("it speaks HTTPS")
    }

    /// What it does with requests for a model of which nothing else is said.
    pub fn usually(&self, script: Script) {
        self.shared.lock().usual = script;
    }

    /// What it does with requests for a model from now on.
    pub fn script(&self, model: &str, script: Script) {
        self.shared.lock().scripts.insert(model.to_owned(), script);
    }

    /// What it does with the next requests for a model, before anything else.
    pub fn next(&self, model: &str, scripts: impl IntoIterator<Item = Script>) {
        self.shared.lock().next.entry(model.to_owned()).or_default().extend(scripts);
    }

    /// How many of those are left.
    pub fn left(&self, model: &str) -> usize {
        self.shared.lock().next.get(model).map_or(0, VecDeque::len)
    }

    /// What a model costs from the next request on.
    pub fn price(&self, model: &str, price: Price) {
        self.shared.lock().books.prices.insert(model.to_owned(), price);
    }

    /// The keys that it takes, and no others. What it answers to another one has
    /// that key in it.
    pub fn expect_keys(&self, keys: &[&str]) {
        self.shared.lock().keys = Some(keys.iter().map(|key| (*key).to_owned()).collect());
    }

    /// The models that it has, and no others.
    pub fn only(&self, models: &[&str]) {
        self.shared.lock().only = Some(models.iter().map(|model| (*model).to_owned()).collect());
    }

    /// It has no such path, for example `/v1/responses`.
    pub fn without(&self, path: &str) {
        self.shared.lock().missing.insert(path.to_owned());
    }

    /// Whether connections are ended as soon as they are made.
    pub fn set_down(&self, down: bool) {
        self.shared.lock().down = down;
    }

    /// What all calls cost that it began to work on.
    pub fn billed(&self) -> Usd {
        self.shared.lock().books.total()
    }

    /// The same by model.
    pub fn billed_by_model(&self) -> BTreeMap<String, Usd> {
        self.shared.lock().books.by_model()
    }

    /// The calls that are on the bill, in the order in which they began.
    pub fn bill(&self) -> Vec<Billed> {
        self.shared.lock().books.calls.values().cloned().collect()
    }

    /// The requests that it has read, in their order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// The newest request.
    #[track_caller]
    pub fn last_request(&self) -> Request {
        self.shared.lock().requests.last().cloned().expect("a request")
    }

    /// Of the requests for a model, how many it has read.
    pub fn asked(&self, model: &str) -> usize {
        let is = |request: &&Request| {
            serde_json::from_slice::<Value>(&request.body).is_ok_and(|body| body["model"] == model)
        };
        self.shared.lock().requests.iter().filter(is).count()
    }

    pub fn counts(&self) -> Counts {
        self.shared.lock().counts
    }

    /// Waits until the counts are as they should be.
    #[track_caller]
    pub fn wait(&self, what: &str, is: impl Fn(&Counts) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        while !is(&state.counts) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: not within {PATIENCE:?}: {:?}", state.counts);
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until so many requests have been read.
    #[track_caller]
    pub fn wait_for_requests(&self, count: usize) {
        self.wait(&format!("{count} requests"), |counts| counts.requests >= count);
    }

    /// Waits until the clients of so many requests have hung up on it.
    #[track_caller]
    pub fn wait_until_cancelled(&self, count: usize) {
        self.wait(&format!("{count} cancelled"), |counts| counts.cancelled >= count);
    }

    /// Waits until nothing is under way.
    #[track_caller]
    pub fn wait_until_idle(&self) {
        self.wait("nothing under way", |counts| counts.active == 0);
    }

    /// Waits until it ends by itself, which it never does.
    pub fn serve_on(mut self) {
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}
