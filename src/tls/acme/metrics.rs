//! Figures on certificates, by configured name.

use prometheus::{GaugeVec, IntCounterVec, Opts, Registry};

use crate::clock::Timestamp;
use crate::config::CertName;

pub(super) struct Metrics {
    not_after: GaugeVec,
    failures: IntCounterVec,
    names: std::sync::Mutex<Vec<CertName>>,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let not_after =
            Opts::new("agentd_certificate_not_after_seconds", "When a certificate ends, in seconds since 1970.");
        let not_after = GaugeVec::new(not_after, &["name"])?;
        let failures =
            Opts::new("agentd_certificate_renewal_failures_total", "Attempts to get a certificate that failed.");
        let failures = IntCounterVec::new(failures, &["name"])?;
        registry.register(Box::new(not_after.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        Ok(Self { not_after, failures, names: std::sync::Mutex::default() })
    }

    /// Forgets names that are not configured any more, and begins to count for
    /// those that are.
    pub(super) fn retain(&self, names: &[CertName]) {
        let mut known = self.names.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for gone in known.iter().filter(|name| !names.contains(name)) {
            let _ = self.not_after.remove_label_values(&[&gone.to_string()]);
            let _ = self.failures.remove_label_values(&[&gone.to_string()]);
        }
        for name in names {
            self.failures.with_label_values(&[&name.to_string()]);
        }
        *known = names.to_vec();
    }

    pub(super) fn not_after(&self, name: &CertName, until: Timestamp) {
        #[expect(clippy::cast_precision_loss, reason = "a time in seconds fits")]
        self.not_after.with_label_values(&[&name.to_string()]).set((until.micros() / 1_000_000) as f64);
    }

    pub(super) fn failed(&self, name: &CertName) {
        self.failures.with_label_values(&[&name.to_string()]).inc();
    }
}
