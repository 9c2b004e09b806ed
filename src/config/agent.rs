//! `[agent]`

use super::reader::Reader;
use super::sections::aliased;
use super::setting::Setting;

/// Who makes an agent's plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planner {
    /// Fixed rules, without a model.
    Rules,
}

impl Setting for Planner {
    const EXPECTED: &'static str = "rules (the planner llm is not available in this version)";

    fn parse(text: &str) -> Option<Self> {
        (text == "rules").then_some(Self::Rules)
    }

    fn show(&self) -> String {
        "rules".into()
    }
}

/// `[agent]`
#[derive(Clone, Debug)]
pub struct AgentSection {
    /// Who makes plans.
    pub planner: Planner,
}

impl AgentSection {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let planner = aliased("agent.planner", "AGENT_PLANNER_MODE", "Who makes an agent's plan: rules.");
        Self { planner: reader.value(planner, Planner::Rules) }
    }
}
