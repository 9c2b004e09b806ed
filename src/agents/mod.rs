//! Agents: jobs that are given a goal and choose their tools themselves.
//!
//! An agent is a handler like any other. It makes a plan, calls tools by name
//! as recorded steps of its job, and answers with citations. What tools bring
//! back is material: only the goal is ever obeyed.

mod addresses;
mod goal;
mod plan;
mod reply;
mod rules;

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::jobs::{AGENT, Call, Class, Failure, Handler, Outcome, Registry, Run};

/// Characters of a goal.
const GOAL_CHARS: usize = 65_536;

/// What an agent is given.
#[derive(Deserialize)]
struct Input {
    goal: String,
    /// The only tools it may use; all when there is no list.
    tools: Option<Vec<String>>,
}

/// Adds the handler of agents to the registry.
///
/// # Errors
/// When its name is taken: a fault of ours.
pub fn register(registry: &mut Registry) -> Result<(), String> {
    registry.add(Handler {
        name: AGENT,
        description: "Works towards a goal with the tools: plans, calls them, and answers with citations.",
        class: Class::Write,
        input_schema: json!({
            "type": "object",
            "properties": {
                "goal": { "type": "string", "pattern": "\\S", "maxLength": GOAL_CHARS },
                "tools": {
                    "type": "array",
                    "maxItems": 100,
                    "items": { "type": "string", "maxLength": 100 }
                }
            },
            "required": ["goal"],
            "additionalProperties": false
        }),
        timeout: Duration::from_secs(300),
        concurrency: None,
        run: Run::Async(Box::new(|call| Box::pin(run(call)))),
    })
}

async fn run(call: Call) -> Outcome {
    let input: Input = serde_json::from_str(&call.input).map_err(|error| fault(&error))?;
    tokio::select! {
        biased;
        () = call.stop.cancelled() => Err(Failure::retryable("stopped", "the agent was stopped")),
        outcome = rules::work(&call, input) => outcome,
    }
}

/// JSON of our own that cannot be written or read.
fn fault(error: &serde_json::Error) -> Failure {
    Failure::permanent("internal", error.to_string())
}

/// Whether a plan can be made for a goal: a door for the fuzz program.
#[cfg(feature = "fuzzing")]
pub fn plans(goal: &str) -> bool {
    plan::plan(goal, None, |_| true).is_ok()
}
