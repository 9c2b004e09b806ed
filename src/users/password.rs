//! Passwords: what may be one, and argon2id behind a short queue. A hash takes
//! 19 MiB and tens of milliseconds on purpose, so without the queue anybody
//! could use up memory and processors by guessing.

use std::sync::Arc;

use actix_web::http::StatusCode;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tokio::sync::Semaphore;
use unicode_normalization::{UnicodeNormalization as _, is_nfc};

use crate::http::Problem;
use crate::id::random_bytes;

/// Characters that a password must have.
pub const SHORTEST: usize = 12;
/// Bytes that it may have.
pub const LONGEST: usize = 1024;
/// Different characters that it must have.
const VARIETY: usize = 5;
/// Passwords that are looked at at the same time.
const AT_ONCE: usize = 2;
/// Passwords that are looked at or wait for it.
const QUEUE: usize = 12;

/// What OWASP asks of argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// A hash that no password has, with the same parameters: looking at a password
/// of nobody takes as long as at one of somebody.
const OF_NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A password as somebody typed it, in the form in which passwords are compared:
/// keyboards and systems differ in how they write one and the same character
/// (RFC 8265, `OpaqueString`). It is not printed and not kept.
#[derive(Clone, JsonSchema)]
#[schemars(inline)]
pub struct Password(#[schemars(length(min = 12))] String);

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What serde says would repeat a password that was sent as a number.
        String::deserialize(deserializer).map(Self::new).map_err(|_| D::Error::custom("must be a string"))
    }
}

impl Password {
    /// A password, whatever it is worth.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(comparable(text))
    }

    /// A password that nobody guesses: 24 letters and digits.
    #[must_use]
    pub fn generate() -> Self {
        const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
        let random = || loop {
            // What would make the first letters more likely is thrown away.
            let [byte] = random_bytes::<1>();
            if usize::from(byte) < 256 - 256 % LETTERS.len() {
                return char::from(LETTERS[usize::from(byte) % LETTERS.len()]);
            }
        };
        Self((0..24).map(|_| random()).collect())
    }

    /// Its text, for the one time that it is shown or sent.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it may protect a user.
    ///
    /// # Errors
    /// What it lacks.
    pub fn check(&self, user: &str) -> Result<(), String> {
        if self.0.chars().any(char::is_control) {
            return Err("must have no control characters, such as a tab or the end of a line".into());
        }
        let characters = self.0.chars().count();
        let different = self.0.chars().collect::<std::collections::BTreeSet<_>>().len();
        if characters < SHORTEST {
            return Err(format!("must have at least {SHORTEST} characters"));
        }
        if self.0.len() > LONGEST {
            return Err(format!("must have at most {LONGEST} bytes"));
        }
        if different < VARIETY {
            return Err(format!("must have at least {VARIETY} different characters"));
        }
        // Twice the name is the name.
        if self.0.to_lowercase().replace(&user.to_lowercase(), "").chars().count() < SHORTEST / 2 {
            return Err("must be more than the user's name".into());
        }
        Ok(())
    }
}

/// A password as it is compared: every kind of space is one, and characters are
/// composed (RFC 8265, section 4.2). What is too long to be one stays as it is.
fn comparable(text: String) -> String {
    // Composing shortens a text to a third at most.
    if text.is_ascii() || text.len() > 3 * LONGEST {
        return text;
    }
    let is_space =
        |c| matches!(c, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}');
    if is_nfc(&text) && !text.contains(is_space) {
        return text;
    }
    text.chars().map(|c| if is_space(c) { ' ' } else { c }).nfc().collect()
}

/// The hash of a password, as a PHC string. Printing it prints nothing of it.
#[derive(Clone)]
pub struct Hashed(pub(super) String);

/// The queue in front of argon2.
pub(super) struct Passwords {
    queue: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { queue: Arc::new(Semaphore::new(QUEUE)), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Passwords {
    pub(super) async fn hash(&self, password: Password) -> Result<Hashed, Problem> {
        let work = move || {
            let salt: [u8; 16] = random_bytes();
            let hash = argon2()?.hash_password_with_salt(password.0.as_bytes(), &salt);
            hash.map(|hash| Hashed(hash.to_string())).map_err(Problem::internal)
        };
        self.run(work).await
    }

    /// Whether it is the right one; it is none where there is nothing to compare
    /// it with.
    pub(super) async fn verify(&self, password: Password, hashed: Option<Hashed>) -> Result<bool, Problem> {
        let work = move || {
            let known = hashed.is_some();
            let hashed = hashed.map_or_else(|| OF_NOBODY.to_owned(), |Hashed(text)| text);
            // More than anybody set is not looked at for long.
            let text = password.0.get(..LONGEST + 1).unwrap_or(&password.0);
            Ok(argon2()?.verify_password(text.as_bytes(), hashed.as_str()).is_ok() && known)
        };
        self.run(work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let place = self.queue.clone().try_acquire_owned().map_err(|_| {
            let detail = "too many passwords are being checked at this moment";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_logins", detail).with_retry_after(1)
        })?;
        let turn = self.turns.clone().acquire_owned().await.map_err(Problem::internal)?;
        let done = tokio::task::spawn_blocking(move || {
            // Both are held until the work is done, also when the client hangs up.
            let _held = (place, turn);
            work()
        });
        done.await.map_err(Problem::internal)?
    }
}

fn argon2() -> Result<Argon2<'static>, Problem> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(Problem::internal)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let passwords = Passwords::default();
        let password = |text: &str| Password::new(text.into());
        let hashed = passwords.hash(password("correct horse battery")).await.expect("a hash");
        let other = passwords.hash(password("correct horse battery")).await.expect("a hash");
        assert_ne!(hashed.0, other.0, "each has a salt of its own");
        let right = |text: &str, hashed: &Hashed| passwords.verify(password(text), Some(hashed.clone()));
        assert!(right("correct horse battery", &hashed).await.expect("looked at"));
        assert!(!right("correct horse batterx", &hashed).await.expect("looked at"));
        assert!(!passwords.verify(password("correct horse battery"), None).await.expect("looked at"));
    }

    #[test]
    fn one_password_can_be_typed_in_several_ways() {
        let same = |one: &str, other: &str| Password::new(one.into()).reveal() == Password::new(other.into()).reveal();
        assert!(same("zw\u{f6}lf Zeichen", "zwo\u{308}lf Zeichen"), "composed or not");
        assert!(same("\u{c5}ngstr\u{f6}m unit", "\u{212b}ngstr\u{f6}m unit"), "the sign of a unit is the letter");
        assert!(same("\u{d55c}\u{ae00}", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}"), "Hangul");
        assert!(same("correct horse", "correct\u{a0}horse") && same("correct horse", "correct\u{3000}horse"));
        assert!(same("a\u{323}\u{307}", "a\u{307}\u{323}"), "marks in another order");
        for (one, other) in [
            ("Password", "password"),
            ("pass word", "password"),
            (" password", "password"),
            ("\u{ff41}", "a"),
            ("\u{df}", "ss"),
        ] {
            assert!(!same(one, other), "{one:?} is not {other:?}");
        }
    }

    #[tokio::test]
    async fn the_form_of_a_password_does_not_matter() {
        let passwords = Passwords::default();
        let composed: Password = serde_json::from_str(r#""zw\u00f6lf Zeichen""#).expect("a password");
        let hashed = passwords.hash(composed).await.expect("a hash");
        let apart: Password = serde_json::from_str(r#""zwo\u0308lf\u00a0Zeichen""#).expect("a password");
        assert!(passwords.verify(apart, Some(hashed)).await.expect("looked at"));
    }

    #[test]
    fn a_long_text_is_not_worked_on() {
        let text = "o\u{308}".repeat(LONGEST);
        assert_eq!(
            Password::new("o\u{308}".repeat(LONGEST / 2)).check("operator").err().as_deref(),
            Some("must have at least 5 different characters")
        );
        assert!(Password::new(format!("{text}x1y2z")).check("operator").is_err_and(|why| why.contains("1024 bytes")));
    }

    #[tokio::test]
    async fn nobodys_hash_is_as_dear_as_anybodys() {
        let hashed = Passwords::default().hash(Password::generate()).await.expect("a hash");
        let costs = |text: &str| text.rsplitn(3, '$').last().map(str::to_owned);
        assert_eq!(costs(&hashed.0), costs(OF_NOBODY));
        assert_eq!(hashed.0.len(), OF_NOBODY.len());
        assert!(argon2::PasswordHash::new(OF_NOBODY).is_ok(), "else looking at it would take no time");
    }

    #[tokio::test]
    async fn the_queue_is_short() {
        let passwords = Passwords::default();
        let many = futures_util::future::join_all((0..QUEUE + 3).map(|_| passwords.hash(Password::generate())));
        let refused: Vec<_> = many.await.into_iter().filter_map(Result::err).map(|problem| problem.code()).collect();
        assert_eq!(refused, ["too_many_logins"; 3]);
        passwords.hash(Password::generate()).await.expect("there is room again");
    }

    #[test]
    fn weak_passwords_are_refused() {
        let check = |text: &str| Password::new(text.into()).check("operator");
        for weak in [
            "",
            "short",
            "elevenchars",
            "aaaaaaaaaaaaaaaa",
            "abababababababab",
            "operatorOperator",
            "Operator1234",
            "correct\thorse battery",
            "correct horse\nbattery",
        ] {
            assert!(check(weak).is_err(), "{weak}");
        }
        assert!(check(&"x1y2z".repeat(1000)).is_err());
        for strong in ["correct horse battery", "zwölf Zeichen", "operator of the year 2026"] {
            assert_eq!(check(strong), Ok(()), "{strong}");
        }
        assert_eq!(check(Password::generate().reveal()), Ok(()));
    }
}
