//! `Idempotency-Key`: the same request twice is done once.

use serde_json::{Value, json};

use crate::support::client::job_id;
use crate::support::{Answer, Client, Server, Setup};
use crate::{real, testbed};

fn post(client: &Client, path: &str, key: &str, body: &Value) -> Answer {
    client.post_with(path, &[("Idempotency-Key", key)], body)
}

fn is_replay(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

#[test]
fn the_same_request_gets_the_same_answer() {
    let (_server, client) = real();
    let body = json!({ "tool": "echo", "input": 1 });
    let first = post(&client, "/v1/jobs", "a key", &body);
    let second = post(&client, "/v1/jobs", "a key", &body);
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.text, second.text);
    assert_eq!((is_replay(&first), is_replay(&second)), (false, true));
    assert_eq!(first.header("location"), second.header("location"));
    client.finished(&job_id(&first.json()));
    assert_eq!(post(&client, "/v1/jobs", "a key", &body).text, first.text, "also after the job's end");
    assert_eq!(client.all_pages("/v1/jobs").len(), 1);
}

#[test]
fn a_repeated_request_can_wait_for_the_first_ones_job() {
    let (server, client) = testbed();
    let gate = server.gate("gate");
    let body = json!({ "tool": "test.gate", "input": { "gate": gate.path() } });
    let id = job_id(&post(&client, "/v1/jobs", "k", &body).expect(202));
    assert!(is_replay(&post(&client, "/v1/jobs?wait=0.02", "k", &body)));
    gate.open();
    for _ in 0..2 {
        let answer = post(&client, "/v1/jobs?wait=30", "k", &body);
        assert!(is_replay(&answer));
        let job = answer.expect(200);
        assert_eq!((job_id(&job), &job["status"]), (id.clone(), &json!("succeeded")));
    }
}

#[test]
fn a_job_that_has_been_deleted_is_neither_made_again_nor_waited_for() {
    let (_server, client) = real();
    let body = json!({ "tool": "echo" });
    let id = job_id(&post(&client, "/v1/jobs?wait=30", "k", &body).expect(200));
    assert_eq!(client.delete(&format!("/v1/jobs/{id}")).status, 204);
    let asked = std::time::Instant::now();
    let again = post(&client, "/v1/jobs?wait=30", "k", &body);
    assert!(is_replay(&again));
    assert_eq!(job_id(&again.expect(202)), id);
    assert!(asked.elapsed().as_secs() < 20, "it waited for an end that cannot come");
    assert!(client.all_pages("/v1/jobs").is_empty());
}

#[test]
fn another_request_under_the_same_key_is_refused() {
    let (_server, client) = real();
    post(&client, "/v1/jobs", "k", &json!({ "tool": "echo", "input": 1 })).expect(202);
    post(&client, "/v1/jobs", "k", &json!({ "tool": "echo", "input": 2 })).problem(422, "idempotency_key_reused");
    // What is refused for its own faults does not take the key.
    post(&client, "/v1/jobs", "free", &json!({ "tool": "nonsense" })).problem(400, "unknown_tool");
    post(&client, "/v1/jobs", "free", &json!({ "tool": "echo" })).expect(202);
    for job in client.all_pages("/v1/jobs") {
        client.finished(&job_id(&job));
    }
    assert_eq!(client.all_pages("/v1/jobs").len(), 2);
}

#[test]
fn many_at_once_make_one_job() {
    let (_server, client) = testbed();
    let body = json!({ "tool": "test.sleep", "input": { "seconds": 0.05 } });
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| post(&client, "/v1/jobs", "k", &body))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let id = job_id(&answers[0].expect(202));
    for answer in &answers {
        assert_eq!(job_id(&answer.expect(202)), id);
    }
    assert_eq!(answers.iter().filter(|answer| !is_replay(answer)).count(), 1, "one made it, the others heard of it");
    client.finished(&id);
    assert_eq!(client.all_pages("/v1/jobs").len(), 1);
}

#[test]
fn keys_survive_stops_and_crashes() {
    let (mut server, client) = real();
    let body = json!({ "tool": "echo" });
    let first = post(&client, "/v1/jobs", "k", &body);
    client.finished(&job_id(&first.expect(202)));
    server.restart();
    assert_eq!(post(&client, "/v1/jobs", "k", &body).text, first.text);
    server.kill();
    server.start_again(|setup| setup);
    assert_eq!(post(&client, "/v1/jobs", "k", &body).text, first.text);
    assert_eq!(client.all_pages("/v1/jobs").len(), 1);
}

#[test]
fn a_key_belongs_to_its_tenant() {
    let (server, one) = real();
    let other = server.client();
    let body = json!({ "tool": "echo" });
    let first = job_id(&post(&one, "/v1/jobs", "k", &body).expect(202));
    let second = job_id(&post(&other, "/v1/jobs", "k", &body).expect(202));
    assert_ne!(first, second);
    one.finished(&first);
    other.finished(&second);
}

#[test]
fn a_key_is_remembered_for_a_day() {
    let server: Server = Setup::testbed().start();
    let client = server.client();
    let body = json!({ "tool": "echo" });
    let id = job_id(&post(&client, "/v1/jobs", "k", &body).expect(202));
    client.finished(&id);
    server.set_clock(24 * 3600 - 60);
    assert_eq!(job_id(&post(&client, "/v1/jobs", "k", &body).expect(202)), id);
    server.set_clock(24 * 3600 + 60);
    let later = job_id(&post(&client, "/v1/jobs", "k", &body).expect(202));
    assert_ne!(later, id);
    client.finished(&later);
}

#[test]
fn doing_again_twice_is_done_once() {
    let (_server, client) = real();
    let first = job_id(&client.run(&json!({ "tool": "echo" })));
    let path = format!("/v1/jobs/{first}/retry");
    let one = job_id(&post(&client, &path, "k", &json!({})).expect(202));
    let again = post(&client, &path, "k", &json!({}));
    assert!(is_replay(&again));
    assert_eq!(job_id(&again.expect(202)), one);
    client.finished(&one);
    let other = format!("/v1/jobs/{one}/retry");
    post(&client, &other, "k", &json!({})).problem(422, "idempotency_key_reused");
}

#[test]
fn keys_have_a_form() {
    let (_server, client) = real();
    for key in ["", &"x".repeat(256), "ümlaut"] {
        let answer = post(&client, "/v1/jobs", key, &json!({ "tool": "echo" }));
        answer.problem(400, "invalid_idempotency_key");
    }
    let longest = "x".repeat(255);
    let id = job_id(&post(&client, "/v1/jobs", &longest, &json!({ "tool": "echo" })).expect(202));
    client.finished(&id);
}

#[test]
fn a_repeated_creation_of_a_tenant_makes_one() {
    let server = Server::real();
    let admin = server.admin();
    let first = post(&admin, "/admin/tenants", "k", &json!({ "name": "one" }));
    let second = post(&admin, "/admin/tenants", "k", &json!({ "name": "one" }));
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!(first.json(), second.json());
    assert!(is_replay(&second));
    assert_eq!(admin.all_pages("/admin/tenants").len(), 1);
    post(&admin, "/admin/tenants", "k", &json!({ "name": "two" })).problem(422, "idempotency_key_reused");
}

#[test]
fn a_repeated_creation_of_a_key_does_not_show_the_secret_again() {
    let server = Server::real();
    let admin = server.admin();
    let path = format!("/admin/tenants/{}/keys", server.tenant("one"));
    let first = post(&admin, &path, "k", &json!({ "name": "a" }));
    let secret = first.expect(201)["api_key"].as_str().expect("shown once").to_owned();
    let second = post(&admin, &path, "k", &json!({ "name": "a" }));
    assert!(is_replay(&second));
    assert_eq!(second.expect(201)["key_id"], first.json()["key_id"]);
    assert_eq!(second.json()["api_key"], Value::Null);
    assert!(!second.text.contains(&secret[22..]));
    assert_eq!(admin.all_pages(&path).len(), 1);
    server.anyone().with("X-API-Key", &secret).get("/v1/jobs").expect(200);
}
