use std::path::Path;
use std::time::Instant;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::Record;
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::*;

/// How a question is answered; not at all, where it is `None`.
type Reply = Option<Result<Vec<IpAddr>, ResponseCode>>;

fn ips(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().expect("an address")).collect()
}

#[allow(clippy::unnecessary_wraps, reason = "every answer is a reply")]
fn these(addresses: &[&str]) -> Reply {
    Some(Ok(ips(addresses)))
}

/// A name server that answers each question by itself, so that a slow answer
/// keeps no other.
async fn server<F: Future<Output = Reply> + Send>(
    answer: impl Fn(String, RecordType) -> F + Clone + Send + 'static,
) -> SocketAddr {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port"));
    let address = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let mut message = Message::from_vec(&buffer[..length]).expect("a question").into_response();
            let (socket, answer) = (socket.clone(), answer.clone());
            tokio::spawn(async move {
                let query = message.queries[0].clone();
                match answer(query.name().to_string(), query.query_type()).await {
                    Some(Ok(addresses)) => {
                        let record = |address| Record::from_rdata(query.name().clone(), 60, RData::from(address));
                        message.answers = addresses.into_iter().map(record).collect();
                    }
                    Some(Err(code)) => message.metadata.response_code = code,
                    None => return,
                }
                let _ = socket.send_to(&message.to_vec().expect("an answer"), from).await;
            });
        }
    });
    address
}

/// The names of one server, and of no file of this machine.
fn names(server: SocketAddr) -> Names {
    Names::with_files(vec![server], ["/nonexistent".into(), "/nonexistent".into()])
}

/// The names of these two files.
fn of_files(folder: &Path, resolv_conf: &str, hosts: &str) -> Names {
    let files = ["resolv.conf", "hosts"].map(|name| folder.join(name));
    for (path, text) in files.iter().zip([resolv_conf, hosts]) {
        if !text.is_empty() {
            std::fs::write(path, text).expect("written");
        }
    }
    Names::with_files(Vec::new(), files)
}

#[tokio::test]
async fn a_server_that_never_answers_for_ipv6_costs_little() {
    let names = names(server(async |_, kind| these(&["192.0.2.1"]).filter(|_| kind == RecordType::A)).await);
    let began = Instant::now();
    assert_eq!(names.addresses("a.test").await, Ok(ips(&["192.0.2.1"])));
    assert!(began.elapsed() < TIMEOUT, "{:?}", began.elapsed());
}

#[tokio::test]
async fn both_kinds_are_found_with_ipv4_first() {
    let both = async |_, kind| these(if kind == RecordType::A { &["192.0.2.1"] } else { &["2001:db8::1"] });
    assert_eq!(names(server(both).await).addresses("a.test").await, Ok(ips(&["192.0.2.1", "2001:db8::1"])));
}

#[tokio::test]
async fn an_answer_that_comes_late_is_known_the_next_time() {
    let (go, going) = watch::channel(false);
    let server = server(move |_, kind| {
        let mut going = going.clone();
        async move {
            if kind == RecordType::A {
                return these(&["192.0.2.1"]);
            }
            let _ = going.wait_for(|go| *go).await;
            these(&["2001:db8::1"])
        }
    });
    let names = names(server.await);
    assert_eq!(names.addresses("a.test").await, Ok(ips(&["192.0.2.1"])));
    go.send_replace(true);
    let all = names.late.acquire_many(u32::try_from(LATE).expect("few"));
    drop(tokio::time::timeout(Duration::from_secs(20), all).await.expect("the late answer has come"));
    assert_eq!(names.addresses("a.test").await, Ok(ips(&["192.0.2.1", "2001:db8::1"])));
}

#[tokio::test]
async fn a_name_with_ipv6_alone_is_waited_for() {
    let slow = async |_, kind| {
        if kind == RecordType::A {
            return these(&[]);
        }
        tokio::time::sleep(3 * RESOLUTION_DELAY).await;
        these(&["2001:db8::1"])
    };
    assert_eq!(names(server(slow).await).addresses("a.test").await, Ok(ips(&["2001:db8::1"])));
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_told_at_once() {
    let names = names(server(async |_, kind| (kind == RecordType::A).then_some(Err(ResponseCode::NXDomain))).await);
    let began = Instant::now();
    assert_eq!(names.addresses("a.test").await, Err(OutboundError::HostNotFound("a.test".into())));
    assert!(began.elapsed() < TIMEOUT, "{:?}", began.elapsed());
}

#[tokio::test]
async fn one_kind_alone_that_fails_does_no_harm() {
    let broken = async |name: String, kind| match (name.starts_with('v'), kind) {
        (true, RecordType::AAAA) => these(&["2001:db8::1"]),
        (false, RecordType::A) => these(&["192.0.2.1"]),
        _ => Some(Err(ResponseCode::ServFail)),
    };
    let names = names(server(broken).await);
    assert_eq!(names.addresses("a.test").await, Ok(ips(&["192.0.2.1"])));
    assert_eq!(names.addresses("v.test").await, Ok(ips(&["2001:db8::1"])));
}

#[tokio::test]
async fn hosts_counts_without_name_servers() {
    let folder = TempDir::new().expect("a folder");
    let hosts = "192.0.2.7 db.test db\n2001:db8::7 db.test\n";
    for resolv_conf in ["", "# none yet\n", "search test\nnameserver fe80::1%eth0\n"] {
        let names = of_files(folder.path(), resolv_conf, hosts);
        assert_eq!(names.addresses("DB.test").await, Ok(ips(&["192.0.2.7", "2001:db8::7"])), "{resolv_conf}");
        assert_eq!(names.addresses("db").await, Ok(ips(&["192.0.2.7"])), "{resolv_conf}");
        assert_eq!(names.addresses("localhost").await, Ok(ips(&["127.0.0.1", "::1"])), "{resolv_conf}");
        let began = Instant::now();
        let error = names.addresses("other.test").await.expect_err("nobody knows it").to_string();
        assert!(error.contains("resolv.conf") && error.contains("outbound.nameservers"), "{error}");
        assert!(began.elapsed() < TIMEOUT, "{:?}", began.elapsed());
        assert!(names.caa("other.test").await.is_err_and(|error| error.to_string().contains("outbound.nameservers")));
    }
}

#[tokio::test]
async fn hosts_comes_before_name_servers() {
    let folder = TempDir::new().expect("a folder");
    let elsewhere = server(async |_, _| these(&["192.0.2.66"])).await;
    let mut names = of_files(folder.path(), "", "192.0.2.7 db.test\n");
    names.servers = vec![elsewhere];
    assert_eq!(names.addresses("db.test").await, Ok(ips(&["192.0.2.7"])));
    assert_eq!(names.addresses("a.test").await, Ok(ips(&["192.0.2.66"])));
}

#[tokio::test]
async fn a_bare_word_is_looked_for_in_the_search_list() {
    let meant = |resolv_conf: &str, name: &str| {
        let folder = TempDir::new().expect("a folder");
        let known = of_files(folder.path(), resolv_conf, "").known().expect("read");
        let names = known.meant(Name::from_ascii(name).expect("a name"));
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let list = "nameserver 192.0.2.53\nsearch a.example b.example\n";
    assert_eq!(meant(list, "db"), ["db.a.example.", "db.b.example.", "db."]);
    assert_eq!(meant(&format!("{list}options ndots:0\n"), "db"), ["db.", "db.a.example.", "db.b.example."]);
    assert_eq!(meant(list, "db.test"), ["db.test."]);
    assert_eq!(meant(list, "localhost"), ["localhost."]);
}

#[tokio::test]
async fn a_failure_on_the_way_is_not_taken_for_no_such_name() {
    let answer = async |name: String, _| {
        Some(Err(if name == "db.a.example." { ResponseCode::ServFail } else { ResponseCode::NXDomain }))
    };
    let names = names(server(answer).await);
    let resolver = names.known().expect("read").resolver.clone();
    let search = vec![Name::from_ascii("a.example.").expect("a name")];
    let known = Known { hosts: Hosts::default(), conf: ResolvConf { search, ..ResolvConf::default() }, resolver };
    let error = names.ask(&known, "db", Name::from_ascii("db").expect("a name")).await.expect_err("nobody knows it");
    assert!(matches!(error, OutboundError::Dns(..)), "{error:?}");
}
