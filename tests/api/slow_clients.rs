//! Clients that send slowly, stop in the middle, or speak no HTTP.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::raw::Raw;
use crate::support::{Client, Key, Server, Setup};

/// A server that waits for nobody, and a key for it.
fn impatient() -> (Server, Key, Client) {
    let server = Setup::real().env("AGENTD_SERVER_BODY_TIME", "300ms").env("AGENTD_SERVER_HEAD_TIME", "1s").start();
    let key = server.key(&server.tenant("slow"));
    let client = server.anyone().with_key(&key);
    (server, key, client)
}

fn head(key: &Key, length: &str) -> String {
    format!("POST /v1/jobs HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\n{length}\r\n\r\n", key.secret)
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let (server, key, client) = impatient();
    let mut raw = Raw::connect(&server.address());
    raw.send(head(&key, "Content-Length: 100") + "{\"tool\":");
    let answer = raw.read_to_end();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains("\"request_timeout\""), "{answer}");
    assert_eq!(client.run(&json!({ "tool": "echo" }))["status"], "succeeded");
}

/// Each piece comes in time; the whole does not.
fn trickle(raw: &mut Raw, piece: &str) {
    let started = Instant::now();
    while raw.send(piece) {
        assert!(started.elapsed() < Duration::from_secs(10), "it reads on for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_body_that_trickles_is_not_waited_for() {
    let (server, key, _) = impatient();
    let mut raw = Raw::connect(&server.address());
    raw.send(head(&key, "Content-Length: 100000"));
    trickle(&mut raw, " ");
}

#[test]
fn a_body_that_trickles_in_chunks_is_answered() {
    let (server, key, _) = impatient();
    let mut raw = Raw::connect(&server.address());
    raw.send(head(&key, "Transfer-Encoding: chunked") + "1\r\n \r\n");
    let answer = raw.read_until("request_timeout");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let (server, _, client) = impatient();
    for beginning in ["", "GET /heal", "GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let mut raw = Raw::connect(&server.address());
        raw.send(beginning);
        let answer = raw.read_to_end();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{beginning:?}: {answer}");
    }
    client.get("/health").expect(200);
}

#[test]
fn many_who_say_nothing_keep_nobody_out() {
    let (server, _, client) = impatient();
    let silent: Vec<_> = (0..300).map(|_| Raw::connect(&server.address())).collect();
    assert_eq!(client.run(&json!({ "tool": "echo" }))["status"], "succeeded");
    drop(silent);
}

#[test]
fn a_client_that_hangs_up_in_the_middle_does_no_harm() {
    let (server, key, client) = impatient();
    for part in [10, 40, 80, 120] {
        let request = head(&key, "Content-Length: 15") + "{\"tool\":\"echo\"";
        let mut raw = Raw::connect(&server.address());
        raw.send(&request.as_bytes()[..part.min(request.len())]);
    }
    assert_eq!(client.run(&json!({ "tool": "echo" }))["status"], "succeeded");
    assert_eq!(client.all_pages("/v1/jobs").len(), 1, "half a request is none");
}

/// Below HTTP there is no request that a problem could belong to.
#[test]
fn what_is_no_http_is_refused() {
    let (server, key, client) = impatient();
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(200_000));
    let many = format!("GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(1_000));
    let twice = head(&key, "Content-Length: 2\r\nContent-Length: 3") + "{}";
    let both = head(&key, "Content-Length: 2\r\nTransfer-Encoding: chunked") + "{}";
    let negative = head(&key, "Content-Length: -1") + "{}";
    let chunk = head(&key, "Transfer-Encoding: chunked") + "zz\r\n{}\r\n0\r\n\r\n";
    let tls = "\u{16}\u{3}\u{1}\0\u{5}hello".to_owned();
    for request in ["nonsense\r\n\r\n".into(), tls, long, many, twice, both, negative, chunk] {
        let mut raw = Raw::connect(&server.address());
        raw.send(&request);
        let answer = raw.read_to_end();
        let shown: String = request.chars().take(100).collect();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{shown:?} was answered with {answer}");
    }
    client.get("/health").expect(200);
    assert!(client.all_pages("/v1/jobs").is_empty());
}
