//! Seals what providers are sent back as `encrypted_content`, for clients that drop
//! unknown members of items.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// The prefix of sealed content, with the version of its format.
pub(super) const PREFIX: &str = "agentd1.";
/// The length of a key in bytes.
pub(super) const KEY_BYTES: usize = 32;

/// Seals for one tenant; no other tenant can use the result.
#[derive(Clone)]
pub(super) struct Seal {
    key: Arc<RandomizedNonceKey>,
    tenant: i64,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({})", self.tenant)
    }
}

/// A key; `None` if it has the wrong length.
pub(super) fn key(bytes: &[u8]) -> Option<Arc<RandomizedNonceKey>> {
    RandomizedNonceKey::new(&AES_256_GCM, bytes).ok().map(Arc::new)
}

impl Seal {
    pub fn new(key: Arc<RandomizedNonceKey>, tenant: i64) -> Self {
        Self { key, tenant }
    }

    /// Seals a text; `None` if the library fails.
    pub fn seal(&self, plain: &str) -> Option<String> {
        let mut bytes = plain.as_bytes().to_vec();
        let nonce = self.key.seal_in_place_append_tag(self.aad(), &mut bytes).ok()?;
        Some(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &bytes].concat())))
    }

    /// Opens a text. The outer `None`: it was not sealed by this service; the inner one: it
    /// was modified, or belongs to another tenant.
    #[expect(clippy::option_option, reason = "content that a provider sealed is not an error")]
    pub fn open(&self, sealed: &str) -> Option<Option<Vec<u8>>> {
        let text = sealed.strip_prefix(PREFIX)?;
        Some(self.opened(text))
    }

    fn opened(&self, text: &str) -> Option<Vec<u8>> {
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, cipher) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        self.key.open_in_place(nonce, self.aad(), cipher).ok().map(|plain| plain.to_vec())
    }

    fn aad(&self) -> Aad<[u8; 8]> {
        Aad::from(self.tenant.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seal(byte: u8, tenant: i64) -> Seal {
        Seal::new(key(&[byte; KEY_BYTES]).expect("a key"), tenant)
    }

    #[test]
    fn only_its_own_tenant_opens_it() {
        let sealed = seal(1, 1).seal("hidden").expect("sealed");
        assert!(!sealed.contains("hidden"));
        assert_ne!(sealed, seal(1, 1).seal("hidden").expect("sealed"));
        assert_eq!(seal(1, 1).open(&sealed), Some(Some(b"hidden".to_vec())));
        assert_eq!(seal(1, 2).open(&sealed), Some(None));
        assert_eq!(seal(2, 1).open(&sealed), Some(None));
        assert_eq!(seal(1, 1).open("gAAAAAB"), None, "sealed by a provider");
        assert!(key(b"short").is_none());
    }

    proptest! {
        #[test]
        fn what_has_been_changed_is_not_opened(text: String, place: prop::sample::Index, noise: String) {
            let sealed = seal(1, 1).seal(&text).expect("sealed");
            prop_assert_eq!(seal(1, 1).open(&sealed), Some(Some(text.into_bytes())));
            let mut changed = sealed.into_bytes();
            let place = PREFIX.len() + place.index(changed.len() - PREFIX.len());
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("text");
            // The last letter can have bits that nothing is read from.
            let opened = seal(1, 1).open(&changed);
            prop_assert!(opened == Some(None) || place + 1 == changed.len(), "{place} {}", changed.len());
            prop_assert_eq!(seal(1, 1).open(&format!("{PREFIX}{noise}")), Some(None));
        }
    }
}
