//! Which backups are kept: the newest few, and beside them the last of each of
//! the days before.

use std::collections::BTreeMap;
use std::time::Duration;

use super::name::Name;
use crate::clock::{Clock, Timestamp};

const DAY: Duration = Duration::from_secs(86_400);

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    /// So many of the newest.
    pub newest: usize,
    /// The last of each day, for so many days.
    pub days: usize,
}

impl Keep {
    /// Those that are no longer kept.
    pub(super) fn too_many(self, names: &[Name], clock: &Clock) -> Vec<Name> {
        self.too_many_at(names, clock.now(), clock.steady_now())
    }

    /// The one that would be restored is always kept, and what is from the future
    /// is not touched: some clock was wrong. Age goes by the time that is `steady`.
    fn too_many_at(self, names: &[Name], now: Timestamp, steady: Timestamp) -> Vec<Name> {
        let mut sorted: Vec<_> = names.iter().filter(|name| !name.is_from_the_future(now)).collect();
        sorted.sort_by_key(|name| std::cmp::Reverse(name.rank(now)));
        let mut last_of_day = BTreeMap::new();
        for name in &sorted {
            last_of_day.entry(day(name.at)).or_insert(*name);
        }
        let from = day(now.min(steady)).saturating_sub(i64::try_from(self.days).unwrap_or(i64::MAX));
        let of_its_day = |name: &Name| day(name.at) > from && last_of_day.get(&day(name.at)) == Some(&name);
        let old = sorted.into_iter().skip(self.newest.max(1));
        old.filter(|name| !of_its_day(name)).cloned().collect()
    }
}

fn day(at: Timestamp) -> i64 {
    at.micros() / i64::try_from(DAY.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(timeline: u32, hours: i64) -> Name {
        let at = Timestamp::from_micros(hours * 3_600_000_000);
        Name { instance: "00000000".into(), timeline, schema: 1, at, encrypted: false }
    }

    #[test]
    fn the_newest_and_one_a_day() {
        let names: Vec<_> = (0..24 * 10).map(|hour| name(1, hour)).collect();
        let now = names[239].at;
        let gone = Keep { newest: 3, days: 2 }.too_many_at(&names, now, now);
        let kept: Vec<_> = names.iter().filter(|name| !gone.contains(name)).map(|name| name.at).collect();
        let hours = [215, 237, 238, 239].map(|hour| name(1, hour).at);
        assert_eq!(kept, hours, "yesterday's last one and three of today");
    }

    #[test]
    fn a_clock_that_is_ahead_costs_no_backup_of_a_day() {
        let mut names: Vec<_> = (0..10).map(|day| name(1, 24 * day)).collect();
        let now = names[9].at;
        let keep = Keep { newest: 2, days: 4 };
        let usual = keep.too_many_at(&names, now, now);
        // Two more are made while it is ahead.
        names.extend([name(1, 24 * 410), name(1, 24 * 410 + 1)]);
        let ahead = keep.too_many_at(&names, names[11].at, now);
        assert_eq!(ahead, usual, "the last four days are still there");
    }

    proptest! {
        #[test]
        fn the_one_to_restore_is_always_kept(
            lines in prop::collection::btree_set((0..3_u32, 0..2_000_i64), 1..60), newest in 0..5_usize, days in 0..5_usize, now in 0..3_000_i64,
            steady in 0..3_000_i64,
        ) {
            let names: Vec<_> = lines.iter().map(|(timeline, hour)| name(*timeline, *hour)).collect();
            let gone = Keep { newest, days }.too_many_at(&names, name(1, now).at, name(1, steady).at);
            let now = name(1, now).at;
            let best = names.iter().max_by_key(|name| name.rank(now)).expect("one");
            prop_assert!(!gone.contains(best));
            prop_assert!(names.len() - gone.len() >= newest.min(names.len()));
            prop_assert!(gone.iter().all(|name| !name.is_from_the_future(now)));
        }
    }
}
