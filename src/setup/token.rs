//! The one-time token and its file.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::constant_time;

use crate::clock::Timestamp;
use crate::id::random_bytes;

/// How long a token counts.
const COUNTS_FOR: Duration = Duration::from_secs(3600);

/// 256 random bits, for a while.
pub(super) struct Token {
    text: String,
    begins_at: Timestamp,
    pub ends_at: Timestamp,
}

impl Token {
    /// A new one, with its text.
    pub(super) fn generate(now: Timestamp) -> (Self, String) {
        let text = [0; 2].map(|_: u8| format!("{:032x}", u128::from_ne_bytes(random_bytes()))).concat();
        (Self { text: text.clone(), begins_at: now, ends_at: now.plus(COUNTS_FOR) }, text)
    }

    /// Whether this is it, and it still counts. When the clock was set to before
    /// its beginning nobody knows, so it does not.
    pub(super) fn is(&self, presented: &str, now: Timestamp) -> bool {
        let same = constant_time::verify_slices_are_equal(self.text.as_bytes(), presented.trim().as_bytes()).is_ok();
        same && (self.begins_at..self.ends_at).contains(&now)
    }
}

/// Writes it where only the service's own user and root can read it.
pub(super) fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let partial = file.with_extension("partial");
    // What lies there with another mode would keep it.
    match std::fs::remove_file(&partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    let mut opened = options.write(true).create_new(true).mode(0o600).open(&partial)?;
    writeln!(opened, "{text}")?;
    std::fs::rename(&partial, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_for_an_hour_and_for_itself() {
        let now = Timestamp::from_micros(10_000_000_000);
        let (token, text) = Token::generate(now);
        assert!(token.is(&text, now) && token.is(&format!("{text}\n"), now.plus(Duration::from_secs(3599))));
        assert!(!token.is(&text, now.plus(COUNTS_FOR)));
        assert!(!token.is(&text, Timestamp::from_micros(9_999_999_999)), "the clock was set back");
        let (_, other) = Token::generate(now);
        assert!(!token.is(&other, now) && !token.is("", now) && !token.is(&text[1..], now));
    }

    #[test]
    fn nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("setup-token");
        std::fs::write(file.with_extension("partial"), "old").expect("written");
        for text in ["one", "other"] {
            write(&file, text).expect("written");
            assert_eq!(std::fs::read_to_string(&file).expect("read"), format!("{text}\n"));
        }
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
