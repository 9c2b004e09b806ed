//! What the disk has put aside for calls under way. Calls of the same [`Line`]
//! share one row, whose amount is never less than what they hold together. A
//! call that fits into what is there already waits for no write; what calls give
//! back stays in the row for the next ones, for a moment.
//!
//! Writes are handed over in one order and may fail one by one. So what counts
//! for a call is what the row holds at least, and for a budget what it holds at
//! most, whichever of the writes under way succeed.

use std::collections::HashMap;
use std::sync::Arc;

use super::account::TotalKey;
use super::types::Payer;
use super::window::Bucket;
use crate::clock::Timestamp;
use crate::money::Usd;

/// For how many periods nothing stays in rows once a budget was nearly used up.
const TIGHT: u8 = 8;

/// Calls that are told apart in the record of what was spent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Line {
    pub payer: Payer,
    pub model: Arc<str>,
    pub provider: Arc<str>,
    pub purpose: Arc<str>,
    /// When they were reserved: they are never settled into an earlier bucket.
    pub at: Bucket,
}

/// More to be put aside in a line's row.
#[derive(Clone, Debug)]
pub(super) struct Rise {
    pub line: Arc<Line>,
    /// The row's number.
    pub no: i64,
    /// In nano-USD.
    pub by: i64,
    /// In the line's bucket.
    pub at: Timestamp,
}

/// Less to be kept in a line's row.
#[derive(Clone, Debug)]
pub(super) struct Fall {
    pub line: Arc<Line>,
    pub no: i64,
    /// In nano-USD.
    pub by: i64,
    /// What the calls have held that are settled by the same write.
    pub settled: i128,
}

/// Whose budget it is: the service's, a tenant's, or that of a key, session or job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BudgetOf {
    Service,
    Tenant(i64),
    Total(TotalKey),
}

/// One row, in nano-USD.
#[derive(Debug, Default)]
struct Escrow {
    /// Since it was first handed to the writer.
    no: Option<i64>,
    /// Calls that it was asked to cover.
    calls: u64,
    /// By the writes that have succeeded.
    on_disk: i128,
    /// By those under way.
    rising: i128,
    falling: i128,
    /// Of what is falling, that for which no settled call makes up.
    risked: i128,
    /// What calls hold whose last word is not on disk.
    open: i128,
    /// The most that was open in this period and in the one before.
    peaks: [i128; 2],
}

/// What concerns a budget, in nano-USD.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    /// What the disk may have spent or put aside and memory has not.
    excess: i128,
    /// What rows have that no call holds.
    in_vain: i128,
    /// What writes under way settle without taking it from its row.
    kept: i128,
    /// Periods for which nothing stays in rows.
    tight: u8,
}

/// The rows of a tenant.
#[derive(Debug, Default)]
struct Escrows {
    lines: HashMap<Arc<Line>, Escrow>,
    sum: Sum,
    totals: HashMap<TotalKey, Sum>,
}

/// The rows of all tenants.
#[derive(Debug, Default)]
pub(super) struct AllEscrows {
    tenants: HashMap<i64, Escrows>,
    sum: Sum,
}

impl Escrow {
    /// What there is for further calls, whichever writes succeed. No rise is more
    /// than its own call holds, so those that fail take nothing from others.
    fn room(&self) -> i128 {
        self.on_disk + self.rising - self.risked - self.open
    }

    fn sum(&self) -> Sum {
        let excess = self.on_disk + self.rising - self.open;
        Sum { excess, in_vain: self.room().max(0), ..Sum::default() }
    }

    fn is_gone(&self) -> bool {
        [self.on_disk, self.rising, self.falling, self.open].iter().all(|nano| *nano == 0)
    }

    /// What a fall takes: that of the calls that are settled, and of the rest what
    /// is more than was lately needed at once.
    fn fall(&mut self, line: &Arc<Line>, settled: i128, is_exact: bool) -> Option<Fall> {
        let no = self.no?;
        // Who has called once only may never do so again.
        let needed = if is_exact || self.calls < 2 { 0 } else { self.peaks[0].max(self.peaks[1]) };
        let most = if settled > 0 { settled } else { self.room().max(0) };
        let by = (self.on_disk + self.rising - self.falling - needed).clamp(0, most);
        if by == 0 && settled == 0 {
            return None;
        }
        self.falling += by;
        self.risked += (by - settled).max(0);
        Some(Fall { line: line.clone(), no, by: i64::try_from(by).unwrap_or(i64::MAX), settled })
    }

    fn fallen(&mut self, fall: &Fall, is_written: bool) {
        let by = i128::from(fall.by);
        self.falling -= by;
        self.risked -= (by - fall.settled).max(0);
        if is_written {
            self.on_disk -= by;
            self.open -= fall.settled;
        }
    }
}

impl Sum {
    fn add(&mut self, more: Self) {
        self.excess += more.excess;
        self.in_vain += more.in_vain;
        self.kept += more.kept;
    }

    fn minus(self, other: Self) -> Self {
        let (excess, in_vain) = (self.excess - other.excess, self.in_vain - other.in_vain);
        Self { excess, in_vain, kept: self.kept - other.kept, tight: 0 }
    }

    fn is_nothing(&self) -> bool {
        [self.excess, self.in_vain, self.kept].iter().all(|nano| *nano == 0) && self.tight == 0
    }
}

impl Escrows {
    fn add(&mut self, payer: &Payer, more: Sum) {
        self.sum.add(more);
        for key in TotalKey::of(payer) {
            let total = self.totals.entry(key).or_default();
            total.add(more);
        }
    }

    fn is_tight(&self, payer: &Payer) -> bool {
        let is_tight = |key| self.totals.get(&key).is_some_and(|total| total.tight > 0);
        self.sum.tight > 0 || TotalKey::of(payer).any(is_tight)
    }

    /// What can go from the rows besides what is settled. Which sums change by that.
    fn lower(&mut self, is_meant: impl Fn(&Line) -> bool, is_exact: bool) -> (Vec<Fall>, Sum) {
        let (mut falls, mut all) = (Vec::new(), Sum::default());
        let Self { lines, sum, totals } = self;
        for (line, escrow) in lines.iter_mut().filter(|(line, _)| is_meant(line)) {
            let before = escrow.sum();
            let Some(fall) = escrow.fall(line, 0, is_exact) else { continue };
            let more = escrow.sum().minus(before);
            sum.add(more);
            all.add(more);
            TotalKey::of(&line.payer).for_each(|key| totals.entry(key).or_default().add(more));
            falls.push(fall);
        }
        (falls, all)
    }
}

impl AllEscrows {
    /// Changes a line's row in memory.
    fn change<T>(&mut self, line: &Arc<Line>, change: impl FnOnce(&mut Escrow) -> T) -> T {
        let tenant = self.tenants.entry(line.payer.tenant).or_default();
        let escrow = tenant.lines.entry(line.clone()).or_default();
        let before = escrow.sum();
        let outcome = change(escrow);
        let more = escrow.sum().minus(before);
        if escrow.is_gone() {
            tenant.lines.remove(line);
        }
        tenant.add(&line.payer, more);
        self.sum.add(more);
        if tenant.lines.is_empty() {
            self.tenants.remove(&line.payer.tenant);
        }
        outcome
    }

    /// Holds an amount for a call; whether what is on disk covers it.
    pub fn hold(&mut self, line: Line, amount: Usd) -> (Arc<Line>, bool) {
        let lines = self.tenants.get(&line.payer.tenant).map(|tenant| &tenant.lines);
        let known = lines.and_then(|lines| lines.get_key_value(&line)).map(|(line, _)| line.clone());
        let line = known.unwrap_or_else(|| Arc::new(line));
        if amount == Usd::ZERO {
            return (line, true);
        }
        let is_covered = self.change(&line, |escrow| {
            escrow.calls += 1;
            escrow.open += i128::from(amount.nano());
            escrow.peaks[0] = escrow.peaks[0].max(escrow.open);
            escrow.room() >= 0
        });
        (line, is_covered)
    }

    /// The call was not made.
    pub fn release(&mut self, line: &Arc<Line>, amount: Usd) {
        if amount > Usd::ZERO {
            self.change(line, |escrow| escrow.open -= i128::from(amount.nano()));
        }
    }

    /// The call has cost something; its row holds the amount until that is written.
    pub fn settle(&mut self, line: &Line, amount: Usd, cost: Usd) {
        self.owe(line, amount, amount.minus(cost.min(amount)).nano());
    }

    /// What a call has held and cost is on disk. To be told before its fall is.
    pub fn written(&mut self, line: &Line, amount: Usd, cost: Usd) {
        self.owe(line, amount, -amount.minus(cost.min(amount)).nano());
    }

    fn owe(&mut self, line: &Line, amount: Usd, nano: i64) {
        let tenant = self.tenants.get_mut(&line.payer.tenant);
        if let Some(tenant) = tenant.filter(|_| amount > Usd::ZERO) {
            let more = Sum { excess: i128::from(nano), ..Sum::default() };
            tenant.add(&line.payer, more);
            self.sum.add(more);
        }
    }

    /// What must be put aside before a call may be made that holds an amount;
    /// `None` when it is covered by now.
    pub fn lacks(&self, line: &Arc<Line>, amount: Usd) -> Option<i64> {
        let escrow = self.tenants.get(&line.payer.tenant)?.lines.get(line)?;
        let lacks = (-escrow.room()).clamp(0, i128::from(amount.nano()));
        i64::try_from(lacks).ok().filter(|lacks| *lacks > 0)
    }

    /// Hands over what a call [`lacks`](Self::lacks).
    pub fn rise(&mut self, line: &Arc<Line>, by: i64, at: Timestamp, new_no: impl FnOnce() -> i64) -> Rise {
        let no = self.change(line, |escrow| {
            escrow.rising += i128::from(by);
            *escrow.no.get_or_insert_with(new_no)
        });
        Rise { line: line.clone(), no, by, at }
    }

    /// A rise is on disk, or could not be written.
    pub fn risen(&mut self, rise: &Rise, is_written: bool) {
        self.change(&rise.line, |escrow| {
            escrow.rising -= i128::from(rise.by);
            if is_written {
                escrow.on_disk += i128::from(rise.by);
            }
        });
    }

    /// What goes from a row with calls that are being settled; with `is_tight` all
    /// that they have held.
    pub fn fall(&mut self, line: &Arc<Line>, settled: i128, is_tight: bool) -> Option<Fall> {
        let tenant = self.tenants.get(&line.payer.tenant);
        let is_tight = is_tight || self.sum.tight > 0 || tenant.is_some_and(|tenant| tenant.is_tight(&line.payer));
        let fall = self.change(line, |escrow| escrow.fall(line, settled, is_tight))?;
        self.keep(&fall, 1);
        Some(fall)
    }

    /// What was not needed for two periods, of which this ends one.
    pub fn fall_idle(&mut self) -> Vec<Fall> {
        let mut falls = Vec::new();
        self.sum.tight = self.sum.tight.saturating_sub(1);
        for tenant in self.tenants.values_mut() {
            for sum in tenant.totals.values_mut().chain([&mut tenant.sum]) {
                sum.tight = sum.tight.saturating_sub(1);
            }
            tenant.lines.values_mut().for_each(|escrow| escrow.peaks = [escrow.open, escrow.peaks[0]]);
            let (fallen, more) = tenant.lower(|_| true, false);
            falls.extend(fallen);
            self.sum.add(more);
            tenant.totals.retain(|_, total| !total.is_nothing());
        }
        falls
    }

    /// All that no call holds of what a budget pays for. For some periods nothing
    /// stays there of what is settled either.
    pub fn tighten(&mut self, budget: &BudgetOf) -> Vec<Fall> {
        let mut falls = Vec::new();
        let mut tighten = |tenant: &mut Escrows, is_meant: &dyn Fn(&Line) -> bool| {
            let (fallen, more) = tenant.lower(is_meant, true);
            falls.extend(fallen);
            self.sum.add(more);
        };
        match budget {
            BudgetOf::Service => {
                let tenants = self.tenants.values_mut().filter(|tenant| tenant.sum.in_vain > 0);
                tenants.for_each(|tenant| tighten(tenant, &|_| true));
                self.sum.tight = TIGHT;
            }
            BudgetOf::Tenant(no) => {
                if let Some(tenant) = self.tenants.get_mut(no) {
                    tenant.sum.tight = TIGHT;
                    if tenant.sum.in_vain > 0 {
                        tighten(tenant, &|_| true);
                    }
                }
            }
            BudgetOf::Total(key) => {
                if let Some(tenant) = self.tenants.get_mut(&key.tenant()) {
                    let total = tenant.totals.entry(key.clone()).or_default();
                    total.tight = TIGHT;
                    if total.in_vain > 0 {
                        tighten(tenant, &|line| TotalKey::of(&line.payer).any(|it| it == *key));
                    }
                }
            }
        }
        falls
    }

    /// A fall is on disk, or could not be written.
    pub fn fallen(&mut self, fall: &Fall, is_written: bool) {
        self.keep(fall, -1);
        self.change(&fall.line, |escrow| escrow.fallen(fall, is_written));
    }

    fn keep(&mut self, fall: &Fall, sign: i128) {
        let kept = (fall.settled - i128::from(fall.by)).max(0) * sign;
        let more = Sum { kept, ..Sum::default() };
        if let Some(tenant) = self.tenants.get_mut(&fall.line.payer.tenant) {
            tenant.add(&fall.line.payer, more);
            self.sum.add(more);
        }
    }

    fn sum(&self, budget: &BudgetOf) -> Sum {
        let sum = match budget {
            BudgetOf::Service => Some(self.sum),
            BudgetOf::Tenant(no) => self.tenants.get(no).map(|tenant| tenant.sum),
            BudgetOf::Total(key) => self.tenants.get(&key.tenant()).and_then(|tenant| tenant.totals.get(key).copied()),
        };
        sum.unwrap_or_default()
    }

    /// What the disk may come to have spent and put aside beyond what memory has.
    pub fn excess(&self, budget: &BudgetOf) -> i128 {
        let sum = self.sum(budget);
        sum.excess + sum.kept
    }

    /// Whether a write under way leaves something in a row that can only be taken
    /// from it after that.
    pub fn is_keeping(&self, budget: &BudgetOf) -> bool {
        self.sum(budget).kept > 0
    }

    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }
}
