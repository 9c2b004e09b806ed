//! Other keys for the account with the authority.

use serde_json::json;

use crate::support::acme::{Bench, Fault, Kind};
use crate::support::{Server, Setup};
use crate::{another, certificate, failed, issued, seconds, set_time};

const NAME: &str = "agents.example.test";

/// Orders another certificate, for which the account's key must be right.
#[track_caller]
fn renew(server: &Server) {
    let before = certificate(server, NAME)["serial"].clone();
    server.ask(&["cert", "renew", NAME]);
    assert_ne!(certificate(server, NAME)["serial"], before);
}

#[test]
fn the_account_keeps_its_name_and_has_another_key() {
    let bench = Bench::new();
    let mut server = bench.setup(Setup::real(), &[NAME]).start();
    issued(&server, NAME);
    let said = server.ask(&["cert", "rotate-account-key"]);
    assert_eq!(said, format!("the account with {} has another key\n", bench.proxy.directory()));
    renew(&server);
    server.restart();
    renew(&server);
    let rotated = server.admin().post("/admin/acme-accounts/rotate-keys", &json!({})).expect(200);
    assert_eq!(rotated["directories"], json!([bench.proxy.directory()]));
    renew(&server);
    assert_eq!((bench.proxy.accounts().len(), bench.proxy.of(Kind::KeyChange).len() >= 2), (1, true));
}

#[test]
fn a_refusal_leaves_the_key_as_it_was() {
    let bench = Bench::new();
    let server = bench.setup(Setup::real(), &[NAME]).start();
    issued(&server, NAME);
    bench.proxy.fail(Kind::KeyChange, 1, Fault::Problem(403, "unauthorized", None));
    let said = server.agentd(&["cert", "rotate-account-key"]).refused(1);
    assert!(said.contains(&bench.proxy.directory()), "{said}");
    bench.proxy.heal();
    renew(&server);
    server.ask(&["cert", "rotate-account-key"]);
    renew(&server);
    assert_eq!(bench.proxy.accounts().len(), 1);
}

#[test]
fn an_answer_that_is_lost_costs_another_registration() {
    let bench = Bench::new();
    let mut server = bench.setup(Setup::real(), &[NAME]).start();
    issued(&server, NAME);
    bench.proxy.fail(Kind::KeyChange, 1, Fault::LoseAnswer);
    server.agentd(&["cert", "rotate-account-key"]).refused(1);
    bench.proxy.heal();
    server.restart();
    renew(&server);
    assert_eq!(bench.proxy.accounts().len(), 2);
    server.ask(&["cert", "rotate-account-key"]);
    renew(&server);
    assert_eq!(bench.proxy.accounts().len(), 2);
}

#[test]
fn an_account_that_was_deactivated_is_replaced() {
    let bench = Bench::new();
    let mut server = bench.setup(Setup::real(), &[NAME]).start();
    issued(&server, NAME);
    bench.proxy.deactivate_accounts();
    renew(&server);
    assert_eq!(certificate(&server, NAME)["failures"], 0);
    let accounts = bench.proxy.accounts();
    assert_eq!(accounts.len(), 2);
    assert_ne!(accounts[0].signer, accounts[1].signer, "a key of its own");
    let told = server.log().join("\n");
    assert!(told.contains("does not accept our account any more") && told.contains(&accounts[1].location), "{told}");
    server.restart();
    renew(&server);
    assert_eq!(bench.proxy.accounts().len(), 2, "the new one is kept");
}

#[test]
fn the_order_under_way_goes_with_its_account() {
    let bench = Bench::new();
    bench.proxy.fail(Kind::Finalize, 1, Fault::Status(503));
    let server = bench.setup(Setup::testbed(), &[NAME]).start();
    let state = failed(&server, NAME, 1);
    bench.proxy.deactivate_accounts();
    set_time(&server, seconds(&state["next_attempt_at"]) + 1);
    let state = issued(&server, NAME);
    assert_eq!((state["failures"].clone(), bench.proxy.accounts().len()), (json!(0), 2), "{state}");
}

#[test]
fn an_account_is_kept_until_there_is_another() {
    let bench = Bench::new();
    let server = bench.setup(Setup::testbed(), &[NAME]).start();
    let first = issued(&server, NAME);
    bench.proxy.fail(Kind::NewOrder, 1, Fault::Problem(401, "unauthorized", None));
    bench.proxy.fail(Kind::NewAccount, 1, Fault::Problem(403, "unauthorized", None));
    set_time(&server, seconds(&first["next_attempt_at"]) + 1);
    let state = failed(&server, NAME, 1);
    let problem = state["problem"].as_str().expect("a text");
    assert!(problem.contains("another cannot be registered") && problem.contains("acme.eab_kid"), "{problem}");
    bench.proxy.heal();
    set_time(&server, seconds(&state["next_attempt_at"]) + 1);
    another(&server, NAME, &first["serial"]);
    assert_eq!(bench.proxy.accounts().len(), 1, "the directory takes it again");
}

#[test]
fn a_directory_that_refuses_every_account_is_sent_few() {
    let bench = Bench::new();
    bench.proxy.fail(Kind::NewOrder, 999, Fault::Problem(401, "unauthorized", None));
    let server = bench.setup(Setup::testbed(), &[NAME]).start();
    let mut state = failed(&server, NAME, 1);
    for failures in 2..=6 {
        set_time(&server, seconds(&state["next_attempt_at"]) + 1);
        state = failed(&server, NAME, failures);
    }
    let problem = state["problem"].as_str().expect("a text");
    assert!(problem.contains("one account after the other"), "{problem}");
    assert_eq!(bench.proxy.accounts().len(), 4, "the first, and three in its place");
}

#[test]
fn what_needs_the_account_says_that_it_is_gone() {
    let bench = Bench::new();
    let server = bench.setup(Setup::real(), &[NAME]).start();
    issued(&server, NAME);
    bench.proxy.deactivate_accounts();
    let said = server.agentd(&["cert", "revoke", NAME, "--reason", "superseded"]).refused(1);
    assert!(said.contains("not accepted any more") && said.contains("agentd cert renew"), "{said}");
}

#[test]
fn without_an_account_there_is_nothing_to_do() {
    let server = Server::real();
    assert_eq!(server.ask(&["cert", "rotate-account-key"]), "there is no account with an authority\n");
    server.client().post("/admin/acme-accounts/rotate-keys", &json!({})).problem(401, "unauthorized");
}
