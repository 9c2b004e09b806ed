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

/// Connections are stopped before they take what the database and jobs need.
#[test]
fn connections_never_take_the_last_descriptor() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let place = folder.path().join("data").to_string_lossy().into_owned();
    let serve = Setup::real().env("AGENT_API_KEY", "a-single-key-of-the-tests-01").command(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        &place,
    ]);
    let mut limited = std::process::Command::new("prlimit");
    limited.arg("--nofile=200:200").arg(serve.get_program()).args(serve.get_args()).env_clear();
    limited.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = limited.stdout(std::process::Stdio::piped()).spawn().expect("the program starts");
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("a pipe")));
    let mut lines =
        lines.map_while(Result::ok).map(|line| serde_json::from_str::<serde_json::Value>(&line).expect("JSON"));
    let starting = lines.find(|line| line["message"] == "starting").expect("it starts");
    let share = starting["connections"].as_u64().expect("a number");
    assert!((20..150).contains(&share), "{starting}");
    let ready = lines.find(|line| line["message"] == "ready").expect("it is ready");
    let address = ready["address"].as_str().expect("an address");
    let mut first = crate::support::raw::Raw::connect(address);
    let mut submit = |place: usize| {
        let body = format!("{{\"tool\":\"echo\",\"input\":{place}}}");
        first.send(format!(
            "POST /v1/jobs?wait=10 HTTP/1.1\r\nHost: x\r\nX-API-Key: a-single-key-of-the-tests-01\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        first.read_until("\"status\":\"succeeded\"")
    };
    submit(0);
    let crowd: Vec<_> = (0..300).map(|_| TcpStream::connect(address).expect("the kernel takes it")).collect();
    let told = lines
        .find(|line| line["level"] == "WARN" && line["message"].to_string().contains("all connections are in use"));
    assert!(told.expect("it is told")["message"].to_string().contains("LimitNOFILE="));
    for place in 1..20 {
        assert!(submit(place).starts_with("HTTP/1.1 200"), "submissions are answered");
    }
    let pid = child.id();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count();
    assert!(open < 190, "{open} of 200 are open");
    let status = crate::support::cli::agentd(&["status", "--data-dir", &place]).output().expect("it runs");
    assert!(String::from_utf8_lossy(&status.stdout).contains("running"), "the command line has a share of its own");
    drop(crowd);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .expect("told");
    let rest: Vec<_> = lines.collect();
    assert!(child.wait().expect("it ends").success(), "{rest:?}");
    assert!(!rest.iter().any(|line| line.to_string().contains("panicked")), "{rest:?}");
}
