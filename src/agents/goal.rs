//! What stands in a goal: calls of tools, addresses, arithmetic, the question
//! for the time, and what it is about.

use serde_json::Value;

use super::addresses;

/// A tool that the goal names, and its input.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct ToolCall {
    pub(super) tool: String,
    pub(super) input: Value,
}

/// Calls that a goal spells out, and the text that is none.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) calls: Vec<ToolCall>,
    pub(super) other: String,
}

/// Reads calls such as `math.eval: {"expression": "2+3"}`, each at the begin of
/// a line, with or without the colon and a word such as "use" before it. The
/// input is a JSON object and may go over several lines.
///
/// # Errors
/// The tool whose input is no JSON object, and why.
pub(super) fn calls(goal: &str, is_tool: impl Fn(&str) -> bool) -> Result<Calls, (String, String)> {
    let mut found = Calls::default();
    let mut rest = goal;
    while !rest.is_empty() {
        let line_end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let (line, behind) = rest.split_at(line_end);
        let Some((tool, at)) = call_head(line) else {
            found.other.push_str(line);
            rest = behind;
            continue;
        };
        let mut values = serde_json::Deserializer::from_str(&rest[at..]).into_iter::<Value>();
        match values.next() {
            Some(Ok(input)) => {
                found.calls.push(ToolCall { tool: tool.to_owned(), input });
                rest = rest[at + values.byte_offset()..].trim_start_matches([' ', '\t', '\r', '.', ',', ';']);
                rest = rest.strip_prefix('\n').unwrap_or(rest);
            }
            Some(Err(error)) if is_tool(tool) => return Err((tool.to_owned(), error.to_string())),
            _ => {
                found.other.push_str(line);
                rest = behind;
            }
        }
    }
    Ok(found)
}

/// The tool that a line calls and where its input begins.
fn call_head(line: &str) -> Option<(&str, usize)> {
    let brace = line.find('{')?;
    let head = line[..brace].trim().trim_end_matches(':').trim_end();
    let head = head.trim_start_matches(['-', '*']).trim_start();
    let mut words = head.split_whitespace();
    let (first, second) = (words.next()?, words.next());
    let tool = match second {
        None => first,
        Some(tool) if ["use", "call", "run", "tool"].contains(&first.to_ascii_lowercase().as_str()) => tool,
        Some(_) => return None,
    };
    let is_name = tool.starts_with(|c: char| c.is_ascii_lowercase())
        && tool.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c));
    (is_name && words.next().is_none()).then_some((tool, brace))
}

/// Whether an address can be fetched.
pub(super) fn is_web(address: &str) -> bool {
    let begins = |scheme: &str| address.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    begins("http://") || begins("https://")
}

/// Words that say what to do rather than what about.
const SAID_ANYWAY: &[&str] = &[
    "a",
    "about",
    "an",
    "and",
    "are",
    "article",
    "at",
    "be",
    "can",
    "compare",
    "could",
    "do",
    "does",
    "explain",
    "fetch",
    "find",
    "following",
    "for",
    "from",
    "get",
    "give",
    "how",
    "i",
    "in",
    "is",
    "it",
    "link",
    "links",
    "me",
    "of",
    "on",
    "or",
    "page",
    "pages",
    "please",
    "read",
    "say",
    "says",
    "search",
    "short",
    "site",
    "summarise",
    "summarize",
    "summary",
    "tell",
    "text",
    "that",
    "the",
    "their",
    "there",
    "these",
    "this",
    "those",
    "to",
    "url",
    "urls",
    "us",
    "was",
    "website",
    "were",
    "what",
    "when",
    "where",
    "which",
    "who",
    "why",
    "with",
    "you",
];
/// Characters of a topic.
const TOPIC_CHARS: usize = 400;

/// What a goal is about: its words without addresses and without those that are
/// in every goal.
pub(super) fn topic(goal: &str) -> String {
    let mut plain = Vec::new();
    let mut start = 0;
    for place in addresses::places(goal) {
        plain.push(&goal[start..place.start]);
        start = place.end;
    }
    plain.push(&goal[start..]);
    let is_edge = |c: char| !c.is_alphanumeric();
    let words = plain.into_iter().flat_map(str::split_whitespace).map(|word| word.trim_matches(is_edge));
    let words = words.filter(|word| !word.is_empty() && !SAID_ANYWAY.contains(&word.to_lowercase().as_str()));
    first_words(words, TOPIC_CHARS)
}

/// A goal as a search engine is asked: on one line, of bounded length.
pub(super) fn question(goal: &str) -> String {
    first_words(goal.split_whitespace(), TOPIC_CHARS)
}

fn first_words<'a>(words: impl Iterator<Item = &'a str>, chars: usize) -> String {
    let (mut text, mut left) = (String::new(), chars);
    for word in words {
        let needed = word.chars().count() + usize::from(!text.is_empty());
        if needed > left {
            // A single word that is too long is better cut than lost.
            if text.is_empty() {
                text.extend(word.chars().take(left));
            }
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
        left -= needed;
    }
    text
}

/// Ways to ask for a computation.
const COMPUTE: &[&str] = &["what is", "what's", "how much is", "compute", "calculate", "evaluate"];
/// Names that an expression may hold.
const FUNCTIONS: &[&str] = &[
    "abs", "acos", "asin", "atan", "ceil", "cos", "cosh", "e", "exp", "floor", "ln", "log10", "log2", "pi", "round",
    "sin", "sinh", "sqrt", "tan", "tanh", "trunc",
];

/// The expression of a goal that is nothing but arithmetic, with or without
/// words such as "what is" before it.
pub(super) fn arithmetic(goal: &str) -> Option<String> {
    let line = goal.trim().trim_end_matches(['?', '=', '.', '!', ' ']);
    let (asked, text) = after_any(line, COMPUTE).map_or((false, line), |rest| (true, rest));
    let is_part = |c: char| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || "+-*/^().×÷−·".contains(c);
    if text.len() > 1000 || !text.chars().all(is_part) || !text.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let names = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|name| name.starts_with(char::is_alphabetic));
    let mut functions = false;
    for name in names {
        if !FUNCTIONS.contains(&name.to_ascii_lowercase().as_str()) {
            return None;
        }
        functions = true;
    }
    let operator = |c: char| "+-*/^×÷−·".contains(c);
    // 2026-01-31 is a day and 555-1234 a telephone number.
    let is_number = !asked && text.chars().all(|c| c.is_ascii_digit() || c == '-');
    if is_number || !(functions || text.trim_start_matches(operator).contains(operator)) {
        return None;
    }
    let sign = |c: char| match c {
        '×' | '·' => '*',
        '÷' => '/',
        '−' => '-',
        c => c,
    };
    Some(text.trim().chars().map(sign).collect())
}

/// Ways to ask for the time.
const TIME: &[&str] =
    &["what time is it", "what's the time", "what is the time", "current time", "what is the current time", "time now"];

/// The time zone of a goal that asks for the time and nothing else; `UTC` when
/// it names none.
pub(super) fn time_zone(goal: &str) -> Option<String> {
    let line = goal.trim().trim_end_matches(['?', '.', '!', ' ']);
    let rest = after_any(line, TIME)?;
    let rest = rest.trim();
    let rest = rest.strip_prefix("now").map_or(rest, str::trim);
    if rest.is_empty() {
        return Some("UTC".into());
    }
    let zone = rest.strip_prefix("in ")?.trim();
    let is_zone = zone.len() <= 64
        && (zone.contains('/') || ["UTC", "GMT"].contains(&zone))
        && zone.chars().all(|c| c.is_ascii_alphanumeric() || "/_+-".contains(c));
    is_zone.then(|| zone.to_owned())
}

/// What follows the first of these beginnings that a text has, whole words only.
fn after_any<'a>(text: &'a str, beginnings: &[&str]) -> Option<&'a str> {
    beginnings.iter().find_map(|beginning| {
        let start = text.get(..beginning.len())?;
        let rest = &text[beginning.len()..];
        (start.eq_ignore_ascii_case(beginning) && !rest.starts_with(char::is_alphanumeric)).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn calls_are_read_as_they_are_written() {
        let goal = "use web.fetch {\"url\": \"http://a.test/{x}\"}\n\nPlease:\n - math.eval: {\n \"expression\": \"1+1\"\n}.\necho:{}";
        let found = calls(goal, |_| true).expect("calls");
        let tools: Vec<_> = found.calls.iter().map(|call| call.tool.as_str()).collect();
        assert_eq!(tools, ["web.fetch", "math.eval", "echo"]);
        assert_eq!(found.calls[1].input, json!({ "expression": "1+1" }));
        assert_eq!(found.other.trim(), "Please:");
    }

    #[test]
    fn a_call_with_a_broken_input_is_a_fault() {
        let (tool, _) = calls("math.eval: {\"expression\": }", |tool| tool == "math.eval").expect_err("a fault");
        assert_eq!(tool, "math.eval");
        assert!(calls("note: {not json}", |tool| tool == "math.eval").expect("text").calls.is_empty());
    }

    #[test]
    fn text_with_braces_is_no_call() {
        for text in
            ["What does {\"a\":1} mean?", "The set {1}", "Explain: use the tool {x}", "{\"a\":1}", "Math.Eval {}"]
        {
            assert_eq!(calls(text, |_| true).map(|found| found.calls.len()), Ok(0), "{text}");
        }
    }

    #[test]
    fn only_addresses_of_the_web_are_fetched() {
        assert!(is_web("HTTPS://D.test/") && !is_web("file:///etc/passwd") && !is_web("hé"));
    }

    #[test]
    fn the_topic_is_what_is_left() {
        assert_eq!(topic("Summarise http://a.test/herons and http://b.test/"), "");
        assert_eq!(topic("(http://a.test/x/y) http://a.test/x"), "");
        assert_eq!(topic("What does http://a.test say about grey herons?"), "grey herons");
        assert_eq!(topic("http://a.test,http://b.test。鷺とは"), "鷺とは");
        assert_eq!(topic(&"ö".repeat(1_000)).chars().count(), 400);
        assert_eq!(question(" who \n is   it "), "who is it");
    }

    #[test]
    fn arithmetic_is_told_from_text() {
        for (goal, expression) in [
            ("what is 2+3*4?", "2+3*4"),
            ("Compute sqrt(16) × 2", "sqrt(16) * 2"),
            ("calculate -3 - 5 =", "-3 - 5"),
            ("2 * (3 + 4)", "2 * (3 + 4)"),
            ("how much is PI * 3^2", "PI * 3^2"),
        ] {
            assert_eq!(arithmetic(goal).as_deref(), Some(expression), "{goal}");
        }
        for text in ["what is 42", "2026-11-21", "what is life + 1", "what is +", "whatis 1+1", "", "é1+1", "100"] {
            assert_eq!(arithmetic(text), None, "{text}");
        }
    }

    #[test]
    fn the_question_for_the_time_is_known() {
        assert_eq!(time_zone("What time is it in Europe/Oslo?").as_deref(), Some("Europe/Oslo"));
        assert_eq!(time_zone("what is the time now").as_deref(), Some("UTC"));
        assert_eq!(time_zone("What time is it in UTC").as_deref(), Some("UTC"));
        for text in
            ["what time is it in Oslo", "what time is it worth", "time", "what times", "What time is it in a b/c"]
        {
            assert_eq!(time_zone(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_goal_is_read(goal in "(?s).{0,200}|([a-z.]{0,6}:? ?\\{|\\}|\"|http://|[a-z0-9./() ]{0,9}|\n|what is ){0,30}") {
            let _ = (arithmetic(&goal), time_zone(&goal), question(&goal));
            prop_assert!(topic(&goal).chars().count() <= TOPIC_CHARS);
            if let Ok(found) = calls(&goal, |_| true) {
                prop_assert!(found.calls.iter().all(|call| call.input.is_object() && goal.contains(&call.tool)));
            }
        }
    }
}
