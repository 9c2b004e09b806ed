//! Doors for made-up input to what is private here. Compiled for the fuzz
//! program only.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use url::Url;

use super::budget::Budget;
use super::charset::{self, Declares};
use super::html::Syntax;
use super::page::{Format, Read, Wanted, read};
use super::rules::Rules;

/// A page of unknown encoding as Markdown or as text; `None` when it is refused
/// or leads elsewhere.
pub fn page(bytes: &[u8], charset: Option<&str>, xml: bool, markdown: bool) -> Option<String> {
    let url = Url::parse("http://example.com/a/b?c").ok()?;
    let format = if markdown { Format::Markdown } else { Format::Text };
    let (syntax, declares) = if xml { (Syntax::Xml, Declares::Xml) } else { (Syntax::Html, Declares::Html) };
    let text = charset::decode(bytes, charset, declares).text;
    let budget = Budget::new(CancellationToken::new(), Duration::from_secs(60));
    match read(text, syntax, Wanted { format, chars: 1_000_000, url: &url }, &budget).ok()? {
        Read::Page(page) => Some(page.content),
        Read::Elsewhere(_) => None,
    }
}

/// Whether a robots.txt lets us fetch a path.
pub fn allowed(robots: &[u8], path: &str) -> bool {
    Rules::read(robots, "agentd").allow(path)
}
