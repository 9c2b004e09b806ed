//! Keys are kept as HMAC-SHA256 with one secret, so that a stolen database
//! neither holds keys nor lets anyone test guesses.

use aws_lc_rs::{constant_time, hmac};

/// An HMAC-SHA256.
pub type Mac = [u8; 32];

/// Tells one secret from another without telling anything about it.
pub type Mark = [u8; 8];

/// What is kept of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its MAC with the secret that counts.
    Now(Mac),
    /// Its MAC with the secret before, until it is next used.
    Before(Mac),
}

/// Hashes keys with the key-hash secret.
pub struct KeyHasher {
    key: hmac::Key,
    before: Option<hmac::Key>,
}

impl KeyHasher {
    /// A hasher with the given secret, which still knows what was hashed with the
    /// one before.
    #[must_use]
    pub fn new(secret: &str, before: Option<&str>) -> Self {
        let key = |secret: &str| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Self { key: key(secret), before: before.filter(|before| *before != secret).map(key) }
    }

    /// The MAC of a key.
    #[must_use]
    pub fn mac(&self, text: &str) -> Mac {
        mac(&self.key, text)
    }

    /// Its MAC with the secret before, if there is one.
    #[must_use]
    pub fn mac_before(&self, text: &str) -> Option<Mac> {
        self.before.as_ref().map(|key| mac(key, text))
    }

    /// Whether two MACs are equal, in constant time.
    #[must_use]
    pub fn same(&self, one: &Mac, other: &Mac) -> bool {
        constant_time::verify_slices_are_equal(one, other).is_ok()
    }

    /// Tells this secret from others.
    #[must_use]
    pub fn mark(&self) -> Mark {
        mark(&self.key)
    }

    /// What a MAC proves that was made with the secret of this mark; `None` when
    /// that secret is not here.
    #[must_use]
    pub fn proof(&self, mac: Mac, of: Mark) -> Option<Proof> {
        if of == self.mark() {
            return Some(Proof::Now(mac));
        }
        self.before.as_ref().filter(|before| mark(before) == of).map(|_| Proof::Before(mac))
    }
}

fn mac(key: &hmac::Key, text: &str) -> Mac {
    let mut mac = [0; 32];
    mac.copy_from_slice(hmac::sign(key, text.as_bytes()).as_ref());
    mac
}

fn mark(key: &hmac::Key) -> Mark {
    let mac = mac(key, "agentd: which key-hash secret is this");
    let mut mark = [0; 8];
    mark.copy_from_slice(&mac[..8]);
    mark
}
