//! The master key: 256 random bits, their text for people, and the id that
//! tells one from another.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;

use crate::id::{hex, random_bytes};

/// What the text of a key begins with.
const PREFIX: &str = "agmk1_";
const BYTES: usize = 32;
/// Bytes of the checksum behind those of the key.
const CHECKSUM: usize = 4;

/// Tells one master key from another without telling anything about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// Characters of its text.
    pub const LENGTH: usize = 16;

    /// Reads an id as it is shown: 16 hexadecimal digits in lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        (text.len() == Self::LENGTH && lower).then(|| from_hex(text)).flatten().map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// Why a text is no master key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// It has another form.
    #[error("is no master key: one begins with {PREFIX} and has {} characters", PREFIX.len() + 2 * (BYTES + CHECKSUM))]
    Form,
    /// A character is another than it was.
    #[error("is a mistyped or damaged master key: its checksum is wrong")]
    Checksum,
    /// The library does not take it: a fault of ours.
    #[error("cannot be used by the library")]
    Library,
}

/// A master key. Has no `Display`, and printing it for debugging shows its id
/// alone, so that it cannot reach a log by accident.
pub struct Key {
    bytes: [u8; BYTES],
    id: KeyId,
    /// What seals: derived, so that the id tells nothing about it.
    pub(super) cipher: RandomizedNonceKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Key {
    /// A new one.
    ///
    /// # Errors
    /// When the library does not take it.
    pub fn generate() -> Result<Self, KeyFault> {
        Self::of(random_bytes())
    }

    fn of(bytes: [u8; BYTES]) -> Result<Self, KeyFault> {
        let derive = |what: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), what.as_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(&derive("agentd master key: id").as_ref()[..8]);
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, derive("agentd master key: sealing").as_ref());
        Ok(Self { bytes, id: KeyId(id), cipher: cipher.map_err(|_| KeyFault::Library)? })
    }

    /// Reads a key; white space around it does not count.
    ///
    /// # Errors
    /// When it is none, or mistyped.
    pub fn parse(text: &str) -> Result<Self, KeyFault> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(KeyFault::Form)?;
        let all: [u8; BYTES + CHECKSUM] = from_hex(digits).ok_or(KeyFault::Form)?;
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(&all[..BYTES]);
        if all[BYTES..] != checksum(&bytes) {
            return Err(KeyFault::Checksum);
        }
        Self::of(bytes)
    }

    /// Which one it is.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The whole key as text, for the file that keeps it.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}{}", hex(&self.bytes), hex(&checksum(&self.bytes)))
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let sum = digest(&SHA256, &[PREFIX.as_bytes(), bytes].concat());
    let mut short = [0; CHECKSUM];
    short.copy_from_slice(&sum.as_ref()[..CHECKSUM]);
    short
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_is_read_back_and_has_the_same_id() {
        let key = Key::generate().expect("a key");
        let again = Key::parse(&format!("\n {} ", key.reveal())).expect("the same");
        assert_eq!((again.reveal(), again.id()), (key.reveal(), key.id()));
        assert_eq!(Key::parse(&key.reveal().replace(PREFIX, "")).expect_err("no prefix"), KeyFault::Form);
        assert_ne!(Key::generate().expect("another").id(), key.id());
        assert_eq!(KeyId::parse(&key.id().to_string()), Some(key.id()));
    }

    #[test]
    fn nothing_of_it_is_printed() {
        let key = Key::generate().expect("a key");
        let shown = format!("{key:?}");
        assert!(shown.contains(&key.id().to_string()) && !key.reveal().contains(&key.id().to_string()), "{shown}");
        assert!(shown.len() < 30, "{shown}");
    }

    proptest! {
        #[test]
        fn a_mistyped_key_is_recognised(place in 0_usize..72, by in 1_u32..16) {
            let mut text: Vec<char> = Key::generate().expect("a key").reveal().chars().collect();
            let at = PREFIX.len() + place;
            let digit = (text[at].to_digit(16).expect("a digit") + by) % 16;
            text[at] = char::from_digit(digit, 16).expect("a digit");
            let text: String = text.into_iter().collect();
            prop_assert_eq!(Key::parse(&text).expect_err("mistyped"), KeyFault::Checksum);
        }

        #[test]
        fn no_text_is_too_strange(text in "(agmk1_)?\\PC{0,90}") {
            prop_assert!(Key::parse(&text).is_err());
            let _ = KeyId::parse(&text);
        }
    }
}
