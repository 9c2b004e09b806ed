//! Adding up what a request can be counted as.

use serde_json::value::RawValue;

use crate::http::Problem;
use crate::models::json::{self, length};
use crate::models::price::Price;

/// Bytes of compressed audio that make at least one token. The providers count
/// 10 to 32 tokens a second, and codecs of speech need some 750 bytes for one.
const AUDIO_BYTES: u64 = 8;
/// What a message may bring along where its model's frame is not known, and what
/// a part may add to its text.
pub(super) const FRAME: u64 = 16;

/// Tokens of input: at most, and how many of them are certain.
pub(super) struct Count<'a> {
    pub(super) price: &'a Price,
    /// At most.
    pub(super) most: u64,
    /// For certain; zero where the vocabulary is not known.
    pub(super) least: u64,
    /// Whether it refers to something whose size is not known here.
    pub(super) open: Option<&'static str>,
}

impl<'a> Count<'a> {
    pub(super) fn new(price: &'a Price) -> Self {
        Self { price, most: 0, least: 0, open: None }
    }

    /// A text that is counted by itself.
    pub(super) fn text(&mut self, text: &str) {
        self.exact(self.price.vocabulary().count(text));
    }

    /// So many for certain, where the vocabulary is known.
    pub(super) fn exact(&mut self, tokens: u64) {
        self.most = self.most.saturating_add(tokens);
        if self.price.vocabulary().is_known() {
            self.least = self.least.saturating_add(tokens);
        }
    }

    /// So many at most.
    pub(super) fn at_most(&mut self, tokens: u64) {
        self.most = self.most.saturating_add(tokens);
    }

    /// The frame of a message or of the whole: this many tokens where it is known.
    pub(super) fn frame(&mut self, tokens: u64) {
        if self.price.vocabulary().is_known() { self.exact(tokens) } else { self.at_most(tokens.max(FRAME)) }
    }

    /// Content in parts, each counted by `part`.
    pub(super) fn parts(
        &mut self,
        raw: &RawValue,
        pointer: &str,
        part: impl Fn(&RawValue, &mut Self) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let Some(parts) = json::items(raw) else {
            self.at_most(json::bytes(raw));
            return Ok(());
        };
        if parts.len() > 1 {
            // Texts that are joined can have some tokens more where they meet.
            self.at_most(FRAME.saturating_mul(length(parts.len())));
        }
        for (place, raw) in parts.into_iter().enumerate() {
            part(raw, self).map_err(|problem| problem.within(&format!("{pointer}/{place}")))?;
        }
        Ok(())
    }

    /// An image, wherever it is.
    pub(super) fn image(&mut self) {
        match self.price.image() {
            Some(tokens) => self.at_most(tokens),
            None => self.open("an image"),
        }
    }

    /// Something that can fill the whole context.
    pub(super) fn open(&mut self, what: &'static str) {
        self.open = Some(what);
    }

    /// Audio of so many bytes.
    ///
    /// # Errors
    /// When it is not known what audio costs.
    pub(super) fn audio(&mut self, bytes: u64) -> Result<(), Problem> {
        if !self.price.pays_audio() {
            return Err(unknown_price("what audio costs with this model is not known", "audio_input_usd_per_million"));
        }
        self.at_most(bytes / AUDIO_BYTES + FRAME);
        Ok(())
    }

    /// Tokens of input at most.
    ///
    /// # Errors
    /// When it is certain that they are more than the model takes, or when
    /// nothing bounds them.
    pub(super) fn input(&self) -> Result<u64, Problem> {
        match (self.price.context(), self.open) {
            (Some(context), _) if self.least > context => Err(too_long(self.least, context)),
            (Some(context), Some(_)) => Ok(context),
            // More than the context is refused by the provider, and costs nothing.
            (Some(context), None) => Ok(self.most.min(context)),
            (None, Some(what)) => {
                let detail = format!("how many tokens {what} has with this model is not known");
                Err(unknown_price(detail, "context_tokens and image_tokens"))
            }
            (None, None) => Ok(self.most),
        }
    }
}

/// Bytes of a base64 text of this length.
pub(super) fn decoded(base64: &str) -> u64 {
    length(base64.len()) / 4 * 3 + 3
}

/// 400: the request is longer than the model can read.
pub(super) fn too_long(tokens: u64, context: u64) -> Problem {
    let detail = format!("the request has {tokens} tokens, and this model's context is {context}");
    Problem::bad_request("context_length_exceeded", detail)
        .with_hint("send less, or choose a model with a larger context")
}

/// 400: what the call can cost is not known, so it is not made.
pub(super) fn unknown_price(detail: impl Into<String>, field: &str) -> Problem {
    let hint = format!("the administrator can set {field} of the model's price: PUT /admin/models/prices/{{model}}");
    Problem::bad_request("unknown_price", detail).with_hint(hint)
}
