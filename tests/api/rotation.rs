//! Keys that take the place of others, and keys that count from some addresses
//! only.

use serde_json::{Value, json};

use crate::support::{Client, Key, Server, Setup};

fn path(key: &Key) -> String {
    format!("/admin/tenants/{}/keys/{}", key.tenant, key.id)
}

#[track_caller]
fn rotate(server: &Server, key: &Key, body: &Value) -> (Key, Value) {
    let made = server.admin().post(&format!("{}/rotate", path(key)), body).expect(201);
    let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("no {name} in {made}")).to_owned();
    (Key { tenant: key.tenant.clone(), id: text("key_id"), secret: text("api_key") }, made)
}

fn status(server: &Server, key: &Key) -> u16 {
    server.anyone().with_key(key).get("/v1/jobs").status
}

fn state(server: &Server, key: &Key) -> Value {
    server.admin().get(&path(key)).expect(200)
}

#[test]
fn a_rotated_key_goes_at_once_and_the_new_one_is_like_it() {
    let mut server = Server::testbed();
    let body = json!({
        "name": "backend", "scopes": ["jobs:read"], "expires_at": "2100-01-01T00:00:00Z", "test": true,
        "allowed_ips": ["127.0.0.0/8", "::1"]
    });
    let old = server.key_with(&server.tenant("a"), &body);
    let before = state(&server, &old);
    let (new, made) = rotate(&server, &old, &json!({}));
    assert_eq!((status(&server, &old), status(&server, &new)), (401, 200), "both as soon as it is answered");
    for same in ["name", "scopes", "expires_at", "test", "allowed_ips"] {
        assert_eq!(made[same], before[same], "{same}");
    }
    assert!(new.secret.starts_with("agk_test_") && new.id != old.id);
    assert_eq!((&made["rotated_from"], &made["replaced_by"]), (&json!(old.id), &Value::Null));
    let after = state(&server, &old);
    assert_eq!((&after["status"], &after["replaced_by"]), (&json!("revoked"), &json!(new.id)));
    server.restart();
    assert_eq!((status(&server, &old), status(&server, &new)), (401, 200));
}

#[test]
fn with_a_grace_both_keys_count_until_it_is_over() {
    let mut server = Server::testbed();
    let old = server.key(&server.tenant("a"));
    let (new, made) = rotate(&server, &old, &json!({ "grace_seconds": 3600, "expires_at": "2100-01-01T00:00:00Z" }));
    assert_eq!(made["expires_at"], "2100-01-01T00:00:00.000000Z");
    let both = |server: &Server| (status(server, &old), status(server, &new));
    assert_eq!(both(&server), (200, 200));
    assert_eq!(state(&server, &old)["status"], "active");
    server.set_clock(3_540);
    assert_eq!(both(&server), (200, 200));
    server.restart();
    assert_eq!(both(&server), (200, 200), "the end is kept");
    server.set_clock(3_605);
    assert_eq!(both(&server), (401, 200));
    assert_eq!(state(&server, &old)["status"], "expired");
}

#[test]
fn a_grace_never_lengthens_a_keys_life() {
    let server = Server::testbed();
    let soon = agentd::clock::system_now().plus(std::time::Duration::from_secs(600));
    let old = server.key_with(&server.tenant("a"), &json!({ "name": "k", "expires_at": soon }));
    let (new, _) = rotate(&server, &old, &json!({ "grace_seconds": 2_592_000 }));
    assert_eq!(state(&server, &old)["expires_at"], json!(soon));
    assert_eq!(state(&server, &new)["expires_at"], json!(soon), "unless another end is asked for");
    server.set_clock(700);
    assert_eq!((status(&server, &old), status(&server, &new)), (401, 401));
}

#[test]
fn a_rotation_asked_for_twice_is_done_once_and_shows_no_secret_again() {
    let mut server = Server::real();
    let old = server.key(&server.tenant("a"));
    let admin = server.admin();
    let ask =
        |key: &str, body: &Value| admin.post_with(&format!("{}/rotate", path(&old)), &[("Idempotency-Key", key)], body);
    let first = ask("one", &json!({}));
    let made = first.expect(201);
    let again = ask("one", &json!({}));
    let replayed = again.expect(201);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!((&replayed["key_id"], &replayed["api_key"]), (&made["key_id"], &Value::Null));
    ask("one", &json!({ "grace_seconds": 5 })).problem(422, "idempotency_key_reused");
    ask("two", &json!({})).problem(409, "key_not_active");
    ask("two", &json!({})).problem(409, "key_not_active");
    assert_eq!(admin.all_pages(&format!("/admin/tenants/{}/keys", old.tenant)).len(), 2);
    server.restart();
    assert_eq!(ask("one", &json!({})).expect(201)["key_id"], made["key_id"]);
}

#[test]
fn what_no_longer_counts_cannot_be_rotated() {
    let server = Server::testbed();
    let tenant = server.tenant("a");
    let refused = |key: &Key| server.admin().post(&format!("{}/rotate", path(key)), &json!({}));
    let revoked = server.key(&tenant);
    server.admin().post(&format!("{}/revoke", path(&revoked)), &json!({})).expect(200);
    refused(&revoked).problem(409, "key_not_active");
    let rotated = server.key(&tenant);
    rotate(&server, &rotated, &json!({ "grace_seconds": 60 }));
    refused(&rotated).problem(409, "key_not_active");
    let soon = agentd::clock::system_now().plus(std::time::Duration::from_secs(600));
    let expired = server.key_with(&tenant, &json!({ "name": "k", "expires_at": soon }));
    server.set_clock(700);
    refused(&expired).problem(409, "key_not_active");
    let good = server.key(&tenant);
    for (body, pointer) in [
        (json!({ "grace_seconds": 2_592_001 }), "/grace_seconds"),
        (json!({ "grace_seconds": -1 }), "/grace_seconds"),
        (json!({ "expires_at": "2020-01-01T00:00:00Z" }), "/expires_at"),
    ] {
        server.admin().post(&format!("{}/rotate", path(&good)), &body).fault("invalid_request", pointer);
    }
    let unknown = Key { id: "000000000000".into(), ..good.clone() };
    refused(&unknown).problem(404, "not_found");
    let foreign = Key { tenant: server.tenant("b"), ..good.clone() };
    refused(&foreign).problem(404, "not_found");
    assert_eq!(status(&server, &good), 200);
}

#[test]
fn a_stream_of_a_rotated_key_ends_with_it() {
    let server = Server::testbed();
    let old = server.key(&server.tenant("a"));
    let client = server.anyone().with_key(&old);
    let gate = server.gate("gate");
    let job = client.submit("test.gate", &json!({ "gate": gate.path() }));
    let mut stream = client.follow(&job);
    let (new, _) = rotate(&server, &old, &json!({}));
    gate.open();
    while let Some(event) = stream.event() {
        assert!(!event.is_final(), "it went on with a key that is gone");
    }
    server.anyone().with_key(&new).finished(&job);
}

fn key_from(server: &Server, tenant: &str, networks: &Value) -> Client {
    let key = server.key_with(tenant, &json!({ "name": "k", "allowed_ips": networks }));
    server.anyone().with_key(&key)
}

#[test]
fn a_key_counts_from_the_addresses_it_is_bound_to() {
    let mut server = Setup::real().env("AGENTD_SERVER_TRUSTED_PROXIES", "127.0.0.1").start();
    let tenant = server.tenant("a");
    let here = key_from(&server, &tenant, &json!(["192.0.2.0/24", "127.0.0.1"]));
    let elsewhere = key_from(&server, &tenant, &json!(["192.0.2.0/24", "2001:db8::/32"]));
    let look = |server: &Server| {
        assert_eq!(here.get("/v1/jobs").status, 200);
        let refused = elsewhere.get("/v1/jobs").problem(401, "unauthorized");
        let unknown = server.anyone().with("X-API-Key", "nonsense").get("/v1/jobs").problem(401, "unauthorized");
        assert_eq!(refused["detail"], unknown["detail"], "it does not say what was wrong");
        for (from, status) in [("192.0.2.9", 200), ("2001:db8::9", 200), ("192.0.3.9", 401)] {
            let answer = elsewhere.send("GET", "/v1/jobs", &[("X-Forwarded-For", from)], None);
            assert_eq!(answer.status, status, "from {from}");
        }
    };
    look(&server);
    server.restart();
    look(&server);
}

#[test]
fn address_lists_are_read_strictly_and_shown_as_read() {
    let server = Server::real();
    let tenant = server.tenant("a");
    let keys = format!("/admin/tenants/{tenant}/keys");
    let make = |networks: Value| server.admin().post(&keys, &json!({ "name": "k", "allowed_ips": networks }));
    let made = make(json!(["10.0.0.0/8", "192.0.2.7/32", "2001:DB8::1"])).expect(201);
    assert_eq!(made["allowed_ips"], json!(["10.0.0.0/8", "192.0.2.7", "2001:db8::1"]));
    assert_eq!(make(Value::Null).expect(201)["allowed_ips"], Value::Null);
    for (wrong, pointer) in [
        (json!([]), "/allowed_ips"),
        (json!(["127.0.0.1", "localhost"]), "/allowed_ips/1"),
        (json!(["10.0.0.1/8"]), "/allowed_ips/0"),
        (json!([""]), "/allowed_ips/0"),
        (json!("10.0.0.0/8"), "/allowed_ips"),
        (json!(vec!["10.0.0.1"; 101]), "/allowed_ips"),
    ] {
        make(wrong).fault("invalid_request", pointer);
    }
}
