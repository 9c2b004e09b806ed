//! The one load tool behind every figure: keep-alive connections on one
//! thread, requests written as prepared bytes, answers read to their end.
//!
//! Bounded in count or time, and only ever pointed at loopback.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{self, UnboundedReceiver};

/// What is sent.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub path: String,
    pub headers: String,
    pub body: String,
}

/// When a run ends.
#[allow(dead_code, reason = "each bench uses a part of it")]
#[derive(Clone, Copy)]
pub enum Until {
    /// After so many requests.
    Count(usize),
    /// After so long.
    Time(Duration),
}

impl Until {
    /// Whether no request comes after so many and so long.
    fn is_over(self, number: usize, elapsed: Duration) -> bool {
        match self {
            Self::Count(count) => number >= count,
            Self::Time(time) => elapsed >= time,
        }
    }
}

/// What a run showed.
pub struct Report {
    pub requests: usize,
    pub elapsed: Duration,
    /// Sorted.
    pub latencies: Vec<Duration>,
}

impl Report {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    pub fn quantile(&self, q: f64) -> Duration {
        let place = ((self.latencies.len() as f64 - 1.0) * q).round() as usize;
        self.latencies.get(place).copied().unwrap_or_default()
    }
}

impl Target {
    /// The request as it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let Self { address, path, headers, body } = self;
        assert!(address.ip().is_loopback(), "load is for loopback only");
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n{headers}\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// Sends as fast as answers come, over so many connections. With `rate`,
/// requests are due at fixed moments instead, and a latency counts from that
/// moment, so that a stall of the server is not hidden by its own silence.
pub fn run(target: &Target, connections: usize, until: Until, rate: Option<f64>) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut streams = Vec::new();
        for _ in 0..connections {
            streams.push(connect(target.address).await);
        }
        run_over(streams, target.bytes(), until, rate).await
    })
}

/// A connection that sends at once what is written.
pub async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("the server accepts");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

/// The same over connections that are there, inside a [`tokio::task::LocalSet`].
pub async fn run_over<S>(streams: Vec<S>, request: Vec<u8>, until: Until, rate: Option<f64>) -> Report
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let request = Rc::new(request);
    let latencies = Rc::new(RefCell::new(Vec::new()));
    let (start, plan) = (Instant::now(), Plan::new(until, rate));
    let tasks: Vec<_> = streams
        .into_iter()
        .map(|stream| {
            tokio::task::spawn_local(one_connection(stream, request.clone(), plan.clone(), latencies.clone()))
        })
        .collect();
    for task in tasks {
        task.await.expect("a connection went well");
    }
    let elapsed = start.elapsed();
    let mut latencies = latencies.take();
    latencies.sort_unstable();
    Report { requests: latencies.len(), elapsed, latencies }
}

/// When the requests of all connections are sent.
#[derive(Clone)]
enum Plan {
    /// One after the other; so many have been.
    AtOnce { start: Instant, until: Until, issued: Rc<Cell<usize>> },
    /// At these moments, by whichever connection is free.
    Steady(Rc<Mutex<UnboundedReceiver<Instant>>>),
}

impl Plan {
    fn new(until: Until, rate: Option<f64>) -> Self {
        let start = Instant::now();
        let Some(rate) = rate else { return Self::AtOnce { start, until, issued: Rc::default() } };
        let (moments, receiver) = mpsc::unbounded_channel();
        // A thread wakes up within some tens of microseconds, a timer of the
        // runtime within a millisecond.
        std::thread::spawn(move || {
            for number in 0.. {
                let due = start + Duration::from_secs_f64(number as f64 / rate);
                if until.is_over(number, due - start) {
                    return;
                }
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if moments.send(due).is_err() {
                    return;
                }
            }
        });
        Self::Steady(Rc::new(Mutex::new(receiver)))
    }

    /// The moment from which the next request counts; `None` at the end.
    async fn next(&self) -> Option<Instant> {
        match self {
            Self::AtOnce { start, until, issued } => {
                let (number, now) = (issued.get(), Instant::now());
                issued.set(number + 1);
                (!until.is_over(number, now - *start)).then_some(now)
            }
            Self::Steady(moments) => moments.lock().await.recv().await,
        }
    }
}

async fn one_connection<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    request: Rc<Vec<u8>>,
    plan: Plan,
    latencies: Rc<RefCell<Vec<Duration>>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Some(from) = plan.next().await {
        stream.write_all(&request).await.expect("a request is written");
        stream.flush().await.expect("a request is sent");
        read_answer(&mut stream, &mut buffer).await;
        latencies.borrow_mut().push(from.elapsed());
    }
}

async fn read_answer<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) {
    let (mut filled, mut whole) = (0, None);
    loop {
        if filled == buffer.len() {
            buffer.resize(filled * 2, 0);
        }
        let read = stream.read(&mut buffer[filled..]).await.expect("an answer is read");
        assert!(read > 0, "the server hung up");
        filled += read;
        if whole.is_none() {
            whole = end_of(&buffer[..filled]);
        }
        match whole {
            Some(End::Length(length)) if filled >= length => return,
            Some(End::Chunks) if buffer[..filled].ends_with(b"\r\n0\r\n\r\n") => return,
            _ => {}
        }
    }
}

/// How the end of an answer is known.
enum End {
    /// Bytes of the whole of it.
    Length(usize),
    /// By its last chunk.
    Chunks,
}

/// Known once the head is there.
fn end_of(answer: &[u8]) -> Option<End> {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&answer[..head]).expect("a head is text");
    assert!(text.starts_with("HTTP/1.1 2"), "refused: {}", String::from_utf8_lossy(answer));
    let value = |wanted: &str| {
        let headers = text.lines().filter_map(|line| line.split_once(':'));
        headers.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim()).next()
    };
    if value("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Some(End::Chunks);
    }
    let length: usize = value("content-length").and_then(|value| value.parse().ok()).expect("a length");
    Some(End::Length(head + 4 + length))
}
