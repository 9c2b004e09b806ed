//! What the disk has put aside. First with the disk played: writes come to it later,
//! in order, and may fail, and after every step the process might be killed.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::model::{Name, names};
use super::*;
use crate::budgets::escrow::{BudgetOf, Fall, Rise};
use crate::budgets::ledger::{Cover, Hold};

/// What each budget has.
const fn cap(scope: Scope) -> i64 {
    match scope {
        Scope::ServiceDay => 90,
        Scope::TenantDay => 60,
        Scope::TenantMonth => 70,
        Scope::Key => 50,
        Scope::Session => 45,
        Scope::Job => 40,
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Reserve {
        tenant: i64,
        model: bool,
        /// Whether it has a key, a session and a job.
        has: [bool; 3],
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

/// With `is_rough`, writes may fail and calls cost more than was held.
fn step(is_rough: bool) -> impl Strategy<Value = Step> {
    let most = if is_rough { 150 } else { 100 };
    prop_oneof![
        12 => (1_i64..3, any::<bool>(), prop::array::uniform3(prop::bool::weighted(0.3)), 0_i64..25)
            .prop_map(|(tenant, model, has, amount)| Step::Reserve { tenant, model, has, amount }),
        6 => (any::<prop::sample::Index>(), 0_i64..=most).prop_map(|(which, cost)| Step::Settle(which, cost)),
        2 => any::<prop::sample::Index>().prop_map(Step::Release),
        4 => Just(Step::Gather),
        2 => Just(Step::Sweep),
        1 => (-4_i64..5).prop_map(Step::Minutes),
        8 => (1_usize..4, prop::bool::weighted(0.7)).prop_map(move |(count, ok)| Step::Write(count, ok || !is_rough)),
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
    rows: HashMap<i64, (Arc<Line>, i64)>,
    spent: Vec<(Payer, i64)>,
}

impl Play {
    fn new() -> Self {
        let limit = |scope| Some(Usd::from_nano(cap(scope)));
        let settings = BudgetSection { service_day: limit(Scope::ServiceDay), ..settings() };
        let mut ledger = Ledger::new(settings, Bucket::FIRST);
        let budget = TenantBudget {
            day_usd: limit(Scope::TenantDay),
            month_usd: limit(Scope::TenantMonth),
            session_usd: limit(Scope::Session),
            ..TenantBudget::default()
        };
        for tenant in [1, 2] {
            ledger.set_budget(tenant, budget);
            ledger.set_key_limit(tenant, &"k".into(), limit(Scope::Key));
        }
        Self {
            ledger,
            now: NOON,
            numbers: 0,
            made: Vec::new(),
            later: Vec::new(),
            settled: Vec::new(),
            under_way: VecDeque::new(),
            rows: HashMap::new(),
            spent: Vec::new(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now)
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Reserve { tenant, model, has: [key, session, job], amount } => {
                let payer = Payer {
                    tenant,
                    key: key.then(|| "k".into()),
                    session: session.then(|| "s".into()),
                    job: job.then_some(JobPayer { no: tenant, cap: Some(Usd::from_nano(cap(Scope::Job))) }),
                };
                self.reserve(payer, if model { "large" } else { "small" }, amount);
            }
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
            Step::Gather => self.gather(&[]),
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

    fn reserve(&mut self, payer: Payer, model: &str, amount: i64) {
        let at = Bucket::of(self.now());
        let line = Line { payer, model: model.into(), provider: "p".into(), purpose: "test".into(), at };
        match self.ledger.reserve(self.now(), line.clone(), Usd::from_nano(amount)) {
            Decision::Held { hold, is_covered } => {
                let call = Call { hold, cost: 0 };
                if is_covered { self.made.push(call) } else { self.cover(call) }
            }
            Decision::Missing(missing) => {
                // Nothing was spent before.
                self.ledger.load_totals(&missing, &vec![0; missing.totals.len()]);
                let Line { payer, .. } = &line;
                self.reserve(payer.clone(), model, amount);
            }
            Decision::Exhausted(..) => {}
        }
    }

    fn cover(&mut self, call: Call) {
        let (by, tight) = match self.ledger.cover(self.now(), &call.hold) {
            Cover::There => return self.made.push(call),
            Cover::Write { by, tight } => (Some(by), tight),
            Cover::Later { tight } => (None, tight),
        };
        self.numbers += 1;
        let (number, now) = (self.numbers, self.now());
        let rise = by.map(|by| self.ledger.escrows.rise(&call.hold.line, by, now, || number));
        if !tight.is_empty() {
            self.gather(&tight);
        }
        match rise {
            Some(rise) => self.under_way.push_back(Write::Rise(rise, call)),
            None => self.later.push(call),
        }
    }

    fn gather(&mut self, tight: &[BudgetOf]) {
        let in_vain = tight.iter().flat_map(|budget| self.ledger.escrows.tighten(budget)).collect();
        self.under_way.push_back(Write::Batch(Vec::new(), in_vain));
        let settled = std::mem::take(&mut self.settled);
        let falls = self.ledger.fall(self.now(), settled.iter().map(|call| &call.hold));
        self.under_way.push_back(Write::Batch(settled, falls));
    }

    fn write(&mut self, succeeds: bool) {
        match self.under_way.pop_front() {
            Some(Write::Rise(rise, call)) => {
                if succeeds {
                    self.rows.entry(rise.no).or_insert((rise.line.clone(), 0)).1 += rise.by;
                }
                self.ledger.escrows.risen(&rise, succeeds);
                if succeeds {
                    self.made.push(call);
                } else {
                    self.ledger.release(&call.hold);
                }
            }
            Some(Write::Batch(settled, falls)) => {
                if succeeds {
                    for fall in &falls {
                        if fall.by > 0 {
                            let row = self.rows.get_mut(&fall.no).expect("what is taken is there");
                            row.1 -= fall.by;
                            assert!(row.1 >= 0, "more is taken than there is");
                        }
                    }
                    self.rows.retain(|_, row| row.1 > 0);
                    for call in &settled {
                        self.spent.push((call.hold.line.payer.clone(), call.cost));
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
        Ok(())
    }

    /// No budget may have spent more, should all be settled in full.
    fn is_within_caps(&self) -> Result<(), TestCaseError> {
        let mut sums: HashMap<Name, i64> = HashMap::new();
        let rows = self.rows.values().map(|(line, nano)| (&line.payer, nano));
        for (payer, nano) in self.spent.iter().map(|(payer, nano)| (payer, nano)).chain(rows) {
            for name in names(payer) {
                *sums.entry(name).or_default() += nano;
            }
        }
        for (name, nano) in sums {
            prop_assert!(nano <= cap(name.0), "{nano} of {name:?}");
        }
        Ok(())
    }

    /// All calls come to their end, and what comes of that to the disk.
    fn finish(&mut self) {
        for _ in 0..4 {
            for call in std::mem::take(&mut self.made) {
                self.ledger.release(&call.hold);
            }
            self.gather(&[BudgetOf::Service]);
            (0..self.under_way.len()).for_each(|_| self.write(true));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Also when writes fail and calls cost more than was held.
    #[test]
    fn what_may_be_made_is_put_aside(steps in prop::collection::vec(step(true), 1..80)) {
        let mut play = Play::new();
        for step in steps {
            play.take(step);
            play.covers()?;
        }
        play.finish();
        prop_assert!(play.ledger.escrows.is_empty(), "{:?}", play.ledger.escrows);
        prop_assert_eq!(play.ledger.escrows.excess(&BudgetOf::Service), 0);
        prop_assert!(play.rows.is_empty(), "{:?}", play.rows);
    }

    /// At any moment, as if the process were killed then.
    #[test]
    fn no_more_is_spent_and_put_aside_than_may_be(steps in prop::collection::vec(step(false), 1..80)) {
        let mut play = Play::new();
        for step in steps {
            play.take(step);
            play.covers()?;
            play.is_within_caps()?;
        }
        play.finish();
        prop_assert!(play.rows.is_empty(), "{:?}", play.rows);
    }
}

/// Nothing goes from the rows by time alone.
fn without_sweeps(house: &House) {
    house.budgets().0.settlements.sweeping.store(true, Ordering::Relaxed);
}

#[test]
fn a_call_that_fits_into_what_is_put_aside_waits_for_no_write() {
    let house = House::new(settings());
    without_sweeps(&house);
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
    // Read before, so that there is but the write to wait for.
    house.standing(&other, Scope::Key);
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
fn what_settled_calls_have_held_stays_for_two_periods_where_there_was_more_than_one() {
    let house = House::new(settings());
    without_sweeps(&house);
    let put_aside = "SELECT coalesce(sum(amount), 0) FROM model_reservations";
    let inner = &house.budgets().0;
    let written = || {
        assert!(house.runtime.block_on(inner.flush(Duration::from_secs(30))), "written in time");
        house.runtime.block_on(house.db.write(|_| Ok(()))).expect("written");
        house.number(put_aside)
    };
    let lone = Payer { session: Some("s".into()), ..payer(1) };
    house.reserve(&lone, usd("0.5")).expect("unlimited").settle(spent(usd("0.1")));
    assert_eq!(written(), 0, "who has called once has nothing kept");
    let both = [(); 2].map(|()| house.reserve(&payer(1), usd("0.2")).expect("unlimited"));
    for reserved in both {
        reserved.settle(spent(usd("0.1")));
    }
    assert_eq!(written(), usd("0.4").nano(), "as much as was held at once");
    inner.sweep();
    assert_eq!(written(), usd("0.4").nano(), "it was needed in the period before");
    inner.sweep();
    assert_eq!(written(), 0);
}

#[test]
fn what_is_put_aside_in_vain_is_in_nobodys_way_and_soon_gone() {
    let mut house = House::new(settings());
    without_sweeps(&house);
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

    // In the process that took its place, time alone does it.
    house.reserve(&payer(1), usd("0.1")).expect("it fits").release();
    let none = || (house.number(put_aside) == 0).then_some(());
    let began = std::time::Instant::now();
    while none().is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "it stays for ever");
        std::thread::yield_now();
    }
}
