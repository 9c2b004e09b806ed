//! Answers that are given once more to clients who ask for that.

use serde_json::{Value, json};

use super::{Bench, hello, question, streamed};
use crate::support::upstream::{Gate, Script};
use crate::support::{Answer, Client, Setup};

/// Asks, content with an answer of the last minute.
fn content(client: &Client, body: &Value) -> Answer {
    client.post_with("/v1/chat/completions", &[("Cache-Control", "max-age=60")], body)
}

/// Whether it was given before; it says how long ago.
fn is_old(answer: &Answer) -> bool {
    answer.header("age").is_some_and(|age| age.parse::<u64>().is_ok())
}

#[test]
fn the_same_question_is_paid_for_once() {
    let bench = Bench::start();
    bench.upstream.next("m", [hello(), Script::reply("Something else.").used(10, 10)]);
    let first = content(&bench.client, &question());
    assert_eq!((first.header("age"), first.header("x-cost-usd")), (None, Some("0.0011")));
    let again = content(&bench.client, &question());
    assert_eq!(again.expect(200), first.expect(200));
    assert!(is_old(&again));
    assert_eq!(again.header("x-cost-usd"), Some("0"));
    assert_eq!((again.header("x-model-used"), again.header("x-fallbacks")), (Some("m"), Some("0")));
    assert_eq!(bench.upstream.counts().requests, 1);
    assert_eq!(bench.upstream.billed().to_string(), "0.0011");
    let metrics = bench.server.admin().get("/metrics");
    assert!(metrics.text.contains("\nagentd_model_cached_answers_total 1\n"));
    // Who does not ask for it gets a new one.
    let new = bench.client.post("/v1/chat/completions", &question());
    assert_eq!(new.expect(200)["choices"][0]["message"]["content"], "Something else.");
    assert_eq!(new.header("age"), None);
}

#[test]
fn an_answer_is_for_the_same_tenant_and_the_same_bytes() {
    let bench = Bench::start();
    bench.upstream.usually(hello());
    let asked = || bench.upstream.counts().requests;
    content(&bench.client, &question()).expect(200);
    let other = bench.server.anyone().with_key(&bench.server.key(&bench.server.tenant("another")));
    assert_eq!(content(&other, &question()).header("age"), None);
    let mut warmer = question();
    warmer["temperature"] = json!(0.5);
    assert_eq!(content(&bench.client, &warmer).header("age"), None);
    assert_eq!(asked(), 3);
    for _ in 0..2 {
        assert_eq!(content(&bench.client, &streamed()).status, 200);
    }
    assert_eq!(asked(), 5, "streams are asked for anew");
    for control in ["no-cache", "no-store", "max-age=0", "max-age=60, no-cache", "max-age=soon", "private"] {
        let before = asked();
        let answer = bench.client.post_with("/v1/chat/completions", &[("Cache-Control", control)], &question());
        answer.expect(200);
        assert_eq!((answer.header("age"), asked()), (None, before + 1), "{control}");
    }
    for _ in 0..2 {
        let body = json!({ "model": "m", "input": "Hello." });
        bench.client.post_with("/v1/embeddings", &[("Cache-Control", "max-age=60")], &body).expect(200);
    }
    assert_eq!(asked(), 12);
}

#[test]
fn an_answer_grows_old_and_is_forgotten_with_its_provider() {
    let bench = Bench::start_with(Setup::testbed());
    bench.upstream.usually(hello());
    content(&bench.client, &question()).expect(200);
    // The clock is read from a file from time to time.
    let age = |what: &str, wanted: fn(Option<u64>) -> bool| {
        let age = || content(&bench.client, &question()).header("age").map(|age| age.parse().expect("seconds"));
        crate::support::eventually(what, || wanted(age()).then_some(()));
    };
    bench.server.set_clock(40);
    age("it is given although it is old", |age| age >= Some(40));
    bench.server.set_clock(100);
    age("it is too old", |age| age.is_none());
    age("the new one is given again", |age| age < Some(40));
    let asked = bench.upstream.counts().requests;
    let targets = json!({ "targets": [{ "provider": "openai", "model": "n" }] });
    bench.server.admin().put("/admin/models/routes/mine", &targets).expect(200);
    assert_eq!(content(&bench.client, &question()).header("age"), None);
    assert_eq!(bench.upstream.counts().requests, asked + 1);
}

#[test]
fn what_is_asked_while_a_provider_changes_is_not_kept() {
    let bench = Bench::start();
    let gate = Gate::new();
    bench.upstream.next("m", [hello().behind(&gate)]);
    bench.upstream.usually(hello());
    std::thread::scope(|scope| {
        let first = scope.spawn(|| content(&bench.client, &question()).expect(200));
        bench.upstream.wait_for_requests(1);
        let targets = json!({ "targets": [{ "provider": "openai", "model": "n" }] });
        bench.server.admin().put("/admin/models/routes/mine", &targets).expect(200);
        gate.open();
        first.join().expect("an answer");
    });
    assert_eq!(content(&bench.client, &question()).header("age"), None);
    assert!(is_old(&content(&bench.client, &question())));
}

#[test]
fn what_another_model_said_is_not_given_again() {
    let bench = Bench::start_with(Setup::real().env("AGENTD_MODELS_ATTEMPTS", "1"));
    bench.upstream.usually(hello());
    bench.upstream.next("m", [Script::status(500)]);
    for (model, fallbacks, old) in [("n", "1", false), ("m", "0", false), ("m", "0", true)] {
        let answer = content(&bench.client, &question());
        let told = (answer.header("x-model-used"), answer.header("x-fallbacks"), is_old(&answer));
        assert_eq!(told, (Some(model), Some(fallbacks), old));
    }
}

#[test]
fn what_a_budget_has_cut_short_is_not_given_again_and_an_empty_one_takes_nothing_away() {
    let bench = Bench::start();
    bench.upstream.usually(hello().used(20, 1000));
    bench.budget(&json!({ "day_usd": "0.00015", "on_exhausted": "clamp" }));
    content(&bench.client, &question()).expect(200);
    bench.budget(&json!({ "day_usd": "1", "on_exhausted": "clamp" }));
    assert_eq!(content(&bench.client, &question()).header("age"), None);
    bench.budget(&json!({ "day_usd": "0", "on_exhausted": "reject" }));
    let again = content(&bench.client, &question());
    again.expect(200);
    assert!(is_old(&again));
    assert_eq!(again.header("x-budget-remaining-usd"), Some("0"));
    bench.client.post("/v1/chat/completions", &question()).openai_error(402, "budget_exceeded", None);
}
