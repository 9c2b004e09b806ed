//! One tenant's limits and what it has used of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;

use super::quota::Quota;
use super::usage::{Day, Unwritten, Usage};
use super::window::Window;
use crate::clock::Timestamp;
use crate::http::{Problem, Rate};

/// A tenant's limits. Whoever works for the tenant holds it, so a change is
/// felt at once and a request needs no look-up.
#[derive(Debug, Default)]
pub struct TenantLimits(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    quota: Quota,
    requests: Window,
    usage: Unwritten,
    today: Today,
    /// Jobs that are on their way into the queue.
    entering: u32,
}

/// Jobs submitted in a day, those on their way to the disk included.
#[derive(Clone, Copy, Debug, Default)]
struct Today {
    day: Option<Day>,
    jobs: u32,
}

impl Today {
    fn turn_to(&mut self, day: Day) {
        // A clock that is set back a little over midnight begins no new day.
        if self.day != Some(day) && self.day != Some(day.next()) {
            *self = Self { day: Some(day), jobs: 0 };
        }
    }
}

/// The requests of one key, for which the service has a limit.
#[derive(Debug, Default)]
pub struct KeyRequests(Mutex<Window>);

impl TenantLimits {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the tenant may use.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.lock().quota
    }

    /// Sets what the tenant may use, and how many jobs it has submitted today.
    pub(super) fn set_quota(&self, quota: Quota, day: Day, jobs_today: u32) {
        let mut inner = self.lock();
        inner.quota = quota;
        inner.today.turn_to(day);
        // Jobs on their way to the disk are counted here and not yet there.
        inner.today.jobs = inner.today.jobs.max(jobs_today);
    }

    /// Counts a request of one of its keys; what is left, and whether it may be
    /// served. The tenant's own limit is over all its keys; without one each
    /// key has `for_each_key`.
    pub fn request(&self, key: &KeyRequests, for_each_key: u32, now: Timestamp) -> (bool, Rate) {
        let mut inner = self.lock();
        let (admitted, rate) = match inner.quota.requests_per_minute {
            Some(limit) => inner.requests.take(limit, now),
            None => key.0.lock().unwrap_or_else(PoisonError::into_inner).take(for_each_key, now),
        };
        let usage = inner.usage.day(now);
        usage.requests += 1;
        usage.rate_limited += u64::from(!admitted);
        (admitted, rate)
    }

    /// Counts a request where none is refused for its rate.
    pub fn request_without_limit(&self, now: Timestamp) {
        self.lock().usage.day(now).requests += 1;
    }

    /// Admits new jobs. `waiting` is how many the tenant has in the queue, or
    /// `None` for jobs that start at once.
    ///
    /// # Errors
    /// 429 when the tenant's queue is full or its day is used up.
    pub fn admit_jobs(
        self: &Arc<Self>,
        jobs: u32,
        waiting: Option<usize>,
        now: Timestamp,
    ) -> Result<Admission, Problem> {
        let mut inner = self.lock();
        let entering = if waiting.is_some() { jobs } else { 0 };
        if let (Some(waiting), Some(limit)) = (waiting, inner.quota.queued_jobs)
            && waiting + (inner.entering + jobs) as usize > limit as usize
        {
            let detail = format!("{waiting} jobs are waiting; the quota queued_jobs of this tenant is {limit}");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", detail).with_retry_after(5));
        }
        let day = Day::of(now);
        inner.today.turn_to(day);
        let submitted = inner.today.jobs.saturating_add(jobs);
        if let Some(limit) = inner.quota.jobs_per_day.filter(|limit| submitted > *limit) {
            let used = inner.today.jobs;
            let detail =
                format!("{used} jobs were submitted today (UTC); the quota jobs_per_day of this tenant is {limit}");
            let midnight = day.next().begin().since(now).as_secs() + 1;
            return Err(
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "daily_quota_exceeded", detail).with_retry_after(midnight)
            );
        }
        inner.today.jobs = submitted;
        inner.entering += entering;
        Ok(Admission { tenant: self.clone(), jobs, entering, now, on_disk: false })
    }

    /// Counts the time that an attempt at a job took.
    pub fn job_ran(&self, took: Duration, now: Timestamp) {
        self.lock().usage.day(now).run_micros += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    }

    /// Counts a job that has succeeded, or has failed for good.
    pub fn job_ended(&self, succeeded: bool, now: Timestamp) {
        let mut inner = self.lock();
        let day = inner.usage.day(now);
        let count = if succeeded { &mut day.jobs_succeeded } else { &mut day.jobs_failed };
        *count += 1;
    }

    pub(super) fn unwritten(&self) -> Vec<(Day, Usage)> {
        self.lock().usage.list()
    }

    pub(super) fn written(&self, day: Day, usage: Usage) {
        self.lock().usage.written(day, usage);
    }
}

/// Jobs that were admitted and are on their way to the disk. Dropped, it gives
/// back what they took of the day, unless they have come to the disk.
#[derive(Debug)]
pub struct Admission {
    tenant: Arc<TenantLimits>,
    jobs: u32,
    entering: u32,
    now: Timestamp,
    on_disk: bool,
}

impl Admission {
    /// The jobs are on disk, and in the queue where they were to go there.
    pub fn on_disk(mut self) {
        self.on_disk = true;
    }

    /// Only so many of them have come to the disk; the others are given back.
    pub fn on_disk_only(mut self, jobs: u32) {
        {
            let mut inner = self.tenant.lock();
            let less = self.jobs.saturating_sub(jobs);
            if inner.today.day == Some(Day::of(self.now)) {
                inner.today.jobs = inner.today.jobs.saturating_sub(less);
            }
            self.jobs -= less;
        }
        self.on_disk();
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut inner = self.tenant.lock();
        inner.entering -= self.entering;
        if self.on_disk {
            inner.usage.day(self.now).jobs_submitted += u64::from(self.jobs);
        } else if inner.today.day == Some(Day::of(self.now)) {
            inner.today.jobs = inner.today.jobs.saturating_sub(self.jobs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Do {
        Admit { jobs: u32, starts: bool },
        Land(usize),
        Fail(usize),
        Leave(u32),
        Pass(i64),
    }

    fn action() -> impl Strategy<Value = Do> {
        prop_oneof![
            6 => (1_u32..4, any::<bool>()).prop_map(|(jobs, starts)| Do::Admit { jobs, starts }),
            4 => (0_usize..8).prop_map(Do::Land),
            2 => (0_usize..8).prop_map(Do::Fail),
            2 => (1_u32..4).prop_map(Do::Leave),
            1 => (1_i64..50_000).prop_map(Do::Pass),
        ]
    }

    proptest! {
        #[test]
        fn neither_day_nor_queue_is_overdrawn_and_what_fails_is_given_back(
            actions in prop::collection::vec(action(), 1..200), a_day in 1_u32..30, in_queue in 1_u32..8
        ) {
            let tenant = Arc::new(TenantLimits::default());
            let quota = Quota { jobs_per_day: Some(a_day), queued_jobs: Some(in_queue), ..Quota::default() };
            let mut now = 1_700_000_000_i64;
            let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
            tenant.set_quota(quota, Day::of(at(now)), 0);
            // On their way to the disk: jobs, those that wait, day.
            let mut entering: Vec<(Admission, u32, u32, Day)> = Vec::new();
            let (mut landed, mut queued) = (std::collections::BTreeMap::<Day, u32>::new(), 0_u32);
            for action in actions {
                match action {
                    Do::Admit { jobs, starts } => {
                        let waiting = (!starts).then_some(queued as usize);
                        let day = Day::of(at(now));
                        let of_day = landed.get(&day).copied().unwrap_or(0)
                            + entering.iter().filter(|entry| entry.3 == day).map(|entry| entry.1).sum::<u32>();
                        let waits = if starts { 0 } else { jobs };
                        let ahead = queued + entering.iter().map(|entry| entry.2).sum::<u32>();
                        let expected = if !starts && ahead + jobs > in_queue {
                            Some("queue_full")
                        } else {
                            (of_day + jobs > a_day).then_some("daily_quota_exceeded")
                        };
                        match tenant.admit_jobs(jobs, waiting, at(now)) {
                            Ok(admission) => {
                                prop_assert_eq!(expected, None);
                                entering.push((admission, jobs, waits, day));
                            }
                            Err(problem) => prop_assert_eq!(Some(problem.code()), expected),
                        }
                    }
                    Do::Land(place) if place < entering.len() => {
                        let (admission, jobs, waits, day) = entering.remove(place);
                        admission.on_disk();
                        *landed.entry(day).or_default() += jobs;
                        queued += waits;
                    }
                    Do::Fail(place) if place < entering.len() => drop(entering.remove(place)),
                    Do::Leave(jobs) => queued = queued.saturating_sub(jobs),
                    Do::Pass(seconds) => now += seconds,
                    Do::Land(_) | Do::Fail(_) => {}
                }
                prop_assert!(landed.values().all(|jobs| *jobs <= a_day) && queued <= in_queue);
            }
            let counted: Vec<_> = tenant.unwritten().into_iter().map(|(day, usage)| (day, usage.jobs_submitted)).collect();
            let expected: Vec<_> = landed.into_iter().map(|(day, jobs)| (day, u64::from(jobs))).collect();
            prop_assert_eq!(counted, expected);
        }
    }

    #[test]
    fn a_clock_set_back_over_midnight_gives_no_second_day() {
        let tenant = Arc::new(TenantLimits::default());
        let quota = Quota { jobs_per_day: Some(1), ..Quota::default() };
        let midnight = Day(20_000).begin();
        let before = Timestamp::from_micros(midnight.micros() - 1);
        tenant.set_quota(quota, Day(19_999), 1);
        assert!(tenant.admit_jobs(1, None, before).is_err());
        tenant.admit_jobs(1, None, midnight).expect("a new day").on_disk();
        assert!(tenant.admit_jobs(1, None, before).is_err());
        assert!(tenant.admit_jobs(1, None, midnight).is_err());
    }
}
