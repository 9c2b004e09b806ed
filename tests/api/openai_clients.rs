//! The routes of OpenAI's interface for clients as they are: paths that are nearly right, parameters that others
//! understand, and headers in every form that HTTP allows.

use serde_json::{Value, json};

use crate::real;
use crate::support::{Answer, Client, Server};

const CHAT: &str = "/v1/chat/completions";

/// The message of an error in OpenAI's form.
#[track_caller]
fn message(answer: &Answer, status: u16, code: &str) -> String {
    let body = answer.openai_error(status, code, None);
    assert_eq!(body["error"]["type"], "invalid_request_error", "{body}");
    body["error"]["message"].as_str().expect("a message").to_owned()
}

/// Somebody whose calls of models are answered by the built-in one.
fn tester(server: &Server) -> Client {
    let key = server.key_with(&server.tenant("a tenant"), &json!({ "name": "a test", "test": true }));
    server.anyone().with_key(&key)
}

fn question() -> Value {
    json!({ "messages": [{ "role": "user", "content": "Say hello." }] })
}

#[test]
fn a_path_that_is_nearly_right_is_told_the_right_one() {
    let (_server, client) = real();
    for path in [
        "//v1/chat/completions",
        "/v1/chat/completions/",
        "/v1//chat/completions",
        "/chat/completions",
        "/v1/v1/chat/completions",
        "/openai/v1/chat/completions",
        "/api/v1/chat/completions",
        "/V1/Chat/Completions",
        "/v1/chat/completion",
        "/v1/chat/completions/chat/completions",
        "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        "/v1/completions",
        "/completions",
        "/v1/engines/davinci/completions",
    ] {
        let answer = client.post(path, &question());
        let said = message(&answer, 404, "no_route");
        assert!(said.ends_with("did you mean /v1/chat/completions?"), "{path}: {said}");
    }
    for (path, right) in [
        ("/models", "/v1/models"),
        ("/v1/models/", "/v1/models"),
        ("/models/openai/gpt-4o", "/v1/models/openai/gpt-4o"),
        ("/v1/response", "/v1/responses"),
        ("/responses/resp_1/input_items", "/v1/responses/resp_1/input_items"),
        ("/embeddings", "/v1/embeddings"),
        ("/v1/files/", "/v1/files"),
        ("/files/file-1/content/", "/v1/files/file-1/content"),
        ("/v1/batch", "/v1/batches"),
        ("/audio/speech", "/v1/audio/speech"),
    ] {
        let said = message(&client.get(path), 404, "no_route");
        assert!(said.ends_with(&format!("did you mean {right}?")), "{path}: {said}");
    }
    let said = message(&client.post("/v1/images/generations", &json!({})), 404, "no_route");
    assert!(said.contains("this service has") && said.contains(CHAT), "{said}");
}

#[test]
fn every_route_of_openai_is_found_from_near_and_no_other_one() {
    let (_server, client) = real();
    let document = agentd::app::routes().document();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let responses = item.as_object().expect("an item").values().filter_map(|it| it["responses"].as_object());
        let is_openai = responses.flatten().any(|(_, it)| it["$ref"].as_str().is_some_and(|it| it.contains("openai.")));
        let path = path.replace("{model}", "a/b").replace("{id}", "x1").replace("{key_id}", "y2");
        if path.contains('{') || path == "/" {
            continue;
        }
        let wrong = format!("/{path}/");
        let answer = client.send("POST", &wrong, &[], None);
        if is_openai {
            let said = message(&answer, 404, "no_route");
            assert!(said.ends_with(&format!("did you mean {path}?")), "{wrong}: {said}");
        } else {
            let hint = answer.problem(404, "no_route")["hint"].as_str().map(str::to_owned);
            assert_eq!(hint, Some(format!("did you mean {path}?")), "{wrong}");
        }
    }
}

#[test]
fn the_services_own_paths_keep_their_form() {
    let (_server, client) = real();
    for (path, right) in
        [("/v1/jobs/", "/v1/jobs"), ("/jobs", "/v1/jobs"), ("/v1/job", "/v1/jobs"), ("/healthz", "/health")]
    {
        let body = client.get(path).problem(404, "no_route");
        assert_eq!(body["hint"], format!("did you mean {right}?"), "{path}");
    }
    for path in ["/nonsense", "/v1", "/a/b/c", "/images/logo.png", "/wp-login.php"] {
        let body = client.get(path).problem(404, "no_route");
        assert_eq!(body["hint"], Value::Null, "{path}");
    }
}

#[test]
fn a_wrong_method_has_the_form_of_the_interface() {
    let (_server, client) = real();
    for (method, path, allowed) in [
        ("GET", CHAT, "POST"),
        ("DELETE", "/v1/models/gpt-4o", "GET, HEAD"),
        ("DELETE", "/v1/models/openai/gpt-4o", "GET, HEAD"),
        ("PUT", "/v1/files", "GET, HEAD, POST"),
        ("PATCH", "/v1/responses/resp_1", "DELETE, GET, HEAD"),
    ] {
        let answer = client.send(method, path, &[], None);
        let said = message(&answer, 405, "method_not_allowed");
        assert!(said.starts_with(&format!("{method} is not possible here")), "{said}");
        let mut told: Vec<_> = answer.header("allow").expect("Allow").split(", ").collect();
        told.sort_unstable();
        assert_eq!(told.join(", "), allowed, "{method} {path}");
    }
    assert_eq!(client.send("HEAD", CHAT, &[], None).status, 405);
}

#[test]
fn parameters_that_others_understand_are_ignored() {
    let server = Server::real();
    let client = tester(&server);
    let unknown = "api-version=2024-10-21&client_version=0.1&client_version=0.2&beta&x=%F0%9F%90%A2";
    client.post(&format!("{CHAT}?{unknown}"), &question()).expect(200);
    client.post(&format!("/v1/embeddings?{unknown}"), &json!({ "input": "x", "model": "echo" })).expect(200);
    for path in ["/v1/models", "/v1/models/echo", "/v1/files", "/v1/batches"] {
        client.get(&format!("{path}?{unknown}")).expect(200);
    }
    client.get(&format!("/v1/responses/resp_x?{unknown}")).openai_error(404, "not_found", None);
    let include = "include[]=a&include[]=b&include=c";
    client.get(&format!("/v1/responses/resp_x?{include}")).openai_error(404, "not_found", None);
    // What is known is read as ever.
    for (query, param) in [
        ("/v1/files?limit=0", "limit"),
        ("/v1/files?api-version=1&limit=many", "limit"),
        ("/v1/files?limit=1&limit=2", "limit"),
        ("/v1/files?order=up&x=1", "order"),
        ("/v1/batches?limit=101", "limit"),
        ("/v1/responses/resp_x?stream=maybe", "stream"),
        ("/v1/responses/resp_x/input_items?limit=-1", "limit"),
    ] {
        client.get(query).openai_error(400, "invalid_request", Some(param));
    }
    // So are the service's own routes.
    for path in ["/v1/jobs", "/v1/tools", "/v1/budget", "/v1/usage"] {
        client.get(&format!("{path}?client_version=1")).fault("invalid_request", "?client_version");
    }
}

#[test]
fn a_scheme_and_a_media_type_have_no_case() {
    let server = Server::real();
    let client = tester(&server);
    let key = client.key_header();
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR  "] {
        let header = format!("{scheme} {key}");
        server.anyone().send("GET", "/v1/models", &[("Authorization", &header)], None).expect(200);
    }
    server.anyone().send("GET", "/v1/models", &[("Authorization", &format!("Basic {key}"))], None).openai_error(
        401,
        "unauthorized",
        None,
    );
    let body = question().to_string();
    let post = |headers: &[(&str, &str)]| client.send("POST", CHAT, headers, Some(body.as_bytes()));
    for kind in ["Application/JSON", "application/json ; Charset=\"UTF-8\"", "APPLICATION/VND.X+JSON;a=\"b;c\""] {
        post(&[("Content-Type", kind)]).expect(200);
    }
    for kind in ["Image/PNG", "application/xml ; charset=utf-8"] {
        post(&[("Content-Type", kind)]).openai_error(415, "unsupported_media_type", None);
    }
    for coding in ["identity", "Identity", "IDENTITY, identity"] {
        post(&[("Content-Type", "application/json"), ("Content-Encoding", coding)]).expect(200);
    }
    let coded = [("Content-Type", "application/json"), ("Content-Encoding", "identity"), ("Content-Encoding", "GZIP")];
    post(&coded).openai_error(415, "unsupported_media_type", None);
    let form = "--X=1\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--X=1\r\nContent-Disposition: \
                form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n--X=1--\r\n";
    for kind in ["Multipart/Form-Data;Boundary=\"X=1\"", "multipart/form-data ; charset=utf-8; boundary=X=1"] {
        client.send("POST", "/v1/files", &[("Content-Type", kind)], Some(form.as_bytes())).expect(200);
    }
}

#[test]
fn what_a_client_accepts_is_weighed() {
    let (_server, client) = real();
    let id = crate::support::client::job_id(&client.run(&json!({ "tool": "echo" })));
    let kind = |path: &str, accept: &[&str]| {
        let headers: Vec<_> = accept.iter().map(|accept| ("Accept", *accept)).collect();
        let answer = client.send("GET", path, &headers, None);
        assert_eq!(answer.status, 200, "{accept:?}: {}", answer.text);
        answer.header("content-type").expect("a type").to_owned()
    };
    let events = format!("/v1/jobs/{id}/events");
    for accept in ["text/event-stream", "Text/Event-Stream", "application/json;q=0.5, text/event-stream", "text/*"] {
        assert_eq!(kind(&events, &[accept]), "text/event-stream", "{accept}");
    }
    assert_eq!(kind(&events, &["application/json;q=0.2", "text/event-stream;q=0.3"]), "text/event-stream");
    for accept in ["*/*", "application/json;q=0.9, text/event-stream;q=0", "text/event-stream;Q=0.1, */*", "image/png"]
    {
        assert_eq!(kind(&events, &[accept]), "application/json", "{accept}");
    }
    assert!(kind("/v1/usage/spend", &["TEXT/CSV"]).starts_with("text/csv"));
    assert_eq!(kind("/v1/usage/spend", &["text/csv;q=0, */*"]), "application/json");
}
