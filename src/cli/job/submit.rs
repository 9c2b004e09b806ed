//! `agentd job submit`, and what `agentd job retry` has in common with it.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use reqwest::RequestBuilder;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::super::control::{Service, read};
use super::super::failure::Failure;
use super::super::line::whole_number;
use super::super::output::{field, print_one};
use super::{FIRST, follow};
use crate::http::json_fault;
use crate::text::{read_file, read_utf8};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    agentd job submit --tenant Acme --tool echo --input '{\"hello\": \"world\"}' --wait\n  \
    agentd job submit --tool math.eval --input @sum.json --follow\n  \
    jq -n '{zone: \"Europe/Berlin\"}' | agentd job submit --tool time.now --input -\n  \
    agentd job submit --goal 'Summarise http://127.0.0.1:8080/report' --follow\n\n\
    With --wait and --follow, exit code 0: the job succeeded; 1: it ended otherwise.")]
pub(super) struct Arguments {
    /// What is to be done: the name of a tool
    #[arg(long, required_unless_present = "goal", conflicts_with = "goal")]
    tool: Option<String>,
    /// Its input: JSON, @FILE for a file's content, - for standard input; none: {}
    #[arg(long, value_name = "JSON|@FILE|-", conflicts_with = "goal")]
    input: Option<String>,
    /// What is to be reached, in words: lets the agent do it
    #[arg(long)]
    goal: Option<String>,
    /// -128 to 127; higher starts first within the tenant
    #[arg(long, allow_negative_numbers = true, value_parser = priority)]
    priority: Option<i8>,
    /// How long to wait before it starts, such as 10m
    #[arg(long, value_name = "SPAN", value_parser = super::super::line::span, allow_negative_numbers = true)]
    delay: Option<Duration>,
    /// How long an attempt may take, such as 30s
    #[arg(long, value_name = "SPAN", value_parser = super::super::line::span, allow_negative_numbers = true)]
    timeout: Option<Duration>,
    /// Attempts at most
    #[arg(long, value_name = "NUMBER", value_parser = attempts, allow_negative_numbers = true)]
    max_attempts: Option<u32>,
    /// A note of your own to find it by; may be given again
    #[arg(long = "metadata", value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    #[command(flatten)]
    pub watch: Watch,
}

#[derive(clap::Args)]
pub(super) struct Watch {
    /// Wait for its end and print the job
    #[arg(long, conflicts_with = "follow")]
    wait: bool,
    /// Print its events as they happen, until it ends
    #[arg(long)]
    follow: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'a str, &'a str>,
}

impl Arguments {
    /// The request's body. The input goes into it as it was written.
    pub(super) fn body(&self) -> Result<String, Failure> {
        let input = self.input.as_deref().map(input).transpose()?;
        let body = Body {
            mode: self.goal.as_ref().map(|_| "agent"),
            goal: self.goal.as_deref(),
            tool: self.tool.as_deref(),
            input,
            priority: self.priority,
            delay: self.delay.map(|span| span.as_secs_f64()),
            timeout: self.timeout.map(|span| span.as_secs_f64()),
            max_attempts: self.max_attempts,
            metadata: self.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        };
        serde_json::to_string(&body).map_err(Failure::other)
    }
}

fn input(given: &str) -> Result<Box<RawValue>, Failure> {
    let (text, place) = if given == "-" {
        let text = read_utf8(std::io::stdin());
        let unread = |error| Failure::other(format_args!("standard input cannot be read: {error}"));
        (text.map_err(unread)?, "standard input")
    } else if let Some(path) = given.strip_prefix('@') {
        let text = read_file(Path::new(path));
        (text.map_err(|error| Failure::Usage(format!("{path} cannot be read: {error}")))?, path)
    } else {
        (given.to_owned(), "--input")
    };
    // Some editors write a byte order mark before the text.
    let text = text.trim_start_matches('\u{feff}');
    serde_json::from_str(text).map_err(|error| Failure::Usage(format!("{place} is not JSON: {}", json_fault(&error))))
}

fn priority(text: &str) -> Result<i8, String> {
    whole_number(text, i8::MIN, i8::MAX, "from -128 to 127")
}

fn attempts(text: &str) -> Result<u32, String> {
    whole_number(text, 1, u32::MAX, "from 1")
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Hands a job in, and stays with it as long as was asked for.
pub(super) async fn accepted(
    service: &Service,
    request: RequestBuilder,
    watch: &Watch,
    json: bool,
) -> Result<(), Failure> {
    let text = service.send(request.header("Content-Type", "application/json")).await?;
    let accepted: Value = read(&text)?;
    let id = accepted["job_id"].as_str().and_then(|id| Uuid::parse_str(id).ok());
    let id = id.ok_or_else(|| Failure::other("the answer names no job"))?;
    if watch.follow {
        if !json {
            eprintln!("job {id}");
        }
        return follow::judge(&follow::to_its_end(service, id, follow::Show::events(json)).await?);
    }
    if watch.wait {
        let status = follow::to_its_end(service, id, follow::Show::progress(json)).await?;
        print_one(&service.get(&format!("/v1/jobs/{id}")).await?, json, &FIRST)?;
        return follow::judge(&status);
    }
    if json {
        return print_one(&text, json, &FIRST);
    }
    say!("{id}");
    if std::io::stderr().is_terminal() {
        eprintln!("{}; agentd job follow {id} shows what becomes of it", field(&accepted, "status"));
    }
    Ok(())
}
