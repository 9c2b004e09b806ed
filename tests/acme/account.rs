//! Other keys for the account with the authority.

use serde_json::json;

use crate::support::acme::{Bench, Fault, Kind};
use crate::support::{Server, Setup};
use crate::{certificate, issued};

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
fn without_an_account_there_is_nothing_to_do() {
    let server = Server::real();
    assert_eq!(server.ask(&["cert", "rotate-account-key"]), "there is no account with an authority\n");
    server.client().post("/admin/acme-accounts/rotate-keys", &json!({})).problem(401, "unauthorized");
}
