//! Pages that lead elsewhere by `<meta http-equiv="refresh">` or the header
//! `Refresh`: each is one more redirect, and goes through all that one goes
//! through.

use super::*;

fn path(head: &str) -> &str {
    head.split(' ').nth(1).expect("a path")
}

/// A page that leads to another at once.
fn leading(to: &str) -> String {
    format!("<title>Moved</title><meta http-equiv=refresh content=\"0; url={to}\"><p>This page has moved.")
}

#[test]
fn a_page_that_leads_elsewhere_is_followed_as_a_redirect() {
    let site = Site::start(|head, wire| match path(head) {
        "/docs/" => reply(wire, "200 OK", &[("Content-Type", "text/html")], leading("next#part").as_bytes()),
        "/docs/next" => reply(wire, "302 Found", &[("Location", "/header")], b""),
        "/header" => {
            reply(wire, "200 OK", &[("Content-Type", "text/html"), ("Refresh", "0;url=/last")], b"<p>moved again");
        }
        "/slow" => {
            let page = "<meta http-equiv=refresh content='300; url=/last'><p>news";
            reply(wire, "200 OK", &[("Content-Type", "text/html")], page.as_bytes());
        }
        _ => reply(wire, "200 OK", &[("Content-Type", "text/html")], b"<p>the page"),
    });
    let (_server, client) = start(reaching(&[&site]));
    let result = fetched(&client, &site.url("/docs/"));
    assert_eq!((&result["content"], &result["final_url"]), (&json!("the page"), &json!(site.url("/last"))));
    assert_eq!(site.connections(), 4);
    assert_eq!(fetched(&client, &site.url("/slow"))["content"], "news", "it is there to be read");
    let text = fetch_as(&client, &json!({ "url": site.url("/docs/"), "format": "html" }));
    assert_eq!(text["result"]["content"], "<p>the page");
}

#[test]
fn a_page_leads_nowhere_that_one_may_not_go_directly() {
    let trap = Site::trap("127.0.0.1:0");
    let inside = trap.url("/");
    let site = Site::start(move |head, wire| {
        let body = match path(head) {
            "/inside" => leading(&inside),
            "/metadata" => leading("http://169.254.169.254/latest/meta-data/"),
            "/user" => leading("http://user:word@example.com/"),
            // Not of the web, so the page is what there is to read.
            "/script" => leading("javascript:alert(1)"),
            _ => leading("file:///etc/passwd"),
        };
        reply(wire, "200 OK", &[("Content-Type", "text/html")], body.as_bytes());
    });
    let (_server, client) = start(reaching(&[&site]));
    for path in ["/inside", "/metadata"] {
        assert_failed(&client, &site.url(path), "blocked_address", false);
    }
    assert_failed(&client, &site.url("/user"), "invalid_url", false);
    for path in ["/script", "/file"] {
        assert_eq!(fetched(&client, &site.url(path))["content"], "This page has moved.", "{path}");
    }
    assert_eq!(trap.connections(), 0);
}

#[test]
fn pages_that_lead_to_one_another_end_at_the_limit_of_redirects() {
    let site = Site::start(|head, wire| {
        let other = if path(head) == "/a" { "/b" } else { "/a" };
        reply(wire, "200 OK", &[("Content-Type", "text/html")], leading(other).as_bytes());
    });
    let (_server, client) = start(reaching(&[&site]));
    assert_failed(&client, &site.url("/a"), "too_many_redirects", false);
    assert_eq!(site.connections(), 21);
}

#[test]
fn where_a_page_leads_robots_txt_is_obeyed() {
    let site = Site::start(|head, wire| match path(head) {
        "/robots.txt" => reply(wire, "200 OK", &[], b"User-agent: *\nDisallow: /private/\n"),
        _ => reply(wire, "200 OK", &[("Content-Type", "text/html")], leading("/private/page").as_bytes()),
    });
    let (_server, client) = start(reaching(&[&site]).without_env("AGENTD_WEB_ROBOTS"));
    assert_failed(&client, &site.url("/page"), "robots_disallowed", false);
    assert!(site.requests().iter().all(|request| path(request) != "/private/page"));
}
