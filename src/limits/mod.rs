//! What each tenant may use and has used: requests in a minute, jobs in the
//! queue and in a day, usage by day. In memory and known by the tenant's row
//! number; only usage is written, and only every few seconds.

mod quota;
mod sql;
mod tenant;
mod usage;
mod window;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use actix_web::http::StatusCode;
use tokio::sync::RwLock as AsyncRwLock;

pub use quota::Quota;
pub use tenant::{Admission, KeyRequests, TenantLimits};
pub use usage::{Day, Usage};

use crate::clock::Timestamp;
use crate::db::{self, Db, Tx};
use crate::http::{Problem, Rate};
use crate::id::first_row_number;

/// More than any limit can be.
const NO_LIMIT: u64 = u64::MAX;

/// The limits of all tenants. One per process, behind an `Arc`.
pub struct Limits {
    /// Requests in a minute for each key; [`NO_LIMIT`] where nothing is limited by rate.
    for_each_key: AtomicU64,
    tenants: RwLock<HashMap<i64, Arc<TenantLimits>>>,
    /// Held while usage is written, so that nobody sees it half written.
    writing: AsyncRwLock<()>,
}

impl Limits {
    /// Limits where each key may send so many requests in a minute; `None`
    /// switches the limits by rate off, those of tenants too.
    #[must_use]
    pub fn new(for_each_key: Option<u32>) -> Self {
        let limits = Self {
            for_each_key: AtomicU64::new(NO_LIMIT),
            tenants: RwLock::default(),
            writing: AsyncRwLock::default(),
        };
        limits.set_for_each_key(for_each_key);
        limits
    }

    /// Sets how many requests each key may send in a minute; `None` switches the
    /// limits by rate off.
    pub fn set_for_each_key(&self, requests: Option<u32>) {
        self.for_each_key.store(requests.map_or(NO_LIMIT, u64::from), Ordering::Relaxed);
    }

    /// A tenant's limits.
    #[must_use]
    pub fn of(&self, tenant: i64) -> Arc<TenantLimits> {
        let known = self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(&tenant).cloned();
        known.unwrap_or_else(|| {
            let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
            tenants.entry(tenant).or_default().clone()
        })
    }

    /// What a tenant may use.
    #[must_use]
    pub fn quota(&self, tenant: i64) -> Quota {
        self.of(tenant).quota()
    }

    /// What the tenants may use that are known here.
    #[must_use]
    pub fn quotas(&self) -> Vec<(i64, Quota)> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.iter().map(|(no, tenant)| (*no, tenant.quota())).collect()
    }

    /// Sets what a tenant may use, with the jobs it has submitted on that day.
    pub fn set_quota(&self, tenant: i64, quota: Quota, day: Day, jobs_today: u32) {
        self.of(tenant).set_quota(quota, day, jobs_today);
    }

    /// Forgets a deleted tenant.
    pub fn remove(&self, tenant: i64) {
        self.tenants.write().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
    }

    /// Counts a request with a key; what is left for the next ones, `None`
    /// where nothing is limited by rate.
    ///
    /// # Errors
    /// 429 when it came too soon, with what is left all the same.
    pub fn request(
        &self,
        tenant: &TenantLimits,
        key: &KeyRequests,
        now: Timestamp,
    ) -> (Option<Rate>, Result<(), Problem>) {
        let Ok(for_each_key) = u32::try_from(self.for_each_key.load(Ordering::Relaxed)) else {
            tenant.request_without_limit(now);
            return (None, Ok(()));
        };
        let (admitted, rate) = tenant.request(key, for_each_key, now);
        let refused = || {
            let detail = format!("more than {} requests in a minute", rate.limit);
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).with_retry_after(rate.reset)
        };
        (Some(rate), if admitted { Ok(()) } else { Err(refused()) })
    }

    /// A tenant's usage from one day to another, both included, oldest first,
    /// up to this moment.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn usage(&self, db: &Db, tenant: i64, from: Day, to: Day) -> Result<Vec<(Day, Usage)>, db::Error> {
        let _whole = self.writing.read().await;
        let mut days = db.read(move |tx| sql::days(tx, tenant, from, to)).await?;
        let known = self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(&tenant).cloned();
        for (day, more) in known.map(|known| known.unwritten()).unwrap_or_default() {
            match days.binary_search_by_key(&day, |(day, _)| *day) {
                Ok(place) => days[place].1 = days[place].1 + more,
                Err(place) if from <= day && day <= to => days.insert(place, (day, more)),
                Err(_) => {}
            }
        }
        Ok(days)
    }

    /// Writes what was used since the last time, of all tenants at once.
    ///
    /// # Errors
    /// When the database cannot be written; then it is kept for the next time.
    pub async fn flush_usage(&self, db: &Db) -> Result<(), db::Error> {
        let _alone = self.writing.write().await;
        let all: Vec<_> = {
            let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
            let unwritten = |(no, tenant): (&i64, &Arc<TenantLimits>)| {
                let (no, tenant) = (*no, tenant.clone());
                let days = tenant.unwritten();
                days.into_iter().map(move |(day, usage)| (no, tenant.clone(), day, usage))
            };
            tenants.iter().flat_map(unwritten).collect()
        };
        if all.is_empty() {
            return Ok(());
        }
        let all = Arc::new(all);
        let written = all.clone();
        let work = move |tx: &Tx<'_>| all.iter().try_for_each(|(no, _, day, usage)| sql::add(tx, *no, *day, *usage));
        let after = move |(): &()| {
            for (_, tenant, day, usage) in written.iter() {
                tenant.written(*day, *usage);
            }
        };
        db.write_then(work, after).await
    }
}

/// Remembers, in the transaction that deletes jobs of a tenant, that each counted
/// on the day of its row number.
///
/// # Errors
/// When the database cannot be written.
pub fn jobs_deleted(tx: &Tx<'_>, tenant: i64, jobs: impl Iterator<Item = i64>) -> Result<(), db::Error> {
    let mut days = BTreeMap::<Day, u32>::new();
    for no in jobs {
        *days.entry(Day::of(crate::id::moment_of(no))).or_default() += 1;
    }
    days.into_iter().try_for_each(|(day, jobs)| sql::jobs_deleted(tx, tenant, day, jobs))
}

/// How many jobs a tenant has submitted on a day, the deleted ones included.
///
/// # Errors
/// When the database cannot be read.
pub fn jobs_of_day(tx: &Tx<'_>, tenant: i64, day: Day) -> Result<u32, db::Error> {
    sql::jobs_since(tx, tenant, day, first_row_number(day.begin()))
}
