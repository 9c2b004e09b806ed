//! Which job starts next. A data structure without clock, locks or database,
//! so that its promises can be tested as properties:
//!
//! - tenants take turns, whatever each has queued;
//! - within a tenant the higher priority starts first, and what was submitted
//!   earlier before what came later;
//! - never more run at once than allowed, over all and per tool;
//! - a suspended tenant's jobs stay, and nothing of them starts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::types::QueueEntry;
use crate::clock::Timestamp;

type Place = (Reverse<i8>, i64);
/// For each tool, what is ready in its order.
type Lanes = BTreeMap<usize, BTreeMap<Place, QueueEntry>>;

/// The queue of one process.
#[derive(Debug)]
pub(super) struct Queue {
    /// For each tenant and tool, what could start now.
    ready: HashMap<i64, Lanes>,
    /// Tenants with something ready, in the order of their turns.
    turns: VecDeque<i64>,
    delayed: BTreeMap<(Timestamp, i64), QueueEntry>,
    held: HashSet<i64>,
    running: usize,
    running_by_tool: Vec<usize>,
    concurrency: usize,
    tool_limits: Vec<Option<usize>>,
    ready_count: usize,
}

impl Queue {
    pub(super) fn new(concurrency: usize, tool_limits: Vec<Option<usize>>) -> Self {
        Self {
            ready: HashMap::new(),
            turns: VecDeque::new(),
            delayed: BTreeMap::new(),
            held: HashSet::new(),
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
            self.delayed.insert((entry.due_at, entry.no), entry);
        } else {
            self.make_ready(entry);
        }
    }

    fn make_ready(&mut self, entry: QueueEntry) {
        let lanes = self.ready.entry(entry.tenant).or_default();
        if lanes.is_empty() {
            self.turns.push_back(entry.tenant);
        }
        let place = (Reverse(entry.priority), entry.no);
        if lanes.entry(entry.tool).or_default().insert(place, entry).is_none() {
            self.ready_count += 1;
        }
    }

    /// Moves what is due to the ready ones; when the next one is.
    pub(super) fn wake(&mut self, now: Timestamp) -> Option<Timestamp> {
        while let Some(((due, _), _)) = self.delayed.first_key_value() {
            if *due > now {
                return Some(*due);
            }
            if let Some((_, entry)) = self.delayed.pop_first() {
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

    /// Takes a place for a job that may start at once because nothing waits.
    pub(super) fn reserve(&mut self, tenant: i64, tool: usize) -> bool {
        let held: usize = self.held.iter().filter_map(|tenant| self.ready.get(tenant)).map(count).sum();
        let free = self.ready_count == held && !self.held.contains(&tenant) && self.has_room(tool);
        if free {
            self.occupy(tool);
        }
        free
    }

    /// The next job to start, its place taken.
    pub(super) fn pick(&mut self) -> Option<QueueEntry> {
        if self.running >= self.concurrency {
            return None;
        }
        for _ in 0..self.turns.len() {
            let tenant = self.turns.pop_front()?;
            let picked = if self.held.contains(&tenant) { None } else { self.pick_of(tenant) };
            if self.ready.get(&tenant).is_some_and(|lanes| !lanes.is_empty()) {
                self.turns.push_back(tenant);
            } else {
                self.ready.remove(&tenant);
            }
            if let Some(entry) = picked {
                self.occupy(entry.tool);
                self.ready_count -= 1;
                return Some(entry);
            }
        }
        None
    }

    fn pick_of(&mut self, tenant: i64) -> Option<QueueEntry> {
        let lanes = self.ready.get(&tenant)?;
        let first = |(tool, lane): (&usize, &BTreeMap<Place, QueueEntry>)| {
            let (place, _) = lane.first_key_value()?;
            self.has_room(*tool).then_some((*place, *tool))
        };
        let (_, tool) = lanes.iter().filter_map(first).min()?;
        let lanes = self.ready.get_mut(&tenant)?;
        let lane = lanes.get_mut(&tool)?;
        let (_, entry) = lane.pop_first()?;
        if lane.is_empty() {
            lanes.remove(&tool);
        }
        Some(entry)
    }

    /// Takes a job out that is not to start; whether it was there.
    pub(super) fn remove(&mut self, entry: &QueueEntry) -> bool {
        if self.delayed.remove(&(entry.due_at, entry.no)).is_some() {
            return true;
        }
        let Some(lanes) = self.ready.get_mut(&entry.tenant) else { return false };
        let Some(lane) = lanes.get_mut(&entry.tool) else { return false };
        let found = lane.remove(&(Reverse(entry.priority), entry.no)).is_some();
        if lane.is_empty() {
            lanes.remove(&entry.tool);
        }
        if lanes.is_empty() {
            self.ready.remove(&entry.tenant);
            self.turns.retain(|tenant| *tenant != entry.tenant);
        }
        self.ready_count -= usize::from(found);
        found
    }

    /// Takes out everything of a tenant, which may stay held.
    pub(super) fn remove_tenant(&mut self, tenant: i64) {
        self.delayed.retain(|_, entry| entry.tenant != tenant);
        let lanes = self.ready.remove(&tenant).unwrap_or_default();
        self.ready_count -= count(&lanes);
        self.turns.retain(|other| *other != tenant);
    }

    /// Gives a place back.
    pub(super) fn release(&mut self, tool: usize) {
        self.running -= 1;
        self.running_by_tool[tool] -= 1;
    }

    /// Holds a tenant's jobs, or lets them start again.
    pub(super) fn hold(&mut self, tenant: i64, hold: bool) {
        if hold {
            self.held.insert(tenant);
        } else {
            self.held.remove(&tenant);
        }
    }

    /// Jobs that wait for a place.
    pub(super) fn ready(&self) -> usize {
        self.ready_count
    }

    /// Jobs that wait for their time.
    pub(super) fn delayed(&self) -> usize {
        self.delayed.len()
    }

    /// Places taken.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    fn has_room(&self, tool: usize) -> bool {
        let tool_has = self.tool_limits[tool].is_none_or(|limit| self.running_by_tool[tool] < limit);
        self.running < self.concurrency && tool_has
    }

    fn occupy(&mut self, tool: usize) {
        self.running += 1;
        self.running_by_tool[tool] += 1;
    }
}

fn count(lanes: &Lanes) -> usize {
    lanes.values().map(BTreeMap::len).sum()
}

#[cfg(test)]
mod tests;
