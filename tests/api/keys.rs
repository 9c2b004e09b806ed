//! API keys: scopes, expiry, revocation, last use, the secret that hashes
//! them, and where their text must never be seen.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::client::job_id;
use crate::support::{Client, Key, Server, Setup};

fn state(server: &Server, key: &Key) -> Value {
    server.admin().get(&format!("/admin/tenants/{}/keys/{}", key.tenant, key.id)).expect(200)
}

fn revoke(server: &Server, key: &Key) -> Value {
    server.admin().post(&format!("/admin/tenants/{}/keys/{}/revoke", key.tenant, key.id), &json!({})).expect(200)
}

fn works(client: &Client) -> bool {
    match client.get("/v1/jobs").status {
        200 => true,
        401 => false,
        other => panic!("neither yes nor no: {other}"),
    }
}

#[test]
fn a_key_is_shown_once_and_found_without_its_secret() {
    let server = Server::real();
    let tenant = server.tenant("a");
    let keys = format!("/admin/tenants/{tenant}/keys");
    let made = server.admin().post(&keys, &json!({ "name": "Production Key" })).expect(201);
    let secret = made["api_key"].as_str().expect("shown once").to_owned();
    assert!(secret.starts_with("agk_live_"), "{secret}");
    assert_eq!(made["prefix"], format!("agk_live_{}", made["key_id"].as_str().expect("an id")));
    assert_eq!((&made["scopes"], &made["status"], &made["test"]), (&json!(["*"]), &json!("active"), &json!(false)));
    let listed = server.admin().get(&keys);
    assert_eq!(listed.expect(200)["data"][0]["key_id"], made["key_id"]);
    assert!(!listed.text.contains(&secret) && !listed.text.contains("api_key"));
    let test = server.key_with(&tenant, &json!({ "name": "t", "test": true }));
    assert!(test.secret.starts_with("agk_test_"));
    assert!(works(&server.anyone().with_key(&test)));
}

#[test]
fn a_key_is_taken_from_either_header() {
    let server = Server::real();
    let key = server.key(&server.tenant("a"));
    assert!(works(&server.anyone().with("X-API-Key", &key.secret)));
    assert!(works(&server.anyone().with("Authorization", &format!("Bearer {}", key.secret))));
    assert!(works(&server.anyone().with("Authorization", &format!("bearer  {}", key.secret))));
    assert!(!works(&server.anyone().with("Authorization", &key.secret)));
    assert!(!works(&server.anyone().with("Authorization", &format!("Basic {}", key.secret))));
}

#[test]
fn a_wrong_key_is_refused_without_saying_what_is_wrong() {
    let server = Server::real();
    let key = server.key(&server.tenant("a"));
    let revoked = server.key(&key.tenant);
    revoke(&server, &revoked);
    let last = if key.secret.ends_with('a') { 'b' } else { 'a' };
    let wrong_secret = format!("{}{last}", &key.secret[..key.secret.len() - 1]);
    let unknown = key.secret.replace(&key.id, "000000000000");
    let other_kind = key.secret.replace("agk_live_", "agk_test_");
    let mut bodies = Vec::new();
    for secret in [&wrong_secret, &unknown, &other_kind, &revoked.secret, "nonsense", "agk_live_", &key.id, "null"] {
        let mut body = server.anyone().with("X-API-Key", secret).get("/v1/jobs").problem(401, "unauthorized");
        body["request_id"] = json!("");
        bodies.push(body);
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "answers differ: {bodies:?}");
}

#[test]
fn a_key_may_only_what_its_scopes_say() {
    let server = Server::real();
    let tenant = server.tenant("a");
    let with =
        |scopes: Value| server.anyone().with_key(&server.key_with(&tenant, &json!({ "name": "k", "scopes": scopes })));
    let (reader, writer, both) = (with(json!(["jobs:read"])), with(json!(["jobs:write"])), with(json!(["*"])));
    reader.post("/agent/run", &json!({ "tool": "echo" })).problem(403, "forbidden");
    let id = job_id(&writer.post("/agent/run?wait=30", &json!({ "tool": "echo" })).expect(200));
    writer.get(&format!("/agent/status/{id}")).problem(403, "forbidden");
    reader.get(&format!("/agent/status/{id}")).expect(200);
    for verb in ["cancel", "retry"] {
        reader.post(&format!("/v1/jobs/{id}/{verb}"), &json!({})).problem(403, "forbidden");
    }
    reader.delete(&format!("/v1/jobs/{id}")).problem(403, "forbidden");
    for path in ["/v1/jobs", "/v1/tools"] {
        writer.get(path).problem(403, "forbidden");
    }
    both.get("/v1/jobs").expect(200);
    assert_eq!(both.delete(&format!("/v1/jobs/{id}")).status, 204);
}

#[test]
fn what_is_asked_of_a_key_is_checked() {
    let server = Server::real();
    let admin = server.admin();
    let keys = format!("/admin/tenants/{}/keys", server.tenant("a"));
    let fault = |body: Value, pointer: &str| admin.post(&keys, &body).fault("invalid_request", pointer);
    fault(json!({ "name": "k", "scopes": [] }), "/scopes");
    fault(json!({ "name": "k", "scopes": ["jobs:all"] }), "/scopes");
    fault(json!({ "name": "k", "scopes": "*" }), "/scopes");
    fault(json!({ "name": "k", "expires_at": "2001-01-01T00:00:00Z" }), "/expires_at");
    fault(json!({ "name": "k", "expires_at": 5 }), "/expires_at");
    fault(json!({ "name": "" }), "/name");
    admin.post("/admin/tenants/nobody/keys", &json!({ "name": "k" })).problem(404, "not_found");
    assert_eq!(admin.all_pages(&keys), Vec::<Value>::new());
}

#[test]
fn an_expired_key_is_refused_from_its_moment_on() {
    let server: Server = Setup::testbed().start();
    let tenant = server.tenant("a");
    let end = agentd::clock::system_now().plus(std::time::Duration::from_secs(3600));
    let key = server.key_with(&tenant, &json!({ "name": "k", "expires_at": end }));
    let client = server.anyone().with_key(&key);
    assert!(works(&client));
    server.set_clock(3540);
    assert!(works(&client));
    server.set_clock(3600);
    assert!(!works(&client));
    assert_eq!(state(&server, &key)["status"], "expired");
}

#[test]
fn a_revoked_key_is_refused_once_the_revocation_is_answered() {
    let mut server = Server::real();
    let tenant = server.tenant("a");
    for _ in 0..20 {
        let key = server.key(&tenant);
        let client = server.anyone().with_key(&key);
        assert!(works(&client));
        let revoked = revoke(&server, &key);
        assert!(!works(&client), "it still counts after the answer");
        assert_eq!(revoked["status"], "revoked");
        assert_eq!(revoke(&server, &key)["revoked_at"], revoked["revoked_at"], "the first moment stays");
    }
    let (kept, gone) = (server.key(&tenant), server.key(&tenant));
    revoke(&server, &gone);
    server.restart();
    assert!(works(&server.anyone().with_key(&kept)));
    assert!(!works(&server.anyone().with_key(&gone)));
    assert_eq!(state(&server, &gone)["status"], "revoked");
}

#[test]
fn it_is_kept_when_a_key_was_last_used() {
    let mut server = Server::real();
    let key = server.key(&server.tenant("a"));
    assert_eq!(state(&server, &key)["last_used_at"], Value::Null);
    let before = agentd::clock::system_now().to_string();
    assert!(works(&server.anyone().with_key(&key)));
    let used = state(&server, &key)["last_used_at"].clone();
    assert!(used.as_str() >= Some(before.as_str()), "{used}");
    server.restart();
    assert_eq!(state(&server, &key)["last_used_at"], used, "it is written at the latest when the service stops");
}

#[test]
fn another_key_hash_secret_makes_keys_useless_and_is_told() {
    let mut server = Server::real();
    let key = server.key(&server.tenant("a"));
    server.stop();
    server.start_again(|setup| setup.env("AGENT_KEY_HASH_SECRET", "quite-another-secret-0123456789"));
    let said = server.wait_for_log("that the secret is another", |line| line["keys"] == 1 && line["level"] == "WARN");
    assert!(said["message"].as_str().is_some_and(|message| message.contains("key-hash secret")), "{said}");
    assert!(!works(&server.anyone().with_key(&key)));
    assert_eq!(state(&server, &key)["status"], "unusable");
    let new = server.key(&key.tenant);
    assert!(works(&server.anyone().with_key(&new)));
    server.stop();
    server.start_again(|setup| setup.env("AGENT_KEY_HASH_SECRET", crate::support::HASH_SECRET));
    assert!(works(&server.anyone().with_key(&key)), "with the old secret the old keys count again");
    assert!(!works(&server.anyone().with_key(&new)));
}

#[test]
fn beside_a_new_key_hash_secret_the_old_one_counts_until_a_key_is_used() {
    const NEW: &str = "quite-another-secret-0123456789";
    let mut server = Server::real();
    let tenant = server.tenant("a");
    let (used, unused, late) = (server.key(&tenant), server.key(&tenant), server.key(&tenant));
    crate::users::user(&server, "alice", "admin");
    let (reader, alice) = crate::users::signed_in(&server, "alice");
    let client = |server: &Server, key: &Key| server.anyone().with_key(key);
    server.stop();
    server.start_again(|setup| {
        let setup = setup.env("AGENT_KEY_HASH_SECRET", NEW);
        setup.env("AGENTD_AUTH_PREVIOUS_KEY_HASH_SECRET", crate::support::HASH_SECRET)
    });
    server.wait_for_log("how many there are", |line| {
        line["keys"] == 3 && line["message"].as_str().is_some_and(|text| text.contains("previous_key_hash_secret"))
    });
    assert_eq!(state(&server, &used)["status"], "active");
    let wrong = used.secret.replace(&used.secret[30..40], "0123456789");
    assert!(!works(&server.anyone().with("X-API-Key", &wrong)));
    for _ in 0..3 {
        assert!(works(&client(&server, &used)), "by the old secret, then by the new one");
    }
    assert!(!works(&server.anyone().with("X-API-Key", &wrong)));
    let fresh = server.key(&tenant);
    reader.get("/admin/session").expect(200);
    alice.post("/admin/tenants", &json!({ "name": "by a page from before" })).expect(201);
    alice.delete("/admin/session");
    reader.get("/admin/session").problem(401, "unauthorized");
    // What is hashed anew is on the disk at the latest when the service stops.
    let log = server.stop().join("\n");
    assert!(log.contains("hashed anew") && log.contains("\"left\":2"), "{log}");
    server.start_again(|setup| setup);
    assert!(works(&client(&server, &late)), "there is no hurry");
    server.stop();
    server.start_again(|setup| setup.without_env("AGENTD_AUTH_PREVIOUS_KEY_HASH_SECRET"));
    let of = |key: &Key| works(&client(&server, key));
    assert_eq!((of(&used), of(&late), of(&fresh), of(&unused)), (true, true, true, false));
    assert_eq!(state(&server, &unused)["status"], "unusable");
    let said = server.wait_for_log("what is left", |line| line["keys"] == 1 && line["level"] == "WARN");
    assert!(said["message"].as_str().is_some_and(|text| text.contains("auth.previous_key_hash_secret")), "{said}");
}

#[test]
fn no_secret_is_ever_logged_or_kept() {
    let mut server = Setup::real().env("AGENTD_LOG_LEVEL", "trace").start();
    let key = server.key(&server.tenant("a"));
    let client = server.anyone().with_key(&key);
    client.run(&json!({ "tool": "echo" }));
    server.anyone().with("X-API-Key", &format!("{}x", key.secret)).get("/v1/jobs").problem(401, "unauthorized");
    server
        .anyone()
        .with("X-Admin-Key", "a-wrong-admin-key-to-look-for")
        .get("/admin/tenants")
        .problem(401, "unauthorized");
    let log = server.stop().join("\n");
    let secret = &key.secret[key.secret.len() - 32..];
    for hidden in [secret, crate::support::ADMIN_KEY, crate::support::HASH_SECRET, "a-wrong-admin-key-to-look-for"] {
        assert!(!log.contains(hidden), "the log holds {hidden}");
        assert_eq!(files_with(&server.data(), hidden.as_bytes()), Vec::<String>::new());
    }
    assert!(log.contains(&key.id), "the public part is logged");
}

#[test]
fn secrets_that_nobody_configured_are_made_and_kept_to_their_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let setup = Setup::real().without_env("AGENT_ADMIN_KEY").without_env("AGENT_KEY_HASH_SECRET");
    let mut server = setup.start();
    let secrets = server.data().join("secrets");
    let admin_key = std::fs::read_to_string(secrets.join("admin.key")).expect("made at the first start");
    let admin = server.anyone().with("X-Admin-Key", admin_key.trim());
    let tenant = admin.post("/admin/tenants", &json!({ "name": "a" })).expect(201);
    let keys = format!("/admin/tenants/{}/keys", tenant["tenant_id"].as_str().expect("an id"));
    let key = admin.post(&keys, &json!({ "name": "k" })).expect(201);
    let client = server.anyone().with("X-API-Key", key["api_key"].as_str().expect("a key"));
    assert!(works(&client));
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&server.data()), mode(&secrets)), (0o700, 0o700));
    for name in ["admin.key", "key-hash.secret"] {
        assert_eq!(mode(&secrets.join(name)), 0o600, "{name}");
    }
    server.restart();
    assert!(works(&client), "the same secrets are used again");
    admin.get("/admin/tenants").expect(200);
    assert_eq!(files_with(&server.data(), admin_key.trim().as_bytes()), ["secrets/admin.key"]);
}

/// Files below a folder that hold these bytes.
fn files_with(folder: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file()
                && std::fs::read(&path).expect("a file").windows(bytes.len()).any(|window| window == bytes)
            {
                found.push(path.strip_prefix(folder).expect("below it").to_string_lossy().into_owned());
            }
        }
    }
    found
}

#[test]
fn the_single_legacy_key_acts_for_a_default_tenant() {
    const LEGACY: &str = "the-single-key-of-older-systems";
    let mut server = Setup::real().env("AGENT_API_KEY", LEGACY).start();
    let client = server.anyone().with("X-API-Key", LEGACY);
    let id = job_id(&client.run(&json!({ "tool": "echo" })));
    let tenants = server.admin().all_pages("/admin/tenants");
    assert_eq!((tenants.len(), &tenants[0]["name"]), (1, &json!("default")));
    server.anyone().with("X-API-Key", "the-single-key-of-older-system").get("/v1/jobs").problem(401, "unauthorized");
    server.restart();
    assert_eq!(client.job(&id)["status"], "succeeded", "the tenant is the same after a restart");
    assert_eq!(server.admin().all_pages("/admin/tenants").len(), 1);
    let path = format!("/admin/tenants/{}", tenants[0]["tenant_id"].as_str().expect("an id"));
    server.admin().patch(&path, &json!({ "status": "suspended" })).expect(200);
    client.get("/v1/jobs").problem(403, "forbidden");
    server.stop();
    server.start_again(|setup| setup.without_env("AGENT_API_KEY"));
    client.get("/v1/jobs").problem(401, "unauthorized");
}
