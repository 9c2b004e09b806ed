//! Who follows which job: events go from the commit straight to them.
//!
//! A follower registers first and reads the database afterwards, so nothing
//! falls between; what it then hears twice it knows by the number.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::event::Event;

/// Events that may wait for a slow follower. One that falls further behind is
/// cut off and goes on from the database.
const BACKLOG: usize = 64;

/// Everyone who follows.
#[derive(Debug, Default)]
pub(super) struct Hub {
    followers: Mutex<HashMap<i64, Vec<Follower>>>,
    next: AtomicU64,
    closed: CancellationToken,
}

#[derive(Debug)]
struct Follower {
    number: u64,
    sender: mpsc::Sender<Arc<Event>>,
}

/// Events of one job from now on; ends when the follower has fallen behind or
/// the service stops.
pub(super) struct Subscription {
    pub events: mpsc::Receiver<Arc<Event>>,
    hub: Arc<Hub>,
    job: i64,
    number: u64,
}

impl Hub {
    pub(super) fn follow(self: &Arc<Self>, job: i64) -> Subscription {
        let (sender, events) = mpsc::channel(BACKLOG);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if !self.is_closed() {
            let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
            followers.entry(job).or_default().push(Follower { number, sender });
        }
        Subscription { events, hub: self.clone(), job, number }
    }

    /// Whether anyone follows the job, so that its events are worth making.
    pub(super) fn has(&self, job: i64) -> bool {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&job)
    }

    /// Hands events to those who follow the job.
    pub(super) fn publish(&self, job: i64, events: &[Arc<Event>]) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(list) = followers.get_mut(&job) else { return };
        list.retain(|follower| events.iter().all(|event| follower.sender.try_send(event.clone()).is_ok()));
        if list.is_empty() {
            followers.remove(&job);
        }
    }

    /// Ends every subscription, also those to come.
    pub(super) fn close(&self) {
        self.closed.cancel();
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Until [`close`](Self::close).
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(super) fn len(&self) -> usize {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut followers = self.hub.followers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = followers.get_mut(&self.job) {
            list.retain(|follower| follower.number != self.number);
            if list.is_empty() {
                followers.remove(&self.job);
            }
        }
    }
}
