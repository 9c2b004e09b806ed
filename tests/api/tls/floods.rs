//! Floods of HTTP/2 frames, each small and by itself allowed. By default HTTP/2
//! is not offered, so none of them gets anywhere; where somebody has turned it
//! on, the service must outlive them. See docs/decisions/0022.

use std::time::Instant;

use serde_json::json;

use crate::support::tls::Tls;
use crate::support::{Server, Setup};

use super::limits::ticks;
use super::{HEALTH, connect, dial, https};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Frames that a flood sends, unless it is cut off before.
const FRAMES: u32 = 400_000;
/// Memory that a flood may bind at most.
const BYTES: u64 = 128 << 20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The head of a request to a path, packed (HPACK) without tables.
fn head(method: u8, path: &str) -> Vec<u8> {
    // The method and `https` by their numbers in the static table.
    let mut head = vec![method, 0x87, 0x04, path.len() as u8];
    head.extend(path.as_bytes());
    head.extend([0x01, 9]);
    head.extend(b"localhost");
    head
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;

struct Flood {
    name: &'static str,
    /// Sent once; told the path of a stream of events, and the key that may follow it.
    first: fn(&str, &str) -> Vec<u8>,
    /// The n-th of the frames that are repeated.
    each: fn(u32) -> Vec<u8>,
}

const FLOODS: [Flood; 8] = [
    Flood {
        name: "empty DATA",
        first: |_, _| frame(HEADERS, END_HEADERS, 1, &head(POST, "/v1/jobs")),
        each: |_| frame(DATA, 0, 1, &[]),
    },
    Flood {
        // The route answers without looking at the body.
        name: "empty DATA to nobody",
        first: |_, _| frame(HEADERS, END_HEADERS, 1, &head(GET, "/health")),
        each: |_| frame(DATA, 0, 1, &[]),
    },
    Flood {
        // The answer goes on and on, and the body is nobody's.
        name: "empty DATA beside a stream",
        first: |path, key| {
            let mut head = head(GET, path);
            head.extend([0, 9]);
            head.extend(b"x-api-key");
            head.push(key.len() as u8);
            head.extend(key.as_bytes());
            frame(HEADERS, END_HEADERS, 1, &head)
        },
        each: |_| frame(DATA, 0, 1, &[]),
    },
    Flood {
        name: "rapid reset",
        first: |_, _| Vec::new(),
        each: |n| {
            let stream = 2 * n + 1;
            let mut frames = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(GET, "/health"));
            frames.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            frames
        },
    },
    Flood {
        name: "CONTINUATION",
        first: |_, _| frame(HEADERS, END_STREAM, 1, &head(GET, "/health")),
        each: |_| frame(CONTINUATION, 0, 1, &[]),
    },
    Flood { name: "SETTINGS", first: |_, _| Vec::new(), each: |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]) },
    Flood { name: "PING", first: |_, _| Vec::new(), each: |n| frame(PING, 0, 0, &u64::from(n).to_be_bytes()) },
    Flood {
        // Each is an error of the stream, which the other side resets.
        name: "WINDOW_UPDATE of nothing",
        first: |_, _| Vec::new(),
        each: |n| {
            let stream = 2 * n + 1;
            let mut frames = frame(HEADERS, END_HEADERS, stream, &head(POST, "/v1/jobs"));
            frames.extend(frame(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes()));
            frames
        },
    },
];

fn begin(tls: &mut Tls) -> bool {
    let mut beginning = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    beginning.extend(frame(SETTINGS, 0, 0, &[]));
    tls.send(beginning)
}

fn memory(server: &Server, which: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(which)).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kibibytes| kibibytes.parse::<u64>().ok()).expect("a number") << 10
}

/// Sends a flood and reads nothing, so that what is to be answered lies where
/// it is; how many frames went out.
fn pour(tls: &mut Tls, flood: &Flood, first: Vec<u8>) -> u32 {
    if !begin(tls) || !tls.send(first) {
        return 0;
    }
    // Whoever does not take what is sent ends it too.
    tls.socket().set_write_timeout(Some(std::time::Duration::from_secs(3))).expect("a timeout");
    let mut sent = 0;
    while sent < FRAMES {
        let frames: Vec<u8> = (sent..sent + 500).flat_map(flood.each).collect();
        if !tls.send(frames) {
            break;
        }
        sent += 500;
    }
    sent
}

/// What comes back first for a stream.
fn head_of(tls: &mut Tls, stream: u32) -> Vec<u8> {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        while read.len() >= 9 {
            let length = u32::from_be_bytes([0, read[0], read[1], read[2]]) as usize;
            if read.len() < 9 + length {
                break;
            }
            let rest = read.split_off(9 + length);
            if read[3] == HEADERS && read[5..9] == stream.to_be_bytes() {
                return read[9..].to_vec();
            }
            read = rest;
        }
        let count = tls.read(&mut buffer);
        assert!(count > 0, "it hung up");
        read.extend_from_slice(&buffer[..count]);
    }
}

#[test]
fn where_http_2_is_offered_it_is_spoken() {
    let server = Setup::real().https().env("AGENTD_TLS_HTTP2", "true").start();
    let mut tls = dial(&server).alpn(&["h2", "http/1.1"]).connect().expect("a connection");
    assert!(begin(&mut tls));
    for stream in [1, 3] {
        assert!(tls.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(GET, "/health"))));
        // 200 has a number of its own in the static table.
        assert_eq!(head_of(&mut tls, stream)[0], 0x88);
    }
}

#[test]
fn by_default_no_flood_reaches_http_2() {
    let server = https();
    assert!(dial(&server).alpn(&["h2"]).connect().is_err(), "it is not offered");
    for flood in &FLOODS {
        // Somebody may send it all the same.
        let mut tls = dial(&server).alpn(&["http/1.1"]).connect().expect("a connection");
        let sent = pour(&mut tls, flood, (flood.first)("/health", ""));
        assert!(sent < FRAMES, "{}: it is read on and on", flood.name);
        assert!(connect(&server).exchange(HEALTH).is_some());
    }
}

#[test]
fn where_http_2_is_offered_floods_are_outlived() {
    for flood in &FLOODS {
        let mut server = Setup::real().https().env("AGENTD_TLS_HTTP2", "true").start();
        let key = server.key(&server.tenant("a tenant"));
        let job = server.anyone().with_key(&key).submit_body(&json!({ "tool": "echo", "delay": 3600 }));
        let first = (flood.first)(&format!("/v1/jobs/{job}/events"), &key.secret);
        server.leave_open(&job);
        let mut beside = connect(&server);
        assert!(beside.exchange(HEALTH).is_some());
        let (used, held, start) = (ticks(&server), memory(&server, "VmRSS:"), Instant::now());
        let mut tls = dial(&server).alpn(&["h2"]).connect().expect("a connection");
        let sent = pour(&mut tls, flood, first);
        assert!(beside.exchange(HEALTH).is_some(), "{}: others are served meanwhile", flood.name);
        let (used, grown) = (ticks(&server) - used, memory(&server, "VmHWM:").saturating_sub(held));
        let ended = if sent < FRAMES { "cut off" } else { "all taken" };
        println!(
            "{}: {sent} frames, {ended}; {} ms of processor time, {} KiB more memory, {} ms",
            flood.name,
            used * 10,
            grown >> 10,
            start.elapsed().as_millis()
        );
        assert!(grown < BYTES, "{}: {grown} bytes", flood.name);
        drop(tls);
        assert!(connect(&server).exchange(HEALTH).is_some());
    }
}
