//! Which job starts next. A data structure without clock, locks or database,
//! so that its promises can be tested as properties:
//!
//! - tenants share the places by their weights, whatever each has queued;
//! - within a tenant the job that has waited longest starts first, where each
//!   level of priority counts as a minute of waiting: so priority decides, and
//!   yet nothing waits for ever;
//! - never more run at once than allowed: over all, per tenant, per tool, and
//!   one per concurrency key;
//! - a suspended tenant's jobs stay, and nothing of them starts.

mod tenant;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::types::{ConcurrencyKey, QueueEntry};
use crate::clock::Timestamp;
pub use tenant::Share;
use tenant::{Lanes, Tenant};

/// How far a tenant of weight 1 moves back when a job of it starts; the least
/// common multiple of small weights, so that their shares are exact.
const STRIDE: u64 = 720_720;

/// What a running job takes up and gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub tenant: i64,
    pub tool: usize,
    pub key: Option<ConcurrencyKey>,
}

impl From<&QueueEntry> for Taken {
    fn from(entry: &QueueEntry) -> Self {
        Self { tenant: entry.tenant, tool: entry.tool, key: entry.key }
    }
}

/// A concurrency key that is taken or waited for. When it is free, the first job
/// of each tool that waits for it is back among the ready ones.
#[derive(Debug, Default)]
struct KeyState {
    taken: bool,
    parked: Lanes,
}

/// The queue of one process.
#[derive(Debug)]
pub(super) struct Queue {
    tenants: HashMap<i64, Tenant>,
    /// Tenants of which something may start, by who has had least.
    turns: BTreeSet<(u64, i64)>,
    /// Where the turn is: whoever joins begins here, or it would have credit
    /// for the time in which it wanted nothing.
    turn: u64,
    delayed: BTreeMap<(Timestamp, i64), QueueEntry>,
    keys: HashMap<ConcurrencyKey, KeyState>,
    running: usize,
    running_by_tool: Vec<usize>,
    concurrency: usize,
    tool_limits: Vec<Option<usize>>,
    ready_count: usize,
}

impl Queue {
    pub(super) fn new(concurrency: usize, tool_limits: Vec<Option<usize>>) -> Self {
        Self {
            tenants: HashMap::new(),
            turns: BTreeSet::new(),
            turn: 0,
            delayed: BTreeMap::new(),
            keys: HashMap::new(),
            running: 0,
            running_by_tool: vec![0; tool_limits.len()],
            concurrency,
            tool_limits,
            ready_count: 0,
        }
    }

    /// Adds a job, to the ready ones when its time has come.
    pub(super) fn push(&mut self, entry: QueueEntry, now: Timestamp) {
        if entry.due_at > now {
            if self.delayed.insert((entry.due_at, entry.no), entry).is_none() {
                self.tenants.entry(entry.tenant).or_default().delayed += 1;
            }
        } else {
            self.make_ready(entry);
        }
    }

    fn make_ready(&mut self, entry: QueueEntry) {
        if self.tenants.entry(entry.tenant).or_default().ready.insert(entry) {
            self.ready_count += 1;
        }
        self.refresh(entry.tenant);
    }

    /// Gives a tenant its turn when something of it may start, takes it away
    /// when nothing may, and forgets a tenant of which nothing is left.
    fn refresh(&mut self, tenant: i64) {
        let Some(found) = self.tenants.get_mut(&tenant) else { return };
        if found.may_start() {
            if !found.in_turn {
                found.in_turn = true;
                found.pass = found.pass.max(self.turn);
                self.turns.insert((found.pass, tenant));
            }
        } else {
            if found.in_turn {
                found.in_turn = false;
                self.turns.remove(&(found.pass, tenant));
            }
            if found.is_nothing() {
                self.tenants.remove(&tenant);
            }
        }
    }

    /// Moves what is due to the ready ones; when the next one is.
    pub(super) fn wake(&mut self, now: Timestamp) -> Option<Timestamp> {
        while let Some(((due, _), _)) = self.delayed.first_key_value() {
            if *due > now {
                return Some(*due);
            }
            if let Some((_, entry)) = self.delayed.pop_first() {
                self.tenants.entry(entry.tenant).or_default().delayed -= 1;
                self.make_ready(entry);
            }
        }
        None
    }

    /// When the next delayed job is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.delayed.first_key_value().map(|((due, _), _)| *due)
    }

    /// The clock was set by so many microseconds: spans move with it, appointed
    /// times do not.
    pub(super) fn clock_set(&mut self, micros: i64) {
        let entries = std::mem::take(&mut self.delayed);
        for (_, mut entry) in entries {
            if entry.relative {
                entry.due_at = Timestamp::from_micros(entry.due_at.micros().saturating_add(micros));
            }
            self.delayed.insert((entry.due_at, entry.no), entry);
        }
    }

    /// Takes a place for a job that may start at once because nothing that may
    /// start is waiting.
    pub(super) fn reserve(&mut self, taken: Taken) -> bool {
        let may = self.tenants.get(&taken.tenant).is_none_or(Tenant::has_room);
        let key_free = taken.key.is_none_or(|key| !self.keys.contains_key(&key));
        let free = self.turns.is_empty() && may && key_free && self.has_room(taken.tool);
        if free {
            self.occupy(taken);
        }
        free
    }

    /// The next job to start, its place taken.
    pub(super) fn pick(&mut self) -> Option<QueueEntry> {
        if self.running >= self.concurrency {
            return None;
        }
        let mut after = None;
        // Whose tools are all at their limits is passed over and keeps its turn.
        while let Some(turn @ (pass, tenant)) = self.turn_after(after) {
            if let Some(entry) = self.pick_of(tenant) {
                self.turn = self.turn.max(pass);
                self.charge(tenant);
                self.occupy((&entry).into());
                return Some(entry);
            }
            after = Some(turn);
        }
        None
    }

    fn turn_after(&self, after: Option<(u64, i64)>) -> Option<(u64, i64)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.turns.range((from, Unbounded)).next().copied()
    }

    fn pick_of(&mut self, tenant: i64) -> Option<QueueEntry> {
        loop {
            let found = self.tenants.get_mut(&tenant)?;
            let (limits, running) = (&self.tool_limits, &self.running_by_tool);
            let entry = found.ready.pop(|tool| limits[tool].is_none_or(|limit| running[tool] < limit));
            let Some(entry) = entry else {
                self.refresh(tenant);
                return None;
            };
            match entry.key.and_then(|key| self.keys.get_mut(&key)) {
                // It waits with its key until that is free.
                Some(key) if key.taken => {
                    key.parked.insert(entry);
                    found.parked += 1;
                }
                _ => {
                    self.ready_count -= 1;
                    return Some(entry);
                }
            }
        }
    }

    fn charge(&mut self, tenant: i64) {
        let Some(found) = self.tenants.get_mut(&tenant) else { return };
        let before = found.pass;
        found.pass += STRIDE / u64::from(found.share.weight.max(1));
        if found.in_turn {
            self.turns.remove(&(before, tenant));
            self.turns.insert((found.pass, tenant));
        }
    }

    /// Takes a job out that is not to start; whether it was there.
    pub(super) fn remove(&mut self, entry: &QueueEntry) -> bool {
        if self.delayed.remove(&(entry.due_at, entry.no)).is_some() {
            if let Some(tenant) = self.tenants.get_mut(&entry.tenant) {
                tenant.delayed -= 1;
            }
            self.refresh(entry.tenant);
            return true;
        }
        let key = entry.key.and_then(|key| self.keys.get_mut(&key));
        let was_parked = key.is_some_and(|key| key.parked.remove(entry));
        let Some(tenant) = self.tenants.get_mut(&entry.tenant) else { return false };
        tenant.parked -= usize::from(was_parked);
        let found = was_parked || tenant.ready.remove(entry);
        self.ready_count -= usize::from(found);
        if let Some(key) = entry.key {
            self.offer(key);
        }
        self.refresh(entry.tenant);
        found
    }

    /// Takes out everything of a tenant, which may stay held.
    pub(super) fn remove_tenant(&mut self, tenant: i64) {
        self.delayed.retain(|_, entry| entry.tenant != tenant);
        for key in self.keys.values_mut() {
            // A key's jobs are all of one tenant.
            if key.parked.tenant() == Some(tenant) {
                key.parked = Lanes::default();
            }
        }
        self.keys.retain(|_, key| key.taken || !key.parked.is_empty());
        if let Some(found) = self.tenants.get_mut(&tenant) {
            self.ready_count -= found.clear();
        }
        self.refresh(tenant);
    }

    /// Gives a place back.
    pub(super) fn release(&mut self, taken: Taken) {
        self.running -= 1;
        self.running_by_tool[taken.tool] -= 1;
        if let Some(tenant) = self.tenants.get_mut(&taken.tenant) {
            tenant.running -= 1;
        }
        if let Some(key) = taken.key {
            if let Some(state) = self.keys.get_mut(&key) {
                state.taken = false;
            }
            self.offer(key);
        }
        self.refresh(taken.tenant);
    }

    /// Puts the jobs that wait longest for a free key, one of each tool, back
    /// among the ready ones.
    fn offer(&mut self, key: ConcurrencyKey) {
        let Some(state) = self.keys.get_mut(&key).filter(|state| !state.taken) else { return };
        for entry in state.parked.pop_first_of_each() {
            if let Some(tenant) = self.tenants.get_mut(&entry.tenant) {
                tenant.parked -= 1;
                tenant.ready.insert(entry);
            }
        }
        if state.parked.is_empty() {
            self.keys.remove(&key);
        }
    }

    /// Holds a tenant's jobs, or lets them start again.
    pub(super) fn hold(&mut self, tenant: i64, hold: bool) {
        self.tenants.entry(tenant).or_default().held = hold;
        self.refresh(tenant);
    }

    /// Sets a tenant's share of the places.
    pub(super) fn set_share(&mut self, tenant: i64, share: Share) {
        self.tenants.entry(tenant).or_default().share = share;
        self.refresh(tenant);
    }

    /// Jobs that wait for a place.
    pub(super) fn ready(&self) -> usize {
        self.ready_count
    }

    /// Jobs that wait for their time.
    pub(super) fn delayed(&self) -> usize {
        self.delayed.len()
    }

    /// Jobs of a tenant that wait, for a place or their time.
    pub(super) fn waiting_of(&self, tenant: i64) -> usize {
        self.tenants.get(&tenant).map_or(0, Tenant::waiting)
    }

    /// Places taken.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    fn has_room(&self, tool: usize) -> bool {
        let tool_has = self.tool_limits[tool].is_none_or(|limit| self.running_by_tool[tool] < limit);
        self.running < self.concurrency && tool_has
    }

    fn occupy(&mut self, taken: Taken) {
        self.running += 1;
        self.running_by_tool[taken.tool] += 1;
        self.tenants.entry(taken.tenant).or_default().running += 1;
        if let Some(key) = taken.key {
            self.keys.entry(key).or_default().taken = true;
        }
        self.refresh(taken.tenant);
    }
}

#[cfg(test)]
mod tests;
