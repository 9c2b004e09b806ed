//! Certificates as an administrator has them: the real binary against pebble,
//! Let's Encrypt's own test server, and against caddy. Some good nonces are
//! refused in every test, and validations fail at random in the main ones.
//!
//! Needs Debian's packages `pebble`, `caddy` and `curl`, and to be root for the
//! tests with caddy, which looks at ports 80 and 443.

#![allow(clippy::expect_used, reason = "in a test a broken expectation is what it is there to tell")]

#[path = "../support/mod.rs"]
mod support;

mod account;
mod bench;
mod care;
mod failing;
mod issue;
mod load;
mod other;
mod renew;
mod restart;
mod sealed;
mod setup;

use std::time::Duration;

use serde_json::Value;
use support::acme::Bench;
use support::tls::Dial;
use support::{Server, eventually};

/// How a name's certificate stands.
#[track_caller]
fn certificate(server: &Server, name: &str) -> Value {
    let all = server.admin().get("/admin/certificates").expect(200);
    let found = all["data"].as_array().expect("a list").iter().find(|it| it["name"] == name && it["source"] == "acme");
    found.unwrap_or_else(|| panic!("no {name} in {all}")).clone()
}

/// Waits until it stands so.
#[track_caller]
fn until(server: &Server, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("{name}: {what}"), || {
        // Each look costs a handshake that the service could do without.
        std::thread::sleep(Duration::from_millis(20));
        Some(certificate(server, name)).filter(&is)
    })
}

#[track_caller]
fn issued(server: &Server, name: &str) -> Value {
    until(server, name, "a certificate is issued", |it| it["status"] == "valid")
}

/// Waits for the n-th failure in a row.
#[track_caller]
fn failed(server: &Server, name: &str, failures: u64) -> Value {
    until(server, name, "it fails", |it| it["failures"].as_u64() >= Some(failures))
}

/// The number of the certificate that a client is shown for a name, which it
/// must trust.
#[track_caller]
fn shown(bench: &Bench, name: &str) -> String {
    let dial = Dial::trusting(&bench.tls_address(), &bench.root_file()).name(name);
    dial.connect().unwrap_or_else(|error| panic!("{name}: {error}")).serial()
}

/// Waits until clients are shown another certificate than this.
#[track_caller]
fn another(server: &Server, name: &str, serial: &Value) -> Value {
    until(server, name, "another certificate", |it| it["status"] == "valid" && it["serial"] != *serial)
}

/// A time of an answer, in seconds since 1970.
#[track_caller]
fn seconds(time: &Value) -> i64 {
    let read = time.as_str().and_then(agentd::clock::Timestamp::parse);
    read.unwrap_or_else(|| panic!("{time} is no time")).micros() / 1_000_000
}

/// The true time, in seconds since 1970.
fn now() -> i64 {
    agentd::clock::system_now().micros() / 1_000_000
}

/// Sets the clock to a moment.
fn set_time(server: &Server, to: i64) {
    server.set_clock(to - now());
}
