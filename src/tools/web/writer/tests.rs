//! The writer as a whole: what stands on a page, and that it is read back as it
//! stands there.

use std::time::Duration;

use proptest::prelude::*;
use pulldown_cmark::{Event, Parser, Tag, TagEnd};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::tools::web::html::{Syntax, parse};

fn write_as(html: &str, syntax: Syntax, markdown: bool) -> String {
    let base = Url::parse("https://example.com/docs/page").expect("a URL");
    let budget = Budget::new(CancellationToken::new(), Duration::from_secs(60));
    let dom = parse(html, syntax, &budget).unwrap_or_else(|error| panic!("{error:?}"));
    let options = Options { markdown, base: &base, navigation: false, chars: 1_000_000 };
    write(&dom, options, &budget).expect("written")
}

fn markdown(html: &str) -> String {
    write_as(html, Syntax::Html, true)
}

fn plain(html: &str) -> String {
    write_as(html, Syntax::Html, false)
}

/// What a reader of Markdown shows: the text, and where its links lead.
fn shown(markdown: &str) -> (String, Vec<String>) {
    let options = pulldown_cmark::Options::ENABLE_TABLES
        | pulldown_cmark::Options::ENABLE_STRIKETHROUGH
        | pulldown_cmark::Options::ENABLE_TASKLISTS
        | pulldown_cmark::Options::ENABLE_FOOTNOTES;
    let (mut text, mut links) = (String::new(), Vec::new());
    for event in Parser::new_ext(markdown, options) {
        match event {
            Event::Text(words) | Event::Code(words) => text.push_str(&words),
            Event::Start(Tag::Link { dest_url, .. }) => links.push(dest_url.into_string()),
            Event::Start(Tag::Emphasis | Tag::Strong | Tag::Strikethrough)
            | Event::End(TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link)
            | Event::Rule => {}
            Event::Start(_) | Event::End(_) | Event::SoftBreak | Event::HardBreak => text.push(' '),
            Event::InlineHtml(html) if &*html == "<br>" => text.push(' '),
            other => text.extend(["«", &format!("{other:?}"), "»"]),
        }
    }
    (text.split_whitespace().collect::<Vec<_>>().join(" "), links)
}

#[track_caller]
fn assert_written(html: &str, expected: &str) {
    assert_eq!(markdown(html), expected, "{html}");
}

#[test]
fn raised_and_lowered_text_is_told_from_what_is_before_it() {
    for (html, expected) in [
        ("10<sup>6</sup> m<sup>2</sup>", "10^6 m^2"),
        ("10<sup>-6</sup> e<sup>iπ</sup> x<sup>n+1</sup>", "10^-6 e^(iπ) x^(n+1)"),
        ("H<sub>2</sub>O a<sub>i,j</sub>", "H_2O a_(i,j)"),
        ("the 4<sup>th</sup>, 1<sup>er</sup>, Foo<sup>TM</sup>, Bar<sup>®</sup>", "the 4th, 1er, FooTM, Bar®"),
        ("<code>2<sup>10</sup></code>", "`2^10`"),
        ("<pre>2<sup>10</sup></pre>", "```\n2^10\n```"),
        ("known<sup>[1]</sup>", "known[1]"),
        ("known<sup><a href='#fn1'>1</a></sup>.", "known[[1]](https://example.com/docs/page#fn1)."),
        ("known<a href='#fn1'><sup>1</sup></a>", "known[[1]](https://example.com/docs/page#fn1)"),
        (
            "known<sup><a href='#c'><span>[</span>1<span>]</span></a></sup>",
            "known[[1]](https://example.com/docs/page#c)",
        ),
        ("a<sup></sup>b<sup> </sup>c", "ab c"),
        ("<b>x<sup>2</sup></b>", "**x^2**"),
        ("<a href='/x'>10<sup>6</sup> things</a>", "[10^6 things](https://example.com/x)"),
    ] {
        assert_written(html, expected);
    }
    assert_eq!(plain("10<sup>6</sup> H<sub>2</sub>O"), "10^6 H_2O");
}

#[test]
fn text_that_looks_like_markup_is_text() {
    for (html, expected) in [
        ("&lt;script&gt;alert(1)&lt;/script&gt;", "\\<script>alert(1)\\</script>"),
        ("[x](javascript:alert(1))", "[x\\](javascript:alert(1))"),
        ("&amp;lt; &amp;amp;", "\\&lt; \\&amp;"),
        ("<p># a<p>- b<p>1. c<p>&gt; d<p>=== ", "\\# a\n\n\\- b\n\n1\\. c\n\n\\> d\n\n\\==="),
        ("<b>1</b>. x", "**1**. x"),
        ("a | b<br>--- | ---", "a | b  \n\\--- | ---"),
        ("&lt;<b>b&gt;</b> &lt;<b>b:</b>c&gt;", "<**b>** \\<b:c>"),
        ("<a href='/x'>[a](b)</a>", "[\\[a\\](b)](https://example.com/x)"),
        ("!<a href='/x'>y</a>", "\\![y](https://example.com/x)"),
        ("<ul><li>[ ] todo</ul>", "- \\[ ] todo"),
        ("<h1>C #</h1><h2># x</h2>", "# C \\#\n\n## # x"),
    ] {
        assert_written(html, expected);
    }
}

#[test]
fn only_links_that_can_be_followed_are_links() {
    for href in
        ["javascript:alert(1)", " JAVASCRIPT:x", "data:text/html,x", "vbscript:x", "file:///etc", "java\nscript:x"]
    {
        assert_written(&format!("<a href='{href}'>text</a>"), "text");
    }
    for (html, expected) in [
        ("<a href='mailto:a@b.test'>m</a> <a href='tel:+47'>t</a>", "[m](mailto:a@b.test) [t](tel:+47)"),
        ("<a href='x y(z'>s</a>", "[s](<https://example.com/docs/x%20y(z>)"),
        ("<a href='/w_(x)'>w</a>", "[w](https://example.com/w_(x))"),
        ("<a href='a\nb'>n</a>", "[n](https://example.com/docs/ab)"),
        ("<a href='//b.test/?a=1&amp;copy=2&amp;lt;'>q</a>", "[q](https://b.test/?a=1&copy=2\\&lt;)"),
        ("<a href='/x'> padded </a>text", "[padded](https://example.com/x) text"),
        ("<a href='/x'></a><a name=y>z</a>", "z"),
        (
            "<a href='/x'><div>one</div><div>two</div></a>",
            "[one](https://example.com/x)\n\n[two](https://example.com/x)",
        ),
        ("<a href='/x'><img alt='a picture'></a>", "[a picture](https://example.com/x)"),
    ] {
        assert_written(html, expected);
    }
}

#[test]
fn lists_keep_their_numbers_and_depth() {
    for (html, expected) in [
        ("<ol><li>a<li>b</ol><ol><li>c</ol>", "1. a\n2. b\n\n1) c"),
        ("<ol start=3><li>a<li value=7>b<li>c</ol>", "3. a\n\n7) b\n8) c"),
        ("<ol reversed><li>a<li>b<li>c</ol>", "3. a\n\n2) b\n\n1. c"),
        ("<ol type=a><li>x<li><p>y</p></ol>", "- a. x\n- b. y"),
        ("<ol start=-1><li>x<li>y</ol>", "- -1. x\n\n0. y"),
        ("<ul><li>a<ul><li>b<ol><li>c</ol></ul><li>d</ul>", "- a\n  - b\n    1. c\n- d"),
        ("<ul><li><p>a</p><p>b</p><li><pre>c\nd</pre></ul>", "- a\n\n  b\n- ```\n  c\n  d\n  ```"),
        ("<ul><li></li><li> </li><li>x</ul>", "- x"),
        ("<ul><li><ul><li>x</ul></ul>", "- - x"),
        ("<ul><li><hr>x</ul>", "- ___\n\n  x"),
        ("<dl><dt>term<dd>meaning<dd><p>other</p></dl>", "**term**\n- meaning\n- other"),
    ] {
        assert_written(html, expected);
    }
    assert_eq!(plain("<ol start=3><li>a<li value=7>b</ol>"), "3. a\n\n7. b");
}

#[test]
fn tables_keep_cells_in_their_columns() {
    for (html, expected) in [
        (
            "<table><caption>Sizes</caption><thead><tr><th>a<th>b</thead><tbody><tr><td>1|2<td>x<br>y</table>",
            "Sizes\n\n| a | b |\n| --- | --- |\n| 1\\|2 | x<br>y |",
        ),
        (
            "<table><tr><th colspan=2>wide<tr><td rowspan=2>a<td>b<tr><td>c</table>",
            "| wide |  |\n| --- | --- |\n| a | b |\n|  | c |",
        ),
        ("<table><tr><td>a<table><tr><td>b<td>c</table><td>d</table>", "a\n\n| b | c |\n| --- | --- |\n\nd"),
        ("<table><tr><td>one<tr><td><p>two</table>", "| one |\n| --- |\n| two |"),
        ("<table><tr><td><pre>1\n2</pre><td><pre>x\ny</pre></table>", "```\n1\n2\n```\n\n```\nx\ny\n```"),
        (
            "<table><tr><td><ul><li>a<li>b</ul><td>`c`<td><code>d|e</code></table>",
            "| a<br>b | \\`c\\` | `d\\|e` |\n| --- | --- | --- |",
        ),
        ("<table role=presentation><tr><td>a<td>b</table>", "a\n\nb"),
        ("<table><tr><td></table>x", "x"),
    ] {
        assert_written(html, expected);
    }
    assert_eq!(plain("<table><tr><td>a<td>b<tr><td>c<td></table>"), "a\tb\nc");
}

#[test]
fn code_keeps_its_space_and_language() {
    for (html, expected) in [
        ("<pre>  a\n\n\tb\n</pre>", "```\n  a\n\n\tb\n```"),
        ("<pre><code class='language-rust'>fn x() {}</code></pre>", "```rust\nfn x() {}\n```"),
        (
            "<div class='highlight-c notranslate'><div class=highlight><pre><span>x</span></pre></div></div>",
            "```c\nx\n```",
        ),
        ("<pre>```\nx\n```</pre>", "````\n```\nx\n```\n````"),
        ("<pre>a<br>b<div>c</div>d</pre>", "```\na\nb\nc\nd\n```"),
        ("<code>a`b</code> <code>c</code><code>d</code>", "``a`b`` `cd`"),
        ("<code> x  y </code>", "`x y`"),
        ("<code><a href='/v'>Vec</a>&lt;T&gt;</code>", "[`Vec`](https://example.com/v)`<T>`"),
        ("<kbd>Ctrl</kbd>+<samp>x</samp>", "`Ctrl`+`x`"),
    ] {
        assert_written(html, expected);
    }
}

#[test]
fn emphasis_is_written_where_it_is_read_as_one() {
    for (html, expected) in [
        ("<b>bold</b> <i>it</i> <b><i>both</i></b> <del>old</del>", "**bold** *it* ***both*** ~~old~~"),
        ("<b> a </b>b", "**a** b"),
        ("<b>a:</b>b", "a:b"),
        ("<b>a</b><i>b</i>", "**a**b"),
        ("un<em>frigging</em>believable", "un*frigging*believable"),
        ("<b>a</b><b>b</b>", "**ab**"),
        ("<b>x <i>y</i> z</b>", "**x** ***y*** **z**"),
        ("<b></b><i> </i>x", "x"),
        ("<h2><b>x</b></h2>", "## x"),
    ] {
        assert_written(html, expected);
    }
}

#[test]
fn what_a_reader_does_not_see_is_left_out() {
    for html in [
        "<p hidden>no</p>yes",
        "<div style='color:red; DISPLAY : none'>no</div>yes",
        "<p style='visibility:hidden'>no</p>yes",
        "<template>no</template>yes",
        "<noscript>no</noscript>yes",
        "<script>no</script><style>no</style>yes",
        "<nav>no</nav>yes",
        "<ul role=navigation><li>no</ul>yes",
        "<button>no</button><select><option>no</select><textarea>no</textarea>yes",
        "<dialog>no</dialog><iframe>no</iframe><video>no</video>yes",
        "<svg><title>no</title><text>yes</text></svg>",
        "<head><title>no</title></head>yes",
        "y\u{ad}e\u{200b}s",
        "<!-- no -->yes",
    ] {
        assert_written(html, "yes");
    }
    assert_written("<details><summary>more</summary>inside</details>", "more\n\ninside");
    assert_written("<div><template shadowrootmode=open><p>shadow</p></template></div>", "shadow");
    assert_written("<p hidden=until-found>found</p>", "found");
}

#[test]
fn formulas_readings_quotes_and_pictures() {
    for (html, expected) in [
        ("<math><msup><mi>c</mi><mn>2</mn></msup></math>", "c^2"),
        (
            "so <math><semantics><mi>x</mi><annotation encoding='application/x-tex'>\\frac{a}{b}_1</annotation></semantics></math>.",
            "so $`\\frac{a}{b}_1`$.",
        ),
        ("<img class='mwe-math-fallback-image-inline' alt='{\\displaystyle x^{2}}'>", "$`x^{2}`$"),
        ("<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby>", "漢(かん)"),
        ("<ruby>漢<rt>かん</rt></ruby>", "漢(かん)"),
        ("<q>a <q>b</q></q>", "“a ‘b’”"),
        ("a<img alt=b>c<img alt=''><img>", "a b c"),
        ("one<br>two<br><br>three<wbr>four", "one  \ntwo\n\nthreefour"),
        ("<blockquote><p>a<p>b</blockquote>c", "> a\n>\n> b\n\nc"),
        (
            "<frameset><frame src=/a name=Left><frame src=/b></frameset>",
            "[Left](https://example.com/a)\n\n[https://example.com/b](https://example.com/b)",
        ),
        ("<h2>Title<a href='#t'>¶</a></h2>", "## Title"),
    ] {
        assert_written(html, expected);
    }
}

#[test]
fn xhtml_is_read_by_the_rules_of_xml() {
    let page = "<?xml version='1.0'?><!DOCTYPE html PUBLIC '-//W3C//DTD XHTML 1.0 Strict//EN' 'x'>\
                <html xmlns='http://www.w3.org/1999/xhtml'><head><title/><script src='x'/><style/></head><body>\
                <p/><p>one<br/>two</p><textarea/><![CDATA[<b>&amp;]]>&#160;&eacute;&nbsp;<a/>three\
                <table><tr><td>a</td><td>b</td></tr></table></body></html>";
    assert_eq!(
        write_as(page, Syntax::Xml, true),
        "one  \ntwo\n\n\\<b>\\&amp;\u{a0}é\u{a0}three\n\n| a | b |\n| --- | --- |"
    );
    let prefixed =
        "<h:html xmlns:h='http://www.w3.org/1999/xhtml'><h:p>a<h:br/>b</h:p><x:p xmlns:x='y'>c</x:p></h:html>";
    assert_eq!(write_as(prefixed, Syntax::Xml, true), "a  \nb\n\nc");
    // What people write who do not know that it is XML.
    assert_eq!(write_as("<p>a<br>b & c</p><p>d</p>", Syntax::Xml, true), "a  \nb & c");
    assert_eq!(write_as("<html><body><p>a<br>b &amp c<hr><p>d", Syntax::Xml, true), "a  \nb & c\n\n---\n\nd");
    assert_eq!(write_as("no element", Syntax::Xml, true), "no element");
}

#[test]
fn text_below_deep_nesting_is_not_lost() {
    for piece in
        ["<div>", "<blockquote>", "<ul><li>", "<b>", "<table><tr><td>", "<span>", "<section><h1>", "<a href=x>"]
    {
        let html = format!("first {}deep</div></blockquote></ul></table> last<p>end", piece.repeat(5_000));
        let text = plain(&html);
        for word in ["first", "deep", "last", "end"] {
            assert!(text.contains(word), "{piece}: {word} is missing in {text}");
        }
    }
    let xml = format!("<html><body>{}deep{} last</body></html>", "<div>".repeat(5_000), "</div>".repeat(5_000));
    assert_eq!(write_as(&xml, Syntax::Xml, false), "deep\n\nlast");
}

/// A piece of a page, and the text that a reader sees there.
#[derive(Clone, Debug, Default)]
struct Piece {
    html: String,
    text: String,
}

impl Piece {
    fn text(text: &str) -> Self {
        let html = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        Self { html, text: text.to_owned() }
    }

    fn joined(pieces: &[Self]) -> Self {
        let html = pieces.iter().map(|piece| piece.html.as_str()).collect();
        Self { html, text: pieces.iter().map(|piece| piece.text.as_str()).collect() }
    }

    fn within(self, tag: &str) -> Self {
        let name = tag.split(' ').next().unwrap_or_default();
        Self { html: format!("<{tag}>{}</{name}>", self.html), text: self.text }
    }

    /// As a block: what is around it is not part of its words.
    fn apart(self, tag: &str) -> Self {
        let Self { html, text } = self.within(tag);
        Self { html, text: format!(" {text} ") }
    }
}

/// Words and everything that means something in Markdown.
fn nasty() -> impl Strategy<Value = Piece> {
    let mark = prop::sample::select(vec![
        "*",
        "_",
        "`",
        "[",
        "]",
        "(",
        ")",
        "<",
        ">",
        "!",
        "#",
        "&",
        "|",
        "~",
        "\\",
        "-",
        "+",
        "=",
        ":",
        ".",
        "1",
        "10",
        "a",
        "Wort",
        "é",
        "字",
        "—",
        "“",
        "\u{a0}",
        "😀",
        " ",
        " ",
        " ",
        "&amp;",
        "<b>",
        "](",
        "![",
        "---",
        "***",
        "[x]: y",
        "[^1]",
        "~~",
        "```",
        "{#a}",
        "$",
        "^",
        "http://a.test/",
        "1. ",
        "- ",
        "# ",
        "    ",
        "\t",
        "\n",
    ]);
    prop::collection::vec(mark, 1..8).prop_map(|marks| Piece::text(&marks.concat()))
}

fn line() -> impl Strategy<Value = Piece> {
    let tag = prop::sample::select(vec![
        "b",
        "i",
        "em",
        "strong",
        "code",
        "span",
        "a href='/x_(y)?a=1&amp;b=2'",
        "del",
        "u",
        "kbd",
    ]);
    let leaf = prop_oneof![5 => nasty(), 1 => Just(Piece { html: "<br>".into(), text: " ".into() })];
    let inline = leaf.prop_recursive(3, 24, 4, move |inner| {
        (prop::collection::vec(inner, 1..4), tag.clone()).prop_map(|(pieces, tag)| Piece::joined(&pieces).within(tag))
    });
    prop::collection::vec(inline, 1..5).prop_map(|pieces| Piece::joined(&pieces))
}

fn page() -> impl Strategy<Value = Piece> {
    let cells = prop::collection::vec(prop::collection::vec(line(), 2..4), 1..4).prop_map(|rows| {
        let rows = rows.into_iter().map(|cells| {
            let cells: Vec<_> = cells.into_iter().map(|cell| cell.apart("td")).collect();
            Piece::joined(&cells).within("tr")
        });
        Piece::joined(&rows.collect::<Vec<_>>()).apart("table")
    });
    let terms = (line(), line())
        .prop_map(|(term, meaning)| Piece::joined(&[term.apart("dt"), meaning.apart("dd")]).apart("dl"));
    let tag = prop::sample::select(vec!["p", "h1", "h3", "div", "figcaption", "summary"]);
    let leaf = prop_oneof![
        6 => (line(), tag).prop_map(|(line, tag)| line.apart(tag)),
        2 => line(),
        1 => cells,
        1 => terms,
        1 => nasty().prop_map(|code| code.apart("pre")),
        1 => Just(Piece { html: "<hr>".into(), text: " ".into() }),
    ];
    let tag = prop::sample::select(vec!["blockquote", "ul", "ol", "ol start=7", "div", "section"]);
    let block = leaf.prop_recursive(4, 30, 4, move |inner| {
        let items = prop::collection::vec(inner, 1..4);
        (items, tag.clone()).prop_map(|(blocks, tag)| {
            let is_list = tag.starts_with(['u', 'o']);
            let blocks: Vec<_> =
                blocks.into_iter().map(|block| if is_list { block.apart("li") } else { block }).collect();
            Piece::joined(&blocks).apart(tag)
        })
    });
    prop::collection::vec(block, 1..5).prop_map(|blocks| Piece::joined(&blocks))
}

/// Without what is not shown and with one space where there is any.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1_000), ..ProptestConfig::default() })]

    #[test]
    fn markdown_is_read_back_as_the_text_of_the_page(page in page()) {
        let written = markdown(&page.html);
        let (text, links) = shown(&written);
        prop_assert_eq!(text, words(&page.text), "{}\n---\n{}", page.html, written);
        for link in links {
            prop_assert_eq!(link, "https://example.com/x_(y)?a=1&b=2");
        }
// Marks of lists are no part of the page.
        let letters = |text: &str| words(&text.replace(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.'), ""));
        prop_assert_eq!(letters(&plain(&page.html)), letters(&page.text));
    }

    #[test]
    fn any_markup_is_written(html in "(<[a-z]{1,5}( [a-z]{1,4}=\"?[a-z]{0,3}\"?)?/?>|</[a-z]{1,5}>|[a-z &;<>]{0,6}|<(ul|ol|li|table|tr|td|sup|ruby|rt|math|svg|pre|h1|q|dl|dd|a href=x)>){0,40}") {
        for syntax in [Syntax::Html, Syntax::Xml] {
            for markdown in [true, false] {
                let written = write_as(&html, syntax, markdown);
                prop_assert_eq!(written.trim_end_matches([' ', '\n']), written.as_str());
            }
        }
    }
}
