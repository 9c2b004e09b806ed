//! From what a call cost to its row. Settlements gather for a moment and are
//! written together; nobody waits for them, because what was reserved is on disk
//! already, and is settled in full by the next process when this one ends too early.
//! What is put aside goes with them, and what calls no longer need of it soon after.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::escrow::{BudgetOf, Fall};
use super::ledger::{Hold, Ledger};
use super::types::{Spent, Tokens};
use super::window::Bucket;
use super::{Inner, sql};
use crate::clock::Timestamp;
use crate::db::{self, Tx};

/// How long settlements gather.
const GATHER: Duration = Duration::from_millis(20);
/// Settlements that one write takes at most.
const TOGETHER: usize = 500;
/// How often it is looked for what is put aside on disk and no longer needed.
const SWEEP: Duration = Duration::from_millis(250);
/// The pause before a write that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// Settlements that may wait before no more is reserved.
const MOST_WAITING: usize = 50_000;

/// A call as it was reserved.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub no: i64,
    pub hold: Hold,
    pub created_at: Timestamp,
}

/// What is remarkable about a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    /// It cost more than was reserved.
    Over,
    /// Nobody said what it cost.
    Assumed,
    /// The process ended before anybody could say.
    Recovered,
}

impl Flag {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Over => "over",
            Self::Assumed => "assumed",
            Self::Recovered => "recovered",
        }
    }
}

/// The last word on a call.
#[derive(Clone, Debug)]
pub(super) struct Settlement {
    pub call: Call,
    pub spent: Spent,
    pub flag: Option<Flag>,
    pub at: Timestamp,
    pub bucket: Bucket,
}

impl Settlement {
    /// In full, because nobody has said more.
    pub fn in_full(call: Call, flag: Flag, at: Timestamp, bucket: Bucket) -> Self {
        let spent = Spent { cost: call.hold.amount, tokens: Tokens::default(), counted_by_provider: false };
        Self { call, spent, flag: Some(flag), at, bucket }
    }
}

/// What one write settles, and what it takes from what is put aside.
#[derive(Debug)]
pub(super) struct Batch {
    pub settlements: Vec<Settlement>,
    pub falls: Vec<Fall>,
}

impl Batch {
    fn of_falls(falls: &[Fall]) -> Vec<Self> {
        let batch = |falls: &[Fall]| Self { settlements: Vec::new(), falls: falls.to_vec() };
        falls.chunks(TOGETHER).map(batch).collect()
    }
}

/// What has not been written yet.
#[derive(Default)]
pub(super) struct Settlements {
    waiting: Mutex<Waiting>,
    /// Held by whoever hands something to the writer that must come to it in the
    /// order in which it was decided. To be taken before the ledger's lock.
    handing: Mutex<()>,
    /// Somebody looks for what is put aside and no longer needed.
    pub sweeping: AtomicBool,
    /// Something was written, or could not be.
    pub moved: Notify,
}

#[derive(Default)]
struct Waiting {
    queue: VecDeque<Settlement>,
    /// Handed to the writer.
    writing: usize,
    /// Somebody will come to write what is in the queue.
    awaited: bool,
    /// So many of the next are written one by one, to find the one that cannot be.
    apart: usize,
}

impl Waiting {
    fn count(&self) -> usize {
        self.queue.len() + self.writing
    }
}

impl Settlements {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn in_order(&self) -> MutexGuard<'_, ()> {
        self.handing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn waiting(&self) -> usize {
        self.lock().count()
    }

    pub fn is_full(&self) -> bool {
        self.waiting() >= MOST_WAITING
    }
}

impl Inner {
    /// Takes the last word on a call. To be called before anybody else can reserve
    /// what it gives back: under the ledger's lock.
    pub(super) fn put(self: &Arc<Self>, settlement: Settlement) {
        let first = {
            let mut waiting = self.settlements.lock();
            waiting.queue.push_back(settlement);
            self.metrics.set_waiting(waiting.count());
            !std::mem::replace(&mut waiting.awaited, true)
        };
        if first {
            self.write_after(GATHER);
        }
    }

    fn write_after(self: &Arc<Self>, pause: Duration) {
        let inner = self.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(pause).await;
            inner.write_waiting();
        });
    }

    /// Hands all that waits to the writer, which keeps the order: what is handed
    /// to it later comes to disk later.
    pub(super) fn write_waiting(self: &Arc<Self>) {
        let _in_order = self.settlements.in_order();
        let batches = self.gather(&mut self.ledger(), &[]);
        self.hand_over(batches);
    }

    /// Takes all that waits. Of the budgets that are `tight`, nothing is left put
    /// aside but what calls hold. To be handed over before anybody else gathers.
    pub(super) fn gather(&self, ledger: &mut Ledger, tight: &[BudgetOf]) -> Vec<Batch> {
        let in_vain: Vec<_> = tight.iter().flat_map(|budget| ledger.escrows.tighten(budget)).collect();
        let mut waiting = self.settlements.lock();
        waiting.awaited = false;
        let mut batches = Batch::of_falls(&in_vain);
        while !waiting.queue.is_empty() {
            let most = if waiting.apart > 0 { 1 } else { TOGETHER };
            waiting.apart = waiting.apart.saturating_sub(1);
            let count = waiting.queue.len().min(most);
            waiting.writing += count;
            let settlements: Vec<_> = waiting.queue.drain(..count).collect();
            let falls = ledger.fall(self.clock.now(), settlements.iter().map(|it| &it.call.hold));
            batches.push(Batch { settlements, falls });
        }
        batches
    }

    pub(super) fn hand_over(self: &Arc<Self>, batches: Vec<Batch>) {
        for batch in batches {
            let batch = Arc::new(batch);
            let (inner, to_write) = (self.clone(), batch.clone());
            let work = move |tx: &Tx<'_>| sql::settle(tx, &to_write);
            self.db.write_always(work, move |outcome| inner.written(&batch, outcome));
        }
    }

    /// From now on looks for what is put aside and not needed, until nothing is.
    pub(super) fn sweep_later(self: &Arc<Self>) {
        if self.settlements.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        let inner = self.clone();
        self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                if !inner.sweep() {
                    return;
                }
            }
        });
    }

    /// Whether something is still put aside.
    pub(super) fn sweep(self: &Arc<Self>) -> bool {
        let _in_order = self.settlements.in_order();
        let (falls, is_empty) = {
            let mut ledger = self.ledger();
            (ledger.escrows.fall_idle(), ledger.escrows.is_empty())
        };
        self.hand_over(Batch::of_falls(&falls));
        // What is put aside first is so under the same lock.
        self.settlements.sweeping.store(!is_empty, Ordering::Relaxed);
        !is_empty
    }

    fn written(self: &Arc<Self>, batch: &Batch, outcome: Result<(), db::Error>) {
        self.account_for(batch, outcome.is_ok());
        if !batch.settlements.is_empty() {
            self.settled(&batch.settlements, outcome);
        }
        self.settlements.moved.notify_waiters();
    }

    fn account_for(&self, batch: &Batch, is_written: bool) {
        let mut ledger = self.ledger();
        for settlement in batch.settlements.iter().filter(|_| is_written) {
            ledger.written(&settlement.call.hold, settlement.spent.cost);
        }
        for fall in &batch.falls {
            ledger.escrows.fallen(fall, is_written);
        }
    }

    fn settled(self: &Arc<Self>, batch: &[Settlement], outcome: Result<(), db::Error>) {
        let again = {
            let mut waiting = self.settlements.lock();
            waiting.writing -= batch.len();
            let again = match &outcome {
                // The next start settles in full what this one could not.
                Ok(()) | Err(db::Error::Closed) => false,
                Err(error) if !error.is_passing() && batch.len() == 1 => false,
                Err(error) => {
                    if !error.is_passing() {
                        waiting.apart = batch.len();
                    }
                    for settlement in batch.iter().rev() {
                        waiting.queue.push_front(settlement.clone());
                    }
                    !std::mem::replace(&mut waiting.awaited, true)
                }
            };
            self.metrics.set_waiting(waiting.count());
            again
        };
        match outcome {
            Err(db::Error::Closed) => {
                tracing::warn!(calls = batch.len(), "calls are left for the next start, which settles them in full");
            }
            Err(error) if error.is_passing() => tracing::warn!(%error, "settlements wait until they can be written"),
            Err(error) => {
                let calls = batch.len();
                tracing::error!(%error, calls, "a settlement could not be written; the next start settles it in full");
            }
            Ok(()) => {}
        }
        if again {
            self.write_after(AGAIN);
        }
    }

    /// Writes all that waits; whether that came to an end in time.
    pub(super) async fn flush(self: &Arc<Self>, patience: Duration) -> bool {
        let all = async {
            loop {
                let moved = self.settlements.moved.notified();
                tokio::pin!(moved);
                moved.as_mut().enable();
                self.write_waiting();
                if self.settlements.waiting() == 0 {
                    return;
                }
                moved.await;
                // What has just failed is not tried again at once.
                if self.settlements.lock().awaited {
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        tokio::time::timeout(patience, all).await.is_ok()
    }

    /// The same, after which nothing is put aside but what calls hold.
    pub(super) async fn settle_up(self: &Arc<Self>, patience: Duration) -> bool {
        let is_written = self.flush(patience).await;
        // What those have reserved comes back who have gone away meanwhile.
        let _ = self.db.write(|_| Ok(())).await;
        {
            let _in_order = self.settlements.in_order();
            let batches = self.gather(&mut self.ledger(), &[BudgetOf::Service]);
            self.hand_over(batches);
        }
        is_written && self.db.write(|_| Ok(())).await.is_ok()
    }
}
