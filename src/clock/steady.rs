//! The time by which what is old is deleted.
//!
//! The wall clock can be wrong: a machine boots with a dead battery, somebody
//! mistypes a date, a time server lies. Deleting by it would be final. So this
//! follows the wall clock only as fast as the monotonic clock goes on. Where the
//! wall clock was set forward, it counts once it has run on like that for
//! [`HOLD`]; where it was set back, at once, since less is then old.
//!
//! What was known of it is kept over a restart ([`Remembered`]), so that a wrong
//! clock at start deletes nothing either.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// How long the wall clock must have run on undisturbed before it counts.
pub const HOLD: Duration = Duration::from_secs(24 * 3600);
/// What is left of that after a restart, where it had run on undisturbed before.
const AFTER_A_RESTART: Duration = Duration::from_secs(3600);
/// A service that was stopped for longer begins anew to trust the clock.
const SHORT_STOP: i64 = 24 * 3600 * 1_000_000;
/// A smaller difference is no set clock.
const TOLERANCE: i64 = 60 * 1_000_000;

/// What is known from one start to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The time that counted, in microseconds.
    pub counted: i64,
    /// The wall clock at that moment.
    pub wall: i64,
    /// For how many seconds it had run on undisturbed.
    pub undisturbed: u64,
}

impl Remembered {
    /// What can be known without a memory: when something was last written.
    #[must_use]
    pub fn since(moment: Timestamp) -> Self {
        Self { counted: moment.micros(), wall: moment.micros(), undisturbed: 0 }
    }
}

/// That the wall clock is ahead of the time that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// By so much.
    pub ahead: Duration,
    /// For so long, if nobody sets it again.
    pub left: Duration,
    /// Whether it was set while the service ran, and not while it was stopped.
    pub was_set: bool,
}

/// The state between two looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steady {
    /// The time that counted, and the monotonic clock, at the last agreement.
    base: (i64, i64),
    /// The wall clock less the monotonic one at the last look.
    offset: i64,
    /// Since when, on the monotonic clock, the wall clock has kept to that. Before
    /// the start of the process where it did so in the process before.
    since: i64,
    was_set: bool,
}

impl Steady {
    /// Without a memory the wall clock counts as it is.
    pub(super) fn new(wall: i64, ticks: i64) -> Self {
        Self { base: (wall, ticks), offset: wall - ticks, since: ticks, was_set: false }
    }

    pub(super) fn recall(&mut self, known: Remembered, wall: i64, ticks: i64) {
        let stopped = wall.saturating_sub(known.wall);
        let most = HOLD.saturating_sub(AFTER_A_RESTART).as_secs();
        let undisturbed = if (0..=SHORT_STOP).contains(&stopped) { known.undisturbed.min(most) } else { 0 };
        let since = ticks.saturating_sub(micros(Duration::from_secs(undisturbed)));
        *self = Self { base: (known.counted, ticks), offset: wall - ticks, since, was_set: false };
    }

    /// The time that counts now.
    pub(super) fn look(&mut self, wall: i64, ticks: i64) -> i64 {
        let offset = wall.saturating_sub(ticks);
        if offset.abs_diff(self.offset) > TOLERANCE.unsigned_abs() {
            self.since = ticks;
            self.was_set = true;
        }
        self.offset = offset;
        let (counted, at) = self.base;
        let expected = counted.saturating_add(ticks.saturating_sub(at).max(0));
        let agrees = wall.abs_diff(expected) <= TOLERANCE.unsigned_abs();
        if agrees || ticks.saturating_sub(self.since) >= micros(HOLD) {
            self.base = (wall, ticks);
            self.was_set = false;
            return wall;
        }
        wall.min(expected)
    }

    pub(super) fn remember(&mut self, wall: i64, ticks: i64) -> Remembered {
        let counted = self.look(wall, ticks);
        let undisturbed = ticks.saturating_sub(self.since).clamp(0, micros(HOLD));
        Remembered { counted, wall, undisturbed: undisturbed.unsigned_abs() / 1_000_000 }
    }

    pub(super) fn held(&mut self, wall: i64, ticks: i64) -> Option<Held> {
        let ahead = wall.saturating_sub(self.look(wall, ticks));
        let left = micros(HOLD) - ticks.saturating_sub(self.since);
        let span = |micros: i64| Duration::from_micros(micros.max(0).unsigned_abs());
        (ahead > 0).then(|| Held { ahead: span(ahead), left: span(left), was_set: self.was_set })
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;
    const HOUR: i64 = 3600 * SECOND;
    const DAY: i64 = 24 * HOUR;
    /// Some day.
    const NOW: i64 = 20_000 * DAY;

    #[test]
    fn it_goes_with_the_wall_clock_as_long_as_that_goes_with_the_other() {
        let mut steady = Steady::new(NOW, 5);
        for hour in 0..100 {
            assert_eq!(steady.look(NOW + hour * HOUR, 5 + hour * HOUR), NOW + hour * HOUR);
            assert_eq!(steady.held(NOW + hour * HOUR, 5 + hour * HOUR), None);
        }
        // A clock that is slewed, or runs a little fast.
        let drift = |hour: i64| hour * SECOND;
        for hour in 100..500 {
            let wall = NOW + hour * HOUR + drift(hour - 100);
            assert_eq!(steady.look(wall, 5 + hour * HOUR), wall);
        }
    }

    #[test]
    fn a_clock_that_is_ahead_for_a_while_changes_nothing() {
        let mut steady = Steady::new(NOW, 0);
        assert_eq!(steady.look(NOW + 10 * SECOND, 10 * SECOND), NOW + 10 * SECOND);
        assert_eq!(steady.look(NOW + 400 * DAY + 20 * SECOND, 20 * SECOND), NOW + 20 * SECOND);
        let held = steady.held(NOW + 400 * DAY + 30 * SECOND, 30 * SECOND).expect("held");
        assert_eq!((held.ahead, held.was_set), (Duration::from_secs(400 * 86_400), true));
        assert_eq!(held.left, HOLD.saturating_sub(Duration::from_secs(10)));
        assert_eq!(steady.look(NOW + 40 * SECOND, 40 * SECOND), NOW + 40 * SECOND, "right again");
        assert_eq!(steady.held(NOW + 40 * SECOND, 40 * SECOND), None);
    }

    #[test]
    fn after_a_day_a_clock_that_was_set_counts() {
        let mut steady = Steady::new(NOW, 0);
        let wall = |ticks: i64| NOW + 400 * DAY + ticks;
        assert_eq!(steady.look(wall(SECOND), SECOND), NOW + SECOND);
        assert_eq!(steady.look(wall(23 * HOUR), 23 * HOUR), NOW + 23 * HOUR);
        assert_eq!(steady.look(wall(DAY + 2 * SECOND), DAY + 2 * SECOND), wall(DAY + 2 * SECOND));
        assert_eq!(steady.look(wall(DAY + HOUR), DAY + HOUR), wall(DAY + HOUR));
    }

    #[test]
    fn each_new_jump_begins_the_day_again() {
        let mut steady = Steady::new(NOW, 0);
        for hour in 1..100 {
            let ahead = 400 * DAY + (hour / 10) * DAY;
            assert_eq!(steady.look(NOW + ahead + hour * HOUR, hour * HOUR), NOW + hour * HOUR, "{hour}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_counts_at_once_and_does_not_blind_it() {
        let mut steady = Steady::new(NOW + 400 * DAY, 0);
        assert_eq!(steady.look(NOW + SECOND, SECOND), NOW + SECOND, "less is old");
        assert_eq!(steady.look(NOW + DAY + 2 * SECOND, DAY + 2 * SECOND), NOW + DAY + 2 * SECOND);
        // It is the truth now: another jump is held.
        let ticks = DAY + HOUR;
        assert_eq!(steady.look(NOW + 300 * DAY + ticks, ticks), NOW + ticks);
    }

    #[test]
    fn a_restart_with_a_wrong_clock_deletes_nothing() {
        let mut before = Steady::new(NOW, 0);
        let known = before.remember(NOW + 3 * DAY, 3 * DAY);
        assert_eq!(known, Remembered { counted: NOW + 3 * DAY, wall: NOW + 3 * DAY, undisturbed: 86_400 });
        // The monotonic clock begins anew.
        let (wall, ticks) = (NOW + 403 * DAY, 7);
        let mut steady = Steady::new(wall, ticks);
        steady.recall(known, wall, ticks);
        assert_eq!(steady.look(wall, ticks), NOW + 3 * DAY);
        assert!(!steady.held(wall, ticks).expect("held").was_set, "nobody has set it meanwhile");
        assert_eq!(steady.look(wall + 23 * HOUR, ticks + 23 * HOUR), NOW + 3 * DAY + 23 * HOUR);
        // Put right, it counts at once.
        let right = NOW + 3 * DAY + 23 * HOUR + 30 * SECOND;
        assert_eq!(steady.look(right, ticks + 23 * HOUR), right);
    }

    #[test]
    fn a_service_that_runs_by_day_catches_up_each_day() {
        let mut steady = Steady::new(NOW, 0);
        let mut wall = NOW;
        for _ in 0..40 {
            let end = wall + 8 * HOUR;
            let known = steady.remember(end, 8 * HOUR);
            wall = end + 16 * HOUR;
            steady = Steady::new(wall, 0);
            steady.recall(known, wall, 0);
        }
        assert!(steady.look(wall + 2 * HOUR, 2 * HOUR) > wall - 3 * DAY, "it lags by a few days at most");
    }

    #[test]
    fn restarts_with_a_wrong_clock_add_up_to_the_day_and_no_sooner() {
        let mut steady = Steady::new(NOW, 0);
        let _ = steady.look(NOW + DAY, DAY);
        let mut ticks = DAY + SECOND;
        let mut wall = NOW + 400 * DAY;
        assert_eq!(steady.look(wall, ticks), NOW + ticks);
        for _ in 0..20 {
            let known = steady.remember(wall + HOUR, ticks + HOUR);
            (wall, ticks) = (wall + HOUR + SECOND, 0);
            steady = Steady::new(wall, ticks);
            steady.recall(known, wall, ticks);
            assert!(steady.look(wall, ticks) < NOW + 5 * DAY);
        }
    }

    proptest! {
        /// Whatever the wall clock does, what counts goes on no faster than time
        /// does, until the wall clock has been left alone for a day.
        #[test]
        fn it_never_runs_away(steps in prop::collection::vec((1..3600_i64, -500..500_i64), 1..60)) {
            let mut steady = Steady::new(NOW, 0);
            let (mut ticks, mut ahead) = (0, 0);
            for (seconds, days) in steps {
                ticks += seconds * SECOND;
                // One in four looks finds the clock set.
                if days % 4 == 0 && days != 0 {
                    ahead = days * DAY;
                }
                let counted = steady.look(NOW + ahead + ticks, ticks);
                if ticks < DAY {
                    prop_assert!(counted <= NOW + ticks + TOLERANCE);
                }
                prop_assert!(counted <= NOW + ahead + ticks);
            }
        }
    }
}
