//! Days and months of a budget. Money counts by buckets of five minutes, so a
//! window can be moved, forwards or backwards, by adding and taking away what
//! lies between its old and its new beginning.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::config::BudgetWindow;

/// Microseconds in a bucket.
const BUCKET: i64 = 300 * 1_000_000;
/// Buckets in a day.
const DAY: i64 = 288;

/// Five minutes, counted from 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Bucket(pub i64);

impl Bucket {
    /// Before everything.
    pub const FIRST: Self = Self(0);

    /// The bucket of a moment.
    pub fn of(moment: Timestamp) -> Self {
        Self(moment.micros() / BUCKET)
    }

    /// When it begins.
    pub fn begin(self) -> Timestamp {
        Timestamp::from_micros(self.0.saturating_mul(BUCKET))
    }

    /// When a rolling day no longer has it.
    fn leaves(self) -> Timestamp {
        Self(self.0.saturating_add(DAY + 1)).begin()
    }
}

/// Where the windows begin now, and the calendar's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The first bucket of the day.
    pub day: Bucket,
    /// The first bucket of the month.
    pub month: Bucket,
    /// When the calendar day ends; `None` where the day rolls.
    pub day_ends: Option<Timestamp>,
    /// When the month ends.
    pub month_ends: Timestamp,
}

/// Finds the frame of a moment, and remembers the calendar day it lies in.
#[derive(Debug)]
pub(super) struct Calendar {
    window: BudgetWindow,
    zone: TimeZone,
    known: Option<Known>,
}

/// Begin and end of a calendar day and its month.
#[derive(Clone, Copy, Debug)]
struct Known {
    day: (Timestamp, Timestamp),
    month: (Timestamp, Timestamp),
}

impl Calendar {
    pub fn new(window: BudgetWindow, zone: TimeZone) -> Self {
        Self { window, zone, known: None }
    }

    pub fn frame(&mut self, now: Timestamp) -> Frame {
        let known = match self.known.filter(|known| known.day.0 <= now && now < known.day.1) {
            Some(known) => known,
            None => *self.known.insert(look_up(&self.zone, now)),
        };
        let (day, day_ends) = match self.window {
            // One more than a day has, so that what has just begun counts whole.
            BudgetWindow::Rolling => (Bucket((Bucket::of(now).0 - DAY).max(0)), None),
            BudgetWindow::Calendar => (Bucket::of(known.day.0), Some(known.day.1)),
        };
        Frame { day, month: Bucket::of(known.month.0), day_ends, month_ends: known.month.1 }
    }
}

fn look_up(zone: &TimeZone, now: Timestamp) -> Known {
    in_zone(zone, now).unwrap_or_else(|_| {
        // At the ends of the calendar, where no day has a neighbour.
        let day = now.micros() / (DAY * BUCKET);
        let begin = |day: i64| Timestamp::from_micros(day.saturating_mul(DAY * BUCKET));
        Known { day: (begin(day), begin(day + 1)), month: (begin(day), begin(day + 1)) }
    })
}

fn in_zone(zone: &TimeZone, now: Timestamp) -> Result<Known, jiff::Error> {
    let moment = jiff::Timestamp::from_microsecond(now.micros())?.to_zoned(zone.clone());
    let begin = |day: jiff::Zoned| Ok(Timestamp::from_micros(day.start_of_day()?.timestamp().as_microsecond()));
    let begin = |day: Result<jiff::Zoned, jiff::Error>| day.and_then(begin);
    Ok(Known {
        day: (begin(Ok(moment.clone()))?, begin(moment.tomorrow())?),
        month: (begin(moment.first_of_month())?, begin(moment.last_of_month().and_then(|last| last.tomorrow()))?),
    })
}

/// The sum of all buckets from one on. What lies in the future counts too: it
/// was spent while the clock was ahead.
#[derive(Clone, Copy, Debug)]
struct Sum {
    from: Bucket,
    nano: i128,
}

impl Sum {
    fn move_to(&mut self, from: Bucket, buckets: &BTreeMap<Bucket, i64>) {
        let between = |a: Bucket, b: Bucket| buckets.range(a..b).map(|(_, nano)| i128::from(*nano)).sum::<i128>();
        if from > self.from {
            self.nano -= between(self.from, from);
        } else {
            self.nano += between(from, self.from);
        }
        self.from = from;
    }
}

/// Money by buckets, and its sums over a day and a month.
#[derive(Debug)]
pub(super) struct Windowed {
    buckets: BTreeMap<Bucket, i64>,
    day: Sum,
    month: Sum,
}

impl Default for Windowed {
    fn default() -> Self {
        let empty = Sum { from: Bucket::FIRST, nano: 0 };
        Self { buckets: BTreeMap::new(), day: empty, month: empty }
    }
}

impl Windowed {
    pub fn add(&mut self, bucket: Bucket, nano: i64) {
        let sum = self.buckets.entry(bucket).or_default();
        *sum = sum.saturating_add(nano);
        for sum in [&mut self.day, &mut self.month] {
            if bucket >= sum.from {
                sum.nano += i128::from(nano);
            }
        }
    }

    /// Moves both windows; what was spent in the day and in the month.
    pub fn spent(&mut self, frame: &Frame) -> (i128, i128) {
        self.day.move_to(frame.day, &self.buckets);
        self.month.move_to(frame.month, &self.buckets);
        (self.day.nano, self.month.nano)
    }

    /// Forgets what was spent before a bucket, in which no window begins.
    pub fn forget_before(&mut self, bucket: Bucket) {
        if self.day.from >= bucket && self.month.from >= bucket {
            self.buckets = self.buckets.split_off(&bucket);
        }
    }

    /// When so much of a rolling day has left it. `None` when nothing has to,
    /// or when all that leaves is not enough.
    pub fn frees(&self, from: Bucket, needed: i128) -> Option<Timestamp> {
        if needed <= 0 {
            return None;
        }
        let mut freed = 0;
        self.buckets.range(from..).find_map(|(bucket, nano)| {
            freed += i128::from(*nano);
            (freed >= needed).then(|| bucket.leaves())
        })
    }

    /// When the last of a rolling day has left it.
    pub fn empties(&self, from: Bucket) -> Option<Timestamp> {
        self.buckets.range(from..).next_back().map(|(bucket, _)| bucket.leaves())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect(text)
    }

    #[test]
    fn a_calendar_day_is_that_of_its_zone() {
        let zone = TimeZone::get("Europe/Berlin").expect("a zone");
        let mut calendar = Calendar::new(BudgetWindow::Calendar, zone);
        // The day on which summer time ends has 25 hours.
        let frame = calendar.frame(at("2026-10-25T12:00:00Z"));
        assert_eq!(frame.day.begin(), at("2026-10-24T22:00:00Z"));
        assert_eq!(frame.day_ends, Some(at("2026-10-25T23:00:00Z")));
        assert_eq!((frame.month.begin(), frame.month_ends), (at("2026-09-30T22:00:00Z"), at("2026-10-31T23:00:00Z")));
        let before = calendar.frame(at("2026-10-24T21:59:59Z"));
        assert_eq!(before.day_ends, Some(frame.day.begin()), "back over midnight");
    }

    #[test]
    fn a_rolling_day_has_24_hours_and_at_most_a_bucket_more() {
        let mut calendar = Calendar::new(BudgetWindow::Rolling, TimeZone::UTC);
        let mut spent = Windowed::default();
        let noon = at("2026-06-01T12:02:00Z");
        spent.add(Bucket::of(noon), 5);
        let mut day = |text: &str| spent.spent(&calendar.frame(at(text))).0;
        assert_eq!(day("2026-06-02T12:04:59Z"), 5);
        assert_eq!(day("2026-06-02T12:05:00Z"), 0);
        assert_eq!(day("2026-06-02T12:00:00Z"), 5, "the clock was set back");
        let from = calendar.frame(noon).day;
        assert_eq!(spent.frees(from, 5), Some(at("2026-06-02T12:05:00Z")));
        assert_eq!(spent.frees(from, 6), None);
    }

    #[test]
    fn the_ends_of_time_have_frames_too() {
        for window in [BudgetWindow::Rolling, BudgetWindow::Calendar] {
            for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"] {
                let mut calendar = Calendar::new(window, TimeZone::get(zone).expect("a zone"));
                calendar.frame(Timestamp::from_micros(0));
                calendar.frame(Timestamp::MAX);
            }
        }
    }

    proptest! {
        /// However the window is moved between what is spent, its sum is that of
        /// the buckets from its beginning on.
        #[test]
        fn a_moved_window_has_the_sum_of_its_buckets(
            steps in prop::collection::vec((0_i64..200, 0_i64..200, 0_i64..1_000), 1..60)
        ) {
            let mut spent = Windowed::default();
            let mut all: Vec<(i64, i64)> = Vec::new();
            for (from, bucket, nano) in steps {
                spent.add(Bucket(bucket), nano);
                all.push((bucket, nano));
                let end = Timestamp::MAX;
                let frame = Frame { day: Bucket(from), month: Bucket(from / 2), day_ends: None, month_ends: end };
                let sum = |from: i64| all.iter().filter(|(b, _)| *b >= from).map(|(_, n)| i128::from(*n)).sum::<i128>();
                prop_assert_eq!(spent.spent(&frame), (sum(from), sum(from / 2)));
            }
        }
    }
}
