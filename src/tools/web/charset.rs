//! Bytes to text, in whatever encoding a page is written.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// Where a document may say its encoding: so many bytes from its start.
const PRESCAN: usize = 1024;

/// A text and the encoding that it was written in.
pub(super) struct Decoded {
    pub text: String,
    pub charset: &'static str,
}

/// Decodes a document: by its byte order mark, by what the server says, by
/// what it says itself, and when none of these fits, by a guess.
pub(super) fn decode(bytes: &[u8], said: Option<&str>) -> Decoded {
    if let Some((encoding, _)) = Encoding::for_bom(bytes) {
        let (text, _) = encoding.decode_with_bom_removal(bytes);
        return Decoded { text: text.into_owned(), charset: encoding.name() };
    }
    let server = said.and_then(|label| Encoding::for_label(label.as_bytes()));
    if let Some(encoding) = server.or_else(|| own_word(bytes)) {
        let (text, broken) = encoding.decode_without_bom_handling(bytes);
        if !broken {
            return Decoded { text: text.into_owned(), charset: encoding.name() };
        }
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, true);
    let encoding = detector.guess(None, Utf8Detection::Allow);
    let (text, _) = encoding.decode_without_bom_handling(bytes);
    Decoded { text: text.into_owned(), charset: encoding.name() }
}

/// What the document says of itself: `<meta charset>`, its older form, or the
/// first line of XML.
fn own_word(bytes: &[u8]) -> Option<&'static Encoding> {
    let start = bytes[..bytes.len().min(PRESCAN)].to_ascii_lowercase();
    let xml = start.starts_with(b"<?xml").then(|| label(&start, b"encoding")).flatten();
    let meta = || {
        let mut tags = start.split(|byte| *byte == b'<').filter(|tag| tag.starts_with(b"meta"));
        tags.find_map(|tag| label(tag.split(|byte| *byte == b'>').next().unwrap_or_default(), b"charset"))
    };
    let encoding = Encoding::for_label(&xml.or_else(meta)?)?;
    // It was read as ASCII, so it cannot be what it says.
    Some(if encoding == UTF_16BE || encoding == UTF_16LE { UTF_8 } else { encoding })
}

/// The value after `name=`, with or without quotes.
fn label(text: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let at = text.windows(name.len()).position(|window| window == name)? + name.len();
    let value = text[at..].trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
    let ends = |byte: &u8| matches!(byte, b'"' | b'\'' | b';' | b'/' | b'>' | b'?') || byte.is_ascii_whitespace();
    Some(value.iter().copied().take_while(|byte| !ends(byte)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8], said: Option<&str>) -> (String, &'static str) {
        let Decoded { text, charset } = decode(bytes, said);
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
    fn every_way_in_which_a_page_says_it() {
        for page in [
            "<META CHARSET='koi8-r'>",
            "<meta charset = \"koi8-r\" />",
            "<meta http-equiv=content-type content=\"text/html; charset=koi8-r\">",
            "<?xml version=\"1.0\" encoding=\"koi8-r\"?>",
            "<!-- <x> --><head><meta name=a><meta charset=koi8-r>",
        ] {
            assert_eq!(read(page.as_bytes(), None).1, "KOI8-R", "{page}");
        }
        assert_eq!(read(b"<meta charset=utf-16>\xc3\xa4", None).1, "UTF-8");
        assert_eq!(read(b"<meta charset=nonsense>\xc3\xa4", None).1, "UTF-8");
    }

    #[test]
    fn what_is_said_wrongly_or_not_at_all_is_guessed() {
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
        assert_eq!(read("schön".as_bytes(), None), ("schön".into(), "UTF-8"));
        assert_eq!(read(b"", None).0, "");
    }

    proptest! {
        #[test]
        fn any_bytes_are_text(bytes: Vec<u8>, said in proptest::option::of("[a-z0-9-]{0,12}")) {
            let _ = decode(&bytes, said.as_deref());
        }

        #[test]
        fn utf8_is_read_as_it_is(text in "\\PC{0,60}") {
            prop_assert_eq!(decode(text.as_bytes(), Some("UTF-8")).text, text);
        }
    }
}
