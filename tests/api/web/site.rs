//! A web server that does exactly what a test tells it, also what no good
//! server does, and remembers who came.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::PATIENCE;

/// A connection, encrypted or not.
pub trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

#[derive(Default)]
struct Visits {
    connections: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

/// The server; it ends with the test's process.
pub struct Site {
    address: SocketAddr,
    text: String,
    tls: bool,
    visits: Arc<Visits>,
}

impl Site {
    /// Answers every request so; a request is given as its head and body.
    pub fn start(answer: impl Fn(&str, &mut dyn Wire) + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", None, answer)
    }

    pub fn tls(config: ServerConfig, answer: impl Fn(&str, &mut dyn Wire) + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", Some(Arc::new(config)), answer)
    }

    /// Where nobody should come: what came is counted.
    pub fn trap(address: &str) -> Self {
        Self::at(address, None, |_, wire| reply(wire, "200 OK", &[], b"the inside"))
    }

    fn at(
        address: &str,
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&str, &mut dyn Wire) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("a port");
        let address = listener.local_addr().expect("an address");
        let visits = Arc::new(Visits::default());
        let site = Self { address, text: address.to_string(), tls: tls.is_some(), visits: visits.clone() };
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                visits.connections.fetch_add(1, Ordering::SeqCst);
                let (answer, tls, visits) = (answer.clone(), tls.clone(), visits.clone());
                std::thread::spawn(move || serve(stream, tls, &visits, &*answer));
            }
        });
        site
    }

    /// `host:port`
    pub fn address(&self) -> &str {
        &self.text
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http{}://{}{path}", if self.tls { "s" } else { "" }, self.address)
    }

    /// The same under a name.
    pub fn url_of(&self, name: &str, path: &str) -> String {
        format!("http{}://{name}:{}{path}", if self.tls { "s" } else { "" }, self.port())
    }

    pub fn connections(&self) -> usize {
        self.visits.connections.load(Ordering::SeqCst)
    }

    /// The requests, in order.
    pub fn requests(&self) -> Vec<String> {
        self.visits.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(stream: TcpStream, tls: Option<Arc<ServerConfig>>, visits: &Visits, answer: &dyn Fn(&str, &mut dyn Wire)) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    let mut wire: Box<dyn Wire> = match tls {
        Some(config) => Box::new(StreamOwned::new(ServerConnection::new(config).expect("TLS"), stream)),
        None => Box::new(stream),
    };
    // Whoever does not send a request is no visitor.
    let Some(request) = read(&mut *wire) else { return };
    visits.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    answer(&request, &mut *wire);
    let _ = wire.flush();
}

/// The head of a request and its body.
fn read(wire: &mut dyn Wire) -> Option<String> {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        wire.read_exact(&mut byte).ok()?;
        read.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&read).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    wire.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8_lossy(&body))
}

/// A whole answer. Whether the other side still listens is its own affair.
pub fn reply(wire: &mut dyn Wire, status: &str, headers: &[(&str, &str)], body: &[u8]) {
    raw(wire, format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len()).as_bytes());
    for (name, value) in headers {
        raw(wire, format!("{name}: {value}\r\n").as_bytes());
    }
    raw(wire, b"\r\n");
    raw(wire, body);
}

/// Bytes as they are.
pub fn raw(wire: &mut dyn Wire, bytes: &[u8]) {
    let _ = wire.write_all(bytes);
}
