//! How values are written: each type says what it expects.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A value that can be read from text.
pub(super) trait Setting: Sized {
    /// What to say when it cannot.
    const EXPECTED: &'static str;

    fn parse(text: &str) -> Option<Self>;

    /// As `check --show` shows it.
    fn show(&self) -> String;
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogFormat {
    Auto,
    Json,
    Text,
}

impl Setting for String {
    const EXPECTED: &'static str = "a text that is not empty";

    fn parse(text: &str) -> Option<Self> {
        (!text.trim().is_empty()).then(|| text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.contains('\0')).then(|| text.into())
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Setting for SocketAddr {
    const EXPECTED: &'static str = "an address and port, such as 127.0.0.1:8000 or [::1]:8000";

    fn parse(text: &str) -> Option<Self> {
        // The one name that always means the same; others would need a resolver.
        let text = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for usize {
    const EXPECTED: &'static str = "a whole number from 1 to 10000000";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number| (1..=10_000_000).contains(number))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for Duration {
    const EXPECTED: &'static str = "a span such as 500ms, 30s, 5m, 2h or 7d";

    fn parse(text: &str) -> Option<Self> {
        parse_span(text)
    }

    fn show(&self) -> String {
        if self.subsec_millis() == 0 { format!("{}s", self.as_secs()) } else { format!("{}ms", self.as_millis()) }
    }
}

impl Setting for Bytes {
    const EXPECTED: &'static str = "a number of bytes such as 1048576, 64KiB, 1MiB or 2GiB";

    fn parse(text: &str) -> Option<Self> {
        parse_bytes(text).map(Self)
    }

    fn show(&self) -> String {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let fits = units.iter().find(|(size, _)| self.0 >= *size && self.0.is_multiple_of(*size));
        fits.map_or_else(|| self.0.to_string(), |(size, unit)| format!("{}{unit}", self.0 / size))
    }
}

impl Setting for LogFormat {
    const EXPECTED: &'static str = "auto, json or text";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "json" => Some(Self::Json),
            "text" => Some(Self::Text),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => "auto",
            Self::Json => "json",
            Self::Text => "text",
        }
        .into()
    }
}

/// A span with its unit; at most a hundred years.
#[must_use]
pub fn parse_span(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let total = number.checked_mul(milliseconds)?;
    (total <= 100 * 366 * 86_400_000).then(|| Duration::from_millis(total))
}

/// A number of bytes, with or without a binary unit.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let size = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(size)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}
