//! The sealed form of a value: `sealed:1:<key id>:<base64>`, where the bytes
//! are nonce, AES-256-GCM's ciphertext and its tag.

use std::fmt;

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;

use super::key::{Key, KeyId};
use crate::db;

/// What a sealed value begins with; the number is that of the form.
const PREFIX: &str = "sealed:1:";

/// Which secret it is: what kind, and the row that it belongs to. It is sealed
/// in with the value, so that a value is refused in any other place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName(String);

impl SecretName {
    /// The secret of this kind that belongs to a row; `kind` has no space.
    #[must_use]
    pub fn new(kind: &'static str, row: &str) -> Self {
        Self(format!("{kind} {row}"))
    }

    /// The value by which a database knows its master key.
    pub(super) fn check() -> Self {
        Self("check".into())
    }

    pub(super) fn kept(text: String) -> Self {
        Self(text)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An opened value. Printing it prints nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Plain(Vec<u8>);

impl Plain {
    /// The bytes, for what needs them.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// The text, where it is one.
    #[must_use]
    pub fn into_text(self) -> Option<String> {
        String::from_utf8(self.0).ok()
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain(secret)")
    }
}

/// Why a sealed value cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsealable {
    /// It has another form.
    #[error("it is no sealed value")]
    Form,
    /// It was sealed with a key that is not here.
    #[error("it is sealed with the master key {0}, which is not here")]
    OtherKey(KeyId),
    /// It was changed, or belongs somewhere else.
    #[error("it has been changed, or belongs to another row")]
    Changed,
}

/// Seals a value; the same one looks different each time.
///
/// # Errors
/// When the library fails: a fault of ours.
pub(super) fn seal(key: &Key, name: &SecretName, plain: &[u8]) -> Result<String, db::Error> {
    let head = format!("{PREFIX}{}:", key.id());
    let mut bytes = plain.to_vec();
    let nonce = key.cipher.seal_in_place_append_tag(aad(&head, name), &mut bytes);
    let nonce = nonce.map_err(|_| db::Error::Sql(format!("{name} could not be sealed")))?;
    let whole = [nonce.as_ref().as_slice(), &bytes].concat();
    Ok(head + &BASE64_STANDARD_NO_PAD.encode(whole))
}

/// Opens a sealed value with whichever key `find` has for it.
pub(super) fn open<K: AsRef<Key>>(
    find: impl FnOnce(KeyId) -> Option<K>,
    name: &SecretName,
    sealed: &str,
) -> Result<Plain, Unsealable> {
    let id = key_id(sealed).ok_or(Unsealable::Form)?;
    let (head, rest) = sealed.split_at(PREFIX.len() + KeyId::LENGTH + 1);
    let mut bytes = BASE64_STANDARD_NO_PAD.decode(rest).map_err(|_| Unsealable::Form)?;
    let (nonce, cipher) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(Unsealable::Form)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unsealable::Form)?;
    let key = find(id).ok_or(Unsealable::OtherKey(id))?;
    let plain = key.as_ref().cipher.open_in_place(nonce, aad(head, name), cipher);
    plain.map(|plain| Plain(plain.to_vec())).map_err(|_| Unsealable::Changed)
}

/// Which key a value is sealed with; `None` when it is no sealed value.
pub(super) fn key_id(sealed: &str) -> Option<KeyId> {
    let (id, _) = sealed.strip_prefix(PREFIX)?.split_once(':')?;
    KeyId::parse(id)
}

fn aad(head: &str, name: &SecretName) -> Aad<Vec<u8>> {
    Aad::from([head.as_bytes(), name.as_str().as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use super::*;
    use proptest::prelude::*;

    static KEY: LazyLock<Arc<Key>> = LazyLock::new(|| Arc::new(Key::generate().expect("a key")));

    fn opened(name: &SecretName, sealed: &str) -> Result<Plain, Unsealable> {
        open(|id| (id == KEY.id()).then(|| KEY.clone()), name, sealed)
    }

    fn name(row: &str) -> SecretName {
        SecretName::new("test", row)
    }

    #[test]
    fn the_same_value_looks_different_each_time() {
        let sealed = || seal(&KEY, &name("a"), b"hidden").expect("sealed");
        assert_ne!(sealed(), sealed());
        assert!(sealed().starts_with(&format!("sealed:1:{}:", KEY.id())));
    }

    #[test]
    fn another_key_is_named() {
        let other = Key::generate().expect("a key");
        let sealed = seal(&other, &name("a"), b"hidden").expect("sealed");
        assert_eq!(opened(&name("a"), &sealed), Err(Unsealable::OtherKey(other.id())));
        // A key that only says that it is the right one.
        let swapped = sealed.replace(&other.id().to_string(), &KEY.id().to_string());
        assert_eq!(opened(&name("a"), &swapped), Err(Unsealable::Changed));
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened(row in ".{0,40}", plain in proptest::collection::vec(any::<u8>(), 0..200)) {
            let sealed = seal(&KEY, &name(&row), &plain).expect("sealed");
            let back = opened(&name(&row), &sealed).expect("opened");
            prop_assert_eq!(back.reveal(), plain.as_slice());
            prop_assert_eq!(key_id(&sealed), Some(KEY.id()));
        }

        #[test]
        fn any_other_place_is_refused(row in ".{0,20}", other in ".{0,20}") {
            prop_assume!(row != other);
            let sealed = seal(&KEY, &name(&row), b"hidden").expect("sealed");
            prop_assert_eq!(opened(&name(&other), &sealed), Err(Unsealable::Changed));
            prop_assert_eq!(opened(&SecretName::new("best", &row), &sealed), Err(Unsealable::Changed));
        }

        #[test]
        fn any_flipped_bit_is_refused(place in any::<proptest::sample::Index>(), bit in 0_u8..7) {
            let sealed = seal(&KEY, &name("a"), b"a longer text that is hidden").expect("sealed");
            let mut bytes = sealed.into_bytes();
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let changed = String::from_utf8(bytes).expect("ASCII");
            prop_assert!(opened(&name("a"), &changed).is_err(), "{changed}");
        }

        #[test]
        fn no_text_is_too_strange(text in "(sealed:1:)?([0-9a-f]{16}:)?\\PC{0,60}") {
            prop_assert!(opened(&name("a"), &text).is_err());
        }

        #[test]
        fn no_bytes_behind_the_right_head_are_too_strange(text in "[A-Za-z0-9+/=]{0,80}") {
            let sealed = format!("sealed:1:{}:{text}", KEY.id());
            prop_assert!(opened(&name("a"), &sealed).is_err());
        }
    }
}
