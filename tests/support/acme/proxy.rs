//! What stands before pebble: it writes down what is asked, adds what pebble
//! lacks (RFC 9773's renewal information, profiles), and fails where a test
//! wants it to. Requests go on as they came, with their `Host`, so pebble makes
//! its addresses from the proxy's and signatures stay good.

use std::collections::{HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agentd::clock::Timestamp;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::super::raw::message;
use super::super::tls::Dial;
use super::super::{PATIENCE, eventually};
use super::{Authority, Names, Options};

const DAY: i64 = 86_400;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Directory,
    Nonce,
    NewAccount,
    NewOrder,
    Order,
    Authorization,
    Challenge,
    Finalize,
    Certificate,
    Revoke,
    RenewalInfo,
    KeyChange,
    Other,
}

impl Kind {
    fn of(path: &str) -> Self {
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        match first {
            "dir" => Self::Directory,
            "nonce-plz" => Self::Nonce,
            "sign-me-up" => Self::NewAccount,
            "order-plz" => Self::NewOrder,
            "my-order" => Self::Order,
            "authZ" => Self::Authorization,
            "chalZ" => Self::Challenge,
            "finalize-order" => Self::Finalize,
            "certZ" => Self::Certificate,
            "revoke-cert" => Self::Revoke,
            "renewal-info" => Self::RenewalInfo,
            "rollover-account-key" => Self::KeyChange,
            _ => Self::Other,
        }
    }
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub kind: Kind,
    pub path: String,
    /// What was signed; null where nothing was.
    pub payload: Value,
    /// Who signed it: the account's URL, or a key.
    pub signer: Value,
    /// What it was answered; 0 where it was cut off.
    pub status: u16,
    /// The answer's `Location`, or nothing.
    pub location: String,
}

/// How a request fails.
#[derive(Clone, Debug)]
pub enum Fault {
    /// With a problem of ACME: status, type, and for how many seconds to go away.
    Problem(u16, &'static str, Option<u64>),
    /// With a status and no word of ACME.
    Status(u16),
    /// The connection ends.
    Cut,
    /// No answer comes for as long as the proxy runs.
    Hang,
    /// Pebble does what is asked and the answer is lost.
    LoseAnswer,
}

struct Trap {
    kind: Kind,
    times: u32,
    fault: Fault,
}

struct Shared {
    upstream: String,
    authority: String,
    names: Names,
    options: Options,
    tls: Arc<ServerConfig>,
    seen: Mutex<Vec<Seen>>,
    traps: Mutex<Vec<Trap>>,
    down: AtomicBool,
    over: AtomicBool,
    attempts: Mutex<u64>,
    /// Certificates whose renewal is due, by what RFC 9773 calls them.
    due: Mutex<HashSet<String>>,
    /// Accounts that were deactivated, and their keys.
    deactivated: Mutex<Vec<Value>>,
    chance: Mutex<Chance>,
}

/// Validations that fail by chance: the name cannot be looked up meanwhile.
#[derive(Default)]
struct Chance {
    state: u64,
    /// Name and kind of a challenge, by its path.
    challenges: HashMap<String, (String, String)>,
    broken: HashSet<String>,
    failed: usize,
}

/// A directory as the service sees it.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    pub fn start(authority: &Authority, ip: &str, names: Names, options: &Options) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::new(Shared {
            upstream: format!("{ip}:14000"),
            authority: address.clone(),
            names,
            options: options.clone(),
            tls: Arc::new(authority.server_config()),
            seen: Mutex::default(),
            traps: Mutex::default(),
            down: AtomicBool::new(false),
            over: AtomicBool::new(false),
            attempts: Mutex::default(),
            due: Mutex::default(),
            deactivated: Mutex::default(),
            chance: Mutex::default(),
        });
        let here = shared.clone();
        let serving = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if here.over.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), here) = (stream, here.clone()) else { continue };
                *lock(&here.attempts) += 1;
                std::thread::spawn(move || here.serve(stream));
            }
        });
        Self { address, shared, serving: Some(serving) }
    }

    /// The directory's URL.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The next so many requests of a kind fail.
    pub fn fail(&self, kind: Kind, times: u32, fault: Fault) {
        lock(&self.shared.traps).push(Trap { kind, times, fault });
    }

    /// Nothing fails any more of what a test asked to fail.
    pub fn heal(&self) {
        lock(&self.shared.traps).clear();
    }

    /// Whether connections are cut as soon as they are made.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// How many connections came so far, those that were cut included.
    pub fn attempts(&self) -> u64 {
        *lock(&self.shared.attempts)
    }

    /// The requests of a kind that pebble or a fault answered, in order.
    pub fn of(&self, kind: Kind) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.kind == kind).collect()
    }

    /// The orders that were made.
    pub fn orders(&self) -> Vec<Seen> {
        self.of(Kind::NewOrder).into_iter().filter(|seen| seen.status == 201).collect()
    }

    /// The accounts that were made.
    pub fn accounts(&self) -> Vec<Seen> {
        self.of(Kind::NewAccount).into_iter().filter(|seen| seen.status == 201).collect()
    }

    /// Waits for the n-th request of a kind, from 1.
    #[track_caller]
    pub fn wait_for(&self, kind: Kind, nth: usize) -> Seen {
        eventually(&format!("request {nth} of kind {kind:?}"), || self.of(kind).into_iter().nth(nth - 1))
    }

    /// The certificate that was last asked about should be renewed at once.
    #[track_caller]
    pub fn renew_now(&self) {
        let asked = eventually("somebody asks when to renew", || self.of(Kind::RenewalInfo).pop());
        let id = asked.path.rsplit('/').next().unwrap_or_default().to_owned();
        lock(&self.shared.due).insert(id);
    }

    /// All accounts so far are deactivated: the directory refuses whatever they, or
    /// their keys, sign (RFC 8555, 7.3.6).
    pub fn deactivate_accounts(&self) {
        let made = self.of(Kind::NewAccount).into_iter().filter(|seen| matches!(seen.status, 200 | 201));
        let signers = made.flat_map(|seen| [Value::from(seen.location), seen.signer]);
        lock(&self.shared.deactivated).extend(signers);
    }

    /// How many validations were made to fail by chance.
    pub fn failed_by_chance(&self) -> usize {
        lock(&self.shared.chance).failed
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

struct Request {
    head: String,
    body: String,
}

struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Response {
    fn json(status: u16, kind: &str, body: &Value) -> Self {
        Self { status, headers: vec![("Content-Type".into(), kind.into())], body: body.to_string() }
    }

    fn header(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    fn text(&self) -> String {
        let mut text =
            format!("HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n", self.status, self.body.len());
        for (name, value) in &self.headers {
            if !["connection", "content-length"].contains(&name.to_ascii_lowercase().as_str()) {
                text += &[name, ": ", value, "\r\n"].concat();
            }
        }
        text + "\r\n" + &self.body
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> Option<()> {
        if self.down.load(Ordering::SeqCst) {
            return None;
        }
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let session = ServerConnection::new(self.tls.clone()).ok()?;
        let mut tls = StreamOwned::new(session, stream);
        let (head, body) = message(|buffer| tls.read(buffer).unwrap_or(0))?;
        let request = Request { head, body };
        let response = self.answer(&request)?;
        tls.write_all(response.text().as_bytes()).ok()?;
        // The answer to HEAD says how long a body would be that does not come.
        tls.conn.send_close_notify();
        tls.flush().ok()
    }

    /// Answers, and writes it down; nothing where the connection is to end.
    fn answer(&self, request: &Request) -> Option<Response> {
        let path = request.head.split(' ').nth(1).unwrap_or_default().to_owned();
        let kind = Kind::of(&path);
        let (signer, payload) = (signer(&request.body), signed(&request.body, "payload"));
        let refused = lock(&self.deactivated).contains(&signer).then_some(Fault::Problem(401, "unauthorized", None));
        let fault = refused.or_else(|| self.trap(kind));
        let response = match &fault {
            None => self.usual(kind, &path, &payload, request),
            Some(Fault::Problem(status, what, after)) => Some(problem(*status, what, *after)),
            Some(Fault::Status(status)) => Some(Response { status: *status, headers: Vec::new(), body: String::new() }),
            Some(Fault::Cut | Fault::Hang) => None,
            Some(Fault::LoseAnswer) => {
                let response = self.usual(kind, &path, &payload, request)?;
                // What pebble refuses, such as a nonce, it has not done: the next answer is lost.
                let refused = response.status >= 400;
                if refused {
                    self.set_again(kind);
                }
                Some(response).filter(|_| refused)
            }
        };
        let (status, location) = response.as_ref().map_or((0, String::new()), |it| (it.status, it.header("Location")));
        lock(&self.seen).push(Seen { kind, path, payload, signer, status, location });
        if matches!(fault, Some(Fault::Hang)) {
            while !self.over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        response
    }

    fn trap(&self, kind: Kind) -> Option<Fault> {
        let mut traps = lock(&self.traps);
        let trap = traps.iter_mut().find(|trap| trap.kind == kind && trap.times > 0)?;
        trap.times -= 1;
        Some(trap.fault.clone())
    }

    /// The trap that has just snapped is for the next one.
    fn set_again(&self, kind: Kind) {
        let mut traps = lock(&self.traps);
        if let Some(trap) = traps.iter_mut().find(|trap| trap.kind == kind && matches!(trap.fault, Fault::LoseAnswer)) {
            trap.times += 1;
        }
    }

    fn usual(&self, kind: Kind, path: &str, payload: &Value, request: &Request) -> Option<Response> {
        if kind == Kind::RenewalInfo {
            return Some(self.renewal_info(path));
        }
        if kind == Kind::Challenge && payload.is_object() {
            self.fail_by_chance(path);
        }
        let mut response = self.forward(request)?;
        match kind {
            Kind::Directory => self.add_to_directory(&mut response),
            Kind::NewOrder => reflect(payload, &mut response),
            _ => {}
        }
        self.learn(&response);
        Some(response)
    }

    fn forward(&self, request: &Request) -> Option<Response> {
        let mut pebble = Dial::anybody(&self.upstream).connect().ok()?;
        // A server that is spoken to in HTTP/1.0 sends its answer in one piece.
        pebble.send(format!("{}\r\n\r\n{}", request.head.replacen("HTTP/1.1", "HTTP/1.0", 1), request.body));
        let answer = pebble.read_to_end();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.into(), value.into()));
        Some(Response { status, headers: headers.collect(), body: body.to_owned() })
    }

    fn add_to_directory(&self, response: &mut Response) {
        let Ok(mut directory) = serde_json::from_str::<Value>(&response.body) else { return };
        if self.options.ari {
            directory["renewalInfo"] = json!(format!("https://{}/renewal-info", self.authority));
        }
        if self.options.profiles {
            directory["meta"]["profiles"] = json!({ "shortlived": "valid for some days" });
        }
        response.body = directory.to_string();
    }

    /// Long before the usual moment where a test wants it, else between 50 and
    /// 55 days from now.
    fn renewal_info(&self, path: &str) -> Response {
        let due = lock(&self.due).contains(path.rsplit('/').next().unwrap_or_default());
        let (start, end) = if due { (-2 * DAY, -DAY) } else { (50 * DAY, 55 * DAY) };
        let body = json!({ "suggestedWindow": { "start": from_now(start), "end": from_now(end) } });
        let mut response = Response::json(200, "application/json", &body);
        response.headers.push(("Retry-After".into(), "3600".into()));
        response
    }

    /// Whether the validation that is asked for fails is decided here.
    fn fail_by_chance(&self, path: &str) {
        let one_in = self.options.fail_one_in;
        let mut chance = lock(&self.chance);
        chance.state = chance.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (chance.state ^ (chance.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        if one_in == 0 || !(mixed >> 32).is_multiple_of(one_in) {
            return;
        }
        let Some((name, kind)) = chance.challenges.get(path).cloned() else { return };
        let name = if kind == "dns-01" { format!("_acme-challenge.{name}") } else { name };
        self.names.break_down(&name);
        chance.broken.insert(name);
        chance.failed += 1;
    }

    /// Remembers which challenge is whose, and mends what was broken by chance
    /// once it has failed.
    fn learn(&self, response: &Response) {
        let Ok(body) = serde_json::from_str::<Value>(&response.body) else { return };
        let mut chance = lock(&self.chance);
        let name = body["identifier"]["value"].as_str().unwrap_or_default();
        for challenge in body["challenges"].as_array().into_iter().flatten() {
            let url = challenge["url"].as_str().unwrap_or_default();
            let path = url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default();
            let kind = challenge["type"].as_str().unwrap_or_default();
            chance.challenges.insert(path, (name.to_owned(), kind.to_owned()));
        }
        let ended = ["invalid", "valid", "ready", "deactivated"].iter().any(|it| body["status"] == *it);
        let is_whole = body.get("identifier").is_some() || body.get("identifiers").is_some();
        if ended && is_whole {
            for name in chance.broken.drain() {
                self.names.mend(&name);
            }
        }
    }
}

/// An order says what it replaces and its profile, as it was asked for.
fn reflect(payload: &Value, response: &mut Response) {
    let Ok(mut order) = serde_json::from_str::<Value>(&response.body) else { return };
    for member in ["replaces", "profile"].into_iter().filter(|_| response.status == 201) {
        if let Some(value) = payload.get(member) {
            order[member] = value.clone();
        }
    }
    response.body = order.to_string();
}

fn problem(status: u16, what: &str, after: Option<u64>) -> Response {
    let body = json!({
        "type": format!("urn:ietf:params:acme:error:{what}"),
        "detail": format!("the test wants {what}"),
        "status": status,
    });
    let mut response = Response::json(status, "application/problem+json", &body);
    response.headers.extend(after.map(|seconds| ("Retry-After".to_owned(), seconds.to_string())));
    response
}

fn from_now(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    let now = i64::try_from(now).expect("before the year 9999");
    Timestamp::from_micros(now + seconds * 1_000_000).to_string()
}

/// A part of a signed request; null where nothing is signed or said.
fn signed(body: &str, part: &str) -> Value {
    let Ok(signed) = serde_json::from_str::<Value>(body) else { return Value::Null };
    let said = signed[part].as_str().map(base64url).unwrap_or_default();
    serde_json::from_slice(&said).unwrap_or(Value::Null)
}

/// The account or the key that signed a request; null where nobody did.
fn signer(body: &str) -> Value {
    let mut head = signed(body, "protected");
    ["kid", "jwk"].into_iter().map(|name| head[name].take()).find(|it| !it.is_null()).unwrap_or_default()
}

fn base64url(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes() {
        let Some(value) = DIGITS.iter().position(|known| *known == digit) else { break };
        bits = bits << 6 | u32::try_from(value).unwrap_or(0);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}
