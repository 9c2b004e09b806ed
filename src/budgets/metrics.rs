//! What budgets tell about themselves.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus::{CounterVec, Gauge, IntCounterVec, IntGauge, Opts, Registry};

use super::alerts::PERCENTS;
use super::ledger::Ledger;
use super::types::Scope;
use crate::money::Usd;

/// Models that are told apart. Clients can name models that nobody has listed,
/// so their number is not bounded by the settings.
const MOST_MODELS: usize = 100;
/// Stands for the models after those.
const OTHER: &str = "(other)";

pub(super) struct Metrics {
    spend: CounterVec,
    models: Mutex<BTreeSet<String>>,
    reserved: Gauge,
    reservations: IntCounterVec,
    refusals: IntCounterVec,
    alerts: IntCounterVec,
    waiting: IntGauge,
}

impl Metrics {
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        macro_rules! register {
            ($metric:expr) => {{
                let metric = $metric?;
                registry.register(Box::new(metric.clone()))?;
                metric
            }};
        }
        let metrics = Self {
            spend: register!(CounterVec::new(
                Opts::new("agentd_spend_usd_total", "What calls of models have cost, in US dollars, by model."),
                &["model"]
            )),
            models: Mutex::default(),
            reserved: register!(Gauge::new(
                "agentd_budget_reserved_usd",
                "US dollars that are held for calls under way."
            )),
            reservations: register!(IntCounterVec::new(
                Opts::new(
                    "agentd_budget_reservations_total",
                    "Calls for which money was reserved, by whether what is put aside on disk was enough or a write \
                     was waited for."
                ),
                &["waited"]
            )),
            refusals: register!(IntCounterVec::new(
                Opts::new("agentd_budget_refusals_total", "Calls that a budget could not pay, by scope."),
                &["scope"]
            )),
            alerts: register!(IntCounterVec::new(
                Opts::new("agentd_budget_alerts_total", "Budgets of which so much was spent, by scope and percent."),
                &["scope", "percent"]
            )),
            waiting: register!(IntGauge::new(
                "agentd_settlements_waiting",
                "Settled calls that are not on disk as such yet."
            )),
        };
        for waited in ["false", "true"] {
            metrics.reservations.with_label_values(&[waited]);
        }
        for scope in Scope::ALL {
            metrics.refusals.with_label_values(&[scope.name()]);
        }
        for scope in [Scope::ServiceDay, Scope::TenantDay, Scope::TenantMonth, Scope::Key] {
            for percent in PERCENTS {
                metrics.alerts.with_label_values(&[scope.name(), &percent.to_string()]);
            }
        }
        metrics.spend.with_label_values(&[OTHER]);
        Ok(metrics)
    }

    pub fn spent(&self, model: &str, cost: Usd) {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let known = models.contains(model) || (models.len() < MOST_MODELS && models.insert(model.to_owned()));
        drop(models);
        self.spend.with_label_values(&[if known { model } else { OTHER }]).inc_by(cost.dollars());
    }

    pub fn reserved(&self, ledger: &Ledger) {
        self.reserved.set(ledger.reserved().dollars());
    }

    pub fn put_aside(&self, has_waited: bool) {
        self.reservations.with_label_values(&[if has_waited { "true" } else { "false" }]).inc();
    }

    pub fn refused(&self, scope: Scope) {
        self.refusals.with_label_values(&[scope.name()]).inc();
    }

    pub fn alert(&self, scope: Scope, percent: u8) {
        self.alerts.with_label_values(&[scope.name(), &percent.to_string()]).inc();
    }

    pub fn set_waiting(&self, waiting: usize) {
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }
}
