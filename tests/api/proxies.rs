//! Where clients are, behind proxies that are trusted and proxies that are not.

use serde_json::Value;

use crate::support::{Server, Setup};

fn behind(proxies: &str) -> Server {
    Setup::real().env("AGENTD_SERVER_TRUSTED_PROXIES", proxies).start()
}

/// The address that the log has for a request with these headers.
#[track_caller]
fn logged(server: &Server, id: &str, headers: &[(&str, &str)]) -> Value {
    let headers: Vec<_> = headers.iter().copied().chain([("X-Request-Id", id)]).collect();
    server.anyone().send("GET", "/version", &headers, None).expect(200);
    server.wait_for_log("that request", |line| line["request_id"] == id)["address"].clone()
}

#[test]
fn what_an_untrusted_client_says_of_its_address_does_not_count() {
    let server = Server::real();
    assert_eq!(logged(&server, "plain", &[]), "127.0.0.1");
    assert_eq!(logged(&server, "usual", &[("X-Forwarded-For", "198.51.100.7")]), "127.0.0.1");
    assert_eq!(logged(&server, "standard", &[("Forwarded", "for=198.51.100.7")]), "127.0.0.1");
}

#[test]
fn trusted_proxies_are_believed_hop_by_hop() {
    let server = behind("127.0.0.0/8, 10.0.0.0/8");
    for (id, name, value, found) in [
        ("a", "X-Forwarded-For", "198.51.100.7", "198.51.100.7"),
        ("b", "X-Forwarded-For", "203.0.113.9, 198.51.100.7, 10.1.2.3", "198.51.100.7"),
        ("c", "X-Forwarded-For", "198.51.100.7, garbage", "127.0.0.1"),
        ("d", "Forwarded", "for=203.0.113.9, for=\"[2001:db8::7]:99\";proto=https", "2001:db8::7"),
        ("e", "Forwarded", "for=198.51.100.7, for=unknown", "127.0.0.1"),
    ] {
        assert_eq!(logged(&server, id, &[(name, value)]), found, "{name}: {value}");
    }
    let both = [("Forwarded", "for=203.0.113.9"), ("X-Forwarded-For", "198.51.100.7")];
    assert_eq!(logged(&server, "both", &both), "0.0.0.0", "the proxy wrote only one of them, and nobody passes as it");
}

#[test]
fn wrong_admin_keys_are_counted_by_the_clients_address() {
    let server = behind("127.0.0.1");
    let wrong = |from: &str| {
        let headers = [("X-Admin-Key", "a wrong one"), ("X-Forwarded-For", from)];
        server.anyone().send("GET", "/admin/tenants", &headers, None).status
    };
    assert!((0..10).all(|_| wrong("198.51.100.7") == 401));
    assert_eq!((wrong("198.51.100.7"), wrong("198.51.100.8")), (429, 401));
}

#[test]
fn metrics_are_not_for_whom_a_proxy_on_this_machine_brings() {
    for server in [Server::real(), behind("127.0.0.1")] {
        let anyone = server.anyone();
        anyone.get("/metrics").expect_text(200);
        for header in ["Forwarded", "X-Forwarded-For"] {
            for from in ["198.51.100.7", "127.0.0.1"] {
                anyone.send("GET", "/metrics", &[(header, from)], None).problem(401, "unauthorized");
            }
        }
    }
}

#[test]
fn the_list_of_proxies_is_checked() {
    let folder = tempfile::TempDir::new().expect("a folder");
    for wrong in ["localhost", "10.0.0.1/8", "*"] {
        let (code, said) = Setup::real().env("AGENTD_SERVER_TRUSTED_PROXIES", wrong).refused(folder.path());
        assert!(code == 78 && said.contains("server.trusted_proxies must be"), "{said}");
    }
    let file = folder.path().join("agentd.toml");
    std::fs::write(&file, "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n").expect("written");
    let arguments = ["check", "--show", "--config", &file.to_string_lossy()];
    let (code, said) = crate::support::server::run(&mut Setup::real().command(&arguments));
    assert!(code == 0 && said.contains("10.0.0.0/8, ::1"), "{said}");
}
