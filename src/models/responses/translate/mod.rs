//! Responses over chat completions: what is asked, and what is answered. Pure
//! functions of what the client and the provider sent.

mod answer;
mod merge;
mod request;
mod theirs;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::seal::Seal;
use crate::models::Bound;

pub(super) use answer::ChatEvents;
pub(super) use request::{origin, to_chat, wants_sealed};
pub(super) use theirs::MEMBER;

/// What has to be known of a request to read its answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    /// Tools that take any text, and were offered as functions with one text.
    pub custom: BTreeSet<String>,
    /// The only tool that was offered, whose name a call may lack.
    pub only_tool: Option<String>,
    /// Whether reasoning is shown as a summary.
    pub is_summary: bool,
    /// Whether the answer has all that its provider is to be given back in a sealed form, too.
    pub is_sealed: bool,
    /// What seals it.
    pub seal: Option<Seal>,
    /// Who answers.
    pub bound: Arc<Bound>,
}
