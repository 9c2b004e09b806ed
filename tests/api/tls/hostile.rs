//! Those who do not speak TLS, or not HTTP, or two kinds of it at once.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::support::raw::Raw;
use crate::support::{Server, Setup, eventually};

use super::{HEALTH, connect, handshakes, https};

/// A beginning of a handshake, as a client sends it: a record of 512 bytes of
/// which some come.
fn half_a_hello() -> Vec<u8> {
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.extend([7; 100]);
    hello
}

#[test]
fn plain_http_is_told_what_it_should_be() {
    let server = https();
    for request in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST /v1/jobs HTTP/1.0\r\n\r\n", "G"] {
        let mut raw = Raw::connect(&server.address());
        raw.send(request);
        let answer = raw.read_to_end();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("use https:// for it.\n"), "{answer}");
    }
    assert_eq!(handshakes(&server, "plain_http"), 3);
}

#[test]
fn what_is_no_tls_is_hung_up_on() {
    let server = https();
    let before = server.log().len();
    let mut long_record = vec![0x16, 3, 1, 0xff, 0xff, 1];
    long_record.resize(70_000, 0);
    let mut claims_much = vec![0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    claims_much.resize(16_389, 0);
    let hello_with_garbage = vec![0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0xff];
    let alert = vec![0x15, 3, 3, 0, 2, 2, 40];
    let early_data = vec![0x17, 3, 3, 0, 4, 1, 2, 3, 4];
    let heartbeat = vec![0x18, 3, 2, 0, 3, 1, 0x40, 0];
    let old = vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10];
    let zeros = vec![0; 50_000];
    let shapes = [long_record, claims_much, hello_with_garbage, alert, early_data, heartbeat, old, zeros];
    for (place, shape) in shapes.iter().enumerate() {
        for _ in 0..10 {
            let mut raw = Raw::connect(&server.address());
            raw.send(shape);
            let answer = raw.read_to_end();
            assert!(answer.len() < 100, "shape {place} was answered with {answer:?}");
        }
    }
    // A connection ends a moment before it is counted.
    eventually("they are counted", || (handshakes(&server, "failed") == 10 * shapes.len() as u64).then_some(()));
    assert!(connect(&server).exchange(HEALTH).is_some());
    let told = server.log().len() - before;
    assert!(told < 20, "{told} lines tell of nothing that anybody could do something about");
}

#[test]
fn a_handshake_has_its_time() {
    let server = Setup::real().https().env("AGENTD_TLS_HANDSHAKE_TIME", "200ms").start();
    for sent in [Vec::new(), vec![0x16], half_a_hello()] {
        let mut raw = Raw::connect(&server.address());
        raw.send(&sent);
        assert_eq!(raw.read_to_end(), "");
    }
    eventually("they are counted", || (handshakes(&server, "timeout") == 3).then_some(()));
    drop(Raw::connect(&server.address()));
    eventually("who says nothing is no fault", || (handshakes(&server, "silent") == 1).then_some(()));
}

#[test]
fn half_handshakes_keep_nobody_out() {
    // None of them runs out of time while the test runs.
    let server = Setup::real().https().env("AGENTD_TLS_HANDSHAKE_TIME", "10m").start();
    let mut half = Vec::new();
    for _ in 0..2_500 {
        let mut stream = TcpStream::connect(server.address()).expect("a connection");
        stream.write_all(&half_a_hello()).expect("sent");
        half.push(stream);
    }
    for _ in 0..20 {
        assert!(connect(&server).exchange(HEALTH).is_some());
    }
    eventually("the oldest made room", || (handshakes(&server, "displaced") > 0).then_some(()));
}

/// TLS 1.2 lets a client ask for another handshake in the middle of a session.
#[test]
fn renegotiation_is_refused() {
    let server = https();
    let mut client = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-connect", &server.address()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is needed for this test: apt install openssl");
    // A line with this letter alone asks for it.
    client.stdin.as_mut().expect("a pipe").write_all(b"R\n").expect("sent");
    // It ends by itself because it is refused; its input stays open.
    let status = eventually("the client gives up", || client.try_wait().expect("a child"));
    let said = client.wait_with_output().expect("its output");
    let said = String::from_utf8_lossy(&said.stderr).into_owned() + &String::from_utf8_lossy(&said.stdout);
    assert!(!status.success() && said.contains("RENEGOTIATING") && said.contains("no renegotiation"), "{said}");
    assert!(connect(&server).exchange(HEALTH).is_some());
}

/// What stands behind the request that an intermediary saw; it must never be
/// taken for a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

fn post(headers: &str, body: &str) -> String {
    format!("POST /v1/jobs HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}")
}

/// Everything that is answered to these bytes.
fn answers(server: &Server, bytes: &str) -> String {
    let mut tls = connect(server);
    tls.send(bytes);
    // Whoever takes it for the beginning of something longer waits for more.
    tls.socket().shutdown(std::net::Shutdown::Write).expect("the end");
    tls.read_to_end()
}

#[test]
fn no_request_is_read_in_two_ways() {
    let server =
        Setup::real().https().env("AGENTD_SERVER_HEAD_TIME", "1s").env("AGENTD_SERVER_BODY_TIME", "1s").start();
    let chunked = format!("0\r\n\r\n{SMUGGLED}");
    let sized = |value: &str| post(&format!("Content-Length: {value}\r\n"), &format!("{{}}{SMUGGLED}"));
    let coded = |value: &str| post(&format!("Content-Length: 5\r\n{value}\r\n"), &chunked);
    let alone = |value: &str| post(&format!("{value}\r\n"), &chunked);
    let in_chunks = |body: &str| post("Transfer-Encoding: chunked\r\n", &format!("{body}{SMUGGLED}"));
    let refused = [
        coded("Transfer-Encoding: chunked"),
        coded("transfer-encoding: CHUNKED"),
        coded("Transfer-Encoding:\tchunked"),
        coded("Transfer-Encoding : chunked"),
        coded("Transfer-Encoding: xchunked"),
        coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        coded("Transfer-Encoding: identity, chunked"),
        coded("Transfer-Encoding:\r\n chunked"),
        coded("X: y\r\n Transfer-Encoding: chunked"),
        coded("Transfer-Encoding: \u{b}chunked"),
        coded("Transfer-Encoding: \"chunked\""),
        coded("Transfer\u{0}-Encoding: chunked"),
        alone("Transfer-Encoding: xchunked"),
        alone("Transfer-Encoding: chunked, identity"),
        alone("Transfer-Encoding : chunked"),
        alone(" Transfer-Encoding: chunked"),
        alone("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        sized("2\r\nContent-Length: 40"),
        sized("+2"),
        sized("0x2"),
        sized("2, 40"),
        sized("-1"),
        sized("2 2"),
        sized("99999999999999999999"),
        post("Content-Length : 2\r\n", &format!("{{}}{SMUGGLED}")),
    ];
    // Where the head is in order it may be a route that refuses it, before the rest
    // has been looked at; what follows is no request in any case.
    let refused_or_unauthorized = [
        in_chunks("2\r\n{}0\r\n\r\n"),
        in_chunks("2\n{}\n0\n\n"),
        in_chunks("0x2\r\n{}\r\n0\r\n\r\n"),
        in_chunks("+2\r\n{}\r\n0\r\n\r\n"),
        in_chunks("-2\r\n{}\r\n0\r\n\r\n"),
        in_chunks("ffffffffffffffff1\r\n{}\r\n0\r\n\r\n"),
        in_chunks("2;a=\n\r\n{}\r\n0\r\n\r\n"),
    ];
    for request in &refused_or_unauthorized {
        let answer = answers(&server, request);
        let once = answer.starts_with("HTTP/1.1 4") && answer.matches("HTTP/1.1 ").count() == 1;
        assert!(answer.is_empty() || once, "{request:?}\n{answer}");
    }
    let mut wrong = Vec::new();
    for request in &refused {
        let answer = answers(&server, request);
        let count = answer.matches("HTTP/1.1 ").count();
        // An answer by a route, such as 401, would mean that it was taken.
        let refused =
            ["400", "408", "413", "431"].iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status} ")));
        if !(answer.is_empty() || count == 1 && refused) {
            wrong.push(format!("{request:?}\n    → {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} shapes were not refused:\n{}", wrong.len(), wrong.join("\n"));
    assert!(connect(&server).exchange(HEALTH).is_some());
    let log = server.log();
    assert!(!log.iter().any(|line| line.contains("smuggled")), "{}", log.join("\n"));
}

#[test]
fn heads_have_a_limit() {
    let server = https();
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(200_000));
    let long_header = format!("GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(200_000));
    let many = format!("GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(1_000));
    let endless = "X-A: b\r\n".repeat(200_000);
    for request in [long_path, long_header, many, format!("GET /health HTTP/1.1\r\n{endless}")] {
        let mut tls = connect(&server);
        tls.send(&request);
        let answer = tls.read_to_end();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert!(connect(&server).exchange(HEALTH).is_some());
}
