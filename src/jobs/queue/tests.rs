//! The queue's promises, against a plain model of them.

use std::collections::HashSet;

use proptest::prelude::*;

use super::tenant::Place;
use super::*;

const TOOLS: usize = 3;
const LIMITS: [Option<usize>; TOOLS] = [None, Some(1), Some(2)];
const MINUTE: i64 = 60_000_000;

#[derive(Clone, Debug)]
enum Do {
    Push { tenant: i64, tool: usize, priority: i8, key: Option<i64>, delay: i64 },
    Pick,
    Release,
    Reserve { tenant: i64, tool: usize, key: Option<i64> },
    Remove(usize),
    RemoveTenant(i64),
    Hold { tenant: i64, hold: bool },
    Share { tenant: i64, weight: u32, concurrency: Option<usize> },
    Pass(i64),
}

fn action() -> impl Strategy<Value = Do> {
    let tenant = 0_i64..4;
    let key = || prop::option::weighted(0.4, 0_i64..2);
    prop_oneof![
        12 => (tenant.clone(), 0..TOOLS, -2_i8..3, key(), 0_i64..20).prop_map(|(tenant, tool, priority, key, delay)| {
            Do::Push { tenant, tool, priority, key, delay: (delay - 12).max(0) * MINUTE / 4 }
        }),
        12 => Just(Do::Pick),
        8 => Just(Do::Release),
        3 => (tenant.clone(), 0..TOOLS, key()).prop_map(|(tenant, tool, key)| Do::Reserve { tenant, tool, key }),
        2 => any::<usize>().prop_map(Do::Remove),
        1 => tenant.clone().prop_map(Do::RemoveTenant),
        2 => (tenant.clone(), any::<bool>()).prop_map(|(tenant, hold)| Do::Hold { tenant, hold }),
        2 => (tenant, 1_u32..5, prop::option::of(0_usize..3))
            .prop_map(|(tenant, weight, concurrency)| Do::Share { tenant, weight, concurrency }),
        4 => (1_i64..MINUTE).prop_map(Do::Pass),
    ]
}

fn key_of(tenant: i64, key: Option<i64>) -> Option<ConcurrencyKey> {
    key.map(|key| ConcurrencyKey::of(tenant, &key.to_string()))
}

/// What the queue is held against: lists, looked through every time.
#[derive(Default)]
struct Model {
    waiting: Vec<QueueEntry>,
    running: Vec<Taken>,
    held: HashSet<i64>,
    limits: HashMap<i64, usize>,
    concurrency: usize,
    now: i64,
}

impl Model {
    fn has_room(&self, taken: Taken) -> bool {
        let count = |fits: &dyn Fn(&Taken) -> bool| self.running.iter().filter(|other| fits(other)).count();
        self.running.len() < self.concurrency
            && LIMITS[taken.tool].is_none_or(|limit| count(&|other| other.tool == taken.tool) < limit)
            && self.limits.get(&taken.tenant).is_none_or(|limit| count(&|other| other.tenant == taken.tenant) < *limit)
            && taken.key.is_none_or(|key| count(&|other| other.key == Some(key)) == 0)
            && !self.held.contains(&taken.tenant)
    }

    fn could_start(&self) -> Vec<QueueEntry> {
        let could = |entry: &&QueueEntry| entry.due_at.micros() <= self.now && self.has_room((*entry).into());
        self.waiting.iter().filter(could).copied().collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn order_limits_keys_and_holds_are_kept(
        actions in prop::collection::vec(action(), 1..200), concurrency in 1_usize..5
    ) {
        let mut queue = Queue::new(concurrency, LIMITS.to_vec());
        let mut model = Model { concurrency, now: 1_000 * MINUTE, ..Model::default() };
        for (step, action) in actions.into_iter().enumerate() {
            let now = Timestamp::from_micros(model.now);
            match action {
                Do::Push { tenant, tool, priority, key, delay } => {
                    let no = i64::try_from(step).expect("small");
                    let due_at = Timestamp::from_micros(model.now + delay);
                    let key = key_of(tenant, key);
                    let entry = QueueEntry { no, tenant, tool, priority, key, due_at, relative: true };
                    queue.push(entry, now);
                    model.waiting.push(entry);
                }
                Do::Pass(time) => {
                    model.now += time;
                    queue.wake(Timestamp::from_micros(model.now));
                }
                Do::Release => if let Some(taken) = model.running.pop() { queue.release(taken) },
                Do::Hold { tenant, hold } => {
                    queue.hold(tenant, hold);
                    if hold { model.held.insert(tenant); } else { model.held.remove(&tenant); }
                }
                Do::Share { tenant, weight, concurrency } => {
                    queue.set_share(tenant, Share { weight, concurrency });
                    match concurrency {
                        Some(limit) => { model.limits.insert(tenant, limit); }
                        None => { model.limits.remove(&tenant); }
                    }
                }
                Do::Remove(which) => if !model.waiting.is_empty() {
                    let entry = model.waiting.swap_remove(which % model.waiting.len());
                    prop_assert!(queue.remove(&entry));
                    prop_assert!(!queue.remove(&entry));
                },
                Do::RemoveTenant(tenant) => {
                    queue.remove_tenant(tenant);
                    model.waiting.retain(|entry| entry.tenant != tenant);
                }
                Do::Reserve { tenant, tool, key } => {
                    let taken = Taken { tenant, tool, key: key_of(tenant, key) };
                    if queue.reserve(taken) {
                        prop_assert!(model.has_room(taken));
                        prop_assert_eq!(model.could_start(), vec![], "it went before others");
                        model.running.push(taken);
                    }
                }
                Do::Pick => {
                    let could = model.could_start();
                    match queue.pick() {
                        None => prop_assert!(could.is_empty(), "left waiting: {could:?}"),
                        Some(entry) => {
                            let best = could.iter().filter(|other| other.tenant == entry.tenant)
                                .min_by_key(|other| Place::of(other));
                            prop_assert_eq!(Some(&entry), best);
                            model.waiting.retain(|other| other.no != entry.no);
                            model.running.push((&entry).into());
                        }
                    }
                }
            }
            let ready = model.waiting.iter().filter(|entry| entry.due_at.micros() <= model.now).count();
            prop_assert_eq!((queue.ready(), queue.delayed()), (ready, model.waiting.len() - ready));
            for tenant in 0..4 {
                let waiting = model.waiting.iter().filter(|entry| entry.tenant == tenant).count();
                prop_assert_eq!(queue.waiting_of(tenant), waiting);
            }
            prop_assert_eq!(queue.running(), model.running.len());
            prop_assert!(model.running.len() <= concurrency);
        }
    }

    /// While tenants have something waiting, what each has had in proportion to
    /// its weight differs by one job of weight 1 at most.
    #[test]
    fn tenants_share_by_weight(tenants in prop::collection::vec((1_usize..60, 1_u32..10), 2..6)) {
        let mut queue = Queue::new(1, vec![None]);
        let mut no = 0;
        for (tenant, (size, weight)) in (0_i64..).zip(&tenants) {
            queue.set_share(tenant, Share { weight: *weight, concurrency: None });
            for _ in 0..*size {
                no += 1;
                queue.push(plain(no, tenant, 0), Timestamp::from_micros(0));
            }
        }
        let mut started = vec![0_usize; tenants.len()];
        let had = |started: &[usize], tenant: usize| started[tenant] as u64 * (STRIDE / u64::from(tenants[tenant].1));
        while let Some(entry) = queue.pick() {
            queue.release((&entry).into());
            let tenant = usize::try_from(entry.tenant).expect("small");
            started[tenant] += 1;
            for (other, (size, _)) in tenants.iter().enumerate() {
                let behind = had(&started, other) + STRIDE < had(&started, tenant);
                prop_assert!(!behind || started[other] == *size, "{started:?} of {tenants:?}");
            }
        }
        let sizes: Vec<_> = tenants.iter().map(|(size, _)| *size).collect();
        prop_assert_eq!(started, sizes);
    }
}

fn plain(no: i64, tenant: i64, due: i64) -> QueueEntry {
    QueueEntry { no, tenant, tool: 0, priority: 0, key: None, due_at: Timestamp::from_micros(due), relative: true }
}

#[test]
fn whoever_comes_late_has_no_credit_for_the_past() {
    let mut queue = Queue::new(1, vec![None]);
    let zero = Timestamp::from_micros(0);
    (0..100).for_each(|no| queue.push(plain(no, 1, 0), zero));
    for _ in 0..50 {
        let entry = queue.pick().expect("one");
        queue.release((&entry).into());
    }
    (100..200).for_each(|no| queue.push(plain(no, 2, 0), zero));
    let mut of_first = 0;
    for _ in 0..50 {
        let entry = queue.pick().expect("one");
        queue.release((&entry).into());
        of_first += usize::from(entry.tenant == 1);
    }
    assert_eq!(of_first, 25);
}

#[test]
fn a_level_of_priority_is_a_minute_of_waiting() {
    let mut queue = Queue::new(9, vec![None]);
    let now = Timestamp::from_micros(20 * MINUTE);
    let entry = |no, minute, priority| QueueEntry { priority, ..plain(no, 1, minute * MINUTE) };
    for entry in [entry(1, 0, 0), entry(2, 9, 10), entry(3, 11, 10), entry(4, 12, 127), entry(5, 0, -1)] {
        queue.push(entry, now);
    }
    let order: Vec<_> = std::iter::from_fn(|| queue.pick()).map(|entry| entry.no).collect();
    assert_eq!(order, [4, 2, 1, 3, 5]);
}

#[test]
fn many_jobs_of_one_key_cost_no_more_than_others() {
    let mut queue = Queue::new(8, vec![None]);
    let zero = Timestamp::from_micros(0);
    let key = Some(ConcurrencyKey::of(1, "x"));
    (0..50_000).for_each(|no| queue.push(QueueEntry { key, ..plain(no, 1, 0) }, zero));
    for no in 0..50_000 {
        let entry = queue.pick().expect("one");
        assert_eq!((entry.no, queue.pick()), (no, None));
        queue.release((&entry).into());
    }
    assert_eq!((queue.ready(), queue.keys.len(), queue.tenants.len()), (0, 0, 0), "nothing is left behind");
}

#[test]
fn a_clock_set_back_moves_spans_and_leaves_appointments() {
    let mut queue = Queue::new(1, vec![None]);
    let entry = |no, relative| QueueEntry { relative, ..plain(no, 1, 1_000) };
    queue.push(entry(1, true), Timestamp::from_micros(900));
    queue.push(entry(2, false), Timestamp::from_micros(900));
    queue.clock_set(-600);
    queue.wake(Timestamp::from_micros(400));
    assert_eq!(queue.pick().map(|entry| entry.no), Some(1));
    assert_eq!(queue.next_due(), Some(Timestamp::from_micros(1_000)));
}
