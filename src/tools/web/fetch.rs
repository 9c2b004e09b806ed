//! `web.fetch`: a page as Markdown or text.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{CONTENT_TYPE, REFRESH};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::budget::Budget;
use super::content::MediaType;
use super::page::{self, Format, Page, Read, Wanted};
use super::places::Places;
use super::robots::Robots;
use super::{charset, failure, refresh};
use crate::jobs::{Call, Class, Failure, Handler, Outcome, Run};
use crate::outbound::{self, Fetched, Limits, Outbound, OutboundError, Request};
use crate::tools::read;

/// Pages that are converted at the same time.
const CONVERSIONS: usize = 2;
/// How long the conversion of one may take. Pages of the usual limit take some
/// tenths of a second, whatever is in them.
const CONVERSION: Duration = Duration::from_secs(10);
/// Time to the first byte of a page.
const FIRST_BYTE: Duration = Duration::from_secs(15);
/// Redirects that are followed, as browsers do; a page that leads elsewhere at
/// once counts as one.
const REDIRECTS: usize = 20;
const DEFAULT_CHARS: usize = 100_000;
const ACCEPT: &str =
    "text/html, application/xhtml+xml, text/markdown, text/plain;q=0.9, application/json;q=0.8, */*;q=0.5";

/// What the tool works with.
pub(super) struct Fetch {
    pub outbound: Outbound,
    pub robots: Option<Robots>,
    pub page_bytes: usize,
    pub page_time: Duration,
}

pub(super) fn tool(fetch: Fetch) -> Handler {
    // Beside the page: robots.txt and the conversion.
    let timeout = fetch.page_time + Duration::from_secs(60);
    let shared = Arc::new((fetch, Places::new(CONVERSIONS)));
    Handler {
        name: "web.fetch",
        description: "Fetches a page from the web and gives it as Markdown, as plain text or as it is. Obeys \
                      robots.txt. Private addresses cannot be reached.",
        class: Class::Read,
        input_schema: json!({
            "type": "object",
            "properties": {
                "url": { "type": "string", "minLength": 1, "maxLength": 2048, "description": "An http or https URL" },
                "format": {
                    "type": "string",
                    "enum": ["markdown", "text", "html"],
                    "default": "markdown",
                    "description": "How the content is wanted; html leaves it as it is"
                },
                "max_chars": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 1_000_000,
                    "default": DEFAULT_CHARS,
                    "description": "Characters of content at most; what is longer is cut, and truncated says so"
                }
            },
            "required": ["url"],
            "additionalProperties": false
        }),
        timeout,
        concurrency: None,
        run: Run::Async(Box::new(move |call| {
            let shared = shared.clone();
            Box::pin(async move {
                let stop = call.stop.clone();
                let (fetch, places) = &*shared;
                tokio::select! {
                    biased;
                    () = stop.cancelled() => Err(Failure::retryable("stopped", "the attempt was stopped")),
                    outcome = fetch.run(&call, places) => outcome,
                }
            })
        })),
    }
}

#[derive(Deserialize)]
struct Input {
    url: String,
    #[serde(default)]
    format: Format,
    #[serde(default = "default_chars")]
    max_chars: usize,
}

fn default_chars() -> usize {
    DEFAULT_CHARS
}

#[derive(Serialize)]
struct Output<'a> {
    url: &'a str,
    final_url: &'a str,
    status: u16,
    content_type: Option<&'a str>,
    charset: &'a str,
    title: Option<&'a str>,
    content: &'a str,
    truncated: bool,
    bytes: usize,
    fetched_at: String,
}

impl Fetch {
    async fn run(&self, call: &Call, places: &Places) -> Outcome {
        let Input { url, format, max_chars } = read(&call.input)?;
        let first = outbound::parse(&url).map_err(|error| failure::of_outbound(&error))?;
        let found = self.find(first, format, max_chars, call, places).await?;
        let (content, truncated) = cut(&found.page.content, max_chars);
        let output = Output {
            url: &url,
            final_url: found.url.as_str(),
            status: found.status,
            content_type: found.content_type.as_deref(),
            charset: found.charset,
            title: found.page.title.as_deref(),
            content,
            truncated,
            bytes: found.bytes,
            fetched_at: found.at,
        };
        serde_json::to_string(&output).map_err(|error| Failure::permanent("internal", error.to_string()))
    }

    /// Goes from page to page until one does not lead elsewhere.
    async fn find(
        &self,
        first: Url,
        format: Format,
        chars: usize,
        call: &Call,
        places: &Places,
    ) -> Result<Found, Failure> {
        let end = Instant::now() + self.page_time;
        let (mut url, mut redirects) = (first, 0);
        loop {
            let answer = self.ask(&url, REDIRECTS - redirects, end, call).await?;
            redirects += answer.redirects.len();
            let content_type = answer.headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
            let mut found = Found {
                url: answer.url.clone(),
                status: answer.status.as_u16(),
                content_type: content_type.map(std::borrow::Cow::into_owned),
                bytes: answer.body.len(),
                at: call.clock.now().to_string(),
                charset: "",
                page: Page { title: None, content: String::new() },
            };
            let next = match header_refresh(&answer) {
                Some(next) => next,
                None => match convert(answer, format, chars, call, places).await? {
                    (Read::Page(page), charset) => {
                        (found.page, found.charset) = (page, charset);
                        return Ok(found);
                    }
                    (Read::Elsewhere(next), _) => next,
                },
            };
            if redirects == REDIRECTS {
                return Err(failure::of_outbound(&OutboundError::TooManyRedirects(REDIRECTS)));
            }
            redirects += 1;
            url = outbound::parse(next.as_str()).map_err(|error| failure::of_outbound(&error))?;
        }
    }

    /// The page at a URL, or what its redirects lead to.
    async fn ask(&self, url: &Url, redirects: usize, end: Instant, call: &Call) -> Result<Fetched, Failure> {
        if let Some(robots) = &self.robots {
            robots.check(url, &call.clock).await?;
        }
        let total = end.saturating_duration_since(Instant::now());
        let limits = Limits { bytes: self.page_bytes, cut: false, first_byte: FIRST_BYTE, total, redirects };
        let answer = self.outbound.send(Request::get(url.as_str()).accept(ACCEPT), &limits).await;
        let answer = answer.map_err(|error| match error {
            // Pages that led here count as well.
            OutboundError::TooManyRedirects(_) => failure::of_outbound(&OutboundError::TooManyRedirects(REDIRECTS)),
            OutboundError::Timeout { what, limit } if limit == total => {
                failure::of_outbound(&OutboundError::Timeout { what, limit: self.page_time })
            }
            error => failure::of_outbound(&error),
        })?;
        if let (Some(robots), false) = (&self.robots, answer.redirects.is_empty()) {
            robots.check(&answer.url, &call.clock).await?;
        }
        if !answer.status.is_success() {
            return Err(failure::of_status(&answer, call.clock.now()));
        }
        Ok(answer)
    }
}

/// A page that was found, and where.
struct Found {
    url: Url,
    status: u16,
    content_type: Option<String>,
    bytes: usize,
    at: String,
    charset: &'static str,
    page: Page,
}

/// Where the header `Refresh` leads, which browsers obey as they do redirects.
fn header_refresh(answer: &Fetched) -> Option<Url> {
    let value = answer.headers.get(REFRESH)?;
    refresh::target(&String::from_utf8_lossy(value.as_bytes()), &answer.url, &answer.url)
}

/// Reads the body on a thread of its own, a few at a time.
async fn convert(
    answer: Fetched,
    format: Format,
    chars: usize,
    call: &Call,
    places: &Places,
) -> Result<(Read, &'static str), Failure> {
    let place = places.take(call.tenant).await;
    let place = place.ok_or_else(|| Failure::permanent("internal", "there is no place to convert the page in"))?;
    // The thread stops computing when the attempt is over for whatever reason.
    let stop = call.stop.child_token();
    let _stops = stop.clone().drop_guard();
    let converted = tokio::task::spawn_blocking(move || {
        let _place = place;
        content(&answer, format, chars, &Budget::new(stop, CONVERSION))
    });
    converted.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a page could not be converted");
        Err(Failure::permanent("unreadable_page", "the page cannot be converted"))
    })
}

fn content(answer: &Fetched, format: Format, chars: usize, budget: &Budget) -> Result<(Read, &'static str), Failure> {
    let media_type = MediaType::of(&answer.headers);
    let kind = media_type.kind(&answer.body).ok_or_else(|| {
        let what = if media_type.essence.is_empty() { "something that is no text" } else { &media_type.essence };
        Failure::permanent("unsupported_content", format!("the page is {what}; only text and HTML can be read"))
    })?;
    let decoded = charset::decode(&answer.body, media_type.charset.as_deref(), kind.declares());
    let read = match kind.syntax() {
        Some(syntax) => page::read(decoded.text, syntax, Wanted { format, chars, url: &answer.url }, budget)?,
        // As browsers show a character that is none.
        None => Read::Page(Page { title: None, content: decoded.text.replace('\0', "\u{fffd}") }),
    };
    Ok((read, decoded.charset))
}

/// At most so many characters, and whether that is less than all.
fn cut(text: &str, max_chars: usize) -> (&str, bool) {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => (&text[..end], true),
        None => (text, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_cut_between_characters() {
        assert_eq!(cut("äöü", 2), ("äö", true));
        assert_eq!(cut("äöü", 3), ("äöü", false));
        assert_eq!(cut("", 1), ("", false));
    }
}
