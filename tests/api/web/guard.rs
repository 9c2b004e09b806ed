//! Where the service does not go, whatever it is told.

use serde_json::json;

use super::dns::{Dns, Record, Reply};
use super::*;

/// A site that may be reached, standing for the internet, and on the same port
/// of another address one that may not.
fn outside_and_inside() -> (Site, Site) {
    for _ in 0..20 {
        let outside = page("text/plain", "the outside");
        let address = format!("127.0.0.2:{}", outside.port());
        // Another process may have this port there.
        if std::net::TcpListener::bind(&address).is_ok() {
            return (outside, Site::trap(&address));
        }
    }
    panic!("no port is free on both addresses");
}

#[test]
fn no_address_inside_is_reached_however_it_is_written() {
    let trap = Site::trap("127.0.0.1:0");
    let (server, client) = start(Setup::real());
    let hosts = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "127。0。0。1",
        "①②⑦.⓪.⓪.①",
        "0",
        "0.0.0.0",
        "localhost",
        "LOCALHOST.",
        "[::1]",
        "[::]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "2852039166",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[ff02::1]",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "198.18.0.1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "192.0.0.1",
        "[2001:db8::1]",
    ];
    for host in hosts {
        assert_failed(&client, &format!("http://{host}:{}/", trap.port()), "blocked_address", false);
    }
    for host in ["[::1%25lo]", "[fe80::1%25eth0]", "127.0.0.256", "1.2.3.4.5"] {
        assert_failed(&client, &format!("http://{host}:{}/", trap.port()), "invalid_url", false);
    }
    assert_eq!(trap.connections(), 0);
    let metrics = client.get("/metrics").text;
    let line = format!("agentd_outbound_requests_total{{outcome=\"blocked_address\"}} {}\n", hosts.len());
    assert!(metrics.contains(&line), "{metrics}");
    server.wait_for_log("where it did not go", |line| line["address"] == "169.254.169.254");
}

#[test]
fn the_address_that_was_checked_is_the_one_that_is_connected_to() {
    let (outside, inside) = outside_and_inside();
    // The first answer may be reached; from then on the name leads inside.
    let dns =
        Dns::start(|_, count| Reply::Records(vec![Record::A(if count == 0 { "127.0.0.1" } else { "127.0.0.2" })]));
    let (_server, client) = start(reaching(&[&outside]).env("AGENTD_OUTBOUND_NAMESERVERS", dns.address()));
    let url = outside.url_of("rebinds.test", "/");
    assert_eq!(fetched(&client, &url)["content"], "the outside");
    assert_eq!(dns.asked("rebinds.test"), 1, "a name is looked up once");
    assert_failed(&client, &url, "blocked_address", false);
    assert_eq!((outside.connections(), inside.connections()), (1, 0));
}

#[test]
fn a_name_that_changes_between_robots_and_page_or_on_a_redirect_is_refused() {
    let (outside, inside) = outside_and_inside();
    let rebinds = |_: &str, count| Reply::Records(vec![Record::A(if count == 0 { "127.0.0.1" } else { "127.0.0.2" })]);
    let dns = Dns::start(rebinds);
    let setup = reaching(&[&outside]).env("AGENTD_OUTBOUND_NAMESERVERS", dns.address());
    let (_server, client) = start(setup.without_env("AGENTD_WEB_ROBOTS"));
    assert_failed(&client, &outside.url_of("rebinds.test", "/"), "blocked_address", false);
    assert!(outside.requests().iter().all(|request| request.starts_with("GET /robots.txt ")));

    let redirects = Site::start(|head, wire| {
        let host = head.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
        reply(wire, "302 Found", &[("Location", &format!("http://{host}/next"))], b"");
    });
    let (_server, client) = start(reaching(&[&redirects]).env("AGENTD_OUTBOUND_NAMESERVERS", dns.address()));
    assert_failed(&client, &redirects.url_of("moves.test", "/"), "blocked_address", false);
    assert_eq!((redirects.connections(), inside.connections()), (1, 0));
}

#[test]
fn one_address_inside_makes_the_whole_name_refused() {
    let (outside, inside) = outside_and_inside();
    for records in [
        vec![Record::A("127.0.0.1"), Record::A("127.0.0.2")],
        vec![Record::A("127.0.0.2"), Record::A("127.0.0.1")],
        vec![Record::A("127.0.0.1"), Record::Aaaa("::1")],
        vec![Record::A("127.0.0.1"), Record::Aaaa("::ffff:127.0.0.1")],
        vec![Record::Cname("a.test"), Record::Cname("b.test"), Record::A("127.0.0.2")],
        vec![Record::Cname("metadata.test"), Record::A("169.254.169.254")],
    ] {
        let dns = Dns::always(records.clone());
        let (_server, client) = start(reaching(&[&outside]).env("AGENTD_OUTBOUND_NAMESERVERS", dns.address()));
        let job = fetch(&client, &outside.url_of("mixed.test", "/"));
        assert_eq!(job["error"]["code"], "blocked_address", "{records:?}");
        let message = job["error"]["message"].as_str().expect("a message");
        assert!(!message.contains("127.0.0") && !message.contains("169.254"), "what is inside is not told: {message}");
    }
    assert_eq!((outside.connections(), inside.connections()), (0, 0));
}

#[test]
fn a_name_that_is_written_down_may_lead_inside_and_no_other() {
    let site = page("text/plain", "the wiki");
    let dns = Dns::start(|name, _| match name {
        "wiki.test" | "other.test" => Reply::Records(vec![Record::A("127.0.0.1")]),
        "metadata.test" => Reply::Records(vec![Record::A("169.254.169.254")]),
        "broken.test" => Reply::Failure,
        _ => Reply::NoSuchName,
    });
    let allowed = format!("wiki.test:{port}, metadata.test", port = site.port());
    let setup = reaching(&[]).env("AGENTD_OUTBOUND_ALLOW", &allowed);
    let (_server, client) = start(setup.env("AGENTD_OUTBOUND_NAMESERVERS", dns.address()));
    assert_eq!(fetched(&client, &site.url_of("WIKI.test.", "/"))["content"], "the wiki");
    assert_failed(&client, &site.url_of("other.test", "/"), "blocked_address", false);
    assert_failed(&client, "http://wiki.test:1/", "blocked_address", false);
    assert_failed(&client, &site.url("/"), "blocked_address", false);
    assert_failed(&client, "http://metadata.test/latest/meta-data/", "blocked_address", false);
    assert_failed(&client, "http://no-such-name.test/", "host_not_found", false);
    assert_failed(&client, "http://broken.test/", "dns_failed", true);
}

#[test]
fn redirects_lead_nowhere_that_one_may_not_go_directly() {
    let trap = Site::trap("127.0.0.1:0");
    let target = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let to = target.clone();
    let site = Site::start(move |_, wire| {
        let location = to.lock().expect("a target").clone();
        reply(wire, "302 Found", &[("Location", &location)], b"");
    });
    let (_server, client) = start(reaching(&[&site]));
    for (location, code) in [
        ("http://169.254.169.254/latest/meta-data/".to_owned(), "blocked_address"),
        ("//169.254.169.254/".to_owned(), "blocked_address"),
        (trap.url("/"), "blocked_address"),
        (format!("http://2130706433:{}/", trap.port()), "blocked_address"),
        (format!("https://[::ffff:127.0.0.1]:{}/", trap.port()), "blocked_address"),
        ("file:///etc/passwd".to_owned(), "unsupported_scheme"),
        ("gopher://example.com/".to_owned(), "unsupported_scheme"),
        ("javascript:alert(1)".to_owned(), "unsupported_scheme"),
        ("http://user:word@example.com/".to_owned(), "invalid_url"),
        ("http://".to_owned(), "invalid_url"),
    ] {
        target.lock().expect("a target").clone_from(&location);
        assert_failed(&client, &site.url("/"), code, false);
    }
    assert_eq!(trap.connections(), 0);
}

#[test]
fn twenty_redirects_are_followed_and_the_twenty_first_is_not() {
    let site = Site::start(|head, wire| {
        let number: usize = head.split(['/', ' ']).nth(2).and_then(|text| text.parse().ok()).expect("a number");
        match number {
            0 => reply(wire, "200 OK", &[("Content-Type", "text/plain")], b"the end"),
            more => reply(wire, "301 Moved", &[("Location", &format!("/{}", more - 1))], b"not here"),
        }
    });
    let (_server, client) = start(reaching(&[&site]));
    let result = fetched(&client, &site.url("/20"));
    assert_eq!((&result["content"], &result["final_url"]), (&json!("the end"), &json!(site.url("/0"))));
    assert_failed(&client, &site.url("/21"), "too_many_redirects", false);
    assert_eq!(site.connections(), 21 + 21);
}

#[test]
fn proxies_of_the_environment_are_not_used() {
    let (proxy, site) = (Site::trap("127.0.0.1:0"), page("text/plain", "direct"));
    let mut setup = reaching(&[&site]);
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        setup = setup.env(name, &proxy.url(""));
    }
    let (_server, client) = start(setup);
    assert_eq!(fetched(&client, &site.url("/"))["content"], "direct");
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn an_allow_list_that_cannot_be_read_keeps_the_service_from_starting() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (code, said) = Setup::real().env("AGENTD_OUTBOUND_ALLOW", "10.0.0.0/8, *.internal").refused(folder.path());
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("AGENTD_OUTBOUND_ALLOW: outbound.allow must be"), "{said}");
}
