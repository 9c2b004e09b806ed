//! What the gateway adds to a request, and which providers do not take it. A
//! request that is refused for an addition is sent once more without, and what
//! was learned is remembered for the provider and the model.

use super::complaint::Complaint;
use super::request::Request;

/// The newer and the older name of the limit of a chat's output.
pub(super) const NEWER_LIMIT: &str = "max_completion_tokens";
pub(super) const OLDER_LIMIT: &str = "max_tokens";
pub(super) const STREAM_OPTIONS: &str = "stream_options";

/// What a model of a provider does not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Quirks {
    /// To be asked for the usage of a stream.
    pub no_stream_options: bool,
    /// Which of the names of the limit it knows, where it refuses the other.
    pub limit: Option<&'static str>,
}

impl Quirks {
    /// What a refusal teaches about a request that was sent with these; `None`
    /// where sending it otherwise would make no difference.
    pub(super) fn learned(self, complaint: &Complaint, sent: &Request) -> Option<Self> {
        let mut learned = self;
        if sent.adds_usage() && !self.no_stream_options {
            let fields = [STREAM_OPTIONS, "include_usage"];
            learned.no_stream_options = fields.iter().any(|field| complaint.refuses_field(field));
        }
        if self.limit.is_none() {
            let refused = [OLDER_LIMIT, NEWER_LIMIT].map(|name| complaint.refuses_field(name));
            learned.limit = match (sent.limits(), refused) {
                // Beside each other: the older one is the gateway's own.
                ([true, true], [true, _]) | ([true, false], [_, true]) => Some(NEWER_LIMIT),
                ([_, true], [false, true]) => Some(OLDER_LIMIT),
                _ => None,
            };
        }
        (learned != self).then_some(learned)
    }
}
