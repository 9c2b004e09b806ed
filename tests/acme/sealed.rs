//! Private keys at rest.

use crate::support::acme::Bench;
use crate::support::{Server, Setup};
use crate::{another, certificate, issued, shown};

const NAME: &str = "agents.example.test";

/// Whether a file of the database has one of these in it.
fn has(server: &Server, hidden: &[&str]) -> bool {
    let files = std::fs::read_dir(server.data()).expect("a folder").flatten();
    let files = files.filter(|file| file.file_name().to_string_lossy().starts_with("agentd.db"));
    files
        .map(|file| std::fs::read(file.path()).expect("a file"))
        .any(|bytes| hidden.iter().any(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes())))
}

#[test]
fn no_private_key_is_readable_in_the_database() {
    let bench = Bench::new();
    let mut server = bench.setup(Setup::real(), &[NAME]).start();
    let first = issued(&server, NAME);
    let hidden = ["PRIVATE KEY", "key_pkcs8"];
    assert!(has(&server, &["BEGIN CERTIFICATE"]), "the test would see it");
    assert!(!has(&server, &hidden), "while it runs, in its log too");
    server.kill();
    assert!(!has(&server, &hidden), "after a crash");
    server.start_again(|setup| setup);
    assert_eq!(first["serial"], shown(&bench, NAME), "it can be opened");
    server.ask(&["admin", "rotate-master-key"]);
    server.restart();
    assert_eq!(first["serial"], shown(&bench, NAME), "with another master key too");
    server.ask(&["cert", "renew", NAME]);
    let second = certificate(&server, NAME);
    assert_ne!(first["serial"], second["serial"]);
    assert_eq!(bench.proxy.accounts().len(), 1, "the account was opened");
    server.stop();
    assert!(!has(&server, &hidden), "after a stop");
}

#[test]
fn what_was_given_up_is_ordered_anew() {
    let bench = Bench::new();
    let mut server = bench.setup(Setup::real(), &[NAME]).start();
    let first = issued(&server, NAME);
    server.stop();
    std::fs::remove_file(server.data().join("secrets/master.key")).expect("removed");
    server.ask(&["admin", "forget-secrets", "--yes"]);
    server.start_again(|setup| setup);
    let second = another(&server, NAME, &first["serial"]);
    assert_eq!(second["serial"], shown(&bench, NAME));
    assert_eq!(bench.proxy.accounts().len(), 2);
}
