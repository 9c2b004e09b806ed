use std::time::Duration;

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::*;

fn budget() -> Budget {
    Budget::new(CancellationToken::new(), Duration::from_secs(60))
}

/// The tree on one line.
fn tree(text: &str, syntax: Syntax) -> String {
    let dom = parse(text, syntax, &budget()).unwrap_or_else(|error| panic!("{error:?}"));
    let mut written = Vec::new();
    for id in dom.below(DOCUMENT) {
        let depth = std::iter::successors(dom.parent(id), |id| dom.parent(*id)).count();
        let name = match dom.data(id) {
            Data::Element(element) => element.name().to_owned(),
            Data::Text(text) => format!("{text:?}"),
            Data::Root => "#".into(),
        };
        written.push(format!("{depth}{name} "));
    }
    written.concat()
}

#[test]
fn a_document_is_read_as_browsers_read_it() {
    for (html, read) in [
        ("<p>a<p>b", "1html 2head 2body 3p 4\"a\" 3p 4\"b\" "),
        ("<b><p>x</b>y", "1html 2head 2body 3b 3p 4b 5\"x\" 4\"y\" "),
        ("<table>x<tr><td>y", "1html 2head 2body 3\"x\" 3table 4tbody 5tr 6td 7\"y\" "),
        ("a<!-- b -->c<![CDATA[d]]>e\0f", "1html 2head 2body 3\"acef\" "),
        ("<svg><![CDATA[x]]></svg>", "1html 2head 2body 3svg 4\"x\" "),
        ("<template><p>x</template>", "1html 2head 3template 2body "),
        ("<custom-element>x</custom-element>y", "1html 2head 2body 3x-other 4\"x\" 3\"y\" "),
    ] {
        assert_eq!(tree(html, Syntax::Html), read, "{html}");
    }
}

#[test]
fn a_document_in_xml_is_read_by_its_rules() {
    for (xml, read) in [
        ("<html><p/>x<script/>y</html>", "1html 2p 2\"x\" 2script 2\"y\" "),
        ("<a>&lt;&nbsp;&#65;<![CDATA[<b>]]></a>", "1a 2\"<\\u{a0}A<b>\" "),
        ("<?xml version='1.0'?><!DOCTYPE a><!-- c --><a>x</a>", "1a 2\"x\" "),
        ("<P>x</P>", "1P 2\"x\" "),
    ] {
        assert_eq!(tree(xml, Syntax::Xml), read, "{xml}");
    }
}

#[test]
fn nesting_is_bounded_and_text_is_not_lost() {
    for (piece, end) in [("<div>", "</div>"), ("<b>", "</b>"), ("<blockquote>", "</blockquote>"), ("<x-y>", "</x-y>")] {
        for syntax in [Syntax::Html, Syntax::Xml] {
            let text = format!("<html><body>{}deep{}last</body></html>", piece.repeat(3_000), end.repeat(3_000));
            let dom = parse(&text, syntax, &budget()).unwrap_or_else(|error| panic!("{error:?}"));
            let deepest = |id| std::iter::successors(dom.parent(id), |id| dom.parent(*id)).count();
            assert!(dom.below(DOCUMENT).map(deepest).max().unwrap_or(0) <= 2 * filter::MAX_DEPTH, "{piece}");
            let texts: Vec<_> = dom.below(DOCUMENT).filter_map(|id| dom.text(id)).collect();
            assert_eq!(texts, ["deep", "last"], "{piece} {syntax:?}");
        }
    }
}

#[test]
fn more_elements_than_are_taken_are_refused() {
    let many = "<p>x".repeat(dom::MAX_ELEMENTS + 1);
    assert_eq!(parse(&many, Syntax::Html, &budget()).err(), Some(Unparsed::TooLarge));
}

proptest! {
    #[test]
    fn what_is_left_out_is_no_text(
        pieces in prop::collection::vec("<(div|b|i|a|p|table|tr|td|ul|li|svg|math|font|nobr|h1|form)>|</(div|b|a|p|table|td|ul|font)>|w", 0..200)
    ) {
        // Everywhere but in tables text is where it stands.
        let html = pieces.concat();
        let words = pieces.iter().filter(|piece| *piece == "w").count();
        let dom = parse(&html, Syntax::Html, &budget());
        let dom = dom.unwrap_or_else(|error| panic!("{error:?}"));
        let found: usize = dom.below(DOCUMENT).filter_map(|id| dom.text(id)).map(str::len).sum();
        prop_assert_eq!(found, words);
    }

    #[test]
    fn any_text_is_a_document(text in "(?s).{0,200}|(<[a-z/!?]{0,3}|[a-z =\"'>/&;#]{0,3}|]]>|-->|<!\\[CDATA\\[){0,80}") {
        for syntax in [Syntax::Html, Syntax::Xml] {
            prop_assert!(parse(&text, syntax, &budget()).is_ok());
        }
    }
}
