//! Which alerts there have been: one for each budget, share and window.

use std::collections::HashMap;
use std::sync::Arc;

use super::types::{Alert, Exhausted, Payer, Scope, Standing};
use super::window::{Bucket, Frame};
use crate::clock::Timestamp;
use crate::money::Usd;

/// Shares of a budget, in percent, that raise an alert.
pub(super) const PERCENTS: [u8; 2] = [80, 100];

/// Which budget: whose, and of which key.
type Which = (Scope, Option<i64>, Option<Arc<str>>);

/// When each share of each budget was last told.
#[derive(Debug, Default)]
pub(super) struct Alerts(HashMap<Which, [Option<Bucket>; 2]>);

impl Alerts {
    /// What is to be told after a settlement.
    pub fn settled(&mut self, now: Timestamp, frame: &Frame, payer: &Payer, standings: &[Standing]) -> Vec<Alert> {
        let reached = |standing: &Standing| {
            let limit = standing.limit.filter(|limit| *limit > Usd::ZERO)?;
            let (spent, limit) = (i128::from(standing.spent.nano()), i128::from(limit.nano()));
            let place = PERCENTS.iter().rposition(|percent| spent * 100 >= limit * i128::from(*percent))?;
            Some((place, standing.scope, standing.limit?, standing.spent))
        };
        let reached: Vec<_> = standings.iter().filter_map(reached).collect();
        let told = reached
            .into_iter()
            .filter_map(|(place, scope, limit, spent)| self.tell(now, frame, payer, scope, place, (limit, spent)));
        told.collect()
    }

    /// A budget that refuses a call after most of it was spent is as good as
    /// exhausted, though what is left may never be spent to the last cent.
    pub fn refused(&mut self, now: Timestamp, frame: &Frame, payer: &Payer, it: &Exhausted) -> Option<Alert> {
        let most = i128::from(it.spent.nano()) * 100 >= i128::from(it.limit.nano()) * i128::from(PERCENTS[0]);
        if !most || it.limit <= Usd::ZERO {
            return None;
        }
        self.tell(now, frame, payer, it.scope, PERCENTS.len() - 1, (it.limit, it.spent))
    }

    /// Once in a window; a larger share tells of the smaller ones too.
    fn tell(
        &mut self,
        now: Timestamp,
        frame: &Frame,
        payer: &Payer,
        scope: Scope,
        place: usize,
        (limit, spent): (Usd, Usd),
    ) -> Option<Alert> {
        let (tenant, key) = match scope {
            Scope::ServiceDay => (None, None),
            Scope::TenantDay | Scope::TenantMonth => (Some(payer.tenant), None),
            Scope::Key => (Some(payer.tenant), payer.key.clone()),
            // They are many and end; whoever owns them sees the refusal.
            Scope::Session | Scope::Job => return None,
        };
        let from = match scope {
            Scope::ServiceDay | Scope::TenantDay => frame.day,
            Scope::TenantMonth => frame.month,
            Scope::Key | Scope::Session | Scope::Job => Bucket::FIRST,
        };
        let known = self.0.entry((scope, tenant, key.clone())).or_default();
        if known[place].is_some_and(|told| told >= from) {
            return None;
        }
        for told in &mut known[..=place] {
            *told = Some(Bucket::of(now));
        }
        Some(Alert { scope, tenant, key, percent: PERCENTS[place], limit, spent, at: now })
    }

    /// An alert of an earlier process.
    pub fn remember(&mut self, alert: &Alert) {
        let known = self.0.entry((alert.scope, alert.tenant, alert.key.clone())).or_default();
        let place = PERCENTS.iter().position(|percent| *percent == alert.percent).unwrap_or(0);
        for told in &mut known[..=place] {
            *told = (*told).max(Some(Bucket::of(alert.at)));
        }
    }

    /// Another limit is told of anew.
    pub fn forget(&mut self, scope: Scope, tenant: Option<i64>, key: Option<&Arc<str>>) {
        self.0.remove(&(scope, tenant, key.cloned()));
    }

    pub fn forget_tenant(&mut self, tenant: i64) {
        self.0.retain(|(_, no, _), _| *no != Some(tenant));
    }
}
