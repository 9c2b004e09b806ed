//! First certificates, by each kind of proof.

use std::time::Duration;

use serde_json::Value;

use crate::support::acme::pebble::EAB;
use crate::support::acme::{Bench, Fault, Kind, Options};
use crate::support::{Server, Setup, eventually};
use crate::{certificate, failed, issued, now, seconds, set_time, shown};

const NAME: &str = "agents.example.test";

/// A service whose certificate comes by one kind of proof.
fn by(bench: &Bench, challenge: &str, names: &[&str]) -> Server {
    bench.setup(Setup::real(), names).env("AGENTD_ACME_CHALLENGES", challenge).start()
}

/// The paths of the challenges that pebble was told to look at.
fn looked_at(bench: &Bench) -> usize {
    bench.proxy.of(Kind::Challenge).iter().filter(|seen| seen.payload.is_object() && seen.status == 200).count()
}

#[test]
fn a_first_certificate_by_http_01() {
    let bench = Bench::new();
    let server = by(&bench, "http-01", &[NAME]);
    let state = issued(&server, NAME);
    assert_eq!(state["serial"], shown(&bench, NAME));
    assert_eq!(bench.pebble.certificate(&shown(&bench, NAME))["Status"], "Valid");
    assert!(state["issuer"].as_str().is_some_and(|issuer| issuer.contains("Pebble")), "{state}");
    assert_eq!(state["directory"], bench.proxy.directory());
    assert_eq!((&state["failures"], &state["problem"]), (&Value::from(0), &Value::Null));
    let (lasts, left) = (90 * 86_400, seconds(&state["next_attempt_at"]) - now());
    assert!((lasts * 2 / 3 - 300..=lasts * 2 / 3 + 5).contains(&left), "in the last third: {state}");
    assert_eq!((bench.proxy.orders().len(), bench.proxy.accounts().len(), looked_at(&bench)), (1, 1, 1));

    let metrics = server.admin().get("/metrics").text;
    let line = format!("agentd_certificate_not_after_seconds{{name=\"{NAME}\"}} ");
    let until = metrics.lines().find_map(|known| known.strip_prefix(line.as_str())).expect("a metric");
    let until: i64 = until.parse().expect("whole seconds");
    assert!((until - now() - lasts).abs() < 300, "{until}");
    assert!(metrics.contains(&format!("agentd_certificate_renewal_failures_total{{name=\"{NAME}\"}} 0")), "{metrics}");
    assert!(!server.log().join("\n").contains("PRIVATE KEY"));
}

#[test]
fn a_first_certificate_by_tls_alpn_01() {
    let bench = Bench::new();
    let server = by(&bench, "tls-alpn-01", &[NAME]);
    assert_eq!(issued(&server, NAME)["serial"], shown(&bench, NAME));
}

#[test]
fn a_wildcard_by_dns_01_with_a_program() {
    let bench = Bench::new();
    let setup = bench.setup(Setup::real(), &["*.w.example.test", NAME]).env("AGENTD_ACME_CHALLENGES", "dns-01");
    let server = setup.env("AGENTD_ACME_DNS_HOOK", &bench.dns_hook().to_string_lossy()).start();
    assert_eq!(issued(&server, "*.w.example.test")["serial"], shown(&bench, "any.w.example.test"));
    assert_eq!(issued(&server, NAME)["serial"], shown(&bench, NAME));
    let lines = eventually("all records are cleared", || {
        let log = std::fs::read_to_string(bench.path("hook.log")).expect("the hook ran");
        let mut lines: Vec<_> = log.lines().map(str::to_owned).collect();
        lines.sort();
        (lines.len() == 4).then_some(lines)
    });
    let wild = "_acme-challenge.w.example.test";
    let plain = format!("_acme-challenge.{NAME}");
    assert_eq!(
        lines,
        [format!("clear {plain}"), format!("clear {wild}"), format!("set {plain}"), format!("set {wild}")]
    );
}

#[test]
fn an_address_has_a_certificate_too() {
    let bench = Bench::new();
    let ip = bench.ip.clone();
    let server = by(&bench, "http-01", &[&ip]);
    assert_eq!(issued(&server, &ip)["serial"], shown(&bench, &ip));
    assert_eq!(bench.proxy.orders()[0].payload["identifiers"][0]["type"], "ip");
}

#[test]
fn an_address_is_proven_by_tls_alpn_01() {
    let bench = Bench::new();
    let ip = bench.ip.clone();
    let server = by(&bench, "tls-alpn-01", &[&ip]);
    assert_eq!(issued(&server, &ip)["serial"], shown(&bench, &ip));
}

#[test]
fn where_one_proof_fails_the_other_is_tried_at_once() {
    let bench = Bench::new();
    // Nobody listens where pebble looks for http-01.
    let server = bench.setup(Setup::real(), &[NAME]).env("AGENTD_SERVER_HTTP_LISTEN", "127.0.0.1:0").start();
    let state = issued(&server, NAME);
    assert_eq!(state["failures"], 0);
    assert_eq!((bench.proxy.orders().len(), looked_at(&bench)), (2, 2), "an order that failed is over");
}

#[test]
fn an_account_is_bound_once() {
    let bench = Bench::with(&Options { eab: true, ..Options::default() });
    let setup = bench.setup(Setup::real(), &[NAME]).env("AGENTD_ACME_EAB_KID", EAB.0).env("AGENTD_ACME_EAB_KEY", EAB.1);
    let mut server = setup.start();
    let first = issued(&server, NAME);
    server.restart();
    server.admin().post(&format!("/admin/certificates/{NAME}/renew"), &serde_json::json!({})).expect(202);
    crate::another(&server, NAME, &first["serial"]);
    let registrations = bench.proxy.of(Kind::NewAccount);
    let bound = registrations.iter().filter(|seen| seen.payload["externalAccountBinding"].is_object()).count();
    assert_eq!((bench.proxy.accounts().len(), bound), (1, registrations.len()), "{registrations:?}");
    assert!(!server.log().join("\n").contains(EAB.1));
}

#[test]
fn without_a_binding_it_is_said_what_is_missing() {
    let bench = Bench::with(&Options { eab: true, ..Options::default() });
    let server = bench.setup(Setup::real(), &[NAME]).start();
    let problem = failed(&server, NAME, 1)["problem"].clone();
    assert!(problem.as_str().is_some_and(|text| text.contains("acme.eab_kid")), "{problem}");
}

#[test]
fn a_profile_is_asked_for_where_it_is_offered() {
    let bench = Bench::with(&Options { profiles: true, ..Options::default() });
    let mut server = bench.setup(Setup::real(), &[NAME]).env("AGENTD_ACME_PROFILE", "shortlived").start();
    issued(&server, NAME);
    assert_eq!(bench.proxy.orders()[0].payload["profile"], "shortlived");
    server.stop();
    let (other, orders) = ("other.example.test", bench.proxy.orders().len());
    server.start_again(|setup| setup.env("AGENTD_ACME_PROFILE", "tlsserver").env("AGENTD_ACME_DOMAINS", other));
    let problem = failed(&server, other, 1)["problem"].clone();
    let text = problem.as_str().expect("a text");
    assert!(text.contains("tlsserver") && text.contains("shortlived"), "{text}");
    assert_eq!(bench.proxy.orders().len(), orders);
}

#[test]
fn chance_and_refused_nonces_only_delay() {
    let bench = Bench::with(&Options { nonce_reject: 30, fail_one_in: 3, ..Options::default() });
    let names = ["a.example.test", "b.example.test", "c.example.test", "d.example.test"];
    let server = bench.setup(Setup::testbed(), &names).start();
    for name in names {
        let state = eventually(&format!("{name} is issued"), || {
            let state = certificate(&server, name);
            if state["status"] == "missing" && state["failures"].as_u64() > Some(0) {
                set_time(&server, seconds(&state["next_attempt_at"]) + 1);
                std::thread::sleep(Duration::from_millis(50));
            }
            (state["status"] == "valid").then_some(state)
        });
        assert_eq!(state["serial"], shown(&bench, name));
    }
    assert!(bench.proxy.failed_by_chance() > 0, "chance had its say");
    assert_eq!(bench.proxy.accounts().len(), 1);
}

#[test]
fn many_nonces_are_refused() {
    let bench = Bench::with(&Options { nonce_reject: 40, ..Options::default() });
    let server = bench.setup(Setup::real(), &[NAME]).start();
    let state = issued(&server, NAME);
    assert_eq!((&state["failures"], bench.proxy.orders().len()), (&Value::from(0), 1), "{state}");
}

#[test]
fn a_directory_that_refuses_every_nonce_is_asked_a_few_times() {
    let bench = Bench::with(&Options { nonce_reject: 100, ..Options::default() });
    let server = bench.setup(Setup::real(), &[NAME]).start();
    let problem = failed(&server, NAME, 1)["problem"].clone();
    assert!(problem.as_str().is_some_and(|text| text.contains("badNonce")), "{problem}");
    assert!(bench.proxy.seen().len() <= 10, "{:?}", bench.proxy.seen());
}

#[test]
fn a_directory_that_begins_to_refuse_every_nonce_is_left_alone_too() {
    let bench = Bench::with(&Options { nonce_reject: 0, ..Options::default() });
    bench.proxy.fail(Kind::NewOrder, 99, Fault::Problem(400, "badNonce", None));
    let server = bench.setup(Setup::testbed(), &[NAME]).start();
    let state = failed(&server, NAME, 1);
    assert!(state["problem"].as_str().is_some_and(|text| text.contains("badNonce")), "{state}");
    // Its refusals come without a nonce, so each one is asked for.
    assert!(bench.proxy.seen().len() < 30, "{:?}", bench.proxy.seen());
    bench.proxy.heal();
    set_time(&server, seconds(&state["next_attempt_at"]) + 1);
    issued(&server, NAME);
    assert_eq!(bench.proxy.accounts().len(), 1);
}
