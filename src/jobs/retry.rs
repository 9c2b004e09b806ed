//! What happens after an attempt failed. Pure, so that it can be tested.

use std::time::Duration;

use super::failure::{ErrorClass, Failure};
use super::types::{Backoff, Ending, Options};
use crate::clock::Timestamp;

/// When a job without money tries again that nobody has told when there will be
/// some.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// The shortest and the longest wait of one that has been told: others give
/// money back too.
const AT_LEAST: Duration = Duration::from_secs(1);
const AT_MOST: Duration = Duration::from_secs(3600);

/// How the job goes on. `random` is from 0 up to 1.
#[must_use]
pub(super) fn after_failure(
    failure: Failure,
    attempt: u32,
    options: &Options,
    created_at: Timestamp,
    now: Timestamp,
    random: f64,
) -> Ending {
    if failure.class == ErrorClass::Permanent {
        return Ending::Failed(failure);
    }
    if let ErrorClass::Unpaid(until) = failure.class {
        let due = until.map_or(now.plus(LOOK_AGAIN), |until| until.max(now.plus(AT_LEAST)).min(now.plus(AT_MOST)));
        return match deadline(options, created_at) {
            Some(end) if due >= end => Ending::Dead(failure),
            _ => Ending::Unpaid(failure, due),
        };
    }
    if attempt >= options.max_attempts {
        return Ending::Dead(failure);
    }
    let mut pause = pause(&options.backoff, attempt, random);
    if let ErrorClass::RateLimited(at_least) = failure.class {
        pause = pause.max(at_least);
    }
    let due = now.plus(pause);
    match deadline(options, created_at) {
        Some(end) if due >= end => Ending::Dead(failure),
        _ => Ending::Retry(failure, due),
    }
}

/// When the whole job must have ended.
#[must_use]
pub(super) fn deadline(options: &Options, created_at: Timestamp) -> Option<Timestamp> {
    options.total_timeout.map(|seconds| created_at.plus(seconds_to_span(seconds)))
}

/// Seconds as a span; what is no span is none at all.
#[must_use]
pub(super) fn seconds_to_span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
}

fn pause(backoff: &Backoff, attempt: u32, random: f64) -> Duration {
    let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
    let full = (backoff.initial * backoff.factor.powi(exponent)).min(backoff.max);
    seconds_to_span(full * (0.5 + random / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(max_attempts: u32, backoff: Backoff, total_timeout: Option<f64>) -> Options {
        Options { total_timeout, max_attempts, backoff, ..Options::default() }
    }

    fn backoff() -> impl Strategy<Value = Backoff> {
        (0.0..100.0, 1.0..10.0, 0.0..10_000.0).prop_map(|(initial, factor, max)| Backoff { initial, factor, max })
    }

    proptest! {
        #[test]
        fn a_pause_lies_between_half_and_all_of_its_bound(
            backoff in backoff(), attempt in 1_u32..1_000, random in 0.0..1.0
        ) {
            let bound = (backoff.initial * backoff.factor.powi(attempt.cast_signed() - 1)).min(backoff.max);
            let pause = pause(&backoff, attempt, random).as_secs_f64();
            prop_assert!(pause >= bound / 2.0 - 1e-6 && pause <= bound + 1e-6, "{pause} of {bound}");
        }

        #[test]
        fn attempts_end_after_the_last(max in 1_u32..20, backoff in backoff(), random in 0.0..1.0) {
            let now = Timestamp::from_micros(1_000_000);
            let mut attempt = 1;
            loop {
                let failure = Failure::retryable("x", "");
                match after_failure(failure, attempt, &options(max, backoff, None), now, now, random) {
                    Ending::Retry(_, due) => { prop_assert!(due >= now); attempt += 1; }
                    Ending::Dead(_) => { prop_assert_eq!(attempt, max); break; }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }

        #[test]
        fn nothing_is_tried_again_after_the_deadline(
            backoff in backoff(), total in 0.1..100.0, elapsed in 0.0..100.0, random in 0.0..1.0
        ) {
            let created = Timestamp::from_micros(1_000_000);
            let now = created.plus(seconds_to_span(elapsed));
            let options = options(1_000, backoff, Some(total));
            if let Ending::Retry(_, due) =
                after_failure(Failure::retryable("x", ""), 1, &options, created, now, random)
            {
                prop_assert!(due < created.plus(seconds_to_span(total)));
            }
        }
    }

    #[test]
    fn want_of_money_uses_up_no_attempt() {
        let now = Timestamp::from_micros(1_000_000);
        let due = |until: Option<Timestamp>, total| {
            let ending =
                after_failure(Failure::budget(until), 1, &options(1, Backoff::default(), total), now, now, 0.0);
            match ending {
                Ending::Unpaid(_, due) => Some(due),
                Ending::Dead(_) => None,
                other => panic!("{other:?}"),
            }
        };
        let minutes = |minutes: u64| now.plus(Duration::from_secs(minutes * 60));
        assert_eq!(due(None, None), Some(minutes(5)));
        assert_eq!(due(Some(minutes(7)), None), Some(minutes(7)));
        assert_eq!(due(Some(minutes(700)), None), Some(minutes(60)));
        assert_eq!(due(Some(now), None), Some(now.plus(AT_LEAST)));
        assert_eq!(due(Some(minutes(7)), Some(60.0)), None, "then its time is over");
    }

    #[test]
    fn a_class_decides() {
        let now = Timestamp::from_micros(0);
        let go_on = |class| {
            let failure = Failure { class, code: "x".into(), message: String::new() };
            after_failure(failure, 1, &Options::default(), now, now, 0.0)
        };
        assert!(matches!(go_on(ErrorClass::Permanent), Ending::Failed(_)));
        let hour = Duration::from_secs(3600);
        match go_on(ErrorClass::RateLimited(hour)) {
            Ending::Retry(_, due) => assert_eq!(due, now.plus(hour)),
            other => panic!("{other:?}"),
        }
    }
}
