//! Money that is held for one call, and how it comes to disk before the call is made.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::escrow::Rise;
use super::ledger::Cover;
use super::settle::{Call, Flag, Settlement};
use super::types::{Refused, Spent};
use super::{Inner, sql};
use crate::db;
use crate::id::row_number;
use crate::money::Usd;

/// More than any call costs: a million dollars. Sums of such amounts cannot
/// overflow.
pub(super) const MOST_A_CALL: Usd = Usd::from_nano(1_000_000_000_000_000);

/// Money that is held for one call. Dropped without a word it is settled in
/// full, because the call may have been made.
#[must_use = "dropping a reservation settles it in full"]
pub struct Reservation {
    inner: Arc<Inner>,
    /// None once it has been settled or released.
    call: Option<Call>,
    amount: Usd,
}

impl Reservation {
    pub(super) fn new(inner: Arc<Inner>, call: Call) -> Self {
        Self { inner, amount: call.hold.amount, call: Some(call) }
    }

    /// What is held.
    #[must_use]
    pub fn amount(&self) -> Usd {
        self.amount
    }

    /// Settles with what was used. It comes to disk soon; nobody has to wait,
    /// because the reservation is there already. More than was reserved is
    /// settled in full, and then the scopes that it exceeds refuse.
    pub fn settle(mut self, spent: Spent) {
        let cost = spent.cost.clamp(Usd::ZERO, MOST_A_CALL);
        let flag = (cost > self.amount).then_some(Flag::Over);
        self.end(Spent { cost, ..spent }, flag);
    }

    /// Gives the money back: the call was not made, or cost nothing.
    pub fn release(mut self) {
        let Some(call) = self.call.take() else { return };
        let mut ledger = self.inner.ledger();
        ledger.release(&call.hold);
        self.inner.metrics.reserved(&ledger);
    }

    fn end(&mut self, spent: Spent, flag: Option<Flag>) {
        let Some(call) = self.call.take() else { return };
        let inner = &self.inner;
        let now = inner.clock.now();
        let line = &call.hold.line;
        inner.metrics.spent(&line.model, spent.cost);
        let job = line.payer.job;
        let alerts = {
            let mut ledger = inner.ledger();
            let (bucket, alerts) = ledger.settle(now, &call.hold, spent.cost);
            inner.metrics.reserved(&ledger);
            // The row's day is that of its bucket, also when the clock was set back.
            let at = now.max(bucket.begin());
            inner.put(Settlement { call, spent, flag, at, bucket });
            alerts
        };
        inner.alert(alerts, job);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.call.is_some() {
            let tokens = super::Tokens::default();
            self.end(Spent { cost: self.amount, tokens, counted_by_provider: false }, Some(Flag::Assumed));
        }
    }
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reservation({})", self.amount)
    }
}

/// A reservation on its way to whoever asked for it. When nobody waits any more,
/// or it cannot come to disk, the call will not be made, so the money is given back.
pub(super) struct Unclaimed(Option<Reservation>);

impl Unclaimed {
    pub fn new(reservation: Reservation) -> Self {
        Self(Some(reservation))
    }

    pub fn claim(mut self) -> Option<Reservation> {
        self.0.take()
    }

    pub fn call(&self) -> Option<&Call> {
        self.0.as_ref()?.call.as_ref()
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(reservation) = self.0.take() {
            reservation.release();
        }
    }
}

/// What came of the wish to put something aside.
enum Tried {
    There(Unclaimed),
    Handed(oneshot::Receiver<Result<Unclaimed, db::Error>>),
    Later(Unclaimed),
}

impl Inner {
    /// Brings what is held to disk.
    pub(super) async fn put_aside(self: &Arc<Self>, mut unclaimed: Unclaimed) -> Result<Reservation, Refused> {
        let (reserved, has_waited) = loop {
            let moved = self.settlements.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            unclaimed = match self.try_to_put_aside(unclaimed) {
                Tried::There(reserved) => break (reserved, false),
                Tried::Handed(receiver) => break (receiver.await.unwrap_or(Err(db::Error::Closed))?, true),
                Tried::Later(unclaimed) => unclaimed,
            };
            moved.await;
        };
        self.metrics.put_aside(has_waited);
        reserved.claim().ok_or(Refused::Database(db::Error::Closed))
    }

    fn try_to_put_aside(self: &Arc<Self>, unclaimed: Unclaimed) -> Tried {
        let _in_order = self.settlements.in_order();
        let Some(call) = unclaimed.call() else { return Tried::There(unclaimed) };
        let (batches, rise) = {
            let mut ledger = self.ledger();
            let (by, tight) = match ledger.cover(self.clock.now(), &call.hold) {
                Cover::There => return Tried::There(unclaimed),
                Cover::Write { by, tight } => (Some(by), tight),
                Cover::Later { tight } => (None, tight),
            };
            let new_no = || row_number(self.ids.next());
            // First in memory, and last to the writer: what else stays put aside must leave room for it.
            let rise = by.map(|by| ledger.escrows.rise(&call.hold.line, by, call.created_at, new_no));
            let batches = if tight.is_empty() { Vec::new() } else { self.gather(&mut ledger, &tight) };
            (batches, rise)
        };
        self.hand_over(batches);
        match rise {
            Some(rise) => Tried::Handed(self.hand_rise(rise, unclaimed)),
            None => Tried::Later(unclaimed),
        }
    }

    fn hand_rise(
        self: &Arc<Self>,
        rise: Rise,
        unclaimed: Unclaimed,
    ) -> oneshot::Receiver<Result<Unclaimed, db::Error>> {
        let (sender, receiver) = oneshot::channel();
        let (inner, row) = (self.clone(), rise.clone());
        let done = move |outcome: Result<(), db::Error>| {
            inner.ledger().escrows.risen(&rise, outcome.is_ok());
            inner.sweep_later();
            let _ = sender.send(outcome.map(|()| unclaimed));
        };
        self.db.write_with(move |tx| sql::rise(tx, &row), done);
        receiver
    }
}
