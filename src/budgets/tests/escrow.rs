//! What the disk has put aside. First with the disk played: writes come to it later,
//! in order, and may fail, and after every step the process might be killed.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::budgets::escrow::{Fall, Reach, Rise};
use crate::budgets::ledger::{Cover, Hold};

const CAP: i64 = 60;
const SERVICE_CAP: i64 = 90;

#[derive(Clone, Copy, Debug)]
enum Step {
    Reserve {
        tenant: i64,
        model: bool,
        amount: i64,
    },
    /// One of those that may be made, and what it cost in percent.
    Settle(prop::sample::Index, i64),
    Release(prop::sample::Index),
    /// Settlements are handed to the writer.
    Gather,
    Sweep,
    Minutes(i64),
    /// So many writes come to their end; whether the first of them succeeds.
    Write(usize, bool),
}

fn step(can_fail: bool) -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1_i64..3, any::<bool>(), 0_i64..25)
            .prop_map(|(tenant, model, amount)| Step::Reserve { tenant, model, amount }),
        6 => (any::<prop::sample::Index>(), 0_i64..=100).prop_map(|(which, cost)| Step::Settle(which, cost)),
        2 => any::<prop::sample::Index>().prop_map(Step::Release),
        4 => Just(Step::Gather),
        2 => Just(Step::Sweep),
        1 => (0_i64..4).prop_map(Step::Minutes),
        8 => (1_usize..4, prop::bool::weighted(0.7)).prop_map(move |(count, ok)| Step::Write(count, ok || !can_fail)),
    ]
}

/// A call that may be made, or waits for what is put aside.
#[derive(Clone, Debug)]
struct Call {
    hold: Hold,
    cost: i64,
}

enum Write {
    Rise(Rise, Call),
    Batch(Vec<Call>, Vec<Fall>),
}

/// The ledger, and a disk that is told of it.
struct Play {
    ledger: Ledger,
    now: i64,
    numbers: i64,
    /// That may be made.
    made: Vec<Call>,
    later: Vec<Call>,
    settled: Vec<Call>,
    under_way: VecDeque<Write>,
    rows: HashMap<i64, (Arc<Line>, i64, Bucket)>,
    spent: HashMap<i64, i64>,
}

impl Play {
    fn new() -> Self {
        let settings = BudgetSection { service_day: Some(Usd::from_nano(SERVICE_CAP)), ..settings() };
        let mut ledger = Ledger::new(settings, Bucket::FIRST);
        let budget = TenantBudget { day_usd: Some(Usd::from_nano(CAP)), ..TenantBudget::default() };
        ledger.set_budget(1, budget);
        ledger.set_budget(2, budget);
        Self {
            ledger,
            now: NOON,
            numbers: 0,
            made: Vec::new(),
            later: Vec::new(),
            settled: Vec::new(),
            under_way: VecDeque::new(),
            rows: HashMap::new(),
            spent: HashMap::new(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now)
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Reserve { tenant, model, amount } => self.reserve(tenant, model, amount),
            Step::Settle(which, percent) => {
                if !self.made.is_empty() {
                    let mut call = self.made.remove(which.index(self.made.len()));
                    call.cost = call.hold.amount.nano() * percent / 100;
                    self.ledger.settle(self.now(), &call.hold, Usd::from_nano(call.cost));
                    self.settled.push(call);
                }
            }
            Step::Release(which) => {
                if !self.made.is_empty() {
                    let call = self.made.remove(which.index(self.made.len()));
                    self.ledger.release(&call.hold);
                }
            }
            Step::Gather => self.gather(None),
            Step::Sweep => {
                let falls = self.ledger.escrows.fall_idle();
                self.under_way.push_back(Write::Batch(Vec::new(), falls));
            }
            Step::Minutes(minutes) => self.now += minutes * 60_000_000,
            Step::Write(count, first_succeeds) => {
                for at in 0..count {
                    self.write(at > 0 || first_succeeds);
                }
            }
        }
    }

    fn reserve(&mut self, tenant: i64, model: bool, amount: i64) {
        let model = if model { "large" } else { "small" };
        let line = Line { payer: payer(tenant), model: model.into(), provider: "p".into(), purpose: "test".into() };
        match self.ledger.reserve(self.now(), line, Usd::from_nano(amount)) {
            Decision::Held { hold, is_covered } => {
                let call = Call { hold, cost: 0 };
                if is_covered { self.made.push(call) } else { self.cover(call) }
            }
            Decision::Missing(missing) => panic!("{missing:?}"),
            Decision::Exhausted(..) => {}
        }
    }

    fn cover(&mut self, call: Call) {
        let (by, reach) = match self.ledger.cover(self.now(), &call.hold) {
            Cover::There => return self.made.push(call),
            Cover::Write(by) => (Some(by), None),
            Cover::WriteAfter(reach, by) => (Some(by), Some(reach)),
            Cover::Later(reach) => (None, Some(reach)),
        };
        self.numbers += 1;
        let (number, now) = (self.numbers, self.now());
        let rise = by.map(|by| self.ledger.escrows.rise(&call.hold.line, by, now, || number));
        if reach.is_some() {
            self.gather(reach);
        }
        match rise {
            Some(rise) => self.under_way.push_back(Write::Rise(rise, call)),
            None => self.later.push(call),
        }
    }

    fn gather(&mut self, tight: Option<Reach>) {
        let in_vain = tight.map(|reach| self.ledger.escrows.tighten(reach)).unwrap_or_default();
        self.under_way.push_back(Write::Batch(Vec::new(), in_vain));
        let settled = std::mem::take(&mut self.settled);
        let falls = self.ledger.fall(self.now(), settled.iter().map(|call| &call.hold));
        self.under_way.push_back(Write::Batch(settled, falls));
    }

    fn write(&mut self, succeeds: bool) {
        match self.under_way.pop_front() {
            Some(Write::Rise(rise, call)) => {
                let bucket = Bucket::of(rise.at);
                if succeeds && rise.by > 0 {
                    self.rows.entry(rise.no).or_insert((rise.line.clone(), 0, bucket)).1 += rise.by;
                }
                if succeeds && let Some(row) = self.rows.get_mut(&rise.no) {
                    row.2 = bucket;
                }
                self.ledger.escrows.risen(&rise, succeeds);
                if succeeds {
                    self.made.push(call);
                } else {
                    self.ledger.release(&call.hold);
                }
            }
            Some(Write::Batch(settled, falls)) => {
                for fall in &falls {
                    if succeeds && let Some(row) = self.rows.get_mut(&fall.no) {
                        row.1 -= fall.by;
                        if fall.is_last && row.1 <= 0 {
                            self.rows.remove(&fall.no);
                        }
                    }
                }
                for call in &settled {
                    if succeeds {
                        *self.spent.entry(call.hold.line.payer.tenant).or_default() += call.cost;
                        self.ledger.written(&call.hold, Usd::from_nano(call.cost));
                    }
                }
                for fall in &falls {
                    self.ledger.escrows.fallen(fall, succeeds);
                }
                if !succeeds {
                    self.settled.splice(0..0, settled);
                }
            }
            None => {}
        }
        for call in std::mem::take(&mut self.later) {
            self.cover(call);
        }
    }

    /// No call may have been made that the disk knows nothing of.
    fn covers(&self) -> Result<(), TestCaseError> {
        let mut needed: HashMap<&Arc<Line>, i64> = HashMap::new();
        let unwritten = self.under_way.iter().filter_map(|write| match write {
            Write::Batch(settled, _) => Some(settled),
            Write::Rise(..) => None,
        });
        for call in self.made.iter().chain(&self.settled).chain(unwritten.flatten()) {
            *needed.entry(&call.hold.line).or_default() += call.hold.amount.nano();
        }
        for (line, nano) in needed {
            let there: i64 = self.rows.values().filter(|row| row.0 == *line).map(|row| row.1).sum();
            prop_assert!(there >= nano, "{there} of {nano} for {line:?}");
        }
        for call in self.made.iter().filter(|call| call.hold.amount > Usd::ZERO) {
            let row = self.rows.values().find(|row| row.0 == call.hold.line && row.1 > 0).expect("a row");
            prop_assert!(row.2 >= call.hold.at, "it would be settled before it was made");
        }
        Ok(())
    }

    /// What is on disk, should all be settled in full.
    fn on_disk(&self, tenant: i64) -> i64 {
        let rows = self.rows.values().filter(|row| row.0.payer.tenant == tenant).map(|row| row.1);
        self.spent.get(&tenant).copied().unwrap_or_default() + rows.sum::<i64>()
    }

    /// All calls come to their end, and what comes of that to the disk.
    fn finish(&mut self) {
        for _ in 0..4 {
            for call in std::mem::take(&mut self.made) {
                self.ledger.release(&call.hold);
            }
            self.gather(Some(Reach::All));
            (0..self.under_way.len()).for_each(|_| self.write(true));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Also when writes fail.
    #[test]
    fn what_may_be_made_is_put_aside(steps in prop::collection::vec(step(true), 1..80)) {
        let mut play = Play::new();
        for step in steps {
            play.take(step);
            play.covers()?;
        }
        play.finish();
        prop_assert!(play.ledger.escrows.is_empty(), "{:?}", play.ledger.escrows);
        prop_assert_eq!(play.ledger.escrows.excess(Reach::All), 0);
        prop_assert!(play.rows.values().all(|row| row.1 == 0), "{:?}", play.rows);
    }

    /// At any moment, as if the process were killed then.
    #[test]
    fn no_more_is_spent_and_put_aside_than_may_be(steps in prop::collection::vec(step(false), 1..80)) {
        let mut play = Play::new();
        for step in steps {
            play.take(step);
            play.covers()?;
            let tenants = [1, 2].map(|tenant| play.on_disk(tenant));
            prop_assert!(tenants.iter().all(|nano| *nano <= CAP), "{tenants:?}");
            prop_assert!(tenants.iter().sum::<i64>() <= SERVICE_CAP, "{tenants:?}");
        }
        play.finish();
        prop_assert!(play.rows.is_empty(), "{:?}", play.rows);
    }
}

#[test]
fn a_call_that_fits_into_what_is_put_aside_waits_for_no_write() {
    let house = House::new(settings());
    house.limit(1, Some(usd("1")), None, None);
    let both = [(); 2].map(|()| house.reserve(&payer(1), usd("0.2")).expect("it fits"));
    both.into_iter().for_each(Reservation::release);
    let put_aside = "SELECT coalesce(sum(amount), 0) FROM model_reservations";
    assert_eq!(house.number(put_aside), usd("0.4").nano());
    // Polled once: whoever waited for a write would not be done.
    let at_once = |payer: &Payer, amount| {
        let reserving = house.budgets().reserve(payer, planned(usd(amount)));
        futures_util::FutureExt::now_or_never(reserving).map(|reserved| reserved.expect("it fits"))
    };
    let first = at_once(&payer(1), "0.3").expect("there is enough");
    let second = at_once(&payer(1), "0.1").expect("there is enough");
    assert!(at_once(&payer(1), "0.01").is_none(), "it is used up");
    let other = Payer { key: Some("k".into()), ..payer(1) };
    assert!(at_once(&other, "0.01").is_none(), "it is of others");
    first.release();
    house.advance(5 * 60_000_000);
    assert!(at_once(&payer(1), "0.1").is_none(), "it would be settled in the wrong bucket");
    second.settle(spent(usd("0.1")));
    house.flush();
    assert_eq!(house.number(put_aside), 0);
    assert_eq!(house.standing(&payer(1), Scope::TenantDay).spent, usd("0.1"));
}

#[test]
fn what_is_put_aside_in_vain_is_in_nobodys_way_and_soon_gone() {
    let mut house = House::new(settings());
    house.limit(1, Some(usd("1")), None, None);
    let put_aside = "SELECT coalesce(sum(amount), 0) FROM model_reservations";
    house.reserve(&payer(1), usd("0.9")).expect("it fits").release();
    assert_eq!(house.number(put_aside), usd("0.9").nano());
    // Another's, of which the disk must not have both.
    let other = Payer { key: Some("k".into()), ..payer(1) };
    std::mem::forget(house.reserve(&other, usd("0.8")).expect("nothing is spent"));
    assert_eq!(house.number(put_aside), usd("0.8").nano());
    house.killed();
    assert_eq!(house.standing(&payer(1), Scope::TenantDay).spent, usd("0.8"));

    house.reserve(&payer(1), usd("0.1")).expect("it fits").release();
    let none = || (house.number(put_aside) == 0).then_some(());
    let began = std::time::Instant::now();
    while none().is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "it stays for ever");
        std::thread::yield_now();
    }
}
