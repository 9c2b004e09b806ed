//! Files with several certificates, however they were put together: what
//! clients are sent, and what is said where they may refuse it.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use rcgen::{GeneralSubtree, NameConstraints};

use super::authority::{Authority, ended, unknown_critical};
use super::{Pair, connect};
use crate::support::Server;
use crate::support::server::run;
use crate::support::tls::{Dial, Made, replace};

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

/// A pair of files with this text for the certificate.
fn pair(made: &Made, certificate: impl AsRef<[u8]>) -> Pair {
    let pair = Pair::of(made);
    std::fs::write(pair.certificate(), certificate).expect("written");
    pair
}

/// What `agentd check` says of a pair that it does not refuse.
#[track_caller]
fn checked(pair: &Pair) -> String {
    let (code, said) = run(&mut pair.setup().command(&["check"]));
    assert_eq!(code, 0, "{said}");
    said
}

#[test]
fn the_whole_chain_is_sent_however_the_file_is_written() {
    let authority = Authority::new();
    let made = authority.issue(&["agents.example.com"]);
    let (leaf, below, root) = (made.certificate.clone(), authority.below(), authority.root());
    let first = pair(&made, format!("{leaf}{below}"));
    let server = first.setup().start();
    let sent = [der(&leaf), der(&below)];
    let windows = format!("\u{feff}{leaf}{below}").replace('\n', "\r\n");
    let utf16: Vec<u8> = format!("\u{feff}{leaf}{below}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let texts: [(&str, Vec<u8>); 11] = [
        ("as it should be", format!("{leaf}{below}").into()),
        ("no newline between", format!("{}{}", leaf.trim_end(), below.trim_end()).into()),
        ("each on one line", format!("{}{}", leaf.replace('\n', ""), below.replace('\n', "")).into()),
        ("Windows", windows.into()),
        ("UTF-16", utf16),
        ("text around", format!("subject=CN=x\n{leaf}\nissuer=CN=y\n  {below}\nend").into()),
        ("the root too", format!("{leaf}{below}{root}").into()),
        ("each twice", format!("{leaf}{leaf}{below}{below}").into()),
        ("the other way round", format!("{root}{below}{leaf}").into()),
        ("with its key", format!("{}{leaf}{below}", made.key).into()),
        ("with the line breaks written out", format!("{leaf}{below}").replace('\n', "\\n").into()),
    ];
    for (what, text) in texts {
        let pair = pair(&made, &text);
        assert_eq!(checked(&pair).trim(), "the configuration is valid", "{what}");
        std::fs::write(first.certificate(), &text).expect("written");
        // A reload looks at the files at once.
        server.ask(&["reload"]);
        let connection =
            Dial::trusting(&server.address(), &trusted(&first, &root)).name("agents.example.com").connect();
        let connection = connection.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(connection.chain(), sent, "{what}");
    }
}

fn trusted(pair: &Pair, root: &str) -> std::path::PathBuf {
    let path = pair.folder.path().join("root.pem");
    replace(&path, root);
    path
}

#[test]
fn certificate_and_key_may_be_in_one_file_and_parameters_before_the_key() {
    let made = Made::of(&["localhost"]);
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let both = format!("{parameters}{}{}", made.key, made.certificate);
    let pair = pair(&made, &both);
    replace(&pair.key(), &both);
    let other = Made::of(&["localhost"]).key;
    let server = pair.setup().start();
    assert_eq!(connect(&server).serial(), made.serial);
    // Of several keys the one that belongs to the certificate.
    replace(&pair.key(), &format!("{other}{}", made.key));
    assert_eq!(checked(&pair).trim(), "the configuration is valid");
}

#[test]
fn a_chain_that_is_not_whole_is_a_warning_everywhere() {
    let authority = Authority::new();
    let made = authority.issue(&["agents.example.com"]);
    let pair = Pair::of(&made);
    let says = |text: &str| text.contains("The Intermediate") && text.contains("neither in the file nor an authority");
    assert!(says(&checked(&pair)), "{}", checked(&pair));
    let server = pair.setup().start();
    server.wait_for_log("that the issuer is missing", |line| {
        line["level"] == "WARN" && line["message"].as_str().is_some_and(says)
    });
    assert_eq!(connect(&server).serial(), made.serial, "it is served all the same");
    let listed = &server.admin().get("/admin/certificates").expect(200)["data"][0];
    assert_eq!((&listed["source"], &listed["status"]), (&json!("files"), &json!("valid")));
    assert!(listed["warnings"][0].as_str().is_some_and(says), "{listed}");
    assert!(says(&server.ask(&["cert", "list"]).replace('\n', " ")) || listed_wraps(&server), "the table has it");
    let status = server.agentd(&["status", "--json"]);
    assert_eq!(status.code, 1, "{status:?}");
    assert!(says(&status.out), "{status:?}");
    let (_, said) = run(&mut pair.setup().command(&["doctor"]));
    assert!(said.contains("neither in the file"), "{said}");
    // With the issuer there is nothing to say.
    replace(&pair.certificate(), &format!("{}{}", made.certificate, authority.below()));
    server.ask(&["reload"]);
    let listed = &server.admin().get("/admin/certificates").expect(200)["data"][0];
    assert_eq!(listed["warnings"], json!([]));
}

/// The table breaks long cells over lines.
fn listed_wraps(server: &Server) -> bool {
    server.ask(&["cert", "list"]).contains("neither")
}

#[test]
fn what_clients_would_refuse_is_said() {
    let usual = Authority::new();
    let old = Authority::with(ended);
    let narrow = Authority::with(|params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("example.org".into())],
            excluded_subtrees: Vec::new(),
        });
    });
    let odd = Authority::with(unknown_critical);
    // The same names, and other keys.
    let impostor = Authority::with(|params| params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![1]));
    let name = ["agents.example.com"];
    let no_key_id = |params: &mut rcgen::CertificateParams| params.use_authority_key_identifier_extension = false;
    let for_mail = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::EmailProtection];
    };
    let next = |params: &mut rcgen::CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2090, 1, 1);
        params.not_after = rcgen::date_time_ymd(2091, 1, 1);
    };
    for (made, above, said) in [
        (old.issue(&name), old.below(), "ended at 2020-01-01"),
        (narrow.issue(&name), narrow.below(), "nameConstraints"),
        (odd.issue(&name), odd.below(), "1.3.6.1.4.1.99999.1"),
        (usual.issue_with(&name, for_mail), usual.below(), "not for servers"),
        (usual.issue(&[]), usual.below(), "names no host"),
        (usual.issue_with(&name, next), usual.below(), "not valid before 2090"),
        (usual.issue_with(&name, no_key_id), impostor.below(), "its signature is not by"),
    ] {
        let checked = checked(&pair(&made, format!("{}{above}", made.certificate)));
        assert!(checked.contains("warning: the certificate: ") && checked.contains(said), "{said}:\n{checked}");
    }
}

#[test]
fn a_critical_extension_that_nobody_knows_is_named() {
    let made = Authority::new().issue_with(&["agents.example.com"], unknown_critical);
    let (code, said) = run(&mut Pair::of(&made).setup().command(&["check"]));
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("1.3.6.1.4.1.99999.1") && said.contains("clients"), "{said}");
    assert!(!said.contains("private key"), "{said}");
}
