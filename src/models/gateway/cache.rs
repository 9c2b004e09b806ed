//! Answers given once more to the same request, for clients that ask for that.
//! They are in memory for a day at most, each tenant's apart, and forgotten
//! when a provider or an alias changes.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use bytes::Bytes;
use moka::sync::Cache as Map;

use crate::clock::Timestamp;
use crate::models::{Answer, Body, Call, Reply};

/// Bytes of all of them.
const BYTES: u64 = 32 << 20;
/// A longer answer is not kept.
const LONGEST: usize = 1 << 20;
/// How long one is kept.
const KEPT_FOR: Duration = Duration::from_secs(86_400);
/// What one takes beside its body, about.
const BESIDE: usize = 256;

/// One tenant's request, byte for byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; SHA256_OUTPUT_LEN]);

impl Key {
    /// `None` for forms, which are seldom sent twice in the same bytes.
    pub(super) fn of(call: &Call) -> Option<Self> {
        let Body::Json(body) = &call.body else { return None };
        let mut digest = Context::new(&SHA256);
        digest.update(&call.payer.tenant.to_be_bytes());
        // No name of an endpoint begins with another.
        digest.update(call.endpoint.path().as_bytes());
        digest.update(body);
        digest.finish().as_ref().try_into().ok().map(Self)
    }
}

struct Kept {
    answer: Answer,
    at: Timestamp,
}

pub(super) struct Cache(Map<Key, Arc<Kept>>);

impl Default for Cache {
    fn default() -> Self {
        let weight = |_: &Key, kept: &Arc<Kept>| u32::try_from(kept.answer.body.len() + BESIDE).unwrap_or(u32::MAX);
        Self(Map::builder().max_capacity(BYTES).weigher(weight).time_to_live(KEPT_FOR).build())
    }
}

impl Cache {
    /// The answer to this request and its age, where it is no older than that.
    pub(super) fn find(&self, key: &Key, max_age: Duration, now: Timestamp) -> Option<(Answer, Duration)> {
        let kept = self.0.get(key)?;
        let age = now.since(kept.at);
        (age <= max_age).then(|| (kept.answer.clone(), age))
    }

    /// Keeps an answer that is whole, and is what the request asks for: not that
    /// of a model further down the list, nor one that a budget has made less of.
    pub(super) fn keep(&self, key: Key, reply: &Reply, now: Timestamp) {
        let Reply::Whole(answer) = reply else { return };
        let receipt = &answer.receipt;
        let is_it = answer.status == 200 && receipt.fallbacks == 0 && !receipt.reduced;
        if is_it && answer.body.len() <= LONGEST {
            // A copy: what was read from a connection can be part of a larger piece of memory.
            let answer = Answer { body: Bytes::copy_from_slice(&answer.body), ..answer.clone() };
            self.0.insert(key, Arc::new(Kept { answer, at: now }));
            // Else the bound holds only some time later.
            self.0.run_pending_tasks();
        }
    }

    /// Forgets the answer to this request.
    pub(super) fn forget(&self, key: &Key) {
        self.0.invalidate(key);
    }

    /// Forgets all of them.
    pub(super) fn clear(&self) {
        self.0.invalidate_all();
        self.0.run_pending_tasks();
    }
}
