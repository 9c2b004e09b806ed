//! Renewal: in time, without a failed request, and not more often than wanted.

use serde_json::{Value, json};

use crate::load::Load;
use crate::support::acme::{Bench, Kind, Options};
use crate::support::{Server, Setup, eventually};
use crate::{another, certificate, issued, seconds, set_time, shown};

const NAME: &str = "agents.example.test";
const DAY: i64 = 86_400;

/// Waits until some more requests have been answered, over old connections and
/// new ones.
fn some_more(load: &Load) {
    let before = load.answered();
    eventually("requests are answered", || (load.answered() > before + 100).then_some(()));
}

fn first(bench: &Bench) -> (Server, Value) {
    let server = bench.setup(Setup::testbed(), &[NAME]).start();
    let state = issued(&server, NAME);
    (server, state)
}

#[test]
fn the_authority_says_when_and_no_request_fails() {
    let bench = Bench::with(&Options { ari: true, ..Options::default() });
    let (server, first) = first(&bench);
    let state = until_suggested(&server);
    assert_eq!(state["why"], "suggested");
    let due = seconds(&state["next_attempt_at"]);
    assert!(seconds(&state["suggested_from"]) <= due && due <= seconds(&state["suggested_until"]), "{state}");
    let load = Load::start(&bench.tls_address(), &bench.root_file(), NAME);
    some_more(&load);
    // It is asked again after an hour, as it said.
    bench.proxy.renew_now();
    server.set_clock(2 * 3600 + DAY + 60);
    let second = another(&server, NAME, &first["serial"]);
    some_more(&load);
    assert_eq!(load.end(), Vec::<String>::new());
    assert_eq!(second["serial"], shown(&bench, NAME));
    let orders = bench.proxy.orders();
    assert_eq!((orders.len(), bench.proxy.accounts().len()), (2, 1));
    let asked = bench.proxy.of(Kind::RenewalInfo)[0].path.clone();
    assert!(orders[0].payload["replaces"].is_null(), "{orders:?}");
    assert!(asked.ends_with(orders[1].payload["replaces"].as_str().expect("what it replaces")), "{orders:?}");
}

#[track_caller]
fn until_suggested(server: &Server) -> Value {
    crate::until(server, NAME, "the authority was asked", |it| it["suggested_from"].is_string())
}

#[test]
fn in_the_last_third_and_no_request_fails() {
    let bench = Bench::new();
    let (server, first) = first(&bench);
    let load = Load::start(&bench.tls_address(), &bench.root_file(), NAME);
    some_more(&load);
    set_time(&server, seconds(&first["next_attempt_at"]) - 600);
    some_more(&load);
    assert_eq!(certificate(&server, NAME)["serial"], first["serial"], "not yet");
    set_time(&server, seconds(&first["next_attempt_at"]) + 1);
    let second = another(&server, NAME, &first["serial"]);
    some_more(&load);
    assert_eq!(load.end(), Vec::<String>::new());
    assert_eq!(second["serial"], shown(&bench, NAME));
    assert_eq!(bench.proxy.accounts().len(), 1);
}

/// Pebble's certificates begin at the true time, so to a clock that is far ahead
/// each new one is due at once: as if this host's clock were wrong.
#[test]
fn a_wrong_clock_does_not_order_again_and_again() {
    let bench = Bench::new();
    let (server, first) = first(&bench);
    server.set_clock(70 * DAY);
    let second = another(&server, NAME, &first["serial"]);
    server.set_clock(70 * DAY + 3600);
    // The loop has looked again when a second name's schedule has moved on.
    let looks = bench.proxy.orders().len();
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!((looks, bench.proxy.orders().len()), (2, 2));
    server.set_clock(-400 * DAY);
    std::thread::sleep(std::time::Duration::from_secs(2));
    server.set_clock(0);
    let state = issued(&server, NAME);
    assert_eq!((&state["serial"], bench.proxy.orders().len()), (&second["serial"], 2), "{state}");
}

#[test]
fn a_revoked_certificate_is_replaced() {
    let bench = Bench::new();
    let server = bench.setup(Setup::real(), &[NAME]).start();
    let first = issued(&server, NAME);
    let path = format!("/admin/certificates/{NAME}/revoke");
    server.admin().post(&path, &json!({ "reason": "key_compromise" })).expect(200);
    let known = bench.pebble.certificate(first["serial"].as_str().expect("a serial"));
    assert_eq!((&known["Status"], &known["Reason"]), (&json!("Revoked"), &json!(1)), "{known}");
    let second = another(&server, NAME, &first["serial"]);
    assert_eq!(second["serial"], shown(&bench, NAME));
    assert_eq!(bench.pebble.certificate(&shown(&bench, NAME))["Status"], "Valid");
}

#[test]
fn an_administrator_renews_and_sees_the_job() {
    let bench = Bench::new();
    let server = bench.setup(Setup::real(), &[NAME]).start();
    let first = issued(&server, NAME);
    let renewing = server.admin().post(&format!("/admin/certificates/{NAME}/renew"), &json!({})).expect(202);
    another(&server, NAME, &first["serial"]);
    let jobs = server.admin().get("/admin/jobs?tool=certificate.renew").expect(200);
    let found = jobs["data"].as_array().expect("a list").iter().any(|job| job["job_id"] == renewing["job_id"]);
    assert!(found, "{renewing} in {jobs}");
    server.admin().post("/admin/certificates/other.example.test/renew", &json!({})).problem(404, "not_found");
}

#[test]
fn what_renews_is_nothing_for_tenants() {
    let bench = Bench::new();
    let server = bench.setup(Setup::real(), &[NAME]).start();
    issued(&server, NAME);
    let client = server.client();
    let tools = client.get("/v1/tools").text;
    assert!(!tools.contains("certificate.renew"), "{tools}");
    let body = json!({ "tool": "certificate.renew", "input": { "name": NAME, "now": true } });
    let answer = client.post("/v1/jobs", &body);
    assert!((400..500).contains(&answer.status), "{}", answer.text);
    assert_eq!(bench.proxy.orders().len(), 1);
}
