//! What an agent gives back, in words and in fields.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::jobs::Failure;

/// The result of an agent's job. Lists that have nothing in them are there too,
/// so that every answer has the same fields.
#[derive(Serialize)]
pub(super) struct Reply {
    /// For people; `[1]` refers to a citation.
    pub(super) answer: String,
    /// Where the sentences of the answer stand.
    pub(super) citations: Vec<Citation>,
    /// Pages that were read.
    pub(super) sources: Vec<Source>,
    /// Pages that could not be read.
    pub(super) failed_sources: Vec<FailedSource>,
    /// What the tools gave back that the goal calls by name.
    pub(super) outputs: Vec<Output>,
    /// Steps taken, the plan included.
    pub(super) steps: usize,
    /// Who made the plan.
    pub(super) planner: &'static str,
}

/// A sentence and its place: characters `start` to `end` of what `web.fetch`
/// gave as the page's content.
#[derive(Serialize)]
pub(super) struct Citation {
    pub(super) n: usize,
    pub(super) url: String,
    pub(super) title: Option<String>,
    pub(super) quote: String,
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Serialize)]
pub(super) struct Source {
    /// As it was asked for.
    pub(super) url: String,
    /// Where that led to.
    pub(super) final_url: String,
    pub(super) title: Option<String>,
    /// Of HTTP.
    pub(super) status: u16,
    /// Whether only the page's beginning was read.
    pub(super) truncated: bool,
    #[serde(skip)]
    pub(super) content: String,
}

#[derive(Serialize)]
pub(super) struct FailedSource {
    pub(super) url: String,
    /// Code, message and whether it may pass.
    pub(super) error: Value,
}

impl FailedSource {
    pub(super) fn new(url: String, failure: &Failure) -> Self {
        Self { url, error: serde_json::from_str(&failure.to_json()).unwrap_or_default() }
    }
}

#[derive(Serialize)]
pub(super) struct Output {
    pub(super) tool: String,
    pub(super) output: Box<RawValue>,
}

/// Characters of an output that is shown as it is.
const SHOWN_CHARS: usize = 500;

/// An output in words: what built-in tools give back in short, anything else as
/// it is.
pub(super) fn in_words(tool: &str, input: &Value, output: &str) -> String {
    let value: Value = serde_json::from_str(output).unwrap_or_default();
    let text = |field: &str| value[field].as_str().unwrap_or_default();
    match tool {
        "math.eval" => {
            let expression = input["expression"].as_str().unwrap_or_default();
            format!("{expression} = {}", value["value"].to_string().trim_end_matches(".0"))
        }
        "time.now" => format!("{}, {} ({})", text("weekday"), text("local"), text("zone")),
        "web.summarize" => text("summary").to_owned(),
        _ if output.chars().count() > SHOWN_CHARS => {
            format!("{}…", output.chars().take(SHOWN_CHARS).collect::<String>())
        }
        _ => output.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn outputs_are_said_in_words() {
        let sum = in_words("math.eval", &json!({ "expression": "2+3*4" }), r#"{"value":14.0}"#);
        assert_eq!(sum, "2+3*4 = 14");
        let time = r#"{"local":"2026-11-21T01:00:00+01:00","zone":"Europe/Oslo","weekday":"Saturday"}"#;
        assert_eq!(in_words("time.now", &json!({}), time), "Saturday, 2026-11-21T01:00:00+01:00 (Europe/Oslo)");
        assert_eq!(in_words("echo", &json!({}), "[1]"), "[1]");
        assert_eq!(in_words("echo", &json!({}), &"é".repeat(600)).chars().count(), 501);
    }
}
