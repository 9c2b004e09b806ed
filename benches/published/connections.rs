//! Many connections at once: followers that wait for events, and clients that
//! only stay connected.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::load::{Until, run};
use super::service::{Service, call};
use super::table::Row;
use super::{Bench, TIME};

const FOLLOWERS: usize = 5_000;
const IDLE: usize = 10_000;

/// Allows this process the files that its connections are; the service raises
/// its own limit.
pub fn allow_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit may be as high as the hard one");
    let needed = u64::try_from(IDLE).expect("a number") + 200;
    assert!(limit.maximum.is_none_or(|most| most > needed), "`ulimit -Hn` must be above {needed}");
}

/// The service's memory with followers that each wait for a job of their own,
/// and how soon all of them hear that their jobs have ended.
pub fn followers(bench: &mut Bench) -> Vec<Row> {
    eprintln!("{FOLLOWERS} followers …");
    let service = Service::start(&bench.folder("followers"));
    let idle = service.memory("VmRSS");
    let parked = service.target("", r#","delay":86400"#);
    bench.disk.settle();
    run(&parked, 64, Until::Count(FOLLOWERS), None);
    let before = service.memory("VmRSS");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (with, told) = runtime.block_on(async {
        let ids = service.job_ids(FOLLOWERS);
        assert_eq!(ids.len(), FOLLOWERS, "every job is listed");
        let mut streams = Vec::new();
        for id in &ids {
            streams.push(follower(&service, id).await);
        }
        let with = service.memory("VmRSS");
        let start = Instant::now();
        let ends: Vec<_> = streams.into_iter().map(|stream| tokio::spawn(until_closed(stream))).collect();
        let (address, headers) = (service.address, service.headers());
        let cancelling = std::thread::spawn(move || {
            for id in ids {
                let (status, answer) = call(address, "POST", &format!("/v1/jobs/{id}/cancel"), &headers, "");
                assert!(status == 200, "cancelled: {answer}");
            }
        });
        for end in ends {
            assert!(end.await.expect("a follower").contains("event: job.cancelled"), "a follower missed the end");
        }
        cancelling.join().expect("all were cancelled");
        (with, start.elapsed())
    });
    let most = service.memory("VmHWM");
    service.stop();
    let each = (with - before) * 1024.0 / FOLLOWERS as f64;
    vec![
        Row::of(format!("memory with {FOLLOWERS} SSE followers, MiB")).value(with).most(150e6 / f64::from(1 << 20)),
        Row::of(format!("the same at most, all {FOLLOWERS} told of the end of their jobs, MiB")).value(most),
        Row::of("memory of one follower, KiB").value(each).note(format!("the service alone: {idle:.1} MiB")),
        Row::of("ends of followed jobs/s, each cancelled by a request of its own")
            .value(FOLLOWERS as f64 / told.as_secs_f64()),
    ]
}

/// A stream that has brought what there is so far.
async fn follower(service: &Service, job: &str) -> TcpStream {
    let mut stream = TcpStream::connect(service.address).await.expect("the server accepts");
    let headers = service.headers();
    let request = format!(
        "GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: a\r\n{headers}Accept: text/event-stream\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("a request");
    let (mut seen, mut buffer) = (Vec::new(), [0; 2048]);
    while !seen.windows(11).any(|window| window == b"job.waiting") {
        let read = stream.read(&mut buffer).await.expect("the stream");
        assert!(read > 0, "the stream ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..read]);
    }
    stream
}

async fn until_closed(mut stream: TcpStream) -> String {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.expect("the stream");
    rest
}

/// Submissions while many clients are connected and silent, against the same
/// service without them, in turns.
pub fn idle(bench: &mut Bench) -> Vec<Row> {
    eprintln!("{IDLE} idle connections …");
    let service = Service::start(&bench.folder("idle"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let target = service.target("", "");
    run(&target, 64, Until::Time(Duration::from_secs(1)), None);
    let (mut alone, mut beside, mut memory) = (Vec::new(), Vec::new(), 0.0);
    for _ in 0..3 {
        let measure = |rates: &mut Vec<f64>, bench: &mut Bench| {
            bench.disk.settle();
            let report = run(&target, 64, Until::Time(TIME), None);
            rates.push(report.per_second());
            service.wait_idle();
        };
        measure(&mut alone, bench);
        let connected = runtime.block_on(connect(&service, IDLE));
        memory = service.memory("VmRSS");
        measure(&mut beside, bench);
        for stream in connected {
            let stream = stream.into_std().expect("a stream");
            let closed = stream.peek(&mut [0; 1]);
            assert!(closed.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "it stays connected");
        }
    }
    service.stop();
    let (alone, beside) = (super::median(&mut alone), super::median(&mut beside));
    vec![
        Row::of("durable submits/s, 64 connections").value(alone).note("median of 3, in turns with the next"),
        Row::of(format!("the same beside {IDLE} idle connections")).value(beside).least(alone * 0.9),
        Row::of("memory with them, MiB").value(memory),
    ]
}

/// Connections that have been answered once and stay.
async fn connect(service: &Service, count: usize) -> Vec<TcpStream> {
    let request: Rc<str> = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n".into();
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(service.address).await.expect("the server accepts");
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut buffer = [0; 2048];
        let read = stream.read(&mut buffer).await.expect("an answer");
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200"), "an answer");
        streams.push(stream);
    }
    streams
}
