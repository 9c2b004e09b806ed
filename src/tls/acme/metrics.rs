//! Figures on certificates, by configured name.

use prometheus::{IntCounterVec, Opts, Registry};

use super::super::Certificates;
use super::super::expiry::Expiry;
use crate::config::CertName;

pub(super) struct Metrics {
    failures: IntCounterVec,
    names: std::sync::Mutex<Vec<CertName>>,
}

impl Metrics {
    pub(super) fn new(certificates: &Certificates, registry: &Registry) -> Result<Self, prometheus::Error> {
        let failures =
            Opts::new("agentd_certificate_renewal_failures_total", "Attempts to get a certificate that failed.");
        let failures = IntCounterVec::new(failures, &["name"])?;
        registry.register(Box::new(Expiry::new(certificates.clone())?))?;
        registry.register(Box::new(failures.clone()))?;
        Ok(Self { failures, names: std::sync::Mutex::default() })
    }

    /// Forgets names that are not configured any more, and begins to count for
    /// those that are.
    pub(super) fn retain(&self, names: &[CertName]) {
        let mut known = self.names.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for gone in known.iter().filter(|name| !names.contains(name)) {
            let _ = self.failures.remove_label_values(&[&gone.to_string()]);
        }
        for name in names {
            self.failures.with_label_values(&[&name.to_string()]);
        }
        *known = names.to_vec();
    }

    pub(super) fn failed(&self, name: &CertName) {
        self.failures.with_label_values(&[&name.to_string()]).inc();
    }
}
