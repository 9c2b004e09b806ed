//! Keys are kept as HMAC-SHA256 with one secret, so that a stolen database
//! neither holds keys nor lets anyone test guesses.

use aws_lc_rs::{constant_time, hmac};

/// An HMAC-SHA256.
pub type Mac = [u8; 32];

/// Hashes keys with the key-hash secret.
pub struct KeyHasher {
    key: hmac::Key,
}

impl KeyHasher {
    /// A hasher with the given secret.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()) }
    }

    /// The MAC of a key.
    #[must_use]
    pub fn mac(&self, text: &str) -> Mac {
        let mut mac = [0; 32];
        mac.copy_from_slice(hmac::sign(&self.key, text.as_bytes()).as_ref());
        mac
    }

    /// Whether two MACs are equal, in constant time.
    #[must_use]
    pub fn same(&self, one: &Mac, other: &Mac) -> bool {
        constant_time::verify_slices_are_equal(one, other).is_ok()
    }

    /// Tells one secret from another without telling anything about it.
    #[must_use]
    pub fn mark(&self) -> [u8; 8] {
        let mac = self.mac("agentd: which key-hash secret is this");
        let mut mark = [0; 8];
        mark.copy_from_slice(&mac[..8]);
        mark
    }
}
