//! A page as text that a person or a model can read.

use html_to_markdown_rs::{
    ConversionOptions, InlineDataMedia, OutputFormat, PreprocessingOptions, PreprocessingPreset, convert,
};
use serde::Deserialize;
use url::Url;

use crate::jobs::Failure;

/// Elements of a page at most. The parser's memory goes with them, and the
/// largest pages that people write have some tens of thousands.
const MAX_ELEMENTS: usize = 150_000;
/// Cells that tables may have when every row is as wide as the widest: the
/// converter fills rows up.
const MAX_CELLS: usize = 4_000_000;
/// The width at which the converter stops.
const MAX_COLUMNS: usize = 1_000;

/// Characters of a title that are read.
const TITLE_CHARS: usize = 1_000;

/// How the content is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    #[default]
    Markdown,
    Text,
    Html,
}

/// A page, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub title: Option<String>,
    pub content: String,
}

/// Turns HTML into what is wanted. Links become absolute; scripts, styles,
/// navigation, fields to fill in and what a reader would not see are left out.
pub(super) fn read(html: String, base: &Url, format: Format) -> Result<Page, Failure> {
    let title = title(&html);
    let output_format = match format {
        Format::Html => return Ok(Page { title, content: html }),
        Format::Markdown => OutputFormat::Markdown,
        Format::Text => OutputFormat::Plain,
    };
    too_complex(&html)?;
    let options = ConversionOptions {
        output_format,
        base_url: Some(base.to_string()),
        compact_tables: true,
        // Otherwise it writes the title and more above the content.
        extract_metadata: false,
        inline_data_media: InlineDataMedia::AltTextOnly,
        exclude_selectors: ["button", "input", "select", "textarea"].map(str::to_owned).into(),
        preprocessing: PreprocessingOptions {
            enabled: true,
            preset: PreprocessingPreset::Standard,
            remove_navigation: true,
            // There are pages that are one form from top to bottom.
            remove_forms: false,
        },
        ..ConversionOptions::default()
    };
    let converted = convert(&html, Some(options))
        .map_err(|error| Failure::permanent("unreadable_page", format!("the page cannot be read: {error}")))?;
    Ok(Page { title, content: converted.content.unwrap_or_default().trim().to_owned() })
}

/// What stands in the first `<title>`.
fn title(html: &str) -> Option<String> {
    let find = |from: usize, what: &str| {
        let place = html.as_bytes()[from..].windows(what.len()).position(|it| it.eq_ignore_ascii_case(what.as_bytes()));
        place.map(|place| from + place)
    };
    let tag = find(0, "<title")?;
    let start = find(tag, ">")? + 1;
    let end = find(start, "</title")?;
    let text: String = html[start..end].chars().take(TITLE_CHARS).collect();
    // Only references to characters mean something in there.
    Some(plain(&text.replace('<', "&lt;"))).filter(|title| !title.is_empty())
}

/// The text of a bit of HTML, such as a search provider's snippet.
pub(super) fn plain(html: &str) -> String {
    if !html.contains(['<', '&']) {
        return one_line(html);
    }
    let options = ConversionOptions {
        output_format: OutputFormat::Plain,
        extract_metadata: false,
        ..ConversionOptions::default()
    };
    let text = convert(html, Some(options)).ok().and_then(|converted| converted.content);
    one_line(text.as_deref().unwrap_or(html))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Refuses what would take the parser or the converter far more memory than
/// its bytes. It counts what could be an element wherever it stands, so no
/// reading of the page has more.
fn too_complex(html: &str) -> Result<(), Failure> {
    let (mut elements, mut rows, mut cells, mut widest, mut spans) = (0_usize, 0_usize, 0_usize, 0_usize, 0_usize);
    for tag in html.as_bytes().split(|byte| *byte == b'<').skip(1) {
        if !tag.first().is_some_and(u8::is_ascii_alphabetic) {
            continue;
        }
        elements += 1;
        let is = |name: &[u8]| tag.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(name));
        if is(b"tr") || is(b"ta") {
            rows += usize::from(is(b"tr"));
            cells = 0;
        } else if is(b"td") || is(b"th") {
            // The start of a span says no more than that there is one.
            let spanning = contains(tag, b"span");
            cells += if spanning { MAX_COLUMNS.min(span(tag)) } else { 1 };
            spans += usize::from(contains(tag, b"rowspan"));
            widest = widest.max(cells);
        }
    }
    let width = (widest + spans).min(MAX_COLUMNS);
    if elements > MAX_ELEMENTS || rows.saturating_mul(width) > MAX_CELLS {
        return Err(Failure::permanent("page_too_complex", "the page has too many elements or cells to be converted"));
    }
    Ok(())
}

fn contains(tag: &[u8], name: &[u8]) -> bool {
    tag.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name))
}

/// The greatest number in a tag, which is at least its span.
fn span(tag: &[u8]) -> usize {
    let numbers = tag.split(|byte| !byte.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let value = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse().ok();
    numbers.map(|digits| value(digits).unwrap_or(usize::MAX)).max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(html: &str, format: Format) -> Page {
        let base = "https://example.com/docs/page".parse().expect("a URL");
        read(html.into(), &base, format).expect("a page")
    }

    const PAGE: &str = r#"<!doctype html><html><head><title> A
        page </title><style>p { color: red }</style><script>alert("x")</script></head><body>
        <nav><a href="/home">Home</a></nav>
        <main><h1>Heading</h1><p>Some <b>bold</b> and <a href="../other?a=1&amp;b=2">linked</a> text.</p>
        <ul><li>one</li><li>two</li></ul><pre><code>let x = 1 &lt; 2;</code></pre>
        <table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>
        <p style="display:none">hidden words</p><img src="data:image/png;base64,AAAA" alt="a picture"></main>
        <form><input name=q><button>Search</button></form></body></html>"#;

    #[test]
    fn a_page_becomes_markdown() {
        let page = page(PAGE, Format::Markdown);
        assert_eq!(page.title.as_deref(), Some("A page"));
        insta::assert_snapshot!(page.content);
    }

    #[test]
    fn a_page_becomes_plain_text() {
        insta::assert_snapshot!(page(PAGE, Format::Text).content);
    }

    #[test]
    fn html_is_left_as_it_is() {
        let page = page(PAGE, Format::Html);
        assert_eq!((page.title.as_deref(), page.content.as_str()), (Some("A page"), PAGE));
    }

    #[test]
    fn snippets_lose_their_marks() {
        assert_eq!(plain("Some <strong>bold</strong> &amp; plain\n text"), "Some bold & plain text");
        assert_eq!(plain("a  b"), "a b");
    }

    /// Inputs that overflow the stack or take for ever elsewhere.
    #[test]
    fn hostile_pages_are_read_or_refused() {
        let base: Url = "https://example.com/".parse().expect("a URL");
        for (piece, count) in [
            ("<div>", 100_000),
            ("<b><i><u>", 30_000),
            ("<ul><li>", 50_000),
            ("<table><tr><td>", 30_000),
            ("<p><form>", 40_000),
            ("<svg><g>", 50_000),
            ("<a href=x>", 50_000),
            ("<h1>", 50_000),
            ("</p></div>", 50_000),
            ("<", 500_000),
            ("&", 500_000),
            ("&#x", 100_000),
            ("<!--", 100_000),
            ("<![CDATA[", 50_000),
            ("<a a=\"", 50_000),
            ("`*_", 100_000),
            ("\u{0}", 100_000),
            ("<select><option>", 40_000),
            ("<blockquote>", 20_000),
            ("<template>", 50_000),
            ("<span> </span>", 50_000),
        ] {
            for format in [Format::Markdown, Format::Text] {
                let _ = read(format!("{}x", piece.repeat(count)), &base, format);
            }
        }
    }

    #[test]
    fn what_would_blow_up_is_refused() {
        let base: Url = "https://example.com/".parse().expect("a URL");
        let refused = |html: String| read(html, &base, Format::Markdown).map(|page| page.content.len());
        let many = "<p>x".repeat(MAX_ELEMENTS + 1);
        let wide = format!("<table><tr>{}{}", "<td>x".repeat(1_000), "<tr><td>".repeat(20_000));
        let spanned = format!("<table><tr><td colspan='1000'>{}", "<tr><td>".repeat(20_000));
        let tall = format!("<table>{}", "<tr><td ROWSPAN=1000>x".repeat(20_000));
        for html in [many, wide, spanned, tall] {
            assert_eq!(refused(html).expect_err("too complex").code, "page_too_complex");
        }
        let usual = format!("<table>{}", "<tr><td>a<td colspan=2>b".repeat(10_000));
        assert!(refused(usual).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_a_page(html in "(<[a-z]{1,5}( [a-z]{1,4}=\"?[a-z]{0,3}\"?)?>|</[a-z]{1,5}>|[a-z &;<>]{0,6}){0,40}") {
            let base: Url = "https://example.com/".parse().expect("a URL");
            for format in [Format::Markdown, Format::Text, Format::Html] {
                prop_assert!(read(html.clone(), &base, format).is_ok());
            }
            let _ = plain(&html);
        }
    }
}
