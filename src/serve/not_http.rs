//! Connections on which something else than HTTP is spoken, as by a proxy that is
//! set up for another protocol. They end with 400 before any route is asked, so
//! nothing else would tell of them.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_http::error::DispatchError;
use actix_service::{Service as _, apply_fn_factory};
use actix_web::dev::ServiceFactory;
use prometheus::{IntCounter, Registry};

/// How often they are told of.
const EVERY: Duration = Duration::from_secs(60);

/// Counts them, and logs one a minute. Clones count together.
#[derive(Clone)]
pub(super) struct NotHttp {
    count: IntCounter,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    last: Option<Instant>,
    /// Those since then that were not logged.
    untold: u64,
}

impl Told {
    /// How many there were since the last that was logged, where this one is to be
    /// logged now.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < EVERY) {
            self.untold += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold) + 1)
    }
}

impl NotHttp {
    /// Registers the counter.
    ///
    /// # Errors
    /// When its name is taken.
    pub(super) fn new(metrics: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Connections on which something came that is not HTTP.";
        let count = IntCounter::new("agentd_http_unreadable_total", help)?;
        metrics.register(Box::new(count.clone()))?;
        Ok(Self { count, told: Arc::default() })
    }

    /// Counts one more. Nothing of what came is kept: it may hold a secret.
    pub(super) fn note(&self, peer: Option<SocketAddr>, what: impl Display) {
        self.count.inc();
        let admitted = self.told.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        let (Some(connections), Some(peer)) = (admitted, peer) else { return };
        tracing::warn!(
            %peer, connections,
            "what came is not HTTP ({what}); if {} is a proxy or load balancer, turn its PROXY protocol off",
            peer.ip()
        );
    }
}

/// A service of connections whose ends are looked at.
pub(super) fn watched<C, F>(
    factory: F,
    peer: impl Fn(&C) -> Option<SocketAddr> + Clone,
    not_http: NotHttp,
) -> impl ServiceFactory<C, Config = (), Response = (), Error = DispatchError, InitError = ()>
where
    F: ServiceFactory<C, Config = (), Response = (), Error = DispatchError, InitError = ()>,
{
    apply_fn_factory(factory, move |connection: C, service: &F::Service| {
        let (peer, not_http) = (peer(&connection), not_http.clone());
        let served = service.call(connection);
        async move {
            let outcome = served.await;
            if let Err(DispatchError::Parse(error)) = &outcome {
                not_http.note(peer, error);
            }
            outcome
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_minute_is_told_with_the_number_of_all() {
        let (mut told, start) = (Told::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let admitted: Vec<_> = [0, 1, 59, 60, 61, 200].into_iter().map(|seconds| told.admit(at(seconds))).collect();
        assert_eq!(admitted, [Some(1), None, None, Some(3), None, Some(2)]);
    }
}
