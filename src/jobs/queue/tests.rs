//! The queue's promises, against a plain model of them.

use super::*;
use proptest::prelude::*;

const TOOLS: usize = 3;
const LIMITS: [Option<usize>; TOOLS] = [None, Some(1), Some(2)];

#[derive(Clone, Debug)]
enum Do {
    Push { tenant: i64, tool: usize, priority: i8, delay: i64 },
    Pick,
    Release,
    Reserve { tenant: i64, tool: usize },
    Remove,
    Hold { tenant: i64, hold: bool },
    Pass(i64),
}

fn action() -> impl Strategy<Value = Do> {
    let tenant = 0_i64..4;
    prop_oneof![
        6 => (tenant.clone(), 0..TOOLS, -2_i8..3, 0_i64..20).prop_map(|(tenant, tool, priority, delay)| {
            Do::Push { tenant, tool, priority, delay: (delay - 12).max(0) }
        }),
        6 => Just(Do::Pick),
        4 => Just(Do::Release),
        1 => (tenant.clone(), 0..TOOLS).prop_map(|(tenant, tool)| Do::Reserve { tenant, tool }),
        1 => Just(Do::Remove),
        1 => (tenant, any::<bool>()).prop_map(|(tenant, hold)| Do::Hold { tenant, hold }),
        2 => (1_i64..5).prop_map(Do::Pass),
    ]
}

proptest! {
    #[test]
    fn order_limits_and_holds_are_kept(
        actions in prop::collection::vec(action(), 1..200), concurrency in 1_usize..5
    ) {
        let mut queue = Queue::new(concurrency, LIMITS.to_vec());
        let mut waiting: Vec<QueueEntry> = Vec::new();
        let mut running: Vec<usize> = Vec::new();
        let mut held = HashSet::new();
        let mut now = 0_i64;
        let at = Timestamp::from_micros;
        for (step, action) in actions.into_iter().enumerate() {
            match action {
                Do::Push { tenant, tool, priority, delay } => {
                    let no = i64::try_from(step).expect("small");
                    let entry = QueueEntry { no, tenant, tool, priority, due_at: at(now + delay), relative: true };
                    queue.push(entry, at(now));
                    waiting.push(entry);
                }
                Do::Pass(time) => {
                    now += time;
                    queue.wake(at(now));
                }
                Do::Release => if let Some(tool) = running.pop() { queue.release(tool) },
                Do::Hold { tenant, hold } => {
                    queue.hold(tenant, hold);
                    if hold { held.insert(tenant); } else { held.remove(&tenant); }
                }
                Do::Remove => if let Some(entry) = waiting.pop() {
                    prop_assert!(queue.remove(&entry));
                    prop_assert!(!queue.remove(&entry));
                },
                Do::Reserve { tenant, tool } => if queue.reserve(tenant, tool) {
                    prop_assert!(!held.contains(&tenant));
                    prop_assert!(waiting.iter().all(|entry| entry.due_at > at(now) || held.contains(&entry.tenant)));
                    running.push(tool);
                },
                Do::Pick => {
                    let room = |tool: usize| running.len() < concurrency
                        && LIMITS[tool].is_none_or(|limit| running.iter().filter(|t| **t == tool).count() < limit);
                    let could: Vec<_> = waiting.iter().copied()
                        .filter(|e| e.due_at <= at(now) && !held.contains(&e.tenant) && room(e.tool)).collect();
                    match queue.pick() {
                        None => prop_assert!(could.is_empty(), "left waiting: {could:?}"),
                        Some(entry) => {
                            let best = could.iter().filter(|e| e.tenant == entry.tenant)
                                .min_by_key(|e| (Reverse(e.priority), e.no));
                            prop_assert_eq!(Some(&entry), best);
                            waiting.retain(|e| e.no != entry.no);
                            running.push(entry.tool);
                        }
                    }
                }
            }
            let ready = waiting.iter().filter(|e| e.due_at <= at(now)).count();
            prop_assert_eq!((queue.ready(), queue.delayed()), (ready, waiting.len() - ready));
            prop_assert_eq!(queue.running(), running.len());
            prop_assert!(running.len() <= concurrency);
        }
    }

    #[test]
    fn tenants_take_turns(sizes in prop::collection::vec(1_usize..30, 2..6)) {
        let mut queue = Queue::new(1, vec![None]);
        let mut no = 0;
        for (tenant, size) in (0_i64..).zip(&sizes) {
            for _ in 0..*size {
                no += 1;
                let due_at = Timestamp::from_micros(0);
                queue.push(QueueEntry { no, tenant, tool: 0, priority: 0, due_at, relative: true }, due_at);
            }
        }
        let mut started = vec![0; sizes.len()];
        while let Some(entry) = queue.pick() {
            queue.release(entry.tool);
            let tenant = usize::try_from(entry.tenant).expect("small");
            started[tenant] += 1;
            for (other, size) in sizes.iter().enumerate() {
                let behind = started[other] + 1 < started[tenant];
                prop_assert!(!behind || started[other] == *size, "{started:?} of {sizes:?}");
            }
        }
        prop_assert_eq!(started, sizes);
    }
}

#[test]
fn a_clock_set_back_moves_spans_and_leaves_appointments() {
    let mut queue = Queue::new(1, vec![None]);
    let entry = |no, relative| QueueEntry {
        no,
        tenant: 1,
        tool: 0,
        priority: 0,
        due_at: Timestamp::from_micros(1_000),
        relative,
    };
    queue.push(entry(1, true), Timestamp::from_micros(900));
    queue.push(entry(2, false), Timestamp::from_micros(900));
    queue.clock_set(-600);
    queue.wake(Timestamp::from_micros(400));
    assert_eq!(queue.pick().map(|entry| entry.no), Some(1));
    assert_eq!(queue.next_due(), Some(Timestamp::from_micros(1_000)));
}
