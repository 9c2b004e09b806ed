//! How values are written: each type says what it expects.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::callers::Origins;
use crate::net::{Network, WebOrigin};
use crate::pem;

/// A value that can be read from text.
pub(super) trait Setting: Sized {
    /// What to say when it cannot.
    const EXPECTED: &'static str;
    /// Whether the file may have an array for it.
    const LIST: bool = false;
    /// Whether the file must have it in quotation marks: a number that is taken for a path is a slip.
    const QUOTED: bool = false;
    /// Whether a wrong value may be repeated: not where it could be a secret in the wrong place.
    const REPEAT: bool = true;

    fn parse(text: &str) -> Option<Self>;

    /// What is wrong with a text that cannot be read, where more can be said than what is expected.
    fn why(_text: &str) -> Option<String> {
        None
    }

    /// As `check --show` shows it.
    fn show(&self) -> String;
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// A value, or nothing where somebody has written `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrOff<T> {
    On(T),
    Off,
}

impl<T> From<OrOff<T>> for Option<T> {
    fn from(value: OrOff<T>) -> Self {
        match value {
            OrOff::On(value) => Some(value),
            OrOff::Off => None,
        }
    }
}

impl Setting for OrOff<Duration> {
    const EXPECTED: &'static str = "a span such as 12h or 30d, or off";

    fn parse(text: &str) -> Option<Self> {
        if is_off(text) { Some(Self::Off) } else { parse_span(text).map(Self::On) }
    }

    fn show(&self) -> String {
        match self {
            Self::On(value) => value.show(),
            Self::Off => "off".into(),
        }
    }
}

/// Where the control socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlSocket {
    /// There is none.
    Off,
    /// At this path.
    At(PathBuf),
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogFormat {
    Auto,
    Json,
    Text,
}

impl Setting for String {
    const EXPECTED: &'static str = "a string that is not empty";
    const QUOTED: bool = true;

    fn parse(text: &str) -> Option<Self> {
        (!text.trim().is_empty()).then(|| text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "a path";
    const QUOTED: bool = true;

    fn parse(text: &str) -> Option<Self> {
        // Who writes the key itself here would find it in every message about the path.
        (!text.is_empty() && !text.contains('\0') && !pem::is_in(text)).then(|| text.into())
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Setting for ControlSocket {
    const EXPECTED: &'static str = "a path, or off";
    const QUOTED: bool = true;

    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || is_off(text) { Some(Self::Off) } else { PathBuf::parse(text).map(Self::At) }
    }

    fn show(&self) -> String {
        match self {
            Self::Off => "off".into(),
            Self::At(path) => path.show(),
        }
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
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
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
        if self.subsec_millis() != 0 {
            return format!("{}ms", self.as_millis());
        }
        let (seconds, units) = (self.as_secs(), [(86_400, "d"), (3_600, "h"), (60, "m")]);
        let fits = units.iter().find(|(size, _)| seconds >= *size && seconds.is_multiple_of(*size));
        fits.map_or_else(|| format!("{seconds}s"), |(size, unit)| format!("{}{unit}", seconds / size))
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

/// Several values; in the file an array, elsewhere parted by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List<T>(pub Vec<T>);

impl<T: Setting> Setting for List<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    const LIST: bool = true;
    const REPEAT: bool = T::REPEAT;

    fn parse(text: &str) -> Option<Self> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(T::parse).collect::<Option<_>>().map(Self)
    }

    fn show(&self) -> String {
        if self.0.is_empty() {
            return "(none)".into();
        }
        self.0.iter().map(Setting::show).collect::<Vec<_>>().join(", ")
    }
}

impl Setting for Network {
    const EXPECTED: &'static str = "addresses or networks such as 192.0.2.7, 10.0.0.0/8";

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for WebOrigin {
    const EXPECTED: &'static str = "origins such as https://app.example.com";

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for Origins {
    const EXPECTED: &'static str =
        "* or origins such as https://app.example.com or chrome-extension://ID, with http for localhost only";
    const LIST: bool = true;

    fn why(text: &str) -> Option<String> {
        let wrong = text.split(',').map(str::trim).find_map(|origin| WebOrigin::parse(origin).err())?;
        Some(format!("must be {}: {wrong}", Self::EXPECTED))
    }

    fn parse(text: &str) -> Option<Self> {
        if text.trim() == "*" { Some(Self::Any) } else { List::parse(text).map(|List(origins)| Self::Listed(origins)) }
    }

    fn show(&self) -> String {
        match self {
            Self::Any => "*".into(),
            Self::Listed(origins) => List(origins.clone()).show(),
        }
    }
}

/// A span; a number without a unit means seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seconds(pub Duration);

impl Setting for Seconds {
    const EXPECTED: &'static str = "a number of seconds, or a span such as 30s, 5m or 2h";

    fn parse(text: &str) -> Option<Self> {
        let seconds = text.parse().ok().map(Duration::from_secs);
        seconds.or_else(|| parse_span(text)).map(Self)
    }

    fn show(&self) -> String {
        self.0.show()
    }
}

/// Less is no time for anybody who is not on this machine.
pub(super) const INSTANT: Duration = Duration::from_millis(100);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// Whether somebody has switched it off.
pub(super) fn is_off(text: &str) -> bool {
    text.eq_ignore_ascii_case("off")
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
