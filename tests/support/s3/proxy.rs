//! What stands before the server: it writes down what is asked, and fails where
//! a test wants it to. Requests go on as they came, with their `Host`, so that
//! their signatures stay good.

use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::super::{PATIENCE, eventually};
use super::S3;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    List,
    /// A whole object is sent.
    Put,
    /// An upload in parts begins.
    Begin,
    /// A part is sent; its number.
    Part(u16),
    /// The parts are put together.
    Complete,
    /// An upload in parts is forgotten.
    Abort,
    Remove,
    /// The first byte is asked for, to see what there is.
    Look,
    /// Bytes are asked for; from where on.
    Get(u64),
    Other,
}

impl Kind {
    fn of(head: &str) -> Self {
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let query = target.split_once('?').map(|(_, query)| query).unwrap_or_default();
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let range =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        let from = range.as_deref().and_then(|range| range.split_once('-')?.0.parse().ok());
        match (method, value("uploadId"), from) {
            ("GET", _, _) if value("list-type").is_some() => Self::List,
            ("GET", _, Some(_)) if range.as_deref() == Some("0-0") => Self::Look,
            ("GET", _, Some(from)) => Self::Get(from),
            ("PUT", None, _) => Self::Put,
            ("PUT", Some(_), _) => Self::Part(value("partNumber").and_then(|it| it.parse().ok()).unwrap_or_default()),
            ("POST", Some(_), _) => Self::Complete,
            ("POST", None, _) => Self::Begin,
            ("DELETE", Some(_), _) => Self::Abort,
            ("DELETE", None, _) => Self::Remove,
            _ => Self::Other,
        }
    }
}

/// How a request fails.
#[derive(Clone, Debug)]
pub enum Trap {
    /// With a status and a code of S3, and one more header line or nothing.
    Answer(u16, &'static str, &'static str),
    /// The same, before the body has been read.
    Early(u16, &'static str),
    /// The connection ends after so many bytes of the request's body, on both sides.
    CutRequest(usize),
    /// The connection ends after so many bytes of the answer.
    CutAnswer(usize),
    /// The server does what is asked, and the answer is lost.
    LoseAnswer,
    /// Nothing is read and nothing is answered for as long as the proxy runs.
    Hang,
    /// So many bytes of the answer come, and then nothing more.
    HangAnswer(usize),
    /// The answer comes in ten pieces with pauses.
    Slow(Duration),
    /// The answer's body is this one.
    Body(&'static str),
}

struct Set {
    is: Box<dyn Fn(Kind) -> bool + Send>,
    times: u32,
    trap: Trap,
}

#[derive(Default)]
struct Shared {
    sets: Mutex<Vec<Set>>,
    seen: Mutex<Vec<Kind>>,
    down: AtomicBool,
    over: AtomicBool,
}

/// The server as the service sees it.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    pub fn start() -> Self {
        let upstream = S3::shared().address().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::<Shared>::default();
        let here = shared.clone();
        let serving = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if here.over.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), here, upstream) = (stream, here.clone(), upstream.clone()) else { continue };
                std::thread::spawn(move || here.serve(&stream, &upstream));
            }
        });
        Self { address, shared, serving: Some(serving) }
    }

    /// `http://host:port`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next so many requests of these kinds fail.
    pub fn fail(&self, times: u32, trap: Trap, is: impl Fn(Kind) -> bool + Send + 'static) {
        lock(&self.shared.sets).push(Set { is: Box::new(is), times, trap });
    }

    /// Nothing fails any more of what a test asked to fail.
    pub fn heal(&self) {
        lock(&self.shared.sets).clear();
    }

    /// Whether connections are cut as soon as they are made.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Kind> {
        lock(&self.shared.seen).clone()
    }

    /// How many there were of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.seen().into_iter().filter(|seen| *seen == kind).count()
    }

    /// Waits for the n-th request of a kind, from 1.
    #[track_caller]
    pub fn wait_for(&self, kind: Kind, nth: usize) {
        eventually(&format!("request {nth} of kind {kind:?}"), || (self.count(kind) >= nth).then_some(()));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

impl Shared {
    fn serve(&self, mut client: &TcpStream, upstream: &str) -> Option<()> {
        if self.down.load(Ordering::SeqCst) {
            return None;
        }
        client.set_read_timeout(Some(PATIENCE)).ok()?;
        let (head, begun) = head(&mut client)?;
        let kind = Kind::of(&head);
        let trap = self.trap(kind);
        lock(&self.seen).push(kind);
        let length = length(&head);
        match trap {
            Some(Trap::Hang) => self.wait(),
            Some(Trap::Early(status, code)) => client.write_all(refusal(status, code, "").as_bytes()).ok(),
            Some(Trap::Answer(status, code, more)) => {
                pass(&begun, client, length, length, &mut std::io::sink())?;
                client.write_all(refusal(status, code, more).as_bytes()).ok()
            }
            trap => {
                let mut server = TcpStream::connect(upstream).ok()?;
                server.write_all(head.as_bytes()).ok()?;
                let sent = if let Some(Trap::CutRequest(bytes)) = trap { bytes.min(length) } else { length };
                pass(&begun, client, length, sent, &mut server)?;
                if sent < length {
                    let _ = server.shutdown(Shutdown::Both);
                    return None;
                }
                let mut answer = Vec::new();
                server.read_to_end(&mut answer).ok()?;
                self.answer(client, &answer, trap.as_ref())
            }
        }
    }

    fn answer(&self, mut client: &TcpStream, answer: &[u8], trap: Option<&Trap>) -> Option<()> {
        match trap {
            Some(Trap::LoseAnswer) => None,
            Some(Trap::CutAnswer(bytes)) => client.write_all(answer.get(..*bytes)?).ok(),
            Some(Trap::HangAnswer(bytes)) => {
                client.write_all(answer.get(..*bytes)?).ok()?;
                self.wait()
            }
            Some(Trap::Slow(pause)) => answer.chunks(answer.len().div_ceil(10)).try_for_each(|piece| {
                std::thread::sleep(*pause);
                client.write_all(piece).ok()
            }),
            Some(Trap::Body(body)) => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                client.write_all((head + *body).as_bytes()).ok()
            }
            _ => client.write_all(answer).ok(),
        }
    }

    fn wait(&self) -> Option<()> {
        while !self.over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    fn trap(&self, kind: Kind) -> Option<Trap> {
        let mut sets = lock(&self.sets);
        let set = sets.iter_mut().find(|set| set.times > 0 && (set.is)(kind))?;
        set.times -= 1;
        Some(set.trap.clone())
    }
}

/// The head of a request, and what has come of its body with it.
fn head(client: &mut &TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut read, mut piece) = (Vec::new(), [0; 16 << 10]);
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = read.split_off(end + 4);
            return Some((String::from_utf8(read).ok()?, body));
        }
        let length = client.read(&mut piece).ok().filter(|length| *length > 0)?;
        read.extend_from_slice(&piece[..length]);
    }
}

fn length(head: &str) -> usize {
    let lines = head.lines().map(str::to_ascii_lowercase);
    let mut lengths = lines.filter_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    lengths.next().unwrap_or_default()
}

/// Reads a body of this length and passes the first bytes of it on.
fn pass(begun: &[u8], mut client: &TcpStream, length: usize, sent: usize, to: &mut impl std::io::Write) -> Option<()> {
    to.write_all(&begun[..begun.len().min(sent)]).ok()?;
    let (mut at, mut piece) = (begun.len(), vec![0; 64 << 10]);
    while at < length && at < sent.max(1) {
        let came = client.read(&mut piece).ok().filter(|came| *came > 0)?;
        to.write_all(&piece[..came.min(sent.saturating_sub(at))]).ok()?;
        at += came;
    }
    Some(())
}

fn refusal(status: u16, code: &str, more: &str) -> String {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code></Error>");
    format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n{more}\r\n{body}", body.len())
}
