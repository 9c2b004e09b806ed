use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn read_as(html: &str, syntax: Syntax, format: Format) -> Result<Read, Failure> {
    let url = "https://example.com/docs/page".parse().expect("a URL");
    let budget = Budget::new(CancellationToken::new(), Duration::from_secs(60));
    read(html.into(), syntax, Wanted { format, chars: 1_000_000, url: &url }, &budget)
}

fn page(html: &str, format: Format) -> Page {
    match read_as(html, Syntax::Html, format).expect("a page") {
        Read::Page(page) => page,
        Read::Elsewhere(url) => panic!("it leads to {url}"),
    }
}

fn leads(html: &str) -> Option<String> {
    match read_as(html, Syntax::Html, Format::Html).expect("a page") {
        Read::Page(_) => None,
        Read::Elsewhere(url) => Some(url.into()),
    }
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
    assert_eq!(
        page.content,
        "# Heading\n\nSome **bold** and [linked](https://example.com/other?a=1&b=2) text.\n\n- one\n- two\n\n\
         ```\nlet x = 1 < 2;\n```\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\na picture"
    );
}

#[test]
fn a_page_becomes_plain_text() {
    assert_eq!(
        page(PAGE, Format::Text).content,
        "Heading\n\nSome bold and linked text.\n\n- one\n- two\n\nlet x = 1 < 2;\n\na\tb\n1\t2\n\na picture"
    );
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

#[test]
fn titles_bases_and_menus() {
    for (html, title) in [
        ("<svg><title>no</title></svg><title>a &amp; <b>b</b></title>", Some("a & <b>b</b>")),
        ("<title> </title>", None),
        ("<p>x", None),
    ] {
        assert_eq!(page(html, Format::Text).title.as_deref(), title, "{html}");
    }
    for (base, link) in [
        ("<base href=/b/>", "https://example.com/b/x"),
        ("<base target=_top><base href='http://c.test/d'><base href=/e>", "http://c.test/x"),
        ("<base href='javascript:x'>", "https://example.com/docs/x"),
    ] {
        let content = page(&format!("{base}<a href=x>y</a>"), Format::Markdown).content;
        assert_eq!(content, format!("[y]({link})"), "{base}");
    }
    assert_eq!(page("<nav>only a menu</nav>", Format::Markdown).content, "only a menu");
}

#[test]
fn pages_that_lead_elsewhere() {
    for html in [
        "<meta http-equiv=refresh content='0; url=/next'>",
        "<META HTTP-EQUIV=Refresh CONTENT='5;URL=next'><base href=/>",
        "<p>moved</p><meta http-equiv=refresh content='x'><meta http-equiv=refresh content='1, /next'>",
    ] {
        assert_eq!(leads(html).as_deref(), Some("https://example.com/next"), "{html}");
    }
    for html in [
        "<noscript><meta http-equiv=refresh content='0; url=/next'></noscript>",
        "<template><meta http-equiv=refresh content='0; url=/next'></template>",
        "<!-- <meta http-equiv=refresh content='0; url=/next'> -->",
        "<meta http-equiv=refresh content='60; url=/next'>",
        "<meta http-equiv=refresh content='5'><meta http-equiv=refresh content='0; url=/next'>",
        "<meta name=refresh content='0; url=/next'>",
    ] {
        assert_eq!(leads(html), None, "{html}");
    }
}

/// Pages that overflow the stack of other converters, or take them time that grows
/// with the square, and end with a word. They grow with `size` and are no larger.
fn hostile(size: usize) -> Vec<String> {
    let numbered = |name: fn(usize) -> String| {
        let mut text = String::with_capacity(size);
        let mut number = 0;
        while text.len() + 32 < size {
            text.push_str(&name(number));
            number += 1;
        }
        text
    };
    let half = |piece: &str| piece.repeat(size / 2 / piece.len());
    let repeated = |piece: &str| piece.repeat(size / piece.len());
    let formatting = (0..1_000).map(|n| format!("<b class={n}>")).collect::<Vec<_>>().concat();
    let mut pages = vec![
        numbered(|n| format!("<x-name-{n}>")),
        format!("<a {}>", numbered(|n| format!("attr{n} "))),
        format!("<p>{formatting}{}", half("<p>x")),
        format!("{}{}", half("<div>"), half("<p>x</p>")),
        format!("{}{}", half("<div>"), half("</p>")),
        format!("{}{}", half("<div>"), half("</div>")),
        format!("<p>{}", repeated("&")),
        format!("<p>{}", repeated("& ")),
        format!("<p>{}", numbered(|n| format!("&#{n};"))),
        format!("<title>{}</title>", repeated("&")),
        format!("<table>{}", repeated("x<b>")),
    ];
    pages.extend(
        [
            "&",
            "<",
            "<!",
            "<?",
            "</",
            "&#x",
            "&a",
            "&amp;",
            "<!--",
            "<![CDATA[",
            "<a a=\"",
            "]]]]",
            "((((",
            "[[[[",
            "`*_",
            "\0",
            "<b>",
            "<div>",
            "<b><i><u>",
            "<ul><li>",
            "<table><tr><td>",
            "<p><form>",
            "<svg><g>",
            "<a href=x>",
            "<h1>",
            "</p></div>",
            "<select><option>",
            "<blockquote>",
            "<template>",
            "<span> </span>",
            "<math><mi>",
            "<a><div>",
            "<a><table>",
            "<sup>",
            "<ruby><rt>",
            "<dl><dd>",
            "<q>",
            "<pre>",
            "<b><p></b>",
            "word",
            "*a ",
            "_a ",
            "~a",
        ]
        .map(repeated),
    );
    pages
}

/// The steps of the conversion of a page, which must come to an end.
fn steps(html: &str, syntax: Syntax, format: Format) -> u64 {
    let url = "https://example.com/docs/page".parse().expect("a URL");
    let budget = Budget::new(CancellationToken::new(), Duration::from_secs(3600));
    let wanted = Wanted { format, chars: 1_000_000, url: &url };
    if let Err(failure) = read(html.into(), syntax, wanted, &budget) {
        assert_eq!(failure.message, "the page has too many elements to be converted");
    }
    budget.steps()
}

#[test]
fn hostile_pages_take_steps_in_proportion_to_their_size() {
    const SIZE: usize = 64 << 10;
    for (small, large) in hostile(SIZE).into_iter().zip(hostile(4 * SIZE)) {
        for (syntax, format) in
            [(Syntax::Html, Format::Markdown), (Syntax::Html, Format::Text), (Syntax::Xml, Format::Markdown)]
        {
            let (few, many) = (steps(&small, syntax, format), steps(&large, syntax, format));
            let start: String = large.chars().take(20).collect();
            // A page of 64 KiB has at most as many pieces, and each is looked at a few times.
            assert!(many <= 5 * few + 1_000, "{start}: {few} steps become {many}");
        }
    }
}

/// A conversion in time that grows with the square would be out of its budget, or
/// of anybody's patience: the first of these once took half a minute.
#[test]
fn hostile_pages_of_the_largest_usual_size_are_converted() {
    const SIZE: usize = 2 << 20;
    for (piece, content) in [("&", "&&&&&&&&"), ("& ", "& & & &"), ("<b>x", "xxxxxxx"), ("<div>x", "x\n\nx\n\nx")] {
        let text = page(&piece.repeat(SIZE / piece.len()), Format::Text).content;
        assert!(text.starts_with(content), "{piece}: {}", text.chars().take(20).collect::<String>());
    }
    for (piece, close) in
        [("<div>", "</div>"), ("<b>", "</b>"), ("<blockquote>", "</blockquote>"), ("<span>", "</span>")]
    {
        let count = SIZE / (piece.len() + close.len());
        let html = format!("{}deep{}end", piece.repeat(count), close.repeat(count));
        let text = page(&html, Format::Text).content;
        assert_eq!(text.split_whitespace().collect::<String>(), "deepend", "{piece}");
    }
}

#[test]
fn what_would_blow_up_is_refused() {
    let many = "<p>x".repeat(160_000);
    let wide = format!("<table><tr>{}{}", "<td>x".repeat(1_000), "<tr><td>".repeat(20_000));
    let spanned = format!("<table><tr><td colspan='1000'>{}", "<tr><td>a<td>b".repeat(20_000));
    let tall = format!("<table>{}", "<tr><td ROWSPAN=1000>x".repeat(20_000));
    for html in [many, wide, spanned, tall] {
        let refused = read_as(&html, Syntax::Html, Format::Markdown).expect_err("too complex");
        assert_eq!(refused.code, "page_too_complex");
    }
    let usual = format!("<table>{}", "<tr><td>a<td colspan=2>b".repeat(10_000));
    assert!(read_as(&usual, Syntax::Html, Format::Markdown).is_ok());
}

#[test]
fn a_conversion_that_is_not_wanted_stops() {
    let url = "https://example.com/".parse().expect("a URL");
    let stop = CancellationToken::new();
    stop.cancel();
    for (stop, time) in [(stop, Duration::from_secs(60)), (CancellationToken::new(), Duration::ZERO)] {
        let budget = Budget::new(stop, time);
        let wanted = Wanted { format: Format::Markdown, chars: 100, url: &url };
        let refused = read("<p>x".into(), Syntax::Html, wanted, &budget).expect_err("stopped");
        assert_eq!(refused.message, "the page takes too long to be converted");
    }
    let short = Budget::new(CancellationToken::new(), Duration::from_millis(1));
    let wanted = Wanted { format: Format::Markdown, chars: 100, url: &url };
    let refused = read("<p>x ".repeat(140_000), Syntax::Html, wanted, &short).expect_err("stopped");
    assert_eq!(refused.message, "the page takes too long to be converted");
    assert!(short.steps() < 140_000, "it went on for {} steps", short.steps());
}

proptest! {
    #[test]
    fn any_text_is_a_page(html in "(<[a-z]{1,5}( [a-z]{1,4}=\"?[a-z]{0,3}\"?)?>|</[a-z]{1,5}>|[a-z &;<>]{0,6}){0,40}") {
        for format in [Format::Markdown, Format::Text, Format::Html] {
            prop_assert!(read_as(&html, Syntax::Html, format).is_ok());
        }
        let _ = plain(&html);
    }
}
