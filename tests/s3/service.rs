//! The service with a bucket: backups go there, come back on another machine, and
//! what is wrong with the target is said where somebody looks.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::cli::{Said, agentd, say};
use super::support::s3::{ACCESS_KEY, Kind, REGION, S3, SECRET_KEY, Trap};
use super::support::{Key, Server, Setup, eventually};
use super::{Bench, PIECE};

/// What a configuration says of the bucket, as variables.
fn of_bucket(bench: &Bench) -> [(&'static str, String); 7] {
    [
        ("AGENTD_BACKUP_S3_ENDPOINT", bench.section.endpoint.to_string()),
        ("AGENTD_BACKUP_S3_BUCKET", bench.section.bucket.clone()),
        ("AGENTD_BACKUP_S3_PREFIX", "agentd/here".to_owned()),
        ("AGENTD_BACKUP_S3_REGION", REGION.to_owned()),
        ("AGENTD_BACKUP_S3_ACCESS_KEY", ACCESS_KEY.to_owned()),
        ("AGENTD_BACKUP_S3_SECRET_KEY", SECRET_KEY.to_owned()),
        ("AGENTD_BACKUP_S3_PATIENCE", "2s".to_owned()),
    ]
}

/// A service that sends its backups there, with the secrets that it makes itself.
fn sending(bench: &Bench, setup: Setup) -> Setup {
    let setup = setup.without_env("AGENT_KEY_HASH_SECRET");
    of_bucket(bench).iter().fold(setup, |setup, (name, value)| setup.env(name, value))
}

/// A verb of another machine, which knows the bucket and has nothing yet.
#[track_caller]
fn elsewhere(bench: &Bench, arguments: &[&str], data: &Path) -> Said {
    let mut command = agentd(arguments);
    command.env_remove("AGENT_KEY_HASH_SECRET").env_remove("AGENT_ADMIN_KEY").envs(of_bucket(bench));
    say(command.arg("--data-dir").arg(data), "")
}

/// A tenant, a key, and a job that is done.
fn work(server: &Server) -> (Key, String) {
    let key = server.key(&server.tenant("acme"));
    let client = server.anyone().with_key(&key);
    let job = client.submit("echo", &json!({ "kept": "yes" }));
    client.finished(&job);
    (key, job)
}

/// The service says what is wrong in all places, and nobody's secret in any.
#[track_caller]
fn told(server: &Server, refused: &str, reason: &str) {
    assert!(refused.contains("could not be sent to s3://") && refused.contains(reason), "{refused}");
    let metrics = server.admin().get("/metrics").expect_text(200).to_owned();
    let failures = metrics.lines().find_map(|line| line.strip_prefix("agentd_backup_failures_total ")).expect("it");
    assert_ne!(failures, "0");
    let status = server.admin().get("/admin/status").expect(200)["warnings"].to_string();
    assert!(status.contains(reason), "{status}");
    for said in [refused, &status, &server.log().join("\n")] {
        assert!(!said.contains(SECRET_KEY) && !said.contains("X-Amz-Signature"), "{said}");
    }
}

#[test]
fn what_was_sent_comes_back_on_an_empty_machine() {
    let bench = Bench::new("service-there-and-back");
    let mut server = sending(&bench, Setup::real()).start();
    let (key, job) = work(&server);
    let made = server.ask_json(&["backup", "create"]);
    let name = made["name"].as_str().expect("a name");
    let listed = server.ask_json(&["backup", "list"]);
    assert_eq!((&listed["data"][0]["name"], &listed["data"][0]["sent"]), (&json!(name), &json!(true)), "{listed}");
    assert_eq!(S3::shared().names("service-there-and-back"), [format!("agentd/here/{name}")]);
    assert!(server.ask(&["backup", "verify"]).contains("can be restored"));
    assert!(bench.proxy.count(Kind::Look) >= 2, "it is the one in the bucket that is tried out");
    let secrets = server.data().join("secrets").display().to_string();
    server.stop();

    for wanted in ["s3:latest", &format!("s3:{name}")] {
        let folder = TempDir::new().expect("a folder");
        let data = folder.path().join("data");
        let said = elsewhere(&bench, &["restore", wanted, "--secrets", &secrets], &data).ok();
        assert!(said.contains("restored what instance"), "{said}");
        let mut restored = Setup::real().without_env("AGENT_KEY_HASH_SECRET").start_in(folder);
        let client = restored.anyone().with_key(&key);
        assert_eq!(client.job(&job)["result"]["kept"], "yes");
        restored.stop();
    }
    let folder = TempDir::new().expect("a folder");
    let refused = elsewhere(&bench, &["restore", "s3:none", "--new-secrets"], &folder.path().join("data")).refused(1);
    assert!(refused.contains("there is no none in s3://service-there-and-back/agentd/here at 127.0.0.1"), "{refused}");
}

#[test]
fn a_target_that_is_full_or_refuses_is_told_and_used_again_when_it_is_well() {
    let bench = Bench::new("service-refused");
    let mut server = sending(&bench, Setup::real()).start();
    for (trap, reason) in [
        (Trap::Answer(507, "XMinioStorageFull", ""), "it is full, or does not take so much (507 XMinioStorageFull)"),
        (Trap::Answer(403, "AccessDenied", ""), "the access key may not do this (403 AccessDenied)"),
        (Trap::CutRequest(1000), "the connection ended before everything was sent or received"),
        (Trap::Hang, "it is too slow"),
    ] {
        bench.proxy.fail(5, trap, |kind| kind == Kind::Put);
        let refused = server.agentd(&["backup", "create"]).refused(1);
        told(&server, &refused, reason);
        assert_eq!(S3::shared().names("service-refused"), [""; 0], "nothing half sent is visible");
        // What is left of the attempts that are worth only one.
        bench.proxy.heal();
    }
    server.ask(&["backup", "create"]);
    assert_eq!(S3::shared().names("service-refused").len(), 1);
    let status = server.admin().get("/admin/status").expect(200)["warnings"].to_string();
    assert!(!status.contains("backup"), "{status}");
    server.stop();
}

#[test]
fn wrong_credentials_are_told_by_service_and_restore() {
    let bench = Bench::new("service-credentials");
    let mut server = sending(&bench, Setup::real()).env("AGENTD_BACKUP_S3_SECRET_KEY", "another").start();
    let refused = server.agentd(&["backup", "create"]).refused(1);
    assert!(refused.contains("backup.s3_secret_key is not the secret of this access key"), "{refused}");
    server.stop();
    let folder = TempDir::new().expect("a folder");
    let mut command = agentd(&["restore", "s3:latest", "--new-secrets"]);
    command.envs(of_bucket(&bench)).env("AGENTD_BACKUP_S3_ACCESS_KEY", "somebody");
    let refused = say(command.arg("--data-dir").arg(folder.path().join("data")), "").refused(1);
    assert!(refused.contains("the server knows no such backup.s3_access_key"), "{refused}");
}

#[test]
fn what_could_not_be_sent_is_sent_later_and_not_made_again() {
    let bench = Bench::new("service-later");
    let mut server = sending(&bench, Setup::testbed()).env("AGENTD_BACKUP_EVERY", "24h").start();
    bench.proxy.fail(1, Trap::Answer(507, "", ""), |kind| kind == Kind::Put);
    server.set_clock(3_600);
    server
        .wait_for_log("the failure", |line| line["level"] == "ERROR" && line.to_string().contains("could not be sent"));
    server.set_clock(3_600 + 120);
    let sent = server.wait_for_log("that it was sent", |line| line["message"] == "a backup was sent");
    let made: Vec<_> = server.log().into_iter().filter(|line| line.contains("a backup was made")).collect();
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(made[0].contains(sent["name"].as_str().expect("a name")));
    assert_eq!(S3::shared().names("service-later").len(), 1);
    server.stop();
}

/// Random text, of which a compressed copy is not much smaller.
fn fill(server: &Server, bytes: usize) {
    let client = server.client();
    for number in 1..=bytes.div_ceil(900_000) as u64 {
        let character = |byte: u8| char::from(b'0' + byte % 64);
        let text: String = super::made_up_of(number << 32, 900_000).into_iter().map(character).collect();
        client.finished(&client.submit("echo", &Value::String(text.replace('\\', "/"))));
    }
}

#[test]
fn a_large_one_that_is_cut_in_the_middle_leaves_nothing_and_goes_there_at_last() {
    let bench = Bench::new("service-large");
    let mut server = sending(&bench, Setup::real()).start();
    fill(&server, 3 * PIECE / 2);
    bench.proxy.fail(5, Trap::CutRequest(500_000), |kind| kind == Kind::Part(2));
    let refused = server.agentd(&["backup", "create"]).refused(1);
    told(&server, &refused, "the connection ended before everything was sent or received");
    assert_eq!((S3::shared().names("service-large").len(), bench.unfinished()), (0, 0));
    bench.proxy.heal();
    bench.proxy.fail(1, Trap::CutRequest(500_000), |kind| kind == Kind::Part(2));
    server.ask(&["backup", "create"]);
    assert_eq!((S3::shared().names("service-large").len(), bench.unfinished()), (1, 0));

    // On the way back it is cut too, once and then for good.
    bench.proxy.fail(1, Trap::CutAnswer(700_000), |kind| kind == Kind::Get(PIECE as u64));
    assert!(server.ask(&["backup", "verify"]).contains("can be restored"));
    server.stop();
    bench.proxy.fail(99, Trap::CutAnswer(700_000), |kind| kind == Kind::Get(0));
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    let refused = elsewhere(&bench, &["restore", "s3:latest", "--new-secrets"], &data).refused(1);
    assert!(refused.contains("the connection ended before"), "{refused}");
    let left: Vec<_> = std::fs::read_dir(&data).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "something is left: {left:?}");
}

#[test]
fn a_second_host_follows_the_bucket_and_takes_over() {
    let bench = Bench::new("service-standby");
    let mut server = sending(&bench, Setup::real()).start();
    let (key, job) = work(&server);
    server.ask(&["backup", "create"]);
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    let secrets = server.data().join("secrets").display().to_string();
    let nothing = elsewhere(&bench, &["standby", "status"], &data).refused(1);
    assert!(nothing.contains("standby pull"), "{nothing}");
    assert!(elsewhere(&bench, &["standby", "pull"], &data).ok().trim().ends_with("is at hand"));
    assert!(elsewhere(&bench, &["standby", "pull"], &data).ok().contains("is at hand already"));
    let later = server.anyone().with_key(&key).submit("echo", &json!({ "later": true }));
    server.anyone().with_key(&key).finished(&later);
    server.ask(&["backup", "create"]);

    let promote = ["standby", "promote", "--secrets", &secrets, "--no-start"];
    let said = elsewhere(&bench, &promote, &data).ok();
    assert!(said.contains("restored what instance"), "{said}");
    let mut second = sending(&bench, Setup::real()).start_in(folder);
    let client = second.anyone().with_key(&key);
    assert_eq!(client.job(&job)["result"]["kept"], "yes");
    client.finished(&later);
    // The job that made the backup was running in it, and is done again.
    let took_over = || S3::shared().names("service-standby").into_iter().find(|name| name.contains("-t2-"));
    eventually("the second one sends its own", took_over);

    // The first one, if it is still there, finds that it has been replaced.
    let refused = server.agentd(&["backup", "create"]).refused(1);
    assert!(refused.contains("another host has been restored from this service's backups"), "{refused}");
    server.stop();
    second.stop();
}

/// The same where a systemd seems to run, which notes what it is asked: in a mount
/// namespace, so that this machine's own is not asked.
#[track_caller]
fn beside_systemd(bench: &Bench, arguments: &[&str], data: &Path) -> (Said, Vec<String>) {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TempDir::new().expect("a folder");
    let (program, asked) = (folder.path().join("systemctl"), folder.path().join("asked"));
    std::fs::write(&program, format!("#!/bin/sh\necho \"$*\" >>{}\n", asked.display())).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let verb = agentd(arguments);
    let mut command = std::process::Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(verb.get_program()).args(verb.get_args());
    command.arg("--data-dir").arg(data).envs(of_bucket(bench));
    command.env_remove("AGENT_KEY_HASH_SECRET").env_remove("AGENT_ADMIN_KEY");
    command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.path().display()));
    let said = say(&mut command, "");
    let asked = std::fs::read_to_string(asked).unwrap_or_default();
    (said, asked.lines().map(str::to_owned).collect())
}

#[test]
fn one_command_promotes_and_starts_and_one_that_fails_goes_on_following() {
    let bench = Bench::new("service-standby-systemd");
    let mut server = sending(&bench, Setup::real()).start();
    server.ask(&["backup", "create"]);
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    elsewhere(&bench, &["standby", "pull"], &data).ok();
    let before = ["is-active --quiet agentd-standby.timer", "stop --quiet agentd-standby.timer agentd-standby.service"];

    let (said, asked) = beside_systemd(&bench, &["standby", "promote"], &data);
    assert!(said.refused(1).contains("secrets"));
    assert_eq!(asked, [before[0], before[1], "start --quiet agentd-standby.timer"]);

    let (said, asked) = beside_systemd(&bench, &["standby", "promote", "--new-secrets"], &data);
    assert!(said.ok().contains("the service runs"));
    let after = ["disable --now --quiet agentd-standby.timer", "enable --now --quiet agentd.service"];
    assert_eq!(asked, [before, after].concat());
    server.stop();
}

#[test]
fn a_standby_takes_over_when_the_bucket_is_gone_as_well() {
    let bench = Bench::new("service-standby-alone");
    let mut server = sending(&bench, Setup::real()).start();
    let (key, job) = work(&server);
    server.ask(&["backup", "create"]);
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    elsewhere(&bench, &["standby", "pull"], &data).ok();
    let secrets = server.data().join("secrets").display().to_string();
    server.stop();
    bench.proxy.set_down(true);
    let said = elsewhere(&bench, &["standby", "promote", "--secrets", &secrets, "--no-start"], &data);
    assert!(said.err.contains("what is at hand is taken") && said.err.contains("the connection ended"), "{said:?}");
    said.ok();
    let mut second = Setup::real().without_env("AGENT_KEY_HASH_SECRET").start_in(folder);
    assert_eq!(second.anyone().with_key(&key).job(&job)["result"]["kept"], "yes");
    second.stop();
}

#[test]
fn a_service_that_is_killed_while_it_sends_leaves_nothing_half_sent() {
    let bench = Bench::new("service-killed");
    let mut server = sending(&bench, Setup::real()).start();
    bench.proxy.fail(1, Trap::Hang, |kind| kind == Kind::Put);
    server.ask(&["backup", "create", "--no-wait"]);
    bench.proxy.wait_for(Kind::Put, 1);
    server.kill();
    assert_eq!(S3::shared().names("service-killed"), [""; 0]);
    // The job is taken up again by the next process.
    server.start_again(|setup| setup);
    eventually("it is sent", || (!S3::shared().names("service-killed").is_empty()).then_some(()));
    server.stop();
}

/// How often bytes of a backup were asked for.
fn fetches(bench: &Bench) -> usize {
    bench.proxy.seen().into_iter().filter(|kind| matches!(kind, Kind::Look | Kind::Get(_))).count()
}

#[test]
fn what_would_be_refused_fetches_nothing() {
    let bench = Bench::new("service-in-vain");
    let mut server = sending(&bench, Setup::real()).start();
    server.ask(&["backup", "create"]);
    let (before, data) = (fetches(&bench), server.data());
    for verb in [
        &["restore", "s3:latest", "--force", "--new-secrets"][..],
        &["standby", "promote", "--force", "--new-secrets", "--no-start"],
    ] {
        let running = elsewhere(&bench, verb, &data).refused(1);
        assert!(running.contains("is in use by process"), "{running}");
    }
    server.stop();
    let occupied = elsewhere(&bench, &["restore", "s3:latest", "--new-secrets"], &data).refused(1);
    assert!(occupied.contains("there is a database already") && occupied.contains("--force"), "{occupied}");
    assert_eq!(fetches(&bench), before, "nothing was fetched for any of it");
}

#[test]
fn a_standby_leaves_alone_what_it_cannot_use_and_says_so() {
    const BUCKET: &str = "service-standby-useless";
    let bench = Bench::new(BUCKET);
    let mut server = sending(&bench, Setup::real()).start();
    server.ask(&["backup", "create"]);
    server.stop();
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    let standby = |arguments: &[&str]| elsewhere(&bench, &[&["standby"], arguments].concat(), &data);
    standby(&["pull", "--scheduled"]).ok();
    let good = S3::shared().names(BUCKET).remove(0);
    let content = S3::shared().read(BUCKET, &good).expect("it is there");
    let at_hand = good.strip_prefix("agentd/here/").expect("it is in the folder");

    // Newer ones than the one that is at hand, by their timelines.
    S3::shared().store(BUCKET, &good.replace("-t1-", "-t2-"), b"it is no backup");
    let before = fetches(&bench);
    let refused = standby(&["pull", "--scheduled"]).refused(1);
    assert!(refused.contains("is no backup of agentd") && fetches(&bench) > before, "{refused}");
    let before = fetches(&bench);
    let refused = standby(&["pull", "--scheduled"]).refused(1);
    assert!(refused.contains("is no backup of agentd") && refused.contains("it is fetched again after"), "{refused}");
    assert_eq!(fetches(&bench), before, "it is left alone");
    let told = standby(&["status"]);
    assert_eq!(told.code, 1);
    assert!(told.out.contains(at_hand) && told.err.contains("-t2-") && told.err.contains("no backup"), "{told:?}");
    let told = standby(&["status", "--json"]);
    let json: Value = serde_json::from_str(&told.out).expect("JSON");
    assert_eq!((told.code, &json["name"]), (1, &json!(at_hand)));
    assert!(json["problem"]["what"].as_str().is_some_and(|what| what.contains("no backup")), "{json}");
    standby(&["pull"]).refused(1);
    assert!(fetches(&bench) > before, "who asks for it has it tried at once");

    let schema = good.split('-').nth(3).expect("a schema");
    let newer = good.replace("-t1-", "-t3-").replace(&format!("-{schema}-"), "-s99999-");
    let locked = good.replace("-t1-", "-t4-") + ".age";
    let before = fetches(&bench);
    for (name, reason) in [(newer, "install the agentd that made it"), (locked, "--identity")] {
        S3::shared().store(BUCKET, &name, b"something");
        for arguments in [&["pull"][..], &["pull", "--scheduled"], &["status"]] {
            let told = standby(arguments);
            assert!(told.code == 1 && told.err.contains(reason), "{told:?}");
        }
    }
    assert_eq!(fetches(&bench), before, "the name says enough");

    S3::shared().store(BUCKET, &good.replace("-t1-", "-t5-"), &content);
    standby(&["pull", "--scheduled"]).ok();
    let well = standby(&["status", "--json"]).json();
    assert_eq!(well["problem"], Value::Null);
    assert!(well["name"].as_str().is_some_and(|name| name.contains("-t5-")), "{well}");
}
