//! Pages in other encodings than they should have.

use serde_json::json;

use super::*;

#[test]
fn every_page_is_read_in_its_encoding() {
    const JAPANESE: &[u8] = b"<title>\x93\xfa\x96{\x8c\xea</title><p>\x82\xb1\x82\xea\x82\xcd\x93\xfa\x96{\x8c\xea\x82\xcc\x95\xb6\x8f\xcd\x82\xc5\x82\xb7\x81B";
    let site = Site::start(|head, wire| {
        let (kind, body): (&str, &[u8]) = match head.split(' ').nth(1).expect("a path") {
            "/header" => ("text/html; charset=Shift_JIS", JAPANESE),
            "/none" => ("text/html", JAPANESE),
            "/wrong" => ("text/html; charset=utf-8", JAPANESE),
            "/unknown" => ("text/html; charset=x-no-such", JAPANESE),
            "/meta" => ("text/html", b"<meta charset='windows-1251'><p>\xcf\xf0\xe8\xe2\xe5\xf2"),
            "/latin" => ("text/plain; charset=\"ISO-8859-1\"", b"sch\xf6n"),
            "/mark" => ("text/plain; charset=iso-8859-1", b"\xef\xbb\xbfsch\xc3\xb6n"),
            "/utf16" => ("text/plain", b"\xff\xfes\x00c\x00h\x00\xf6\x00n\x00"),
            _ => ("text/plain", "schön".as_bytes()),
        };
        reply(wire, "200 OK", &[("Content-Type", kind)], body);
    });
    let (_server, client) = start(reaching(&[&site]));
    for path in ["/header", "/none", "/wrong", "/unknown"] {
        let result = fetched(&client, &site.url(path));
        assert_eq!((&result["title"], &result["charset"]), (&json!("日本語"), &json!("Shift_JIS")), "{path}");
        assert_eq!(result["content"], "これは日本語の文章です。", "{path}");
    }
    assert_eq!(fetched(&client, &site.url("/meta"))["content"], "Привет");
    for path in ["/latin", "/mark", "/utf16", "/plain"] {
        assert_eq!(fetched(&client, &site.url(path))["content"], "schön", "{path}");
    }
}

#[test]
fn a_wrong_byte_costs_one_character_and_a_nul_no_page() {
    const BROKEN: &[u8] =
        b"<meta charset=utf-8><title>Gr\xc3\xbc\xc3\x9fe</title><p>aus K\xc3\xb6ln\xff und \0 M\xc3\xbcnchen";
    let site = Site::start(|head, wire| {
        let (kind, body): (&str, &[u8]) = match head.split(' ').nth(1).expect("a path") {
            "/declared" => ("text/html; charset=utf-8", BROKEN),
            "/meta" => ("text/html", BROKEN),
            "/text" => ("text/markdown; charset=utf-8", b"K\xc3\xb6ln\xff \0"),
            _ => (
                "application/xhtml+xml",
                b"<html xmlns='http://www.w3.org/1999/xhtml'><title/><p>K\xc3\xb6ln<br/>am Rhein</p></html>",
            ),
        };
        reply(wire, "200 OK", &[("Content-Type", kind)], body);
    });
    let (_server, client) = start(reaching(&[&site]));
    for path in ["/declared", "/meta"] {
        let result = fetched(&client, &site.url(path));
        assert_eq!((&result["title"], &result["charset"]), (&json!("Grüße"), &json!("UTF-8")), "{path}");
        assert_eq!(result["content"], "aus Köln\u{fffd} und München", "{path}");
    }
    assert_eq!(fetched(&client, &site.url("/text"))["content"], "Köln\u{fffd} \u{fffd}");
    assert_eq!(fetched(&client, &site.url("/xhtml"))["content"], "Köln  \nam Rhein", "its title is closed");
}
