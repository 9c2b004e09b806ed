//! What a client gets that does as it should.

use rustls::ProtocolVersion;
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::support::server::run;
use crate::support::tls::{Dial, Made};
use crate::support::{Server, Setup};

use super::{HEALTH, LAST, Pair, connect, dial, https};

#[test]
fn all_that_is_served_is_served_over_https() {
    let server = https();
    let client = server.client();
    assert_eq!(client.run(&json!({ "tool": "echo", "input": 7 }))["result"], 7);
    let (code, said) =
        run(&mut Setup::real().command(&["tenant", "list", "--data-dir", &server.data().to_string_lossy()]));
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_certificate_is_made_at_the_first_start_and_kept() {
    let mut server = https();
    let file = server.data().join("tls/self-signed.crt");
    let trusting = |server: &Server| Dial::trusting(&server.address(), &file);
    let first = trusting(&server).connect().expect("what was made is shown").serial();
    assert_eq!(trusting(&server).name("localhost").connect().expect("for this name too").serial(), first);
    assert!(trusting(&server).name("elsewhere.example").connect().is_err());
    for (path, mode) in [("tls", 0o700), ("tls/self-signed.key", 0o600), ("tls/self-signed.crt", 0o600)] {
        let found = std::fs::metadata(server.data().join(path)).expect("it is there").permissions().mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }
    server.restart();
    assert_eq!(trusting(&server).connect().expect("the same again").serial(), first);
    // Unreadable, or of another pair: a new one is made.
    for spoilt in ["nonsense".to_owned(), Made::of(&["localhost"]).certificate] {
        server.stop();
        std::fs::write(&file, spoilt).expect("written");
        server.start_again(|setup| setup);
        assert_ne!(trusting(&server).connect().expect("a new one").serial(), first);
    }
}

#[test]
fn it_is_made_anew_before_it_expires() {
    let mut server = Setup::testbed().https().start();
    let first = connect(&server).serial();
    server.stop();
    server.set_clock(360 * 86_400);
    server.start_again(|setup| setup);
    assert_eq!(connect(&server).serial(), first);
    server.stop();
    server.set_clock(370 * 86_400);
    server.start_again(|setup| setup);
    assert_ne!(connect(&server).serial(), first);
}

#[test]
fn versions_and_protocols_are_agreed_upon() {
    let server = https();
    let new = connect(&server);
    assert_eq!((new.version(), new.protocol()), (ProtocolVersion::TLSv1_3, None));
    let old = dial(&server).version(&rustls::version::TLS12).alpn(&["http/1.1"]).connect().expect("TLS 1.2");
    assert_eq!((old.version(), old.protocol().as_deref()), (ProtocolVersion::TLSv1_2, Some("http/1.1")));
    // HTTP/2 is not offered unless it is asked for.
    let both = dial(&server).alpn(&["h2", "http/1.1"]).connect().expect("a connection");
    assert_eq!(both.protocol().as_deref(), Some("http/1.1"));
    assert!(dial(&server).alpn(&["h2"]).connect().is_err());
    let server = Setup::real().https().env("AGENTD_TLS_HTTP2", "true").start();
    let both = dial(&server).alpn(&["h2", "http/1.1"]).connect().expect("a connection");
    assert_eq!(both.protocol().as_deref(), Some("h2"));
    let plain = dial(&server).alpn(&["http/1.1"]).connect().expect("a connection");
    assert_eq!(plain.protocol().as_deref(), Some("http/1.1"));
}

#[test]
fn sessions_are_resumed() {
    let server = https();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let dial = dial(&server).version(version).resuming();
        let ask = || {
            let mut connection = dial.connect().expect("a connection");
            connection.exchange(HEALTH).expect("an answer");
            connection.resumed()
        };
        assert!(!ask());
        assert!(ask() && ask(), "{version:?}");
    }
}

/// The connection of an ACME server sees a challenge, or nothing.
#[test]
fn acme_tls_never_reaches_http() {
    let server = https();
    assert!(dial(&server).name("localhost").alpn(&["acme-tls/1"]).connect().is_err(), "there is no challenge");
    let mut both = dial(&server).alpn(&["acme-tls/1", "http/1.1"]).connect().expect("an ordinary client");
    assert_eq!(both.protocol().as_deref(), Some("http/1.1"));
    assert!(both.exchange(HEALTH).is_some());
}

#[test]
fn browsers_are_told_to_come_back_by_https_where_they_can_trust_it() {
    let header = |server: &Server| {
        let mut connection = connect(server);
        let (head, _) = connection.exchange(HEALTH).expect("an answer");
        head.lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("strict-transport-security: ").map(str::to_owned))
    };
    assert_eq!(header(&https()), None, "nobody trusts it");
    let pair = Pair::of(&Made::of(&["localhost"]));
    assert_eq!(header(&pair.setup().start()).as_deref(), Some("max-age=31536000"));
    assert_eq!(header(&pair.setup().env("AGENTD_TLS_HSTS", "1d").start()).as_deref(), Some("max-age=86400"));
    let off = pair.setup().env("AGENTD_TLS_HSTS", "off").start();
    assert_eq!(header(&off), None);
    // Nor by plain HTTP, where it must not be said.
    let plain = Server::real();
    assert_eq!(plain.anyone().get("/health").header("strict-transport-security"), None);
}

#[test]
fn a_connection_is_closed_when_the_client_wants_it() {
    let server = https();
    let mut connection = connect(&server);
    assert!(connection.exchange(HEALTH).is_some());
    connection.send(LAST);
    assert!(connection.read_to_end().starts_with("HTTP/1.1 200 "));
}

/// What `openssl s_client` says when it offers these protocols.
fn s_client(server: &Server, alpn: Option<&str>) -> (bool, String) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &server.address()]).stdin(Stdio::null());
    if let Some(alpn) = alpn {
        command.args(["-alpn", alpn]);
    }
    let output = command.output().expect("openssl is needed for this test: apt install openssl");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// RFC 7301: a protocol of ours is agreed upon, none is needed, and who knows
/// none of ours is told so.
#[test]
fn old_and_unknown_protocols_beside_known_ones_are_served() {
    let server = https();
    for (offered, agreed) in [
        (Some("http/1.0"), "ALPN protocol: http/1.0"),
        (Some("http/1.1"), "ALPN protocol: http/1.1"),
        (Some("http/1.0,http/1.1"), "ALPN protocol: http/1.1"),
        (Some("spdy/3,http/1.1"), "ALPN protocol: http/1.1"),
        (Some("h2,http/1.0"), "ALPN protocol: http/1.0"),
        (Some("acme-tls/1,http/1.0"), "ALPN protocol: http/1.0"),
        (None, "No ALPN negotiated"),
    ] {
        let (done, said) = s_client(&server, offered);
        assert!(done && said.contains(agreed), "{offered:?}: {said}");
    }
    for offered in ["h2", "spdy/3", "unknown"] {
        let (done, said) = s_client(&server, Some(offered));
        assert!(!done && said.contains("no application protocol"), "{offered}: {said}");
    }
    let mut old = dial(&server).alpn(&["http/1.0"]).connect().expect("a connection");
    old.send("GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let answer = old.read_to_end();
    assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
}
