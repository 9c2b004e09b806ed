//! The form of an API key: `agk_live_<id>_<secret>`, both parts base62. The id
//! is public and finds the key; the whole text proves it.

use crate::id::random_bytes;

const ID_LENGTH: usize = 12;
/// 32 characters of base62: 190 bits.
const SECRET_LENGTH: usize = 32;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A whole key, secret part included. Has no `Debug` and no `Display`, so that
/// it cannot reach a log by accident.
pub struct ApiKey {
    text: String,
    id_ends: usize,
}

impl ApiKey {
    /// A new key; `test` keys have the same rights.
    #[must_use]
    pub fn generate(test: bool) -> Self {
        let mut text = String::from(if test { "agk_test_" } else { "agk_live_" });
        push_random(&mut text, ID_LENGTH);
        let id_ends = text.len();
        text.push('_');
        push_random(&mut text, SECRET_LENGTH);
        Self { text, id_ends }
    }

    /// The public id inside a presented key; `None` when it has another form.
    #[must_use]
    pub fn public_id(presented: &str) -> Option<&str> {
        let rest = presented.strip_prefix("agk_live_").or_else(|| presented.strip_prefix("agk_test_"))?;
        let (id, secret) = rest.split_once('_')?;
        let base62 = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let formed = id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH && base62(id) && base62(secret);
        formed.then_some(id)
    }

    /// The public id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.text[self.id_ends - ID_LENGTH..self.id_ends]
    }

    /// The whole key, for its holder only.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

/// What may be shown of a key.
#[must_use]
pub(crate) fn prefix(id: &str, test: bool) -> String {
    format!("agk_{}_{id}", if test { "test" } else { "live" })
}

fn push_random(text: &mut String, length: usize) {
    let goal = text.len() + length;
    while text.len() < goal {
        // 248 is the greatest multiple of 62 in a byte: what is above it would
        // make some characters likelier than others.
        for byte in random_bytes::<32>().into_iter().filter(|byte| *byte < 248) {
            if text.len() < goal {
                text.push(char::from(ALPHABET[usize::from(byte % 62)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_new_key_is_read_back() {
        for test in [false, true] {
            let key = ApiKey::generate(test);
            assert_eq!(ApiKey::public_id(key.reveal()), Some(key.id()));
            assert!(key.reveal().starts_with(&prefix(key.id(), test)));
            assert_eq!(key.reveal().len(), 9 + ID_LENGTH + 1 + SECRET_LENGTH);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_either_a_key_or_none(text in ".{0,80}") {
            if let Some(id) = ApiKey::public_id(&text) {
                prop_assert!(text.contains(id) && id.len() == ID_LENGTH);
            }
        }

        #[test]
        fn a_key_with_one_character_changed_in_its_form_is_none(
            place in 0_usize..54, with in "[^A-Za-z0-9]"
        ) {
            let mut text: Vec<char> = ApiKey::generate(false).reveal().chars().collect();
            let with = with.chars().next().expect("one");
            prop_assume!(text[place] != with);
            text[place] = with;
            let text: String = text.into_iter().collect();
            prop_assert_eq!(ApiKey::public_id(&text), None);
        }

        #[test]
        fn a_key_of_another_length_is_none(cut in 0_usize..54, more in "[A-Za-z0-9]{1,9}") {
            let key = ApiKey::generate(true);
            prop_assert_eq!(ApiKey::public_id(&key.reveal()[..cut]), None);
            let longer = format!("{}{more}", key.reveal());
            prop_assert_eq!(ApiKey::public_id(&longer), None);
        }
    }
}
