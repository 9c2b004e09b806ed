//! Whatever happens to the process, what was ordered is not ordered again.

use serde_json::{Value, json};

use crate::support::acme::{Bench, Fault, Kind};
use crate::support::{Server, Setup};
use crate::{another, certificate, issued, seconds, set_time, shown};

const NAME: &str = "agents.example.test";

/// Kills the service while it waits for the answer to the first request of a
/// kind, starts it again, and looks what became of the order.
#[track_caller]
fn killed_at(kind: Kind, fault: Fault) -> Bench {
    let bench = Bench::new();
    bench.proxy.fail(kind, 1, fault);
    let mut server = bench.setup(Setup::testbed(), &[NAME]).start();
    bench.proxy.wait_for(kind, 1);
    server.kill();
    bench.proxy.heal();
    server.start_again(|setup| setup);
    finish(&server);
    assert_eq!(certificate(&server, NAME)["serial"], shown(&bench, NAME));
    bench
}

/// Waits for the certificate; where an attempt failed, until it is time again.
#[track_caller]
fn finish(server: &Server) -> Value {
    crate::until(server, NAME, "a certificate is issued", |state| {
        if state["failures"].as_u64() > Some(0) && state["next_attempt_at"].is_string() {
            set_time(server, seconds(&state["next_attempt_at"]) + 1);
        }
        state["status"] == "valid"
    })
}

#[test]
fn killed_before_the_account_is_made() {
    let bench = killed_at(Kind::NewAccount, Fault::Hang);
    assert_eq!((bench.proxy.orders().len(), bench.proxy.accounts().len()), (1, 1));
}

#[test]
fn killed_at_the_authorization() {
    let bench = killed_at(Kind::Authorization, Fault::Hang);
    assert_eq!((bench.proxy.orders().len(), bench.proxy.accounts().len()), (1, 1));
}

#[test]
fn killed_at_the_proof() {
    let bench = killed_at(Kind::Challenge, Fault::Hang);
    assert_eq!((bench.proxy.orders().len(), bench.proxy.accounts().len()), (1, 1));
}

#[test]
fn killed_before_the_certificate_is_signed() {
    let bench = killed_at(Kind::Finalize, Fault::Hang);
    assert_eq!((bench.proxy.orders().len(), bench.proxy.accounts().len()), (1, 1));
}

#[test]
fn killed_after_the_certificate_is_signed() {
    let bench = killed_at(Kind::Finalize, Fault::LoseAnswer);
    assert_eq!((bench.proxy.orders().len(), bench.proxy.accounts().len()), (1, 1));
}

#[test]
fn killed_before_the_certificate_is_fetched() {
    let bench = killed_at(Kind::Certificate, Fault::Hang);
    assert_eq!((bench.proxy.orders().len(), bench.proxy.accounts().len()), (1, 1));
}

#[test]
fn lost_answers_are_no_second_order() {
    let bench = Bench::new();
    for kind in [Kind::Authorization, Kind::Challenge, Kind::Finalize, Kind::Certificate] {
        bench.proxy.fail(kind, 1, Fault::LoseAnswer);
    }
    let server = bench.setup(Setup::testbed(), &[NAME]).start();
    finish(&server);
    assert_eq!((bench.proxy.orders().len(), bench.proxy.accounts().len()), (1, 1));
}

#[test]
fn a_start_orders_nothing_and_needs_no_directory() {
    let bench = Bench::new();
    let mut server = bench.setup(Setup::real(), &[NAME]).start();
    let state = issued(&server, NAME);
    bench.proxy.set_down(true);
    for _ in 0..3 {
        server.restart();
        assert_eq!(state["serial"], shown(&bench, NAME), "shown from the first connection on");
        assert_eq!(certificate(&server, NAME)["status"], "valid");
    }
    assert_eq!(bench.proxy.orders().len(), 1);
}

#[test]
fn an_account_that_is_lost_is_made_again() {
    let mut bench = Bench::new();
    let server = bench.setup(Setup::real(), &[NAME]).start();
    let first = issued(&server, NAME);
    bench.pebble.start_again();
    server.admin().post(&format!("/admin/certificates/{NAME}/renew"), &json!({})).expect(202);
    let second = another(&server, NAME, &first["serial"]);
    assert_eq!((&second["serial"], &second["failures"]), (&shown(&bench, NAME).into(), &Value::from(0)));
    assert_eq!(bench.proxy.accounts().len(), 2);
}
