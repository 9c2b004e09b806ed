//! What tenants may spend and have spent. Money is reserved in every scope that
//! a call falls into before the call is made, and settled with its cost after
//! it, so that no scope pays more than it may.
//!
//! Memory decides, under one lock; the disk remembers. A call may be made once the
//! disk has put aside what it may cost, and when it is settled its record takes the
//! place of that. What a process leaves put aside is settled in full by the next one.

mod account;
mod alerts;
mod escrow;
mod ledger;
mod limits;
mod metrics;
mod report;
mod reservation;
mod retention;
mod routes;
mod settle;
mod sql;
#[cfg(test)]
mod tests;
mod types;
mod window;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;
use tokio::runtime::Handle;

pub use reservation::Reservation;
pub use routes::{routes, session_name, session_of};
pub use types::{
    Alert, Exhausted, JobPayer, OnExhausted, Payer, Planned, Refused, Scope, Spent, Standing, TenantBudget, Tokens,
};

use crate::clock::{Clock, Timestamp};
use crate::config::BudgetSection;
use crate::db::{self, Db, Tx};
use crate::http::Problem;
use crate::id::{IdSource, row_number};
use crate::money::Usd;
use escrow::Line;
use ledger::{Decision, Ledger, Missing};
use metrics::Metrics;
use reservation::{MOST_A_CALL, Unclaimed};
use settle::{Batch, Call, Flag, Settlement, Settlements};
use window::{Bucket, Calendar};

/// The code of a problem that a budget cannot pay.
pub const EXCEEDED: &str = "budget_exceeded";
/// How long the end of the process waits for the last settlements.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(5);
/// How long a report waits for those that are not on disk yet.
const PATIENCE_OF_A_REPORT: Duration = Duration::from_secs(2);

/// What the ledger is built from.
pub struct Parts {
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// Row numbers of calls.
    pub ids: IdSource,
    /// What may be spent by whom, unless a tenant's budget says otherwise.
    pub settings: BudgetSection,
    /// Where settlements gather.
    pub runtime: Handle,
}

type Listener<T> = OnceLock<Box<dyn Fn(T) + Send + Sync>>;

/// The ledger. Clones share it.
#[derive(Clone)]
pub struct Budgets(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    ids: IdSource,
    runtime: Handle,
    ledger: Mutex<Ledger>,
    settlements: Settlements,
    metrics: Metrics,
    /// Told of each alert, with the job whose call raised it.
    on_alert: Listener<(Alert, Option<JobPayer>)>,
    /// Told when a budget was changed, so that what waits for money looks again.
    on_change: Listener<()>,
}

impl Inner {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is not in memory of what decides over a payer.
    async fn load(&self, missing: Missing) -> Result<(), db::Error> {
        let wanted = missing.clone();
        let read = move |tx: &Tx<'_>| {
            let history = wanted.history.map(|(from, to)| sql::history(tx, from, to)).transpose()?;
            Ok((sql::totals(tx, &wanted.totals)?, history.unwrap_or_default()))
        };
        let (totals, rows) = self.db.read(read).await?;
        let mut ledger = self.ledger();
        if let Some(history) = missing.history {
            ledger.load_history(history, &rows);
        }
        ledger.load_totals(&missing, &totals);
        Ok(())
    }

    /// Tells of budgets that are nearly or wholly spent.
    fn alert(&self, alerts: Vec<Alert>, job: Option<JobPayer>) {
        for alert in alerts {
            self.metrics.alert(alert.scope, alert.percent);
            tracing::warn!(
                scope = alert.scope.name(),
                tenant = alert.tenant,
                key = alert.key.as_deref(),
                limit = %alert.limit,
                spent = %alert.spent,
                "{} % of {} are spent", alert.percent, alert.scope.of_what()
            );
            let row = alert.clone();
            self.db.write_with(
                move |tx| sql::insert_alert(tx, &row),
                |outcome| {
                    if let Err(error) = outcome {
                        tracing::warn!(%error, "an alert of a budget could not be kept");
                    }
                },
            );
            if let Some(told) = self.on_alert.get() {
                told((alert, job));
            }
        }
    }
}

impl Budgets {
    /// The greatest row number of a call, from which ids go on.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn last_no(db: &Db) -> Result<i64, db::Error> {
        db.read(sql::last_no).await
    }

    /// Settles what the last process left reserved, and reads what was spent.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn open(parts: Parts, registry: &prometheus::Registry) -> Result<Self, OpenError> {
        let Parts { db, clock, ids, settings, runtime } = parts;
        let metrics = Metrics::new(registry)?;
        let numbers = ids.clone();
        let recovered = db.write(move |tx| recover(tx, &numbers)).await?;
        if recovered > Usd::ZERO {
            tracing::warn!(usd = %recovered, "what the last process had reserved may have been spent, and is settled in full");
        }
        let frame = Calendar::new(settings.window, settings.zone.clone()).frame(clock.now());
        let from = frame.day.min(frame.month);
        let mut ledger = Ledger::new(settings, from);
        let read = move |tx: &Tx<'_>| {
            Ok((sql::history(tx, from, Bucket(i64::MAX))?, limits::read_all(tx)?, sql::newest_alerts(tx)?))
        };
        let (spent, limits, alerts) = db.read(read).await?;
        for (tenant, bucket, nano) in spent {
            ledger.load_bucket(tenant, bucket, nano);
        }
        limits.put_into(&mut ledger);
        for alert in &alerts {
            ledger.remember_alert(alert);
        }
        Ok(Self(Arc::new(Inner {
            db,
            clock,
            ids,
            runtime,
            ledger: Mutex::new(ledger),
            settlements: Settlements::default(),
            metrics,
            on_alert: OnceLock::new(),
            on_change: OnceLock::new(),
        })))
    }

    /// Who is told of each alert, with the job whose call raised it. Set once, by `app`.
    pub fn on_alert(&self, told: impl Fn((Alert, Option<JobPayer>)) + Send + Sync + 'static) {
        let _ = self.0.on_alert.set(Box::new(told));
    }

    /// Who is told when a budget was changed. Set once, by `app`.
    pub fn on_change(&self, told: impl Fn(()) + Send + Sync + 'static) {
        let _ = self.0.on_change.set(Box::new(told));
    }

    /// Sets what counts from now on.
    pub fn configure(&self, settings: BudgetSection) {
        self.0.ledger().set_settings(settings);
        self.0.changed();
    }

    /// Reserves money in every scope of the payer, or in none. When this
    /// returns it is put aside on disk. What costs nothing is never refused.
    ///
    /// # Errors
    /// The first budget that cannot pay, or that nothing could be written.
    pub async fn reserve(&self, payer: &Payer, planned: Planned) -> Result<Reservation, Refused> {
        let inner = &self.0;
        if inner.settlements.is_full() {
            return Err(db::Error::Overloaded.into());
        }
        let Planned { model, provider, purpose, amount } = planned;
        let amount = amount.clamp(Usd::ZERO, MOST_A_CALL);
        let purpose: Arc<str> = purpose.into();
        let (hold, is_covered, now) = loop {
            let now = inner.clock.now();
            let [model, provider, purpose] = [&model, &provider, &purpose].map(Arc::clone);
            let line = Line { payer: payer.clone(), model, provider, purpose, at: Bucket::of(now) };
            let decision = {
                let mut ledger = inner.ledger();
                let decision = ledger.reserve(now, line, amount);
                inner.metrics.reserved(&ledger);
                decision
            };
            match decision {
                Decision::Held { hold, is_covered } => break (hold, is_covered, now),
                Decision::Missing(missing) => inner.load(missing).await?,
                Decision::Exhausted(exhausted, alert) => {
                    inner.metrics.refused(exhausted.scope);
                    inner.alert(alert.into_iter().collect(), payer.job);
                    return Err(Refused::Exhausted(exhausted));
                }
            }
        };
        let call = Call { no: row_number(inner.ids.next()), hold, created_at: now };
        let reservation = Reservation::new(inner.clone(), call);
        if is_covered {
            inner.metrics.put_aside(false);
            return Ok(reservation);
        }
        inner.put_aside(Unclaimed::new(reservation)).await
    }

    /// The least that any scope of the payer has left; `None` where nothing is
    /// limited. Of a key, session or job that has reserved nothing since the
    /// start it is not known what it has spent before.
    #[must_use]
    pub fn left(&self, payer: &Payer) -> Option<Usd> {
        self.0.ledger().left(self.0.clock.now(), payer)
    }

    /// What happens to a tenant's calls that its budget cannot pay.
    #[must_use]
    pub fn on_exhausted(&self, tenant: i64) -> OnExhausted {
        self.0.ledger().on_exhausted(tenant)
    }

    /// How every budget of a payer stands.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn standings(&self, payer: &Payer) -> Result<Vec<Standing>, db::Error> {
        let inner = &self.0;
        loop {
            let now = inner.clock.now();
            let missing = inner.ledger().missing(now, payer);
            match missing {
                Some(missing) => inner.load(missing).await?,
                None => return Ok(inner.ledger().standings(now, payer)),
            }
        }
    }

    /// What a client is told whose call was refused.
    #[must_use]
    pub fn problem(&self, refused: Refused) -> Problem {
        let exhausted = match refused {
            Refused::Exhausted(exhausted) => exhausted,
            Refused::Database(error) => return error.into(),
        };
        let status = self.0.ledger().settings().exhausted_status;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::PAYMENT_REQUIRED);
        let hint = match exhausted.scope {
            Scope::Session => "begin another session, or ask the administrator to raise the limit",
            Scope::Job => "submit the job with a higher budget_usd",
            _ if exhausted.resets_at.is_some() => "try again then, ask for less, or ask the administrator for more",
            _ => "ask for less, such as a shorter answer, or ask the administrator to raise the limit",
        };
        let problem = Problem::new(status, EXCEEDED, exhausted.to_string()).with_hint(hint).do_not_retry();
        match exhausted.resets_at {
            Some(at) => problem.with_retry_after(at.since(self.0.clock.now()).as_secs().saturating_add(1)),
            None => problem,
        }
    }

    /// What a job has cost so far, over all its attempts.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn cost_of_job(tx: &Tx<'_>, tenant: i64, no: i64) -> Result<Usd, db::Error> {
        sql::cost_of_job(tx, tenant, no)
    }

    /// Hands what was settled so far to the database's writer, so that it comes
    /// to disk before anything that is written after this call.
    pub fn write_settled(&self) {
        self.0.write_waiting();
    }

    /// Waits until what was settled so far is on disk.
    pub async fn flush(&self) {
        self.0.flush(PATIENCE_OF_A_REPORT).await;
    }

    /// Writes the last settlements. What cannot be written is settled in full at
    /// the next start.
    pub async fn close(&self) {
        if !self.0.settle_up(PATIENCE_AT_THE_END).await {
            let waiting = self.0.settlements.waiting();
            tracing::error!(waiting, "settlements could not be written; the next start settles these calls in full");
        }
    }
}

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { scope, limit, spent, reserved, asked, resets_at } = self;
        write!(
            f,
            "{} ({}) cannot pay: limit {limit} USD, spent {spent}, reserved {reserved}, and the call could have cost \
             {asked}",
            scope.of_what(),
            scope.name()
        )?;
        match resets_at {
            Some(at) => write!(f, "; resets_at {at}"),
            None => f.write_str("; it does not reset by itself"),
        }
    }
}

/// Why the ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database cannot be used.
    #[error("the budgets could not be read: {0}")]
    Database(#[from] db::Error),
    /// The metrics could not be registered: a fault of ours.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Settles in full what another process has put aside: the calls may have been
/// made. How much that was.
fn recover(tx: &Tx<'_>, ids: &IdSource) -> Result<Usd, db::Error> {
    sql::move_reserved(tx)?;
    let in_full = |call: Call| {
        let (at, bucket): (Timestamp, Bucket) = (call.created_at, call.hold.line.at);
        Settlement::in_full(call, Flag::Recovered, at, bucket)
    };
    let left = sql::take_put_aside(tx, || row_number(ids.next()))?;
    let sum = left.iter().fold(Usd::ZERO, |sum, call| sum.plus(call.hold.amount));
    let settlements = left.into_iter().map(in_full).collect();
    sql::settle(tx, &Batch { settlements, falls: Vec::new() })?;
    Ok(sum)
}
