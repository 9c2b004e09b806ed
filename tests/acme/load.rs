//! Clients that call all the time, each time over a new connection or always
//! over the same, and trust only what leads to the root.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::support::tls::Dial;

const ASK: &str = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";

#[derive(Default)]
struct Counts {
    over: AtomicBool,
    answered: AtomicUsize,
}

/// The clients.
pub struct Load {
    counts: Arc<Counts>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Three clients with a connection for each request, one that keeps its own.
    pub fn start(address: &str, root: &Path, name: &str) -> Self {
        let counts = Arc::new(Counts::default());
        let dial = Dial::trusting(address, root).name(name);
        let clients = (0..4).map(|number| {
            let (dial, counts) = (dial.clone(), counts.clone());
            std::thread::spawn(move || if number == 0 { keep(&dial, &counts) } else { call(&dial, &counts) })
        });
        Self { clients: clients.collect(), counts }
    }

    /// How many requests were answered so far.
    pub fn answered(&self) -> usize {
        self.counts.answered.load(Ordering::SeqCst)
    }

    /// Ends them; what failed.
    pub fn end(self) -> Vec<String> {
        self.counts.over.store(true, Ordering::SeqCst);
        self.clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    }
}

fn call(dial: &Dial, counts: &Counts) -> Vec<String> {
    let mut failed = Vec::new();
    while !counts.over.load(Ordering::SeqCst) {
        match dial.connect().map(|mut tls| tls.exchange(ASK)) {
            Ok(Some((head, _))) if head.contains(" 200 ") => {
                counts.answered.fetch_add(1, Ordering::SeqCst);
            }
            Ok(other) => failed.push(format!("{other:?}")),
            Err(error) => failed.push(error.to_string()),
        }
    }
    failed
}

fn keep(dial: &Dial, counts: &Counts) -> Vec<String> {
    let mut tls = match dial.connect() {
        Ok(tls) => tls,
        Err(error) => return vec![error.to_string()],
    };
    while !counts.over.load(Ordering::SeqCst) {
        match tls.exchange(ASK) {
            Some((head, _)) if head.contains(" 200 ") => counts.answered.fetch_add(1, Ordering::SeqCst),
            other => return vec![format!("the open connection: {other:?}")],
        };
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Vec::new()
}
