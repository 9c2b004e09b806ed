//! What a user is.

use std::fmt;

use crate::auth::Role;
use crate::clock::Timestamp;

/// What somebody signs in with: lower case, 1 to 64 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName(String);

impl UserName {
    /// Reads a name; capital letters are made small.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let name = text.trim().to_ascii_lowercase();
        let fits = |c: char| c.is_ascii_alphanumeric() || "._@+-".contains(c);
        let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if (1..=64).contains(&name.len()) && begins && name.chars().all(fits) {
            return Ok(Self(name));
        }
        Err("must be 1 to 64 letters, digits or any of . _ @ + -, and begin with a letter or digit".into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user's row, without the password's hash.
#[derive(Clone, Debug)]
pub struct UserRow {
    /// Row number.
    pub no: i64,
    /// What they sign in with.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// When they were made.
    pub created_at: Timestamp,
    /// When they were last changed.
    pub updated_at: Timestamp,
    /// When they got their password.
    pub password_changed_at: Timestamp,
    /// When they last signed in.
    pub last_login_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_read_strictly() {
        assert_eq!(UserName::read(" Ops@Example.com ").map(|name| name.0), Ok("ops@example.com".into()));
        for wrong in ["", "a b", "a/b", "..", "-a", "ä", "a\nb", &"a".repeat(65)] {
            assert!(UserName::read(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_safe_in_a_path_and_read_the_same_again(text in "\\PC{0,70}") {
            if let Ok(name) = UserName::read(&text) {
                prop_assert!(!name.as_str().contains(['/', '?', '#', '%', ' ']));
                prop_assert_eq!(UserName::read(name.as_str()), Ok(name.clone()));
            }
        }
    }
}
