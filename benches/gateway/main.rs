//! The gateway to models beside others: `make bench-gateway` runs this and
//! prints one table.
//!
//! One run on one machine, everything on loopback, with the scripted provider
//! of the tests behind each, which answers at once. agentd has authentication,
//! limits, the ledger with `synchronous=FULL` and the record of usage on. The
//! others run as their makers start them and keep no ledger. `BENCH_ONLY` names
//! the sections to run, with commas between them.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program for measuring, run by people"
)]

#[path = "../published/limits.rs"]
#[expect(dead_code, reason = "the published figures use the rest")]
mod limits;
#[path = "../published/load.rs"]
mod load;
mod peers;
#[path = "../published/service.rs"]
#[expect(dead_code, reason = "the published figures use the rest")]
mod service;
mod streams;
#[path = "../published/table.rs"]
#[expect(dead_code, reason = "the published figures use the rest")]
mod table;
#[path = "../../tests/support/upstream/mod.rs"]
mod upstream;

use std::time::Duration;

use load::{Report, Until, run};
use peers::{Peer, Provider};
use table::Row;
use upstream::{Options, Script, Upstream};

/// How long each figure is measured, each of the three times.
const TIME: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;
/// Requests a second where latency is measured beside a load.
const PACE: f64 = 1_000.0;

/// The sections, each of which gives rows of the table.
type Section = fn(&mut Bench) -> Vec<Row>;
const SECTIONS: [(&str, Section); 6] = [
    ("idle", idle),
    ("rates", rates),
    ("paced", paced),
    ("first", streams::first_byte),
    ("streams", streams::rates),
    ("many", streams::many),
];

/// What the sections share.
struct Bench {
    provider: Provider,
    /// The provider itself first, agentd second.
    peers: Vec<Peer>,
    disk: limits::Disk,
}

impl Bench {
    fn agentd(&self) -> &Peer {
        &self.peers[1]
    }
}

/// Of the requests that the shared parts send; here nobody does.
fn body(_: &str) -> String {
    String::new()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    if std::env::args().any(|argument| argument == "provider") {
        return serve_provider();
    }
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    let known = || SECTIONS.iter().map(|(name, _)| *name);
    if let Some(unknown) = only.iter().find(|only| !known().any(|name| name == **only)) {
        eprintln!("BENCH_ONLY: {unknown:?} is none of {}", known().collect::<Vec<_>>().join(", "));
        std::process::exit(2);
    }
    allow_connections();
    let root = tempfile::Builder::new().prefix("bench-gateway-").tempdir_in("target").expect("a folder");
    let disk = limits::Disk::new(root.path());
    table::print_versions();
    let provider = Provider::start();
    let peers = peers::start(&provider, root.path());
    let mut bench = Bench { provider, peers, disk };
    let mut rows = Vec::new();
    for (_, section) in SECTIONS.iter().filter(|(name, _)| only.is_empty() || only.contains(name)) {
        rows.extend(section(&mut bench));
    }
    rows.extend(peers::ledger(&bench));
    table::print_rows(&rows);
    bench.disk.print_seen();
}

/// What the provider's process does.
fn serve_provider() {
    allow_connections();
    let upstream = Upstream::start_with(&Options { keep: false, ..Options::default() });
    upstream.usually(Script::tokens(20, 8).chunks(4));
    // A stream of eighteen events, with its usage.
    for model in [streams::SHORT, streams::SHORT_OF_AGENTD] {
        upstream.script(model, Script::tokens(20, 14).chunks(14));
    }
    // A stream of ten seconds.
    upstream.script(streams::SLOW, Script::tokens(20, 100).pause(Duration::from_millis(100)));
    println!("{}", upstream.address());
    upstream.serve_on();
}

/// As many connections as the system lets a process have.
fn allow_connections() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit may be as high as the hard one");
}

fn idle(bench: &mut Bench) -> Vec<Row> {
    // What starting took is given back by then, where it is at all.
    std::thread::sleep(Duration::from_secs(3));
    let gateways = bench.peers[1..].iter();
    gateways
        .map(|peer| {
            let row = Row::of(format!("memory idle, {}, MiB", peer.name)).value(peer.memory());
            row.durability(peer.durability).note(peer.note.clone())
        })
        .collect()
}

/// Three times each, in turns, so that what the machine does besides falls on
/// all of them.
fn in_turns(bench: &mut Bench, peers: &[usize], connections: usize, rate: Option<f64>) -> Vec<Vec<Report>> {
    in_turns_with(bench, peers, connections, rate, Peer::target)
}

/// The same with another request.
fn in_turns_with(
    bench: &mut Bench,
    peers: &[usize],
    connections: usize,
    rate: Option<f64>,
    request: impl Fn(&Peer) -> load::Target,
) -> Vec<Vec<Report>> {
    let mut reports: Vec<Vec<Report>> = peers.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (place, peer) in peers.iter().enumerate() {
            let target = request(&bench.peers[*peer]);
            run(&target, connections, Until::Time(Duration::from_millis(500)), rate);
            bench.disk.settle();
            reports[place].push(run(&target, connections, Until::Time(TIME), rate));
        }
    }
    reports
}

fn of_all(reports: &[Report], figure: impl Fn(&Report) -> f64) -> f64 {
    median(&mut reports.iter().map(figure).collect::<Vec<_>>())
}

/// A quantile of the latency in seconds.
fn quantile(reports: &[Report], q: f64) -> Duration {
    Duration::from_secs_f64(of_all(reports, |report| report.quantile(q).as_secs_f64()))
}

/// As many as they can with 64 connections, and alone.
fn rates(bench: &mut Bench) -> Vec<Row> {
    eprintln!("requests a second …");
    let all: Vec<usize> = (0..bench.peers.len()).collect();
    let full = in_turns(bench, &all, 64, None);
    eprintln!("one after the other …");
    let alone = in_turns(bench, &all, 1, None);
    let rate = |name: &str| {
        let place = bench.peers.iter().position(|peer| peer.name == name)?;
        Some(of_all(&full[place], Report::per_second))
    };
    // What agentd must reach beside each of those that are there.
    let goals = [("caddy", 0.5), ("Portkey", 5.0), ("LiteLLM", 30.0)];
    let goals = goals.iter().filter_map(|(name, factor)| Some(rate(name)? * factor)).fold(0.0, f64::max);
    let mut rows = Vec::new();
    for (peer, reports) in bench.peers.iter().zip(&full) {
        let [p50, p99] = [0.5, 0.99].map(|q| table::micros(quantile(reports, q)));
        let row = Row::of(format!("requests/s at 64 connections, {}", peer.name));
        let row = row.value(of_all(reports, Report::per_second)).durability(peer.durability);
        let row = row.note(format!("p50 {p50}, p99 {p99}"));
        rows.push(if peer.name == "agentd" { row.least(goals) } else { row });
    }
    let direct = quantile(&alone[0], 0.5);
    for (peer, reports) in bench.peers.iter().zip(&alone).skip(1) {
        let added = quantile(reports, 0.5).saturating_sub(direct);
        let row = Row::of(format!("added latency alone p50, {}", peer.name)).time(added);
        rows.push(row.durability(peer.durability).note(format!("direct {}", table::micros(direct))));
    }
    rows
}

/// At a steady pace, each request due at its moment.
fn paced(bench: &mut Bench) -> Vec<Row> {
    eprintln!("{PACE} requests a second …");
    let reports = in_turns(bench, &[0, 1], 64, Some(PACE));
    let added = |q: f64| quantile(&reports[1], q).saturating_sub(quantile(&reports[0], q));
    let note = |q: f64| {
        let [direct, agentd] = [0, 1].map(|place: usize| table::micros(quantile(&reports[place], q)));
        format!("direct {direct}, agentd {agentd}")
    };
    let name = format!("agentd, added latency at {PACE} requests/s");
    vec![
        Row::of(format!("{name}, p50")).time(added(0.5)).within(Duration::from_micros(400)).note(note(0.5)),
        Row::of(format!("{name}, p99")).time(added(0.99)).within(Duration::from_millis(2)).note(note(0.99)),
    ]
}
