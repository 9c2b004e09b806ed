//! robots.txt is asked for and obeyed.

use super::*;

/// A site with this robots.txt and a page everywhere else.
fn site(status: &'static str, robots: impl Into<Vec<u8>>) -> Site {
    let robots = robots.into();
    Site::start(move |head, wire| match head.split(' ').nth(1).expect("a path") {
        "/robots.txt" => reply(wire, status, &[("Content-Type", "text/plain")], &robots),
        "/moved" => reply(wire, "302 Found", &[("Location", "/private/page")], b""),
        _ => reply(wire, "200 OK", &[("Content-Type", "text/plain")], b"a page"),
    })
}

fn obeying(site: &Site) -> (Server, Client) {
    start(reaching(&[site]).without_env("AGENTD_WEB_ROBOTS"))
}

fn asked(site: &Site, path: &str) -> usize {
    let line = format!("GET {path} ");
    site.requests().iter().filter(|request| request.starts_with(&line)).count()
}

#[test]
fn a_page_that_is_not_allowed_is_not_asked_for() {
    let site = site("200 OK", "User-agent: *\nDisallow: /\n\nUser-agent: agentd\nDisallow: /private/\n");
    let (_server, client) = obeying(&site);
    assert_failed(&client, &site.url("/private/page"), "robots_disallowed", false);
    assert_eq!(asked(&site, "/private/page"), 0);
    assert_eq!(fetched(&client, &site.url("/public"))["content"], "a page");
    assert_failed(&client, &site.url("/moved"), "robots_disallowed", false);
    assert_eq!(asked(&site, "/robots.txt"), 1, "it is remembered");
}

#[test]
fn without_a_robots_txt_everything_is_allowed() {
    for status in ["404 Not Found", "403 Forbidden", "410 Gone"] {
        let site = site(status, "User-agent: *\nDisallow: /");
        let (_server, client) = obeying(&site);
        assert_eq!(fetched(&client, &site.url("/private/page"))["content"], "a page", "{status}");
    }
}

#[test]
fn while_it_cannot_be_had_nothing_is_fetched_and_it_is_tried_again() {
    for status in ["500 Internal Server Error", "503 Service Unavailable", "429 Too Many Requests"] {
        let site = site(status, "");
        let (_server, client) = obeying(&site);
        assert_failed(&client, &site.url("/page"), "robots_unavailable", true);
        assert_eq!(asked(&site, "/page"), 0);
    }
}

/// Redirects that lead nowhere are as if there were none (RFC 9309, 2.3.1.2).
#[test]
fn one_that_redirects_for_ever_or_to_the_inside_allows_everything() {
    let trap = Site::trap("127.0.0.2:0");
    for location in ["/robots.txt".to_owned(), trap.url("/robots.txt"), "file:///robots.txt".to_owned()] {
        let site = Site::start(move |head, wire| match head.split(' ').nth(1).expect("a path") {
            "/robots.txt" => reply(wire, "301 Moved Permanently", &[("Location", &location)], b""),
            _ => reply(wire, "200 OK", &[("Content-Type", "text/plain")], b"a page"),
        });
        let (_server, client) = obeying(&site);
        assert_eq!(fetched(&client, &site.url("/page"))["content"], "a page");
    }
    assert_eq!(trap.connections(), 0);
}

#[test]
fn of_a_huge_one_the_beginning_counts() {
    let mut robots = b"User-agent: *\nDisallow: /private/\n".to_vec();
    robots.resize(50 << 20, b'#');
    robots.extend_from_slice(b"\nDisallow: /\n");
    let site = site("200 OK", robots);
    let (_server, client) = obeying(&site);
    assert_failed(&client, &site.url("/private/page"), "robots_disallowed", false);
    assert_eq!(fetched(&client, &site.url("/public"))["content"], "a page");
}

#[test]
fn it_can_be_switched_off() {
    let site = site("200 OK", "User-agent: *\nDisallow: /");
    let (_server, client) = start(reaching(&[&site]));
    assert_eq!(fetched(&client, &site.url("/page"))["content"], "a page");
    assert_eq!(asked(&site, "/robots.txt"), 0);
}
