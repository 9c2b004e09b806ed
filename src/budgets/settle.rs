//! From what a call cost to its row. Settlements gather for a moment and are
//! written together; nobody waits for them, because the reservation is on disk
//! already, and a process that ends too early is settled in full by the next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::ledger::Hold;
use super::types::{Spent, Tokens};
use super::window::Bucket;
use super::{Inner, sql};
use crate::clock::Timestamp;
use crate::db::{self, Tx};
use crate::money::Usd;

/// How long settlements gather.
const GATHER: Duration = Duration::from_millis(20);
/// Settlements that one write takes at most.
const TOGETHER: usize = 500;
/// The pause before a write that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// Settlements that may wait before no more is reserved.
const MOST_WAITING: usize = 50_000;

/// A call as it was reserved.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub no: i64,
    pub hold: Hold,
    pub model: Arc<str>,
    pub provider: Arc<str>,
    pub purpose: Arc<str>,
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

/// How a reservation ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Spent(Spent, Option<Flag>),
    Released,
}

/// The last word on a call.
#[derive(Clone, Debug)]
pub(super) struct Settlement {
    pub call: Call,
    pub outcome: Outcome,
    pub at: Timestamp,
    pub bucket: Bucket,
}

impl Settlement {
    /// What it gives back of what was held.
    fn given_back(&self) -> Usd {
        let held = self.call.hold.amount;
        match self.outcome {
            Outcome::Spent(spent, _) => held.minus(spent.cost.min(held)),
            Outcome::Released => held,
        }
    }

    /// In full, because nobody has said more.
    pub fn in_full(call: Call, flag: Flag, at: Timestamp, bucket: Bucket) -> Self {
        let spent = Spent { cost: call.hold.amount, tokens: Tokens::default(), counted_by_provider: false };
        Self { call, outcome: Outcome::Spent(spent, Some(flag)), at, bucket }
    }
}

/// What has not been written yet.
#[derive(Default)]
pub(super) struct Settlements {
    waiting: Mutex<Waiting>,
    /// Held by whoever hands them to the writer, so that they come to it in order
    /// and before what is written by those who have waited for that.
    handing: Mutex<()>,
    /// Something was written, or could not be.
    moved: Notify,
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
        let _in_order = self.settlements.handing.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let batch: Arc<[Settlement]> = {
                let mut waiting = self.settlements.lock();
                waiting.awaited = false;
                let most = if waiting.apart > 0 { 1 } else { TOGETHER };
                waiting.apart = waiting.apart.saturating_sub(1);
                let count = waiting.queue.len().min(most);
                waiting.writing += count;
                waiting.queue.drain(..count).collect()
            };
            if batch.is_empty() {
                return;
            }
            let (inner, to_write) = (self.clone(), batch.clone());
            let work = move |tx: &Tx<'_>| sql::settle(tx, &to_write);
            self.db.write_always(work, move |outcome| inner.written(&batch, outcome));
        }
    }

    fn written(self: &Arc<Self>, batch: &[Settlement], outcome: Result<(), db::Error>) {
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
            Ok(()) => {
                let mut ledger = self.ledger();
                for settlement in batch {
                    ledger.written(&settlement.call.hold, settlement.given_back());
                }
            }
        }
        if again {
            self.write_after(AGAIN);
        }
        self.settlements.moved.notify_waiters();
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
}
