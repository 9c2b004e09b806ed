//! `/v1/batches`, over a provider that is scripted.

use serde_json::{Value, json};

use super::{Bench, id, upload};
use crate::support::upstream::Script;
use crate::support::{Client, Server, eventually};

const CHAT: &str = "/v1/chat/completions";

fn line(n: usize, model: &str) -> String {
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": format!("{n}") }], "max_tokens": 50 });
    json!({ "custom_id": format!("c{n}"), "method": "POST", "url": CHAT, "body": body }).to_string() + "\n"
}

fn lines(count: usize) -> String {
    (1..=count).map(|n| line(n, "default")).collect()
}

#[track_caller]
fn make(client: &Client, input: &str) -> String {
    let file = upload(client, "in.jsonl", input.as_bytes(), "batch");
    let body = json!({ "input_file_id": id(&file), "endpoint": CHAT, "completion_window": "24h",
        "metadata": { "night": "1" }, "later": true });
    let made = client.post("/v1/batches", &body).expect(200);
    assert_eq!((&made["status"], &made["metadata"]), (&json!("validating"), &json!({ "night": "1" })));
    id(&made)
}

fn batch(client: &Client, id: &str) -> Value {
    client.get(&format!("/v1/batches/{id}")).expect(200)
}

fn ended(client: &Client, id: &str) -> Value {
    eventually("the batch has ended", || {
        let now = batch(client, id);
        let ended = ["completed", "failed", "expired", "cancelled"].iter().any(|status| now["status"] == *status);
        ended.then_some(now)
    })
}

/// Lines of a file of JSON.
fn read(client: &Client, file: &Value) -> Vec<Value> {
    let path = format!("/v1/files/{}/content", file.as_str().expect("a file"));
    let text = String::from_utf8(client.bytes(&path)).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_batch_is_called_line_by_line_and_paid_for() {
    let bench = Bench::start();
    bench.upstream.usually(Script::reply("Hello.").used(100, 10));
    let made = make(&bench.client, &lines(9));
    let ended = ended(&bench.client, &made);
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(ended["request_counts"], json!({ "total": 9, "completed": 9, "failed": 0 }));
    assert_eq!(ended["error_file_id"], Value::Null);
    for time in ["in_progress_at", "finalizing_at", "completed_at", "expires_at"] {
        assert!(ended[time].is_i64(), "{time} in {ended}");
    }
    let output = read(&bench.client, &ended["output_file_id"]);
    let told: Vec<_> = output.iter().map(|line| line["custom_id"].as_str().expect("an id")).collect();
    assert_eq!(told, (1..=9).map(|n| format!("c{n}")).collect::<Vec<_>>());
    for line in &output {
        assert_eq!((&line["response"]["status_code"], &line["error"]), (&json!(200), &Value::Null));
        assert_eq!(line["response"]["body"]["choices"][0]["message"]["content"], "Hello.");
    }
    assert_eq!(bench.upstream.counts().requests, 9);
    let file =
        bench.client.get(&format!("/v1/files/{}", ended["output_file_id"].as_str().expect("a file"))).expect(200);
    assert_eq!((&file["purpose"], file["expires_at"].is_i64()), (&json!("batch_output"), true));
    let listed = bench.client.get("/v1/batches").expect(200);
    assert_eq!(listed["data"], json!([ended]));
    bench.client.post(&format!("/v1/batches/{made}/cancel"), &json!({})).openai_error(409, "batch_ended", None);
}

#[test]
fn responses_in_a_batch_are_made_here() {
    let bench = Bench::start();
    bench.upstream.usually(Script::reply("Hello.").used(100, 10));
    let line = |id: &str, change: Value| {
        let mut body = json!({ "model": "default", "input": "Say hello.", "max_output_tokens": 50 });
        body.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        json!({ "custom_id": id, "method": "POST", "url": "/v1/responses", "body": body }).to_string() + "\n"
    };
    let unknown = json!({ "previous_response_id": "resp_01990000000070008000000000000000" });
    let input = line("plain", json!({})) + &line("on", unknown);
    let file = upload(&bench.client, "in.jsonl", input.as_bytes(), "batch");
    let body = json!({ "input_file_id": id(&file), "endpoint": "/v1/responses", "completion_window": "24h" });
    let made = id(&bench.client.post("/v1/batches", &body).expect(200));
    let ended = ended(&bench.client, &made);
    assert_eq!(ended["request_counts"], json!({ "total": 2, "completed": 1, "failed": 1 }), "{ended}");
    let output = read(&bench.client, &ended["output_file_id"]);
    let response = &output[0]["response"]["body"];
    assert_eq!((&response["object"], &response["store"]), (&json!("response"), &json!(false)));
    assert_eq!(response["output"][0]["content"][0]["text"], "Hello.");
    let kept = bench.client.get(&format!("/v1/responses/{}", response["id"].as_str().expect("an id")));
    assert_eq!(kept.status, 404, "the batch keeps it");
    let errors = read(&bench.client, &ended["error_file_id"]);
    let params: Vec<_> = errors.iter().map(|line| &line["response"]["body"]["error"]["param"]).collect();
    assert_eq!(params, ["previous_response_id"]);
    assert_eq!(bench.upstream.counts().requests, 1);
}

#[test]
fn a_line_that_failed_and_was_paid_for_is_not_called_again() {
    let bench = Bench::start();
    bench.upstream.usually(Script::html(200));
    let made = make(&bench.client, &lines(1));
    let ended = ended(&bench.client, &made);
    assert_eq!(ended["request_counts"], json!({ "total": 1, "completed": 0, "failed": 1 }));
    let errors = read(&bench.client, &ended["error_file_id"]);
    assert_eq!(bench.upstream.counts().requests, 1, "{errors:?}");
}

#[test]
fn errors_come_in_a_file_of_their_own() {
    let bench = Bench::start();
    bench.upstream.usually(Script::reply("Hello."));
    let made = make(&bench.client, &(lines(1) + &line(2, "nobody/knows") + &line(3, "openai/no-price")));
    let ended = ended(&bench.client, &made);
    assert_eq!(ended["request_counts"], json!({ "total": 3, "completed": 1, "failed": 2 }));
    let errors = read(&bench.client, &ended["error_file_id"]);
    let told = |line: &Value| {
        let response = &line["response"];
        (line["custom_id"].clone(), response["status_code"].clone(), response["body"]["error"]["code"].clone())
    };
    assert_eq!(
        errors.iter().map(told).collect::<Vec<_>>(),
        [(json!("c2"), json!(404), json!("model_not_found")), (json!("c3"), json!(400), json!("unknown_price")),]
    );
}

#[test]
fn what_is_wrong_with_the_input_is_told_by_line() {
    let bench = Bench::start();
    let made = make(&bench.client, &(lines(2) + "{\n" + &lines(1)));
    let ended = ended(&bench.client, &made);
    assert_eq!(ended["status"], "failed");
    let errors: Vec<_> = ended["errors"]["data"].as_array().expect("a list").clone();
    let told: Vec<_> = errors.iter().map(|error| (&error["line"], &error["code"])).collect();
    assert_eq!(told, [(&json!(3), &json!("invalid_json_line")), (&json!(4), &json!("duplicate_custom_id"))]);
    assert_eq!(bench.upstream.counts().requests, 0);
}

#[test]
fn a_request_that_makes_no_sense_is_refused() {
    let server = Server::real();
    let client = server.client();
    let good = id(&upload(&client, "a", b"x", "batch"));
    let other = id(&upload(&client, "a", b"x", "vision"));
    let body = |change: Value| {
        let mut body = json!({ "input_file_id": good, "endpoint": CHAT, "completion_window": "24h" });
        body.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        body
    };
    for (change, param) in [
        (json!({ "endpoint": "/v1/audio/speech" }), "endpoint"),
        (json!({ "completion_window": "1h" }), "completion_window"),
        (json!({ "input_file_id": other }), "input_file_id"),
        (json!({ "metadata": { "k": "v".repeat(513) } }), "metadata.k"),
        (json!({ "metadata": { "k": 1 } }), "metadata.k"),
        (json!({ "output_expires_after": { "anchor": "created_at", "seconds": 1 } }), "output_expires_after.seconds"),
    ] {
        client.post("/v1/batches", &body(change)).openai_error(400, "invalid_request", Some(param));
    }
    let missing = json!({ "input_file_id": "file-01990000000070008000000000000000" });
    client.post("/v1/batches", &body(missing)).openai_error(404, "not_found", None);
    for path in ["x", "batch_1", "batch_01990000000070008000000000000000"] {
        client.get(&format!("/v1/batches/{path}")).openai_error(404, "not_found", None);
        client.post(&format!("/v1/batches/{path}/cancel"), &json!({})).openai_error(404, "not_found", None);
    }
}

#[test]
fn the_same_request_twice_makes_one_batch() {
    let server = Server::real();
    let client = server.client();
    let file = id(&upload(&client, "a", lines(1).as_bytes(), "batch"));
    let body = |night: &str| json!({ "input_file_id": file, "endpoint": CHAT, "completion_window": "24h", "metadata": { "night": night } });
    let post = |body: &Value| client.post_with("/v1/batches", &[("Idempotency-Key", "nightly")], body);
    // A refusal is not remembered.
    let mut wrong = body("1");
    wrong["input_file_id"] = json!("file-01990000000070008000000000000000");
    post(&wrong).openai_error(404, "not_found", None);
    let first = post(&body("1"));
    let again = post(&body("1"));
    assert_eq!(again.header("Idempotency-Replayed"), Some("true"));
    assert_eq!(first.expect(200), again.expect(200));
    post(&body("2")).openai_error(422, "idempotency_key_reused", None);
    assert_eq!(client.get("/v1/batches").expect(200)["data"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_cancelled_batch_keeps_what_it_has_and_gives_up_the_rest() {
    let bench = Bench::start();
    bench.upstream.usually(Script::hang());
    bench.upstream.next("gpt-4o-mini", [Script::reply("Hello.")]);
    let made = make(&bench.client, &lines(9));
    // The first has been answered, and each of four places has one that hangs.
    bench.upstream.wait_for_requests(5);
    bench
        .client
        .delete(&format!("/v1/files/{}", batch(&bench.client, &made)["input_file_id"].as_str().expect("an id")))
        .openai_error(409, "in_use", None);
    let told = bench.client.post(&format!("/v1/batches/{made}/cancel"), &json!({})).expect(200);
    assert!(["cancelling", "cancelled"].contains(&told["status"].as_str().expect("a status")), "{told}");
    let ended = ended(&bench.client, &made);
    assert_eq!(ended["request_counts"], json!({ "total": 9, "completed": 1, "failed": 4 }), "{ended}");
    assert!(ended["cancelling_at"].is_i64() && ended["cancelled_at"].is_i64());
    assert_eq!(read(&bench.client, &ended["output_file_id"]).len(), 1);
    for line in read(&bench.client, &ended["error_file_id"]) {
        assert_eq!(line["error"]["code"], "batch_cancelled");
    }
    bench.client.post(&format!("/v1/batches/{made}/cancel"), &json!({})).expect(200);
}

#[test]
fn after_a_kill_it_goes_on_and_nothing_is_called_twice() {
    let mut bench = Bench::start();
    bench.upstream.usually(Script::hang());
    bench.upstream.next("gpt-4o-mini", (0..3).map(|_| Script::reply("Hello.")));
    let made = make(&bench.client, &lines(12));
    bench.upstream.wait_for_requests(7);
    bench.server.kill();
    bench.upstream.usually(Script::reply("Hello."));
    bench.server.start_again(|setup| setup);
    let ended = ended(&bench.client, &made);
    assert_eq!(ended["status"], "completed");
    assert_eq!(ended["request_counts"], json!({ "total": 12, "completed": 8, "failed": 4 }), "{ended}");
    for line in read(&bench.client, &ended["error_file_id"]) {
        assert_eq!(line["error"]["code"], "interrupted");
    }
    assert_eq!(bench.upstream.counts().requests, 12);
}

#[test]
fn with_a_test_key_it_costs_nothing_and_asks_nobody() {
    let bench = Bench::start();
    let tenant = bench.server.tenant("tester");
    let key = bench.server.key_with(&tenant, &json!({ "name": "k", "test": true }));
    let client = bench.server.anyone().with_key(&key);
    let made = make(&client, &lines(3));
    assert_eq!(ended(&client, &made)["request_counts"]["completed"], 3);
    assert_eq!(bench.upstream.counts().requests, 0);
}

#[test]
fn the_command_line_shows_and_ends_batches() {
    let bench = Bench::start();
    bench.upstream.usually(Script::hang());
    let made = make(&bench.client, &lines(5));
    bench.upstream.wait_for_requests(4);
    let listed = bench.server.ask_json(&["batch", "list"]);
    assert_eq!(listed["data"][0]["id"], json!(made));
    assert!(bench.server.ask(&["batch", "list"]).contains("in_progress"));
    assert!(bench.server.ask(&["batch", "show", &made]).contains(CHAT));
    bench.server.ask(&["batch", "cancel", &made]);
    assert_eq!(ended(&bench.client, &made)["status"], "cancelled");
    let unknown = "batch_01990000000070008000000000000000";
    assert!(bench.server.agentd(&["batch", "show", unknown]).refused(1).contains("there is no such batch"));
    bench.server.agentd(&["batch", "show", "nonsense"]).refused(2);
}
