//! A chat that is answered in pieces.

use serde_json::{Value, json};

use super::{Bench, streamed};
use crate::support::upstream::{Fault, Gate, Script, Usage};
use crate::support::{Setup, eventually};

fn words() -> Script {
    Script::tokens(1000, 20).chunks(20)
}

/// The data of every event, but for `[DONE]`.
pub fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

pub fn said(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

#[test]
fn a_stream_is_passed_on_and_its_usage_only_where_it_is_wanted() {
    let bench = Bench::start();
    for pieces in [None, Some(1), Some(7), Some(1000)] {
        let script = words();
        bench.upstream.script("m", pieces.map_or(script.clone(), |bytes| script.in_pieces(bytes)));
        let answer = bench.client.post("/v1/chat/completions", &streamed());
        let text = answer.expect_text(200);
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        let without = events(text);
        assert!(without.iter().all(|event| event["choices"].as_array().is_some_and(|choices| !choices.is_empty())));
        assert_eq!(said(&without).split_whitespace().count(), 20);
        let mut body = streamed();
        body["stream_options"] = json!({ "include_usage": true });
        let with = events(bench.client.post("/v1/chat/completions", &body).expect_text(200));
        assert_eq!(with.last().map(|event| event["usage"]["completion_tokens"].clone()), Some(json!(20)));
        assert_eq!(said(&with), said(&without));
    }
    bench.upstream.wait_until_idle();
    bench.settled();
}

#[test]
fn what_breaks_off_says_so_in_the_stream_and_is_paid_for() {
    let bench = Bench::start();
    for (fault, code) in [(Fault::CutAfter(5), Some("provider_failed")), (Fault::NoEnd, None)] {
        bench.upstream.script("m", words().with_fault(fault).usage(Usage::Missing));
        let answer = bench.client.post("/v1/chat/completions", &streamed());
        let events = events(answer.expect_text(200));
        let error = events.iter().find(|event| event["error"].is_object());
        assert_eq!(error.map(|event| event["error"]["code"].clone()), code.map(|code| json!(code)), "{fault:?}");
        assert!(!said(&events).is_empty());
        bench.settled();
        let (spent, billed) = (bench.tenant_day("spent_usd"), bench.upstream.billed().to_string());
        let [spent, billed] = [spent, billed].map(|amount| amount.parse::<f64>().expect("an amount"));
        // Counted here, since the provider did not say: by the text and its input, roughly.
        assert!(spent > 0.0 && spent <= billed * 2.0 + 0.001, "{fault:?}: {spent} where {billed} was billed");
    }
    // Never a second provider after the first byte.
    assert_eq!(bench.upstream.asked("n"), 0);
}

#[test]
fn before_the_first_byte_another_model_is_asked() {
    let bench = Bench::start();
    bench.upstream.script("m", words().with_fault(Fault::CutBefore));
    bench.upstream.script("n", words());
    let answer = bench.client.post("/v1/chat/completions", &streamed());
    answer.expect_text(200);
    assert_eq!((answer.header("x-model-used"), answer.header("x-fallbacks")), (Some("n"), Some("1")));
}

#[test]
fn a_stream_has_a_time_for_its_beginning_and_one_for_all_of_it() {
    let setup = Setup::real().env("AGENTD_MODELS_FIRST_TOKEN_TIME", "3s").env("AGENTD_MODELS_TOTAL_TIME", "6s");
    let bench = Bench::start_with(setup.env("AGENTD_MODELS_ATTEMPTS", "1"));
    bench.upstream.script("n", words());
    bench.upstream.script("m", Script::hang());
    let answer = bench.client.post("/v1/chat/completions", &streamed());
    assert_eq!((answer.status, answer.header("x-model-used")), (200, Some("n")), "{}", answer.text);
    bench.upstream.script("m", words().with_fault(Fault::HangAfter(5)));
    let answer = bench.client.post("/v1/chat/completions", &streamed());
    assert_eq!(answer.header("x-model-used"), Some("m"));
    let events = events(answer.expect_text(200));
    assert_eq!(events.last().map(|event| event["error"]["code"].clone()), Some(json!("provider_timeout")));
    bench.settled();
    assert_eq!(bench.upstream.asked("n"), 1, "only before the first byte");
}

/// Far more than the sockets on the way hold: were it gathered for a reader who
/// does not come, it would show.
#[test]
fn a_slow_reader_holds_a_piece_and_no_more() {
    let bench = Bench::start();
    let text = "abcdefgh ".repeat(6 << 20);
    bench.upstream.script("m", Script::reply(&text).chunks(3000).used(1000, 20));
    let before = peak(&bench.server);
    let mut slow = bench.client.open("POST", "/v1/chat/completions", &streamed());
    assert!(slow.frame().is_some());
    // One who reads gets all of it meanwhile.
    let mut quick = bench.client.open("POST", "/v1/chat/completions", &streamed());
    while quick.frame().is_some() {}
    bench.upstream.wait("one of the two is answered", |counts| (counts.answered, counts.active) == (1, 1));
    let grown = peak(&bench.server).saturating_sub(before) >> 20;
    assert!(grown < 24, "{grown} MiB for answers of {} MiB", text.len() >> 20);
    drop(slow);
    bench.settled();
}

/// Bytes of memory that the service has had at most.
fn peak(server: &crate::support::Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its memory");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib << 10
}

#[test]
fn who_hangs_up_ends_the_call_and_pays_for_what_came() {
    let bench = Bench::start();
    let gate = Gate::new();
    bench.upstream.script("m", words().waits_after(5, &gate));
    let mut stream = bench.client.open("POST", "/v1/chat/completions", &streamed());
    assert!(stream.frame().is_some());
    drop(stream);
    bench.upstream.wait_until_cancelled(1);
    bench.settled();
    let spent: f64 = bench.tenant_day("spent_usd").parse().expect("an amount");
    assert!(spent > 0.0 && spent < 0.001_04, "{spent}: not nothing, and not the whole answer");
}

#[test]
fn what_the_provider_has_sent_is_paid_for_though_nobody_has_read_it() {
    let bench = Bench::start();
    bench.upstream.script("m", words());
    let mut stream = bench.client.open("POST", "/v1/chat/completions", &streamed());
    bench.upstream.wait_until_idle();
    assert!(stream.frame().is_some());
    drop(stream);
    bench.settled();
    assert_eq!(bench.tenant_day("spent_usd"), bench.upstream.billed().to_string());
}

#[test]
fn who_hangs_up_can_have_the_answer_read_to_its_end() {
    let bench = Bench::start_with(Setup::real().env("AGENTD_MODELS_ON_HANGUP", "drain"));
    let gate = Gate::new();
    bench.upstream.script("m", words().waits_after(5, &gate));
    let mut stream = bench.client.open("POST", "/v1/chat/completions", &streamed());
    assert!(stream.frame().is_some());
    drop(stream);
    gate.open();
    bench.upstream.wait_until_idle();
    bench.settled();
    assert_eq!(bench.tenant_day("spent_usd"), bench.upstream.billed().to_string());
}

impl Bench {
    /// A figure of the tenant's day.
    #[track_caller]
    pub fn tenant_day(&self, name: &str) -> String {
        let budget = self.spent();
        let scopes = budget["data"].as_array().expect("a list");
        let day = scopes.iter().find(|scope| scope["scope"] == "tenant_day").expect("the tenant's day");
        day[name].as_str().expect("an amount").to_owned()
    }

    /// Waits until no money is held any more.
    #[track_caller]
    pub fn settled(&self) {
        eventually("all is settled", || (self.tenant_day("reserved_usd") == "0").then_some(()));
    }
}
