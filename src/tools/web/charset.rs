//! Bytes to text, in whatever encoding a page is written.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252, X_USER_DEFINED};

/// Where a document may say its encoding: so many bytes from its start.
const PRESCAN: usize = 1024;

/// A text and the encoding that it was written in.
pub(super) struct Decoded {
    pub text: String,
    pub charset: &'static str,
}

/// Where a document may declare its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declares {
    /// In a `<meta>`, or in the first line of XML.
    Html,
    /// In its first line; without one it is UTF-8.
    Xml,
    Nowhere,
}

/// Decodes a document: by its byte order mark, by what the server declares, by
/// what it declares itself, and when there is none of these, by a guess. Bytes
/// that are wrong in the declared encoding become U+FFFD, as in browsers; only
/// when most of them are, the declaration is wrong and does not count.
pub(super) fn decode(bytes: &[u8], declared: Option<&str>, declares: Declares) -> Decoded {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        let (text, _) = encoding.decode_without_bom_handling(&bytes[mark..]);
        return Decoded { text: text.into_owned(), charset: encoding.name() };
    }
    let server = declared.and_then(|label| Encoding::for_label_no_replacement(label.as_bytes()));
    let own = || match declares {
        Declares::Html => xml_declaration(bytes).or_else(|| meta(bytes)),
        Declares::Xml => Some(xml_declaration(bytes).unwrap_or(UTF_8)),
        Declares::Nowhere => None,
    };
    for encoding in server.into_iter().chain(own()) {
        if let Some(text) = decode_as(encoding, bytes) {
            return Decoded { text: text.into_owned(), charset: encoding.name() };
        }
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, true);
    let encoding = detector.guess(None, Utf8Detection::Allow);
    let (text, _) = encoding.decode_without_bom_handling(bytes);
    Decoded { text: text.into_owned(), charset: encoding.name() }
}

/// The text in an encoding, unless more is wrong in it than right.
fn decode_as<'a>(encoding: &'static Encoding, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
    let (text, broken) = encoding.decode_without_bom_handling(bytes);
    if !broken {
        return Some(text);
    }
    let (mut wrong, mut right) = (0_usize, 0_usize);
    if encoding == UTF_8 {
        for chunk in bytes.utf8_chunks() {
            wrong += usize::from(!chunk.invalid().is_empty());
            right += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        }
    } else {
        let others = text.chars().filter(|c| !c.is_ascii());
        others.for_each(|c| *(if c == '\u{fffd}' { &mut wrong } else { &mut right }) += 1);
    }
    (wrong <= right).then_some(text)
}

/// An encoding that a document declares in ASCII.
fn in_ascii(label: &[u8]) -> Option<&'static Encoding> {
    let encoding = Encoding::for_label_no_replacement(label)?;
    // It was read as ASCII, so it cannot be what it says.
    Some(match encoding {
        _ if encoding == UTF_16BE || encoding == UTF_16LE => UTF_8,
        _ if encoding == X_USER_DEFINED => WINDOWS_1252,
        _ => encoding,
    })
}

/// The encoding in the first line of XML.
fn xml_declaration(bytes: &[u8]) -> Option<&'static Encoding> {
    if bytes.starts_with(b"<\0?\0x\0") {
        return Some(UTF_16LE);
    }
    if bytes.starts_with(b"\0<\0?\0x") {
        return Some(UTF_16BE);
    }
    let start = bytes[..bytes.len().min(PRESCAN)].strip_prefix(b"<?xml")?;
    let line = &start[..start.iter().position(|byte| *byte == b'>')?];
    let at = line.windows(8).position(|window| window == b"encoding")?;
    let value = line[at + 8..].trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let quote = *value.first().filter(|byte| matches!(byte, b'"' | b'\''))?;
    let label = value[1..].split(|byte| *byte == quote).next()?;
    in_ascii(label)
}

/// The encoding in a `<meta>`, by the prescan of the HTML standard.
fn meta(bytes: &[u8]) -> Option<&'static Encoding> {
    let mut rest = &bytes[..bytes.len().min(PRESCAN)];
    while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
        rest = &rest[at + 1..];
        if let Some(comment) = rest.strip_prefix(b"!--") {
            // `<!-->` is a whole comment.
            let end = rest.windows(3).skip(1).position(|window| window == b"-->");
            rest = end.map_or(&comment[comment.len()..], |end| &rest[end + 4..]);
            continue;
        }
        let name = rest.strip_prefix(b"/").unwrap_or(rest);
        let length = name.iter().take_while(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b'>')).count();
        if !name.first().is_some_and(u8::is_ascii_alphabetic) {
            if matches!(rest.first(), Some(b'!' | b'/' | b'?')) {
                rest = rest.iter().position(|byte| *byte == b'>').map_or(&[], |end| &rest[end + 1..]);
            }
            continue;
        }
        let is_meta = name.len() == rest.len() && name[..length].eq_ignore_ascii_case(b"meta");
        rest = &name[length..];
        let mut meta = Meta::default();
        while let Some((name, value, behind)) = attribute(rest) {
            rest = behind;
            meta.take(&name, &value);
        }
        if is_meta && let Some(encoding) = meta.encoding() {
            return Some(encoding);
        }
    }
    None
}

/// What the attributes of a `<meta>` say.
#[derive(Default)]
struct Meta {
    is_content_type: bool,
    /// Whether `charset` is there, with a name that is known or not.
    has_charset: bool,
    charset: Option<&'static Encoding>,
    content: Option<&'static Encoding>,
    seen: Vec<Vec<u8>>,
}

impl Meta {
    fn take(&mut self, name: &[u8], value: &[u8]) {
        if self.seen.iter().any(|seen| seen == name) {
            return;
        }
        self.seen.push(name.to_owned());
        match name {
            b"http-equiv" => self.is_content_type = value == b"content-type",
            b"charset" => (self.has_charset, self.charset) = (true, in_ascii(value)),
            b"content" => self.content = of_content(value),
            _ => {}
        }
    }

    fn encoding(&self) -> Option<&'static Encoding> {
        if self.has_charset { self.charset } else { self.content.filter(|_| self.is_content_type) }
    }
}

/// The encoding in a value such as `text/html; charset=utf-8`.
fn of_content(value: &[u8]) -> Option<&'static Encoding> {
    let mut rest = value;
    loop {
        let at = rest.windows(7).position(|window| window == b"charset")?;
        rest = &rest[at + 7..];
        let Some(value) = rest.trim_ascii_start().strip_prefix(b"=") else { continue };
        let value = value.trim_ascii_start();
        return match value.first()? {
            quote @ (b'"' | b'\'') => {
                let quoted = &value[1..];
                in_ascii(&quoted[..quoted.iter().position(|byte| byte == quote)?])
            }
            _ => in_ascii(value.split(|byte| byte.is_ascii_whitespace() || *byte == b';').next()?),
        };
    }
}

/// The next attribute of a tag in lower case, and what follows it.
fn attribute(text: &[u8]) -> Option<(Vec<u8>, Vec<u8>, &[u8])> {
    let start = text.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b'/')?;
    let text = &text[start..];
    if text[0] == b'>' {
        return None;
    }
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>');
    // A name may begin with an equals sign.
    let length = 1 + text[1..].iter().take_while(|byte| !ends(byte) && **byte != b'=').count();
    let (name, rest) = text.split_at(length);
    let name = name.to_ascii_lowercase();
    let Some(value) = rest.trim_ascii_start().strip_prefix(b"=") else { return Some((name, Vec::new(), rest)) };
    let value = value.trim_ascii_start();
    let (value, rest) = match value.first() {
        Some(quote @ (b'"' | b'\'')) => {
            let quoted = &value[1..];
            let end = quoted.iter().position(|byte| byte == quote)?;
            (&quoted[..end], &quoted[end + 1..])
        }
        _ => {
            let ends = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'>';
            value.split_at(value.iter().position(ends).unwrap_or(value.len()))
        }
    };
    Some((name, value.to_ascii_lowercase(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8], declared: Option<&str>) -> (String, &'static str) {
        let Decoded { text, charset } = decode(bytes, declared, Declares::Html);
        (text, charset)
    }

    #[test]
    fn the_byte_order_mark_beats_the_server_and_the_server_the_page() {
        assert_eq!(read(b"\xef\xbb\xbfsch\xc3\xb6n", Some("latin1")).0, "schön");
        assert_eq!(read(b"\xff\xfea\x00\xe4\x00", None), ("aä".into(), "UTF-16LE"));
        let page = b"<meta charset=windows-1251>\xe4";
        assert_eq!(read(page, Some("ISO-8859-1")).1, "windows-1252");
        assert_eq!(read(page, None), ("<meta charset=windows-1251>д".into(), "windows-1251"));
    }

    #[test]
    fn every_way_in_which_a_page_declares_it() {
        for page in [
            "<META CHARSET='koi8-r'>",
            "<meta charset = \"koi8-r\" />",
            "<meta/charset=koi8-r>",
            "<meta http-equiv=content-type content=\"text/html; charset=koi8-r\">",
            "<meta content=\"text/html; charset = 'koi8-r'\" http-equiv='Content-Type'>",
            "<meta http-equiv=content-type content=\"charset; charset=koi8-r;x\">",
            "<?xml version=\"1.0\" encoding=\"koi8-r\"?>",
            "<!-- <x> --><head><meta name=a><meta charset=koi8-r>",
            "<!--><meta charset=koi8-r>",
            "<a title='<meta charset=utf-8>'><meta charset=koi8-r>",
            "</meta charset=utf-8><meta charset=koi8-r charset=utf-8>",
        ] {
            assert_eq!(read(page.as_bytes(), None).1, "KOI8-R", "{page}");
        }
        assert_eq!(read(b"<meta charset=utf-16>\xc3\xa4", None).1, "UTF-8");
        assert_eq!(read(b"<meta charset=x-user-defined>\xc3\xa4", None).1, "windows-1252");
        assert_eq!(read("<\0?\0x\0m\0l\0?\0>\0".as_bytes(), None).1, "UTF-16LE");
    }

    #[test]
    fn what_is_no_declaration_does_not_count() {
        for page in [
            "<meta charset=nonsense>ä".to_owned(),
            "<!-- <meta charset=koi8-r> -->ä".to_owned(),
            "<meta content='text/html; charset=koi8-r'>ä".to_owned(),
            "<metax charset=koi8-r>ä".to_owned(),
            "<meta http-equiv=refresh content='0; charset=koi8-r'>ä".to_owned(),
            format!("{}<meta charset=koi8-r>ä", " ".repeat(1024)),
        ] {
            assert_eq!(read(page.as_bytes(), None).1, "UTF-8", "{page}");
        }
        let in_text = decode(b"<meta charset=koi8-r>\xc3\xa4", None, Declares::Nowhere);
        assert_eq!(in_text.charset, "UTF-8");
        let in_xml = decode(b"<p>\xc3\xa4\xff</p>", None, Declares::Xml);
        assert_eq!((in_xml.text.as_str(), in_xml.charset), ("<p>ä\u{fffd}</p>", "UTF-8"));
    }

    #[test]
    fn a_wrong_byte_is_one_wrong_character() {
        let page = b"Gr\xc3\xbc\xc3\x9fe aus K\xc3\xb6ln\xff und M\xe9";
        for declared in [Some("utf-8"), None] {
            let page = if declared.is_some() { page.to_vec() } else { [&b"<meta charset=utf-8>"[..], page].concat() };
            let (text, charset) = read(&page, declared);
            assert!(text.ends_with("Grüße aus Köln\u{fffd} und M\u{fffd}"), "{text}");
            assert_eq!(charset, "UTF-8");
        }
        assert_eq!(read(b"\x93\xfa\x96{\x8c\xea \xff", Some("shift_jis")), ("日本語 \u{fffd}".into(), "Shift_JIS"));
    }

    #[test]
    fn what_is_declared_wrongly_or_not_at_all_is_guessed() {
        let (japanese, _, _) =
            encoding_rs::SHIFT_JIS.encode("これは日本語の文章です。文字コードは宣言されていません。");
        assert_eq!(read(&japanese, None).1, "Shift_JIS");
        assert_eq!(read(&japanese, Some("utf-8")).1, "Shift_JIS", "the server is wrong");
        assert_eq!(read(&japanese, Some("no-such-charset")).1, "Shift_JIS");
        let latin = b"Die Stra\xdfe f\xfchrt \xfcber die gro\xdfe Br\xfccke zum sch\xf6nen Schlo\xdf";
        assert_eq!(
            read(latin, Some("utf-8")),
            ("Die Straße führt über die große Brücke zum schönen Schloß".into(), "windows-1252")
        );
        let own = [&b"<meta charset=windows-1251>"[..], b"\xcf\xf0\xe8\xe2\xe5\xf2"].concat();
        assert_eq!(read(&own, Some("utf-8")).1, "windows-1251", "the page knows better");
        assert_eq!(read("schön".as_bytes(), None), ("schön".into(), "UTF-8"));
        assert_eq!(read(b"", None).0, "");
    }

    proptest! {
        #[test]
        fn any_bytes_are_text(bytes: Vec<u8>, declared in proptest::option::of("[a-z0-9-]{0,12}")) {
            for declares in [Declares::Html, Declares::Xml, Declares::Nowhere] {
                let _ = decode(&bytes, declared.as_deref(), declares);
            }
        }

        #[test]
        fn any_start_is_looked_at(text in "(<|</|<!--|-->|meta|[ /=\"'>]|charset|content|utf-8|[a-z]{0,3}){0,30}") {
            let _ = meta(text.as_bytes());
        }

        #[test]
        fn utf8_is_read_as_it_is(text in "\\PC{0,60}") {
            prop_assert_eq!(decode(text.as_bytes(), Some("UTF-8"), Declares::Html).text, text);
        }
    }
}
