//! Providers that fail, each in its way.

use std::time::Duration;

use serde_json::json;

use super::{Bench, PROVIDER_KEY, hello, question};
use crate::support::upstream::{Fault, Script, Shown, Upstream};
use crate::support::{Server, Setup};

#[test]
fn the_next_model_is_asked_when_one_fails() {
    let bench = Bench::start_with(Setup::real().env("AGENTD_MODELS_TOTAL_TIME", "4s"));
    for (script, tries) in [
        (Script::status(500), 3),
        (Script::status(503), 3),
        (Script::html(502), 3),
        (Script::busy(60), 1),
        (Script::busy_until(60), 1),
        (Script::status(401), 1),
        (Script::status(402), 1),
        (Script::html(200), 1),
        (Script::invalid_json(), 1),
        (Script::fault(Fault::CutBefore), 1),
        (Script::fault(Fault::CutAfter(1)), 1),
        (Script::hang(), 1),
        (Script::fault(Fault::HangAfter(1)), 1),
    ] {
        let bench = &bench;
        let before = (bench.upstream.asked("m"), bench.upstream.asked("n"));
        bench.upstream.script("m", script.clone());
        bench.upstream.script("n", hello());
        let answer = bench.client.post("/v1/chat/completions", &question());
        answer.expect(200);
        assert_eq!((answer.header("x-model-used"), answer.header("x-fallbacks")), (Some("n"), Some("1")), "{script:?}");
        let after = (bench.upstream.asked("m"), bench.upstream.asked("n"));
        let asked = after.0 - before.0;
        // A breaker that has opened meanwhile leaves the first one alone.
        assert!(asked == tries || asked == 0, "{script:?}: {asked} tries");
        assert_eq!(after.1 - before.1, 1);
    }
}

#[test]
fn a_target_that_cannot_be_asked_hides_neither_a_failure_nor_the_next_one() {
    let bench = Bench::start_with(Setup::real().env("AGENTD_MODELS_ATTEMPTS", "1"));
    let admin = bench.server.admin();
    let route = |alias: &str, models: &[&str]| {
        let targets: Vec<_> = models.iter().map(|model| json!({ "provider": "openai", "model": model })).collect();
        admin.put(&format!("/admin/models/routes/{alias}"), &json!({ "targets": targets })).expect(200);
    };
    let ask = |alias: &str| {
        let mut body = question();
        body["model"] = json!(alias);
        bench.client.post("/v1/chat/completions", &body)
    };
    bench.upstream.script("m", Script::status(500));
    route("then-unpriced", &["m", "without-a-price"]);
    ask("then-unpriced").openai_error(502, "provider_failed", None);
    bench.upstream.script("n", hello());
    route("first-unpriced", &["without-a-price", "n"]);
    assert_eq!(ask("first-unpriced").header("x-model-used"), Some("n"));
    route("unpriced", &["without-a-price", "neither"]);
    ask("unpriced").openai_error(400, "unknown_price", None);
}

#[test]
fn who_would_pay_twice_is_told_not_to_ask_again() {
    let bench = Bench::start_with(Setup::real().env("AGENTD_MODELS_ATTEMPTS", "1"));
    for (script, told) in [(Script::html(200), Some("false")), (Script::status(500), None)] {
        bench.upstream.usually(script);
        let answer = bench.client.post("/v1/chat/completions", &question());
        answer.openai_error(502, "provider_failed", None);
        assert_eq!(answer.header("x-should-retry"), told);
    }
}

#[test]
fn time_that_was_spent_on_connecting_costs_nothing() {
    let bench = Bench::start_with(Setup::real().env("AGENTD_MODELS_ATTEMPTS", "1"));
    // A listener whose queue is full takes no more connections.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let mut waiting = Vec::new();
    while let Ok(one) = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
        waiting.push(one);
    }
    let provider = json!({ "base_url": format!("http://{address}/v1"), "total_seconds": 1, "first_token_seconds": 1 });
    bench.server.admin().put("/admin/models/providers/full", &provider).expect(200);
    super::set_price(&bench.server, "full%2Fm", "1", "2");
    let mut body = question();
    body["model"] = json!("full/m");
    bench.client.post("/v1/chat/completions", &body).openai_error(502, "provider_unreachable", None);
    bench.settled();
    assert_eq!(bench.tenant_day("spent_usd"), "0");
}

#[test]
fn one_that_is_busy_is_asked_again_when_it_says() {
    let bench = Bench::start();
    bench.upstream.next("m", [Script::busy(0), Script::status(500), hello()]);
    let answer = bench.client.post("/v1/chat/completions", &question());
    answer.expect(200);
    assert_eq!((answer.header("x-model-used"), answer.header("x-fallbacks")), (Some("m"), Some("0")));
    assert_eq!(bench.upstream.asked("m"), 3);
    assert_eq!(answer.header("x-cost-usd"), Some("0.0011"), "what failed cost nothing");
}

#[test]
fn what_the_client_is_told_when_nobody_answers() {
    let setup = Setup::real().env("AGENTD_MODELS_TOTAL_TIME", "1s").env("AGENTD_MODELS_FIRST_TOKEN_TIME", "1s");
    for (script, status, code) in [
        (Script::status(500), 502, "provider_failed"),
        (Script::html(502), 502, "provider_failed"),
        (Script::html(200), 502, "provider_failed"),
        (Script::invalid_json(), 502, "provider_failed"),
        (Script::fault(Fault::CutBefore), 502, "provider_failed"),
        (Script::busy(77), 429, "provider_rate_limited"),
        (Script::hang(), 504, "provider_timeout"),
        (Script::status(403), 502, "provider_key_refused"),
    ] {
        let bench = Bench::start_with(setup.clone());
        bench.upstream.usually(script.clone());
        let answer = bench.client.post("/v1/chat/completions", &question());
        answer.openai_error(status, code, None);
        if code == "provider_rate_limited" {
            assert_eq!(answer.header("retry-after"), Some("77"));
        }
    }
}

#[test]
fn a_wrong_key_is_said_and_not_shown() {
    let bench = Bench::start();
    bench.upstream.expect_keys(&["another"]);
    let answer = bench.client.post("/v1/chat/completions", &question());
    answer.openai_error(502, "provider_key_refused", None);
    let log = bench.server.log().join("\n");
    for place in [&answer.text, &log] {
        assert!(!place.contains(PROVIDER_KEY), "{place}");
    }
    assert!(log.contains("key_refused"));
}

#[test]
fn the_clients_own_faults_are_passed_back_as_they_are() {
    let bench = Bench::start();
    bench.upstream.script("m", Script::status(400).header("X-Odd", "1"));
    let answer = bench.client.post("/v1/chat/completions", &question());
    assert_eq!(answer.expect(400)["error"]["message"], "The request is not good.");
    assert_eq!((answer.header("x-cost-usd"), answer.header("x-odd")), (Some("0"), None));
    assert_eq!(bench.upstream.asked("n"), 0);
}

#[test]
fn a_certificate_that_has_expired_is_not_trusted() {
    for (shown, good) in [(Shown::Good, true), (Shown::Expired, false)] {
        let upstream = Upstream::start_tls(shown);
        let folder = tempfile::TempDir::new().expect("a folder");
        let authority = folder.path().join("ca.pem");
        std::fs::write(&authority, upstream.authority()).expect("written");
        let setup = Setup::real().env("AGENTD_OUTBOUND_EXTRA_CA", &authority.to_string_lossy());
        let bench = Bench::over(upstream, setup);
        bench.upstream.usually(hello());
        let answer = bench.client.post("/v1/chat/completions", &question());
        if good {
            answer.expect(200);
        } else {
            answer.openai_error(502, "provider_unreachable", None);
            assert!(answer.text.contains("certificate"), "{}", answer.text);
        }
    }
}

#[test]
fn one_that_mostly_fails_is_left_alone_for_a_while() {
    let setup = Setup::testbed().env("AGENTD_MODELS_ATTEMPTS", "1");
    let bench = Bench::start_with(setup);
    bench.upstream.script("m", Script::status(500));
    bench.upstream.script("n", hello());
    let ask = || {
        let answer = bench.client.post("/v1/chat/completions", &question());
        answer.expect(200);
        answer.header("x-model-used").map(str::to_owned)
    };
    for _ in 0..12 {
        assert_eq!(ask().as_deref(), Some("n"));
    }
    assert_eq!(bench.upstream.asked("m"), 10, "ten failures are enough");
    let setup = bench.server.admin().get("/admin/models").expect(200);
    assert_eq!(setup["providers"][0]["breakers"]["m"], "open");
    let ready = bench.server.anyone().get("/ready").expect(200);
    assert_eq!(ready["degraded"][0]["part"], "models");
    let metrics = bench.server.admin().get("/metrics").text;
    assert!(metrics.contains("agentd_model_breakers_open{provider=\"openai\"} 1"), "{metrics}");
    bench.upstream.script("m", hello());
    bench.server.set_clock(31);
    // The clock is read from a file from time to time, so it may take a call or two.
    crate::support::eventually("it is tried again", || (ask().as_deref() == Some("m")).then_some(()));
    assert_eq!(ask().as_deref(), Some("m"));
    assert_eq!(bench.server.anyone().get("/ready").expect(200)["degraded"], json!([]));
}

#[test]
fn one_that_is_not_there_is_said_to_be_unreachable() {
    let server: Server = Setup::real()
        .env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
        .env("OPENAI_DEFAULT_MODEL", "gpt-4o-mini")
        .start();
    let answer = server.client().post("/v1/chat/completions", &question());
    answer.openai_error(502, "provider_unreachable", None);
}

#[test]
fn a_place_at_the_provider_is_waited_for() {
    let bench = Bench::start_with(Setup::real().env("AGENTD_MODELS_CONCURRENCY", "1"));
    bench.upstream.usually(hello().latency(Duration::from_millis(50)));
    std::thread::scope(|scope| {
        let ask = || bench.client.post("/v1/chat/completions", &question()).status;
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        assert!(asked.into_iter().all(|asked| asked.join().expect("an answer") == 200));
    });
    assert_eq!(bench.upstream.counts().most_active, 1);
}

fn says(status: u16, body: &serde_json::Value) -> Script {
    Script::status(status).body("application/json", &body.to_string()).billed(false)
}

/// Only somebody who pays can mend it.
#[test]
fn an_account_without_credit_is_not_asked_again() {
    let bench = Bench::start();
    bench.upstream.script("n", hello());
    let quota = json!({ "error": { "message": "You exceeded your current quota.", "type": "insufficient_quota",
        "param": null, "code": "insufficient_quota" } });
    for (status, body) in [
        (429, quota.clone()),
        (403, quota.clone()),
        (429, json!({ "error": { "type": "exceeded_current_quota_error", "message": "no" } })),
        (400, json!({ "error": { "type": "invalid_request_error", "message": "Your credit balance is too low." } })),
        (402, json!({ "error": { "message": "Insufficient Balance" } })),
    ] {
        let asked = bench.upstream.asked("m");
        bench.upstream.script("m", says(status, &body));
        let answer = bench.client.post("/v1/chat/completions", &question());
        answer.expect(200);
        assert_eq!((answer.header("x-model-used"), answer.header("x-fallbacks")), (Some("n"), Some("1")), "{body}");
        assert_eq!(bench.upstream.asked("m"), asked + 1, "{body}");
    }
    bench.upstream.usually(says(429, &quota));
    bench.upstream.script("n", says(429, &quota));
    let answer = bench.client.post("/v1/chat/completions", &question());
    let error = answer.openai_error(502, "provider_key_refused", None);
    assert!(error["error"]["message"].as_str().is_some_and(|text| text.contains("top up")), "{error}");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    let log = bench.server.log().join("\n");
    assert!(log.contains("no credit"), "the operator is told");
}

#[test]
fn an_overloaded_provider_is_passed_on_with_when_to_come_back() {
    let bench = Bench::start_with(Setup::real().env("AGENTD_MODELS_ATTEMPTS", "1"));
    for (script, status, code, after, exactly) in [
        (Script::status(503), 503, "provider_unavailable", Some("5"), None),
        (Script::status(503).header("Retry-After", "70"), 503, "provider_unavailable", Some("70"), None),
        (Script::status(529).header("Retry-After", "1.5"), 529, "provider_unavailable", Some("2"), Some("1500")),
        (Script::status(429).header("retry-after-ms", "250"), 429, "provider_rate_limited", Some("1"), Some("250")),
        (Script::status(429).header("Retry-After", "61.0"), 429, "provider_rate_limited", Some("61"), None),
        (Script::status(500).header("Retry-After", "7"), 502, "provider_failed", Some("7"), None),
        (Script::status(500), 502, "provider_failed", None, None),
    ] {
        bench.upstream.usually(script.clone());
        let answer = bench.client.post("/v1/chat/completions", &question());
        answer.openai_error(status, code, None);
        let told = (answer.header("retry-after"), answer.header("retry-after-ms"));
        assert_eq!(told, (after, exactly), "{script:?}");
    }
}

#[test]
fn a_pause_with_a_fraction_is_waited_for() {
    let bench = Bench::start();
    let began = std::time::Instant::now();
    bench.upstream.next("m", [Script::status(429).header("Retry-After", "0.7"), hello()]);
    bench.client.post("/v1/chat/completions", &question()).expect(200);
    assert!(began.elapsed() >= Duration::from_millis(700));
    // Who says that it is of no use is not asked again.
    let asked = bench.upstream.asked("m");
    bench.upstream.next("m", [Script::status(500).header("X-Should-Retry", "false")]);
    bench.upstream.script("n", hello());
    let answer = bench.client.post("/v1/chat/completions", &question());
    assert_eq!((answer.header("x-model-used"), bench.upstream.asked("m") - asked), (Some("n"), 1));
}

#[test]
fn what_the_request_says_is_not_blamed_on_the_key() {
    let bench = Bench::start();
    let flagged = json!({ "error": { "code": 403, "message": "Your chosen model requires moderation and your input was \
        flagged for violence.", "metadata": { "reasons": ["violence"], "flagged_input": "x" } } });
    bench.upstream.usually(says(403, &flagged));
    let answer = bench.client.post("/v1/chat/completions", &question());
    assert_eq!(answer.expect(403), flagged);
    assert_eq!(bench.upstream.asked("n"), 0);
    bench.upstream.usually(says(403, &json!({ "error": { "message": "This key may not use this model." } })));
    bench.client.post("/v1/chat/completions", &question()).openai_error(502, "provider_key_refused", None);
}

/// The gateway asks for the usage of a stream, and limits the output in the field
/// that a model is sure to know; who refuses that is asked without, once and for all.
#[test]
fn what_the_gateway_adds_does_not_break_a_call() {
    let bench = Bench::start();
    let refuse = |text: &str| says(400, &json!({ "error": { "message": text, "type": "invalid_request_error" } }));
    let mut streamed = super::streamed();
    let newer = json!({ "model": "default", "messages": [], "max_completion_tokens": 100 });
    let conflict = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
    let instead =
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    for (body, complaint, model) in [
        (streamed.clone(), "Unknown parameter: stream_options", "m"),
        (newer, conflict, "n"),
        (question(), instead, "cheap"),
    ] {
        let mut body = body;
        body["model"] = json!(format!("openai/{model}"));
        bench.upstream.script(model, Script::tokens(1000, 20));
        bench.upstream.next(model, [refuse(complaint)]);
        bench.client.post("/v1/chat/completions", &body).expect_text(200);
        assert_eq!(bench.upstream.asked(model), 2, "{complaint}");
        let sent = bench.upstream.last_request().json();
        assert_eq!(sent.get("stream_options"), None, "{complaint}");
        if model != "m" {
            assert_eq!((sent.get("max_tokens"), &sent["max_completion_tokens"]), (None, &json!(100)), "{complaint}");
        }
        // From now on it is known.
        bench.client.post("/v1/chat/completions", &body).expect_text(200);
        assert_eq!(bench.upstream.asked(model), 3, "{complaint}");
        assert_eq!(bench.upstream.last_request().json(), sent);
    }
    // What the client itself has written is its own.
    streamed["stream_options"] = json!({ "include_usage": true });
    streamed["model"] = json!("openai/n");
    bench.upstream.next("n", [refuse("Unknown parameter: stream_options")]);
    bench.client.post("/v1/chat/completions", &streamed).expect(400);
    bench.settled();
}
