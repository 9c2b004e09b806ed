//! Certificates from files: what keeps the service from starting, and what
//! happens when they change.

use rcgen::date_time_ymd;

use crate::support::server::run;
use crate::support::tls::{Made, replace};
use crate::support::{Setup, eventually};

use super::{Pair, connect};

/// Both `serve` and `check` refuse it and say the same.
#[track_caller]
fn refused(setup: &Setup, parts: &[&str]) {
    let folder = tempfile::TempDir::new().expect("a folder");
    for (code, said) in [setup.refused(&folder.path().join("data")), run(&mut setup.command(&["check"]))] {
        assert_eq!(code, 78, "{said}");
        for part in parts {
            assert!(said.contains(part), "{part:?} is missing in:\n{said}");
        }
    }
}

#[test]
fn what_cannot_be_shown_keeps_the_service_from_starting() {
    let good = Made::of(&["localhost"]);
    let pair = Pair::of(&good);
    refused(&pair.setup().env("AGENTD_TLS_KEY_FILE", "/nowhere/key.pem"), &["/nowhere/key.pem", "put it there"]);
    refused(&pair.setup().without_env("AGENTD_TLS_KEY_FILE"), &["tls.key_file"]);
    refused(&pair.setup().env("AGENTD_TLS_CERT_FILE", "/proc/self"), &["the certificate /proc/self"]);
    refused(&pair.setup().env("AGENTD_TLS_KEY_FILE", &pair.certificate().to_string_lossy()), &["no private key"]);
    refused(&pair.setup().env("AGENTD_TLS_CERT_FILE", &pair.key().to_string_lossy()), &["no certificate"]);
    replace(&pair.key(), &Made::of(&["localhost"]).key);
    refused(&pair.setup(), &["does not belong to the key", "server.key"]);
    let expired = Made::with(&["localhost"], |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    });
    expired.write(&pair.certificate(), &pair.key());
    refused(&pair.setup(), &["2020-01-01", "which is over"]);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    replace(&pair.certificate(), broken);
    refused(&pair.setup(), &["server.crt", "malformed"]);
    // What was in the key's file is nowhere.
    let secret = good.key.lines().nth(1).expect("a line").to_owned();
    replace(&pair.key(), &good.key.replace("-----END", "-----ENT"));
    let (_, said) = run(&mut pair.setup().command(&["check"]));
    assert!(!said.contains(&secret), "{said}");
}

#[test]
fn an_unreadable_key_is_told() {
    let pair = Pair::of(&Made::of(&["localhost"]));
    // A folder cannot be read by anybody, not even by root.
    std::fs::remove_file(pair.key()).expect("removed");
    std::fs::create_dir(pair.key()).expect("a folder");
    refused(&pair.setup(), &["the private key", "server.key", "cannot be read"]);
}

#[test]
fn the_name_that_a_client_asks_for_and_none_are_answered() {
    let made = Made::of(&["agents.example.com", "127.0.0.1"]);
    let pair = Pair::of(&made);
    let server = pair.setup().start();
    for name in ["agents.example.com", "127.0.0.1", "elsewhere.example"] {
        let shown = super::dial(&server).name(name).connect().expect("a connection").serial();
        assert_eq!(shown, made.serial, "{name}");
    }
}

#[test]
fn a_changed_pair_is_shown_and_a_broken_one_is_not() {
    let (first, second, third) = (Made::of(&["a.test"]), Made::of(&["b.test"]), Made::of(&["c.test"]));
    let pair = Pair::of(&first);
    let server = pair.setup().start();
    let mut open = connect(&server);
    assert!(open.exchange(super::HEALTH).is_some());
    let shows = |made: &Made| {
        eventually("it is shown", || (connect(&server).serial() == made.serial).then_some(()));
    };
    shows(&first);
    second.write(&pair.certificate(), &pair.key());
    shows(&second);
    assert_eq!(super::dial(&server).name("a.test").connect().expect("a connection").serial(), second.serial);
    // Half a change: the certificate is new, the key is not.
    replace(&pair.certificate(), &third.certificate);
    server.wait_for_log("that they do not fit", |line| {
        let message = line["message"].as_str().unwrap_or_default();
        line["level"] == "WARN"
            && message.contains("from before goes on being shown")
            && message.contains("does not belong")
    });
    shows(&second);
    replace(&pair.key(), &third.key);
    shows(&third);
    // An expired one, and none at all.
    let expired = Made::with(&["d.test"], |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    });
    expired.write(&pair.certificate(), &pair.key());
    server
        .wait_for_log("that it is over", |line| line["message"].as_str().is_some_and(|said| said.contains("is over")));
    std::fs::remove_file(pair.key()).expect("removed");
    server.wait_for_log("that it is gone", |line| {
        line["message"].as_str().is_some_and(|said| said.contains("cannot be read"))
    });
    // While it runs, not only at the next start.
    let listed = eventually("it is listed as failing", || {
        let row = server.ask_json(&["cert", "list"])["data"][0].clone();
        row["problem"].as_str().is_some_and(|said| said.contains("cannot be read")).then_some(row)
    });
    assert_eq!((&listed["status"], &listed["source"]), (&"failing".into(), &"files".into()), "{listed}");
    assert!(listed["problem_at"].is_string() && listed["failing_since"].is_string(), "{listed}");
    assert!(server.ask(&["cert", "list"]).contains("cannot be read"));
    let status = server.agentd(&["status"]);
    assert_eq!(status.code, 1, "{status:?}");
    assert!(
        status.out.contains("a restart would fail: the private key") && status.out.contains("tls.key_file"),
        "{status:?}"
    );
    shows(&third);
    assert!(open.exchange(super::HEALTH).is_some(), "a connection outlives its certificate");
    let warnings = server.log().iter().filter(|line| line.contains("from before goes on being shown")).count();
    assert_eq!(warnings, 3, "each is told once");
    second.write(&pair.certificate(), &pair.key());
    shows(&second);
    let listed = server.ask_json(&["cert", "list"]);
    assert_eq!(
        (&listed["data"][0]["status"], &listed["data"][0]["problem"]),
        (&"valid".into(), &serde_json::Value::Null)
    );
}

/// As certbot lays them out: links that come to point elsewhere.
#[test]
fn links_are_followed() {
    let (first, second) = (Made::of(&["a.test"]), Made::of(&["a.test"]));
    let pair = Pair::of(&first);
    let archive = pair.folder.path().join("archive");
    std::fs::create_dir(&archive).expect("a folder");
    let point = |made: &Made, number: u32| {
        let (certificate, key) = (archive.join(format!("{number}.crt")), archive.join(format!("{number}.key")));
        made.write(&certificate, &key);
        for (from, to) in [(pair.certificate(), certificate), (pair.key(), key)] {
            let partial = from.with_extension("link");
            std::os::unix::fs::symlink(to, &partial).expect("a link");
            std::fs::rename(partial, from).expect("renamed");
        }
    };
    point(&first, 1);
    let server = pair.setup().start();
    assert_eq!(connect(&server).serial(), first.serial);
    point(&second, 2);
    eventually("the second is shown", || (connect(&server).serial() == second.serial).then_some(()));
}
