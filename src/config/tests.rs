//! Reading the configuration: precedence, faults with their places, secrets.

use std::io::Write as _;

use super::*;

fn sources(file: &str, environment: &[(&str, &str)]) -> (Sources, tempfile::NamedTempFile) {
    let mut toml = tempfile::NamedTempFile::new().expect("a file");
    toml.write_all(file.as_bytes()).expect("written");
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    (Sources { file: Some(toml.path().into()), environment, ..Sources::default() }, toml)
}

fn faults(file: &str, environment: &[(&str, &str)]) -> String {
    let (sources, toml) = sources(file, environment);
    let faults = load(&sources).expect_err("it is refused");
    let name = toml.path().display().to_string();
    faults.iter().map(|fault| fault.to_string().replace(&name, "agentd.toml") + "\n").collect()
}

fn loaded(file: &str, environment: &[(&str, &str)]) -> Loaded {
    load(&sources(file, environment).0).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn shown<'a>(loaded: &'a Loaded, key: &str) -> &'a Shown {
    loaded.shown.iter().find(|shown| shown.key == key).expect("a key")
}

#[test]
fn the_environment_beats_the_file_and_a_flag_beats_both() {
    let file = "[jobs]\nconcurrency = 7\nqueue = 9\n\n[server]\nlisten = \"127.0.0.1:1\"\n";
    let (mut sources, _toml) =
        sources(file, &[("AGENTD_JOBS_CONCURRENCY", "8"), ("AGENTD_SERVER_LISTEN", "127.0.0.1:2")]);
    sources.flags.push(("server.listen", "--listen", "localhost:3".into()));
    let loaded = load(&sources).expect("valid");
    assert_eq!((loaded.config.jobs.concurrency, loaded.config.jobs.queue), (8, 9));
    assert_eq!(loaded.config.server.listen, ([127, 0, 0, 1], 3).into());
    assert_eq!(shown(&loaded, "jobs.concurrency").origin, Origin::Environment("AGENTD_JOBS_CONCURRENCY".into()));
    assert!(shown(&loaded, "jobs.queue").origin.to_string().ends_with(":3:1"));
    assert_eq!(shown(&loaded, "server.listen").origin, Origin::Flag("--listen"));
    assert_eq!(shown(&loaded, "jobs.wait").origin, Origin::Default);
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let file = "[server]\nlisten = \"example.com:80\"\nbody_tim = \"5s\"\n[jobs]\nconcurrency = 0\nqueue = [1]\n";
    insta::assert_snapshot!(faults(file, &[("AGENTD_LOG_FORMAT", "xml"), ("AGENTD_JOBS_QUEU", "5")]));
}

#[test]
fn a_broken_file_names_line_and_column() {
    insta::assert_snapshot!(faults("[server]\nlisten = \n", &[]));
}

#[test]
fn older_names_count_and_contradictions_are_refused() {
    let loaded = loaded("", &[("MAX_PAYLOAD_BYTES", "2048"), ("AGENT_DB_PATH", "/x/jobs.db"), ("ENV", "")]);
    assert_eq!(loaded.config.server.body_bytes, 2048);
    assert_eq!(loaded.config.data.database, PathBuf::from("/x/jobs.db"));
    let both = [("MAX_PAYLOAD_BYTES", "2048"), ("AGENTD_SERVER_BODY_BYTES", "4096")];
    assert!(faults("", &both).contains("set only one of them"));
}

#[test]
fn what_has_no_effect_is_said_and_what_is_unsafe_is_refused() {
    let set = [("SLACK_BOT_TOKEN", "xoxb-1"), ("DATABASE_URL", "postgres://"), ("INTEGRATIONS_GITHUB_ENABLED", "true")];
    let warnings = loaded("", &set).warnings.join("\n");
    for (name, value) in set {
        assert!(warnings.contains(name) && !warnings.contains(value), "{warnings}");
    }
    assert!(faults("", &[("AUTH_ENABLED", "false")]).contains("cannot be switched off"));
    assert!(faults("[server]\nlisten = \"0.0.0.0:80\"", &[]).contains("everyone on the way could read"));
    let weak = [("ENV", "production"), ("AGENT_ADMIN_KEY", "short")];
    let refused = faults("", &weak);
    assert!(refused.contains("auth.admin_key has fewer than 16") && !refused.contains("short"), "{refused}");
}

#[test]
fn secrets_are_masked_and_can_come_from_files() {
    let mut secret = tempfile::NamedTempFile::new().expect("a file");
    secret.write_all(b"  0123456789abcdef0123\n").expect("written");
    let file = format!("[auth]\nadmin_key_file = {:?}\nmetrics_token = \"token-token-token-x\"\n", secret.path());
    let loaded = loaded(&file, &[("AGENT_KEY_HASH_SECRET", "hash-secret-hash-secret")]);
    assert_eq!(loaded.config.auth.admin_key.resolve(), Ok(Some("0123456789abcdef0123".into())));
    let all = format!("{:?} {:?}", loaded.shown, loaded.config);
    for hidden in ["0123456789abcdef0123", "token-token-token-x", "hash-secret-hash-secret"] {
        assert!(!all.contains(hidden), "{hidden} is shown");
    }
    let both = "[auth]\nadmin_key = \"0123456789abcdef\"\nadmin_key_file = \"/x\"\n";
    assert!(faults(both, &[]).contains("set one of them"));
    assert!(faults("[auth]\napi_key_file = \"/not/there\"\n", &[]).contains("cannot be read"));
}

mod values {
    use super::super::{parse_bytes, parse_span};
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn spans_and_bytes_have_units() {
        assert_eq!(parse_span("90s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_span("2h"), Some(Duration::from_secs(7200)));
        assert_eq!(parse_span("90"), None, "which unit?");
        assert_eq!(parse_span("99999999999999999999d"), None);
        assert_eq!(parse_bytes("1MiB"), Some(1 << 20));
        assert_eq!(parse_bytes("17"), Some(17));
        assert_eq!(parse_bytes("1MB"), None, "a million, or 2 to the 20th?");
        assert_eq!(parse_bytes("-1"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_none(text in ".{0,40}") {
            let _ = parse_span(&text);
            let _ = parse_bytes(&text);
        }

        #[test]
        fn any_span_is_read_as_it_is_written(number in 0_u64..1_000_000) {
            prop_assert_eq!(parse_span(&format!("{number} m")), Some(Duration::from_secs(number * 60)));
        }
    }
}

#[test]
fn the_control_socket_is_in_the_data_folder_unless_it_is_said_where() {
    let data = "[data]\ndir = \"/d\"\n";
    let places = |file: &str, environment: &[(&str, &str)]| {
        let (sources, _toml) = sources(file, environment);
        let places = Places::find(&sources).expect("valid");
        let config = load(&sources).expect("valid").config;
        assert_eq!((&places.database, &places.control_socket), (&config.data.database, &config.control_socket()));
        places.control_socket
    };
    assert_eq!(places("", &[]), Some("data/control.sock".into()));
    assert_eq!(places(data, &[]), Some("/d/control.sock".into()));
    assert_eq!(places(data, &[("AGENTD_SERVER_CONTROL_SOCKET", "/r/c")]), Some("/r/c".into()));
    for off in ["off", ""] {
        assert_eq!(places(&format!("{data}[server]\ncontrol_socket = \"{off}\"\n"), &[]), None);
    }
}

#[test]
fn where_things_are_is_told_whatever_else_is_wrong() {
    let wrong = "[server]\nlisten = 5\nnonsense = 1\n[auth]\nadmin_key_file = \"/nowhere\"\n";
    let (wrong, _toml) = sources(wrong, &[]);
    assert!(load(&wrong).is_err() && Places::find(&wrong).is_ok());
    let (wrong, _toml) = sources("[server]\ncontrol_socket = [1]\n", &[]);
    assert!(Places::find(&wrong).is_err());
}

#[test]
fn a_planner_that_is_not_there_is_refused_by_name() {
    assert_eq!(shown(&loaded("", &[("AGENT_PLANNER_MODE", "rules")]), "agent.planner").value, "rules");
    assert_eq!(
        faults("", &[("AGENT_PLANNER_MODE", "llm")]),
        "environment AGENT_PLANNER_MODE: agent.planner must be rules (the planner llm is not available in this version), not \"llm\"\n"
    );
}

/// The same sources with a folder of credentials.
fn with_credentials(file: &str, environment: &[(&str, &str)], credentials: &[(&str, &str)]) -> Result<Loaded, String> {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in credentials {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let (mut sources, _toml) = sources(file, environment);
    sources.credentials = Some(folder.path().into());
    load(&sources).map_err(|faults| faults.iter().map(|fault| fault.to_string() + "\n").collect())
}

#[test]
fn a_credential_beats_the_environment_and_is_masked() {
    let key = "a-key-of-thirty-two-characters-00";
    let credentials = [("auth.admin_key", "another-key-of-many-characters\n")];
    let loaded = with_credentials("", &[("AGENT_ADMIN_KEY", key)], &credentials).expect("valid");
    let resolved = loaded.config.auth.admin_key.resolve().expect("a secret");
    assert_eq!(resolved.as_deref(), Some("another-key-of-many-characters"));
    let shown = shown(&loaded, "auth.admin_key");
    assert_eq!((shown.value.as_str(), shown.origin.to_string().as_str()), ("(secret)", "credential auth.admin_key"));
}

#[test]
fn an_unknown_credential_is_a_warning_with_the_nearest_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["auth.admin_kee", "jobs.queue", "tls.key"] {
        std::fs::write(folder.path().join(name), "x").expect("written");
    }
    let key = folder.path().join("tls.key");
    let (mut sources, _toml) = sources(&format!("[tls]\nkey_file = {key:?}\n"), &[]);
    sources.credentials = Some(folder.path().into());
    let loaded = load(&sources).expect("valid");
    let said = loaded.warnings.join("\n");
    assert!(!said.contains("credential tls.key"), "the configuration names it: {said}");
    assert!(said.contains("auth.admin_kee has no effect; did you mean \"auth.admin_key\"?"), "{said}");
    assert!(said.contains("credential jobs.queue has no effect"), "only secrets are taken from credentials: {said}");
}

#[test]
fn a_credential_that_is_empty_or_doubled_is_a_fault() {
    let said = with_credentials("", &[], &[("auth.admin_key", "\n")]).expect_err("refused");
    assert!(said.contains("credential auth.admin_key: is empty"), "{said}");
    let file = "[auth]\nadmin_key_file = \"/x\"\n";
    let said = with_credentials(file, &[], &[("auth.admin_key", "a-secret")]).expect_err("refused");
    assert!(said.contains("set one of them"), "{said}");
}

#[test]
fn folders_that_systemd_made_are_used_unless_somebody_says_otherwise() {
    let systemd = [("STATE_DIRECTORY", "/var/lib/agentd:/other"), ("RUNTIME_DIRECTORY", "/run/agentd")];
    let config = loaded("", &systemd).config;
    assert_eq!(config.data.database, PathBuf::from("/var/lib/agentd/agentd.db"));
    assert_eq!(config.control_socket(), Some("/run/agentd/control.sock".into()));
    let config = loaded("[data]\ndir = \"/srv/d\"\n[server]\ncontrol_socket = \"/srv/c\"\n", &systemd).config;
    assert_eq!(config.data.dir, PathBuf::from("/srv/d"));
    assert_eq!(config.control_socket(), Some("/srv/c".into()));
}
