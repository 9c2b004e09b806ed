//! Looking after certificates: the command line, a stop in the middle, and what
//! is not there any more when it is over.

use crate::support::Setup;
use crate::support::acme::{Bench, Fault, Kind};
use crate::support::server::long_enough;
use crate::support::tls::Dial;
use crate::{another, certificate, failed, issued, shown};

const NAME: &str = "agents.example.test";

#[test]
fn the_command_line_lists_renews_and_revokes() {
    let bench = Bench::new();
    let server = bench.setup(Setup::real(), &[NAME]).start();
    let first = issued(&server, NAME);
    let list = server.ask(&["cert", "list"]);
    assert!(list.contains(NAME) && list.contains("valid"), "{list}");
    // Where there is only one name it need not be said.
    let told = server.ask(&["cert", "renew"]);
    let second = certificate(&server, NAME);
    assert!(told.contains(second["serial"].as_str().expect("a serial")), "{told}");
    assert_ne!(first["serial"], second["serial"], "it waits for the end");
    server.ask(&["cert", "revoke", NAME, "--reason", "superseded"]);
    let revoked = bench.pebble.certificate(second["serial"].as_str().expect("a serial"));
    assert_eq!((&revoked["Status"], &revoked["Reason"]), (&"Revoked".into(), &4.into()), "{revoked}");
    let third = another(&server, NAME, &second["serial"]);
    assert_eq!(third["serial"], shown(&bench, NAME));
    assert!(server.agentd(&["cert", "renew", "other.example.test"]).code != 0);
}

#[test]
fn the_command_line_says_why_there_is_none() {
    let bench = Bench::new();
    bench.names.at(NAME, "127.255.255.254");
    let server = bench.setup(Setup::real(), &[NAME]).start();
    failed(&server, NAME, 1);
    let said = server.agentd(&["cert", "renew", NAME]);
    assert!(said.code != 0 && said.err.contains("127.255.255.254"), "{said:?}");
    let list = server.ask_json(&["cert", "list"]);
    assert_eq!(list["data"][0]["status"], "missing", "{list}");
}

#[test]
fn a_stop_in_the_middle_is_no_failure_and_no_second_order() {
    let bench = Bench::new();
    bench.proxy.fail(Kind::Finalize, 1, Fault::Hang);
    let setup = bench.setup(Setup::real(), &[NAME]).env("AGENTD_SERVER_DRAIN_TIME", "500ms");
    let mut server = setup.start();
    bench.proxy.wait_for(Kind::Finalize, 1);
    server.stop();
    bench.proxy.heal();
    server.start_again(|setup| setup);
    let state = issued(&server, NAME);
    assert_eq!((bench.proxy.orders().len(), bench.proxy.accounts().len()), (1, 1));
    assert_eq!(state["serial"], shown(&bench, NAME));
}

#[test]
fn proofs_are_shown_no_longer_than_needed() {
    let bench = Bench::new();
    let server = bench.setup(Setup::real(), &[NAME]).env("AGENTD_ACME_CHALLENGES", "tls-alpn-01").start();
    issued(&server, NAME);
    let asking = Dial::anybody(&bench.tls_address()).name(NAME).alpn(&["acme-tls/1"]);
    assert!(asking.connect().is_err(), "there is nothing left to prove");
}

#[test]
fn connections_order_nothing() {
    let bench = Bench::new();
    bench.proxy.set_down(true);
    let server = bench.setup(Setup::real(), &[NAME]).start();
    failed(&server, NAME, 1);
    let asked = bench.proxy.attempts();
    for name in [NAME, "other.example.test", "*.example.test.invalid"] {
        for _ in 0..20 {
            let dial = Dial::anybody(&bench.tls_address()).name(name.trim_start_matches("*."));
            dial.connect().expect("there is always something to show");
        }
    }
    long_enough();
    assert_eq!(bench.proxy.attempts(), asked);
}

#[test]
fn a_directory_that_never_answers_is_given_up() {
    let bench = Bench::new();
    bench.proxy.fail(Kind::NewOrder, 1, Fault::Hang);
    let server = bench.setup(Setup::real(), &[NAME]).start();
    bench.proxy.wait_for(Kind::NewOrder, 1);
    let state = failed(&server, NAME, 1);
    let problem = state["problem"].as_str().expect("a text");
    assert!(!problem.is_empty() && state["next_attempt_at"].is_string(), "{state}");
}
