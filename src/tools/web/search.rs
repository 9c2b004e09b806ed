//! `web.search`: results of a search provider.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use url::Url;

use super::page::plain;
use super::{Search, failure};
use crate::jobs::{Call, Class, ErrorClass, Failure, Handler, Outcome, Run};
use crate::outbound::{Fetched, Limits, Request};
use crate::tools::read;

const LIMITS: Limits = Limits {
    bytes: 2 << 20,
    cut: false,
    first_byte: Duration::from_secs(20),
    total: Duration::from_secs(30),
    redirects: 0,
};
const DEFAULT_RESULTS: usize = 5;
/// Characters of a result's title, and of its snippet.
const TITLE_CHARS: usize = 300;
const SNIPPET_CHARS: usize = 2_000;

/// A provider's key, which may be replaced at any time. Clones share it.
#[derive(Clone, Default)]
pub struct SearchKey(Arc<RwLock<String>>);

impl SearchKey {
    /// Takes another one from the next search on.
    pub fn set(&self, key: String) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
    }

    fn get(&self) -> String {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A search provider, with the key for it.
#[derive(Clone)]
pub enum Provider {
    /// api.tavily.com
    Tavily {
        /// Its API key.
        key: SearchKey,
    },
    /// api.search.brave.com
    Brave {
        /// Its subscription token.
        key: SearchKey,
    },
    /// A `SearXNG` of the administrator's, which needs no key.
    Searxng,
}

pub(super) fn tool(search: Option<Search>) -> Handler {
    let search = Arc::new(search);
    Handler {
        name: "web.search",
        description: "Searches the web and gives titles, URLs and snippets of what it finds.",
        class: Class::Read,
        input_schema: json!({
            "type": "object",
            "properties": {
                "query": { "type": "string", "minLength": 1, "maxLength": 400, "description": "What to look for" },
                "max_results": { "type": "integer", "minimum": 1, "maximum": 20, "default": DEFAULT_RESULTS }
            },
            "required": ["query"],
            "additionalProperties": false
        }),
        timeout: Duration::from_secs(40),
        concurrency: None,
        run: Run::Async(Box::new(move |call| {
            let search = search.clone();
            Box::pin(async move {
                let stop = call.stop.clone();
                tokio::select! {
                    biased;
                    () = stop.cancelled() => Err(Failure::retryable("stopped", "the attempt was stopped")),
                    outcome = run((*search).as_ref(), &call) => outcome,
                }
            })
        })),
    }
}

#[derive(Deserialize)]
struct Input {
    query: String,
    #[serde(default = "default_results")]
    max_results: usize,
}

fn default_results() -> usize {
    DEFAULT_RESULTS
}

#[derive(Serialize)]
struct Output<'a> {
    provider: &'a str,
    query: &'a str,
    results: Vec<Found>,
}

/// One result.
#[derive(Debug, PartialEq, Serialize)]
struct Found {
    title: String,
    url: String,
    snippet: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<String>,
}

async fn run(search: Option<&Search>, call: &Call) -> Outcome {
    let Input { query, max_results } = read(&call.input)?;
    let Some(Search { provider, base, outbound }) = search else {
        return Err(Failure::permanent(
            "not_configured",
            "no search provider is configured; an administrator sets web.tavily_api_key (TAVILY_API_KEY), \
             web.brave_api_key, or web.search_provider = \"searxng\" with web.search_url",
        ));
    };
    let request = provider.request(base.as_ref(), &query, max_results)?;
    let answer = outbound.send(request, &LIMITS).await.map_err(|error| failure::of_outbound(&error))?;
    if !answer.status.is_success() {
        return Err(provider.refusal(&answer, call));
    }
    let results = provider.read(&answer.body, max_results)?;
    let output = Output { provider: provider.name(), query: &query, results };
    serde_json::to_string(&output).map_err(|error| Failure::permanent("internal", error.to_string()))
}

impl Provider {
    fn name(&self) -> &'static str {
        match self {
            Self::Tavily { .. } => "tavily",
            Self::Brave { .. } => "brave",
            Self::Searxng => "searxng",
        }
    }

    fn request(&self, base: Option<&Url>, query: &str, count: usize) -> Result<Request, Failure> {
        let unusable = |error: String| Failure::permanent("not_configured", error);
        let usual = match self {
            Self::Tavily { .. } => "https://api.tavily.com",
            Self::Brave { .. } => "https://api.search.brave.com",
            Self::Searxng => "",
        };
        let path = if matches!(self, Self::Brave { .. }) { "res/v1/web/search" } else { "search" };
        let base = base.map_or(usual, Url::as_str).trim_end_matches('/');
        let mut url = Url::parse(&format!("{base}/{path}")).map_err(|error| unusable(error.to_string()))?;
        let header = |text: String| {
            HeaderValue::from_str(&text).map_err(|_| unusable("the key holds characters that no key has".into()))
        };
        Ok(match self {
            Self::Tavily { key } => {
                let body = json!({ "query": query, "max_results": count, "search_depth": "basic" });
                Request::post_json(url, body.to_string())
                    .secret(AUTHORIZATION, header(format!("Bearer {}", key.get()))?)
            }
            Self::Brave { key } => {
                let count = count.to_string();
                url.query_pairs_mut().extend_pairs([("q", query), ("count", &count), ("text_decorations", "false")]);
                Request::get(url).secret(HeaderName::from_static("x-subscription-token"), header(key.get())?)
            }
            Self::Searxng => {
                url.query_pairs_mut().extend_pairs([("q", query), ("format", "json")]);
                Request::get(url)
            }
        }
        .accept("application/json"))
    }

    /// What an answer other than success means. Nothing of its text is shown:
    /// some providers repeat the key in it.
    fn refusal(&self, answer: &Fetched, call: &Call) -> Failure {
        let (name, status) = (self.name(), answer.status);
        let message = match (self, status) {
            (Self::Searxng, StatusCode::FORBIDDEN) => {
                "searxng answered with 403; its settings must allow the format json".into()
            }
            (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                format!("{name} does not accept the configured key ({})", status.as_u16())
            }
            _ => format!("{name} answered with {status}"),
        };
        let class = failure::class_of(answer, call.clock.now());
        let code = match (class, status.as_u16()) {
            (ErrorClass::RateLimited(_), 429) => "rate_limited",
            // Tavily answers 432 and 433 when what was paid for is used up.
            (ErrorClass::Permanent, 401..=403 | 432 | 433) => "provider_refused",
            _ => "provider_error",
        };
        Failure { class, code: code.into(), message }
    }

    fn read(&self, body: &[u8], count: usize) -> Result<Vec<Found>, Failure> {
        let items = match self {
            Self::Brave { .. } => serde_json::from_slice(body).map(|answer: Brave| answer.web.unwrap_or_default()),
            Self::Tavily { .. } | Self::Searxng => serde_json::from_slice(body),
        };
        // The parser's words are not shown either: they could quote the answer.
        let items = items.map_err(|_| {
            let message = format!("{} answered with something that is no list of results", self.name());
            Failure::permanent("provider_error", message)
        })?;
        Ok(items.results.into_iter().filter_map(Item::found).take(count).collect())
    }
}

/// Brave's answer. Without a match there is no `web` in it.
#[derive(Deserialize)]
struct Brave {
    #[serde(rename = "type")]
    _type: serde::de::IgnoredAny,
    web: Option<List>,
}

/// A list of results, as all three providers have it.
#[derive(Default, Deserialize)]
struct List {
    results: Vec<Item>,
}

/// A result in the words of any of the three. What is missing or of another
/// type than it should be is left out.
#[derive(Deserialize)]
struct Item {
    #[serde(default, deserialize_with = "lenient")]
    url: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    title: Option<String>,
    #[serde(default, alias = "description", deserialize_with = "lenient")]
    content: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    score: Option<f64>,
    #[serde(default, alias = "publishedDate", alias = "page_age", deserialize_with = "lenient")]
    published_date: Option<String>,
}

fn lenient<'de, D: Deserializer<'de>, T: for<'a> Deserialize<'a>>(from: D) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok())
}

impl Item {
    /// Without a URL that can be fetched it is no result.
    fn found(self) -> Option<Found> {
        let url = Url::parse(&self.url?).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let text = |text: Option<String>, chars| {
            // What markup makes longer than that is not worth the parser's time.
            let raw: String = text.unwrap_or_default().chars().take(chars * 4).collect();
            plain(&raw).chars().take(chars).collect()
        };
        let title: String = text(self.title, TITLE_CHARS);
        Some(Found {
            title: if title.is_empty() { url.to_string() } else { title },
            snippet: text(self.content, SNIPPET_CHARS),
            score: self.score,
            published: self.published_date.filter(|date| !date.is_empty() && date.len() <= 64),
            url: url.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brave() -> Provider {
        Provider::Brave { key: SearchKey::default() }
    }

    #[test]
    fn results_without_a_url_are_left_out_and_odd_fields_too() {
        let body = json!({ "query": "x", "results": [
            { "title": "One", "url": "https://one.example/", "content": "first", "score": 0.9, "published_date": "2026-01-01" },
            { "title": "No URL" },
            { "title": null, "url": "https://two.example/a b", "content": 7, "score": "high", "publishedDate": null },
            { "title": "A script", "url": "javascript:alert(1)" }
        ]});
        let found = Provider::Searxng.read(body.to_string().as_bytes(), 9).expect("results");
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].snippet.as_str(), found[0].score, found[0].published.as_deref()),
            ("first", Some(0.9), Some("2026-01-01"))
        );
        assert_eq!((found[1].title.as_str(), found[1].snippet.as_str()), ("https://two.example/a%20b", ""));
    }

    #[test]
    fn what_is_no_list_of_results_is_an_error() {
        for body in ["<html>", "", "{}", "[]", "null", r#"{"results":{}}"#, r#"{"results":[1]}"#] {
            assert_eq!(Provider::Searxng.read(body.as_bytes(), 9).expect_err(body).code, "provider_error");
        }
        assert_eq!(brave().read(br#"{"type":"search"}"#, 9), Ok(Vec::new()), "Brave found nothing");
        assert_eq!(brave().read(b"{}", 9).expect_err("not Brave").code, "provider_error");
    }

    proptest! {
        #[test]
        fn any_answer_is_read(body in "\\PC{0,80}") {
            for provider in [Provider::Searxng, brave()] {
                let _ = provider.read(body.as_bytes(), 9);
            }
        }
    }
}
