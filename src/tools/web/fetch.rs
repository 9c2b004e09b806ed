//! `web.fetch`: a page as Markdown or text.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;

use super::page::{self, Format, Page};
use super::robots::Robots;
use super::{charset, failure};
use crate::jobs::{Call, Class, Failure, Handler, Outcome, Run};
use crate::outbound::{self, Fetched, Limits, Outbound, Request};
use crate::tools::read;

/// Pages that are converted at the same time. A hostile page can take some
/// seconds and a hundred megabytes.
const CONVERSIONS: usize = 2;
/// How long the conversion of one may take before it is given up.
const CONVERSION: Duration = Duration::from_secs(15);
/// Time to the first byte of a page.
const FIRST_BYTE: Duration = Duration::from_secs(15);
/// Redirects that are followed, as browsers do.
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
    let shared = Arc::new((fetch, Arc::new(Semaphore::new(CONVERSIONS))));
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
                let (fetch, conversions) = &*shared;
                tokio::select! {
                    biased;
                    () = stop.cancelled() => Err(Failure::retryable("stopped", "the attempt was stopped")),
                    outcome = fetch.run(&call, conversions) => outcome,
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
    async fn run(&self, call: &Call, conversions: &Arc<Semaphore>) -> Outcome {
        let Input { url, format, max_chars } = read(&call.input)?;
        let asked = outbound::parse(&url).map_err(|error| failure::of_outbound(&error))?;
        if let Some(robots) = &self.robots {
            robots.check(&asked, &call.clock).await?;
        }
        let limits = Limits {
            bytes: self.page_bytes,
            cut: false,
            first_byte: FIRST_BYTE,
            total: self.page_time,
            redirects: REDIRECTS,
        };
        let answer = self.outbound.send(Request::get(asked).accept(ACCEPT), &limits).await;
        let answer = answer.map_err(|error| failure::of_outbound(&error))?;
        if let (Some(robots), false) = (&self.robots, answer.redirects.is_empty()) {
            robots.check(&answer.url, &call.clock).await?;
        }
        if !answer.status.is_success() {
            let message = format!("{} answered with {}", answer.url.host_str().unwrap_or_default(), answer.status);
            return Err(Failure {
                class: failure::class_of(&answer, call.clock.now()),
                code: "http_status".into(),
                message,
            });
        }
        let content_type = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let fetched_at = call.clock.now().to_string();
        let (final_url, status, bytes) = (answer.url.to_string(), answer.status.as_u16(), answer.body.len());
        let said = content_type.clone();
        let (page, charset) = convert(answer, said, format, conversions).await?;
        let (content, truncated) = cut(&page.content, max_chars);
        let output = Output {
            url: &url,
            final_url: &final_url,
            status,
            content_type: content_type.as_deref(),
            charset,
            title: page.title.as_deref(),
            content,
            truncated,
            bytes,
            fetched_at,
        };
        serde_json::to_string(&output).map_err(|error| Failure::permanent("internal", error.to_string()))
    }
}

/// Reads the body on a thread of its own, a few at a time.
async fn convert(
    answer: Fetched,
    content_type: Option<String>,
    format: Format,
    conversions: &Arc<Semaphore>,
) -> Result<(Page, &'static str), Failure> {
    let internal = |error: String| Failure::permanent("internal", error);
    let place = conversions.clone().acquire_owned().await.map_err(|error| internal(error.to_string()))?;
    // The place stays taken as long as the thread does, also when nobody waits
    // for it any more.
    let converted = tokio::task::spawn_blocking(move || {
        let _place = place;
        content(&answer, content_type.as_deref(), format)
    });
    match tokio::time::timeout(CONVERSION, converted).await {
        Ok(converted) => converted.map_err(|error| internal(error.to_string()))?,
        Err(_) => Err(Failure::permanent("page_too_complex", "the page takes too long to be converted")),
    }
}

fn content(answer: &Fetched, content_type: Option<&str>, format: Format) -> Result<(Page, &'static str), Failure> {
    let (essence, charset) = content_type.map_or((String::new(), None), parts);
    let kind = kind(&essence, &answer.body).ok_or_else(|| {
        let what = if essence.is_empty() { "something that is no text" } else { &essence };
        Failure::permanent("unsupported_content", format!("the page is {what}; only text and HTML can be read"))
    })?;
    let decoded = charset::decode(&answer.body, charset.as_deref());
    let page = match kind {
        Kind::Html => page::read(decoded.text, &answer.url, format)?,
        Kind::Text => Page { title: None, content: decoded.text },
    };
    Ok((page, decoded.charset))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Html,
    Text,
}

/// What a body is, by its type, or by its first bytes when it has none.
fn kind(essence: &str, body: &[u8]) -> Option<Kind> {
    let unicode = body.starts_with(b"\xff\xfe") || body.starts_with(b"\xfe\xff");
    let start = &body[..body.len().min(1024)];
    if !unicode && start.contains(&0) {
        return None;
    }
    match essence {
        "text/html" | "application/xhtml+xml" => Some(Kind::Html),
        "" => {
            let text = String::from_utf8_lossy(start).trim_start().to_ascii_lowercase();
            let html = ["<!doctype html", "<html", "<head", "<body"].iter().any(|tag| text.starts_with(tag));
            Some(if html { Kind::Html } else { Kind::Text })
        }
        "application/json" | "application/xml" | "application/yaml" | "application/toml" | "application/javascript" => {
            Some(Kind::Text)
        }
        _ if essence.starts_with("text/") || essence.ends_with("+json") || essence.ends_with("+xml") => {
            // A picture that is written in XML is still a picture.
            (!essence.starts_with("image/")).then_some(Kind::Text)
        }
        _ => None,
    }
}

/// The type without its parameters, and the charset among these.
fn parts(content_type: &str) -> (String, Option<String>) {
    let mut parts = content_type.split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches(['"', '\'']).to_owned())
    });
    (essence, charset)
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
    fn bodies_are_known_by_type_or_by_their_start() {
        assert_eq!(kind("text/html", b"<p>"), Some(Kind::Html));
        assert_eq!(kind("", b"\n <!DOCTYPE HTML>"), Some(Kind::Html));
        assert_eq!(kind("", b"# Heading"), Some(Kind::Text));
        assert_eq!(kind("application/ld+json", b"{}"), Some(Kind::Text));
        assert_eq!(kind("text/plain", b"\xff\xfea\0"), Some(Kind::Text), "UTF-16");
        for (essence, body) in [
            ("image/png", &b"\x89PNG"[..]),
            ("image/svg+xml", b"<svg>"),
            ("application/zip", b"PK"),
            ("application/pdf", b"%PDF"),
            ("", b"\x7fELF\0"),
            ("text/plain", b"a\0b"),
            ("application/octet-stream", b"a"),
        ] {
            assert_eq!(kind(essence, body), None, "{essence}");
        }
    }

    #[test]
    fn types_have_parameters() {
        let read = |text| {
            let (essence, charset) = parts(text);
            format!("{essence} {}", charset.unwrap_or_default())
        };
        assert_eq!(read("Text/HTML; Charset=\"UTF-8\""), "text/html UTF-8");
        assert_eq!(read("text/html;a=b; charset=x;"), "text/html x");
        assert_eq!(read("text/html"), "text/html ");
    }

    #[test]
    fn content_is_cut_between_characters() {
        assert_eq!(cut("äöü", 2), ("äö", true));
        assert_eq!(cut("äöü", 3), ("äöü", false));
        assert_eq!(cut("", 1), ("", false));
    }
}
