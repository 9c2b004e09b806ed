//! What jobs tell about themselves. Labels are tools of the registry and
//! statuses, so their number is bounded.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::types::Status;

pub(super) struct Metrics {
    submitted: IntCounterVec,
    finished: IntCounterVec,
    pub retries: IntCounter,
    pub put_back: IntCounter,
    pub interrupted: IntCounter,
    pub abandoned: IntCounter,
    pub expired: IntCounter,
    run_seconds: HistogramVec,
    ready: IntGauge,
    delayed: IntGauge,
    running: IntGauge,
    followers: IntGauge,
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
        let gauge = |name: &str, help: &str| IntGauge::new(name, help);
        let counter = |name: &str, help: &str| IntCounter::new(name, help);
        let buckets = vec![0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0];
        Ok(Self {
            submitted: register!(IntCounterVec::new(
                Opts::new("agentd_jobs_submitted_total", "Jobs acknowledged, by tool."),
                &["tool"]
            )),
            finished: register!(IntCounterVec::new(
                Opts::new("agentd_jobs_finished_total", "Jobs ended, by tool and status."),
                &["tool", "status"]
            )),
            run_seconds: register!(HistogramVec::new(
                HistogramOpts::new("agentd_job_attempt_seconds", "Time of an attempt, by tool.").buckets(buckets),
                &["tool"]
            )),
            retries: register!(counter("agentd_job_retries_total", "Attempts that will be followed by another.")),
            put_back: register!(counter("agentd_jobs_put_back_total", "Jobs put back into the queue at shutdown.")),
            interrupted: register!(counter(
                "agentd_jobs_interrupted_total",
                "Jobs found running by a process that is gone."
            )),
            expired: register!(counter("agentd_jobs_expired_total", "Jobs deleted because they ended long ago.")),
            abandoned: register!(counter(
                "agentd_job_handlers_abandoned_total",
                "Handlers that did not stop when told to and were left behind."
            )),
            ready: register!(gauge("agentd_jobs_ready", "Jobs that wait for a free place.")),
            delayed: register!(gauge("agentd_jobs_delayed", "Jobs that wait for their time.")),
            running: register!(gauge("agentd_jobs_running", "Jobs being done.")),
            followers: register!(gauge("agentd_job_followers", "Streams that follow a job.")),
        })
    }

    /// Begins to count for these, at nothing: what first appears when it is one
    /// has not grown, and no alert would see it.
    pub(super) fn begin<'a>(&self, tools: impl Iterator<Item = &'a str>) {
        for tool in tools {
            self.submitted.with_label_values(&[tool]);
            for status in [Status::Succeeded, Status::Failed, Status::Cancelled, Status::Dead] {
                self.finished.with_label_values(&[tool, status.name()]);
            }
        }
    }

    pub(super) fn submitted(&self, tool: &str) {
        self.submitted.with_label_values(&[tool]).inc();
    }

    pub(super) fn finished(&self, tool: &str, status: Status) {
        self.finished.with_label_values(&[tool, status.name()]).inc();
    }

    pub(super) fn attempt(&self, tool: &str, took: Duration) {
        self.run_seconds.with_label_values(&[tool]).observe(took.as_secs_f64());
    }

    pub(super) fn set_gauges(&self, ready: usize, delayed: usize, running: usize, followers: usize) {
        let set = |gauge: &IntGauge, count: usize| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        set(&self.ready, ready);
        set(&self.delayed, delayed);
        set(&self.running, running);
        set(&self.followers, followers);
    }
}
