//! What a body is: by its type, or by its first bytes where it has none.

use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;

use super::charset::Declares;
use super::html::Syntax;

/// Bytes that are looked at, as browsers do.
const SNIFFED: usize = 1445;

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Html,
    Xhtml,
    /// As it is.
    Text,
    /// XML as it is.
    Xml,
}

impl Kind {
    pub(super) fn syntax(self) -> Option<Syntax> {
        match self {
            Self::Html => Some(Syntax::Html),
            Self::Xhtml => Some(Syntax::Xml),
            Self::Text | Self::Xml => None,
        }
    }

    pub(super) fn declares(self) -> Declares {
        match self {
            Self::Html => Declares::Html,
            Self::Xhtml | Self::Xml => Declares::Xml,
            Self::Text => Declares::Nowhere,
        }
    }
}

/// A media type, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MediaType {
    /// Such as `text/html`; empty when there is none.
    pub(super) essence: String,
    pub(super) charset: Option<String>,
}

impl MediaType {
    /// The type of an answer. Of several the last that is one counts, as in
    /// browsers; the charset of the one before it counts if it has none.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        let values = headers.get_all(CONTENT_TYPE).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        for value in values.collect::<Vec<_>>().iter().flat_map(|value| split(value, ',')) {
            let Some(mut next) = Self::parse(value).filter(|next| next.essence != "*/*") else { continue };
            if next.charset.is_none() && next.essence == found.essence {
                next.charset = found.charset;
            }
            found = next;
        }
        found
    }

    fn parse(value: &str) -> Option<Self> {
        let mut parts = split(value, ';');
        let essence = parts.next()?.trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let charset = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            let value = unquoted(value);
            (name.trim().eq_ignore_ascii_case("charset") && !value.is_empty()).then_some(value)
        });
        Some(Self { essence, charset })
    }

    /// What a body of this type is; none when it is no text.
    pub(super) fn kind(&self, body: &[u8]) -> Option<Kind> {
        match self.essence.as_str() {
            "text/html" => Some(Kind::Html),
            "application/xhtml+xml" => Some(Kind::Xhtml),
            "text/xml" | "application/xml" => Some(if is_xhtml(body) { Kind::Xhtml } else { Kind::Xml }),
            "" | "unknown/unknown" | "application/unknown" => sniff(body),
            // Servers give this type to what they do not know.
            "text/plain" if !self.is_sure() && is_binary(body) => None,
            "application/json"
            | "application/yaml"
            | "application/x-yaml"
            | "application/toml"
            | "application/javascript"
            | "application/x-javascript"
            | "application/ecmascript"
            | "application/x-ndjson"
            | "application/jsonl"
            | "application/graphql"
            | "application/sql"
            | "application/x-sh" => Some(Kind::Text),
            // A picture that is written in XML is still a picture.
            essence if essence.starts_with("image/") => None,
            essence if essence.ends_with("+xml") => Some(Kind::Xml),
            essence if essence.starts_with("text/") || essence.ends_with("+json") => Some(Kind::Text),
            _ => None,
        }
    }

    fn is_sure(&self) -> bool {
        self.charset.as_ref().is_some_and(|charset| !charset.eq_ignore_ascii_case("iso-8859-1"))
    }
}

/// The parts of a header's value; what is in quotes is no separator.
fn split(value: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |c| {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '"' => quoted = !quoted,
            '\\' if quoted => escaped = true,
            _ => {}
        }
        c == separator && !quoted
    })
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

/// The value of a parameter. Single quotes are not HTTP's, but written.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let Some(inner) = value.strip_prefix('"') else { return value.trim_matches('\'').to_owned() };
    let (mut text, mut escaped) = (String::new(), false);
    for c in inner.chars() {
        match c {
            _ if std::mem::take(&mut escaped) => text.push(c),
            '\\' => escaped = true,
            '"' => break,
            _ => text.push(c),
        }
    }
    text.trim_matches(['\'', ' ']).to_owned()
}

/// What a body without a type is, by the MIME Sniffing standard.
fn sniff(body: &[u8]) -> Option<Kind> {
    const TAGS: &[&str] = &[
        "!doctype html",
        "html",
        "head",
        "script",
        "iframe",
        "h1",
        "div",
        "font",
        "table",
        "a",
        "style",
        "title",
        "b",
        "body",
        "br",
        "p",
    ];
    let start = body[..body.len().min(SNIFFED)].trim_ascii_start();
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    if let Some(tag) = start.strip_prefix(b"<") {
        let is_tag = |name: &&str| {
            let ends = tag.get(name.len()).is_some_and(|byte| byte.is_ascii_whitespace() || *byte == b'>');
            ends && tag[..name.len()].eq_ignore_ascii_case(name.as_bytes())
        };
        if tag.starts_with(b"?xml") {
            return Some(if is_xhtml(body) { Kind::Xhtml } else { Kind::Xml });
        }
        if tag.starts_with(b"!--") || TAGS.iter().any(is_tag) {
            return Some(Kind::Html);
        }
    }
    (!is_binary(body) && !body.starts_with(b"%PDF-")).then_some(Kind::Text)
}

/// Whether a body has bytes at its start that no text has.
fn is_binary(body: &[u8]) -> bool {
    let marked = [&b"\xff\xfe"[..], b"\xfe\xff", b"\xef\xbb\xbf"].iter().any(|mark| body.starts_with(mark));
    let start = &body[..body.len().min(SNIFFED)];
    !marked && start.iter().any(|byte| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f))
}

/// Whether the outermost element of XML is that of XHTML.
fn is_xhtml(body: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&body[..body.len().min(SNIFFED)]);
    let root = start.split('<').skip(1).find(|tag| tag.starts_with(|c: char| c.is_alphabetic()));
    root.is_some_and(|root| {
        let name = root.split(|c: char| c.is_whitespace() || matches!(c, '>' | '/')).next().unwrap_or_default();
        name.rsplit(':').next() == Some("html") && root.contains("http://www.w3.org/1999/xhtml")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(essence: &str, body: &[u8]) -> Option<Kind> {
        MediaType { essence: essence.into(), charset: None }.kind(body)
    }

    #[test]
    fn bodies_are_known_by_type_or_by_their_start() {
        const XHTML: &[u8] = b"<?xml version='1.0'?>\n<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\">";
        for (essence, body, is) in [
            ("text/html", &b"<p>"[..], Kind::Html),
            ("text/html", b"a\0b", Kind::Html),
            ("application/xhtml+xml", b"<p/>", Kind::Xhtml),
            ("application/xml", XHTML, Kind::Xhtml),
            ("text/xml", b"<rss/>", Kind::Xml),
            ("application/atom+xml", XHTML, Kind::Xml),
            ("", b"\n <!DOCTYPE HTML>", Kind::Html),
            ("", b"<p>text", Kind::Html),
            ("", b"<!-- x -->", Kind::Html),
            ("", b"<pre>", Kind::Text),
            ("", XHTML, Kind::Xhtml),
            ("", b"<?xml version='1.0'?><rss>", Kind::Xml),
            ("", b"# Heading", Kind::Text),
            ("application/ld+json", b"{}", Kind::Text),
            ("text/plain", b"\xff\xfea\0", Kind::Text),
            ("text/csv", b"a\0b", Kind::Text),
        ] {
            assert_eq!(kind(essence, body), Some(is), "{essence} {}", String::from_utf8_lossy(body));
        }
        for (essence, body) in [
            ("image/png", &b"\x89PNG"[..]),
            ("image/svg+xml", b"<svg>"),
            ("application/zip", b"PK"),
            ("application/pdf", b"%PDF"),
            ("", b"%PDF-1.7"),
            ("", b"\x7fELF\0"),
            ("text/plain", b"a\0b"),
            ("application/octet-stream", b"a"),
        ] {
            assert_eq!(kind(essence, body), None, "{essence}");
        }
        let utf16 = MediaType { essence: "text/plain".into(), charset: Some("utf-16le".into()) };
        assert_eq!(utf16.kind(b"a\0b\0"), Some(Kind::Text), "the server knows what it is");
    }

    #[test]
    fn types_have_parameters_and_are_sometimes_several() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_TYPE, value.parse().expect("a value"));
            }
            let MediaType { essence, charset } = MediaType::of(&headers);
            format!("{essence} {}", charset.unwrap_or_default())
        };
        for (values, is) in [
            (&["Text/HTML; Charset=\"UTF-8\""][..], "text/html UTF-8"),
            (&["text/html;a=b; charset=x;"], "text/html x"),
            (&["text/html; a=\"; charset=y\"; charset='x'"], "text/html x"),
            (&["text/html;charset=\"a\\\"b\""], "text/html a\"b"),
            (&["text/html"], "text/html "),
            (&["text/plain, text/html; charset=x"], "text/html x"),
            (&["text/html; charset=x", "text/html"], "text/html x"),
            (&["text/html; charset=x", "text/plain"], "text/plain "),
            (&["text/html; charset=x", "nonsense", "*/*"], "text/html x"),
            (&["nonsense"], " "),
            (&[""], " "),
            (&[], " "),
        ] {
            assert_eq!(read(values), is, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn any_type_and_body_are_looked_at(value in "[a-z/;,=\" \\\\]{0,30}", body: Vec<u8>) {
            let _ = MediaType::parse(&value).unwrap_or_default().kind(&body);
            let _ = sniff(&body);
        }
    }
}
