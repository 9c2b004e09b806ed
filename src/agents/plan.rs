//! The planner `rules`: from a goal to what will be done, by rules alone. The
//! same goal gives the same plan, without a model and without looking at
//! anything else.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::addresses;
use super::goal::{self, ToolCall};
use crate::jobs::{AGENT, Failure};

/// Calls that one goal may spell out.
const MAX_CALLS: usize = 29;
/// Pages that one goal may name.
const MAX_ADDRESSES: usize = 10;

/// The tools that the rules themselves make use of.
pub(super) const FETCH: &str = "web.fetch";
pub(super) const SEARCH: &str = "web.search";
pub(super) const SUMMARIZE: &str = "web.summarize";

/// What will be done, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// For people.
    pub(super) why: String,
    /// Every tool that may be called.
    pub(super) tools: Vec<String>,
    #[serde(flatten)]
    pub(super) action: Action,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub(super) enum Action {
    /// These calls, one after the other.
    Call { calls: Vec<ToolCall> },
    /// Fetch these pages and summarise them together.
    Read { urls: Vec<String>, topic: String },
    /// Search, fetch the best results and summarise them together.
    Search { question: String, topic: String },
}

/// Makes a plan. `allowed` are the only tools that it may use; `is_tool` tells
/// which names there are.
///
/// # Errors
/// When the goal asks for what cannot or may not be done.
pub(super) fn plan(goal: &str, allowed: Option<&[String]>, is_tool: impl Fn(&str) -> bool) -> Result<Plan, Failure> {
    let is_tool = |name: &str| name != AGENT && is_tool(name);
    let unknown = |name: &str| Failure::permanent("unknown_tool", format!("there is no tool {name:?}"));
    let known = |name: &str| is_tool(name).then_some(()).ok_or_else(|| unknown(name));
    for name in allowed.unwrap_or_default() {
        known(name)?;
    }
    let plan = by_rules(goal, is_tool)?;
    for name in &plan.tools {
        known(name)?;
        if let Some(allowed) = allowed.filter(|allowed| !allowed.contains(name)) {
            let only = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
            let message = format!("{} and this needs {name}; the tools that this job may use: {only}", plan.why);
            return Err(Failure::permanent("tool_not_allowed", message));
        }
    }
    Ok(plan)
}

/// The first rule that fits.
fn by_rules(goal: &str, is_tool: impl Fn(&str) -> bool) -> Result<Plan, Failure> {
    let broken = |(tool, error)| {
        let message = format!("the goal calls {tool}, and what follows is no JSON object: {error}");
        Failure::permanent("invalid_goal", message)
    };
    let spelled = goal::calls(goal, is_tool).map_err(broken)?;
    if !spelled.calls.is_empty() {
        if spelled.calls.len() > MAX_CALLS {
            let message = format!("the goal spells out {} calls, at most {MAX_CALLS} are made", spelled.calls.len());
            return Err(Failure::permanent("too_many_steps", message));
        }
        let why = match spelled.other.trim() {
            "" => "the goal spells out calls of tools",
            _ => "the goal spells out calls of tools; its other text is not looked at",
        };
        return Ok(calling(why, spelled.calls));
    }
    let addresses = addresses::find(goal);
    if let Some(other) = addresses.iter().find(|address| !goal::is_web(address)) {
        let scheme = other.split(':').next().unwrap_or_default();
        let message = format!("the goal names an address with {scheme}:; only http and https can be read");
        return Err(Failure::permanent("unsupported_scheme", message));
    }
    if addresses.len() > MAX_ADDRESSES {
        let message = format!("the goal names {} addresses, at most {MAX_ADDRESSES} are read", addresses.len());
        return Err(Failure::permanent("too_many_sources", message));
    }
    if !addresses.is_empty() {
        let urls = addresses.into_iter().map(str::to_owned).collect();
        let action = Action::Read { urls, topic: goal::topic(goal) };
        return Ok(planned("the goal names addresses", &[FETCH, SUMMARIZE], action));
    }
    if let Some(expression) = goal::arithmetic(goal) {
        let input = json!({ "expression": expression });
        return Ok(calling("the goal is arithmetic", vec![ToolCall { tool: "math.eval".into(), input }]));
    }
    if let Some(zone) = goal::time_zone(goal) {
        let input = json!({ "zone": zone });
        return Ok(calling("the goal asks for the time", vec![ToolCall { tool: "time.now".into(), input }]));
    }
    let action = Action::Search { question: goal::question(goal), topic: goal::topic(goal) };
    Ok(planned("the goal names no address, so the web is searched", &[SEARCH, FETCH, SUMMARIZE], action))
}

fn planned(why: &str, tools: &[&str], action: Action) -> Plan {
    Plan { why: why.into(), tools: tools.iter().copied().map(str::to_owned).collect(), action }
}

fn calling(why: &str, calls: Vec<ToolCall>) -> Plan {
    let mut tools: Vec<String> = Vec::new();
    for call in &calls {
        if !tools.contains(&call.tool) {
            tools.push(call.tool.clone());
        }
    }
    Plan { why: why.into(), tools, action: Action::Call { calls } }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOOLS: [&str; 7] = ["agent", "echo", "math.eval", "time.now", FETCH, SEARCH, SUMMARIZE];

    fn ask(goal: &str, allowed: Option<&[&str]>) -> Result<Plan, Failure> {
        let allowed: Option<Vec<String>> = allowed.map(|names| names.iter().copied().map(str::to_owned).collect());
        plan(goal, allowed.as_deref(), |name| TOOLS.contains(&name))
    }

    fn action(goal: &str) -> Action {
        ask(goal, None).expect("a plan").action
    }

    fn code(goal: &str, allowed: Option<&[&str]>) -> String {
        ask(goal, allowed).expect_err("no plan").code.into_owned()
    }

    #[test]
    fn each_rule_has_its_goals() {
        let Action::Call { calls } = action("math.eval: {\"expression\":\"1\"}\necho: {\"x\":\"http://a.test\"}")
        else {
            panic!("no calls")
        };
        assert_eq!(calls.iter().map(|call| call.tool.as_str()).collect::<Vec<_>>(), ["math.eval", "echo"]);
        assert_eq!(
            action("Summarise http://a.test/, http://b.test/ and http://a.test/ about grey herons."),
            Action::Read { urls: vec!["http://a.test/".into(), "http://b.test/".into()], topic: "grey herons".into() }
        );
        assert_eq!(
            action("Why do herons\nstand still?"),
            Action::Search { question: "Why do herons stand still?".into(), topic: "herons stand still".into() }
        );
        assert_eq!(ask("what is 2+2?", None).expect("a plan").tools, ["math.eval"]);
        assert_eq!(ask("what time is it?", None).expect("a plan").tools, ["time.now"]);
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        assert_eq!(code("nothing.there: {}", None), "unknown_tool");
        assert_eq!(code("agent: {\"goal\":\"again\"}", None), "unknown_tool");
        assert_eq!(code("math.eval: {1}", None), "invalid_goal");
        assert_eq!(code("Summarise file:///etc/passwd", None), "unsupported_scheme");
        let many: Vec<String> = (0..11).map(|n| format!("http://a.test/{n}")).collect();
        assert_eq!(code(&many.join(" "), None), "too_many_sources");
        assert_eq!(code(&"echo: {}\n".repeat(30), None), "too_many_steps");
        assert!(ask(&"echo: {}\n".repeat(29), None).is_ok());
    }

    #[test]
    fn only_allowed_tools_are_planned() {
        assert_eq!(code("math.eval: {}", Some(&["echo"])), "tool_not_allowed");
        assert_eq!(code("Summarise http://a.test", Some(&[FETCH])), "tool_not_allowed");
        assert_eq!(code("Summarise http://a.test", Some(&[])), "tool_not_allowed");
        assert_eq!(code("Summarise http://a.test", Some(&[FETCH, SUMMARIZE, "web.fetchh"])), "unknown_tool");
        assert!(ask("Summarise http://a.test", Some(&[FETCH, SUMMARIZE])).is_ok());
    }

    #[test]
    fn a_plan_is_read_back_from_its_record() {
        for goal in ["echo: {\"a\":[1,null]}", "http://a.test/", "who?"] {
            let plan = ask(goal, None).expect("a plan");
            let text = serde_json::to_string(&plan).expect("JSON");
            assert_eq!(serde_json::from_str::<Plan>(&text).expect("a plan"), plan, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_goal_has_one_plan_within_bounds(
            goal in "(?s).{1,200}|((use )?[a-z]{0,5}(math.eval|echo)?:? ?\\{\\}\n|https?://[a-z]{1,3}\\.test[/a-z(]{0,4} |[a-z?]{1,5} ){1,40}"
        ) {
            let first = ask(&goal, None);
            prop_assert_eq!(&first, &ask(&goal, None));
            let Ok(plan) = first else { return Ok(()) };
            prop_assert!(plan.tools.iter().all(|tool| tool != AGENT && TOOLS.contains(&tool.as_str())));
            match plan.action {
                Action::Call { calls } => prop_assert!((1..=MAX_CALLS).contains(&calls.len())),
                Action::Read { urls, .. } => prop_assert!((1..=MAX_ADDRESSES).contains(&urls.len())),
                Action::Search { question, .. } => prop_assert!(question.chars().count() <= 400),
            }
        }
    }
}
