//! What is answered to an ACME server over plain HTTP.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Answers of the challenge `http-01` (RFC 8555, 8.3), by token. Clones share
/// them.
#[derive(Clone, Debug, Default)]
pub struct HttpChallenges(Arc<RwLock<HashMap<String, String>>>);

impl HttpChallenges {
    /// Answers a token from now on.
    pub fn set(&self, token: String, answer: String) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(token, answer);
    }

    /// Answers it no longer.
    pub fn remove(&self, token: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(token);
    }

    /// The answer to a token.
    #[must_use]
    pub fn get(&self, token: &str) -> Option<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }
}
