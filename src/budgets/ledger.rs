//! Who has spent how much and may spend how much more, in memory: a plain data
//! structure without clock, lock or disk. It decides; the disk remembers.

use std::collections::HashMap;
use std::sync::Arc;

use super::account::{Account, Total, TotalKey};
use super::alerts::Alerts;
use super::escrow::{AllEscrows, BudgetOf, Fall, Line};
use super::types::{Alert, Exhausted, OnExhausted, Payer, Scope, Standing, TenantBudget};
use super::window::{Bucket, Calendar, Frame};
use crate::clock::Timestamp;
use crate::config::BudgetSection;
use crate::money::Usd;

/// Totals in memory above which those are dropped that nobody uses.
const MOST_TOTALS: usize = 100_000;
/// Buckets that are kept beyond what the windows need.
const SLACK: i64 = 2 * 288;

/// Money that is held for a call.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub line: Arc<Line>,
    pub amount: Usd,
}

/// What must be read from the database before it can be decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    pub totals: Vec<TotalKey>,
    /// Buckets of all tenants from the first up to the second.
    pub history: Option<(Bucket, Bucket)>,
    /// How often totals had been dropped when this was found missing.
    pub dropped: u64,
}

/// What comes of the wish to hold money.
#[derive(Debug)]
pub(super) enum Decision {
    Held {
        hold: Hold,
        /// What is put aside on disk is enough for it.
        is_covered: bool,
    },
    Exhausted(Box<Exhausted>, Option<Alert>),
    Missing(Missing),
}

/// How money that is held comes to disk. Before that goes what is put aside in
/// vain of the budgets that are too tight to pay for both, should the process be
/// killed.
#[derive(Debug)]
pub(super) enum Cover {
    /// It is there by now.
    There,
    /// With a write that puts so much more aside.
    Write { by: i64, tight: Vec<BudgetOf> },
    /// Not before the writes under way have ended.
    Later { tight: Vec<BudgetOf> },
}

pub(super) struct Ledger {
    settings: BudgetSection,
    calendar: Calendar,
    /// The first bucket that is in memory.
    loaded_from: Bucket,
    service: Account,
    tenants: HashMap<i64, Account>,
    key_limits: HashMap<(i64, Arc<str>), Usd>,
    totals: HashMap<TotalKey, Total>,
    dropped: u64,
    /// Calls that are under way.
    holds: usize,
    pub escrows: AllEscrows,
    alerts: Alerts,
}

/// A budget that a payer falls into, and how it stands.
struct Place {
    scope: Scope,
    limit: Option<i128>,
    spent: i128,
    reserved: i128,
}

impl Ledger {
    pub fn new(settings: BudgetSection, loaded_from: Bucket) -> Self {
        Self {
            calendar: Calendar::new(settings.window, settings.zone.clone()),
            settings,
            loaded_from,
            service: Account::default(),
            tenants: HashMap::new(),
            key_limits: HashMap::new(),
            totals: HashMap::new(),
            dropped: 0,
            holds: 0,
            escrows: AllEscrows::default(),
            alerts: Alerts::default(),
        }
    }

    pub fn settings(&self) -> &BudgetSection {
        &self.settings
    }

    pub fn set_settings(&mut self, settings: BudgetSection) {
        if self.settings.service_day != settings.service_day {
            self.alerts.forget(Scope::ServiceDay, None, None);
        }
        self.calendar = Calendar::new(settings.window, settings.zone.clone());
        self.settings = settings;
    }

    pub fn budget(&self, tenant: i64) -> TenantBudget {
        self.tenants.get(&tenant).map(|account| account.budget).unwrap_or_default()
    }

    pub fn set_budget(&mut self, tenant: i64, budget: TenantBudget) {
        let account = self.tenants.entry(tenant).or_default();
        if account.budget.day_usd != budget.day_usd {
            self.alerts.forget(Scope::TenantDay, Some(tenant), None);
        }
        if account.budget.month_usd != budget.month_usd {
            self.alerts.forget(Scope::TenantMonth, Some(tenant), None);
        }
        account.budget = budget;
    }

    pub fn key_limit(&self, tenant: i64, key: &Arc<str>) -> Option<Usd> {
        self.key_limits.get(&(tenant, key.clone())).copied()
    }

    pub fn set_key_limit(&mut self, tenant: i64, key: &Arc<str>, limit: Option<Usd>) {
        if self.key_limit(tenant, key) != limit {
            self.alerts.forget(Scope::Key, Some(tenant), Some(key));
        }
        match limit {
            Some(limit) => self.key_limits.insert((tenant, key.clone()), limit),
            None => self.key_limits.remove(&(tenant, key.clone())),
        };
    }

    /// Forgets a deleted tenant. What the service has spent for it stays.
    pub fn remove_tenant(&mut self, tenant: i64) {
        self.tenants.remove(&tenant);
        self.key_limits.retain(|(no, _), _| *no != tenant);
        self.totals.retain(|key, _| key.tenant() != tenant);
        self.dropped += 1;
        self.alerts.forget_tenant(tenant);
    }

    /// An alert that was raised before this process began.
    pub fn remember_alert(&mut self, alert: &Alert) {
        self.alerts.remember(alert);
    }

    /// What is known of a tenant's spending, or with `None` of the service's.
    pub fn load_bucket(&mut self, tenant: Option<i64>, bucket: Bucket, nano: i64) {
        let account = match tenant {
            Some(no) => self.tenants.entry(no).or_default(),
            None => &mut self.service,
        };
        account.spent.add(bucket, nano);
    }

    /// Adds the buckets that were [`Missing`], unless somebody else has.
    pub fn load_history(&mut self, history: (Bucket, Bucket), rows: &[(Option<i64>, Bucket, i64)]) {
        if self.loaded_from == history.1 {
            for (tenant, bucket, nano) in rows {
                self.load_bucket(*tenant, *bucket, *nano);
            }
            self.loaded_from = history.0;
        }
    }

    /// Adds totals that were [`Missing`], unless they may be out of date by now:
    /// then they are found missing again.
    pub fn load_totals(&mut self, missing: &Missing, nano: &[i64]) {
        if missing.dropped == self.dropped {
            for (key, nano) in missing.totals.iter().zip(nano) {
                self.totals.entry(key.clone()).or_insert_with(|| Total::of(*nano));
            }
        }
    }

    /// What is not in memory of what decides over this payer's calls.
    pub fn missing(&mut self, now: Timestamp, payer: &Payer) -> Option<Missing> {
        let frame = self.calendar.frame(now);
        let from = frame.day.min(frame.month);
        let history = (from < self.loaded_from).then_some((from, self.loaded_from));
        let unknown = |key: &TotalKey| !self.totals.contains_key(key);
        let totals: Vec<_> = TotalKey::of(payer).filter(unknown).collect();
        if history.is_none() && totals.is_empty() {
            return None;
        }
        Some(Missing { totals, history, dropped: self.dropped })
    }

    /// Holds money in every scope, or in none.
    pub fn reserve(&mut self, now: Timestamp, line: Line, amount: Usd) -> Decision {
        let payer = &line.payer;
        if let Some(missing) = self.missing(now, payer) {
            return Decision::Missing(missing);
        }
        let frame = self.calendar.frame(now);
        let asked = i128::from(amount.nano());
        if asked > 0 {
            let cannot = |place: &Place| place.has_no(asked);
            if let Some(place) = self.places(&frame, payer).into_iter().flatten().find(cannot) {
                return self.exhausted(now, &frame, payer, &place, amount);
            }
        }
        self.holds += 1;
        self.service.reserved += asked;
        self.tenants.entry(payer.tenant).or_default().reserved += asked;
        for key in TotalKey::of(payer) {
            if let Some(total) = self.totals.get_mut(&key) {
                total.reserve(asked);
            }
        }
        let (line, is_covered) = self.escrows.hold(line, amount);
        Decision::Held { hold: Hold { line, amount }, is_covered }
    }

    /// What goes from what is put aside with calls that are being settled. Some of
    /// that stays for the next ones, where all budgets could pay for it.
    pub fn fall<'a>(&mut self, now: Timestamp, settled: impl Iterator<Item = &'a Hold>) -> Vec<Fall> {
        let mut by_line: HashMap<&Arc<Line>, i128> = HashMap::new();
        for hold in settled.filter(|hold| hold.amount > Usd::ZERO) {
            *by_line.entry(&hold.line).or_default() += i128::from(hold.amount.nano());
        }
        let frame = self.calendar.frame(now);
        let falls = by_line.into_iter().filter_map(|(line, settled)| {
            let is_tight = !self.cannot_pay(&frame, &line.payer, settled).is_empty();
            self.escrows.fall(line, settled, is_tight)
        });
        falls.collect()
    }

    /// The budgets that could not pay if so much more were put aside on disk.
    fn cannot_pay(&mut self, frame: &Frame, payer: &Payer, more: i128) -> Vec<BudgetOf> {
        let places = self.places(frame, payer).into_iter().flatten();
        let too_tight = places.filter_map(|place| {
            let budget = match place.scope {
                Scope::ServiceDay => Some(BudgetOf::Service),
                Scope::TenantDay | Scope::TenantMonth => Some(BudgetOf::Tenant(payer.tenant)),
                Scope::Key => TotalKey::key(payer).map(BudgetOf::Total),
                Scope::Session => TotalKey::session(payer).map(BudgetOf::Total),
                Scope::Job => TotalKey::job(payer).map(BudgetOf::Total),
            };
            budget.filter(|budget| place.has_no(self.escrows.excess(budget) + more))
        });
        too_tight.collect()
    }

    /// How a hold that was not covered comes to disk, so that no budget has more
    /// spent and put aside there than it may, at any moment.
    pub fn cover(&mut self, now: Timestamp, hold: &Hold) -> Cover {
        let Hold { line, amount } = hold;
        let Some(by) = self.escrows.lacks(line, *amount) else { return Cover::There };
        let frame = self.calendar.frame(now);
        let tight = self.cannot_pay(&frame, &line.payer, i128::from(by));
        if tight.iter().any(|budget| self.escrows.is_keeping(budget)) {
            return Cover::Later { tight };
        }
        Cover::Write { by, tight }
    }

    fn exhausted(&mut self, now: Timestamp, frame: &Frame, payer: &Payer, place: &Place, asked: Usd) -> Decision {
        let limit = place.limit.unwrap_or_default();
        let needed = place.spent + place.reserved + i128::from(asked.nano()) - limit;
        let exhausted = Exhausted {
            scope: place.scope,
            limit: usd(limit),
            spent: usd(place.spent),
            reserved: usd(place.reserved),
            asked,
            resets_at: match place.scope {
                // It would not fit into an empty window either.
                Scope::ServiceDay | Scope::TenantDay | Scope::TenantMonth if i128::from(asked.nano()) > limit => None,
                scope => self.resets_at(frame, payer.tenant, scope, needed),
            },
        };
        let alert = self.alerts.refused(now, frame, payer, &exhausted);
        Decision::Exhausted(Box::new(exhausted), alert)
    }

    /// When so much of what was spent no longer counts.
    fn resets_at(&self, frame: &Frame, tenant: i64, scope: Scope, needed: i128) -> Option<Timestamp> {
        let account = match scope {
            Scope::ServiceDay => Some(&self.service),
            Scope::TenantDay => self.tenants.get(&tenant),
            Scope::TenantMonth => return Some(frame.month_ends),
            Scope::Key | Scope::Session | Scope::Job => return None,
        };
        frame.day_ends.or_else(|| {
            let spent = &account?.spent;
            spent.frees(frame.day, needed).or_else(|| spent.empties(frame.day))
        })
    }

    /// The call was not made, or cost nothing.
    pub fn release(&mut self, hold: &Hold) {
        self.give_back(hold);
        self.escrows.release(&hold.line, hold.amount);
        self.close(&hold.line.payer);
    }

    fn give_back(&mut self, hold: &Hold) {
        let payer = &hold.line.payer;
        self.holds = self.holds.saturating_sub(1);
        let amount = i128::from(hold.amount.nano());
        self.service.give_back(amount);
        if let Some(account) = self.tenants.get_mut(&payer.tenant) {
            account.give_back(amount);
        }
        for key in TotalKey::of(payer) {
            if let Some(total) = self.totals.get_mut(&key) {
                total.give_back(amount);
            }
        }
    }

    /// Nothing of a call is left to be written.
    fn close(&mut self, payer: &Payer) {
        for key in TotalKey::of(payer) {
            if let Some(total) = self.totals.get_mut(&key) {
                total.open = total.open.saturating_sub(1);
            }
        }
    }

    /// The call was made: what was held becomes what it cost. Into which bucket,
    /// and what is to be told about it.
    pub fn settle(&mut self, now: Timestamp, hold: &Hold, cost: Usd) -> (Bucket, Vec<Alert>) {
        let payer = &hold.line.payer;
        self.give_back(hold);
        self.escrows.settle(&hold.line, hold.amount, cost);
        let bucket = Bucket::of(now).max(hold.line.at);
        self.service.spent.add(bucket, cost.nano());
        if let Some(account) = self.tenants.get_mut(&payer.tenant) {
            account.spent.add(bucket, cost.nano());
        }
        for key in TotalKey::of(payer) {
            if let Some(total) = self.totals.get_mut(&key) {
                total.spent += i128::from(cost.nano());
            }
        }
        let frame = self.calendar.frame(now);
        let standings: Vec<_> = self.places(&frame, payer).into_iter().flatten().map(|p| p.standing()).collect();
        (bucket, self.alerts.settled(now, &frame, payer, &standings))
    }

    /// What a call has cost is on disk.
    pub fn written(&mut self, hold: &Hold, cost: Usd) {
        self.escrows.written(&hold.line, hold.amount, cost);
        self.close(&hold.line.payer);
    }

    /// Drops what is not used and can be read again. Only while no call is under
    /// way and all is written may buckets be forgotten: what is settled later must
    /// not fall into one that is read again.
    pub fn tidy(&mut self, now: Timestamp, all_written: bool) {
        if self.totals.len() > MOST_TOTALS {
            let before = self.totals.len();
            self.totals.retain(|_, total| total.open > 0 || std::mem::take(&mut total.used));
            if self.totals.len() < before {
                self.dropped += 1;
            }
        }
        let frame = self.calendar.frame(now);
        let keep_from = Bucket(frame.day.min(frame.month).0 - SLACK);
        if all_written && self.holds == 0 && keep_from.0 > self.loaded_from.0 + SLACK {
            for account in self.tenants.values_mut().chain([&mut self.service]) {
                account.spent.spent(&frame);
                account.spent.forget_before(keep_from);
            }
            self.loaded_from = keep_from;
        }
    }

    /// Every budget of a payer, in the order in which they are asked.
    fn places(&mut self, frame: &Frame, payer: &Payer) -> [Option<Place>; 6] {
        let nano = |limit: Option<Usd>| limit.map(|limit| i128::from(limit.nano()));
        let account = self.tenants.entry(payer.tenant).or_default();
        let budget = account.budget;
        let (day, month) = account.spent.spent(frame);
        let tenant = |scope, limit, spent| Some(Place { scope, limit: nano(limit), spent, reserved: account.reserved });
        let tenant_day = tenant(Scope::TenantDay, budget.day_usd, day);
        let tenant_month = tenant(Scope::TenantMonth, budget.month_usd, month);
        let service = Place {
            scope: Scope::ServiceDay,
            limit: nano(self.settings.service_day),
            spent: self.service.spent.spent(frame).0,
            reserved: self.service.reserved,
        };
        let total = |key: Option<TotalKey>, scope, limit: Option<Usd>| {
            let (spent, reserved) = self.totals.get(&key?).map_or((0, 0), |total| (total.spent, total.reserved));
            Some(Place { scope, limit: nano(limit), spent, reserved })
        };
        let key_limit = payer.key.as_ref().and_then(|key| self.key_limit(payer.tenant, key));
        let session_limit = budget.session_usd.or(self.settings.session);
        let job_limit = payer.job.and_then(|job| job.cap);
        [
            Some(service),
            tenant_day,
            tenant_month,
            total(TotalKey::key(payer), Scope::Key, key_limit),
            total(TotalKey::session(payer), Scope::Session, session_limit),
            total(TotalKey::job(payer), Scope::Job, job_limit),
        ]
    }

    /// How every budget of a payer stands.
    pub fn standings(&mut self, now: Timestamp, payer: &Payer) -> Vec<Standing> {
        let frame = self.calendar.frame(now);
        let places = self.places(&frame, payer).into_iter().flatten();
        let standings: Vec<Standing> = places.map(|place| place.standing()).collect();
        let with_reset = |standing: Standing| {
            let resets_at = self.resets_at(&frame, payer.tenant, standing.scope, 1);
            Standing { resets_at, ..standing }
        };
        standings.into_iter().map(with_reset).collect()
    }

    /// The least that any budget of a payer has left; `None` where none is limited.
    pub fn left(&mut self, now: Timestamp, payer: &Payer) -> Option<Usd> {
        let frame = self.calendar.frame(now);
        let places = self.places(&frame, payer).into_iter().flatten();
        places.filter_map(|place| place.standing().left()).min()
    }

    /// How the service's day stands.
    pub fn service(&mut self, now: Timestamp) -> Standing {
        let frame = self.calendar.frame(now);
        Standing {
            scope: Scope::ServiceDay,
            limit: self.settings.service_day,
            spent: usd(self.service.spent.spent(&frame).0),
            reserved: usd(self.service.reserved),
            resets_at: self.resets_at(&frame, 0, Scope::ServiceDay, 1),
        }
    }

    /// What is reserved in all.
    pub fn reserved(&self) -> Usd {
        usd(self.service.reserved)
    }

    pub fn on_exhausted(&self, tenant: i64) -> OnExhausted {
        self.budget(tenant).on_exhausted
    }
}

impl Place {
    /// Whether so much more is too much.
    fn has_no(&self, more: i128) -> bool {
        self.limit.is_some_and(|limit| self.spent + self.reserved + more > limit)
    }

    fn standing(&self) -> Standing {
        Standing {
            scope: self.scope,
            limit: self.limit.map(usd),
            spent: usd(self.spent),
            reserved: usd(self.reserved),
            resets_at: None,
        }
    }
}

fn usd(nano: i128) -> Usd {
    Usd::from_nano(i64::try_from(nano).unwrap_or(i64::MAX))
}
