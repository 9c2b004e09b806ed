//! Responses that are kept: read again, gone on from, deleted, forgotten.

use serde_json::json;

use super::{Bench, id, own_question, question, with};
use crate::support::{Setup, eventually};

#[test]
fn a_conversation_is_put_together_from_what_is_kept() {
    let mut bench = Bench::start();
    let first = bench.create(&with(question(), json!({ "instructions": "Be brief." })));
    bench.server.restart();
    let second = bench.create(&with(question(), json!({ "input": "And again.", "previous_response_id": first["id"] })));
    assert_eq!(second["previous_response_id"], first["id"]);
    // The next turn goes to another provider, which has never heard of it.
    let third = bench.create(&with(own_question(), json!({ "input": "Last.", "previous_response_id": second["id"] })));
    let input = bench.upstream.last_request().json()["input"].clone();
    let said: Vec<_> =
        input.as_array().expect("a list").iter().map(|item| item["content"][0]["text"].clone()).collect();
    assert_eq!(said, ["Say hello.", "Hello there.", "And again.", "Hello there.", "Last."]);
    assert!(bench.upstream.last_request().json().get("previous_response_id").is_none());
    assert!(bench.upstream.last_request().json().get("instructions").is_none(), "they are for one turn");
    // Without one in the middle there is nothing to go on from.
    bench.client.delete(&format!("/v1/responses/{}", id(&second))).expect(200);
    let body = with(question(), json!({ "previous_response_id": third["id"] }));
    bench.client.post("/v1/responses", &body).openai_error(400, "invalid_request", Some("previous_response_id"));
}

#[test]
fn what_is_not_to_be_stored_is_not() {
    let bench = Bench::start();
    let response = bench.create(&with(question(), json!({ "store": false })));
    assert_eq!(response["store"], false);
    bench.client.get(&format!("/v1/responses/{}", id(&response))).openai_error(404, "not_found", None);
    let body = with(question(), json!({ "previous_response_id": response["id"] }));
    let param = Some("previous_response_id");
    bench.client.post("/v1/responses", &body).openai_error(400, "previous_response_not_found", param);
}

#[test]
fn a_response_is_deleted() {
    let bench = Bench::start();
    let response = bench.create(&question());
    let path = format!("/v1/responses/{}", id(&response));
    let gone = bench.client.delete(&path).expect(200);
    assert_eq!(gone, json!({ "id": response["id"], "object": "response", "deleted": true }));
    bench.client.get(&path).openai_error(404, "not_found", None);
    bench.client.delete(&path).openai_error(404, "not_found", None);
}

#[test]
fn another_tenants_response_is_none() {
    let bench = Bench::start();
    let response = bench.create(&question());
    let other = bench.server.anyone().with_key(&bench.server.key(&bench.server.tenant("another")));
    let path = format!("/v1/responses/{}", id(&response));
    other.get(&path).openai_error(404, "not_found", None);
    other.get(&format!("{path}/input_items")).openai_error(404, "not_found", None);
    other.delete(&path).openai_error(404, "not_found", None);
    other.post(&format!("{path}/cancel"), &json!({})).openai_error(404, "not_found", None);
    let body = with(question(), json!({ "previous_response_id": response["id"] }));
    let param = Some("previous_response_id");
    other.post("/v1/responses", &body).openai_error(400, "previous_response_not_found", param);
    for none in ["resp_1", "x", "00000000-0000-7000-8000-000000000000"] {
        bench.client.get(&format!("/v1/responses/{none}")).openai_error(404, "not_found", None);
    }
}

#[test]
fn the_input_is_listed_in_pages() {
    let bench = Bench::start();
    let response = bench.create(&with(
        question(),
        json!({ "input": [
            { "role": "user", "content": "one" },
            { "type": "message", "id": "msg_mine", "role": "assistant", "content": [{ "type": "output_text", "text": "two" }] },
            { "role": "user", "content": [{ "type": "input_text", "text": "three" }] },
        ] }),
    ));
    let path = format!("/v1/responses/{}/input_items", id(&response));
    let all = bench.client.get(&path).expect(200);
    let texts = |list: &serde_json::Value| {
        let items = list["data"].as_array().expect("a list").iter();
        items.map(|item| item["content"][0]["text"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(texts(&all), ["three", "two", "one"]);
    assert_eq!(all["has_more"], false);
    let first = bench.client.get(&format!("{path}?order=asc&limit=2")).expect(200);
    assert_eq!((texts(&first), &first["has_more"]), (vec!["one".to_owned(), "two".into()], &json!(true)));
    assert_eq!(first["last_id"], "msg_mine");
    let rest = bench.client.get(&format!("{path}?order=asc&after=msg_mine")).expect(200);
    assert_eq!(texts(&rest), ["three"]);
    bench.client.get(&format!("{path}?limit=0")).openai_error(400, "invalid_request", Some("limit"));
    bench.client.get(&format!("{path}?order=up")).openai_error(400, "invalid_request", Some("order"));
    bench.client.get(&format!("{path}?after=nothing")).openai_error(400, "invalid_request", Some("after"));
}

#[test]
fn a_stored_response_can_be_streamed_again() {
    let bench = Bench::start();
    let response = bench.create(&question());
    let events: Vec<_> = bench.follow(&id(&response), None).collect();
    assert_eq!(events.last().map(|event| event["response"].clone()), Some(response.clone()));
    let rest: Vec<_> = bench.follow(&id(&response), Some(3)).collect();
    assert_eq!(rest, events[4..]);
    let path = format!("/v1/responses/{}", id(&response));
    bench.client.get(&format!("{path}?starting_after=3")).openai_error(400, "invalid_request", Some("starting_after"));
    bench.client.get(&format!("{path}?include_obfuscation=perhaps")).openai_error(
        400,
        "invalid_request",
        Some("include_obfuscation"),
    );
    bench.client.get(&format!("{path}?stream=maybe")).openai_error(400, "invalid_request", Some("stream"));
}

#[test]
fn responses_are_forgotten_when_their_time_is_over_unless_one_goes_on_from_them() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let setup = Setup::testbed().clock(folder.path()).env("AGENT_MODELS_KEEP_RESPONSES", "30d");
    let mut bench = Bench::start_with(setup);
    let (old, first) = (bench.create(&question()), bench.create(&question()));
    let day = 86_400;
    bench.server.let_pass(20 * day);
    let second = bench.create(&with(question(), json!({ "previous_response_id": first["id"] })));
    bench.server.let_pass(31 * day);
    bench.server.restart();
    let path = |response: &serde_json::Value| format!("/v1/responses/{}", id(response));
    eventually("the old one is forgotten", || (bench.client.get(&path(&old)).status == 404).then_some(()));
    bench.get(&id(&first));
    bench.server.let_pass(51 * day);
    bench.server.restart();
    eventually("all are forgotten", || (bench.client.get(&path(&first)).status == 404).then_some(()));
    assert_eq!(bench.client.get(&path(&second)).status, 404);
}

#[test]
fn an_input_that_is_too_large_to_keep_is_refused() {
    let bench = Bench::start();
    let body = with(question(), json!({ "input": "x ".repeat(5 << 20) }));
    bench.client.post("/v1/responses", &body).openai_error(413, "payload_too_large", None);
    assert!(bench.upstream.requests().is_empty());
}

#[test]
fn a_deleted_tenants_responses_go_with_it() {
    let mut bench = Bench::start();
    let tenant = bench.server.tenant("short-lived");
    let client = bench.server.anyone().with_key(&bench.server.key(&tenant));
    let secret = "a text that must not be left";
    client.post("/v1/responses", &with(question(), json!({ "input": secret }))).expect(200);
    bench.server.admin().delete(&format!("/admin/tenants/{tenant}")).expect_text(204);
    let kept = || {
        let path = bench.server.data().join("agentd.db");
        let database = rusqlite::Connection::open(path).expect("a database");
        let sql = "SELECT count(*) FROM responses WHERE input LIKE '%' || ?1 || '%'";
        database.query_row(sql, [secret], |row| row.get::<_, i64>(0)).expect("a count")
    };
    eventually("nothing is left", || (kept() == 0).then_some(()));
    bench.server.stop();
}
