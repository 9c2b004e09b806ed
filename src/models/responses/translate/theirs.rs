//! What a provider wrote that the Responses format has no member for. It is kept on the
//! items of a response, and comes back with them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The member of an item that has it: JSON as a string, which clients leave unchanged.
pub(in crate::models::responses) const MEMBER: &str = "provider_data";

pub(super) type Fields = Map<String, Value>;

/// The content of [`MEMBER`], and of what is sealed in `encrypted_content`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Theirs {
    /// The name of the provider that wrote it.
    pub provider: String,
    /// The model, by the provider's name for it.
    pub model: String,
    /// On a reasoning item: the member of the message that had its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Other members of the message with the same text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Members of the message.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub message: Fields,
    /// On a call: its members.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub call: Fields,
    /// When sealed: members of all calls, by their ids.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub calls: Fields,
    /// Whether the item follows the message or call that it belongs to.
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

    /// Whether there is nothing to send back.
    pub fn is_empty(&self) -> bool {
        self.text.is_none()
            && self.also.is_empty()
            && self.message.is_empty()
            && self.call.is_empty()
            && self.calls.is_empty()
    }
}
