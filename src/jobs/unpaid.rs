//! Jobs that wait for money, and what is told a job about budgets.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::types::QueueEntry;
use super::{Inner, sql};
use crate::budgets::Alert;
use crate::db;

impl Inner {
    /// Jobs that wait for money, as they are in the queue.
    pub(super) fn unpaid(&self) -> MutexGuard<'_, HashMap<i64, QueueEntry>> {
        self.unpaid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears what happens to budgets from now on.
    pub(super) fn listen_to_budgets(&self) {
        let me = self.me.clone();
        self.budgets.on_change(move |()| {
            if let Some(inner) = me.upgrade() {
                inner.budgets_changed();
            }
        });
        let me = self.me.clone();
        self.budgets.on_alert(move |(alert, job)| {
            if let (Some(inner), Some(job)) = (me.upgrade(), job) {
                inner.budget_reached(job.no, &alert);
            }
        });
    }

    /// Lets a job wait for money. When budgets were changed since its attempt
    /// began, which may have been after it had been refused, it tries again at once.
    pub(super) fn wait_for_money(&self, entry: QueueEntry, changes: Option<u64>) {
        let seen = self.budget_changes.load(Ordering::Acquire);
        self.unpaid().insert(entry.no, entry);
        let changed = changes.is_some_and(|changes| changes != seen);
        let due_at = if changed { self.clock.now() } else { entry.due_at };
        let waiting = QueueEntry { due_at, ..entry };
        self.enqueue(waiting);
        // Whoever has changed one meanwhile did not find it in the queue yet.
        if self.budget_changes.load(Ordering::Acquire) != seen {
            let now = self.notice_clock();
            let mut queue = self.queue();
            if queue.remove(&waiting) {
                queue.push(QueueEntry { due_at: now, ..waiting }, now);
            }
            drop(queue);
            self.pump();
        }
    }

    /// There may be money now for what waits for it.
    fn budgets_changed(&self) {
        self.budget_changes.fetch_add(1, Ordering::AcqRel);
        let waiting = std::mem::take(&mut *self.unpaid());
        if waiting.is_empty() {
            return;
        }
        let now = self.notice_clock();
        {
            let mut queue = self.queue();
            for entry in waiting.into_values() {
                if queue.remove(&entry) {
                    queue.push(QueueEntry { due_at: now, ..entry }, now);
                }
            }
        }
        self.pump();
    }

    /// Adds an event to the job whose call has nearly or wholly spent a budget.
    fn budget_reached(&self, no: i64, alert: &Alert) {
        let Some(claim) = self.running().get(&no).map(|running| running.claim.clone()) else { return };
        // From now on its events have other numbers than those of its attempts alone.
        claim.took_steps.store(true, Ordering::Release);
        let data = serde_json::json!({
            "scope": alert.scope, "percent": alert.percent, "limit_usd": alert.limit, "spent_usd": alert.spent,
        });
        let (data, now, me) = (data.to_string(), self.clock.now(), self.me.clone());
        let work = move |tx: &db::Tx<'_>| sql::steps::budget_reached(tx, &claim, &data, now);
        self.db.write_with(work, move |outcome| match (outcome, me.upgrade()) {
            (Ok(events), Some(inner)) => inner.hub.publish(no, &events),
            (Ok(_), None) => {}
            (Err(error), _) => tracing::warn!(%error, "a job was not told of its budget"),
        });
    }
}
