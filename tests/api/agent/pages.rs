//! A web server with pages that a test decides on, and a count of who came.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How a path is answered.
#[derive(Clone)]
pub struct Page {
    status: u16,
    kind: &'static str,
    body: String,
    open: bool,
}

impl Page {
    pub fn html(body: &str) -> Self {
        Self { status: 200, kind: "text/html; charset=utf-8", body: body.into(), open: true }
    }

    pub fn json(body: &serde_json::Value) -> Self {
        Self { kind: "application/json", body: body.to_string(), ..Self::html("") }
    }

    pub fn status(status: u16) -> Self {
        Self { status, ..Self::html("no") }
    }

    /// Answered only after [`Pages::open`].
    pub fn held(self) -> Self {
        Self { open: false, ..self }
    }
}

#[derive(Default)]
struct State {
    pages: BTreeMap<String, Page>,
    hits: BTreeMap<String, usize>,
}

/// The server; it ends with the test's process.
pub struct Pages {
    address: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

fn lock(state: &(Mutex<State>, Condvar)) -> MutexGuard<'_, State> {
    state.0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pages {
    pub fn start<'a>(pages: impl IntoIterator<Item = (&'a str, Page)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let pages = pages.into_iter().map(|(path, page)| (path.to_owned(), page)).collect();
        let state = Arc::new((Mutex::new(State { pages, hits: BTreeMap::new() }), Condvar::new()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || answer(&stream, &state));
            }
        });
        Self { address, state }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How often a path was asked for.
    pub fn hits(&self, path: &str) -> usize {
        lock(&self.state).hits.get(path).copied().unwrap_or(0)
    }

    /// Waits until a path has been asked for.
    pub fn wait_for_hit(&self, path: &str) {
        let state = lock(&self.state);
        let waited =
            self.state.1.wait_timeout_while(state, crate::support::PATIENCE, |state| !state.hits.contains_key(path));
        assert!(!waited.is_ok_and(|(_, timeout)| timeout.timed_out()), "nobody asked for {path}");
    }

    /// Answers a held page, now and from now on.
    pub fn open(&self, path: &str) {
        lock(&self.state).pages.get_mut(path).expect("a page").open = true;
        self.state.1.notify_all();
    }

    /// Answers a path in another way from now on.
    pub fn set(&self, path: &str, page: Page) {
        lock(&self.state).pages.insert(path.into(), page);
    }
}

fn answer(stream: &TcpStream, state: &(Mutex<State>, Condvar)) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap_or("/").split('?').next().unwrap_or("/").to_owned();
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let mut guard = lock(state);
    *guard.hits.entry(path.clone()).or_default() += 1;
    state.1.notify_all();
    while guard.pages.get(&path).is_some_and(|page| !page.open) {
        guard = state.1.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
    let page = guard.pages.get(&path).cloned().unwrap_or_else(|| Page::status(404));
    drop(guard);
    let head = format!(
        "HTTP/1.1 {} x\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        page.status,
        page.kind,
        page.body.len()
    );
    // The other side may have been killed.
    let mut stream = stream;
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(page.body.as_bytes()));
}
