//! What a backup is called. The name says what must be known to choose one, so
//! that a folder or a bucket can be looked through without opening anything.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::Timestamp;

/// How far the clocks of two hosts may be apart.
const SKEW: Duration = Duration::from_secs(3600);
/// Characters of the instance's id that are in the name.
const INSTANCE: usize = 8;

/// `agentd-1f0c9a3e-t1-s6-20300131T093000.000Z.tar.zst`, and `.age` behind it
/// when it is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The beginning of the instance's id.
    pub instance: String,
    /// Goes up each time that the instance is restored: the highest is the one
    /// that lives on.
    pub timeline: u32,
    /// The version of the database's schema.
    pub schema: i32,
    /// When it was begun, to the millisecond.
    pub at: Timestamp,
    /// Whether it is encrypted.
    pub encrypted: bool,
}

impl Name {
    /// What an instance puts into its names.
    #[must_use]
    pub fn instance_of(id: &str) -> String {
        id.chars().filter(char::is_ascii_hexdigit).take(INSTANCE).collect()
    }

    /// What decides which of two is the one to go on with: the greater. One from
    /// the future was named while a clock was wrong, and is the last that counts.
    #[must_use]
    pub fn rank(&self, now: Timestamp) -> (bool, u32, Timestamp) {
        (!self.is_from_the_future(now), self.timeline, self.at)
    }

    /// Whether it says that it was made later than now, beyond what clocks differ.
    #[must_use]
    pub fn is_from_the_future(&self, now: Timestamp) -> bool {
        self.at > now.plus(SKEW)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at: String =
            self.at.to_string().chars().filter(|c| !matches!(c, '-' | ':')).take("20300131T093000.000".len()).collect();
        let Self { instance, timeline, schema, .. } = self;
        write!(f, "agentd-{instance}-t{timeline}-s{schema}-{at}Z.tar.zst")?;
        if self.encrypted { f.write_str(".age") } else { Ok(()) }
    }
}

/// The text is no backup's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no name of a backup")]
pub struct NoName;

impl FromStr for Name {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        let (stem, encrypted) = match text.strip_suffix(".age") {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        let parts: Vec<_> = stem.strip_suffix("Z.tar.zst").ok_or(NoName)?.split('-').collect();
        let ["agentd", instance, timeline, schema, at] = parts[..] else { return Err(NoName) };
        let name = Self {
            instance: instance.to_owned(),
            timeline: timeline.strip_prefix('t').and_then(|number| number.parse().ok()).ok_or(NoName)?,
            schema: schema.strip_prefix('s').and_then(|number| number.parse().ok()).ok_or(NoName)?,
            at: moment(at).ok_or(NoName)?,
            encrypted,
        };
        // Only what this would write itself: no signs, no leading zeros, no capitals.
        let hexadecimal = instance.len() == INSTANCE && instance.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hexadecimal && name.to_string() == text { Ok(name) } else { Err(NoName) }
    }
}

/// `20300131T093000.000`
fn moment(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once('T')?;
    if !text.is_ascii() || date.len() != 8 || time.len() != 10 {
        return None;
    }
    let (year, month, day) = (&date[..4], &date[4..6], &date[6..]);
    Timestamp::parse(&format!("{year}-{month}-{day}T{}:{}:{}Z", &time[..2], &time[2..4], &time[4..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_reads_as_people_expect() {
        let name = Name {
            instance: Name::instance_of("1f0c9a3e-0000-4000-8000-000000000000"),
            timeline: 1,
            schema: 6,
            at: Timestamp::parse("2030-01-31T09:30:00.0429Z").expect("a time"),
            encrypted: true,
        };
        assert_eq!(name.to_string(), "agentd-1f0c9a3e-t1-s6-20300131T093000.042Z.tar.zst.age");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            instance in "[0-9a-f]{8}", timeline: u32, schema in 0..i32::MAX, millis in 0..253_402_300_799_999_i64, encrypted: bool,
        ) {
            let name = Name { instance, timeline, schema, at: Timestamp::from_micros(millis * 1000), encrypted };
            prop_assert_eq!(name.to_string().parse(), Ok(name));
        }

        #[test]
        fn what_is_read_is_written_again(
            text in "(agentd-[0-9a-fA-F]{7,9}-t[0-9+-]{1,3}-s[0-9+]{1,3}-[0-9T.]{18,20}Z\\.tar\\.zst(\\.age)?|\\PC{0,60})",
        ) {
            if let Ok(name) = text.parse::<Name>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
