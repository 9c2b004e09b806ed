//! What the queue keeps of one tenant.

use std::collections::BTreeMap;

use crate::jobs::types::QueueEntry;

/// How much waiting a level of priority is worth, in microseconds: a minute.
const LEVEL_MICROS: i64 = 60_000_000;

/// A job's place among those of its tenant: since when it could have started,
/// moved by its priority; then the older job. As all wait equally fast, the
/// order never changes while they wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(i64, i64);

impl Place {
    pub(super) fn of(entry: &QueueEntry) -> Self {
        Self(entry.due_at.micros() - i64::from(entry.priority) * LEVEL_MICROS, entry.no)
    }
}

/// A tenant's share of the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// How many jobs of it start for one of a tenant of weight 1.
    pub weight: u32,
    /// Jobs of it that run at the same time; none: as many as there are places.
    pub concurrency: Option<usize>,
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: 1, concurrency: None }
    }
}

/// A tenant's jobs that could start now, and what decides whether they may.
#[derive(Debug, Default)]
pub(super) struct Tenant {
    pub share: Share,
    pub held: bool,
    /// Whether it stands among the turns, at `pass`.
    pub in_turn: bool,
    /// What it has had, as a distance: the smaller, the sooner its turn.
    pub pass: u64,
    pub running: usize,
    pub delayed: usize,
    pub parked: usize,
    pub ready: Lanes,
}

impl Tenant {
    /// Whether its limits let another job start.
    pub(super) fn has_room(&self) -> bool {
        !self.held && self.share.concurrency.is_none_or(|limit| self.running < limit)
    }

    pub(super) fn may_start(&self) -> bool {
        !self.ready.is_empty() && self.has_room()
    }

    /// Whether there is nothing to be remembered of it.
    pub(super) fn is_nothing(&self) -> bool {
        self.waiting() == 0 && self.running == 0 && !self.held && self.share == Share::default()
    }

    pub(super) fn waiting(&self) -> usize {
        self.ready.len() + self.parked + self.delayed
    }

    /// Forgets all that waits; how many were ready, parked ones included.
    pub(super) fn clear(&mut self) -> usize {
        let gone = self.ready.len() + self.parked;
        self.ready = Lanes::default();
        (self.parked, self.delayed) = (0, 0);
        gone
    }
}

/// Jobs by their tool and, for each tool, in their order.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    by_tool: BTreeMap<usize, BTreeMap<Place, QueueEntry>>,
    count: usize,
}

impl Lanes {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whose jobs these are, where all are of one tenant.
    pub(super) fn tenant(&self) -> Option<i64> {
        self.by_tool.values().find_map(|lane| lane.first_key_value()).map(|(_, entry)| entry.tenant)
    }

    /// Adds a job; whether it was not there.
    pub(super) fn insert(&mut self, entry: QueueEntry) -> bool {
        let new = self.by_tool.entry(entry.tool).or_default().insert(Place::of(&entry), entry).is_none();
        self.count += usize::from(new);
        new
    }

    pub(super) fn remove(&mut self, entry: &QueueEntry) -> bool {
        let Some(lane) = self.by_tool.get_mut(&entry.tool) else { return false };
        let found = lane.remove(&Place::of(entry)).is_some();
        if lane.is_empty() {
            self.by_tool.remove(&entry.tool);
        }
        self.count -= usize::from(found);
        found
    }

    /// Takes the first job whose tool has room.
    pub(super) fn pop(&mut self, has_room: impl Fn(usize) -> bool) -> Option<QueueEntry> {
        let first = |(tool, lane): (&usize, &BTreeMap<Place, QueueEntry>)| {
            let (place, _) = lane.first_key_value()?;
            has_room(*tool).then_some((*place, *tool))
        };
        let (_, tool) = self.by_tool.iter().filter_map(first).min()?;
        self.pop_of(tool)
    }

    fn pop_of(&mut self, tool: usize) -> Option<QueueEntry> {
        let lane = self.by_tool.get_mut(&tool)?;
        let (_, entry) = lane.pop_first()?;
        if lane.is_empty() {
            self.by_tool.remove(&tool);
        }
        self.count -= 1;
        Some(entry)
    }

    /// Takes the first job of each tool.
    pub(super) fn pop_first_of_each(&mut self) -> Vec<QueueEntry> {
        let tools: Vec<_> = self.by_tool.keys().copied().collect();
        tools.into_iter().filter_map(|tool| self.pop_of(tool)).collect()
    }
}
