//! A page as text that a person or a model can read.

use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::budget::Budget;
use super::html::{self, DOCUMENT, Dom, Element, Space, Syntax, Unparsed};
use super::refresh;
use super::writer::{self, Options, Unwritten};
use crate::jobs::Failure;

/// Characters of a title that are read.
const TITLE_CHARS: usize = 1_000;
/// The time that the text of a search result may take.
const SNIPPET_TIME: std::time::Duration = std::time::Duration::from_secs(1);

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

/// What became of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Page(Page),
    /// It leads to another at once, as a redirect does.
    Elsewhere(Url),
}

/// What is to be made of a page.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub format: Format,
    /// Characters that are looked at, at most.
    pub chars: usize,
    /// Where the page was found.
    pub url: &'a Url,
}

/// Turns a page into what is wanted. Links become absolute; scripts, styles,
/// navigation, fields to fill in and what a reader would not see are left out.
pub(super) fn read(markup: String, syntax: Syntax, wanted: Wanted<'_>, budget: &Budget) -> Result<Read, Failure> {
    let dom = html::parse(&markup, syntax, budget).map_err(|error| match error {
        Unparsed::Stopped => stopped(),
        Unparsed::TooLarge => too_complex("the page has too many elements to be converted"),
    })?;
    let base = base(&dom, wanted.url);
    if let Some(next) = meta_refresh(&dom).and_then(|content| refresh::target(content, &base, wanted.url)) {
        return Ok(Read::Elsewhere(next));
    }
    let title = title(&dom);
    if wanted.format == Format::Html {
        return Ok(Read::Page(Page { title, content: markup }));
    }
    drop(markup);
    let markdown = wanted.format == Format::Markdown;
    let mut options = Options { markdown, base: &base, navigation: false, chars: wanted.chars };
    let mut content = write(&dom, options, budget)?;
    if content.is_empty() {
        // There are pages of nothing but menus.
        options.navigation = true;
        content = write(&dom, options, budget)?;
    }
    Ok(Read::Page(Page { title, content }))
}

fn write(dom: &Dom, options: Options<'_>, budget: &Budget) -> Result<String, Failure> {
    let written = writer::write(dom, options, budget).map_err(|error| match error {
        Unwritten::Stopped => stopped(),
        Unwritten::TooLarge => too_complex("the page has a table with too many cells to be converted"),
    })?;
    Ok(written.trim().to_owned())
}

fn stopped() -> Failure {
    too_complex("the page takes too long to be converted")
}

fn too_complex(message: &str) -> Failure {
    Failure::permanent("page_too_complex", message)
}

/// The elements of HTML, in the order of the text.
fn elements(dom: &Dom) -> impl Iterator<Item = (html::Id, &Element)> {
    let all = dom.below(DOCUMENT).filter_map(|id| dom.element(id).map(|element| (id, element)));
    all.filter(|(_, element)| element.space() == Space::Html)
}

/// What stands in the first `<title>`.
fn title(dom: &Dom) -> Option<String> {
    let (id, _) = elements(dom).find(|(_, element)| element.name() == "title")?;
    let text: String = dom.below(id).filter_map(|id| dom.text(id)).flat_map(str::chars).take(TITLE_CHARS).collect();
    Some(one_line(&text)).filter(|title| !title.is_empty())
}

/// What the addresses of a page are relative to.
fn base(dom: &Dom, url: &Url) -> Url {
    let mut named = elements(dom).filter(|(_, element)| element.name() == "base");
    let first = named.find_map(|(_, element)| element.attribute("href"));
    let base = first.and_then(|href| url.join(href.trim()).ok());
    base.filter(|base| matches!(base.scheme(), "http" | "https")).unwrap_or_else(|| url.clone())
}

/// What the page says in place of a header `Refresh`.
fn meta_refresh(dom: &Dom) -> Option<&str> {
    let metas = elements(dom).filter(|(_, element)| element.name() == "meta");
    let is_refresh = |element: &Element| {
        element.attribute("http-equiv").is_some_and(|name| name.trim().eq_ignore_ascii_case("refresh"))
    };
    let mut contents = metas.filter(|(_, meta)| is_refresh(meta)).filter_map(|(_, meta)| meta.attribute("content"));
    contents.find(|content| refresh::is_valid(content))
}

/// The text of a bit of HTML, such as a search provider's snippet.
pub(super) fn plain(html: &str) -> String {
    if !html.contains(['<', '&']) {
        return one_line(html);
    }
    let budget = Budget::new(CancellationToken::new(), SNIPPET_TIME);
    let text = html::parse(html, Syntax::Html, &budget).ok().and_then(|dom| {
        let base = Url::parse("http://localhost/").ok()?;
        let options = Options { markdown: false, base: &base, navigation: true, chars: html.len() };
        writer::write(&dom, options, &budget).ok()
    });
    one_line(text.as_deref().unwrap_or(html))
}

fn one_line(text: &str) -> String {
    let visible: String = text.chars().filter(|c| !matches!(c, '\u{ad}' | '\u{200b}' | '\u{feff}')).collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
