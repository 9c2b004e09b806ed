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

/// What the reader of an answer must know of its request.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    /// The names of custom tools.
    pub custom: BTreeSet<String>,
    /// The name of the only tool, for calls without a name.
    pub only_tool: Option<String>,
    /// Whether reasoning is presented as a summary.
    pub is_summary: bool,
    /// Whether `encrypted_content` is wanted.
    pub is_sealed: bool,
    /// Seals it.
    pub seal: Option<Seal>,
    /// Knows which provider answered.
    pub bound: Arc<Bound>,
}
