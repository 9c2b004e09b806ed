//! Places to convert pages in. A conversion computes for a moment and takes
//! memory, so only a few run at a time, and each tenant has one at most: who
//! fetches much waits for itself and not the others for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Tenants that are remembered before those who are gone are forgotten.
const REMEMBERED: usize = 1024;

/// The places that there are.
pub(super) struct Places {
    all: Arc<Semaphore>,
    tenants: Mutex<HashMap<i64, Weak<Semaphore>>>,
}

/// A place, given back when it is dropped.
pub(super) struct Place {
    // In this order: who waits for the tenant's place asks for the other next.
    _of_all: OwnedSemaphorePermit,
    _of_tenant: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(places: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(places)), tenants: Mutex::default() }
    }

    /// Waits for a place for a tenant. Those who wait are served in turn, each
    /// tenant once.
    pub(super) async fn take(&self, tenant: i64) -> Option<Place> {
        let own = self.of_tenant(tenant).acquire_owned().await.ok()?;
        let of_all = self.all.clone().acquire_owned().await.ok()?;
        Some(Place { _of_all: of_all, _of_tenant: own })
    }

    fn of_tenant(&self, tenant: i64) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tenants.get(&tenant).and_then(Weak::upgrade) {
            return known;
        }
        if tenants.len() >= REMEMBERED {
            tenants.retain(|_, place| place.strong_count() > 0);
        }
        let place = Arc::new(Semaphore::new(1));
        tenants.insert(tenant, Arc::downgrade(&place));
        place
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_tenant_never_has_all_places() {
        let places = Places::new(2);
        let first = places.take(1).await.expect("free");
        assert!(places.take(1).now_or_never().is_none(), "a second one of the same tenant");
        let second = places.take(2).now_or_never().flatten().expect("another tenant's");
        assert!(places.take(3).now_or_never().is_none(), "there are two");
        drop(first);
        let third = places.take(3).now_or_never().flatten().expect("a third tenant's");
        assert!(places.take(1).now_or_never().is_none());
        drop((second, third));
        assert!(places.take(1).now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn tenants_are_not_remembered_for_ever() {
        let places = Places::new(2);
        for tenant in 0..5_000 {
            drop(places.take(tenant).await);
        }
        assert!(places.tenants.lock().expect("a map").len() <= REMEMBERED);
    }
}
