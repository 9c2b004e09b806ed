//! When certificates end: a metric for all that clients may trust, and a line a
//! day for those that a person has to replace.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};

use super::facts::Facts;
use super::{Certificates, Shown, Source};
use crate::clock::Timestamp;

const DAY: Duration = Duration::from_secs(86_400);
/// The line begins so long before the end, or when a third of the lifetime is
/// left where that is less. Programs such as certbot have renewed by then.
const EARLIEST: Duration = Duration::from_secs(21 * DAY.as_secs());
/// Names of a certificate that have a value of their own.
const NAMES: usize = 100;

/// `agentd_certificate_not_after_seconds`, read from what is shown.
pub(super) struct Expiry {
    certificates: Certificates,
    /// Describes the metric; its values are made for each reading.
    gauge: GaugeVec,
}

impl Expiry {
    pub(super) fn new(certificates: Certificates) -> Result<Self, prometheus::Error> {
        Ok(Self { certificates, gauge: gauge()? })
    }
}

fn gauge() -> Result<GaugeVec, prometheus::Error> {
    let what = Opts::new("agentd_certificate_not_after_seconds", "When a certificate ends, in seconds since 1970.");
    GaugeVec::new(what, &["name"])
}

impl Collector for Expiry {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut ends = BTreeMap::new();
        // One that is made here is made again here, long before it ends.
        for shown in self.certificates.all().iter().filter(|shown| shown.source != Source::SelfSigned) {
            for name in shown.names.iter().take(NAMES) {
                ends.entry(name.to_string()).or_insert(shown.not_after);
            }
        }
        let Ok(gauge) = gauge() else { return Vec::new() };
        for (name, until) in ends {
            #[expect(clippy::cast_precision_loss, reason = "a time in seconds fits")]
            gauge.with_label_values(&[&name]).set((until.micros() / 1_000_000) as f64);
        }
        gauge.collect()
    }
}

/// Says once a day that a certificate from files ends soon.
#[derive(Default)]
pub(super) struct Reminder {
    looked: Option<Timestamp>,
}

impl Reminder {
    /// Looks at the certificate if a day has passed, and says what there is to say.
    pub(super) fn look(&mut self, shown: &Shown, now: Timestamp) {
        let is_early = |looked: Timestamp| looked <= now && now < looked.plus(DAY);
        if self.looked.is_some_and(is_early) {
            return;
        }
        self.looked = Some(now);
        let names = shown.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let (until, begins) = (shown.not_after, begins(shown.not_before, shown.not_after));
        if until <= now {
            let since = in_words(now.since(until));
            tracing::error!(names, %until, "the certificate from tls.cert_file ended {since} ago, so clients refuse it: {TODO}");
            return;
        }
        let left = until.since(now);
        if left <= begins {
            let (days, left) = (left.as_secs() / DAY.as_secs(), in_words(left));
            tracing::warn!(names, %until, days, "the certificate from tls.cert_file ends in {left}: {TODO}");
        }
        for above in shown.key.cert.iter().skip(1).filter_map(|above| Facts::of(above).ok()) {
            let left = above.not_after.since(now);
            if above.not_after < until && left <= self::begins(above.not_before, above.not_after) {
                let (until, left) = (above.not_after, in_words(left));
                tracing::warn!(
                    names, %until,
                    "the certificate of an authority in tls.cert_file ends in {left}, before the server's own: put the \
                     chain in its place that the authority gives now"
                );
            }
        }
    }

    /// Another certificate is shown.
    pub(super) fn restart(&mut self) {
        self.looked = None;
    }
}

const TODO: &str = "put a new one in its place, which is taken up by itself";

fn begins(from: Timestamp, until: Timestamp) -> Duration {
    (until.since(from) / 3).min(EARLIEST)
}

fn in_words(span: Duration) -> String {
    let (count, unit) = match span.as_secs() {
        seconds if seconds >= DAY.as_secs() => (seconds / DAY.as_secs(), "day"),
        seconds => (seconds / 3600, "hour"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reminder_begins_in_the_last_third_and_three_weeks_before_at_most() {
        let from = Timestamp::from_micros(0);
        let days = |days: u32| DAY * days;
        for (lifetime, left) in [(398, 21), (90, 21), (47, 15), (6, 2)] {
            assert_eq!(begins(from, from.plus(days(lifetime))).as_secs() / DAY.as_secs(), left, "{lifetime} days");
        }
    }

    #[test]
    fn spans_are_in_days_and_below_that_in_hours() {
        for (seconds, words) in [(0, "0 hours"), (3_600, "1 hour"), (86_400, "1 day"), (200_000, "2 days")] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
