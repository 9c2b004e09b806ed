//! What calls cost, and what happens when there is no money.

use serde_json::{Value, json};

use super::{Bench, hello, question, set_price, streamed};
use crate::support::Setup;
use crate::support::raw::Raw;
use crate::support::upstream::{Gate, Price, Script};

impl Bench {
    #[track_caller]
    pub fn budget(&self, body: &Value) {
        self.server.admin().put(&format!("/admin/tenants/{}/budget", self.tenant), body).expect(200);
    }
}

#[test]
fn what_a_budget_cannot_pay_is_refused_and_nobody_is_asked() {
    let bench = Bench::start();
    bench.budget(&json!({ "day_usd": "0.0001" }));
    let answer = bench.client.post("/v1/chat/completions", &question());
    let error = answer.openai_error(402, "budget_exceeded", None);
    assert_eq!(error["error"]["type"], "insufficient_quota");
    let message = error["error"]["message"].as_str().expect("a message");
    for part in ["tenant_day", "0.0001"] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    assert_eq!(bench.upstream.counts().requests, 0);
    // What costs nothing passes.
    set_price(&bench.server, "m", "0", "0");
    bench.upstream.price("m", Price::tokens("0", "0"));
    bench.client.post("/v1/chat/completions", &question()).expect(200);
}

/// Clients of OpenAI's interface send what was refused with 429 again by themselves.
#[test]
fn a_refusal_tells_clients_not_to_send_the_call_again() {
    for status in ["402", "429"] {
        let bench = Bench::start_with(Setup::real().env("AGENTD_BUDGET_EXHAUSTED_STATUS", status));
        bench.budget(&json!({ "day_usd": "0.0001" }));
        let code = status.parse().expect("a status");
        let responses = json!({ "model": "default", "input": "Say hello.", "max_output_tokens": 100 });
        let embedding = json!({ "model": "openai/m", "input": "x ".repeat(20_000) });
        for (path, body) in [
            ("/v1/chat/completions", question()),
            ("/v1/chat/completions", streamed()),
            ("/v1/responses", responses),
            ("/v1/embeddings", embedding),
        ] {
            let answer =
                bench.client.exchange("POST", path, &[], Some(body.to_string().as_bytes())).expect("an answer");
            answer.openai_error(code, "budget_exceeded", None);
            assert_eq!(answer.header("x-should-retry"), Some("false"), "{status} {path}");
        }
        assert_eq!(bench.upstream.counts().requests, 0);
    }
}

#[test]
fn the_output_is_clamped_to_what_can_be_paid() {
    let bench = Bench::start();
    bench.upstream.script("m", hello().used(20, 1000));
    // 100 tokens of output are 0.0002; a little of that is left after the input.
    bench.budget(&json!({ "day_usd": "0.00015", "on_exhausted": "clamp" }));
    let answer = bench.client.post("/v1/chat/completions", &question());
    answer.expect(200);
    let limit = bench.upstream.last_request().json()["max_tokens"].as_u64().expect("a limit");
    assert!((16..75).contains(&limit), "{limit}");
    bench.settled();
    assert_eq!(bench.tenant_day("spent_usd"), bench.upstream.billed().to_string());
    // What is left now is next to nothing.
    bench.client.post("/v1/chat/completions", &question()).openai_error(402, "budget_exceeded", None);
}

#[test]
fn a_model_that_may_not_know_the_newer_limit_is_told_the_older_one_too() {
    let bench = Bench::start();
    bench.upstream.usually(hello());
    let mut body = question();
    body.as_object_mut().expect("an object").remove("max_tokens");
    body["max_completion_tokens"] = json!(40);
    bench.client.post("/v1/chat/completions", &body).expect(200);
    let told = |body: Value| (body["max_completion_tokens"].clone(), body["max_tokens"].clone());
    assert_eq!(told(bench.upstream.last_request().json()), (json!(40), json!(40)));
    // One of OpenAI's own knows it, and would refuse both.
    set_price(&bench.server, "gpt-4o-mini", "1", "2");
    bench.upstream.price("gpt-4o-mini", Price::tokens("1", "2"));
    body["model"] = json!("gpt-4o-mini");
    bench.client.post("/v1/chat/completions", &body).expect(200);
    assert_eq!(told(bench.upstream.last_request().json()), (json!(40), Value::Null));
}

#[test]
fn the_low_cost_model_is_asked_when_money_is_short() {
    let bench = Bench::start();
    bench.upstream.usually(hello().used(20, 10));
    bench.budget(&json!({ "day_usd": "0.0001", "on_exhausted": "downgrade" }));
    let answer = bench.client.post("/v1/chat/completions", &question());
    answer.expect(200);
    assert_eq!(answer.header("x-model-used"), Some("cheap"));
    bench.budget(&json!({ "day_usd": "0.000001", "on_exhausted": "downgrade" }));
    bench.client.post("/v1/chat/completions", &question()).openai_error(402, "budget_exceeded", None);
}

#[test]
fn a_session_has_a_budget_of_its_own() {
    let bench = Bench::start();
    bench.budget(&json!({ "session_usd": "0.0003" }));
    bench.upstream.usually(hello().used(20, 100));
    let ask = |session: &str| bench.client.with("X-Session-Id", session).post("/v1/chat/completions", &question());
    ask("first").expect(200);
    ask("first").openai_error(402, "budget_exceeded", None);
    ask("second").expect(200);
    bench.client.post("/v1/chat/completions", &question()).expect(200);
    ask(&"x".repeat(129)).openai_error(400, "invalid_request", None);
}

#[test]
fn the_price_at_the_beginning_counts() {
    let bench = Bench::start();
    let gate = Gate::new();
    bench.upstream.script("m", hello().behind(&gate));
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| bench.client.post("/v1/chat/completions", &question()));
        bench.upstream.wait_for_requests(1);
        set_price(&bench.server, "m", "1000", "2000");
        gate.open();
        let answer = asked.join().expect("an answer");
        assert_eq!(answer.header("x-cost-usd"), Some("0.0011"));
    });
    bench.settled();
    assert_eq!(bench.tenant_day("spent_usd"), "0.0011");
}

#[test]
fn what_was_spent_is_told_by_model_also_as_csv() {
    let bench = Bench::start();
    bench.upstream.script("m", hello());
    bench.upstream.script("n", Script::tokens(100, 10).cached(50));
    for model in ["m", "n", "n"] {
        let mut body = question();
        body["model"] = json!(model);
        bench.client.post("/v1/chat/completions", &body).expect(200);
    }
    bench.settled();
    let told = bench.client.get("/v1/usage/spend?by=model").expect(200);
    let rows: Vec<_> = told["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (row["model"].clone(), row["calls"].clone(), row["cost_usd"].clone()))
        .collect();
    assert_eq!(rows, [(json!("m"), json!(1), json!("0.0011")), (json!("n"), json!(2), json!("0.0024"))]);
    let csv = bench.client.get("/v1/usage/spend?by=model&format=csv");
    assert!(csv.expect_text(200).lines().next().is_some_and(|head| head.contains("model")), "{}", csv.text);
    assert_eq!(csv.text.lines().count(), 3);
}

/// What a provider writes into its cache has a price of its own, and nothing else has that price.
#[test]
fn the_cache_is_paid_for_as_the_provider_counts_it() {
    let bench = Bench::start();
    let price = json!({ "input_usd_per_million": "1", "cached_input_usd_per_million": "0.1",
        "cache_write_usd_per_million": "1.25", "output_usd_per_million": "2" });
    bench.server.admin().put("/admin/models/prices/m", &price).expect(200);
    for (usage, cost) in [
        (json!({ "prompt_tokens": 1000, "completion_tokens": 20 }), "0.00104"),
        (json!({ "prompt_tokens": 1000.0, "completion_tokens": 2e1, "total_tokens": 1020.0 }), "0.00104"),
        (
            json!({ "prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020,
            "prompt_tokens_details": { "cached_tokens": 400, "cache_write_tokens": 500 } }),
            "0.000805",
        ),
        (
            json!({ "input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 400,
            "cache_creation_input_tokens": 500 }),
            "0.000805",
        ),
        (
            json!({ "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 1020,
            "prompt_tokens_details": { "cached_tokens": 400, "cache_write_tokens": 500 } }),
            "0.000805",
        ),
    ] {
        let choice = json!({ "index": 0, "message": { "content": "x" }, "finish_reason": "stop" });
        let answer = json!({ "choices": [choice], "usage": usage }).to_string().replace("\"x\"", "\"x\u{fffd}\"");
        bench.upstream.script("m", Script::default().body("application/json", &answer));
        let answered = bench.client.post("/v1/chat/completions", &question());
        assert_eq!((answered.status, answered.header("x-cost-usd")), (200, Some(cost)), "{usage}");
        // Also where a byte of the text is not UTF-8; the client gets it as it is.
        bench.upstream.script("m", Script::default().bytes("application/json", broken(&answer)));
        let body = question().to_string();
        let mut raw = Raw::connect(&bench.server.address());
        raw.send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-API-Key: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            bench.client.key_header(),
            body.len()
        ));
        let head = raw.read_to_end();
        assert!(head.contains(&format!("x-cost-usd: {cost}\r\n")), "{usage}: {head}");
    }
}

/// The same with a byte that no text has.
fn broken(text: &str) -> Vec<u8> {
    let place = text.find('\u{fffd}').expect("a place");
    [&text.as_bytes()[..place], b"\xff", &text.as_bytes()[place + 3..]].concat()
}
