//! Responses that are made in the background.

use serde_json::{Value, json};

use super::{Bench, id, own_question, question, text, with};
use crate::support::eventually;
use crate::support::upstream::{Fault, Gate, Script};

fn background(body: Value) -> Value {
    with(body, json!({ "background": true }))
}

/// The response once it has ended.
#[track_caller]
fn ended(bench: &Bench, id: &str) -> Value {
    eventually("the response ends", || {
        let response = bench.get(id);
        let open = ["queued", "in_progress"].contains(&response["status"].as_str().expect("a status"));
        (!open).then_some(response)
    })
}

#[test]
fn a_background_response_is_polled_until_it_is_there() {
    let bench = Bench::start();
    for (body, number) in [(question(), 1), (own_question(), 2)] {
        let gate = Gate::new();
        bench.upstream.usually(Script::reply("Hello there.").used(10, 5).waits_after(1, &gate));
        let begun = bench.create(&background(body));
        assert_eq!((begun["status"].as_str(), begun["background"].as_bool()), (Some("queued"), Some(true)));
        bench.upstream.wait_for_requests(number);
        eventually("it is in progress", || (bench.get(&id(&begun))["status"] == "in_progress").then_some(()));
        gate.open();
        let response = ended(&bench, &id(&begun));
        assert_eq!((response["status"].as_str(), text(&response).as_str()), (Some("completed"), "Hello there."));
        assert_eq!((&response["id"], &response["created_at"]), (&begun["id"], &begun["created_at"]));
        assert_eq!(response["usage"]["output_tokens"], 5);
        // It can be gone on from like any other.
        bench.upstream.usually(Script::reply("Again."));
        bench.create(&with(question(), json!({ "previous_response_id": begun["id"] })));
    }
}

#[test]
fn its_events_can_be_followed_from_anywhere_also_after_a_restart() {
    let mut bench = Bench::start();
    for body in [question(), own_question()] {
        let gate = Gate::new();
        bench.upstream.usually(Script::tokens(10, 20).chunks(20).waits_after(10, &gate));
        let mut live = bench.open("POST", "/v1/responses", &with(background(body), json!({ "stream": true })));
        let first = live.next().expect("a beginning");
        let id = id(&first["response"]);
        assert_eq!((first["type"].as_str(), first["sequence_number"].as_i64()), (Some("response.created"), Some(0)));
        let mut seen = vec![first];
        // Who follows may go away and come back: the response is made all the same.
        seen.extend(live.by_ref().take(7));
        drop(live);
        let last = seen.last().and_then(|event| event["sequence_number"].as_i64()).expect("a number");
        let mut again = bench.follow(&id, Some(last));
        seen.push(again.next().expect("more"));
        gate.open();
        seen.extend(again);
        assert_eq!(seen.last().map(|event| event["type"].clone()), Some(json!("response.completed")));
        let whole: Vec<_> = bench.follow(&id, None).collect();
        assert_eq!(whole, seen, "what was followed is what is kept");
        bench.server.restart();
        for after in [-1, 0, 5, last] {
            let after = (after >= 0).then_some(after);
            let rest: Vec<_> = bench.follow(&id, after).collect();
            assert_eq!(rest, seen[usize::try_from(after.map_or(0, |after| after + 1)).expect("small")..]);
        }
        let kept = bench.get(&id);
        assert_eq!(seen.last().map(|event| &event["response"]), Some(&kept));
        assert_eq!(bench.follow(&id, Some(i64::MAX)).count(), 0, "nothing comes after the end");
    }
}

#[test]
fn a_running_one_is_cancelled_and_so_is_its_call() {
    let bench = Bench::start();
    let gate = Gate::new();
    bench.upstream.usually(Script::tokens(10, 20).chunks(20).waits_after(5, &gate));
    let begun = bench.create(&background(question()));
    let mut live = bench.follow(&id(&begun), None);
    while live.next().expect("more")["type"] != "response.output_text.delta" {}
    let path = format!("/v1/responses/{}/cancel", id(&begun));
    let cancelled = bench.client.post(&path, &json!({})).expect(200);
    assert_eq!(cancelled["status"], "cancelled");
    bench.upstream.wait_until_cancelled(1);
    let last = live.last().expect("an end");
    assert_eq!((last["type"].as_str(), &last["response"]), (Some("response.incomplete"), &cancelled));
    assert_eq!(bench.client.post(&path, &json!({})).expect(200), cancelled, "twice is fine");
    assert_eq!(bench.get(&id(&begun)), cancelled);
    let body = with(question(), json!({ "previous_response_id": begun["id"] }));
    bench.client.post("/v1/responses", &body).openai_error(400, "invalid_request", Some("previous_response_id"));
}

#[test]
fn a_waiting_one_is_cancelled_before_it_costs_anything() {
    let bench = Bench::start();
    let tenant = bench.server.tenant("slow");
    let client = bench.server.anyone().with_key(&bench.server.key(&tenant));
    let quota = json!({ "concurrent_jobs": 1 });
    bench.server.admin().put(&format!("/admin/tenants/{tenant}/quota"), &quota).expect(200);
    let gate = Gate::new();
    bench.upstream.usually(Script::reply("Hello there.").behind(&gate));
    let create = || client.post("/v1/responses", &background(question())).expect(200);
    let (first, second) = (create(), create());
    bench.upstream.wait_for_requests(1);
    let cancelled = client.post(&format!("/v1/responses/{}/cancel", id(&second)), &json!({})).expect(200);
    assert_eq!(cancelled["status"], "cancelled");
    gate.open();
    eventually("the first one ends", || {
        let response = client.get(&format!("/v1/responses/{}", id(&first))).expect(200);
        (response["status"] == "completed").then_some(())
    });
    assert_eq!(bench.upstream.requests().len(), 1);
}

#[test]
fn only_a_background_one_can_be_cancelled() {
    let bench = Bench::start();
    let response = bench.create(&question());
    let path = format!("/v1/responses/{}/cancel", id(&response));
    bench.client.post(&path, &json!({})).openai_error(400, "not_background", None);
}

#[test]
fn one_that_is_deleted_is_made_no_further() {
    let bench = Bench::start();
    let gate = Gate::new();
    bench.upstream.usually(Script::tokens(10, 20).chunks(20).waits_after(5, &gate));
    let begun = bench.create(&background(question()));
    let mut live = bench.follow(&id(&begun), None);
    while live.next().expect("more")["type"] != "response.output_text.delta" {}
    bench.client.delete(&format!("/v1/responses/{}", id(&begun))).expect(200);
    bench.upstream.wait_until_cancelled(1);
    assert!(live.all(|event| event["type"] == "response.output_text.delta"), "the stream ends");
}

#[test]
fn after_a_crash_the_provider_is_not_asked_again() {
    let mut bench = Bench::start();
    let gate = Gate::new();
    bench.upstream.usually(Script::tokens(10, 20).chunks(20).waits_after(5, &gate));
    let begun = bench.create(&background(question()));
    let mut live = bench.follow(&id(&begun), None);
    let mut seen = Vec::new();
    while seen.last().is_none_or(|event: &Value| event["type"] != "response.output_text.delta") {
        seen.push(live.next().expect("more"));
    }
    bench.server.kill();
    drop(live);
    bench.server.start_again(|setup| setup);
    let response = ended(&bench, &id(&begun));
    assert_eq!(response["status"], "failed");
    let message = response["error"]["message"].as_str().expect("a message");
    assert!(message.contains("not asked again"), "{message}");
    let after = seen.last().and_then(|event| event["sequence_number"].as_i64());
    let rest: Vec<_> = bench.follow(&id(&begun), after).collect();
    assert_eq!(rest.last().map(|event| event["type"].clone()), Some(json!("response.failed")));
    assert_eq!(bench.upstream.requests().len(), 1, "it may have been paid for");
}

#[test]
fn a_service_that_stops_says_so_in_what_it_cuts_off() {
    let setup = crate::support::Setup::real().env("AGENT_SERVER_DRAIN_TIME", "100ms");
    let mut bench = Bench::start_with(setup);
    let gate = Gate::new();
    bench.upstream.usually(Script::tokens(10, 20).chunks(20).waits_after(5, &gate));
    let begun = bench.create(&background(question()));
    let mut live = bench.follow(&id(&begun), None);
    while live.next().expect("more")["type"] != "response.output_text.delta" {}
    bench.server.stop();
    bench.server.start_again(|setup| setup);
    let response = ended(&bench, &id(&begun));
    assert_eq!((response["status"].as_str(), bench.upstream.requests().len()), (Some("failed"), 1));
    let message = response["error"]["message"].as_str().expect("a message");
    assert!(message.contains("stopped"), "{message}");
}

#[test]
fn one_that_waited_through_a_crash_is_made() {
    let mut bench = Bench::start();
    let tenant = bench.server.tenant("held");
    let client = bench.server.anyone().with_key(&bench.server.key(&tenant));
    let quota = json!({ "concurrent_jobs": 1 });
    bench.server.admin().put(&format!("/admin/tenants/{tenant}/quota"), &quota).expect(200);
    let gate = Gate::new();
    bench.upstream.usually(Script::reply("Hello there.").behind(&gate));
    let create = || client.post("/v1/responses", &background(question())).expect(200);
    let (first, second) = (create(), create());
    bench.upstream.wait_for_requests(1);
    bench.server.kill();
    gate.open();
    bench.server.start_again(|setup| setup);
    let ended = |response: &Value, status: &str| {
        eventually("it ends", || {
            let response = client.get(&format!("/v1/responses/{}", id(response))).expect(200);
            (response["status"] == status).then_some(())
        });
    };
    ended(&first, "failed");
    ended(&second, "completed");
}

#[test]
fn what_goes_wrong_is_told_by_the_response() {
    let bench = Bench::start();
    for (script, code) in [
        (Script::status(400), "invalid_prompt"),
        (Script::status(401), "provider_key_refused"),
        (Script::fault(Fault::CutBefore), "provider_failed"),
    ] {
        bench.upstream.usually(script);
        let response = ended(&bench, &id(&bench.create(&background(question()))));
        assert_eq!((response["status"].as_str(), response["error"]["code"].as_str()), (Some("failed"), Some(code)));
    }
    // What can be known before is refused at once.
    let body = with(background(question()), json!({ "tools": [{ "type": "web_search" }] }));
    bench.client.post("/v1/responses", &body).openai_error(400, "invalid_request", Some("tools[0].type"));
}

#[test]
fn a_job_that_is_cancelled_takes_its_response_along() {
    let bench = Bench::start();
    let gate = Gate::new();
    bench.upstream.usually(Script::tokens(10, 20).chunks(20).waits_after(5, &gate));
    let begun = bench.create(&background(question()));
    bench.upstream.wait_for_requests(1);
    let jobs = bench.client.get("/v1/jobs?tool=response.create").expect(200);
    let job = &jobs["data"][0];
    assert_eq!(job["input"]["response_id"], begun["id"]);
    bench.client.post(&format!("/v1/jobs/{}/cancel", job["job_id"].as_str().expect("an id")), &json!({})).expect(202);
    bench.upstream.wait_until_cancelled(1);
    assert_eq!(ended(&bench, &id(&begun))["status"], "cancelled");
}

#[test]
fn one_waits_for_money_where_the_tenant_wants_that() {
    let bench = Bench::start();
    let budget = |body: Value| {
        bench.server.admin().put(&format!("/admin/tenants/{}/budget", bench.tenant), &body).expect(200);
    };
    budget(json!({ "day_usd": "0.000001", "on_exhausted": "pause" }));
    let begun = bench.create(&background(question()));
    let mut live = bench.follow(&id(&begun), None);
    let mut seen: Vec<_> = live.by_ref().take(3).collect();
    assert_eq!(seen[2]["type"], "response.in_progress");
    eventually("it waits", || (bench.get(&id(&begun))["status"] == "queued").then_some(()));
    assert_eq!(bench.upstream.counts().requests, 0);
    // Nobody waits for a call whose answer is awaited.
    bench.client.post("/v1/responses", &question()).openai_error(402, "budget_exceeded", None);
    budget(json!({ "day_usd": "1", "on_exhausted": "pause" }));
    let response = ended(&bench, &id(&begun));
    assert_eq!((response["status"].as_str(), text(&response).as_str()), (Some("completed"), "Hello there."));
    seen.extend(live);
    let began = seen.iter().filter(|event| event["type"] == "response.in_progress").count();
    assert_eq!(began, 1, "its events do not begin again");
    let numbers: Vec<_> = seen.iter().filter_map(|event| event["sequence_number"].as_u64()).collect();
    assert!(numbers.iter().copied().eq(0..seen.len() as u64), "{numbers:?}");
    // Where it is not to wait it fails.
    budget(json!({ "day_usd": "0.000001", "on_exhausted": "reject" }));
    let refused = ended(&bench, &id(&bench.create(&background(question()))));
    assert_eq!(
        (refused["status"].as_str(), refused["error"]["code"].as_str()),
        (Some("failed"), Some("budget_exceeded"))
    );
}
