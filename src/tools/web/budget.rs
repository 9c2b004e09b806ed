//! How long a conversion may compute.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Steps between two checks of the clock.
const STEPS: u64 = 512;

/// The time limit of a conversion, and whether it is still wanted. The loops of
/// the parser and of the writer ask it, so a conversion that is out of time or
/// cancelled stops computing at once.
pub(super) struct Budget {
    stop: CancellationToken,
    deadline: Instant,
    steps: Cell<u64>,
    spent: Cell<bool>,
}

impl Budget {
    pub(super) fn new(stop: CancellationToken, limit: Duration) -> Self {
        Self { stop, deadline: Instant::now() + limit, steps: Cell::new(0), spent: Cell::new(false) }
    }

    /// Counts a step, and says whether the time is up.
    pub(super) fn spent(&self) -> bool {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        if steps.is_multiple_of(STEPS) {
            self.check();
        }
        self.spent.get()
    }

    /// Steps that have been counted.
    #[cfg(test)]
    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// Looks at the clock now.
    pub(super) fn check(&self) -> bool {
        if !self.spent.get() {
            self.spent.set(self.stop.is_cancelled() || Instant::now() >= self.deadline);
        }
        self.spent.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends_by_time_and_by_cancellation() {
        let none = Budget::new(CancellationToken::new(), Duration::ZERO);
        assert!((0..STEPS).any(|_| none.spent()) && none.check());
        let stop = CancellationToken::new();
        let long = Budget::new(stop.clone(), Duration::from_secs(3600));
        assert!((0..3 * STEPS).all(|_| !long.spent()) && !long.check());
        stop.cancel();
        assert!((0..STEPS).any(|_| long.spent()) && long.check());
    }
}
