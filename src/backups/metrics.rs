//! Figures on backups.

use prometheus::{Gauge, IntCounter, Registry};

use super::state::State;
use crate::clock::Timestamp;

pub(super) struct Metrics {
    last_success: Gauge,
    last_bytes: Gauge,
    last_duration: Gauge,
    last_drill: Gauge,
    pub failures: IntCounter,
    pub drill_failures: IntCounter,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            last_success: gauge(
                "agentd_backup_last_success_timestamp_seconds",
                "When the last complete backup was begun, sent where it is to be sent; 0: there is none.",
            )?,
            last_bytes: gauge("agentd_backup_last_bytes", "Size of the last backup.")?,
            last_duration: gauge("agentd_backup_last_duration_seconds", "How long making the last backup took.")?,
            last_drill: gauge(
                "agentd_backup_last_drill_timestamp_seconds",
                "When a backup was last restored as a test and all was well; 0: never.",
            )?,
            failures: counter("agentd_backup_failures_total", "Backups that could not be made or sent.")?,
            drill_failures: counter(
                "agentd_backup_drill_failures_total",
                "Backups that could not be restored as a test.",
            )?,
        })
    }

    pub(super) fn show(&self, state: &State) {
        if let Some(last) = &state.last {
            if last.sent {
                self.last_success.set(seconds(last.at));
            }
            #[expect(clippy::cast_precision_loss, reason = "a size need not be exact")]
            self.last_bytes.set(last.bytes as f64);
            self.last_duration.set(last.seconds);
        }
        if let Some(drill) = state.drill.as_ref().filter(|drill| drill.problem.is_none()) {
            self.last_drill.set(seconds(drill.at));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a time in seconds fits")]
fn seconds(at: Timestamp) -> f64 {
    (at.micros() / 1_000_000) as f64
}
