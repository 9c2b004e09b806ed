//! Time as the whole house uses it: UTC, integer microseconds.
//!
//! Everything that needs "now" gets a [`Clock`]; nothing else reads the
//! system's time, so a test can set it.

mod steady;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use steady::Steady;
pub use steady::{HOLD, Held, Remembered};

/// A moment: microseconds since 1970-01-01T00:00:00Z, written as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The last microsecond of the year 9999, which RFC 3339 can still write.
    pub const MAX: Self = Self(253_402_300_799_999_999);
    /// What to say where a text has to be a time.
    pub const EXPECTED: &'static str = "a time in RFC 3339 from 1970 on, such as 2030-01-31T09:30:00Z";

    /// A moment from microseconds since the Unix epoch, held within the years
    /// 1970 to 9999.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        if micros < 0 {
            Self(0)
        } else if micros > Self::MAX.0 {
            Self::MAX
        } else {
            Self(micros)
        }
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This moment plus a span; the end of the calendar where that overflows.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_add(span))
    }

    /// This moment less a span; the beginning of the calendar where that underflows.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self::from_micros(self.0.saturating_sub(micros(span)))
    }

    /// The span from `earlier` to this moment; zero where the clock was set back.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339 with any offset; `None` when it is not one, or lies before 1970.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let micros = rfc3339(text).or_else(|| {
            // Other forms of ISO 8601 that people write, such as without seconds.
            let moment: jiff::Timestamp = text.parse().ok()?;
            Some(moment.as_microsecond())
        })?;
        (micros >= 0).then(|| Self::from_micros(micros))
    }
}

/// Microseconds since 1970 of a time as RFC 3339 has it, over all years that it can write. The library's own
/// moments end some hours before the year 9999 does.
fn rfc3339(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let mut number = |digits: usize, after: &[u8]| {
        let (number, behind) = rest.split_at_checked(digits)?;
        let value = number
            .iter()
            .try_fold(0_i64, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))?;
        rest = if after.is_empty() { behind } else { behind.split_first().filter(|(it, _)| after.contains(it))?.1 };
        Some(value)
    };
    let (year, month, day) = (number(4, b"-")?, number(2, b"-")?, number(2, b"Tt ")?);
    let (hour, minute, second) = (number(2, b":")?, number(2, b":")?, number(2, b"")?);
    let day = jiff::civil::Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    let days = day.ok()?.duration_since(jiff::civil::date(1970, 1, 1)).as_hours() / 24;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, rest) = fraction(rest)?;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset(rest)?;
    // A leap second is the last one of a day in UTC; here it is the first moment of the next day.
    if second == 60 {
        return (seconds % 86_400 == 0).then_some(seconds * 1_000_000);
    }
    Some(seconds * 1_000_000 + fraction)
}

/// The microseconds of a fraction of a second, where there is one, and what follows it.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else { return Some((0, text)) };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at(length);
    let micros = (0..6).fold(0, |value, place| value * 10 + digits.get(place).map_or(0, |byte| i64::from(byte - b'0')));
    (length > 0).then_some((micros, rest))
}

/// The seconds by which a time is ahead of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'Z' | b'z'] => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let [hour_tens, hours, b':', minute_tens, minutes] = digits else { return None };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    let (hours, minutes) = (digit(hour_tens)? * 10 + digit(hours)?, digit(minute_tens)? * 10 + digit(minutes)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(moment) = jiff::Timestamp::from_microsecond(self.0) {
            return write!(f, "{moment:.6}");
        }
        // The last day and a half of the calendar, which the library has no moments for.
        let since = jiff::SignedDuration::from_micros(self.0);
        match jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0).checked_add(since) {
            Ok(moment) => write!(f, "{moment:.6}Z"),
            Err(_) => f.write_str("9999-12-31T23:59:59.999999Z"),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("must be {}", Self::EXPECTED)))
    }
}

/// Where "now" comes from: the system, or whatever a test says. Clones share it.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    ticks: Box<dyn Fn() -> Duration + Send + Sync>,
    steady: Mutex<Steady>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::of(system_now, system_ticks)
    }

    /// A clock that asks `now` each time; its monotonic clock goes with it.
    pub fn from_fn(now: impl Fn() -> Timestamp + Clone + Send + Sync + 'static) -> Self {
        let ticks = now.clone();
        Self::of(now, move || Duration::from_micros(ticks().micros().unsigned_abs()))
    }

    /// A wall clock, and a monotonic one that only ever goes on.
    pub fn of(
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
        ticks: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        let steady = Steady::new(now().micros(), micros(ticks()));
        Self(Arc::new(Inner { now: Box::new(now), ticks: Box::new(ticks), steady: Mutex::new(steady) }))
    }

    /// The present moment. It can be earlier than the last answer.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0.now)()
    }

    /// The monotonic clock, from some moment on. It also goes on while the machine
    /// sleeps, and nobody can set it.
    #[must_use]
    pub fn ticks(&self) -> Duration {
        (self.0.ticks)()
    }

    /// The time by which what is old is deleted: the present moment, but where the
    /// clock was set forward it goes on as if it had not been, for [`HOLD`]. Never
    /// later than [`now`](Self::now).
    #[must_use]
    pub fn steady_now(&self) -> Timestamp {
        let (wall, ticks) = self.both();
        Timestamp::from_micros(self.steady().look(wall, ticks))
    }

    /// What has to be known at the next start.
    #[must_use]
    pub fn remember(&self) -> Remembered {
        let (wall, ticks) = self.both();
        self.steady().remember(wall, ticks)
    }

    /// Goes on from what an earlier process knew.
    pub fn recall(&self, known: Remembered) {
        let (wall, ticks) = self.both();
        self.steady().recall(known, wall, ticks);
    }

    /// Whether the clock is ahead of [`steady_now`](Self::steady_now).
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        let (wall, ticks) = self.both();
        self.steady().held(wall, ticks)
    }

    fn both(&self) -> (i64, i64) {
        (self.now().micros(), micros(self.ticks()))
    }

    fn steady(&self) -> MutexGuard<'_, Steady> {
        self.0.steady.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// The system's monotonic clock, which also goes on while the machine sleeps.
#[must_use]
pub fn system_ticks() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
    seconds + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// The system's present moment.
#[must_use]
pub fn system_now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since_epoch.map_or(0, |span| i64::try_from(span.as_micros()).unwrap_or(i64::MAX));
    Timestamp::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn writes_and_reads_rfc_3339() {
        let moment = Timestamp::from_micros(1_700_000_000_000_001);
        assert_eq!(moment.to_string(), "2023-11-14T22:13:20.000001Z");
        assert_eq!(Timestamp::parse("2023-11-14T23:13:20.000001+01:00"), Some(moment));
        assert_eq!(Timestamp::parse("yesterday"), None);
        assert_eq!(Timestamp::parse("1950-01-01T00:00:00Z"), None);
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn every_time_of_rfc_3339_can_be_read() {
        for (text, shown) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000000Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
            ("9999-12-31T23:59:59.9999999999Z", "9999-12-31T23:59:59.999999Z"),
            ("9999-12-31T23:59:59+02:00", "9999-12-31T21:59:59.000000Z"),
            ("9999-12-31T23:59:59-02:00", "9999-12-31T23:59:59.999999Z"),
            ("9999-12-31T00:00:00Z", "9999-12-31T00:00:00.000000Z"),
            ("9999-12-30T22:00:01Z", "9999-12-30T22:00:01.000000Z"),
            ("9999-12-31T23:59:60Z", "9999-12-31T23:59:59.999999Z"),
            ("2024-02-29t12:30:45.5z", "2024-02-29T12:30:45.500000Z"),
            ("2024-02-29 12:30:45.000001-00:00", "2024-02-29T12:30:45.000001Z"),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000000Z"),
            ("2017-01-01T01:59:60.7+02:00", "2017-01-01T00:00:00.000000Z"),
            ("1970-01-01T00:30:00+00:30", "1970-01-01T00:00:00.000000Z"),
            ("1969-12-31T23:30:00-01:00", "1970-01-01T00:30:00.000000Z"),
            ("2030-01-31T09:30Z", "2030-01-31T09:30:00.000000Z"),
        ] {
            assert_eq!(Timestamp::parse(text).map(|moment| moment.to_string()).as_deref(), Some(shown), "{text}");
        }
        for text in [
            "",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+1:00",
            "2024-01-01T00:00:00Zulu",
            "10000-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "１970-01-01T00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(micros in 0..=Timestamp::MAX.micros()) {
            let moment = Timestamp::from_micros(micros);
            prop_assert_eq!(rfc3339(&moment.to_string()), Some(micros));
        }

        #[test]
        fn the_last_days_are_written_and_read(before in 0..200_000_000_000_i64) {
            let moment = Timestamp::from_micros(Timestamp::MAX.micros() - before);
            prop_assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment));
        }

        #[test]
        fn both_readers_agree(micros in 0..=253_402_207_200_000_000_i64, hours in -23_i64..=23, minutes in 0_i64..=59) {
            let local = Timestamp::from_micros(micros).to_string();
            let sign = if hours < 0 { '-' } else { '+' };
            let text = format!("{}{sign}{:02}:{minutes:02}", local.trim_end_matches('Z'), hours.abs());
            if let Ok(moment) = text.parse::<jiff::Timestamp>() {
                prop_assert_eq!(rfc3339(&text), Some(moment.as_microsecond()), "{}", text);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = Timestamp::parse(&text);
        }
    }

    #[test]
    fn a_clock_of_a_test_goes_with_itself() {
        let now = Arc::new(std::sync::atomic::AtomicI64::new(5_000_000));
        let shared = now.clone();
        let clock = Clock::from_fn(move || Timestamp::from_micros(shared.load(std::sync::atomic::Ordering::Relaxed)));
        now.store(400 * 86_400_000_000, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(clock.steady_now(), clock.now());
        assert_eq!(clock.held(), None);
    }

    #[test]
    fn the_monotonic_clock_goes_on() {
        let clock = Clock::system();
        let before = clock.ticks();
        assert!(clock.ticks() >= before && before > Duration::ZERO);
        assert!(clock.now().since(clock.steady_now()) < Duration::from_secs(1));
    }

    #[test]
    fn a_clock_set_back_gives_no_negative_span() {
        let early = Timestamp::from_micros(5);
        let late = Timestamp::from_micros(9);
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.since(early), Duration::from_micros(4));
    }
}
