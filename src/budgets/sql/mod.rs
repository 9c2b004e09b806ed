//! Every statement on money that is reserved and spent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod care;
mod limits;
mod report;

pub(super) use care::{Old, alerts, clear_tenant, forget, has_old, insert_alert, newest_alerts};
pub(super) use limits::{
    key_budget, key_budgets, pass_on_key_budget, set_key_budget, set_tenant_budget, tenant_budget, tenant_budgets,
};
pub(super) use report::{Group, Reported, report};

use crate::budgets::account::TotalKey;
use crate::budgets::escrow::{Line, Rise};
use crate::budgets::ledger::Hold;
use crate::budgets::settle::{Batch, Call, Flag, Settlement};
use crate::budgets::types::{JobPayer, Payer, Tokens};
use crate::budgets::window::Bucket;
use crate::clock::Timestamp;
use crate::db::{Error, RowError, Tx, params};
use crate::limits::Day;
use crate::money::Usd;

/// The tenant whose buckets are those of the service as a whole.
const SERVICE: i64 = -1;

/// The greatest row number of a call.
pub(super) fn last_no(tx: &Tx<'_>) -> Result<i64, Error> {
    let sql = "SELECT max(coalesce((SELECT max(no) FROM model_calls), 0),
                   coalesce((SELECT max(no) FROM model_reservations), 0))";
    Ok(tx.one(sql, [], |row| row.get(0))?.unwrap_or(0))
}

/// Puts more aside for a line, in the row that it has or in a new one.
pub(super) fn rise(tx: &Tx<'_>, rise: &Rise) -> Result<(), Error> {
    let Line { payer, model, provider, purpose, .. } = &*rise.line;
    tx.execute(
        "INSERT INTO model_reservations (no, tenant_no, key_id, session, job_no, model, provider, purpose, amount,
             created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (no) DO UPDATE SET amount = amount + excluded.amount",
        params![
            rise.no,
            payer.tenant,
            payer.key.as_deref(),
            payer.session.as_deref(),
            payer.job.map(|job| job.no),
            &**model,
            &**provider,
            &**purpose,
            rise.by,
            rise.at.micros(),
        ],
    )?;
    Ok(())
}

/// Takes from what is put aside for a line.
fn fall(tx: &Tx<'_>, no: i64, by: i64) -> Result<(), Error> {
    let delete = "DELETE FROM model_reservations WHERE no = ?1 AND amount <= ?2";
    if by > 0 && tx.execute(delete, [no, by])? == 0 {
        tx.execute("UPDATE model_reservations SET amount = amount - ?2 WHERE no = ?1", [no, by])?;
    }
    Ok(())
}

/// Moves what the version before V0012 has reserved to where it belongs now.
pub(super) fn move_reserved(tx: &Tx<'_>) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO model_reservations (no, tenant_no, key_id, session, job_no, model, provider, purpose, amount,
             created_at)
         SELECT no, tenant_no, key_id, session, job_no, model, provider, purpose, reserved, created_at
         FROM model_calls INDEXED BY model_calls_reserved WHERE state = 'reserved'",
        [],
    )?;
    tx.execute("DELETE FROM model_calls WHERE state = 'reserved'", [])?;
    Ok(())
}

/// Takes all that is put aside, oldest first, each as one call with a number of its own.
pub(super) fn take_put_aside(tx: &Tx<'_>, new_no: impl Fn() -> i64) -> Result<Vec<Call>, Error> {
    let sql = "SELECT tenant_no, key_id, session, job_no, model, provider, purpose, amount, created_at
               FROM model_reservations WHERE amount > 0 ORDER BY no";
    let calls = tx.all(sql, [], |row| {
        let text = |column| Ok::<_, RowError>(row.get::<_, Option<String>>(column)?.map(Arc::from));
        let name = |column| Ok::<_, RowError>(row.get::<_, String>(column)?.into());
        let job = row.get::<_, Option<i64>>(3)?.map(|no| JobPayer { no, cap: None });
        let payer = Payer { tenant: row.get(0)?, key: text(1)?, session: text(2)?, job };
        let created_at = Timestamp::from_micros(row.get(8)?);
        let at = Bucket::of(created_at);
        let line = Line { payer, model: name(4)?, provider: name(5)?, purpose: name(6)?, at };
        let hold = Hold { line: line.into(), amount: Usd::from_nano(row.get(7)?) };
        Ok(Call { no: new_no(), hold, created_at })
    })?;
    tx.execute("DELETE FROM model_reservations", [])?;
    Ok(calls)
}

/// Sums over the settlements of one write.
#[derive(Default)]
struct Sums<'a> {
    buckets: BTreeMap<(i64, i64), i64>,
    totals: BTreeMap<(&'static str, i64, String), i64>,
    days: BTreeMap<DayKey<'a>, DaySum>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct DayKey<'a> {
    tenant: i64,
    day: i64,
    key: &'a str,
    model: &'a str,
    provider: &'a str,
    purpose: &'a str,
}

#[derive(Default)]
struct DaySum {
    calls: i64,
    tokens: [i64; 4],
    nano: i64,
}

fn counts(tokens: Tokens) -> [i64; 4] {
    [tokens.input, tokens.cached, tokens.output, tokens.reasoning].map(|count| i64::try_from(count).unwrap_or(i64::MAX))
}

/// Settles calls, each once: one that is recorded already is left as it is.
pub(super) fn settle(tx: &Tx<'_>, batch: &Batch) -> Result<(), Error> {
    let (mut sums, mut live) = (Sums::default(), BTreeMap::new());
    for settlement in &batch.settlements {
        let tenant = settlement.call.hold.line.payer.tenant;
        let lives = match live.get(&tenant) {
            Some(lives) => *lives,
            None => *live.entry(tenant).or_insert(is_there(tx, tenant)?),
        };
        if !lives || record(tx, settlement)? {
            sums.add(settlement, lives);
        }
    }
    sums.write(tx, batch.settlements.last().map_or(Timestamp::from_micros(0), |last| last.at))?;
    batch.falls.iter().try_for_each(|it| fall(tx, it.no, it.by))
}

fn is_there(tx: &Tx<'_>, tenant: i64) -> Result<bool, Error> {
    let found = tx.one("SELECT 1 FROM tenants WHERE no = ?1 AND status <> 'deleted'", [tenant], |_| Ok(()))?;
    Ok(found.is_some())
}

/// Keeps the record of a call; false where it is there already.
fn record(tx: &Tx<'_>, settlement: &Settlement) -> Result<bool, Error> {
    let Settlement { call, spent, flag, at, .. } = settlement;
    let Line { payer, model, provider, purpose, .. } = &*call.hold.line;
    let [input, cached, output, reasoning] = counts(spent.tokens);
    let inserted = tx.execute(
        "INSERT INTO model_calls (no, tenant_no, key_id, session, job_no, model, provider, purpose, state, reserved,
             cost, input_tokens, cached_tokens, output_tokens, reasoning_tokens, counted_by_provider, flag, created_at,
             settled_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'settled', ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
         ON CONFLICT (no) DO NOTHING",
        params![
            call.no,
            payer.tenant,
            payer.key.as_deref(),
            payer.session.as_deref(),
            payer.job.map(|job| job.no),
            &**model,
            &**provider,
            &**purpose,
            call.hold.amount.nano(),
            spent.cost.nano(),
            input,
            cached,
            output,
            reasoning,
            spent.counted_by_provider,
            flag.map(Flag::name),
            call.created_at.micros(),
            at.micros()
        ],
    )?;
    Ok(inserted > 0)
}

impl<'a> Sums<'a> {
    fn add(&mut self, settlement: &'a Settlement, lives: bool) {
        let (line, spent) = (&*settlement.call.hold.line, &settlement.spent);
        let (payer, nano) = (&line.payer, spent.cost.nano());
        let bucket = settlement.bucket.0;
        *self.buckets.entry((SERVICE, bucket)).or_default() += nano;
        if !lives {
            return;
        }
        *self.buckets.entry((payer.tenant, bucket)).or_default() += nano;
        let job = payer.job.map(|job| TotalKey::Job(payer.tenant, job.no));
        for key in [TotalKey::key(payer), TotalKey::session(payer), job].into_iter().flatten() {
            *self.totals.entry(key.columns()).or_default() += nano;
        }
        let key = DayKey {
            tenant: payer.tenant,
            day: Day::of(settlement.at).0,
            key: payer.key.as_deref().unwrap_or_default(),
            model: &line.model,
            provider: &line.provider,
            purpose: &line.purpose,
        };
        let day = self.days.entry(key).or_default();
        day.calls += 1;
        day.nano += nano;
        for (sum, count) in day.tokens.iter_mut().zip(counts(spent.tokens)) {
            *sum = sum.saturating_add(count);
        }
    }

    fn write(&self, tx: &Tx<'_>, now: Timestamp) -> Result<(), Error> {
        for ((tenant, bucket), nano) in &self.buckets {
            tx.execute(
                "INSERT INTO spend (tenant_no, bucket, nano) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET nano = nano + excluded.nano",
                params![tenant, bucket, nano],
            )?;
        }
        for ((kind, tenant, id), nano) in &self.totals {
            tx.execute(
                "INSERT INTO spend_totals (kind, tenant_no, id, nano, updated_at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET nano = nano + excluded.nano, updated_at = excluded.updated_at",
                params![kind, tenant, id, nano, now.micros()],
            )?;
        }
        for (key, sum) in &self.days {
            let [input, cached, output, reasoning] = sum.tokens;
            tx.execute(
                "INSERT INTO spend_daily (tenant_no, day, key_id, model, provider, purpose, calls, input_tokens,
                     cached_tokens, output_tokens, reasoning_tokens, nano)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
                 ON CONFLICT DO UPDATE SET calls = calls + excluded.calls,
                     input_tokens = input_tokens + excluded.input_tokens,
                     cached_tokens = cached_tokens + excluded.cached_tokens,
                     output_tokens = output_tokens + excluded.output_tokens,
                     reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens, nano = nano + excluded.nano",
                params![
                    key.tenant,
                    key.day,
                    key.key,
                    key.model,
                    key.provider,
                    key.purpose,
                    sum.calls,
                    input,
                    cached,
                    output,
                    reasoning,
                    sum.nano
                ],
            )?;
        }
        Ok(())
    }
}

/// What tenants and the service (`None`) have spent from one bucket up to
/// another.
pub(super) fn history(tx: &Tx<'_>, from: Bucket, to: Bucket) -> Result<Vec<(Option<i64>, Bucket, i64)>, Error> {
    // By tenant, since that is how the rows lie.
    let sql = "SELECT s.tenant_no, s.bucket, s.nano
               FROM (SELECT -1 AS no UNION ALL SELECT no FROM tenants WHERE status <> 'deleted') t
               CROSS JOIN spend s ON s.tenant_no = t.no AND s.bucket >= ?1 AND s.bucket < ?2";
    tx.all(sql, [from.0, to.0], |row| {
        let tenant = Some(row.get(0)?).filter(|no| *no != SERVICE);
        Ok((tenant, Bucket(row.get(1)?), row.get(2)?))
    })
}

/// What was spent of each total, in the order of the keys.
pub(super) fn totals(tx: &Tx<'_>, keys: &[TotalKey]) -> Result<Vec<i64>, Error> {
    let read = |key: &TotalKey| {
        let (kind, tenant, id) = key.columns();
        let sql = "SELECT nano FROM spend_totals WHERE kind = ?1 AND tenant_no = ?2 AND id = ?3";
        Ok(tx.one(sql, params![kind, tenant, id], |row| row.get(0))?.unwrap_or(0))
    };
    keys.iter().map(read).collect()
}

/// What a job has cost so far, over all its attempts.
pub(super) fn cost_of_job(tx: &Tx<'_>, tenant: i64, no: i64) -> Result<Usd, Error> {
    let nano = totals(tx, &[TotalKey::Job(tenant, no)])?;
    Ok(Usd::from_nano(nano.first().copied().unwrap_or(0)))
}

/// The public ids of tenants, by their row numbers.
pub(super) fn tenant_ids(tx: &Tx<'_>, numbers: &BTreeSet<i64>) -> Result<BTreeMap<i64, String>, Error> {
    let mut ids = BTreeMap::new();
    for no in numbers {
        if let Some(id) = tx.one("SELECT id FROM tenants WHERE no = ?1", [no], |row| row.get(0))? {
            ids.insert(*no, id);
        }
    }
    Ok(ids)
}
