//! What a tenant has used, day by day. Counted in memory and written every few
//! seconds: a write for each request would cost more than the request.

use std::collections::BTreeMap;
use std::ops::{Add, Sub};

use crate::clock::Timestamp;

/// A calendar day in UTC: days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i64);

const MICROS: i64 = 86_400 * 1_000_000;

impl Day {
    /// The day of a moment.
    #[must_use]
    pub fn of(moment: Timestamp) -> Self {
        Self(moment.micros() / MICROS)
    }

    /// Its first moment.
    #[must_use]
    pub fn begin(self) -> Timestamp {
        Timestamp::from_micros(self.0.saturating_mul(MICROS))
    }

    /// Reads a date such as `2030-01-31`; `None` when it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() == 10 { Timestamp::parse(&format!("{text}T00:00:00Z")).map(Self::of) } else { None }
    }

    /// As a date such as `2030-01-31`.
    #[must_use]
    pub fn date(self) -> String {
        let mut text = self.begin().to_string();
        text.truncate(10);
        text
    }

    /// The day after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What was used in a day, or over several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests with a key that counts, refused ones included.
    pub requests: u64,
    /// Those that were refused for their rate.
    pub rate_limited: u64,
    /// Jobs acknowledged.
    pub jobs_submitted: u64,
    /// Jobs that succeeded.
    pub jobs_succeeded: u64,
    /// Jobs that failed or were given up.
    pub jobs_failed: u64,
    /// Microseconds that attempts took.
    pub run_micros: u64,
}

impl Usage {
    fn both(self, other: Self, each: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            requests: each(self.requests, other.requests),
            rate_limited: each(self.rate_limited, other.rate_limited),
            jobs_submitted: each(self.jobs_submitted, other.jobs_submitted),
            jobs_succeeded: each(self.jobs_succeeded, other.jobs_succeeded),
            jobs_failed: each(self.jobs_failed, other.jobs_failed),
            run_micros: each(self.run_micros, other.run_micros),
        }
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.both(other, u64::saturating_add)
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.both(other, u64::saturating_sub)
    }
}

/// What has been counted and is not in the database yet.
#[derive(Debug, Default)]
pub(super) struct Unwritten(BTreeMap<Day, Usage>);

impl Unwritten {
    pub(super) fn day(&mut self, now: Timestamp) -> &mut Usage {
        self.0.entry(Day::of(now)).or_default()
    }

    pub(super) fn list(&self) -> Vec<(Day, Usage)> {
        self.0.iter().map(|(day, usage)| (*day, *usage)).collect()
    }

    /// Takes off what is in the database now.
    pub(super) fn written(&mut self, day: Day, usage: Usage) {
        if let Some(left) = self.0.get_mut(&day) {
            *left = *left - usage;
            if *left == Usage::default() {
                self.0.remove(&day);
            }
        }
    }
}
