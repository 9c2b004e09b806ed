//! Carries out a plan of the rules, each step recorded by the job. Steps are
//! asked for in an order that depends on nothing but the goal and what earlier
//! steps gave, so that a job taken up again finds its own.

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};

use super::goal::ToolCall;
use super::plan::{Action, FETCH, Plan, SEARCH, SUMMARIZE, plan};
use super::reply::{Citation, FailedSource, Output, Reply, Source, in_words};
use super::{Input, fault};
use crate::jobs::{Call, ErrorClass, Failure, Outcome};

/// The name of this planner.
pub(super) const PLANNER: &str = "rules";
/// Characters that are read of one page.
const PAGE_CHARS: usize = 100_000;
/// Characters that are read of all pages together. They are kept twice: as what
/// was fetched and as what was summarised.
const ALL_CHARS: usize = 300_000;
/// Search results that are asked for, and how many are fetched at a time.
const RESULTS: usize = 6;
const FETCHED_TOGETHER: usize = 3;

/// Plans and does what the goal asks for.
pub(super) async fn work(call: &Call, input: Input) -> Outcome {
    let about = json!({ "goal": input.goal, "tools": input.tools });
    let planning = async {
        let plan = plan(&input.goal, input.tools.as_deref(), |name| call.has_tool(name))?;
        serde_json::to_string(&plan).map_err(|error| fault(&error))
    };
    let planned = call.step("plan", PLANNER, &about, planning).await?;
    let plan: Plan = serde_json::from_str(&planned).map_err(|error| fault(&error))?;
    let answer = match plan.action {
        Action::Call { calls } => make_calls(call, calls).await?,
        Action::Read { urls, topic } => {
            let pages = fetch(call, urls).await;
            summarize(call, pages, &topic, 1).await?
        }
        Action::Search { question, topic } => {
            let found = search(call, &question).await?;
            let mut pages = Pages::default();
            for some in found.chunks(FETCHED_TOGETHER) {
                pages.add(fetch(call, some.to_vec()).await);
                if !pages.read.is_empty() {
                    break;
                }
            }
            summarize(call, pages, &topic, 2).await?
        }
    };
    serde_json::to_string(&answer).map_err(|error| fault(&error))
}

async fn make_calls(call: &Call, calls: Vec<ToolCall>) -> Result<Reply, Failure> {
    let (mut said, mut outputs) = (Vec::new(), Vec::new());
    for ToolCall { tool, input } in calls {
        let output = call.tool(&tool, &input).await?;
        said.push(in_words(&tool, &input, &output));
        let output = serde_json::value::RawValue::from_string(output).map_err(|error| fault(&error))?;
        outputs.push(Output { tool, output });
    }
    Ok(Reply {
        answer: said.join("\n"),
        citations: Vec::new(),
        sources: Vec::new(),
        failed_sources: Vec::new(),
        steps: 1 + outputs.len(),
        outputs,
        planner: PLANNER,
    })
}

/// The addresses that a search gives, best first.
async fn search(call: &Call, question: &str) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    struct Found {
        results: Vec<Hit>,
    }
    #[derive(Deserialize)]
    struct Hit {
        url: String,
    }
    let output = call.tool(SEARCH, &json!({ "query": question, "max_results": RESULTS })).await?;
    let found: Found = serde_json::from_str(&output).map_err(|error| fault(&error))?;
    if found.results.is_empty() {
        return Err(Failure::permanent("nothing_found", "the search found no page"));
    }
    let mut urls: Vec<String> = Vec::new();
    for Hit { url } in found.results.into_iter().take(RESULTS) {
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    Ok(urls)
}

/// What became of the pages that were fetched.
#[derive(Default)]
struct Pages {
    read: Vec<Source>,
    failed: Vec<(String, Failure)>,
}

impl Pages {
    fn add(&mut self, more: Self) {
        self.read.extend(more.read);
        self.failed.extend(more.failed);
    }

    /// Why there is nothing to go on with: the first failure that may pass, so
    /// that another attempt is made where one can help, or else the first.
    fn failure(&self) -> Failure {
        let passing = self.failed.iter().find(|(_, failure)| failure.class != ErrorClass::Permanent);
        let Some((_, failure)) = passing.or(self.failed.first()) else {
            return Failure::permanent("nothing_found", "there is no page to read");
        };
        match self.failed.len() {
            1 => failure.clone(),
            all => {
                let message = format!("none of {all} pages could be read; one because: {}", failure.message);
                Failure { message, ..failure.clone() }
            }
        }
    }
}

/// Fetches pages at the same time, for that only reads.
async fn fetch(call: &Call, urls: Vec<String>) -> Pages {
    let chars = PAGE_CHARS.min(ALL_CHARS / urls.len().max(1));
    let inputs: Vec<Value> = urls.iter().map(|url| json!({ "url": url, "max_chars": chars })).collect();
    let outcomes = join_all(inputs.iter().map(|input| call.tool(FETCH, input))).await;
    let mut pages = Pages::default();
    for (url, outcome) in urls.into_iter().zip(outcomes) {
        match outcome.and_then(|output| source(&url, &output, chars)) {
            Ok(source) => pages.read.push(source),
            Err(failure) => pages.failed.push((url, failure)),
        }
    }
    pages
}

fn source(url: &str, output: &str, chars: usize) -> Result<Source, Failure> {
    #[derive(Deserialize)]
    struct Page {
        final_url: String,
        status: u16,
        title: Option<String>,
        content: String,
        #[serde(default)]
        truncated: bool,
    }
    let mut page: Page = serde_json::from_str(output).map_err(|error| fault(&error))?;
    if page.content.trim().is_empty() {
        return Err(Failure::permanent("empty_page", "the page holds no text"));
    }
    if let Some((end, _)) = page.content.char_indices().nth(chars) {
        page.content.truncate(end);
        page.truncated = true;
    }
    Ok(Source {
        url: url.to_owned(),
        final_url: page.final_url,
        title: page.title.map(|title| title.chars().take(300).collect()),
        status: page.status,
        truncated: page.truncated,
        content: page.content,
    })
}

/// What `web.summarize` gives back, as far as it is used.
#[derive(Deserialize)]
struct Summary {
    summary: String,
    sentences: Vec<Sentence>,
}

#[derive(Deserialize)]
struct Sentence {
    text: String,
    document: usize,
    start: usize,
    end: usize,
}

/// Summarises what was read; `before` are the steps before the pages.
async fn summarize(call: &Call, pages: Pages, topic: &str, before: usize) -> Result<Reply, Failure> {
    if pages.read.is_empty() {
        return Err(pages.failure());
    }
    let document = |source: &Source| json!({ "text": source.content, "title": source.title });
    let documents: Vec<Value> = pages.read.iter().map(document).collect();
    // Five for one page, and one more for each further page.
    let input = json!({ "documents": documents, "query": topic, "max_sentences": 4 + documents.len() });
    let output = call.tool(SUMMARIZE, &input).await?;
    let summary: Summary = serde_json::from_str(&output).map_err(|error| fault(&error))?;
    let cite = |(n, sentence): (usize, Sentence)| {
        let source = pages.read.get(sentence.document)?;
        Some(Citation {
            n,
            url: source.final_url.clone(),
            title: source.title.clone(),
            quote: sentence.text,
            start: sentence.start,
            end: sentence.end,
        })
    };
    Ok(Reply {
        answer: summary.summary,
        citations: (1..).zip(summary.sentences).filter_map(cite).collect(),
        steps: before + pages.read.len() + pages.failed.len() + 1,
        sources: pages.read,
        failed_sources: pages.failed.into_iter().map(|(url, failure)| FailedSource::new(url, &failure)).collect(),
        outputs: Vec::new(),
        planner: PLANNER,
    })
}
