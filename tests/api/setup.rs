//! The first user: the token, and who may use it.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::support::{Server, Setup, cli};

const PASSWORD: &str = "correct horse battery";

fn token_file(server: &Server) -> std::path::PathBuf {
    server.data().join("setup-token")
}

#[track_caller]
fn token(server: &Server) -> String {
    std::fs::read_to_string(token_file(server)).expect("a token").trim().to_owned()
}

fn body(token: &str) -> Value {
    json!({ "token": token, "admin": { "name": "alice", "password": PASSWORD }, "tenant": { "name": "Acme" } })
}

#[test]
fn a_token_makes_the_first_user_once() {
    let mut server = Server::real();
    let mode = std::fs::metadata(token_file(&server)).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let first = token(&server);
    assert!(server.admin().get("/admin/status").expect(200)["in_setup"] == true);
    let made = server.anyone().post("/setup", &body(&first)).expect(201);
    assert_eq!(made["admin"], "alice");
    let client = server.anyone().with("X-API-Key", made["key"].as_str().expect("a key"));
    client.run(&json!({ "tool": "echo" }));
    let tenants = server.admin().get("/admin/tenants").expect(200);
    assert_eq!((&tenants["data"][0]["name"], &tenants["data"][0]["tenant_id"]), (&json!("Acme"), &made["tenant_id"]));
    server.anyone().post("/admin/session", &json!({ "name": "alice", "password": PASSWORD })).expect(201);

    assert!(!token_file(&server).exists());
    let status = server.admin().get("/admin/status").expect(200);
    assert_eq!((&status["in_setup"], &status["warnings"]), (&json!(false), &json!([])));
    for token in [first.as_str(), "wrong"] {
        server.anyone().post("/setup", &body(token)).problem(409, "already_set_up");
    }
    server.admin().post("/admin/setup-token", &json!({})).problem(409, "already_set_up");
    server.restart();
    assert!(!token_file(&server).exists());
    server.anyone().post("/setup", &body(&first)).problem(409, "already_set_up");

    let key = made["key"].as_str().expect("a key").to_owned();
    let log = server.stop().join("\n");
    for secret in [first.as_str(), PASSWORD, key.as_str()] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn of_several_at_once_one_wins() {
    let server = Server::real();
    let token = token(&server);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let go = |name: usize| {
            let mut body = body(&token);
            body["admin"]["name"] = format!("user{name}").into();
            let anyone = server.anyone();
            scope.spawn(move || anyone.post("/setup", &body).status)
        };
        let all: Vec<_> = (0..6).map(go).collect();
        all.into_iter().map(|it| it.join().expect("an answer")).collect()
    });
    let count = |status| statuses.iter().filter(|it| **it == status).count();
    assert_eq!((count(201), count(409)), (1, 5), "{statuses:?}");
    assert_eq!(server.admin().get("/admin/users").expect(200)["data"].as_array().expect("rows").len(), 1);
    assert_eq!(server.admin().get("/admin/tenants").expect(200)["data"].as_array().expect("rows").len(), 1);
}

#[test]
fn a_wrong_an_old_and_a_replaced_token_are_the_same() {
    let mut server = Server::testbed();
    let first = token(&server);
    let refusal = |token: &str| {
        let problem = server.anyone().post("/setup", &body(token)).problem(401, "unauthorized");
        (problem["detail"].clone(), problem["hint"].clone())
    };
    let wrong = refusal("wrong");
    server.set_clock(3601);
    assert_eq!(refusal(&first), wrong);
    let renewed = server.admin().post("/admin/setup-token", &json!({})).expect(201);
    assert_eq!(renewed["token"], token(&server));
    assert_eq!(refusal(&first), wrong, "the new one has taken its place");
    let old = token(&server);
    server.stop();
    assert!(!token_file(&server).exists(), "it does not count any more");
    server.start_again(|setup| setup);
    server.anyone().post("/setup", &body(&old)).problem(401, "unauthorized");
    server.anyone().post("/setup", &body(&token(&server))).expect(201);
}

#[test]
fn strangers_cannot_set_up() {
    let server = Setup::real().env("AGENTD_SERVER_TRUSTED_PROXIES", "127.0.0.1").start();
    let token = token(&server);
    for (name, value) in [
        ("X-Forwarded-For", "198.51.100.7"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1"),
        ("X-Real-IP", "127.0.0.1"),
        ("Via", "1.1 proxy"),
    ] {
        let answer = server.anyone().post_with("/setup", &[(name, value)], &body(&token));
        answer.problem(403, "forbidden");
    }
    server.client().post("/admin/setup-token", &json!({})).problem(401, "unauthorized");
    let sent = body(&token).to_string();
    let (status, answer) = cli::over(&server.socket(), "POST /setup", &["X-Forwarded-For: 198.51.100.7"], &sent);
    assert_eq!((status, &answer["admin"]), (201, &json!("alice")), "the socket is for this machine alone");
}

#[test]
fn what_the_first_user_is_made_of_is_checked() {
    let server = Server::real();
    let token = token(&server);
    let with = |place: &str, value: Value| {
        let mut body = body(&token);
        *body.pointer_mut(place).expect("a place") = value;
        server.anyone().post("/setup", &body)
    };
    with("/admin/name", "a b".into()).fault("invalid_request", "/admin/name");
    with("/admin/password", "short".into()).fault("invalid_request", "/admin/password");
    with("/tenant/name", " ".into()).fault("invalid_request", "/tenant/name");
    with("/tenant", json!({ "name": "x", "role": 1 })).fault("unknown_field", "/tenant/role");
    let mut without = body(&token);
    without.as_object_mut().expect("an object").remove("tenant");
    let made = server.anyone().post("/setup", &without).expect(201);
    assert_eq!(made, json!({ "admin": "alice" }), "no tenant was asked for");
}

#[test]
fn the_token_lies_where_systemd_says() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let server = Setup::real().env("RUNTIME_DIRECTORY", &folder.path().to_string_lossy()).start();
    assert!(folder.path().join("setup-token").exists() && !token_file(&server).exists());
    drop(server);
    assert!(!folder.path().join("setup-token").exists());
}

#[test]
fn nothing_else_waits_for_the_setup() {
    let server = Server::real();
    server.client().run(&json!({ "tool": "echo" }));
    server.anyone().get("/ready").expect(200);
}
