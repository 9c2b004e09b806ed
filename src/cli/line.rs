//! What was typed: read with clap, whose proposals are only shown where they are
//! near, and values in words that are not those of a programming language.

use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use clap::error::{ContextKind, ContextValue};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::config::parse_span;
use crate::text::near;

/// Reads the command line, or says what is wrong with it and ends.
pub(super) fn parse<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| only_near(error).exit())
}

/// Takes proposals away that have little in common with what was typed.
fn only_near(mut error: clap::Error) -> clap::Error {
    let pairs = [
        (ContextKind::InvalidSubcommand, ContextKind::SuggestedSubcommand),
        (ContextKind::InvalidArg, ContextKind::SuggestedArg),
        (ContextKind::InvalidValue, ContextKind::SuggestedValue),
    ];
    for (wrong, proposed) in pairs {
        let typed = words(error.get(wrong)).into_iter().next().unwrap_or_default();
        let proposals = words(error.get(proposed));
        let nearest = near(bare(&typed), proposals.iter().map(|word| bare(word)));
        let kept = proposals.iter().find(|word| Some(bare(word)) == nearest).cloned();
        if proposals.is_empty() || kept.as_ref().is_some_and(|_| proposals.len() == 1) {
            continue;
        }
        error.remove(proposed);
        if let Some(kept) = kept {
            error.insert(proposed, ContextValue::String(kept));
        }
    }
    error
}

fn words(value: Option<&ContextValue>) -> Vec<String> {
    match value {
        Some(ContextValue::String(word)) => vec![word.clone()],
        Some(ContextValue::Strings(words)) => words.clone(),
        _ => Vec::new(),
    }
}

/// Without dashes, and without the value that a flag shows.
fn bare(word: &str) -> &str {
    let word = word.trim_start_matches('-');
    word.split([' ', '=']).next().unwrap_or(word)
}

/// A whole number within bounds.
pub(super) fn whole_number<T: FromStr + PartialOrd + Copy>(
    text: &str,
    least: T,
    most: T,
    range: &str,
) -> Result<T, String> {
    let number = text.parse().ok().filter(|number: &T| (least..=most).contains(number));
    number.ok_or_else(|| format!("must be a whole number {range}"))
}

/// A number of rows.
pub(super) fn rows(text: &str) -> Result<usize, String> {
    whole_number(text, 1, 1_000_000, "from 1 to 1000000")
}

/// A number that counts something.
pub(super) fn count(text: &str) -> Result<u64, String> {
    whole_number(text, 0, u64::MAX, "from 0")
}

/// A span, written as in the configuration.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    parse_span(text).ok_or_else(|| "must be a number with its unit, such as 500ms, 30s, 5m, 2h or 7d".into())
}

/// A moment.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "must be a time in RFC 3339, such as 2030-01-31T09:30:00Z".into())
}

/// The id of a job.
pub(super) fn job_id(text: &str) -> Result<Uuid, String> {
    let wrong =
        || "must be a job's id, such as 01a1fb1c-e4e7-7000-9b1a-ace7e35e343e; agentd job list shows them".into();
    Uuid::try_parse(text).map_err(|_| wrong())
}

/// Where a service is reached.
pub(super) fn http_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.map(|_| text.to_owned()).ok_or_else(|| "must be an http or https URL, such as http://127.0.0.1:11434/v1".into())
}

/// A name that can stand in a path as it is.
pub(super) fn plain_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let good = !text.is_empty() && text.bytes().all(fits) && !text.bytes().all(|byte| byte == b'.');
    if good { Ok(text.to_owned()) } else { Err("must be a name of letters, digits and any of - _ .".into()) }
}

/// An amount of money.
pub(super) fn usd(text: &str) -> Result<String, String> {
    match text.parse::<crate::money::Usd>() {
        Ok(_) => Ok(text.to_owned()),
        Err(fault) => Err(fault.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Subcommand;

    use super::*;

    #[derive(Parser, Debug)]
    #[command(name = "x")]
    struct Line {
        #[command(subcommand)]
        verb: Verb,
    }

    #[derive(Subcommand, Debug)]
    enum Verb {
        Serve {
            #[arg(long)]
            listen: Option<String>,
        },
        Status,
    }

    fn said(arguments: &[&str]) -> String {
        let all = ["x"].into_iter().chain(arguments.iter().copied());
        only_near(Line::try_parse_from(all).expect_err("wrong")).to_string()
    }

    #[test]
    fn only_what_is_near_is_proposed() {
        assert!(said(&["srve"]).contains("'serve'"), "{}", said(&["srve"]));
        assert!(said(&["serve", "--lisen", "x"]).contains("'--listen'"), "{}", said(&["serve", "--lisen", "x"]));
        for far in [&["server-status"][..], &["start"], &["serve", "--lifetime"], &["serve", "--list-all", "x"]] {
            let said = said(far);
            assert!(!said.contains("similar"), "{far:?}: {said}");
        }
    }

    #[test]
    fn values_are_told_in_plain_words() {
        assert_eq!(rows("0"), Err("must be a whole number from 1 to 1000000".into()));
        assert_eq!(rows("x"), rows("0"));
        assert_eq!(count("-1"), Err("must be a whole number from 0".into()));
        assert!(span("5").expect_err("no unit").contains("with its unit"));
        assert!(job_id("7").expect_err("no id").contains("agentd job list"));
        assert!(time("tomorrow").expect_err("no time").contains("RFC 3339"));
    }
}
