//! When a certificate from files ends: a metric, and a line a day.

use rcgen::date_time_ymd;
use serde_json::Value;

use super::Pair;
use crate::support::tls::Made;
use crate::support::{Server, Setup, eventually};

const DAY: i64 = 86_400;

fn now() -> i64 {
    agentd::clock::system_now().micros() / 1_000_000
}

/// A pair that ends so many days from now, at midnight.
fn ending() -> (Pair, i64) {
    let made = Made::with(&["a.example.test", "192.0.2.7"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2060, 1, 1);
    });
    let end = agentd::clock::Timestamp::parse("2060-01-01T00:00:00Z").expect("a time").micros() / 1_000_000;
    (Pair::of(&made), end)
}

/// The lines on the end of the certificate.
fn lines(server: &Server) -> Vec<Value> {
    let lines = server.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let is_one = |line: &Value| line["message"].as_str().is_some_and(|said| said.contains("from tls.cert_file end"));
    lines.filter(is_one).collect()
}

#[test]
fn the_metric_has_each_name() {
    let (pair, end) = ending();
    let server = pair.setup().start();
    let metrics = server.admin().get("/metrics").text;
    for name in ["a.example.test", "192.0.2.7"] {
        let line = format!("agentd_certificate_not_after_seconds{{name=\"{name}\"}} {end}");
        assert!(metrics.contains(&line), "{line}:\n{metrics}");
    }
    let own = super::https().admin().get("/metrics").text;
    assert!(!own.contains("agentd_certificate_not_after_seconds{"), "what the service makes, it makes again");
}

#[test]
fn each_day_it_is_said_how_many_are_left() {
    let (pair, end) = ending();
    let server = pair.over(Setup::testbed()).start();
    assert!(lines(&server).is_empty(), "it lasts long");
    let left = |days: i64| server.set_clock(end - days * DAY - now() - 60);
    for (days, count) in [(20, 1), (19, 2), (5, 3)] {
        left(days);
        let said = eventually("a line", || Some(lines(&server)).filter(|lines| lines.len() == count));
        let last = said.last().expect("a line");
        assert_eq!((&last["level"], &last["days"]), (&"WARN".into(), &days.into()), "{last}");
        assert!(last["message"].as_str().is_some_and(|said| said.contains(&format!("ends in {days} days"))), "{last}");
    }
    left(-2);
    let said = eventually("that it is over", || Some(lines(&server)).filter(|lines| lines.len() == 4));
    assert_eq!(said[3]["level"], "ERROR", "{said:?}");
    // The next one is no worry any more.
    Made::with(&["b.example.test"], |params| params.not_after = date_time_ymd(2099, 1, 1))
        .write(&pair.certificate(), &pair.key());
    server.wait_for_log("that it is taken up", |line| {
        line["message"].as_str().is_some_and(|said| said.contains("showing the certificate"))
            && line["names"] == "b.example.test"
    });
    assert_eq!(lines(&server).len(), 4);
}
