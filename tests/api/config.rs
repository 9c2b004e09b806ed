//! Configuration: where values come from, what is refused and how, and that
//! secrets are never shown.

use tempfile::TempDir;

use crate::support::server::run;
use crate::support::{ADMIN_KEY, HASH_SECRET, Server, Setup};

/// A configuration file in a folder of its own.
struct File {
    folder: TempDir,
}

impl File {
    fn of(text: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("agentd.toml"), text).expect("written");
        Self { folder }
    }

    fn path(&self) -> String {
        self.folder.path().join("agentd.toml").to_string_lossy().into_owned()
    }

    /// `agentd check` on it.
    fn check(&self, setup: &Setup) -> (i32, String) {
        run(&mut setup.command(&["check", "--show", "--config", &self.path()]))
    }

    #[track_caller]
    fn refused(&self, setup: &Setup, parts: &[&str]) {
        let (code, said) = self.check(setup);
        assert_eq!(code, 78, "{said}");
        for part in parts {
            assert!(said.contains(part), "{part:?} is missing in:\n{said}");
        }
    }
}

/// A program without any setting.
fn bare() -> Setup {
    Setup::real().without_env("AGENT_ADMIN_KEY").without_env("AGENT_KEY_HASH_SECRET")
}

/// The value and the origin that `check --show` gives for a key.
#[track_caller]
fn shown(said: &str, key: &str) -> (String, String) {
    let line = said.lines().find(|line| line.split_whitespace().next() == Some(key));
    let line = line.unwrap_or_else(|| panic!("{key} is not shown in:\n{said}"));
    let mut columns = line.split("  ").map(str::trim).filter(|column| !column.is_empty()).skip(1);
    let mut next = || columns.next().unwrap_or_default().to_owned();
    (next(), next())
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_the_nearest_known() {
    let file = File::of("[server]\nlisten = \"127.0.0.1:1\"\n  body_byte = 5\n[jobz]\nqueue = 1\n");
    let path = file.path();
    file.refused(
        &bare(),
        &[
            &format!("{path}:3:3: unknown key \"server.body_byte\"; did you mean \"server.body_bytes\"?"),
            &format!("{path}:5:1: unknown key \"jobz.queue\"; did you mean \"jobs.queue\"?"),
            "the configuration has 2 faults",
        ],
    );
    File::of("").refused(
        &bare().env("AGENTD_SERVER_LISTN", "127.0.0.1:1"),
        &["environment AGENTD_SERVER_LISTN: unknown variable; did you mean \"AGENTD_SERVER_LISTEN\"?"],
    );
}

#[test]
fn every_wrong_value_is_told_at_once() {
    let file = File::of(
        "[server]\nlisten = \"nowhere\"\ndrain_time = 5\nbody_bytes = \"1KB\"\n[jobs]\nqueue = -1\nwait = [1]\n\
         [log]\nlevel = \"agentd=loud\"\nformat = \"xml\"\n",
    );
    let path = file.path();
    let (_, said) = file.check(&bare());
    let places = [(2, "server.listen"), (3, "server.drain_time"), (4, "server.body_bytes"), (6, "jobs.queue")];
    for (line, key) in places {
        assert!(said.contains(&format!("{path}:{line}:1: {key} must be ")), "{key} is missing in:\n{said}");
    }
    file.refused(&bare(), &["7:1: jobs.wait must be one value", "log.level", "log.format must be auto, json or text"]);
    File::of("[server]\nbody_bytes = 10\n").refused(&bare(), &["server.body_bytes must be from 1KiB to 1GiB"]);
    File::of("").refused(
        &bare().env("AGENTD_JOBS_CONCURRENCY", "0"),
        &["environment AGENTD_JOBS_CONCURRENCY", "jobs.concurrency"],
    );
}

#[test]
fn what_is_no_toml_is_told_with_its_place() {
    let file = File::of("[server\nlisten = 1\n");
    file.refused(&bare(), &[&format!("{}:1:", file.path())]);
    let (code, said) = run(&mut bare().command(&["check", "--config", "/nowhere/agentd.toml"]));
    assert_eq!(code, 78);
    assert!(said.contains("/nowhere/agentd.toml: cannot be read"), "{said}");
}

#[test]
fn every_value_tells_where_it_comes_from_and_secrets_stay_hidden() {
    let file = File::of(&format!(
        "[server]\nbody_bytes = \"2MiB\"\n[jobs]\nqueue = 7\nconcurrency = 3\n[auth]\nmetrics_token = \"{HASH_SECRET}\"\n"
    ));
    let setup = bare().env("AGENTD_JOBS_QUEUE", "9").env("AGENT_ADMIN_KEY", ADMIN_KEY).env("AGENT_DB_PATH", "/x/y.db");
    let (code, said) = file.check(&setup);
    assert_eq!(code, 0, "{said}");
    let value = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(shown(&said, "server.body_bytes"), value("2MiB", &format!("{}:2:1", file.path())));
    assert_eq!(shown(&said, "jobs.queue"), value("9", "environment AGENTD_JOBS_QUEUE"));
    assert_eq!(shown(&said, "jobs.concurrency"), value("3", &format!("{}:5:1", file.path())));
    assert_eq!(shown(&said, "jobs.wait"), value("1m", "default"));
    assert_eq!(shown(&said, "data.database"), value("/x/y.db", "environment AGENT_DB_PATH"));
    assert_eq!(shown(&said, "auth.admin_key"), value("(secret)", "environment AGENT_ADMIN_KEY"));
    assert_eq!(shown(&said, "auth.metrics_token").0, "(secret)");
    assert_eq!(shown(&said, "auth.api_key"), value("(not set)", "default"));
    assert!(!said.contains(ADMIN_KEY) && !said.contains(HASH_SECRET), "{said}");
    assert!(said.contains("the configuration is valid"));
}

#[test]
fn a_flag_beats_the_environment_and_that_beats_the_file() {
    // The flags --listen and --data-dir of the harness: were they not heard,
    // it would listen on a port that it may not have.
    let file = File::of("[server]\nlisten = \"127.0.0.1:1\"\nbody_bytes = \"1KiB\"\n[data]\ndir = \"/proc/none\"\n");
    let server: Server = Setup::real()
        .env("AGENTD_CONFIG", &file.path())
        .env("AGENTD_SERVER_LISTEN", "127.0.0.1:2")
        .env("AGENTD_SERVER_BODY_BYTES", "64KiB")
        .start();
    let client = server.client();
    let body = serde_json::json!({ "tool": "echo", "input": "x".repeat(2_000) });
    assert_eq!(client.run(&body)["status"], "succeeded", "the environment's limit counts");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let (code, said) =
        run(&mut bare().env("AGENTD_JOBS_QUEUE", "").env("AGENT_API_KEY", "").command(&["check", "--show"]));
    assert_eq!(code, 0, "{said}");
    assert_eq!(shown(&said, "jobs.queue").1, "default");
    assert_eq!(shown(&said, "auth.api_key").0, "(not set)");
}

#[test]
fn two_names_of_one_setting_must_not_contradict_each_other() {
    let setup = bare().env("AGENTD_SERVER_BODY_BYTES", "2MiB").env("MAX_PAYLOAD_BYTES", "1048576");
    File::of("")
        .refused(&setup, &["environment AGENTD_SERVER_BODY_BYTES", "MAX_PAYLOAD_BYTES", "set only one of them"]);
    let same = bare().env("AGENTD_SERVER_BODY_BYTES", "2MiB").env("MAX_PAYLOAD_BYTES", "2MiB");
    assert_eq!(File::of("").check(&same).0, 0);
}

#[test]
fn plain_http_stays_on_this_machine_unless_somebody_says_so() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let setup = bare().env("AGENTD_SERVER_LISTEN", address);
        let hint = "server.expose_keys_and_jobs_unencrypted = true";
        File::of("").refused(&setup, &["environment AGENTD_SERVER_LISTEN", "not a loopback address", hint]);
        let said_so = setup.env("AGENTD_SERVER_EXPOSE_KEYS_AND_JOBS_UNENCRYPTED", "true");
        assert_eq!(File::of("").check(&said_so).0, 0);
    }
    let data = TempDir::new().expect("a folder");
    let dir = data.path().join("data").to_string_lossy().into_owned();
    let (code, said) = run(&mut bare().command(&["serve", "--listen", "0.0.0.0:0", "--data-dir", &dir]));
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("command line --listen"), "{said}");
    for address in ["127.0.0.1:0", "[::1]:0", "localhost:0", "127.9.9.9:0"] {
        assert_eq!(File::of("").check(&bare().env("AGENTD_SERVER_LISTEN", address)).0, 0, "{address}");
    }
}

#[test]
fn weak_secrets_are_refused_in_production_and_told_elsewhere() {
    let weak = bare().env("AGENT_ADMIN_KEY", "dev-admin").env("AGENT_KEY_HASH_SECRET", "dev-secret");
    let (code, said) = File::of("").check(&weak);
    assert_eq!(code, 0, "the documents' development keys work: {said}");
    assert!(said.contains("warning: auth.admin_key has fewer than 16 characters"), "{said}");
    let production = weak.env("ENV", "production");
    File::of("")
        .refused(&production, &["environment AGENT_ADMIN_KEY", "environment AGENT_KEY_HASH_SECRET", "openssl rand"]);
    let strong = production.env("AGENT_ADMIN_KEY", ADMIN_KEY).env("AGENT_KEY_HASH_SECRET", HASH_SECRET);
    assert_eq!(File::of("").check(&strong).0, 0);
}

#[test]
fn secrets_can_stand_in_files() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("admin.key");
    std::fs::write(&path, format!("{ADMIN_KEY}\n")).expect("written");
    let path = path.to_string_lossy().into_owned();
    let setup = Setup::real().without_env("AGENT_ADMIN_KEY").env("AGENTD_AUTH_ADMIN_KEY_FILE", &path);
    let server = setup.clone().start();
    server.admin().get("/admin/tenants").expect(200);
    File::of("").refused(&setup.clone().env("AGENT_ADMIN_KEY", ADMIN_KEY), &["is set as well as the secret itself"]);
    File::of("").refused(&setup.env("AGENTD_AUTH_ADMIN_KEY_FILE", "/nowhere"), &["/nowhere cannot be read"]);
}

#[test]
fn what_older_systems_had_is_answered() {
    File::of("").refused(&bare().env("AUTH_ENABLED", "false"), &["authentication cannot be switched off"]);
    let setup = bare()
        .env("AUTH_ENABLED", "true")
        .env("SLACK_BOT_TOKEN", "xoxb-something-to-hide")
        .env("DATABASE_URL", "postgres://u:hide-me@h/d")
        .env("SUPABASE_URL", "x")
        .env("INTEGRATIONS_HUBSPOT_ENABLED", "true");
    let (code, said) = File::of("").check(&setup);
    assert_eq!(code, 0, "{said}");
    for name in ["SLACK_BOT_TOKEN", "DATABASE_URL", "SUPABASE_URL", "INTEGRATIONS_HUBSPOT_ENABLED"] {
        assert!(said.contains(&format!("warning: environment {name}")), "{name} is not answered: {said}");
    }
    assert!(!said.contains("xoxb-something-to-hide") && !said.contains("hide-me"));
}

#[test]
fn the_command_line_explains_itself() {
    let (code, said) = run(&mut bare().command(&["version"]));
    assert_eq!((code, said.trim()), (0, concat!("agentd ", env!("CARGO_PKG_VERSION"))));
    assert_eq!(run(&mut bare().command(&["--version"])).0, 0);
    let (code, said) = run(&mut bare().command(&["--help"]));
    assert_eq!(code, 0);
    for verb in ["serve", "demo", "check", "version", "Exit codes"] {
        assert!(said.contains(verb), "{said}");
    }
    for wrong in [&["srve"][..], &["serve", "--lisen", "x"], &[]] {
        let (code, said) = run(&mut bare().command(wrong));
        assert_eq!(code, 2, "{said}");
    }
    let (_, said) = run(&mut bare().command(&["srve"]));
    assert!(said.contains("serve"), "the nearest verb is named: {said}");
}

#[test]
fn booleans_take_any_case() {
    for (text, value) in [
        ("TRUE", "true"),
        ("True", "true"),
        ("Yes", "true"),
        ("on", "true"),
        ("1", "true"),
        ("OFF", "false"),
        ("No", "false"),
    ] {
        let (code, said) = File::of("").check(&bare().env("AGENTD_TLS_HTTP2", text));
        assert_eq!(code, 0, "{text}: {said}");
        assert_eq!(shown(&said, "tls.http2").0, value, "{text}");
    }
    File::of("")
        .refused(&bare().env("AGENTD_TLS_HTTP2", "perhaps"), &["tls.http2 must be true or false, not \"perhaps\""]);
    let (code, said) = File::of("").check(&bare().env("AGENTD_JOBS_RETENTION", "OFF"));
    assert_eq!((code, shown(&said, "jobs.retention").0), (0, "off".into()), "{said}");
}

/// With a time of zero every request, call or page would fail.
#[test]
fn times_of_zero_are_refused_with_what_is_possible() {
    for (key, range) in [
        ("server.body_time", "from 100ms to 1d"),
        ("server.head_time", "from 100ms to 1d"),
        ("tls.handshake_time", "from 100ms to 1h"),
        ("acme.check_every", "from 100ms to 1d"),
        ("backup.every", "at least 1m, or off"),
        ("backup.drill_every", "at least 1m, or off"),
        ("backup.s3_patience", "from 1s to 1h"),
        ("jobs.retention", "at least 1s, or off"),
        ("web.page_time", "from 100ms to 1h"),
        ("models.first_token_time", "from 100ms to 1d"),
        ("models.total_time", "from 100ms to 1d"),
        ("models.keep_responses", "at least 1s, or off"),
        ("budget.keep_calls", "from 1d to 36600d"),
    ] {
        let (section, name) = key.split_once('.').expect("a section");
        let file = File::of(&format!("[{section}]\n{name} = \"0s\"\n"));
        let setup = bare().without_env("AGENTD_BACKUP_EVERY");
        file.refused(&setup, &[&format!("agentd.toml:2:1: {key} must be {range}, not 0s")]);
    }
    // Where it means something.
    for key in ["server.drain_time", "jobs.wait", "cors.max_age", "tls.hsts"] {
        let (section, name) = key.split_once('.').expect("a section");
        let (code, said) = File::of(&format!("[{section}]\n{name} = \"0s\"\n")).check(&bare());
        assert_eq!(code, 0, "{key}: {said}");
    }
    File::of("[jobs]\nresult_bytes = 0\n").refused(&bare(), &["jobs.result_bytes must be at least 64"]);
}

#[test]
fn networks_of_everybody_are_warned_of() {
    for network in ["0.0.0.0/0", "::/0", "0.0.0.0/1", "::ffff:0:0/96"] {
        let setup = bare().env("AGENTD_SERVER_TRUSTED_PROXIES", network).env("AGENTD_OUTBOUND_ALLOW", network);
        let (code, said) = File::of("").check(&setup);
        assert_eq!(code, 0, "{said}");
        for warning in ["warning: server.trusted_proxies has", "warning: outbound.allow has"] {
            assert!(said.contains(warning), "{network}: {warning} is missing in {said}");
        }
        let server = setup.env("AGENT_ADMIN_KEY", ADMIN_KEY).env("AGENT_KEY_HASH_SECRET", HASH_SECRET).start();
        server.wait_for_log("the warning", |line| {
            line["level"] == "WARN"
                && line["message"].as_str().is_some_and(|it| it.starts_with("server.trusted_proxies has"))
        });
    }
    let (_, said) = File::of("").check(&bare().env("AGENTD_SERVER_TRUSTED_PROXIES", "10.0.0.0/8,fc00::/7"));
    assert!(!said.contains("warning"), "{said}");
    let doctor = run(&mut bare().env("AGENTD_OUTBOUND_ALLOW", "0.0.0.0/0").command(&["doctor"])).1;
    assert!(doctor.contains("outbound.allow has 0.0.0.0/0"), "{doctor}");
}

#[test]
fn values_and_types_are_told_as_they_were_written() {
    File::of("[jobs]\nqueue = \"many\"\nconcurrency = [1]\n[data]\ndir = true\n[web]\nrobots = { a = 1 }\n").refused(
        &bare(),
        &[
            "jobs.queue must be a whole number from 1 to 10000000, not \"many\"",
            "jobs.concurrency must be one value, not an array",
            "data.dir must be a string: write it in quotation marks, as \"true\"",
        ],
    );
    File::of("server = 5\n").refused(&bare(), &["\"server\" is a section: write [server] above its keys"]);
    // What may hold a secret is not repeated.
    let url = "https://user:hide-me@example.com/";
    let file = File::of(&format!("[models]\nopenai_base_url = \"{url}\"\n"));
    file.refused(&bare(), &["models.openai_base_url holds a user name or a password"]);
    assert!(!file.check(&bare()).1.contains("hide-me"));
    let (_, said) = File::of("").check(&bare().env("AGENTD_BACKUP_RECIPIENTS", "AGE-SECRET-KEY-1HIDEME"));
    assert!(said.contains("an age recipient") && !said.contains("HIDEME"), "{said}");
}

#[test]
fn nothing_far_is_proposed() {
    File::of("[server]\nport = 80\n[cluster]\nnodes = 3\n").refused(
        &bare(),
        &[
            "unknown key \"server.port\"; agentd check --show lists",
            "unknown key \"cluster.nodes\"; agentd check --show lists",
        ],
    );
    for (arguments, near) in [(&["srve"][..], true), (&["frobnicate"], false), (&["serve", "--port", "1"], false)] {
        let (code, said) = run(&mut bare().command(arguments));
        assert_eq!((code, said.contains("similar")), (2, near), "{said}");
    }
}
