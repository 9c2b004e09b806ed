//! The ledger against a plain model: a list of amounts with their moments.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// Something that happens to a ledger.
#[derive(Clone, Copy, Debug)]
enum Step {
    Reserve {
        tenant: i64,
        key: bool,
        session: bool,
        job: bool,
        amount: i64,
    },
    /// One of those that are held, and what it cost in percent of that.
    Settle(prop::sample::Index, i64),
    Release(prop::sample::Index),
    Drop(prop::sample::Index),
    /// Minutes, forwards or backwards.
    Clock(i64),
    Limit {
        tenant: i64,
        day: Option<i64>,
        month: Option<i64>,
        session: Option<i64>,
    },
    Service(Option<i64>),
    Restart,
    Tidy,
}

fn step() -> impl Strategy<Value = Step> {
    let cap = || prop::option::weighted(0.8, 0_i64..120);
    prop_oneof![
        12 => (1_i64..3, any::<bool>(), any::<bool>(), any::<bool>(), 0_i64..30)
            .prop_map(|(tenant, key, session, job, amount)| Step::Reserve { tenant, key, session, job, amount }),
        6 => (any::<prop::sample::Index>(), 0_i64..130).prop_map(|(which, cost)| Step::Settle(which, cost)),
        1 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => any::<prop::sample::Index>().prop_map(Step::Drop),
        2 => (-3_000_i64..3_000).prop_map(Step::Clock),
        2 => (1_i64..3, cap(), cap(), cap())
            .prop_map(|(tenant, day, month, session)| Step::Limit { tenant, day, month, session }),
        1 => cap().prop_map(Step::Service),
        1 => Just(Step::Restart),
        1 => Just(Step::Tidy),
    ]
}

/// What a payer's money is counted in.
pub(super) type Name = (Scope, i64);

/// The ledger as anybody would write it down: every amount with its moment.
#[derive(Default)]
struct Model {
    limits: HashMap<Name, i64>,
    paid: Vec<(Payer, Bucket, i64)>,
    held: Vec<(Payer, Bucket, i64)>,
}

const JOB_CAP: i64 = 50;

pub(super) fn names(payer: &Payer) -> Vec<Name> {
    let tenant = payer.tenant;
    let mut names = vec![(Scope::ServiceDay, 0), (Scope::TenantDay, tenant), (Scope::TenantMonth, tenant)];
    names.extend(payer.key.as_ref().map(|_| (Scope::Key, tenant)));
    names.extend(payer.session.as_ref().map(|_| (Scope::Session, tenant)));
    names.extend(payer.job.map(|_| (Scope::Job, tenant)));
    names
}

impl Model {
    fn limit(&self, name: Name) -> Option<i64> {
        if name.0 == Scope::Job { Some(JOB_CAP) } else { self.limits.get(&name).copied() }
    }

    fn set(&mut self, name: Name, limit: Option<i64>) {
        match limit {
            Some(limit) => self.limits.insert(name, limit),
            None => self.limits.remove(&name),
        };
    }

    /// Spent and reserved.
    fn sums(&self, name: Name, now: i64) -> (i64, i64) {
        let moment = Timestamp::from_micros(now);
        let frame = Calendar::new(config::BudgetWindow::Rolling, jiff::tz::TimeZone::UTC).frame(moment);
        let from = match name.0 {
            Scope::ServiceDay | Scope::TenantDay => frame.day,
            Scope::TenantMonth => frame.month,
            _ => Bucket::FIRST,
        };
        let sum = |list: &[(Payer, Bucket, i64)], from: Bucket| {
            let counts = list.iter().filter(|(payer, bucket, _)| names(payer).contains(&name) && *bucket >= from);
            counts.map(|(_, _, nano)| nano).sum()
        };
        (sum(&self.paid, from), sum(&self.held, Bucket::FIRST))
    }

    fn refuses(&self, payer: &Payer, amount: i64, now: i64) -> Option<Scope> {
        let cannot = |name: &Name| {
            let (spent, reserved) = self.sums(*name, now);
            self.limit(*name).is_some_and(|limit| amount > 0 && spent + reserved + amount > limit)
        };
        names(payer).into_iter().find(cannot).map(|(scope, _)| scope)
    }
}

struct Play {
    house: House,
    model: Model,
    open: Vec<Reservation>,
}

impl Play {
    fn now(&self) -> i64 {
        self.house.now.load(Ordering::Relaxed)
    }

    fn end(&mut self, which: prop::sample::Index) -> Option<(Reservation, Payer, Bucket, i64)> {
        if self.open.is_empty() {
            return None;
        }
        let place = which.index(self.open.len());
        let (payer, at, amount) = self.model.held.remove(place);
        Some((self.open.remove(place), payer, at, amount))
    }

    fn pay(&mut self, payer: Payer, at: Bucket, cost: i64) {
        let bucket = Bucket::of(Timestamp::from_micros(self.now())).max(at);
        self.model.paid.push((payer, bucket, cost));
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Reserve { tenant, key, session, job, amount } => {
                let payer = Payer {
                    tenant,
                    key: key.then(|| "k".into()),
                    session: session.then(|| "s".into()),
                    job: job.then_some(JobPayer { no: tenant, cap: Some(Usd::from_nano(JOB_CAP)) }),
                };
                let expected = self.model.refuses(&payer, amount, self.now());
                match self.house.reserve(&payer, Usd::from_nano(amount)) {
                    Ok(reservation) => {
                        prop_assert_eq!(expected, None);
                        self.open.push(reservation);
                        let at = Bucket::of(Timestamp::from_micros(self.now()));
                        self.model.held.push((payer, at, amount));
                    }
                    Err(Refused::Exhausted(exhausted)) => prop_assert_eq!(Some(exhausted.scope), expected),
                    Err(other) => prop_assert!(false, "{other}"),
                }
            }
            Step::Settle(which, percent) => {
                if let Some((reservation, payer, at, amount)) = self.end(which) {
                    let cost = amount * percent / 100;
                    reservation.settle(spent(Usd::from_nano(cost)));
                    self.pay(payer, at, cost);
                }
            }
            Step::Release(which) => {
                if let Some((reservation, ..)) = self.end(which) {
                    reservation.release();
                }
            }
            Step::Drop(which) => {
                if let Some((reservation, payer, at, amount)) = self.end(which) {
                    drop(reservation);
                    self.pay(payer, at, amount);
                }
            }
            Step::Clock(minutes) => self.house.advance(minutes * 60_000_000),
            Step::Limit { tenant, day, month, session } => {
                let usd = |limit: Option<i64>| limit.map(Usd::from_nano);
                self.house.limit(tenant, usd(day), usd(month), usd(session));
                self.model.set((Scope::TenantDay, tenant), day);
                self.model.set((Scope::TenantMonth, tenant), month);
                self.model.set((Scope::Session, tenant), session);
            }
            Step::Service(limit) => {
                self.house.settings.service_day = limit.map(Usd::from_nano);
                self.house.budgets().configure(self.house.settings.clone());
                self.model.set((Scope::ServiceDay, 0), limit);
            }
            Step::Restart => {
                // A killed process says nothing more of what it held.
                self.open.drain(..).for_each(std::mem::forget);
                let held = std::mem::take(&mut self.model.held);
                self.model.paid.extend(held);
                self.house.restart();
            }
            Step::Tidy => {
                self.house.flush();
                let now = Timestamp::from_micros(self.now());
                self.house.budgets().0.ledger().tidy(now, true);
            }
        }
        Ok(())
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        for tenant in [1, 2] {
            let job = Some(JobPayer { no: tenant, cap: Some(Usd::from_nano(JOB_CAP)) });
            let payer = Payer { tenant, key: Some("k".into()), session: Some("s".into()), job };
            for name in names(&payer) {
                let standing = self.house.standing(&payer, name.0);
                let sums = (standing.spent.nano(), standing.reserved.nano());
                prop_assert_eq!(sums, self.model.sums(name, self.now()), "{:?}", name);
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever happens in whatever order: what is refused, by which budget, and
    /// every sum are those of the plain model.
    #[test]
    fn the_ledger_is_the_plain_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut play = Play { house: House::new(settings()), model: Model::default(), open: Vec::new() };
        for step in steps {
            play.take(step)?;
            play.compare()?;
        }
        play.house.flush();
        let total: i64 = play.model.paid.iter().map(|(_, _, nano)| nano).sum();
        prop_assert_eq!(play.house.number("SELECT coalesce(sum(nano), 0) FROM spend WHERE tenant_no = -1"), total);
        prop_assert_eq!(play.house.number("SELECT coalesce(sum(nano), 0) FROM spend_daily"), total);
        prop_assert_eq!(play.house.number("SELECT coalesce(sum(cost), 0) FROM model_calls"), total);
        play.open.drain(..).for_each(Reservation::release);
    }
}
