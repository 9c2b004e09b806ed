//! What a provider wrote beside what the Responses format has a place for, as it is
//! kept on the items of a response and comes back with them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The member of an item that has it: JSON in a text, which clients keep as it is.
pub(in crate::models::responses) const MEMBER: &str = "provider_data";

pub(super) type Fields = Map<String, Value>;

/// What is said in [`MEMBER`], and sealed in `encrypted_content`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Theirs {
    /// Who wrote it: the provider's name.
    pub provider: String,
    /// And its name for the model.
    pub model: String,
    /// Of reasoning, the member of the message that had its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Other members that had the same text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Other members of the message.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub message: Fields,
    /// Of a call, its own members.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub call: Fields,
    /// Those of all calls of the message by their ids, where one item has everything.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub calls: Fields,
    /// Whether the message stands before the item that has this, and not after it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ends: bool,
}

impl Theirs {
    /// Reads what [`written`](Self::written) has made.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|theirs: &Self| !theirs.provider.is_empty())
    }

    /// As an item has it.
    pub fn written(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether nothing has to go back.
    pub fn is_empty(&self) -> bool {
        self.text.is_none()
            && self.also.is_empty()
            && self.message.is_empty()
            && self.call.is_empty()
            && self.calls.is_empty()
    }
}
