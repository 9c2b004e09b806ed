//! Counts requests over the last minute.

use crate::clock::Timestamp;
use crate::http::Rate;

/// Sixty whole seconds and the one that is going on: any minute lies in them.
const SLOTS: i64 = 61;
const SECOND: i64 = 1_000_000;
const NO_REQUESTS: [u32; 61] = [0; 61];

/// The requests of the last minute, counted by the second in which they came.
///
/// A request counts for 60 to 61 seconds, so in no span of 60 seconds more are
/// admitted than the limit says.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// By second modulo [`SLOTS`]; empty until the first request.
    counts: Vec<u32>,
    total: u32,
    /// The second that was counted last.
    newest: i64,
}

impl Window {
    /// Counts a request when there is room for it; whether there was.
    pub(super) fn take(&mut self, limit: u32, now: Timestamp) -> (bool, Rate) {
        self.advance(now.micros() / SECOND);
        let admitted = self.total < limit;
        if admitted {
            let place = place(self.newest);
            self.counts[place] += 1;
            self.total += 1;
        }
        let remaining = limit.saturating_sub(self.total);
        (admitted, Rate { limit, remaining, reset: self.reset(limit, now) })
    }

    /// Forgets what is older than a minute.
    fn advance(&mut self, second: i64) {
        let passed = second - self.newest;
        if self.counts.is_empty() || passed.abs() >= SLOTS {
            // Also when the clock was set back by more than a minute; when it was
            // by less, the newest second goes on until it has caught up.
            self.counts = NO_REQUESTS.to_vec();
            (self.total, self.newest) = (0, second);
        }
        for second in self.newest + 1..=second {
            self.total -= std::mem::take(&mut self.counts[place(second)]);
        }
        self.newest = self.newest.max(second);
    }

    /// Seconds until more requests are admitted than now.
    fn reset(&self, limit: u32, now: Timestamp) -> u64 {
        // More than one has to go when the limit was lowered meanwhile.
        let mut must_go = self.total.saturating_sub(limit) + 1;
        let oldest = self.newest - SLOTS + 1;
        let goes = (oldest..=self.newest).find(|second| {
            must_go = must_go.saturating_sub(self.counts[place(*second)]);
            must_go == 0
        });
        let at = goes.map_or(now.micros(), |second| (second + SLOTS) * SECOND);
        u64::try_from((at - now.micros() + SECOND - 1) / SECOND).unwrap_or(0)
    }
}

fn place(second: i64) -> usize {
    usize::try_from(second.rem_euclid(SLOTS)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000 + micros)
    }

    proptest! {
        /// Against a list of all that was admitted.
        #[test]
        fn no_minute_has_more_than_the_limit_and_reset_is_true(
            pauses in prop::collection::vec(prop_oneof![0_i64..100_000, 0_i64..3_000_000, 0_i64..90_000_000], 1..300),
            limit in 1_u32..20,
        ) {
            let mut window = Window::default();
            let (mut now, mut admitted) = (0_i64, Vec::new());
            for pause in pauses {
                now += pause;
                let (let_in, rate) = window.take(limit, at(now));
                if let_in {
                    admitted.push(now);
                }
                let last_minute = admitted.iter().filter(|then| now - **then < 60 * SECOND).count();
                prop_assert!(last_minute <= limit as usize);
                let surely_free = admitted.iter().filter(|then| now - **then <= 61 * SECOND).count();
                prop_assert!(let_in || surely_free >= limit as usize, "refused without a reason");
                prop_assert!(rate.remaining as usize + surely_free >= limit as usize);
                prop_assert!(rate.limit == limit && (1..=61).contains(&rate.reset));
                prop_assert!(let_in || rate.remaining == 0);
                // Whoever comes back when told is let in.
                let mut later = Window { counts: window.counts.clone(), ..window };
                let reset = i64::try_from(rate.reset).expect("small");
                let (let_in, then) = later.take(limit, at(now + reset * SECOND));
                prop_assert!(let_in && then.remaining >= rate.remaining);
            }
        }

        #[test]
        fn a_clock_that_jumps_does_no_harm(
            moments in prop::collection::vec(0_i64..400_000_000, 1..200), limit in 1_u32..9
        ) {
            let mut window = Window::default();
            for moment in moments {
                let (let_in, rate) = window.take(limit, at(moment));
                prop_assert_eq!(window.total, window.counts.iter().sum::<u32>());
                prop_assert!(rate.remaining < limit && rate.reset <= 122);
                prop_assert!(let_in || rate.reset > 0);
            }
        }
    }

    #[test]
    fn who_has_used_it_up_is_let_in_again_when_told() {
        let mut window = Window::default();
        for left in (0..3).rev() {
            let (admitted, rate) = window.take(3, at(i64::from(2 - left) * SECOND));
            assert!(admitted);
            assert_eq!((rate.limit, rate.remaining), (3, left));
        }
        let (admitted, rate) = window.take(3, at(10 * SECOND));
        assert_eq!((admitted, rate), (false, Rate { limit: 3, remaining: 0, reset: 51 }));
        assert!(!window.take(3, at(60 * SECOND)).0);
        assert!(window.take(3, at(61 * SECOND)).0);
        assert!(!window.take(3, at(61 * SECOND)).0, "only the first has gone");
    }

    #[test]
    fn a_limit_that_is_lowered_waits_until_enough_have_gone() {
        let mut window = Window::default();
        for second in 0..10 {
            assert!(window.take(10, at(second * SECOND)).0);
        }
        let (admitted, rate) = window.take(3, at(10 * SECOND));
        assert_eq!((admitted, rate.remaining, rate.reset), (false, 0, 58), "eight have to go");
    }
}
