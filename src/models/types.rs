//! The words of this room: a call, and what comes of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::bound::Bound;
use super::form::Form;
use crate::budgets::Payer;
use crate::money::Usd;

/// What is asked of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the interface")]
pub enum Endpoint {
    ChatCompletions,
    Responses,
    Embeddings,
    AudioTranscriptions,
    AudioSpeech,
}

/// What is sent to it.
#[derive(Clone, Debug)]
pub enum Body {
    /// A JSON object with the field `model`.
    Json(Bytes),
    /// The same, with members that only some providers are sent.
    Bound(Bytes, Arc<Bound>),
    /// A form with the field `model`.
    Form(Form),
}

/// A call as a client made it.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is asked for.
    pub endpoint: Endpoint,
    /// With what.
    pub body: Body,
    /// Who pays.
    pub payer: Payer,
    /// Whether it goes to the built-in echo model and costs nothing.
    pub test: bool,
    /// An answer to the same call that is no older than this will do.
    pub max_age: Option<Duration>,
}

/// What is known of a call when it has been answered.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// What it cost; `None` while the answer is still coming.
    pub cost: Option<Usd>,
    /// The model that answered, by the provider's name for it.
    pub model: Arc<str>,
    /// The provider that did.
    pub provider: Arc<str>,
    /// How many were asked before it in vain.
    pub fallbacks: u32,
    /// The least that any budget of the payer has left.
    pub left: Option<Usd>,
    /// Time that was not spent waiting for providers.
    pub overhead: Duration,
    /// Whether a budget has made less of it than was asked for.
    pub reduced: bool,
    /// How old the answer is, where it is given once more.
    pub age: Option<Duration>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The provider's status: success, or an error that is the client's own and
    /// passed on as it is.
    pub status: u16,
    /// Its type.
    pub content_type: String,
    /// As the provider gave it.
    pub body: Bytes,
    /// What it was.
    pub receipt: Receipt,
}

/// An answer in pieces, passed on as they come. Dropping it ends the call at
/// the provider too; what was used is settled all the same.
pub struct Streamed {
    /// Its type.
    pub content_type: String,
    /// The pieces. A stream that breaks ends with an event that says so.
    pub pieces: BoxStream<'static, Bytes>,
    /// What is known when it begins.
    pub receipt: Receipt,
}

/// What comes of a call.
pub enum Reply {
    /// All of it.
    Whole(Answer),
    /// Only for a body with `"stream": true`.
    Stream(Streamed),
}

impl Reply {
    /// Whether it is an answer, and not an error that is passed on.
    pub(super) fn succeeded(&self) -> bool {
        match self {
            Self::Whole(answer) => (200..300).contains(&answer.status),
            Self::Stream(_) => true,
        }
    }

    /// The same, with less than was asked for.
    pub(super) fn reduced(mut self) -> Self {
        self.receipt().reduced = true;
        self
    }

    /// The same, after so many had been asked in vain.
    pub(super) fn after(mut self, fallbacks: u32) -> Self {
        self.receipt().fallbacks = fallbacks;
        self
    }

    fn receipt(&mut self) -> &mut Receipt {
        match self {
            Self::Whole(answer) => &mut answer.receipt,
            Self::Stream(streamed) => &mut streamed.receipt,
        }
    }
}
