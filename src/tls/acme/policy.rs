//! When a certificate is ordered. Nothing here does anything; the moments are
//! computed from what is known, so a restart or a set clock changes none.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// After so long without success it is tried once a day only.
const PERSISTENT: Duration = Duration::from_secs(30 * 86_400);
/// The longest pause that an authority's `Retry-After` is believed.
const LONGEST_PAUSE: Duration = Duration::from_secs(7 * 86_400);
/// Minutes to wait after each failure; the last holds for all that follow. The
/// first are short for what passes by itself, the later ones long, because
/// authorities count failures by the hour.
const PAUSES: [u64; 35] = [
    1, 2, 2, 5, 10, 10, 10, 20, 20, 20, 20, 30, 30, 30, 30, 30, 30, 60, 60, 60, 60, 60, 60, 120, 120, 120, 120, 120,
    120, 180, 180, 180, 180, 180, 360,
];

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub until: Timestamp,
}

impl Validity {
    fn lifetime(self) -> Duration {
        self.until.since(self.from)
    }

    /// The moment at which a `part` of the lifetime is left.
    fn left(self, part: u32) -> Timestamp {
        self.from.plus(self.lifetime().saturating_sub(self.lifetime() / part))
    }
}

/// When the authority suggests to renew (RFC 9773).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its beginning.
    pub start: Timestamp,
    /// Its end.
    pub end: Timestamp,
}

/// Why a certificate is renewed when it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Why {
    /// There is none yet.
    Missing,
    /// It was revoked.
    Revoked,
    /// The authority suggests it.
    Suggested,
    /// A third of its lifetime is left.
    LastThird,
    /// A twentieth of its lifetime is left, whatever the authority suggests.
    LastTwentieth,
}

/// The moment from which a certificate should be renewed. `seed` says where in
/// the authority's window: always the same for one certificate, so that asking
/// again moves nothing, and another for each, so that not all come at once.
pub fn renewal(validity: Validity, window: Option<Window>, seed: u64) -> (Timestamp, Why) {
    let last = (validity.left(20), Why::LastTwentieth);
    let usual = match window.filter(|window| window.end > window.start) {
        Some(window) => (within(window, seed), Why::Suggested),
        None => (validity.left(3), Why::LastThird),
    };
    if last.0 < usual.0 { last } else { usual }
}

/// The moment before which one that was issued is left alone, whatever else is
/// said: where our clock is far ahead, or the authority's suggestions are, each
/// new certificate seems due at once. A clock that was set back since must not
/// hold a renewal up, so an issue in the future does not count.
pub fn rested(validity: Validity, issued_at: Timestamp, why: Why, now: Timestamp) -> Timestamp {
    let rest = match why {
        Why::Missing | Why::Revoked => Duration::ZERO,
        // It may have a reason to hurry, such as a revocation.
        Why::Suggested => HOUR,
        // Fewer than authorities allow a week.
        Why::LastThird | Why::LastTwentieth => 48 * HOUR,
    };
    if issued_at > now { Timestamp::from_micros(0) } else { issued_at.plus(rest.min(validity.lifetime() / 3)) }
}

fn within(window: Window, seed: u64) -> Timestamp {
    let span = window.end.since(window.start);
    #[expect(clippy::cast_precision_loss, reason = "any moment will do")]
    let part = seed as f64 / u64::MAX as f64;
    window.start.plus(span.mul_f64(part.clamp(0.0, 1.0)))
}

/// How long to wait after a failure: the `failures`-th in a row since `since`,
/// after which the authority asked for `asked`.
pub fn pause(failures: u32, since: Duration, asked: Option<Duration>) -> Duration {
    let place = usize::try_from(failures).unwrap_or(usize::MAX).saturating_sub(1).min(PAUSES.len() - 1);
    let minutes = u32::try_from(PAUSES[place]).unwrap_or(u32::MAX);
    // A clock that was wrong makes a span, but no failures.
    let persistent = since > PERSISTENT && place == PAUSES.len() - 1;
    let usual = if persistent { 24 * HOUR } else { minutes * MINUTE };
    usual.max(asked.unwrap_or_default().min(LONGEST_PAUSE))
}

/// Whether a failure is more than a nuisance: the certificate is about to end,
/// or has; or it has failed for so long that it does not pass by itself.
pub fn is_grave(validity: Option<Validity>, since: Duration, now: Timestamp) -> bool {
    since > PERSISTENT || validity.is_some_and(|validity| validity.left(20) <= now)
}

/// How long an authority's suggestion is kept before it is asked again.
pub fn ask_again(asked: Duration) -> Duration {
    asked.clamp(MINUTE, 24 * HOUR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(days: u32) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000).plus(days * DAY)
    }

    #[test]
    fn without_a_suggestion_the_last_third_decides() {
        let validity = Validity { from: at(0), until: at(90) };
        assert_eq!(renewal(validity, None, 7), (at(60), Why::LastThird));
        let empty = Window { start: at(10), end: at(10) };
        assert_eq!(renewal(validity, Some(empty), 7), (at(60), Why::LastThird));
    }

    #[test]
    fn a_suggestion_counts_but_not_to_the_bitter_end() {
        let validity = Validity { from: at(0), until: at(100) };
        let past = Window { start: at(1), end: at(2) };
        let (when, why) = renewal(validity, Some(past), 7);
        assert!(when >= at(1) && when <= at(2) && why == Why::Suggested);
        let late = Window { start: at(98), end: at(99) };
        assert_eq!(renewal(validity, Some(late), 7), (at(95), Why::LastTwentieth));
    }

    #[test]
    fn the_authority_is_not_asked_too_often_nor_for_longer_than_a_week() {
        let pauses: Vec<u64> = (1..=9).map(|failures| pause(failures, DAY, None).as_secs() / 60).collect();
        assert_eq!(pauses, [1, 2, 2, 5, 10, 10, 10, 20, 20]);
        assert_eq!(pause(1000, DAY, None), 6 * HOUR);
        assert_eq!(pause(1000, 31 * DAY, None), 24 * HOUR);
        assert_eq!(pause(1, DAY, Some(HOUR)), HOUR);
        assert_eq!(pause(1, DAY, Some(365 * DAY)), 7 * DAY);
    }

    #[test]
    fn a_new_certificate_is_left_alone_for_a_while() {
        let validity = Validity { from: at(0), until: at(90) };
        assert_eq!(rested(validity, at(70), Why::LastThird, at(70)), at(72));
        assert_eq!(rested(validity, at(70), Why::Suggested, at(70)), at(70).plus(HOUR));
        assert_eq!(rested(validity, at(70), Why::Revoked, at(70)), at(70));
        let short = Validity { from: at(0), until: at(3) };
        assert_eq!(rested(short, at(0), Why::LastThird, at(1)), at(1));
        assert!(rested(validity, at(400), Why::LastThird, at(60)) < at(0), "issued while the clock was ahead");
    }

    #[test]
    fn it_is_said_aloud_when_it_begins_to_hurt() {
        let validity = Some(Validity { from: at(0), until: at(100) });
        assert!(
            !is_grave(validity, DAY, at(94)) && is_grave(validity, DAY, at(95)) && is_grave(validity, DAY, at(200))
        );
        assert!(!is_grave(None, 30 * DAY, at(0)) && is_grave(None, 31 * DAY, at(0)));
    }

    proptest! {
        #[test]
        fn a_certificate_is_renewed_within_its_lifetime(
            lifetime in 1_u32..1000, seed: u64, window in prop::option::of((0_u32..2000, 0_u32..100)),
        ) {
            let validity = Validity { from: at(0), until: at(lifetime) };
            let window = window.map(|(start, length)| Window { start: at(start), end: at(start + length) });
            let (when, why) = renewal(validity, window, seed);
            prop_assert!(when < validity.until);
            prop_assert!(rested(validity, validity.from, why, when) < validity.until);
            if why == Why::Suggested {
                let window = window.expect("suggested");
                prop_assert!(window.start <= when && when <= window.end);
            } else {
                prop_assert!(validity.until.since(when) <= validity.lifetime() / 3 + Duration::from_micros(1));
            }
            prop_assert_eq!(renewal(validity, window, seed), (when, why), "asking again moves nothing");
        }

        #[test]
        fn pauses_grow(failures in 1_u32..200, since in 0_u32..60) {
            let (this, next) = (pause(failures, since * DAY, None), pause(failures + 1, (since + 1) * DAY, None));
            prop_assert!(this <= next && this >= MINUTE && next <= 24 * HOUR);
        }
    }
}
