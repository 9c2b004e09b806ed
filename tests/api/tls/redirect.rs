//! Plain HTTP beside HTTPS.

use crate::support::raw::Raw;
use crate::support::server::run;
use crate::support::{Server, Setup};

fn start() -> Server {
    Setup::real().https().http_port().start()
}

fn ask(server: &Server, request: &str) -> String {
    let mut raw = Raw::connect(&server.http_address());
    raw.send(request);
    raw.read_to_end()
}

/// Status and `Location` of the answer.
fn sent(server: &Server, request: &str) -> (u16, Option<String>) {
    let answer = ask(server, request);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
    (status, location.map(str::to_owned))
}

#[test]
fn everything_is_sent_on_to_https() {
    let server = start();
    let port = server.address().rsplit_once(':').expect("a port").1.to_owned();
    for (host, path, location) in [
        ("agents.example.com", "/", format!("https://agents.example.com:{port}/")),
        ("agents.example.com:80", "/v1/jobs?limit=5", format!("https://agents.example.com:{port}/v1/jobs?limit=5")),
        ("[::1]:80", "/health", format!("https://[::1]:{port}/health")),
        ("127.0.0.1", "//evil.example/", format!("https://127.0.0.1:{port}//evil.example/")),
    ] {
        for method in ["GET", "POST", "DELETE", "NONSENSE"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(sent(&server, &request), (308, Some(location.clone())), "{request}");
        }
    }
    // What is asked for in full is sent to the host that the header names.
    let full = "GET http://other.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n";
    assert_eq!(sent(&server, full), (308, Some(format!("https://a.example:{port}/x?y"))));
}

#[test]
fn a_browser_that_comes_by_plain_http_ends_at_the_documents() {
    let server = start();
    let request = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\n\r\n";
    let (status, location) = sent(&server, request);
    let over_tls = format!("https://{}/", server.address());
    assert_eq!((status, location), (308, Some(over_tls)));
    for method in ["GET", "HEAD"] {
        let answer = server.anyone().send(method, "/", &[("Accept", "text/html")], None);
        assert_eq!((answer.status, answer.header("location")), (303, Some("/docs")), "{method}");
    }
    assert_eq!(server.anyone().get("/").expect(200)["docs"], "/docs");
}

#[test]
fn who_does_not_say_for_which_host_is_refused() {
    let server = start();
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: evil.example/path\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: evil.example\\\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example:x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \u{fc}.example\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ] {
        let (status, location) = sent(&server, head);
        assert_eq!((status, location), (400, None), "{head}");
    }
    for head in ["nonsense\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n", "\u{16}\u{3}\u{1}\0\u{5}hello"] {
        let answer = ask(&server, head);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
    }
    assert_eq!(sent(&server, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").0, 308);
}

#[test]
fn nothing_of_the_service_is_served_there() {
    let server = start();
    for path in ["/health", "/v1/jobs", "/admin/tenants", "/metrics", "/openapi.json"] {
        assert_eq!(sent(&server, &format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n")).0, 308, "{path}");
    }
    let unknown = "GET /.well-known/acme-challenge/a-token HTTP/1.1\r\nHost: a.example\r\n\r\n";
    assert_eq!(sent(&server, unknown), (404, None));
    let post = "POST /.well-known/acme-challenge/a-token HTTP/1.1\r\nHost: a.example\r\n\r\n";
    assert_eq!(sent(&server, post), (405, None));
}

#[test]
fn a_taken_port_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let folder = tempfile::TempDir::new().expect("a folder");
    let setup = Setup::real().https().env("AGENTD_SERVER_HTTP_LISTEN", &address);
    let (code, said) = setup.refused(&folder.path().join("data"));
    assert_eq!(code, 69, "{said}");
    assert!(said.contains(&address) && said.contains("choose another with server.http_listen"), "{said}");
    assert!(!folder.path().join("data").exists(), "the data is not touched before the port is had");
}

#[test]
fn without_https_there_is_nothing_to_send_on_to() {
    let setup = Setup::real().http_port();
    let (code, said) = run(&mut setup.command(&["check"]));
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("server.http_listen") && said.contains("tls.mode"), "{said}");
}
