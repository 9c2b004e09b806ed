//! Requests that are wrong: each is refused with what is wrong and where, and
//! nothing of it is done.

use serde_json::{Value, json};

use crate::support::raw::Raw;
use crate::support::{Answer, Client, Server, Setup};
use crate::{real, testbed};

fn send(client: &Client, body: impl AsRef<[u8]>) -> Answer {
    client.send("POST", "/v1/jobs", &[("Content-Type", "application/json")], Some(body.as_ref()))
}

fn nothing_was_done(client: &Client) {
    assert_eq!(client.all_pages("/v1/jobs"), Vec::<Value>::new());
}

#[test]
fn an_array_is_no_body() {
    let server = Server::real();
    let tenant = server.tenant("a tenant");
    let path = format!("/admin/tenants/{tenant}");
    for body in ["[]", "[null]", " [null, null, null]"] {
        let answer =
            server.admin().send("PATCH", &path, &[("Content-Type", "application/json")], Some(body.as_bytes()));
        answer.problem(400, "invalid_request");
    }
}

#[test]
fn what_is_no_json_is_refused() {
    let (_server, client) = real();
    for body in ["", "  \n", "{", "nonsense", "{\"tool\":\"echo\"} trailing", "{'tool':'echo'}", "{\"tool\":\"\u{1}\"}"]
    {
        send(&client, body).problem(400, "malformed_json");
    }
    send(&client, b"{\"tool\":\"\xff\xfe\"}").problem(400, "malformed_json");
    send(&client, "{\"tool\":\"echo\",\"input\":{\"a\":1,}}").problem(400, "malformed_json");
    nothing_was_done(&client);
}

#[test]
fn a_byte_order_mark_is_skipped_and_counts_for_nothing() {
    let (_server, client) = real();
    let body = b"{\"tool\":\"echo\",\"input\":\"\xc3\xbc\"}";
    let marked = [b"\xef\xbb\xbf", &body[..]].concat();
    let send = |body: &[u8]| {
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "once")];
        client.send("POST", "/v1/jobs", &headers, Some(body))
    };
    let first = crate::support::client::job_id(&send(&marked).expect(202));
    let again = send(body);
    assert_eq!(crate::support::client::job_id(&again.expect(202)), first);
    assert_eq!(again.header("idempotency-replayed"), Some("true"), "it is the same request without the mark");
    assert_eq!(client.finished(&first)["result"], "\u{fc}");
    send_marked_chat(&client);
}

/// Where a body is passed on too.
fn send_marked_chat(client: &Client) {
    let body = b"\xef\xbb\xbf{\"messages\":[]}";
    let answer = client.send("POST", "/v1/chat/completions", &[("Content-Type", "application/json")], Some(body));
    answer.openai_error(404, "model_not_found", None);
    let twice = b"\xef\xbb\xbf\xef\xbb\xbf{\"messages\":[]}";
    let answer = client.send("POST", "/v1/chat/completions", &[("Content-Type", "application/json")], Some(twice));
    answer.openai_error(400, "malformed_json", None);
}

#[test]
fn a_body_in_another_encoding_is_told_so() {
    let (_server, client) = real();
    let text = "{\"tool\":\"echo\"}";
    let little = |unit: u16| unit.to_le_bytes();
    let big = |unit: u16| unit.to_be_bytes();
    for mark in [&b""[..], b"\xff\xfe"] {
        let body = [mark, &text.encode_utf16().flat_map(little).collect::<Vec<_>>()].concat();
        let detail = send(&client, body).problem(400, "malformed_json")["detail"].clone();
        assert_eq!(detail, "the body is written in UTF-16; send JSON in UTF-8");
    }
    for mark in [&b""[..], b"\xfe\xff"] {
        let body = [mark, &text.encode_utf16().flat_map(big).collect::<Vec<_>>()].concat();
        send(&client, body).problem(400, "malformed_json");
    }
    nothing_was_done(&client);
}

#[test]
fn every_time_that_can_be_written_is_a_time() {
    let (_server, client) = real();
    for (time, shown) in [
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("9999-12-31t23:59:59+01:00", "9999-12-31T22:59:59.000000Z"),
        ("2998-12-31 23:59:60z", "2999-01-01T00:00:00.000000Z"),
    ] {
        let id = client.submit_body(&json!({ "tool": "echo", "run_at": time }));
        assert_eq!(client.job(&id)["run_at"], shown, "{time}");
        client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).expect(200);
    }
}

#[test]
fn a_wrong_type_is_named_with_its_place() {
    let (_server, client) = real();
    let fault = |body: Value, pointer: &str| send(&client, body.to_string()).fault("invalid_request", pointer);
    fault(json!([]), "");
    fault(json!("echo"), "");
    fault(json!(null), "");
    fault(json!({ "tool": 5 }), "/tool");
    fault(json!({ "tool": "echo", "priority": "high" }), "/priority");
    fault(json!({ "tool": "echo", "priority": 128 }), "/priority");
    fault(json!({ "tool": "echo", "priority": 1.5 }), "/priority");
    fault(json!({ "tool": "echo", "run_at": "tomorrow" }), "/run_at");
    fault(json!({ "tool": "echo", "metadata": { "a": 1 } }), "/metadata/a");
    fault(json!({ "tool": "echo", "metadata": ["a"] }), "/metadata");
    fault(json!({ "tool": "echo", "max_attempts": -1 }), "/max_attempts");
    fault(json!({ "tool": "echo", "backoff": { "initial": "1s" } }), "/backoff/initial");
    nothing_was_done(&client);
}

#[test]
fn values_out_of_bounds_are_refused() {
    let (_server, client) = real();
    let fault = |name: &str, value: Value, pointer: &str| {
        let mut body = json!({ "tool": "echo" });
        body[name] = value;
        send(&client, body.to_string()).fault("invalid_request", pointer)
    };
    fault("delay", json!(-1), "/delay");
    fault("delay", json!(1e12), "/delay");
    fault("timeout", json!(0), "/timeout");
    fault("total_timeout", json!(-5), "/total_timeout");
    fault("max_attempts", json!(0), "/max_attempts");
    fault("max_attempts", json!(101), "/max_attempts");
    fault("backoff", json!({ "factor": 0.5 }), "/backoff/factor");
    fault("backoff", json!({ "max": 1e300 }), "/backoff/max");
    fault("metadata", json!({ "": "x" }), "/metadata");
    fault("metadata", json!({ "a b": "x" }), "/metadata");
    fault("metadata", json!({ "a": "x".repeat(513) }), "/metadata/a");
    let many: serde_json::Map<_, _> = (0..17).map(|place| (place.to_string(), json!("x"))).collect();
    fault("metadata", Value::Object(many), "/metadata");
    fault("mode", json!("robot"), "/mode");
    let both = json!({ "tool": "echo", "delay": 1, "run_at": "2100-01-01T00:00:00Z" });
    send(&client, both.to_string()).fault("invalid_request", "/delay");
    let never = json!({ "tool": "echo", "delay": 5, "total_timeout": 4 });
    send(&client, never.to_string()).fault("invalid_request", "/total_timeout");
    send(&client, "{}").fault("invalid_request", "/tool");
    send(&client, "{\"tool\":\"echo\",\"delay\":1e999}").problem(400, "malformed_json");
    nothing_was_done(&client);
}

#[test]
fn an_unknown_field_is_named_with_its_place() {
    let (server, client) = real();
    let body = json!({ "tool": "echo", "inptu": {} });
    let unknown = send(&client, body.to_string()).fault("unknown_field", "/inptu");
    assert!(unknown["detail"].as_str().is_some_and(|detail| detail.contains("input")), "{unknown}");
    let body = json!({ "tool": "echo", "backoff": { "intial": 1 } });
    send(&client, body.to_string()).fault("unknown_field", "/backoff/intial");
    let admin = server.admin();
    admin.post("/admin/tenants", &json!({ "name": "a", "nmae": "b" })).fault("unknown_field", "/nmae");
    let tenant = server.tenant("a");
    let keys = format!("/admin/tenants/{tenant}/keys");
    admin.post(&keys, &json!({ "name": "a", "scope": [] })).fault("unknown_field", "/scope");
    admin.patch(&format!("/admin/tenants/{tenant}"), &json!({ "stauts": "x" })).fault("unknown_field", "/stauts");
    nothing_was_done(&client);
}

#[test]
fn options_of_later_versions_are_refused_by_name() {
    let (_server, client) = real();
    for name in ["callback_url", "messages"] {
        let mut body = json!({ "tool": "echo" });
        body[name] = json!("x");
        let refused = send(&client, body.to_string()).fault("not_available", &format!("/{name}"));
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(name)), "{refused}");
    }
    send(&client, json!({ "tool": "echo", "goal": "x" }).to_string()).fault("invalid_request", "/goal");
    nothing_was_done(&client);
}

#[test]
fn an_unknown_tool_is_named_with_the_nearest_known() {
    let (_server, client) = real();
    let body = json!({ "tool": "ecko" });
    let unknown = send(&client, body.to_string()).fault("unknown_tool", "/tool");
    assert!(unknown["detail"].as_str().is_some_and(|detail| detail.contains("did you mean \"echo\"?")), "{unknown}");
    send(&client, json!({ "tool": "" }).to_string()).fault("unknown_tool", "/tool");
    send(&client, json!({ "tool": "x".repeat(10_000) }).to_string()).fault("unknown_tool", "/tool");
    nothing_was_done(&client);
}

#[test]
fn an_input_that_does_not_fit_the_tools_schema_is_refused() {
    let (_server, client) = testbed();
    let fault = |input: Value, pointer: &str| {
        let body = json!({ "tool": "test.strict", "input": input });
        send(&client, body.to_string()).fault("invalid_input", pointer)
    };
    fault(json!({}), "/input");
    fault(json!({ "count": 11 }), "/input/count");
    fault(json!({ "count": "1" }), "/input/count");
    fault(json!({ "count": 1, "more": 2 }), "/input");
    fault(json!(null), "/input");
    let both = fault(json!({ "count": 0, "more": 2 }), "/input/count");
    assert_eq!(both["errors"].as_array().map(Vec::len), Some(2), "every fault is told: {both}");
    nothing_was_done(&client);
    assert_eq!(client.run(&json!({ "tool": "test.strict", "input": { "count": 10 } }))["status"], "succeeded");
}

#[test]
fn long_inputs_are_not_quoted_back_whole() {
    let (_server, client) = real();
    let body = json!({ "tool": "math.eval", "input": { "expression": "1+".repeat(100_000) } });
    let answer = send(&client, body.to_string());
    answer.problem(400, "invalid_input");
    assert!(answer.text.len() < 4_096, "{} bytes", answer.text.len());
}

#[test]
fn deep_nesting_is_refused_and_allowed_depth_survives_everything() {
    let (_server, client) = real();
    for depth in [65, 1_000, 100_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let input = open.repeat(depth) + "1" + &close.repeat(depth);
            send(&client, format!("{{\"tool\":\"echo\",\"input\":{input}}}")).problem(400, "too_deep");
        }
    }
    send(&client, "[".repeat(500_000)).problem(400, "too_deep");
    nothing_was_done(&client);
    let input = "[".repeat(63) + &"]".repeat(63);
    let body: Value = serde_json::from_str(&format!("{{\"tool\":\"echo\",\"input\":{input}}}")).expect("JSON");
    let job = client.run(&body);
    assert_eq!(job["result"], body["input"]);
}

#[test]
fn a_body_that_is_too_large_is_refused_from_its_head_alone() {
    let (server, key) = {
        let server = Setup::real().env("AGENTD_SERVER_BODY_BYTES", "4KiB").start();
        let key = server.key(&server.tenant("large"));
        (server, key)
    };
    let mut raw = Raw::connect(&server.address());
    let secret = &key.secret;
    raw.send(format!("POST /v1/jobs HTTP/1.1\r\nHost: x\r\nX-API-Key: {secret}\r\nContent-Length: 4097\r\n\r\n"));
    let answer = raw.read_until("payload_too_large");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn a_body_that_turns_out_too_large_is_refused() {
    let server = Setup::real().env("MAX_PAYLOAD_BYTES", "4096").start();
    let key = server.key(&server.tenant("large"));
    let client = server.anyone().with_key(&key);
    let fits = json!({ "tool": "echo", "input": "x".repeat(4096 - 26) }).to_string();
    assert_eq!(fits.len(), 4096);
    send(&client, &fits).expect(202);
    send(&client, fits.replace("echo", "echoo")).problem(413, "payload_too_large");
    let mut raw = Raw::connect(&server.address());
    let secret = &key.secret;
    raw.send(format!("POST /v1/jobs HTTP/1.1\r\nHost: x\r\nX-API-Key: {secret}\r\nTransfer-Encoding: chunked\r\n\r\n"));
    for _ in 0..5 {
        raw.send(format!("400\r\n{}\r\n", " ".repeat(0x400)));
    }
    let answer = raw.read_until("payload_too_large");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    for job in client.all_pages("/v1/jobs") {
        client.finished(&crate::support::client::job_id(&job));
    }
    assert_eq!(client.all_pages("/v1/jobs").len(), 1);
}

#[test]
fn a_body_of_another_kind_is_refused() {
    let (_server, client) = real();
    let post = |kind: &str| client.send("POST", "/v1/jobs", &[("Content-Type", kind)], Some(b"{\"tool\":\"echo\"}"));
    for kind in ["image/png", "application/xml", "multipart/form-data; boundary=x"] {
        post(kind).problem(415, "unsupported_media_type");
    }
    nothing_was_done(&client);
    for kind in ["application/json; charset=utf-8", "application/vnd.x+json", "application/x-www-form-urlencoded"] {
        let id = crate::support::client::job_id(&post(kind).expect(202));
        client.finished(&id);
    }
}

#[test]
fn a_wait_that_is_no_time_is_refused() {
    let (_server, client) = real();
    for wait in ["-1", "soon", "NaN", "inf", "1e400", "5s", ""] {
        let answer = client.post(&format!("/v1/jobs?wait={wait}"), &json!({ "tool": "echo" }));
        answer.fault("invalid_request", "?wait");
    }
    client.post("/v1/jobs?wiat=1", &json!({ "tool": "echo" })).fault("invalid_request", "?wiat");
    nothing_was_done(&client);
}
