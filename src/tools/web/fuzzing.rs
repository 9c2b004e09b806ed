//! Doors for made-up input to what is private here. Compiled for the fuzz
//! program only.

use url::Url;

use super::charset;
use super::page::{Format, read};
use super::rules::Rules;

/// A page of unknown encoding as Markdown or as text; `None` when it is refused.
pub fn page(bytes: &[u8], charset: Option<&str>, markdown: bool) -> Option<String> {
    let base = Url::parse("http://example.com/a/b?c").ok()?;
    let format = if markdown { Format::Markdown } else { Format::Text };
    let page = read(charset::decode(bytes, charset).text, &base, format).ok()?;
    Some(page.content)
}

/// Whether a robots.txt lets us fetch a path.
pub fn allowed(robots: &[u8], path: &str) -> bool {
    Rules::read(robots, "agentd").allow(path)
}
