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

use super::types::Payer;
use super::window::Bucket;
use crate::clock::Timestamp;
use crate::money::Usd;

/// Calls that are told apart in the record of what was spent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Line {
    pub payer: Payer,
    pub model: Arc<str>,
    pub provider: Arc<str>,
    pub purpose: Arc<str>,
}

/// More to be put aside in a line's row.
#[derive(Clone, Debug)]
pub(super) struct Rise {
    pub line: Arc<Line>,
    /// The row's number.
    pub no: i64,
    /// In nano-USD. Nothing, where the row is only to count from another moment on.
    pub by: i64,
    /// When it is settled, should the process be killed.
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
    /// Nothing should be left after it.
    pub is_last: bool,
}

/// Which rows are to hold no more than their calls do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Tenant(i64),
    All,
}

/// One row, in nano-USD.
#[derive(Debug, Default)]
struct Escrow {
    /// Once it was written first.
    no: Option<i64>,
    bucket: Option<Bucket>,
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
    /// Of that, what is being settled.
    leaving: i128,
    /// The most that was open in this period and in the one before.
    peaks: [i128; 2],
}

impl Escrow {
    /// What there is for further calls, whichever writes succeed. No rise is more
    /// than its own call holds, so those that fail take nothing from others.
    fn room(&self) -> i128 {
        self.on_disk + self.rising - self.risked - self.open
    }

    /// What there is when every write under way has succeeded.
    fn expected(&self) -> i128 {
        self.on_disk + self.rising - self.falling
    }

    /// What the disk may have put aside and memory has not.
    fn excess(&self) -> i128 {
        self.on_disk + self.rising - self.open
    }

    fn is_gone(&self) -> bool {
        [self.on_disk, self.rising, self.falling, self.open, self.leaving].iter().all(|nano| *nano == 0)
    }

    /// What a fall takes: that of the calls that are settled, and of the rest what
    /// is more than was lately needed at once.
    fn fall(&mut self, line: &Arc<Line>, settled: i128, is_exact: bool) -> Option<Fall> {
        let no = self.no?;
        // Who has called once only may never do so again.
        let needed = if is_exact || self.calls < 2 { 0 } else { self.peaks[0].max(self.peaks[1]) };
        let most = if settled > 0 { settled } else { self.room().max(0) };
        let by = (self.expected() - needed).clamp(0, most);
        if by == 0 && settled == 0 {
            return None;
        }
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        let is_last = self.expected() == i128::from(by);
        self.falling += i128::from(by);
        self.risked += (i128::from(by) - settled).max(0);
        self.leaving += settled;
        Some(Fall { line: line.clone(), no, by, settled, is_last })
    }
}

/// Those of a tenant.
#[derive(Debug, Default)]
struct Escrows {
    lines: HashMap<Arc<Line>, Escrow>,
    /// What the disk may have spent or put aside and memory has not.
    excess: i128,
    /// What writes under way settle without taking it from its row.
    kept: i128,
    /// A budget is so nearly used up that nothing stays in rows.
    is_tight: bool,
}

/// Those of all tenants.
#[derive(Debug, Default)]
pub(super) struct AllEscrows {
    tenants: HashMap<i64, Escrows>,
    excess: i128,
    kept: i128,
    is_tight: bool,
}

impl AllEscrows {
    /// Changes a line's row in memory.
    fn change<T>(&mut self, line: &Arc<Line>, change: impl FnOnce(&mut Escrow) -> T) -> T {
        let tenant = self.tenants.entry(line.payer.tenant).or_default();
        let escrow = tenant.lines.entry(line.clone()).or_default();
        let before = escrow.excess();
        let outcome = change(escrow);
        let more = escrow.excess() - before;
        if escrow.is_gone() {
            tenant.lines.remove(line);
        }
        tenant.excess += more;
        self.excess += more;
        if tenant.lines.is_empty() {
            self.tenants.remove(&line.payer.tenant);
        }
        outcome
    }

    /// Holds an amount for a call; whether what is on disk covers it.
    pub fn hold(&mut self, line: Line, amount: Usd, bucket: Bucket) -> (Arc<Line>, bool) {
        let lines = self.tenants.get(&line.payer.tenant).map(|tenant| &tenant.lines);
        let known = lines.and_then(|lines| lines.get_key_value(&line)).map(|(line, _)| line.clone());
        let line = known.unwrap_or_else(|| Arc::new(line));
        if amount == Usd::ZERO {
            return (line, true);
        }
        let covered = self.change(&line, |escrow| {
            escrow.calls += 1;
            escrow.open += i128::from(amount.nano());
            escrow.peaks[0] = escrow.peaks[0].max(escrow.open);
            escrow.bucket == Some(bucket) && escrow.room() >= 0
        });
        (line, covered)
    }

    /// The call was not made.
    pub fn release(&mut self, line: &Arc<Line>, amount: Usd) {
        if amount > Usd::ZERO {
            self.change(line, |escrow| escrow.open -= i128::from(amount.nano()));
        }
    }

    /// The call has cost something; its row holds the amount until that is written.
    pub fn settle(&mut self, line: &Arc<Line>, amount: Usd, cost: Usd) {
        self.owe(line, amount, i128::from(amount.nano()) - i128::from(cost.nano()));
    }

    fn owe(&mut self, line: &Line, amount: Usd, nano: i128) {
        let tenant = self.tenants.get_mut(&line.payer.tenant);
        if let Some(tenant) = tenant.filter(|_| amount > Usd::ZERO) {
            tenant.excess += nano;
            self.excess += nano;
        }
    }

    /// What must be put aside before a call may be made that holds an amount;
    /// `None` when it is covered by now.
    pub fn lacks(&self, line: &Arc<Line>, amount: Usd, bucket: Bucket) -> Option<i64> {
        let escrow = self.tenants.get(&line.payer.tenant)?.lines.get(line)?;
        let lacks = (-escrow.room()).clamp(0, i128::from(amount.nano()));
        let is_covered = lacks == 0 && escrow.bucket == Some(bucket);
        (!is_covered).then(|| i64::try_from(lacks).unwrap_or(i64::MAX))
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
                escrow.bucket = Some(Bucket::of(rise.at));
            }
        });
    }

    /// What goes from a row with calls that are being settled; with `is_tight` all
    /// that they have held.
    pub fn fall(&mut self, line: &Arc<Line>, settled: i128, is_tight: bool) -> Option<Fall> {
        let tenant = self.tenants.get(&line.payer.tenant);
        let is_tight = is_tight || self.is_tight || tenant.is_some_and(|tenant| tenant.is_tight);
        let fall = self.change(line, |escrow| escrow.fall(line, settled, is_tight))?;
        self.keep(&fall, 1);
        Some(fall)
    }

    /// What was not needed for two periods, of which this ends one.
    pub fn fall_idle(&mut self) -> Vec<Fall> {
        self.is_tight = false;
        let mut falls = Vec::new();
        for tenant in self.tenants.values_mut() {
            tenant.is_tight = false;
            for (line, escrow) in &mut tenant.lines {
                escrow.peaks = [escrow.open, escrow.peaks[0]];
                falls.extend(escrow.fall(line, 0, false));
            }
        }
        falls
    }

    /// All that no call holds, also of what is settled in this period.
    pub fn tighten(&mut self, reach: Reach) -> Vec<Fall> {
        let mut falls = Vec::new();
        let tighten = |tenant: &mut Escrows| {
            tenant.is_tight = true;
            falls.extend(tenant.lines.iter_mut().filter_map(|(line, escrow)| escrow.fall(line, 0, true)));
        };
        match reach {
            Reach::All => {
                self.is_tight = true;
                self.tenants.values_mut().for_each(tighten);
            }
            Reach::Tenant(no) => {
                self.tenants.get_mut(&no).into_iter().for_each(tighten);
            }
        }
        falls
    }

    /// A fall is on disk, or could not be written.
    pub fn fallen(&mut self, fall: &Fall, is_written: bool) {
        self.keep(fall, -1);
        self.change(&fall.line, |escrow| {
            escrow.falling -= i128::from(fall.by);
            escrow.risked -= (i128::from(fall.by) - fall.settled).max(0);
            escrow.leaving -= fall.settled;
            if is_written {
                escrow.on_disk -= i128::from(fall.by);
                escrow.open -= fall.settled;
            }
        });
    }

    fn keep(&mut self, fall: &Fall, sign: i128) {
        let kept = (fall.settled - i128::from(fall.by)).max(0) * sign;
        self.kept += kept;
        if let Some(tenant) = self.tenants.get_mut(&fall.line.payer.tenant) {
            tenant.kept += kept;
        }
    }

    /// What a call has held and cost is on disk. To be told before its fall is.
    pub fn written(&mut self, line: &Arc<Line>, amount: Usd, cost: Usd) {
        self.owe(line, amount, i128::from(cost.nano()) - i128::from(amount.nano()));
    }

    /// What the disk may come to have spent and put aside beyond what memory has:
    /// of all, or of a tenant.
    pub fn excess(&self, reach: Reach) -> i128 {
        match reach {
            Reach::All => self.excess + self.kept,
            Reach::Tenant(no) => self.tenants.get(&no).map_or(0, |tenant| tenant.excess + tenant.kept),
        }
    }

    /// Whether a write under way leaves something in a row that can only be taken
    /// from it after that.
    pub fn is_keeping(&self, reach: Reach) -> bool {
        match reach {
            Reach::All => self.kept > 0,
            Reach::Tenant(no) => self.tenants.get(&no).is_some_and(|tenant| tenant.kept > 0),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }
}
