//! What the way out takes from others.

use std::net::IpAddr;

use agentd::config::Target;
use agentd::models;
use agentd::outbound::fuzzing;
use agentd::tools::web;

/// A target that was read is written, and read again as the same.
pub fn target(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    if let Ok(target) = text.parse::<Target>() {
        assert_eq!(target.to_string().parse(), Ok(target));
    }
}

/// However an address is spelled, it leads to the internet or nowhere. The
/// standard library's own words for what is inside are the judge.
pub fn url(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let Some(Ok(addresses)) = fuzzing::addresses(text) else { return };
    for address in addresses {
        let inside = match address.ip() {
            IpAddr::V4(ip) => {
                ip.is_private()
                    || ip.is_loopback()
                    || ip.is_link_local()
                    || ip.is_unspecified()
                    || ip.is_broadcast()
                    || ip.is_multicast()
                    || ip.is_documentation()
            }
            IpAddr::V6(ip) => ip.to_canonical() != IpAddr::V6(ip) || ip.segments()[0] >> 13 != 1,
        };
        assert!(!inside, "{text:?} leads to {address}");
    }
}

/// What is unpacked stays within its limit, however it comes.
pub fn unpack(input: &[u8]) {
    const LIMIT: usize = 64 * 1024;
    let [gzip, size, data @ ..] = input else { return };
    let pieces: Vec<_> = data.chunks(usize::from(*size) + 1).collect();
    if let Ok(body) = fuzzing::unpack(gzip % 2 == 0, LIMIT, &pieces) {
        assert!(body.len() <= LIMIT);
    }
}

/// A page in some encoding, read as HTML or XHTML, to Markdown or text. The line
/// before the first line break is what the server said of it.
pub fn page(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (said, page) = input.split_at(end);
    let (xml, markdown) = (page.len() / 2 % 2 == 1, page.len() % 2 == 0);
    if let Some(content) = web::fuzzing::page(page, str::from_utf8(said).ok(), xml, markdown) {
        assert_eq!(content.trim(), content);
    }
}

/// Rules, and a path after a NUL. Whatever they say, they may be asked for.
pub fn robots(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (robots, path) = input.split_at(end);
    assert!(web::fuzzing::allowed(robots, "/robots.txt"));
    let _ = web::fuzzing::allowed(robots, &String::from_utf8_lossy(path));
}

/// A backup, as somebody may hand one to a restore: refused, never a panic; and a
/// name, which is written as it was read.
pub fn backup(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    let _ = agentd::backups::fuzzing::backup(bytes, kind & 1 == 1);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(written) = agentd::backups::fuzzing::name(text)
    {
        assert_eq!(written, text);
    }
}

/// A form, in pieces of any size. What was read is written so that it can be read
/// again, whatever its names are; tests beside the code compare what is in it.
pub fn form(input: &[u8]) {
    let Some((piece, body)) = input.split_first() else { return };
    let Some((kind, written)) = models::fuzzing::form(body, "x", usize::from(*piece), 4096) else { return };
    let (_, boundary) = kind.split_once("boundary=").expect("a boundary");
    models::fuzzing::form(&written, boundary, 7, 1 << 20).expect("a form");
}

/// A line of a batch, and behind a NUL what a provider answers to it. What is
/// written of it is one line of JSON.
pub fn batch(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (line, answer) = input.split_at(end);
    if let Some(written) = models::fuzzing::batch_line(line, answer) {
        assert!(!written.contains('\n'));
        serde_json::from_str::<serde_json::Value>(&written).expect("JSON");
    }
}

/// A stream of a model, cut anywhere: what is counted of it does not depend on
/// where.
pub fn stream(input: &[u8]) {
    let [kind, cut, bytes @ ..] = input else { return };
    let [whole, cut] = models::fuzzing::stream(*kind, bytes, usize::from(*cut) * bytes.len() / 255);
    assert_eq!(whole, cut);
}

/// A request to a model, and an answer: counted or refused, and limiting the
/// output makes no call cost more.
pub fn model(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    if let Some((whole, limited)) = models::fuzzing::model(*kind, bytes) {
        assert!(limited <= whole, "{limited} is more than {whole}");
    }
}
