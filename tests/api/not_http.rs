//! What comes to a port and is not HTTP is counted, and logged once a minute.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::support::{PATIENCE, Server, Setup, eventually};

const PROXY_LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 11111 80\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n";
/// The same as bytes.
const PROXY_BYTES: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x2b\x67\0\x50";

/// Sends something and hangs up, once the other side has said its part.
fn say(address: &str, what: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(what).expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[track_caller]
fn counted(server: &Server, expected: u64) {
    eventually(&format!("{expected} are counted"), || {
        let metrics = server.admin().get("/metrics").text;
        let count = metrics.lines().find_map(|line| line.strip_prefix("agentd_http_unreadable_total ")?.parse().ok());
        (count == Some(expected)).then_some(())
    });
}

fn warnings(server: &Server) -> Vec<Value> {
    let lines = server.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    lines.filter(|line| line["message"].as_str().is_some_and(|text| text.contains("not HTTP"))).collect()
}

#[test]
fn a_proxy_line_is_told_once_with_the_address() {
    let server = Server::real();
    for _ in 0..3 {
        assert!(say(&server.address(), PROXY_LINE).starts_with("HTTP/1.1 400"));
    }
    say(&server.address(), PROXY_BYTES);
    // The beginning of TLS.
    say(&server.address(), b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00");
    counted(&server, 5);
    let told = warnings(&server);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0]["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{told:?}");
    assert!(told[0]["message"].as_str().is_some_and(|text| text.contains("PROXY")), "{told:?}");
    assert!(!told[0].to_string().contains("192.0.2"), "nothing of what came is told");
    server.anyone().get("/health").expect(200);
    counted(&server, 5);
}

#[test]
fn behind_tls_and_beside_it_they_are_counted_too() {
    let server = Setup::real().https().http_port().start();
    say(&server.address(), PROXY_LINE);
    say(&server.address(), PROXY_BYTES);
    counted(&server, 2);
    say(&server.http_address(), PROXY_LINE);
    counted(&server, 3);
    assert_eq!(warnings(&server).len(), 1);
    assert!(say(&server.address(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").contains("https://"), "a browser's mistake");
    counted(&server, 3);
}
