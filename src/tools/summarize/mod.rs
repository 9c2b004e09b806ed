//! `web.summarize`: the sentences of a text that say most of it, quoted. No
//! model is asked, so it costs nothing and the same text gives the same summary.

mod bounds;
mod months;
mod rank;
mod sentences;
#[cfg(test)]
mod tests;
mod words;

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::read;
use crate::jobs::{Call, Class, Failure, Handler, Outcome, Run};

/// Characters of one document.
const DOCUMENT_CHARS: usize = 500_000;
/// Characters of all documents together.
const ALL_CHARS: usize = 2_000_000;

pub(super) fn tool() -> Handler {
    Handler {
        name: "web.summarize",
        description: "Summarises a text, or several documents together, by quoting their most telling sentences. \
                      Each quoted sentence carries a mark such as [1] and a citation with its place: `start` and `end` \
                      count characters (Unicode scalar values) of the given text from 0, so that text[start..end] is \
                      the sentence as it stands there. Markdown is understood; headings, code and tables are not \
                      quoted. Sentences are chosen by word statistics, without a model.",
        class: Class::Read,
        input_schema: schema(),
        timeout: Duration::from_secs(30),
        concurrency: None,
        run: Run::Blocking(Arc::new(run)),
    }
}

fn schema() -> Value {
    let text = json!({ "type": "string", "minLength": 1, "maxLength": DOCUMENT_CHARS });
    json!({
        "type": "object",
        "properties": {
            "text": text,
            "documents": {
                "type": "array",
                "minItems": 1,
                "maxItems": 20,
                "items": {
                    "type": "object",
                    "properties": {
                        "text": text,
                        "url": { "type": "string", "maxLength": 4096, "description": "Given back in citations" },
                        "title": { "type": "string", "maxLength": 1000, "description": "Given back in citations" }
                    },
                    "required": ["text"],
                    "additionalProperties": false
                }
            },
            "max_sentences": { "type": "integer", "minimum": 1, "maximum": 30, "default": 5 },
            "query": {
                "type": "string",
                "maxLength": 1000,
                "description": "Sentences that have its words are preferred"
            }
        },
        "oneOf": [{ "required": ["text"] }, { "required": ["documents"] }],
        "additionalProperties": false
    })
}

#[derive(Deserialize)]
struct Input {
    text: Option<String>,
    #[serde(default)]
    documents: Vec<Document>,
    #[serde(default = "five")]
    max_sentences: usize,
    #[serde(default)]
    query: String,
}

fn five() -> usize {
    5
}

#[derive(Deserialize)]
struct Document {
    text: String,
    url: Option<String>,
    title: Option<String>,
}

#[derive(Serialize)]
struct Output<'a> {
    summary: String,
    sentences: Vec<Quote<'a>>,
    citations: Vec<Citation<'a>>,
}

#[derive(Serialize)]
struct Quote<'a> {
    text: &'a str,
    document: usize,
    start: usize,
    end: usize,
    score: f64,
}

#[derive(Serialize)]
struct Citation<'a> {
    n: usize,
    url: Option<&'a str>,
    title: Option<&'a str>,
    document: usize,
    start: usize,
    end: usize,
}

fn run(call: &Call) -> Outcome {
    let Input { text, mut documents, max_sentences, query } = read(&call.input)?;
    documents.extend(text.map(|text| Document { text, url: None, title: None }));
    let chars: usize = documents.iter().map(|document| document.text.chars().count()).sum();
    if chars > ALL_CHARS {
        let message = format!("the documents have {chars} characters together, at most {ALL_CHARS} are read");
        return Err(Failure::permanent("text_too_large", message));
    }
    let mut split = Vec::with_capacity(documents.len());
    for document in &documents {
        if call.stop.is_cancelled() {
            return Err(Failure::retryable("stopped", "the summary was stopped"));
        }
        split.push(sentences::sentences(&document.text));
    }
    let chosen = rank::choose(&split, &query, max_sentences);
    if chosen.is_empty() {
        return Err(Failure::permanent("nothing_to_summarize", "there is no sentence in the text"));
    }
    let mut output = Output { summary: String::new(), sentences: Vec::new(), citations: Vec::new() };
    for (n, choice) in (1..).zip(chosen) {
        let document = &documents[choice.document];
        let sentence = &split[choice.document][choice.sentence];
        let Range { start, end } = in_chars(&document.text, &sentence.place);
        let gap = if output.summary.is_empty() { "" } else { " " };
        let _ = write!(output.summary, "{gap}{} [{n}]", sentence.text);
        output.sentences.push(Quote {
            text: &document.text[sentence.place.clone()],
            document: choice.document,
            start,
            end,
            score: (choice.score * 1_000.0).round() / 1_000.0,
        });
        let (url, title) = (document.url.as_deref(), document.title.as_deref());
        output.citations.push(Citation { n, url, title, document: choice.document, start, end });
    }
    serde_json::to_string(&output).map_err(|error| Failure::permanent("internal", error.to_string()))
}

/// A range of bytes as one of characters.
fn in_chars(text: &str, bytes: &Range<usize>) -> Range<usize> {
    let start = text[..bytes.start].chars().count();
    start..start + text[bytes.clone()].chars().count()
}
