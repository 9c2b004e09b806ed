//! A bound on the attributes of a tag. The tokenizers compare each with all
//! before it, so a tag of half a million would take minutes. What is over the
//! bound is left out of the text before they see it.

use std::ops::Range;

use super::Syntax;

/// Attributes of one tag. Pages that people write have some dozens at most.
const MAX: usize = 128;
/// Elements whose content is text up to their end tag.
const RAW: &[&str] =
    &["script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes", "noscript", "plaintext"];

/// The parts of a text that are read: all of it, unless a tag has too many
/// attributes.
pub(super) fn bounded(text: &str, syntax: Syntax) -> Vec<Range<usize>> {
    let mut scan = Scan { bytes: text.as_bytes(), at: 0 };
    let (mut parts, mut start) = (Vec::new(), 0);
    while let Some(name) = scan.next_tag(syntax) {
        if let Some(cut) = scan.attributes() {
            parts.push(start..cut.start);
            start = cut.end;
        }
        let is_raw = |raw: &&&str| name.eq_ignore_ascii_case(raw.as_bytes());
        if syntax == Syntax::Html
            && let Some(raw) = RAW.iter().find(is_raw)
        {
            scan.skip_raw(raw);
        }
    }
    parts.push(start..text.len());
    parts
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at.min(self.bytes.len())..]
    }

    /// Goes behind the name of the next tag and gives the name; `/` and a name
    /// for an end tag. Comments and the like are passed over.
    fn next_tag(&mut self, syntax: Syntax) -> Option<&'a [u8]> {
        loop {
            self.at += self.rest().iter().position(|byte| *byte == b'<')? + 1;
            let rest = self.rest();
            let first = *rest.first()?;
            if rest.starts_with(b"!--") {
                self.skip_to(b"-->");
            } else if syntax == Syntax::Xml && rest.starts_with(b"![CDATA[") {
                self.skip_to(b"]]>");
            } else if first.is_ascii_alphabetic() || first == b'/' || (syntax == Syntax::Xml && first >= 0x80) {
                let end = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/');
                let length = 1 + rest[1..].iter().position(end).unwrap_or(rest.len() - 1);
                self.at += length;
                return Some(&rest[..length]);
            }
        }
    }

    /// Goes to the end of a tag. What is to be left out when it has too many
    /// attributes.
    fn attributes(&mut self) -> Option<Range<usize>> {
        let (mut count, mut in_name, mut cut) = (0_usize, false, None);
        while let Some(&byte) = self.rest().first() {
            match byte {
                b'>' => break,
                b'=' if in_name => {
                    self.at += 1;
                    self.value();
                    in_name = false;
                    continue;
                }
                b'/' => in_name = false,
                _ if byte.is_ascii_whitespace() => {
                    // A value may follow after white space.
                    let spaces = self.rest().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                    self.at += spaces;
                    in_name &= self.rest().first() == Some(&b'=');
                    continue;
                }
                _ if !in_name => {
                    in_name = true;
                    count += 1;
                    if count > MAX && cut.is_none() {
                        cut = Some(self.at);
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        cut.map(|start| start..self.at.min(self.bytes.len()))
    }

    /// Goes behind the value of an attribute.
    fn value(&mut self) {
        self.at += self.rest().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        match self.rest().first() {
            Some(&quote @ (b'"' | b'\'')) => {
                self.at += 1;
                self.at += self.rest().iter().position(|byte| *byte == quote).map_or(self.rest().len(), |end| end + 1);
            }
            _ => {
                let ends = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'>';
                self.at += self.rest().iter().position(ends).unwrap_or(self.rest().len());
            }
        }
    }

    fn skip_to(&mut self, end: &[u8]) {
        let found = self.rest().windows(end.len()).position(|window| window == end);
        self.at += found.map_or(self.rest().len(), |at| at + end.len());
    }

    /// Goes to the end tag of an element of raw text, which is left for the next.
    fn skip_raw(&mut self, name: &str) {
        let is_end = |window: &[u8]| window.starts_with(b"</") && window[2..].eq_ignore_ascii_case(name.as_bytes());
        let found = self.rest().windows(name.len() + 2).position(is_end);
        self.at += found.unwrap_or(self.rest().len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> String {
        bounded(text, Syntax::Html).into_iter().map(|range| &text[range]).collect()
    }

    fn numbered(count: usize, one: impl Fn(usize) -> String) -> String {
        (0..count).map(one).collect::<Vec<_>>().concat()
    }

    fn names(count: usize) -> String {
        numbered(count, |n| format!(" a{n}"))
    }

    #[test]
    fn a_tag_keeps_its_first_attributes() {
        let many = format!("<p>x</p><a{} href='/>'>text</a>", names(5_000));
        assert_eq!(read(&many), format!("<p>x</p><a{} >text</a>", names(MAX)));
        let valued = numbered(5_000, |n| format!("a{n} = \"x > y\" b{n}=z>"));
        assert_eq!(read(&format!("<a {valued}")), format!("<a {valued}"), "the first > ends the tag");
        let quoted = numbered(200, |n| format!("a{n} = \"x > y\"/"));
        assert_eq!(read(&format!("<a {quoted}>z")).matches("x > y").count(), MAX);
        assert_eq!(read(&format!("<a{}", names(300))), format!("<a{} ", names(MAX)));
    }

    #[test]
    fn text_that_only_looks_like_a_tag_stays() {
        let words = "word ".repeat(1_000);
        for text in [
            format!("<script>if (a<b && {words}) {{}}</script><p>x"),
            format!("<!-- <b {words} --><p>x"),
            format!("<textarea><b {words}></textarea>"),
            format!("<style><b {words}"),
            format!("a < b {words}"),
            format!("<p>{words}"),
            format!("<?php {words} ?>"),
        ] {
            assert_eq!(read(&text), text);
        }
        let cdata = format!("<p><![CDATA[<b {words}]]></p>");
        assert_eq!(bounded(&cdata, Syntax::Xml), std::iter::once(0..cdata.len()).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn what_has_few_attributes_is_read_as_it_is(text in "(?s)(<[a-z!/?]{0,6}|[a-z ]{0,4}|=|\"|'|>|-->|.){0,60}") {
            for syntax in [Syntax::Html, Syntax::Xml] {
                let parts = bounded(&text, syntax);
                prop_assert_eq!(parts, std::iter::once(0..text.len()).collect::<Vec<_>>());
            }
        }
    }
}
