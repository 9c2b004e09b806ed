//! Answers that are too large, too slow or no answers at all.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::json;

use super::site::raw;
use super::*;
use crate::support::eventually;

const PAGE_BYTES: usize = 2 << 20;

/// A site that sends pieces until nobody takes them, and how much it sent.
fn endless(head: &'static str, piece: &'static [u8]) -> (Site, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let site = Site::start(move |_, wire| {
        raw(wire, head.as_bytes());
        while wire.write_all(piece).is_ok() {
            count.fetch_add(piece.len(), Ordering::SeqCst);
        }
    });
    (site, sent)
}

/// Memory that the process had at most, in bytes.
fn peak(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("a line");
    line.split_whitespace().nth(1).and_then(|number| number.parse::<usize>().ok()).expect("a number") << 10
}

#[test]
fn a_page_of_a_gigabyte_is_left_at_the_limit() {
    static PIECE: [u8; 1 << 16] = [b'x'; 1 << 16];
    let (announced, _) =
        endless("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1073741824\r\n\r\n", &PIECE);
    let (unannounced, sent) = endless("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", &PIECE);
    let (server, client) = start(reaching(&[&announced, &unannounced]));
    let before = peak(&server);
    assert_failed(&client, &announced.url("/"), "response_too_large", false);
    assert_failed(&client, &unannounced.url("/"), "response_too_large", false);
    // What is on the way when the connection is closed, is in its buffers.
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    let grown = peak(&server) - before;
    assert!(grown < 32 << 20, "memory grew by {grown} bytes");
}

#[test]
fn a_gzip_bomb_of_ten_gigabytes_is_left_at_the_limit() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![b' '; 10 << 20]).expect("packed");
    let bomb = encoder.finish().expect("packed").repeat(1_000);
    assert!(bomb.len() < 20 << 20);
    let site = Site::start(move |_, wire| {
        raw(wire, b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n");
        raw(wire, &bomb);
    });
    let (server, client) = start(reaching(&[&site]));
    let before = peak(&server);
    assert_failed(&client, &site.url("/"), "response_too_large", false);
    let grown = peak(&server) - before;
    assert!(grown < 32 << 20, "memory grew by {grown} bytes");
}

#[test]
fn packed_pages_are_unpacked_and_broken_ones_refused() {
    let packed = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("packed");
        encoder.finish().expect("packed")
    };
    let whole = packed(b"a packed page");
    let site = Site::start(move |head, wire| {
        let (coding, body) = match head.split(' ').nth(1).expect("a path") {
            "/good" => ("gzip", &whole[..]),
            "/cut" => ("gzip", &whole[..whole.len() - 4]),
            "/plain" => ("gzip", &b"not packed at all"[..]),
            "/empty" => ("gzip", &b""[..]),
            "/br" => ("br", &b"x"[..]),
            _ => ("gzip, gzip", &whole[..]),
        };
        reply(wire, "200 OK", &[("Content-Type", "text/plain"), ("Content-Encoding", coding)], body);
    });
    let (_server, client) = start(reaching(&[&site]));
    let result = fetched(&client, &site.url("/good"));
    assert_eq!((&result["content"], &result["bytes"]), (&json!("a packed page"), &json!(13)));
    assert_eq!(fetched(&client, &site.url("/empty"))["content"], "");
    for path in ["/cut", "/plain"] {
        assert_failed(&client, &site.url(path), "invalid_response", false);
    }
    for path in ["/br", "/twice"] {
        assert_failed(&client, &site.url(path), "unsupported_encoding", false);
    }
}

#[test]
fn packed_pages_are_read_as_browsers_read_them() {
    const TEXT: &[u8] = b"a packed page";
    let site = Site::start(move |head, wire| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::fast());
        for packer in [&mut gzip as &mut dyn std::io::Write, &mut zlib, &mut deflate] {
            packer.write_all(TEXT).expect("packed");
        }
        let gzip = gzip.finish().expect("packed");
        let (coding, body) = match head.split(' ').nth(1).expect("a path") {
            "/zlib" => ("deflate", zlib.finish().expect("packed")),
            "/deflate" => ("deflate", deflate.finish().expect("packed")),
            "/more" => ("gzip", [&gzip[..], b"\0\0\0 and more"].concat()),
            "/identity" => ("identity", TEXT.to_vec()),
            "/charset" => ("utf-8", TEXT.to_vec()),
            "/list" => ("identity, gzip", gzip),
            _ => ("X-GZip,", gzip),
        };
        reply(wire, "200 OK", &[("Content-Type", "text/plain"), ("Content-Encoding", coding)], &body);
    });
    let (_server, client) = start(reaching(&[&site]));
    for path in ["/zlib", "/deflate", "/more", "/identity", "/charset", "/list", "/x-gzip"] {
        assert_eq!(fetched(&client, &site.url(path))["content"], "a packed page", "{path}");
    }
}

#[test]
fn a_page_of_exactly_the_limit_is_taken() {
    let site = Site::start(|head, wire| {
        let more = usize::from(head.starts_with("GET /more "));
        reply(wire, "200 OK", &[("Content-Type", "text/plain")], &vec![b'x'; PAGE_BYTES + more]);
    });
    let (_server, client) = start(reaching(&[&site]));
    let result = fetched(&client, &site.url("/"));
    assert_eq!((&result["bytes"], &result["truncated"]), (&json!(PAGE_BYTES), &json!(true)));
    assert_eq!(result["content"].as_str().expect("a text").len(), 100_000);
    assert_failed(&client, &site.url("/more"), "response_too_large", false);
}

/// Sends a piece now and then until nobody takes it any more.
fn drip(wire: &mut dyn Wire, piece: &[u8], gone: &AtomicBool) {
    while wire.write_all(piece).and_then(|()| wire.flush()).is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    gone.store(true, Ordering::SeqCst);
}

#[test]
fn a_page_that_never_ends_is_left_when_its_time_is_up() {
    let gone = Arc::new(AtomicBool::new(false));
    let seen = gone.clone();
    let site = Site::start(move |head, wire| match head.split(' ').nth(1).expect("a path") {
        "/body" => {
            raw(wire, b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n");
            drip(wire, b"x", &seen);
        }
        "/head" => {
            raw(wire, b"HTTP/1.1 200 OK\r\nX: ");
            drip(wire, b"x", &seen);
        }
        "/informational" => drip(wire, b"HTTP/1.1 103 Early Hints\r\n\r\n", &seen),
        _ => {
            // Nothing at all, until the other side hangs up.
            let _ = wire.read(&mut [0]);
            seen.store(true, Ordering::SeqCst);
        }
    });
    let (_server, client) = start(reaching(&[&site]).env("AGENTD_WEB_PAGE_TIME", "300ms"));
    for path in ["/body", "/head", "/informational", "/nothing"] {
        gone.store(false, Ordering::SeqCst);
        assert_failed(&client, &site.url(path), "timeout", true);
        eventually("the connection is closed", || gone.load(Ordering::SeqCst).then_some(()));
    }
}

#[test]
fn cancelling_a_job_closes_its_connection() {
    let gone = Arc::new(AtomicBool::new(false));
    let seen = gone.clone();
    let site = Site::start(move |_, wire| {
        raw(wire, b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n");
        drip(wire, b"x", &seen);
    });
    let (_server, client) = start(reaching(&[&site]));
    let id = client.submit("web.fetch", &json!({ "url": site.url("/") }));
    eventually("the site is asked", || (site.requests().len() == 1).then_some(()));
    client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).expect(202);
    assert_eq!(client.finished(&id)["status"], "cancelled");
    eventually("the connection is closed", || gone.load(Ordering::SeqCst).then_some(()));
}

#[test]
fn what_is_no_good_http_is_told_apart() {
    let site = Site::start(|head, wire| {
        let bytes: &[u8] = match head.split(' ').nth(1).expect("a path") {
            "/old" => b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nan old page",
            "/chunks" => b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n4\r\n two\r\n0\r\n\r\n",
            "/folded" => b"HTTP/1.1 200 OK\r\nContent-Type: text/plain;\r\n charset=iso-8859-1\r\n\r\nsch\xf6n",
            "/spaced" => b"HTTP/1.1 200 OK\r\nContent-Type : text/plain\r\nno header at all\r\n\r\na page",
            "/twice" => b"HTTP/1.1 302 Found\r\nLocation: /old\r\nLocation: /old\r\n\r\n",
            "/places" => b"HTTP/1.1 302 Found\r\nLocation: /old\r\nLocation: /chunks\r\n\r\n",
            "/none" => b"HTTP/1.1 204 No Content\r\n\r\n",
            "/empty" => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "/broken-chunk" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\none\r\n",
            "/cut-chunk" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\none",
            "/short" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ntoo short",
            "/two-lengths" => b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            "/garbage" => b"\x00\x01\x02\x03 garbage\r\n\r\n",
            "/ssh" => b"SSH-2.0-OpenSSH_9.9\r\n",
            "/hang-up" => b"",
            _ => {
                raw(wire, b"HTTP/1.1 200 OK\r\n");
                // A head without end.
                while wire.write_all(b"X-Filler: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n").is_ok() {}
                return;
            }
        };
        raw(wire, bytes);
    });
    let (_server, client) = start(reaching(&[&site]));
    for (path, content) in [
        ("/old", "an old page"),
        ("/chunks", "one two"),
        ("/folded", "schön"),
        ("/spaced", "a page"),
        ("/twice", "an old page"),
        ("/none", ""),
        ("/empty", ""),
    ] {
        assert_eq!(fetched(&client, &site.url(path))["content"], content, "{path}");
    }
    for path in ["/broken-chunk", "/two-lengths", "/places", "/garbage", "/ssh", "/endless-head"] {
        assert_failed(&client, &site.url(path), "invalid_response", false);
    }
    for path in ["/cut-chunk", "/short", "/hang-up"] {
        assert_failed(&client, &site.url(path), "connection_lost", true);
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let (_server, client) = start(Setup::real().env("AGENTD_OUTBOUND_ALLOW", &closed.to_string()));
    assert_failed(&client, &format!("http://{closed}/"), "connect_failed", true);
}

#[test]
fn a_hostile_page_takes_no_other_with_it() {
    let site = Site::start(|head, wire| {
        let body = match head.split(' ').nth(1).expect("a path") {
            "/entities" => "&".repeat(PAGE_BYTES),
            "/bold" => "<b>x".repeat(PAGE_BYTES / 4),
            "/deep" => "<div>".repeat(PAGE_BYTES / 6) + "deep",
            "/quotes" => "<blockquote>".repeat(PAGE_BYTES / 13) + "deep",
            "/many" => "<p>x".repeat(200_000),
            "/cells" => format!("<table><tr>{}{}", "<td>x".repeat(1_000), "<tr><td>".repeat(50_000)),
            _ => "<p>a good page".into(),
        };
        reply(wire, "200 OK", &[("Content-Type", "text/html")], body.as_bytes());
    });
    let (_server, client) = start(reaching(&[&site]));
    for (path, end) in [("/entities", "&&&&"), ("/bold", "xxxx"), ("/deep", "deep"), ("/quotes", "deep")] {
        let result = fetch_as(&client, &json!({ "url": site.url(path), "format": "text" }))["result"].clone();
        let content = result["content"].as_str().unwrap_or_else(|| panic!("{path} is not read"));
        assert!(content.ends_with(end), "{path}: {} characters", content.len());
    }
    for path in ["/many", "/cells"] {
        assert_failed(&client, &site.url(path), "page_too_complex", false);
    }
    assert_eq!(fetched(&client, &site.url("/good"))["content"], "a good page");
}

#[test]
fn a_tenant_with_many_hostile_pages_does_not_keep_others_waiting() {
    const PAGES: usize = 12;
    let site = Site::start(|head, wire| {
        let body =
            if head.starts_with("GET /hostile ") { "<b>&".repeat(PAGE_BYTES / 4) } else { "<p>a good page".into() };
        reply(wire, "200 OK", &[("Content-Type", "text/html")], body.as_bytes());
    });
    let (server, client) = start(reaching(&[&site]));
    let hostile = json!({ "url": site.url("/hostile"), "max_chars": 10 });
    let ids: Vec<_> = (0..PAGES).map(|_| client.submit("web.fetch", &hostile)).collect();
    eventually("the pages are asked for", || (site.connections() > 1).then_some(()));
    assert_eq!(fetched(&server.client(), &site.url("/good"))["content"], "a good page");
    let unfinished = ids.iter().filter(|id| client.job(id)["finished_at"].is_null()).count();
    assert!(unfinished > 1, "the other tenant came last");
    for id in ids {
        assert_eq!(client.finished(&id)["status"], "succeeded");
    }
}
