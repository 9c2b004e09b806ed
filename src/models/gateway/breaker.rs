//! A circuit breaker: a model of a provider that mostly fails is left alone for
//! a while, so that callers do not wait for it in vain.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;

/// How far back outcomes count.
const WINDOW: Duration = Duration::from_secs(60);
/// Outcomes that are kept.
const KEPT: usize = 50;
/// Outcomes without which nothing is concluded.
const ENOUGH: usize = 10;
/// How long it stays open before one call may try.
const OPEN: Duration = Duration::from_secs(30);

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum State {
    /// Calls go through.
    Closed,
    /// None does.
    Open,
    /// One call is trying.
    HalfOpen,
}

/// The outcomes of late.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    outcomes: VecDeque<(Timestamp, bool)>,
    failures: usize,
    /// Until when no call goes through.
    open_until: Option<Timestamp>,
    /// When the call that tries was let through.
    probing: Option<Timestamp>,
}

impl Breaker {
    pub(super) fn state(&self, now: Timestamp) -> State {
        match self.open_until {
            None => State::Closed,
            Some(until) if now < until => State::Open,
            Some(_) => State::HalfOpen,
        }
    }

    /// Whether a call may go through. When it may after a while of none, it is
    /// the one that tries, and no other goes through before its outcome.
    pub(super) fn admits(&mut self, now: Timestamp) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                // One whose outcome never came must not keep it shut for ever.
                let trying = self.probing.is_some_and(|since| now < since.plus(OPEN));
                if !trying {
                    self.probing = Some(now);
                }
                !trying
            }
        }
    }

    /// Whether no call goes through, without being the one that tries.
    pub(super) fn is_shut(&self, now: Timestamp) -> bool {
        let trying = self.probing.is_some_and(|since| now < since.plus(OPEN));
        self.open_until.is_some_and(|until| now < until || trying)
    }

    /// Takes the outcome of a call; whether the state has changed.
    pub(super) fn record(&mut self, succeeded: bool, now: Timestamp) -> bool {
        if self.probing.take().is_some() {
            if succeeded {
                *self = Self::default();
            } else {
                self.open_until = Some(now.plus(OPEN));
            }
            return true;
        }
        if self.open_until.is_some() {
            // Of a call that went through before it opened.
            return false;
        }
        self.outcomes.push_back((now, succeeded));
        self.failures += usize::from(!succeeded);
        while self.outcomes.front().is_some_and(|(at, _)| at.plus(WINDOW) < now) || self.outcomes.len() > KEPT {
            if let Some((_, succeeded)) = self.outcomes.pop_front() {
                self.failures -= usize::from(!succeeded);
            }
        }
        let opens = self.outcomes.len() >= ENOUGH && self.failures * 2 >= self.outcomes.len();
        if opens {
            *self = Self { open_until: Some(now.plus(OPEN)), ..Self::default() };
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for call in 0..10 {
            assert!(breaker.admits(at(0)));
            assert_eq!(breaker.record(call < 5, at(0)), call == 9);
        }
        breaker
    }

    #[test]
    fn half_of_enough_failing_opens_it() {
        let mut breaker = opened();
        assert_eq!(breaker.state(at(29)), State::Open);
        assert!(!breaker.admits(at(29)));
    }

    #[test]
    fn few_outcomes_say_nothing_and_old_ones_are_forgotten() {
        let mut breaker = Breaker::default();
        for second in 0..1000 {
            assert!(!breaker.record(false, at(second * 10)));
        }
        assert_eq!(breaker.state(at(10_000)), State::Closed);
    }

    #[test]
    fn one_call_tries_and_its_outcome_decides() {
        let mut breaker = opened();
        assert!(breaker.admits(at(30)));
        assert!(!breaker.admits(at(31)));
        assert!(breaker.record(false, at(32)));
        assert!(!breaker.admits(at(61)));
        assert!(breaker.admits(at(62)));
        assert!(breaker.record(true, at(63)));
        assert_eq!(breaker.state(at(63)), State::Closed);
        assert!(breaker.admits(at(63)));
    }

    #[test]
    fn a_try_without_an_outcome_does_not_keep_it_shut() {
        let mut breaker = opened();
        assert!(breaker.admits(at(30)));
        assert!(!breaker.admits(at(59)));
        assert!(breaker.admits(at(60)));
    }
}
