//! The scripted provider as a program: `scripted-upstream [OPTION…]` prints its
//! base URL and serves until it is ended. It is scripted over HTTP, see
//! `tests/support/upstream/control.rs`.
//!
//! `--listen ADDRESS` (a free port of loopback), `--https` or `--expired` (then
//! the second line names the file with its authority's certificate, `--authority
//! FILE`), `--sums` (keeps no requests and no single calls, for benchmarks),
//! `--key KEY` (takes no other), `--reply TOKENS` (what is usually answered).

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a program of the tests")]

#[path = "../support/upstream/mod.rs"]
mod upstream;

use upstream::{Options, Script, Shown, Upstream};

fn main() {
    allow_connections();
    let (mut options, mut keys, mut tokens, mut authority) = (Options::default(), Vec::new(), None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "--listen" => options.listen = value(),
            "--https" => options.tls = Some(Shown::Good),
            "--expired" => options.tls = Some(Shown::Expired),
            "--authority" => authority = Some(value()),
            "--sums" => options.keep = false,
            "--key" => keys.push(value()),
            "--reply" => tokens = Some(value().parse().expect("a number of tokens")),
            _ => panic!("{argument}: no such option"),
        }
    }
    let upstream = Upstream::start_with(&options);
    if !keys.is_empty() {
        upstream.expect_keys(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    }
    if let Some(tokens) = tokens {
        upstream.usually(Script::tokens(20, tokens));
    }
    if let Some(file) = authority {
        std::fs::write(file, upstream.authority()).expect("a file for the certificate");
    }
    println!("{}", upstream.base_url());
    upstream.serve_on();
}

/// As many connections as the system lets this process have.
fn allow_connections() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit may be as high as the hard one");
}
