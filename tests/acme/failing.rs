//! What goes wrong is seen, is tried again at the right moment, and takes
//! nothing else with it.

use serde_json::Value;

use crate::support::acme::{Bench, Fault, Kind, Options};
use crate::support::server::long_enough;
use crate::support::{Server, Setup};
use crate::{another, certificate, failed, issued, seconds, set_time, shown};

const NAME: &str = "agents.example.test";
const DAY: i64 = 86_400;

#[track_caller]
fn problem(state: &Value) -> String {
    state["problem"].as_str().unwrap_or_else(|| panic!("nothing is wrong: {state}")).to_owned()
}

/// Lets the time come at which a name is tried again; how it stands after the
/// next failure.
#[track_caller]
fn fail_again(server: &Server, name: &str, before: &Value) -> Value {
    set_time(server, seconds(&before["next_attempt_at"]) + 1);
    failed(server, name, before["failures"].as_u64().expect("a number") + 1)
}

#[test]
fn a_broken_name_harms_no_other() {
    let bench = Bench::new();
    let (good, bad) = ("good.example.test", "bad.example.test");
    // Nobody listens there.
    bench.names.at(bad, "127.255.255.254");
    let server = bench.setup(Setup::testbed(), &[bad, good]).start();
    let fine = issued(&server, good);
    assert_eq!(fine["serial"], shown(&bench, good));
    let mut state = failed(&server, bad, 1);
    assert_eq!(state["status"], "missing");
    assert!(problem(&state).contains("http-01") && problem(&state).contains("tls-alpn-01"), "{state}");
    for (failures, minutes) in [(1, 1), (2, 2), (3, 2), (4, 5)] {
        assert_eq!(state["failures"], failures);
        assert_eq!(seconds(&state["next_attempt_at"]) - seconds(&state["problem_at"]), minutes * 60, "{state}");
        state = fail_again(&server, bad, &state);
    }
    let mine = bench.proxy.orders().into_iter().filter(|it| it.payload["identifiers"][0]["value"] == good);
    assert_eq!((mine.count(), &certificate(&server, good)["serial"]), (1, &fine["serial"]));
    let metric = format!("agentd_certificate_renewal_failures_total{{name=\"{bad}\"}} 5");
    assert!(server.admin().get("/metrics").text.contains(&metric));
    bench.names.at(bad, &bench.ip);
    set_time(&server, seconds(&state["next_attempt_at"]) + 1);
    let mended = issued(&server, bad);
    assert_eq!((&mended["failures"], &mended["problem"]), (&Value::from(0), &Value::Null));
    assert_eq!(mended["serial"], shown(&bench, bad));
}

#[test]
fn a_name_that_leads_elsewhere_is_said_so() {
    let bench = Bench::new();
    bench.names.break_down("nowhere.example.test");
    let elsewhere = Bench::new();
    let _other = elsewhere.setup(Setup::real(), &["other.example.test"]).start();
    bench.names.at(NAME, &elsewhere.ip);
    let server = bench.setup(Setup::real(), &["nowhere.example.test", NAME]).start();
    let text = problem(&failed(&server, "nowhere.example.test", 1));
    assert!(text.contains("nowhere.example.test") && text.contains("resolve"), "{text}");
    let text = problem(&failed(&server, NAME, 1));
    assert!(text.contains("look whether the name leads to this machine"), "{text}");
}

#[test]
fn a_directory_is_down_for_days() {
    let bench = Bench::new();
    let server = bench.setup(Setup::testbed(), &[NAME]).start();
    let first = issued(&server, NAME);
    bench.proxy.set_down(true);
    let before = bench.proxy.attempts();
    set_time(&server, seconds(&first["next_attempt_at"]) + 1);
    let mut state = failed(&server, NAME, 1);
    let since = seconds(&state["problem_at"]);
    let mut rounds = 1;
    while seconds(&state["problem_at"]) - since < 4 * DAY {
        state = fail_again(&server, NAME, &state);
        rounds += 1;
        assert_eq!((&state["status"], &state["serial"]), (&Value::from("failing"), &first["serial"]), "{state}");
    }
    assert_eq!(first["serial"], shown(&bench, NAME), "it is shown as long as there is no other");
    assert!(rounds <= 60, "{rounds} attempts in 4 days");
    let asked = bench.proxy.attempts() - before;
    assert!(asked <= 5 * rounds, "{asked} connections in {rounds} attempts");
    assert!(problem(&state).contains(bench.proxy.address().split(':').next().unwrap_or_default()), "{state}");
    bench.proxy.set_down(false);
    set_time(&server, seconds(&state["next_attempt_at"]) + 1);
    let second = another(&server, NAME, &first["serial"]);
    assert_eq!((&second["failures"], second["serial"].as_str()), (&Value::from(0), Some(shown(&bench, NAME).as_str())));
}

#[test]
fn a_rate_limit_is_kept_to() {
    let bench = Bench::new();
    bench.proxy.fail(Kind::NewOrder, 1, Fault::Problem(429, "rateLimited", Some(7200)));
    let server = bench.setup(Setup::testbed(), &[NAME]).start();
    let state = failed(&server, NAME, 1);
    assert!(problem(&state).contains("rateLimited"), "{state}");
    assert_eq!(seconds(&state["next_attempt_at"]) - seconds(&state["problem_at"]), 7200, "{state}");
    let asked = bench.proxy.of(Kind::NewOrder).len();
    for early in [7000, 3600, 60] {
        set_time(&server, seconds(&state["next_attempt_at"]) - early);
        long_enough();
        long_enough();
        long_enough();
    }
    assert_eq!(bench.proxy.of(Kind::NewOrder).len(), asked, "not a minute too early");
    set_time(&server, seconds(&state["next_attempt_at"]) + 1);
    issued(&server, NAME);
}

#[test]
fn an_answer_that_is_no_acme_is_a_failure_like_others() {
    let bench = Bench::new();
    bench.proxy.fail(Kind::NewOrder, 1, Fault::Status(503));
    let server = bench.setup(Setup::testbed(), &[NAME]).start();
    let state = failed(&server, NAME, 1);
    assert!(problem(&state).contains("503"), "{state}");
    set_time(&server, seconds(&state["next_attempt_at"]) + 1);
    issued(&server, NAME);
}

#[test]
fn the_next_directory_is_used_where_the_first_is_down() {
    let bench = Bench::new();
    let second = bench.second_proxy(&Options::default());
    bench.proxy.set_down(true);
    let directories = format!("{},{}", bench.proxy.directory(), second.directory());
    let server = bench.setup(Setup::real(), &[NAME]).env("AGENTD_ACME_DIRECTORIES", &directories).start();
    let state = issued(&server, NAME);
    assert_eq!((&state["directory"], &state["failures"]), (&second.directory().into(), &Value::from(0)));
    assert_eq!(state["serial"], shown(&bench, NAME));
}

#[test]
fn after_a_failure_staging_is_asked_first() {
    let bench = Bench::new();
    let staging = bench.second_proxy(&Options::default());
    bench.names.at(NAME, "127.255.255.254");
    let server = bench.setup(Setup::testbed(), &[NAME]).env("AGENTD_ACME_STAGING", &staging.directory()).start();
    let mut state = failed(&server, NAME, 1);
    assert!(staging.seen().is_empty(), "the first time it is not asked");
    let orders = bench.proxy.orders().len();
    for _ in 0..2 {
        state = fail_again(&server, NAME, &state);
    }
    assert_eq!(bench.proxy.orders().len(), orders, "what fails at staging costs the true one nothing");
    assert!(staging.orders().len() >= 2 && problem(&state).contains("acme.staging = \"off\""), "{state}");
    bench.names.at(NAME, &bench.ip);
    let trials = staging.orders().len();
    set_time(&server, seconds(&state["next_attempt_at"]) + 1);
    let state = issued(&server, NAME);
    assert_eq!(state["directory"], bench.proxy.directory());
    assert_eq!((staging.orders().len(), bench.proxy.orders().len()), (trials + 1, orders + 1));
}

#[test]
fn what_only_staging_refuses_gets_its_certificate_all_the_same() {
    let bench = Bench::new();
    let staging = bench.second_proxy(&Options::default());
    staging.fail(Kind::NewOrder, 99, Fault::Problem(403, "caa", None));
    bench.proxy.fail(Kind::NewOrder, 1, Fault::Status(503));
    let server = bench.setup(Setup::testbed(), &[NAME]).env("AGENTD_ACME_STAGING", &staging.directory()).start();
    let mut state = failed(&server, NAME, 1);
    for _ in 0..3 {
        state = fail_again(&server, NAME, &state);
        assert!(problem(&state).contains("staging") && problem(&state).contains("caa"), "{state}");
    }
    let (trials, orders) = (staging.of(Kind::NewOrder).len(), bench.proxy.orders().len());
    assert!(trials >= 3, "{trials}");
    set_time(&server, seconds(&state["next_attempt_at"]) + 1);
    let state = issued(&server, NAME);
    assert_eq!(state["directory"], bench.proxy.directory());
    assert_eq!((staging.of(Kind::NewOrder).len(), bench.proxy.orders().len()), (trials, orders + 1));
}
