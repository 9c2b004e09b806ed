//! Nothing of a file that may hold a secret is in an error or in the log,
//! whatever is wrong with it.

use super::Pair;
use crate::support::Setup;
use crate::support::server::run;
use crate::support::tls::{Made, replace};

/// Text that is nowhere else. It could be Base64.
const MARKER: &str = "TWFya2VyT2ZUaGVTZWNyZXQwMTIzNDU2Nzg5QUJDREVGR0hJSktM";

/// Files of a key that are broken in many ways, all with the marker.
fn broken() -> Vec<String> {
    let mut all = Vec::new();
    for label in ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "CERTIFICATE", "ENCRYPTED PRIVATE KEY", "OTHER"] {
        let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
        all.extend([
            format!("{begin}{MARKER}{end}"),
            format!("{begin}{MARKER}"),
            format!("{begin}\n{MARKER}\n"),
            format!("{MARKER}{end}"),
            format!("{begin}{MARKER}{begin}{MARKER}{end}"),
            format!("{begin}\n{MARKER}\n-----END {MARKER}-----"),
            format!("-----BEGIN {MARKER}-----\n{MARKER}\n{end}"),
            format!("-----BEGIN {label} {MARKER}\n{MARKER}\n{end}"),
            format!("{begin}\n*{MARKER}*\n{end}"),
            format!("{begin}\n{MARKER}=={MARKER}\n{end}"),
            format!("{begin}\nProc-Type: 4,ENCRYPTED {MARKER}\n\n{MARKER}\n{end}"),
        ]);
    }
    all.extend([MARKER.to_owned(), format!("{{\"key\": \"{MARKER}\"}}"), format!("\u{feff}{MARKER}\r\n")]);
    all
}

#[track_caller]
fn says_nothing_of_it(said: &str, of: &str) {
    for piece in MARKER.as_bytes().windows(12) {
        let piece = String::from_utf8_lossy(piece);
        assert!(!said.contains(&*piece), "of {of:?}:\n{said}");
    }
}

#[test]
fn files_of_certificates_and_keys_are_not_repeated() {
    let pair = Pair::of(&Made::of(&["localhost"]));
    let file = pair.folder.path().join("broken.pem");
    let at = file.to_string_lossy().into_owned();
    for text in broken() {
        replace(&file, &text);
        for variable in ["AGENTD_TLS_CERT_FILE", "AGENTD_TLS_KEY_FILE"] {
            let (code, said) = run(&mut pair.setup().env(variable, &at).command(&["check"]));
            assert_eq!(code, 78, "{text:?}: {said}");
            assert!(said.contains("broken.pem"), "{said}");
            says_nothing_of_it(&said, &text);
        }
    }
}

#[test]
fn nor_are_they_by_a_service_that_runs_or_starts() {
    let made = Made::of(&["localhost"]);
    let pair = Pair::of(&made);
    let server = pair.setup().start();
    for text in broken().into_iter().step_by(7) {
        replace(&pair.certificate(), &text);
        says_nothing_of_it(&server.agentd(&["reload"]).refused(78), &text);
    }
    server.wait_for_log("that it cannot be used", |line| {
        line["message"].as_str().is_some_and(|said| said.contains("cannot be used"))
    });
    says_nothing_of_it(&server.log().join("\n"), "the log");
    let folder = tempfile::TempDir::new().expect("a folder");
    for (variable, mode) in [("AGENTD_OUTBOUND_EXTRA_CA", ""), ("AGENTD_ACME_CA_FILE", "acme")] {
        for text in broken().into_iter().step_by(9) {
            replace(&pair.certificate(), &text);
            let mut setup = Setup::real().env(variable, &pair.certificate().to_string_lossy());
            if mode == "acme" {
                setup = setup.env("AGENTD_TLS_MODE", "acme").env("AGENTD_ACME_DOMAINS", "a.example.test");
            }
            let (code, said) = setup.refused(&folder.path().join("data"));
            assert_eq!(code, 78, "{variable} {text:?}: {said}");
            says_nothing_of_it(&said, &text);
        }
    }
}

/// Who writes the key where its path belongs is told, and finds it nowhere.
#[test]
fn a_key_in_the_place_of_its_path_is_not_repeated() {
    let pair = Pair::of(&Made::of(&["localhost"]));
    let text = format!("-----BEGIN PRIVATE KEY-----{MARKER}-----END PRIVATE KEY-----");
    for variable in [
        "AGENTD_TLS_KEY_FILE",
        "AGENTD_TLS_CERT_FILE",
        "AGENTD_ACME_EAB_KEY_FILE",
        "AGENTD_AUTH_ADMIN_KEY_FILE",
        "AGENTD_OUTBOUND_EXTRA_CA",
    ] {
        let setup = pair.setup().without_env("AGENT_ADMIN_KEY").env(variable, &text);
        let (code, said) = run(&mut setup.command(&["check", "--show"]));
        assert_eq!(code, 78, "{variable}: {said}");
        says_nothing_of_it(&said, &text);
    }
}

#[test]
fn other_secrets_are_not_repeated() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("secret");
    let long = MARKER.repeat(3);
    let texts = [
        MARKER.to_owned(),
        format!("{MARKER}\n{MARKER}"),
        format!("\u{feff}{MARKER} {MARKER}"),
        format!("{long}\u{1}"),
    ];
    for (name, more) in [
        ("AGENTD_ACME_EAB_KEY", "AGENTD_ACME_EAB_KID"),
        ("AGENTD_DATA_MASTER_KEY", ""),
        ("AGENTD_MODELS_OPENAI_API_KEY", ""),
        ("AGENTD_AUTH_API_KEY", ""),
        ("AGENTD_AUTH_METRICS_TOKEN", ""),
        ("AGENTD_BACKUP_RECIPIENTS", ""),
    ] {
        for text in &texts {
            std::fs::write(&file, text).expect("written");
            let setup = Setup::real().env("AGENTD_TLS_MODE", "acme").env("AGENTD_ACME_DOMAINS", "a.example.test");
            let setup = if more.is_empty() { setup } else { setup.env(more, "kid") };
            let by_file = setup.clone().env(&format!("{name}_FILE"), &file.to_string_lossy());
            for setup in [setup.env(name, text), by_file] {
                let (_, said) = run(&mut setup.command(&["check", "--show"]));
                says_nothing_of_it(&said, text);
            }
        }
    }
}

#[test]
fn secrets_in_bodies_of_the_administrator_are_not_repeated() {
    let server = crate::support::Server::real();
    let long = format!("\"{MARKER}\"");
    let number = "123456789012345678901234567890";
    for body in [
        format!("{{\"name\": \"alice\", \"role\": \"admin\", \"password\": [{long}]}}"),
        format!("{{\"name\": \"alice\", \"role\": \"admin\", \"password\": {{\"x\": {long}}}}}"),
        format!("{{\"name\": \"alice\", \"role\": \"admin\", \"password\": {number}}}"),
        format!("{{\"name\": \"alice\", \"role\": \"admin\", \"password\": {long}"),
        format!("{{\"name\": \"alice\", \"role\": \"admin\", \"password\": {long}, \"password\": {long}}}"),
        format!("{{\"name\": \"alice\", \"role\": \"nobody\", \"password\": {long}}}"),
        format!("{{\"password\": {long}}}"),
    ] {
        for (path, client) in [("/admin/users", server.admin()), ("/admin/session", server.anyone())] {
            let answer = client.send("POST", path, &[("Content-Type", "application/json")], Some(body.as_bytes()));
            assert!((400..500).contains(&answer.status), "{}", answer.text);
            says_nothing_of_it(&answer.text, &body);
            assert!(!answer.text.contains(number), "{}", answer.text);
        }
    }
    says_nothing_of_it(&server.log().join("\n"), "the log");
}
