//! Very many connections that do nothing.

use std::io::Write as _;
use std::net::TcpStream;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::support::{Server, Setup, eventually};

/// Descriptors that the tests beside this one may need.
const FOR_OTHERS: u64 = 3_000;
/// What an idle connection may cost at most, far above what it does.
const BYTES_EACH: u64 = 32 << 10;

/// As many as this machine lets a process have, for us and what we start.
fn descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the hard limit one may");
    limit.maximum.unwrap_or(u64::MAX)
}

fn open_files(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs").count()
}

fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kibibytes| kibibytes.parse::<u64>().ok()).expect("a number") << 10
}

#[test]
fn ten_thousand_idle_connections_keep_nobody_from_working() {
    let (count, limit) = (10_000, descriptors());
    assert!(limit >= count + FOR_OTHERS, "ulimit -Hn is {limit}; this test opens {count} connections");
    // Whoever sends no head in time is sent away; here they are to stay.
    let server = Setup::real().env("AGENTD_SERVER_HEAD_TIME", "10m").start();
    let client = server.client();
    client.run(&json!({ "tool": "echo" }));
    let (files, before) = (open_files(&server), memory(&server));
    let connect = |place: u64| {
        let mut stream = TcpStream::connect(server.address()).expect("a connection");
        if place.is_multiple_of(2) {
            stream.write_all(b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n").expect("half a head");
        }
        stream
    };
    let idle: Vec<_> = (0..count).map(connect).collect();
    eventually("all are accepted", || (open_files(&server) >= files + idle.len()).then_some(()));
    for place in 0..50 {
        assert_eq!(client.run(&json!({ "tool": "echo", "input": place }))["result"], place);
    }
    let grown = memory(&server).saturating_sub(before);
    assert!(grown <= count * BYTES_EACH, "{} bytes for each of {count} connections", grown / count);
    drop(idle);
    eventually("their ends are noticed", || (open_files(&server) < files + 100).then_some(()));
}
