//! Web pages from elsewhere: which may call, what their browsers are told.

use serde_json::{Value, json};

use crate::support::raw::Raw;
use crate::support::{Answer, Client, Server, Setup};

const APP: &str = "https://app.example.com";
const OTHER: &str = "https://other.example.com";

struct Tenant {
    id: String,
    client: Client,
}

fn tenant(server: &Server, origins: &[&str]) -> Tenant {
    let id = server.tenant("a tenant");
    let client = server.anyone().with_key(&server.key(&id));
    server.admin().put(&format!("/admin/tenants/{id}/origins"), &json!({ "origins": origins })).expect(200);
    Tenant { id, client }
}

fn from(client: &Client, origin: &str, path: &str) -> Answer {
    client.send("GET", path, &[("Origin", origin)], None)
}

fn preflight(server: &Server, origin: &str, path: &str) -> Answer {
    let headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type,x-api-key"),
    ];
    server.anyone().send("OPTIONS", path, &headers, None)
}

fn allowed(answer: &Answer) -> Option<&str> {
    answer.header("access-control-allow-origin")
}

fn varies(answer: &Answer) -> bool {
    answer.headers.get_all("vary").iter().any(|vary| vary == "Origin")
}

#[test]
fn a_page_on_the_list_may_call_and_read_errors_too() {
    let server = Server::testbed();
    let Tenant { client, .. } = tenant(&server, &[APP]);
    let page = client.with("Origin", APP);
    let id = crate::support::client::job_id(&page.run(&json!({ "tool": "echo" })));
    let answers = [
        page.get("/v1/jobs"),
        page.get(&format!("/v1/jobs/{id}/events")),
        page.post("/v1/jobs?wait=30", &json!({ "tool": "echo" })),
        page.post("/v1/jobs", &json!({ "tool": "nonsense" })),
        page.get("/v1/jobs/x"),
        page.send("PUT", "/v1/jobs", &[], None),
        server.anyone().with("Origin", APP).get("/v1/jobs"),
        page.get("/health"),
    ];
    for answer in &answers {
        assert_eq!(allowed(answer), Some(APP), "{} {}", answer.status, answer.text);
        assert!(varies(answer));
        let exposed = answer.header("access-control-expose-headers").expect("what may be read");
        let own = ["X-RateLimit-Remaining", "X-Request-Id", "Location", "Retry-After", "Idempotency-Replayed"];
        for name in own.into_iter().chain(["X-Should-Retry"]).chain(agentd::models::headers::NAMES) {
            assert!(exposed.contains(name), "{name}");
        }
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 400, 404, 405, 401, 200]);
}

#[test]
fn a_stream_can_be_read_by_a_page() {
    let server = Server::testbed();
    let Tenant { client, .. } = tenant(&server, &[APP]);
    let id = crate::support::client::job_id(&client.run(&json!({ "tool": "echo" })));
    let mut raw = Raw::connect(&client.address());
    let key = client.key_header();
    raw.send(format!(
        "GET /v1/jobs/{id}/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nOrigin: {APP}\r\n\
         Accept: text/event-stream\r\n\r\n"
    ));
    let head = raw.read_until("\r\n\r\n").to_lowercase();
    assert!(head.contains(&format!("access-control-allow-origin: {APP}\r\n")), "{head}");
}

#[test]
fn a_page_that_is_not_on_the_list_of_that_tenant_is_refused() {
    let server = Server::real();
    let (one, other) = (tenant(&server, &[APP]), tenant(&server, &[OTHER]));
    for (client, origin) in [
        (&one.client, OTHER),
        (&other.client, APP),
        (&one.client, "https://evil.example"),
        (&one.client, "null"),
        (&one.client, "https://app.example.com.evil.example"),
        (&one.client, "https://app.example.com:8443"),
        (&one.client, "http://app.example.com"),
    ] {
        let answer = from(client, origin, "/v1/jobs");
        answer.problem(403, "origin_not_allowed");
        assert_eq!((allowed(&answer), varies(&answer)), (None, true), "{origin}");
    }
    // Nothing has been done for it either.
    let submitted = one.client.with("Origin", OTHER).post("/v1/jobs", &json!({ "tool": "echo" }));
    submitted.problem(403, "origin_not_allowed");
    assert_eq!(one.client.all_pages("/v1/jobs"), Vec::<Value>::new());
    one.client.get("/v1/jobs").expect(200);
}

#[test]
fn a_page_of_the_service_itself_is_no_stranger() {
    let server = Server::real();
    let client = server.client();
    let own = format!("http://{}", client.address());
    from(&client, &own, "/v1/jobs").expect(200);
    let behind_tls = [("Origin", "https://Agentd.example.com"), ("Host", "agentd.example.com:443")];
    client.send("GET", "/v1/jobs", &behind_tls, None).expect(200);
    let a_shell = [("Origin", "tauri://localhost"), ("Host", "localhost")];
    client.send("GET", "/v1/jobs", &a_shell, None).problem(403, "origin_not_allowed");
    let another_port = [("Origin", "https://agentd.example.com:8443"), ("Host", "agentd.example.com")];
    client.send("GET", "/v1/jobs", &another_port, None).problem(403, "origin_not_allowed");
}

#[test]
fn a_preflight_is_answered_from_all_lists() {
    let server = Server::real();
    let (_one, other) = (tenant(&server, &[APP]), tenant(&server, &[OTHER]));
    for origin in [APP, OTHER] {
        let answer = preflight(&server, origin, "/v1/jobs");
        answer.expect_text(204);
        assert_eq!(allowed(&answer), Some(origin));
        let methods = answer.header("access-control-allow-methods").expect("methods");
        let mut methods: Vec<_> = methods.split(", ").collect();
        methods.sort_unstable();
        assert_eq!(methods, ["GET", "HEAD", "POST"]);
        assert_eq!(answer.header("access-control-allow-headers"), Some("content-type,x-api-key"));
        assert_eq!(answer.header("access-control-max-age"), Some("600"));
        assert!(varies(&answer));
    }
    let refused = preflight(&server, "https://evil.example", "/v1/jobs");
    refused.problem(403, "origin_not_allowed");
    assert_eq!(allowed(&refused), None);
    // A list that is taken back counts at once.
    let path = format!("/admin/tenants/{}/origins", other.id);
    server.admin().put(&path, &json!({ "origins": [] })).expect(200);
    preflight(&server, OTHER, "/v1/jobs").problem(403, "origin_not_allowed");
}

#[test]
fn the_administrators_routes_and_the_metrics_are_not_for_pages() {
    let server = Setup::real().env("CORS_ALLOW_ORIGINS", "*").start();
    let admin = server.admin().with("Origin", APP);
    for answer in [admin.get("/admin/tenants"), admin.get("/metrics"), admin.get("/admin/tenants/x")] {
        assert_eq!((allowed(&answer), varies(&answer)), (None, false), "{}", answer.text);
    }
    for path in ["/admin/tenants", "/metrics"] {
        let answer = preflight(&server, APP, path);
        answer.problem(405, "method_not_allowed");
        assert_eq!(allowed(&answer), None);
    }
}

#[test]
fn the_service_has_a_list_of_its_own() {
    let list = format!("{APP}, http://localhost:3000");
    let setup = Setup::real().env("CORS_ALLOW_ORIGINS", &list).env("CORS_ALLOW_CREDENTIALS", "true");
    let setup = setup.env("CORS_MAX_AGE", "60").env("CORS_ALLOW_HEADERS", "X-API-Key, Content-Type");
    let server = setup.env("CORS_ALLOW_METHODS", "GET,POST,OPTIONS").start();
    let client = server.client();
    let answer = from(&client, "http://localhost:3000", "/v1/jobs");
    assert_eq!((answer.status, allowed(&answer)), (200, Some("http://localhost:3000")));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    from(&client, OTHER, "/v1/jobs").problem(403, "origin_not_allowed");
    let asked = preflight(&server, APP, "/v1/jobs/x");
    assert_eq!(asked.status, 204);
    for (name, value) in [("methods", "GET"), ("headers", "X-API-Key, Content-Type"), ("credentials", "true")] {
        assert_eq!(asked.header(&format!("access-control-allow-{name}")), Some(value));
    }
    assert_eq!(asked.header("access-control-max-age"), Some("60"));
}

#[test]
fn a_star_lets_every_page_call_without_credentials() {
    let server = Setup::real().env("CORS_ALLOW_ORIGINS", "*").start();
    let answer = from(&server.client(), "https://anything.example", "/v1/jobs");
    assert_eq!((answer.status, allowed(&answer)), (200, Some("*")));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let folder = tempfile::TempDir::new().expect("a folder");
    let both = Setup::real().env("CORS_ALLOW_ORIGINS", "*").env("CORS_ALLOW_CREDENTIALS", "true");
    let (code, said) = both.refused(folder.path());
    assert!(code == 78 && said.contains("cors.origins"), "{said}");
    let (code, said) = Setup::real().env("CORS_ALLOW_ORIGINS", "https://*.example.com").refused(folder.path());
    assert!(code == 78 && said.contains("cors.origins must be"), "{said}");
}

#[test]
fn a_page_can_read_that_there_is_nothing_at_a_path() {
    let server = Server::real();
    let Tenant { client, .. } = tenant(&server, &[APP]);
    let page = client.with("Origin", APP);
    for (answer, status) in [
        (page.get("/nonsense"), 404),
        (page.post("/chat/completions", &json!({})), 404),
        (page.get("/v1/jobs/"), 404),
        (page.send("DELETE", "/v1/models/x", &[], None), 405),
        (page.send("PUT", "/v1/jobs", &[], None), 405),
    ] {
        assert_eq!((answer.status, allowed(&answer), varies(&answer)), (status, Some(APP), true), "{}", answer.text);
    }
    for path in ["/nonsense", "/chat/completions", "//v1/chat/completions", "/v1/completions"] {
        let asked = preflight(&server, APP, path);
        asked.expect_text(204);
        assert_eq!(allowed(&asked), Some(APP), "{path}");
        let methods = asked.header("access-control-allow-methods").expect("methods");
        assert!(["GET", "POST", "DELETE"].iter().all(|method| methods.contains(method)), "{methods}");
        assert_eq!(asked.header("access-control-allow-headers"), Some("content-type,x-api-key"));
        // Who is not on any list reads nothing here either.
        let other = preflight(&server, OTHER, path);
        assert_eq!((other.status, allowed(&other)), (403, None), "{path}");
        let other = client.send("GET", path, &[("Origin", OTHER)], None);
        assert_eq!((other.status, allowed(&other), varies(&other)), (404, None, true), "{path}");
    }
}

#[test]
fn extensions_and_desktop_shells_can_be_listed() {
    const EXTENSION: &str = "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb";
    const SAFARI: &str = "safari-web-extension://E5A31F2C-0B6E-4F21-9D1B-2C9A6E1D7F30";
    let own = "tauri://localhost, app://obsidian.md";
    let mut server = Setup::real().env("CORS_ALLOW_ORIGINS", own).start();
    let listed = [EXTENSION, SAFARI, "vscode-webview://1a2b3c", "capacitor://localhost", "https://tauri.localhost"];
    let Tenant { client, id } = tenant(&server, &listed);
    for restarted in [false, true] {
        for origin in listed.into_iter().chain(["tauri://localhost", "app://obsidian.md"]) {
            let answer = from(&client, origin, "/v1/jobs");
            assert_eq!((answer.status, allowed(&answer)), (200, Some(origin)), "{origin} {restarted}");
            assert_eq!(allowed(&preflight(&server, origin, "/v1/jobs")), Some(origin));
        }
        if !restarted {
            server.restart();
        }
    }
    for origin in [
        "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllclec",
        "moz-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
        "tauri://localhost:1420",
        "tauri://evil",
        "app://obsidian.md.evil.example",
        "null",
        "file://",
    ] {
        from(&client, origin, "/v1/jobs").problem(403, "origin_not_allowed");
    }
    let path = format!("/admin/tenants/{id}/origins");
    for origin in ["null", "file://", "file:///home/me/page.html"] {
        let fault = server.admin().put(&path, &json!({ "origins": [origin] })).fault("invalid_request", "/origins/0");
        let detail = fault["errors"][0]["detail"].as_str().expect("a detail").to_owned();
        assert!(detail.contains("serve the page over https"), "{detail}");
        let folder = tempfile::TempDir::new().expect("a folder");
        let (code, said) = Setup::real().env("CORS_ALLOW_ORIGINS", origin).refused(folder.path());
        assert!(code == 78 && said.contains("cors.origins must be") && said.contains("serve the page over"), "{said}");
    }
}

#[test]
fn the_headers_that_a_page_asks_for_may_come_in_several_lines() {
    let server = Server::real();
    let _tenant = tenant(&server, &[APP]);
    let headers = [
        ("Origin", APP),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type , authorization"),
        ("Access-Control-Request-Headers", "x-stainless-os"),
    ];
    let answer = server.anyone().send("OPTIONS", "/v1/chat/completions", &headers, None);
    answer.expect_text(204);
    assert_eq!(answer.header("access-control-allow-headers"), Some("content-type,authorization,x-stainless-os"));
}

#[test]
fn without_any_list_nothing_is_said_of_it() {
    let server = Server::real();
    let answer = server.client().get("/v1/jobs");
    assert_eq!((allowed(&answer), varies(&answer)), (None, false));
}

#[test]
fn lists_are_kept_shown_in_order_and_read_strictly() {
    let mut server = Server::real();
    let Tenant { id, client } = tenant(&server, &[OTHER, "HTTPS://App.Example.com:443/", APP]);
    let path = format!("/admin/tenants/{id}/origins");
    server.restart();
    let admin = server.admin();
    assert_eq!(admin.get(&path).expect(200), json!({ "origins": [APP, OTHER] }));
    from(&client, APP, "/v1/jobs").expect(200);
    for wrong in ["*", "https://*.example.com", "http://app.example.com", "https://app.example.com/x", "", "null"] {
        let answer = admin.put(&path, &json!({ "origins": [APP, wrong] }));
        answer.fault("invalid_request", "/origins/1");
    }
    let many: Vec<_> = (0..101).map(|place| format!("https://a{place}.example")).collect();
    admin.put(&path, &json!({ "origins": many })).fault("invalid_request", "/origins");
    admin.put(&path, &json!({})).problem(400, "invalid_request");
    admin.put("/admin/tenants/x/origins", &json!({ "origins": [] })).problem(404, "not_found");
    assert_eq!(admin.get(&path).expect(200), json!({ "origins": [APP, OTHER] }), "a faulty list changes nothing");
    assert_eq!(admin.delete(&format!("/admin/tenants/{id}")).status, 204);
    preflight(&server, APP, "/v1/jobs").problem(403, "origin_not_allowed");
}
