//! People who sign in: roles, passwords, sessions.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::cli::say;
use crate::support::{Client, Server, Setup};

const PASSWORD: &str = "correct horse battery";

#[track_caller]
pub fn user(server: &Server, name: &str, role: &str) {
    let body = json!({ "name": name, "password": PASSWORD, "role": role });
    server.admin().post("/admin/users", &body).expect(201);
}

/// Somebody with a session: with the cookie alone, and with the CSRF token too.
#[track_caller]
pub fn signed_in(server: &Server, name: &str) -> (Client, Client) {
    let answer = server.anyone().post("/admin/session", &json!({ "name": name, "password": PASSWORD }));
    let body = answer.expect(201);
    let cookie = answer.header("set-cookie").expect("a cookie").split(';').next().expect("a pair").to_owned();
    let reader = server.anyone().with("Cookie", &cookie);
    (reader.clone(), reader.with("X-CSRF-Token", body["csrf_token"].as_str().expect("a token")))
}

fn sign_in(server: &Server, name: &str, password: &str) -> crate::support::Answer {
    server.anyone().post("/admin/session", &json!({ "name": name, "password": password }))
}

#[test]
fn a_user_signs_in_and_out() {
    let server = Server::real();
    user(&server, "Alice@Example.com", "admin");
    let answer = sign_in(&server, "ALICE@example.com", PASSWORD);
    let body = answer.expect(201);
    assert_eq!(body["user"], json!({ "name": "alice@example.com", "role": "admin" }));
    let cookie = answer.header("set-cookie").expect("a cookie");
    assert!(cookie.starts_with("agentd-session=") && cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains("Secure"), "browsers would refuse it over plain HTTP: {cookie}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));

    let (reader, writer) = signed_in(&server, "alice@example.com");
    let session = reader.get("/admin/session").expect(200);
    assert_eq!(session["user"]["name"], "alice@example.com");
    assert!(session["expires_at"].is_string() && session["csrf_token"].is_string());
    reader.get("/admin/tenants").expect(200);
    writer.post("/admin/tenants", &json!({ "name": "Acme" })).expect(201);
    let listed = server.admin().get("/admin/users").expect(200);
    assert!(listed["data"][0]["last_login_at"].is_string(), "{listed}");
    let gone = writer.delete("/admin/session");
    assert!(gone.header("set-cookie").is_some_and(|cookie| cookie.contains("Max-Age=0")), "{gone:?}");
    reader.get("/admin/session").problem(401, "unauthorized");
    server.admin().get("/admin/session").problem(404, "not_found");
}

#[test]
fn behind_tls_the_cookie_is_bound_to_the_host() {
    let server = Server::real();
    user(&server, "alice", "admin");
    let body = json!({ "name": "alice", "password": PASSWORD });
    let answer = server.anyone().post_with("/admin/session", &[("X-Forwarded-Proto", "https")], &body);
    let cookie = answer.header("set-cookie").expect("a cookie");
    assert!(cookie.starts_with("__Host-agentd=") && cookie.contains("; Path=/; Secure; HttpOnly; SameSite=Strict"));
    let pair = cookie.split(';').next().expect("a pair");
    server.anyone().with("Cookie", &format!("x=y; {pair}")).get("/admin/tenants").expect(200);

    let server = Setup::real().https().start();
    user(&server, "alice", "admin");
    let answer = sign_in(&server, "alice", PASSWORD);
    assert!(answer.header("set-cookie").is_some_and(|cookie| cookie.starts_with("__Host-agentd=")), "{answer:?}");
    let (reader, _) = signed_in(&server, "alice");
    reader.get("/admin/session").expect(200);
}

#[test]
fn changes_need_the_csrf_token() {
    let server = Server::real();
    user(&server, "alice", "admin");
    user(&server, "bob", "admin");
    let (reader, writer) = signed_in(&server, "alice");
    let (_, other) = signed_in(&server, "bob");
    let tenant = json!({ "name": "Acme" });
    reader.post("/admin/tenants", &tenant).problem(403, "csrf_token_wrong");
    reader.with("X-CSRF-Token", "").post("/admin/tenants", &tenant).problem(403, "csrf_token_wrong");
    let others = other.get("/admin/session").expect(200)["csrf_token"].as_str().expect("a token").to_owned();
    reader.with("X-CSRF-Token", &others).post("/admin/tenants", &tenant).problem(403, "csrf_token_wrong");
    reader.delete("/admin/session").problem(403, "csrf_token_wrong");
    writer.post("/admin/tenants", &tenant).expect(201);
    let body = json!({ "name": "alice", "password": PASSWORD });
    for (site, status) in [("cross-site", 403), ("same-site", 403), ("same-origin", 201), ("none", 201)] {
        let answer = server.anyone().post_with("/admin/session", &[("Sec-Fetch-Site", site)], &body);
        assert_eq!(answer.status, status, "{site}");
    }
}

#[test]
fn roles_are_kept() {
    let server = Server::testbed();
    let client = server.client();
    for role in ["viewer", "operator", "admin"] {
        user(&server, role, role);
    }
    let may = |role: &str| {
        let (_, writer) = signed_in(&server, role);
        let job = client.submit_body(&json!({ "tool": "echo", "delay": 3600 }));
        let reads = writer.get("/admin/jobs").status;
        let cancels = writer.post(&format!("/admin/jobs/{job}/cancel"), &json!({})).status;
        if cancels != 200 {
            client.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).expect(200);
        }
        let users = writer.get("/admin/users").status;
        (reads, cancels, users, writer.post("/admin/tenants", &json!({ "name": "Acme" })).status)
    };
    assert_eq!(may("viewer"), (200, 403, 200, 403));
    assert_eq!(may("operator"), (200, 200, 200, 403));
    assert_eq!(may("admin"), (200, 200, 200, 201));
    let (_, viewer) = signed_in(&server, "viewer");
    let problem = viewer.post("/admin/tenants", &json!({ "name": "Acme" })).problem(403, "forbidden");
    assert_eq!(problem["hint"], "viewer is viewer");
    assert_eq!(viewer.delete("/admin/session").status, 204, "everybody may sign out");
}

#[test]
fn sessions_end() {
    let server = Server::testbed();
    user(&server, "alice", "admin");
    let (reader, writer) = signed_in(&server, "alice");
    server.set_clock(3500);
    reader.get("/admin/session").expect(200);
    server.set_clock(7000);
    reader.get("/admin/session").expect(200);
    let (idle, _) = signed_in(&server, "alice");
    server.set_clock(7000 + 3601);
    idle.get("/admin/session").problem(401, "unauthorized");
    writer.get("/admin/session").problem(401, "unauthorized");

    let (reader, _) = signed_in(&server, "alice");
    let start = 7000 + 3601;
    for hour in 1..12 {
        server.set_clock(start + hour * 3599);
        reader.get("/admin/session").expect(200);
    }
    server.set_clock(start + 12 * 3600);
    reader.get("/admin/session").problem(401, "unauthorized");
}

#[test]
fn sessions_survive_a_restart_and_no_change_of_the_password() {
    let mut server = Server::real();
    user(&server, "alice", "admin");
    user(&server, "bob", "viewer");
    let (alice, writer) = signed_in(&server, "alice");
    let (bob, _) = signed_in(&server, "bob");
    server.restart();
    alice.get("/admin/session").expect(200);
    writer.patch("/admin/users/bob", &json!({ "password": "another long password" })).expect(200);
    bob.get("/admin/session").problem(401, "unauthorized");
    sign_in(&server, "bob", PASSWORD).problem(401, "unauthorized");
    sign_in(&server, "bob", "another long password").expect(201);
    writer.patch("/admin/users/alice", &json!({ "password": "another long password" })).expect(200);
    alice.get("/admin/session").problem(401, "unauthorized");
    server.restart();
    alice.get("/admin/session").problem(401, "unauthorized");
}

#[test]
fn a_user_has_ten_sessions_at_most() {
    let server = Server::real();
    user(&server, "alice", "admin");
    let sessions: Vec<_> = (0..11).map(|_| signed_in(&server, "alice").0).collect();
    let alive: Vec<_> = sessions.iter().map(|session| session.get("/admin/session").status).collect();
    assert_eq!(alive.iter().filter(|status| **status == 200).count(), 10, "{alive:?}");
    assert_eq!(alive[0], 401, "the oldest has given way");
}

#[test]
fn the_last_admin_stays() {
    let server = Server::real();
    let admin = server.admin();
    user(&server, "alice", "admin");
    user(&server, "bob", "operator");
    admin.delete("/admin/users/alice").problem(409, "last_admin");
    admin.patch("/admin/users/alice", &json!({ "role": "viewer" })).problem(409, "last_admin");
    admin.patch("/admin/users/alice", &json!({ "role": "admin" })).expect(200);
    assert_eq!(admin.patch("/admin/users/bob", &json!({ "role": "admin" })).expect(200)["role"], "admin");
    assert_eq!(admin.delete("/admin/users/alice").status, 204);
    admin.delete("/admin/users/alice").problem(404, "not_found");
    admin.delete("/admin/users/bob").problem(409, "last_admin");
}

#[test]
fn names_and_passwords_are_checked() {
    let server = Server::real();
    let admin = server.admin();
    let create = |name: &str, password: Value| {
        admin.post("/admin/users", &json!({ "name": name, "password": password, "role": "viewer" }))
    };
    for name in ["", "a b", "a/b", "-a", "a\nb", "äö", &"a".repeat(65)] {
        create(name, PASSWORD.into()).fault("invalid_request", "/name");
    }
    for password in ["", "elevenchars", "aaaaaaaaaaaaaaaa", "AliceAlice12"] {
        let fault = create("alice", password.into()).fault("invalid_request", "/password");
        assert!(password.is_empty() || !fault.to_string().contains(password), "{fault}");
    }
    create("alice", "x1y2z".repeat(1000).into()).fault("invalid_request", "/password");
    create("alice", Value::Null).fault("invalid_request", "/password");
    create("alice", PASSWORD.into()).expect(201);
    create("ALICE", PASSWORD.into()).problem(409, "name_taken");
    admin.patch("/admin/users/alice", &json!({ "password": "short" })).fault("invalid_request", "/password");
    admin.patch("/admin/users/alice", &json!({ "role": "root" })).fault("invalid_request", "/role");
    admin.patch("/admin/users/nobody", &json!({ "role": "admin" })).problem(404, "not_found");
}

#[test]
fn guessing_is_slowed_whoever_is_guessed_at() {
    let server = Setup::real().env("AGENTD_SERVER_TRUSTED_PROXIES", "127.0.0.1").start();
    user(&server, "alice", "admin");
    let from = |address: &str, name: &str, password: &str| {
        let body = json!({ "name": name, "password": password });
        server.anyone().post_with("/admin/session", &[("X-Forwarded-For", address)], &body)
    };
    let known = from("198.51.100.7", "alice", "a wrong password").problem(401, "unauthorized");
    let unknown = from("198.51.100.7", "nobody", "a wrong password").problem(401, "unauthorized");
    assert_eq!((&known["detail"], &known["hint"]), (&unknown["detail"], &unknown["hint"]));
    for _ in 0..8 {
        from("198.51.100.7", "nobody", "a wrong password").problem(401, "unauthorized");
    }
    let refused = from("198.51.100.7", "alice", PASSWORD);
    refused.problem(429, "too_many_attempts");
    assert!(refused.header("retry-after").is_some());
    from("198.51.100.8", "alice", PASSWORD).expect(201);
}

#[test]
fn guesses_at_the_same_time_are_not_looked_at_more_than_others() {
    let server = Server::real();
    user(&server, "alice", "admin");
    let body = json!({ "name": "alice", "password": "a wrong password" });
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let tries: Vec<_> =
            (0..40).map(|_| scope.spawn(|| server.anyone().post("/admin/session", &body).status)).collect();
        tries.into_iter().map(|it| it.join().expect("an answer")).collect()
    });
    let looked_at = answers.iter().filter(|status| **status == 401).count();
    assert!((1..=10).contains(&looked_at), "{answers:?}");
    assert!(answers.iter().all(|status| [401, 429].contains(status)), "{answers:?}");
}

#[test]
fn nothing_of_a_password_or_a_session_is_kept_or_logged() {
    let mut server = Server::real();
    user(&server, "alice", "admin");
    let answer = sign_in(&server, "alice", PASSWORD);
    let token = answer.header("set-cookie").and_then(|cookie| cookie.split(['=', ';']).nth(1)).expect("a token");
    let (token, csrf) = (token.to_owned(), answer.expect(201)["csrf_token"].as_str().expect("a token").to_owned());
    sign_in(&server, "alice", "not the password").problem(401, "unauthorized");
    let log = server.stop().join("\n");
    let database = std::fs::read(server.data().join("agentd.db")).expect("the database");
    let database = String::from_utf8_lossy(&database);
    for secret in [PASSWORD, "not the password", &token, &csrf] {
        assert!(!log.contains(secret), "{secret} is in the log");
        assert!(!database.contains(secret), "{secret} is in the database");
    }
    assert!(database.contains("$argon2id$v=19$m=19456,t=2,p=1$"));
}

#[test]
fn users_are_made_on_the_machine() {
    let server = Server::real();
    let said = server.agentd(&["admin", "create", "alice", "--generate-password"]);
    assert!(said.err.contains("alice (admin) is made") && said.err.contains("not shown again"), "{said:?}");
    let password = said.ok().trim().to_owned();
    sign_in(&server, "alice", &password).expect(201);

    let with = |arguments: &[&str], typed: &str| say(&mut server.verb(arguments), typed);
    let bob = ["admin", "create", "bob", "--role", "viewer", "--password-file", "-"];
    assert_eq!(with(&bob, &format!("{PASSWORD}\n")).ok(), "bob (viewer) is made\n");
    sign_in(&server, "bob", PASSWORD).expect(201);
    assert!(with(&bob, PASSWORD).refused(1).contains("there is a user bob already"));
    let (session, _) = signed_in(&server, "bob");
    let reset = ["admin", "reset-password", "bob", "--password-file", "-"];
    assert!(with(&reset, "another long password").ok().contains("signed out everywhere"));
    session.get("/admin/session").problem(401, "unauthorized");
    sign_in(&server, "bob", "another long password").expect(201);

    assert!(with(&reset, "two\nlines of it").refused(2).contains("one line"));
    assert!(with(&reset, "short").refused(2).contains("at least 12 characters"));
    assert!(with(&["admin", "create", "carol"], "").refused(2).contains("--password-file"));
    assert!(with(&["admin", "create", "a b", "--generate-password"], "").refused(2).contains("must be 1 to 64"));
    assert!(
        with(&["admin", "reset-password", "nobody", "--generate-password"], "").refused(1).contains("no user nobody")
    );
    let listed = server.ask(&["admin", "list"]);
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    assert_eq!(rows, [["NAME", "ROLE"], ["bob", "viewer"], ["alice", "admin"]]);
}

#[test]
fn a_password_is_typed_twice_and_not_shown() {
    let server = Server::real();
    let program = env!("CARGO_BIN_EXE_agentd");
    let line = format!("{program} admin create alice --data-dir {}", server.data().display());
    let typed = format!("short\n{PASSWORD}\nsomething else\n{PASSWORD}\n{PASSWORD}\n");
    let mut script = std::process::Command::new("script");
    script.args(["--quiet", "--return", "--echo", "never", "--command", &line, "/dev/null"]).env("SHELL", "/bin/sh");
    let said = say(&mut script, &typed);
    assert_eq!(said.code, 0, "{said:?}");
    for told in ["at least 12 characters", "not the same", "alice (admin) is made"] {
        assert!(said.out.contains(told), "{said:?}");
    }
    sign_in(&server, "alice", PASSWORD).expect(201);
}

#[test]
fn a_terminal_shows_again_what_is_typed_after_ctrl_c_at_a_password() {
    let server = Server::real();
    let program = env!("CARGO_BIN_EXE_agentd");
    let line = format!("{program} admin create alice --data-dir {}; echo ended $?; stty -a", server.data().display());
    // Whoever runs the tests in the background of a shell hands on that the signal is ignored.
    let mut script = std::process::Command::new("env");
    script.args(["--default-signal=INT", "script", "--quiet", "--return", "--command", &line, "/dev/null"]);
    script.env("SHELL", "/bin/sh");
    let mut terminal = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script starts");
    let (mut keys, mut screen) = (terminal.stdin.take().expect("a pipe"), terminal.stdout.take().expect("a pipe"));
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("12 characters): ") {
        let mut next = [0];
        screen.read_exact(&mut next).expect("it asks");
        shown.extend(next);
    }
    keys.write_all(b"half a pass\x03").expect("typed");
    let mut after = String::new();
    screen.read_to_string(&mut after).expect("it ends");
    terminal.wait().expect("it ends");
    // 128 and SIGINT: as any program that is interrupted.
    assert!(after.contains("ended 130") && !after.contains("half a pass"), "{after}");
    assert!(["echo", "isig"].iter().all(|mode| after.split_whitespace().any(|word| word == *mode)), "{after}");
}
