//! `agentd doctor` against name servers and ACME directories of the tests' own,
//! good ones and bad ones.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use crate::support::cli::{Said, say};
use crate::support::tls::Made;
use crate::support::{Server, Setup};
use crate::web::dns::{Dns, Record, Reply};
use crate::web::site::{Site, reply};
use crate::web::tls;

/// A machine to look at: names, a directory, and a configuration.
struct Machine {
    folder: TempDir,
    setup: Setup,
}

/// What a directory answers and how far off its clock is.
struct Directory {
    status: &'static str,
    body: String,
    clock: i64,
}

impl Default for Directory {
    fn default() -> Self {
        let body = directory(&json!({ "caaIdentities": ["ca.test"] }));
        Self { status: "200 OK", body, clock: 0 }
    }
}

fn directory(meta: &Value) -> String {
    let url = |what: &str| format!("https://ca.test/{what}");
    let [nonce, account, order] = ["nonce", "account", "order"].map(url);
    json!({ "newNonce": nonce, "newAccount": account, "newOrder": order, "meta": meta }).to_string()
}

/// A name server where `agents.test` is this machine, and only `ca.test` may
/// give certificates below `test`.
fn names() -> Dns {
    Dns::start(|name, _| match name {
        "agents.test" => Reply::Records(vec![Record::A("127.0.0.1")]),
        "elsewhere.test" => Reply::Records(vec![Record::A("127.0.0.1"), Record::Aaaa("2001:db8::7")]),
        "foreign.test" => Reply::Records(vec![Record::A("127.0.0.1"), Record::Caa("issue", "other.test")]),
        "alias.test" => Reply::Records(vec![Record::Cname("agents.test"), Record::A("127.0.0.1")]),
        "broken.test" => Reply::Failure,
        "test" => Reply::Records(vec![Record::Caa("issue", "ca.test")]),
        _ => Reply::NoSuchName,
    })
}

impl Machine {
    fn new(domains: &str, of: Directory) -> Self {
        let folder = TempDir::new().expect("a folder");
        let authority = tls::authority();
        let file = folder.path().join("authority.pem");
        std::fs::write(&file, authority.pem()).expect("written");
        let config = tls::config(&tls::params("127.0.0.1"), Some(&authority));
        let site = Site::tls(config, move |_, wire| {
            let now = Timestamp::now().saturating_add(SignedDuration::from_secs(of.clock)).expect("a time");
            let date = now.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            reply(wire, of.status, &[("Date", &date), ("Content-Type", "application/json")], of.body.as_bytes());
        });
        let setup = Setup::real()
            .env("AGENTD_TLS_MODE", "acme")
            .env("AGENTD_ACME_DOMAINS", domains)
            .env("AGENTD_ACME_DIRECTORIES", &site.url("/dir"))
            .env("AGENTD_ACME_CA_FILE", &file.to_string_lossy())
            .env("AGENTD_OUTBOUND_NAMESERVERS", names().address());
        Self { folder, setup }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.setup = self.setup.env(name, value);
        self
    }

    fn examine(&self, arguments: &[&str]) -> Said {
        let data = self.folder.path().join("data").to_string_lossy().into_owned();
        say(&mut self.setup.command(&[&["doctor", "--data-dir", &data], arguments].concat()), "")
    }
}

/// The line on one thing, with what to do about it.
#[track_caller]
fn line<'a>(said: &'a Said, state: &str, what: &str) -> (&'a str, &'a str) {
    let mut lines = said.out.lines();
    let line = lines.find(|line| line.starts_with(state) && line.contains(what));
    let line = line.unwrap_or_else(|| panic!("no line {state} on {what}:\n{}{}", said.out, said.err));
    (line, lines.next().unwrap_or_default().trim())
}

#[test]
fn where_everything_is_there_nothing_fails() {
    let said = Machine::new("agents.test, alias.test", Directory::default()).examine(&[]);
    for what in ["configuration", "directory https://127.0.0.1", "clock", "data folder", "disk space", "open files"] {
        line(&said, "ok", what);
    }
    assert!(line(&said, "ok", "DNS agents.test").0.ends_with("leads to this machine: 127.0.0.1"));
    assert!(line(&said, "ok", "CAA agents.test").0.ends_with("test allows ca.test"));
    line(&said, "ok", "CAA alias.test");
    assert!(line(&said, "warn", "service").1.contains("systemctl start agentd"));
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("\n0 faults, "), "{said:?}");
}

#[test]
fn a_name_that_does_not_lead_here_is_told_with_what_to_do() {
    let said = Machine::new("none.test, broken.test, elsewhere.test", Directory::default()).examine(&[]);
    let (missing, advice) = line(&said, "FAIL", "DNS none.test");
    assert!(missing.ends_with("none.test has no address") && advice.contains("record"), "{missing} {advice}");
    line(&said, "FAIL", "DNS broken.test");
    let (elsewhere, advice) = line(&said, "warn", "DNS elsewhere.test");
    assert!(elsewhere.contains("2001:db8::7") && !elsewhere.contains("127.0.0.1"), "{elsewhere}");
    assert!(advice.contains("correct the record"), "{advice}");
    assert_eq!(said.code, 1);
    // Whoever proves by records need not be reached.
    let by_record = Machine::new("none.test", Directory::default())
        .env("AGENTD_ACME_CHALLENGES", "dns-01")
        .env("AGENTD_ACME_DNS_HOOK", "/bin/true")
        .examine(&[]);
    line(&by_record, "warn", "DNS none.test");
    assert_eq!(by_record.code, 0, "{by_record:?}");
}

#[test]
fn a_zone_that_names_another_authority_is_told() {
    let said = Machine::new("foreign.test, broken.test", Directory::default()).examine(&[]);
    let (why, advice) = line(&said, "FAIL", "CAA foreign.test");
    assert!(why.contains(r#"only these may: issue "other.test""#), "{why}");
    assert!(advice.ends_with(r#"foreign.test. CAA 0 issue "ca.test""#), "{advice}");
    assert!(line(&said, "FAIL", "CAA broken.test").1.contains("name servers"), "{said:?}");
    let wild = Machine::new("*.foreign.test", Directory::default())
        .env("AGENTD_ACME_CHALLENGES", "dns-01")
        .env("AGENTD_ACME_DNS_HOOK", "/bin/true")
        .examine(&[]);
    assert!(line(&wild, "FAIL", "CAA *.foreign.test").1.ends_with(r#"issuewild "ca.test""#), "{wild:?}");
}

#[test]
fn a_clock_that_is_off_is_told() {
    for (clock, way) in [(3600, "behind"), (-3600, "ahead")] {
        let said = Machine::new("agents.test", Directory { clock, ..Directory::default() }).examine(&[]);
        let (what, advice) = line(&said, "FAIL", "clock");
        assert!(what.contains(way) && advice.contains("timedatectl"), "{what} {advice}");
    }
}

#[test]
fn what_a_directory_wants_and_does_not_get_is_told() {
    let answering = |status, body: &str| Directory { status, body: body.into(), clock: 0 };
    let meta = json!({ "externalAccountRequired": true, "profiles": { "classic": "x" } });
    let said = Machine::new("agents.test", answering("200 OK", &directory(&meta))).examine(&[]);
    assert!(line(&said, "FAIL", "directory").1.contains("acme.eab_kid"), "{said:?}");
    let profile =
        Machine::new("agents.test", answering("200 OK", &directory(&json!({ "profiles": { "classic": "" } }))))
            .env("AGENTD_ACME_PROFILE", "short")
            .examine(&[]);
    assert!(line(&profile, "warn", "directory").0.contains("it offers: classic"), "{profile:?}");
    for (status, body) in [("200 OK", "<html>"), ("200 OK", "{}"), ("404 Not Found", "{}")] {
        let said = Machine::new("agents.test", answering(status, body)).examine(&[]);
        assert!(line(&said, "FAIL", "directory").1.contains("acme.directories"), "{said:?}");
    }
    let untrusted = Machine::new("agents.test", Directory::default()).env("AGENTD_ACME_CA_FILE", "").examine(&[]);
    assert!(line(&untrusted, "FAIL", "directory").1.contains("acme.ca_file"), "{untrusted:?}");
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let down = Machine::new("agents.test", Directory::default())
        .env("AGENTD_ACME_DIRECTORIES", &format!("https://{closed}/dir"))
        .examine(&[]);
    assert!(line(&down, "FAIL", "directory").1.contains("firewall"), "{down:?}");
    line(&down, "warn", "clock");
}

#[test]
fn it_ends_although_nobody_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let deaf = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let said = Machine::new("agents.test", Directory::default())
        .env("AGENTD_ACME_DIRECTORIES", &format!("https://{}/dir", silent.local_addr().expect("an address")))
        .env("AGENTD_OUTBOUND_NAMESERVERS", &deaf.local_addr().expect("an address").to_string())
        .examine(&[]);
    assert_eq!(said.code, 1, "{said:?}");
    line(&said, "FAIL", "directory");
    line(&said, "FAIL", "DNS agents.test");
    line(&said, "FAIL", "CAA");
}

#[test]
fn who_has_a_port_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let said = Machine::new("agents.test", Directory::default()).env("AGENTD_SERVER_LISTEN", &address).examine(&[]);
    let what = format!("port {}", taken.local_addr().expect("an address").port());
    // Who it is can be seen by root only.
    assert!(said.out.lines().any(|line| !line.starts_with("ok") && line.contains(&what)), "{said:?}");
    let said = Machine::new("agents.test", Directory::default()).env("AGENTD_ACME_CHALLENGES", "http-01").examine(&[]);
    assert!(line(&said, "FAIL", "http-01").1.contains("server.http_listen"), "{said:?}");
}

#[test]
fn a_wrong_configuration_is_told_with_its_place() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("agentd.toml");
    std::fs::write(&file, "[tls]\nmode = \"acme\"\n[acme]\ndomain = [\"a.test\"]\n").expect("written");
    let file = file.to_string_lossy();
    let said = say(&mut Setup::real().command(&["doctor", "--config", &file]), "");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(line(&said, "FAIL", "unknown key").0.contains(&format!("{file}:4:1")), "{said:?}");
    assert!(said.out.contains("needs acme.domains"), "{said:?}");
}

#[test]
fn a_service_that_runs_is_seen_and_scripts_get_json() {
    let server = Server::real();
    let port = server.address().rsplit_once(':').expect("a port").1.to_owned();
    let mut command = Setup::real().env("AGENTD_SERVER_LISTEN", &server.address()).command(&["doctor", "--json"]);
    let said = say(command.arg("--data-dir").arg(server.data()), "").json();
    assert_eq!(said["ok"], true, "{said}");
    let findings = said["findings"].as_array().expect("a list");
    let find = |what: &str| findings.iter().find(|finding| finding["what"] == what).expect(what);
    assert!(find("service")["detail"].as_str().expect("a text").contains(&server.pid().to_string()));
    assert_eq!(find(&format!("port {port}"))["detail"], "the service listens");
    assert_eq!((&find("certificate")["state"], find("certificate").get("advice")), (&json!("ok"), None));
}

/// It looks at the service that runs, not only at what the configuration says.
#[test]
fn a_service_that_listens_elsewhere_is_no_warning() {
    let server = Server::real();
    let port = server.address().rsplit_once(':').expect("a port").1.to_owned();
    let said = server.agentd(&["doctor"]);
    assert!(line(&said, "ok", "server.listen").0.contains("as it was started; the configuration says 127.0.0.1:8000"));
    assert!(line(&said, "ok", &format!("port {port}")).0.contains("the service listens"), "{said:?}");
    assert!(!said.out.contains("port 8000"), "{said:?}");
    assert_eq!(said.code, 0, "{said:?}");
    let status = server.admin().get("/admin/status").expect(200);
    assert_eq!(status["listen"], server.address());
}

#[test]
fn a_certificate_from_files_is_looked_at() {
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let examine = || {
        let setup = Setup::real().env("AGENTD_TLS_MODE", "files").env("AGENTD_TLS_CERT_FILE", &path("crt"));
        say(&mut setup.env("AGENTD_TLS_KEY_FILE", &path("key")).command(&["doctor", "--data-dir", &path("data")]), "")
    };
    let missing = examine();
    assert!(line(&missing, "FAIL", "certificate").0.contains("cannot be read"), "{missing:?}");
    for (days, state) in [(3, "warn"), (90, "ok")] {
        let until = SystemTime::now() + Duration::from_secs(days * 86_400);
        let made = Made::with(&["a.test"], |params| params.not_after = until.into());
        made.write(Path::new(&path("crt")), Path::new(&path("key")));
        line(&examine(), state, "certificate");
    }
}

#[test]
fn a_service_that_hangs_is_told() {
    let server = Server::real();
    server.signal(rustix::process::Signal::STOP);
    let said = server.agentd(&["doctor"]);
    server.signal(rustix::process::Signal::CONT);
    assert!(line(&said, "FAIL", "service").0.contains("does not answer"), "{said:?}");
    assert_eq!(said.code, 1);
    server.anyone().get("/health").expect(200);
}

/// A port that something listens on, and a folder whose control socket the
/// caller makes; what doctor says.
fn with_socket(make: impl FnOnce(&Path)) -> Said {
    let folder = TempDir::new().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    make(&folder.path().join("control.sock"));
    let address = taken.local_addr().expect("an address").to_string();
    let setup = Setup::real().env("AGENTD_SERVER_LISTEN", &address);
    let data = folder.path().to_string_lossy().into_owned();
    say(&mut setup.command(&["doctor", "--data-dir", &data]), "")
}

#[test]
fn a_service_that_takes_no_connection_hangs_and_is_not_away() {
    let mut held = Vec::new();
    let said = with_socket(|path| {
        let address = SockAddr::unix(path).expect("an address");
        let socket = || Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        let listener = socket();
        listener.bind(&address).expect("bound");
        listener.listen(1).expect("it listens");
        held.push(listener);
        // Until the kernel takes no more.
        loop {
            let caller = socket();
            caller.set_nonblocking(true).expect("set");
            let full = caller.connect(&address).is_err();
            held.push(caller);
            if full {
                break;
            }
        }
    });
    assert!(line(&said, "FAIL", "service").0.contains("takes no connection"), "{said:?}");
    assert!(!said.out.contains("does not run"), "{said:?}");
    assert!(line(&said, "warn", "port").0.contains("cannot be seen whether it is the service"), "{said:?}");
}

#[test]
fn a_service_that_may_not_be_looked_at_is_not_away() {
    // What is no socket cannot be connected to, whoever asks.
    let said = with_socket(|path| std::os::unix::fs::symlink(path, path).expect("a link to itself"));
    assert!(line(&said, "warn", "service").0.contains("whether it runs cannot be seen"), "{said:?}");
    assert!(!said.out.contains("does not run"), "{said:?}");
    let away = with_socket(|_| {});
    assert!(line(&away, "warn", "service").0.contains("does not run"), "{away:?}");
}
