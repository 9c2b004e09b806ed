//! What the gateway tells about itself. Labels are providers that the
//! administrator has set up and outcomes, so their number is bounded.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

pub(super) struct Metrics {
    calls: IntCounterVec,
    fallbacks: IntCounterVec,
    first_byte: HistogramVec,
    open: IntGaugeVec,
    streams: IntGauge,
    once_more: IntCounter,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        macro_rules! register {
            ($metric:expr) => {{
                let metric = $metric?;
                registry.register(Box::new(metric.clone()))?;
                metric
            }};
        }
        let buckets = vec![0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
        Ok(Self {
            calls: register!(IntCounterVec::new(
                Opts::new("agentd_model_calls_total", "Calls made to providers of models, by how they ended."),
                &["provider", "outcome"]
            )),
            fallbacks: register!(IntCounterVec::new(
                Opts::new("agentd_model_fallbacks_total", "Calls that went on to another model, by who had failed."),
                &["provider"]
            )),
            first_byte: register!(HistogramVec::new(
                HistogramOpts::new("agentd_model_first_byte_seconds", "Time to a provider's first byte.")
                    .buckets(buckets),
                &["provider"]
            )),
            open: register!(IntGaugeVec::new(
                Opts::new("agentd_model_breakers_open", "Models of a provider that are left alone because they fail."),
                &["provider"]
            )),
            once_more: register!(IntCounter::new(
                "agentd_model_cached_answers_total",
                "Calls that were answered with an earlier answer to the same request."
            )),
            streams: register!(IntGauge::new("agentd_model_streams", "Answers that are being streamed to clients.")),
        })
    }

    pub(super) fn call(&self, provider: &str, outcome: &str) {
        self.calls.with_label_values(&[provider, outcome]).inc();
    }

    pub(super) fn fallback(&self, provider: &str) {
        self.fallbacks.with_label_values(&[provider]).inc();
    }

    pub(super) fn once_more(&self) {
        self.once_more.inc();
    }

    pub(super) fn first_byte(&self, provider: &str, after: Duration) {
        self.first_byte.with_label_values(&[provider]).observe(after.as_secs_f64());
    }

    pub(super) fn set_open(&self, provider: &str, open: usize) {
        self.open.with_label_values(&[provider]).set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// A provider that exists shows zeros before it is asked.
    pub(super) fn introduce(&self, provider: &str) {
        for outcome in super::failure::OUTCOMES {
            self.calls.with_label_values(&[provider, outcome]);
        }
        self.fallbacks.with_label_values(&[provider]);
        self.open.with_label_values(&[provider]);
    }

    /// Forgets a provider that has been removed.
    pub(super) fn forget(&self, provider: &str) {
        for outcome in super::failure::OUTCOMES {
            let _ = self.calls.remove_label_values(&[provider, outcome]);
        }
        let _ = self.fallbacks.remove_label_values(&[provider]);
        let _ = self.open.remove_label_values(&[provider]);
        let _ = self.first_byte.remove_label_values(&[provider]);
    }

    /// Counts a stream as long as it is held.
    pub(super) fn stream(&self) -> StreamGuard {
        self.streams.inc();
        StreamGuard(self.streams.clone())
    }
}

pub(super) struct StreamGuard(IntGauge);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
