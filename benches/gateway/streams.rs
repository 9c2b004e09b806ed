//! Streams: how much later the first byte comes, and what many at once take.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::load::{Report, Target, connect};
use super::table::{self, Row};
use super::{Bench, median};

/// The model whose streams take ten seconds.
pub const SLOW: &str = "slow";
/// The model whose streams have eighteen events, and its name for agentd.
pub const SHORT: &str = "short";
pub const SHORT_OF_AGENTD: &str = "short-of-agentd";
/// Connections over which streams are counted.
const CONNECTIONS: usize = 16;
/// Streams at once.
const STREAMS: usize = 2_000;
/// Streams one after the other.
const ONE_BY_ONE: usize = 1_000;

pub fn first_byte(bench: &mut Bench) -> Vec<Row> {
    eprintln!("first bytes …");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let targets = [bench.peers[0].streamed(None), bench.agentd().streamed(None)];
    let mut medians = [Vec::new(), Vec::new()];
    for _ in 0..super::ROUNDS {
        for (target, medians) in targets.iter().zip(&mut medians) {
            bench.disk.settle();
            let mut times = runtime.block_on(one_by_one(target));
            medians.push(median(&mut times));
        }
    }
    let [direct, agentd] = medians.map(|mut medians| Duration::from_secs_f64(median(&mut medians)));
    let row = Row::of("agentd, added time to the first streamed byte, p50").time(agentd.saturating_sub(direct));
    let note = format!("direct {}, agentd {}", table::micros(direct), table::micros(agentd));
    vec![row.within(Duration::from_micros(250)).note(note)]
}

/// Whole streams a second, beside proxies that look at none of the bytes.
pub fn rates(bench: &mut Bench) -> Vec<Row> {
    eprintln!("streams a second …");
    // Neither of the other gateways passes streams on as fast as one of ten.
    let plain = |name: &str| ["the provider itself", "agentd", "caddy", "nginx"].contains(&name);
    let peers: Vec<usize> = (0..bench.peers.len()).filter(|place| plain(bench.peers[*place].name)).collect();
    let all = super::in_turns_with(bench, &peers, CONNECTIONS, None, |peer| {
        peer.counted_stream(if peer.name == "agentd" { SHORT_OF_AGENTD } else { SHORT })
    });
    let whole = super::in_turns(bench, &peers, CONNECTIONS, None);
    // Beside caddy in the same run.
    let tables = [("streams/s of 18 events", all, 1.0), ("whole answers/s", whole, 2.3)];
    let rate = |reports: &[Report]| super::of_all(reports, Report::per_second);
    let rows = tables.iter().flat_map(|(what, all, factor)| {
        let caddy = peers.iter().position(|place| bench.peers[*place].name == "caddy").map(|place| rate(&all[place]));
        let row = |(place, reports): (&usize, &Vec<Report>)| {
            let peer = &bench.peers[*place];
            let row = Row::of(format!("{what} at {CONNECTIONS} connections, {}", peer.name));
            let row = row.value(rate(reports)).durability(peer.durability);
            match caddy {
                Some(caddy) if peer.name == "agentd" => row.least(caddy * factor),
                _ => row,
            }
        };
        peers.iter().zip(all).map(row).collect::<Vec<_>>()
    });
    rows.collect()
}

/// Seconds to the first byte of each body.
async fn one_by_one(target: &Target) -> Vec<f64> {
    let mut stream = connect(target.address).await;
    let request = target.bytes();
    let mut times = Vec::new();
    for _ in 0..ONE_BY_ONE {
        let start = Instant::now();
        stream.write_all(&request).await.expect("a request is sent");
        let mut seen = begun(&mut stream).await;
        times.push(start.elapsed().as_secs_f64());
        while !seen.ends_with(b"\r\n0\r\n\r\n") {
            more(&mut stream, &mut seen).await;
        }
    }
    times
}

/// A stream up to the first byte of its body, which must be a good one.
async fn begun(stream: &mut TcpStream) -> Vec<u8> {
    let mut seen = Vec::with_capacity(4096);
    loop {
        more(stream, &mut seen).await;
        let head = seen.windows(4).position(|window| window == b"\r\n\r\n");
        if head.is_some_and(|head| seen.len() > head + 4) {
            assert!(seen.starts_with(b"HTTP/1.1 200"), "refused: {}", String::from_utf8_lossy(&seen));
            return seen;
        }
    }
}

async fn more(stream: &mut TcpStream, seen: &mut Vec<u8>) {
    let read = stream.read_buf(seen).await.expect("the stream");
    assert!(read > 0, "the stream ended: {}", String::from_utf8_lossy(seen));
}

/// The service's memory with streams that all bring something ten times a
/// second.
pub fn many(bench: &mut Bench) -> Vec<Row> {
    eprintln!("{STREAMS} streams …");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (target, before) = (bench.agentd().streamed(Some(SLOW)), bench.agentd().memory());
    bench.disk.settle();
    let most = runtime.block_on(async {
        let (request, address) = (target.bytes(), target.address);
        let tasks: Vec<_> = (0..STREAMS)
            .map(|_| {
                let request = request.clone();
                tokio::spawn(async move {
                    let mut stream = connect(address).await;
                    stream.write_all(&request).await.expect("a request is sent");
                    let begun = begun(&mut stream).await;
                    (stream, begun)
                })
            })
            .collect();
        let mut reading = Vec::new();
        for task in tasks {
            let (mut stream, mut seen) = task.await.expect("a stream begins");
            reading.push(tokio::spawn(async move {
                while !seen.ends_with(b"\r\n0\r\n\r\n") {
                    more(&mut stream, &mut seen).await;
                }
                assert!(seen.windows(6).any(|window| window == b"[DONE]"), "a stream was cut");
            }));
        }
        let mut most = before;
        for read in &mut reading {
            while !read.is_finished() {
                most = most.max(bench.agentd().memory());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            read.await.expect("a stream ends");
        }
        most
    });
    let row = Row::of(format!("agentd, memory with {STREAMS} streams at once, MiB")).value(most);
    vec![row.most(250e6 / f64::from(1 << 20)).note(format!("{before:.0} before"))]
}
