//! Budgets cannot be overspent, and nothing that the provider bills is missing
//! from the ledger: under a thousand calls at once, and through `kill -9` at
//! random moments. What was billed is counted by the scripted provider.
//!
//! `LEDGER_ROUNDS` sets how often the service is killed, `LEDGER_SEED` repeats
//! the choices of a run (not the timing of the machine).

#![allow(clippy::expect_used, reason = "in a test a broken expectation is what it is there to tell")]

#[path = "../support/mod.rs"]
mod support;

mod load;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agentd::money::Usd;
use load::{Asked, ask_all};
use serde_json::{Value, json};
use support::upstream::{End, Gate};
use support::{Client, Key, Price, Script, Server, Setup, Upstream, eventually};

const PROVIDER_KEY: &str = "sk-of-the-provider-0123456789";
/// Dollars for a million tokens of input and of output.
const PRICE: (&str, &str) = ("2", "25");
/// Tokens of output that a call allows.
const MOST: u64 = 100;

/// A small generator (SplitMix64): the same seed, the same choices.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// The service with the scripted provider behind it.
struct Drill {
    server: Server,
    upstream: Upstream,
}

/// A tenant with a budget for a day, and a model that nobody else asks for.
struct Tenant {
    key: Key,
    client: Client,
    model: String,
    cap: Usd,
}

impl Drill {
    fn start() -> Self {
        // Both ends of a thousand connections are here.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let most = rustix::process::Rlimit { current: limit.maximum, ..limit };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, most).expect("up to the hard limit one may");
        let upstream = Upstream::start();
        upstream.expect_keys(&[PROVIDER_KEY]);
        // More than all tenants together have.
        let setup = Setup::real().env("AGENTD_LOG_LEVEL", "info,agentd::request=warn");
        let server = setup.env("AGENT_DAILY_BUDGET_USD", "1000").start();
        let provider = json!({ "base_url": upstream.base_url(), "api_key": PROVIDER_KEY, "concurrency": 5_000 });
        server.admin().put("/admin/models/providers/scripted", &provider).expect(200);
        Self { server, upstream }
    }

    fn tenant(&self, name: &str, cap: &str) -> Tenant {
        let admin = self.server.admin();
        let tenant = self.server.tenant(name);
        admin.put(&format!("/admin/tenants/{tenant}/budget"), &json!({ "day_usd": cap })).expect(200);
        let model = format!("model-of-{name}");
        let (input, output) = PRICE;
        let price = json!({ "input_usd_per_million": input, "output_usd_per_million": output });
        admin.put(&format!("/admin/models/prices/{model}"), &price).expect(200);
        self.upstream.price(&model, Price::tokens(input, output));
        let key = self.server.key(&tenant);
        let client = self.server.anyone().with_key(&key);
        Tenant { key, client, model, cap: cap.parse().expect("dollars") }
    }

    fn billed(&self, tenant: &Tenant) -> Usd {
        self.upstream.billed_by_model().get(&tenant.model).copied().unwrap_or_default()
    }

    fn ask(&self, tenant: &Tenant, bodies: Vec<Value>) -> Vec<Option<Asked>> {
        ask_all(&self.server.address(), &tenant.key.secret, bodies)
    }
}

impl Tenant {
    /// The day's budget: what was spent, and what is reserved.
    #[track_caller]
    fn day(&self) -> (Usd, Usd) {
        let budget = self.client.get("/v1/budget").expect(200);
        let day = budget["data"].as_array().expect("a list").iter().find(|it| it["scope"] == "tenant_day");
        let day = day.unwrap_or_else(|| panic!("no day in {budget}"));
        (usd(&day["spent_usd"]), usd(&day["reserved_usd"]))
    }

    /// What the report of usage says in sum.
    #[track_caller]
    fn reported(&self) -> (Usd, u64) {
        let report = self.client.get("/v1/usage/spend?by=model").expect(200);
        (usd(&report["total"]["cost_usd"]), report["total"]["calls"].as_u64().expect("a number"))
    }

    /// Waits until nothing is reserved, and all is in the report.
    #[track_caller]
    fn settled(&self) -> (Usd, u64) {
        eventually("all is settled", || {
            let (spent, reserved) = self.day();
            let (reported, calls) = self.reported();
            (reserved == Usd::ZERO && reported == spent).then_some((spent, calls))
        })
    }

    fn call(&self, more: &Value) -> Value {
        let mut body = json!({
            "model": format!("scripted/{}", self.model),
            "messages": [{ "role": "user", "content": "Hello" }],
            "max_tokens": MOST,
        });
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        body
    }
}

#[track_caller]
fn usd(amount: &Value) -> Usd {
    amount.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{amount} is no amount"))
}

/// Answers that must all be good or say which budget is exhausted; how many
/// were good.
#[track_caller]
fn good(answers: &[Option<Asked>]) -> usize {
    let mut good = 0;
    for answer in answers {
        let answer = answer.as_ref().expect("an answer");
        match answer.status {
            200 => good += 1,
            402 => {
                let error = &answer.json()["error"];
                assert_eq!(error["code"], "budget_exceeded", "{}", answer.body);
                let message = error["message"].as_str().expect("a message");
                assert!(message.contains("day"), "it does not say which budget: {message}");
            }
            status => panic!("{status}: {}", answer.body),
        }
    }
    good
}

/// A thousand calls are under way or refused before the first is answered, so
/// as many pass as can be paid, and not one more.
#[test]
fn a_thousand_calls_at_once_spend_no_more_than_there_is() {
    let drill = Drill::start();
    let tenant = drill.tenant("alone", "1");
    let gate = Gate::new();
    // As much as each call may use: what is reserved is what it costs. The input
    // is whatever the service counts, which the first call tells.
    drill.upstream.script(&tenant.model, Script::tokens(8, MOST));
    let first = drill.ask(&tenant, vec![tenant.call(&json!({}))]).remove(0).expect("an answer");
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(tenant.settled(), (drill.billed(&tenant), 1));

    drill.upstream.script(&tenant.model, Script::tokens(8, MOST).behind(&gate));
    let bodies = (0..1_000).map(|_| tenant.call(&json!({}))).collect();
    let answers = std::thread::scope(|scope| {
        let asking = scope.spawn(|| drill.ask(&tenant, bodies));
        // Nothing is given back before the gate opens, so no more can pass once
        // less is left than one call may cost.
        let least = eventually("nothing more can be paid", || {
            let (spent, reserved) = tenant.day();
            let each = Usd::from_nano(reserved.nano() / i64::try_from(drill.upstream.counts().active.max(1)).ok()?);
            (reserved > Usd::ZERO && tenant.cap.minus(spent).minus(reserved) < each).then_some(each)
        });
        assert!(least > Usd::ZERO);
        gate.open();
        asking.join().expect("they are asked")
    });
    let good = good(&answers);
    assert!((1..1_000).contains(&good), "{good} of a thousand");
    let (spent, calls) = tenant.settled();
    println!("{good} calls were paid, {spent} USD of {}", tenant.cap);
    assert!(spent <= tenant.cap, "{spent} of {}", tenant.cap);
    assert_eq!(spent, drill.billed(&tenant));
    assert_eq!(calls, good as u64 + 1);
    assert_eq!(drill.upstream.asked(&tenant.model), good + 1, "a refused call came to the provider");
}

/// The same with calls of all kinds that use less than they may, some in a
/// stream, some failing: the sums are still equal, to the nano-dollar.
#[test]
fn a_thousand_different_calls_are_settled_to_the_nano_dollar() {
    let drill = Drill::start();
    let tenant = drill.tenant("mixed", "1");
    let mut random = Random(number("LEDGER_SEED").unwrap_or(6));
    let script = |random: &mut Random| match random.below(12) {
        0 => Script::status(400),
        1 => Script::tokens(0, MOST).reasoning(random.below(50)),
        _ => {
            let script = Script::tokens(1 + random.below(8), 1 + random.below(MOST)).chunks(3);
            script.latency(Duration::from_millis(random.below(20)))
        }
    };
    drill.upstream.next(&tenant.model, (0..1_000).map(|_| script(&mut random)));
    let bodies = (0..1_000).map(|at| tenant.call(&json!({ "stream": at % 3 == 0 }))).collect();
    let answers = drill.ask(&tenant, bodies);
    let statuses: BTreeSet<_> = answers.iter().map(|answer| answer.as_ref().expect("an answer").status).collect();
    assert!(statuses.iter().all(|status| [200, 400, 402].contains(status)), "{statuses:?}");
    let (spent, _) = tenant.settled();
    assert!(spent <= tenant.cap, "{spent} of {}", tenant.cap);
    assert_eq!(spent, drill.billed(&tenant));
    assert!(spent > Usd::ZERO);
}

/// `kill -9` under load, again and again. Each round has a tenant of its own,
/// whose budget is used up in some of them.
#[test]
fn nothing_that_was_billed_is_lost_when_the_service_is_killed() {
    let rounds = number("LEDGER_ROUNDS").unwrap_or(50);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = number("LEDGER_SEED").unwrap_or_else(|| u64::from(now.subsec_nanos()));
    println!("LEDGER_SEED={seed}");
    let mut random = Random(seed);
    let mut drill = Drill::start();
    let mut tenants = Vec::new();
    let (mut cut, mut exhausted) = (0, 0);
    for round in 0..rounds {
        let tenant = drill.tenant(&format!("round-{round}"), "0.1");
        let scripts = (0..400).map(|_| {
            let script = Script::tokens(1 + random.below(8), 1 + random.below(MOST)).chunks(4);
            script.latency(Duration::from_millis(random.below(15))).pause(Duration::from_millis(random.below(3)))
        });
        drill.upstream.next(&tenant.model, scripts.collect::<Vec<_>>());
        let moment = Duration::from_micros(random.below(250_000));
        let (address, secret) = (drill.server.address(), tenant.key.secret.clone());
        let bodies: Vec<_> = (0..400).map(|at| tenant.call(&json!({ "stream": at % 3 == 0 }))).collect();
        let asking = std::thread::spawn(move || ask_all(&address, &secret, bodies));
        std::thread::sleep(moment);
        drill.server.kill();
        let answers = asking.join().expect("they are asked");
        drill.upstream.wait("all connections are gone", |counts| counts.connections == 0);
        if random.below(4) == 0 {
            drill.server.start_and_kill(Duration::from_micros(random.below(60_000)));
        }
        drill.server.start_again(|setup| setup);
        let billed = drill.billed(&tenant);
        let (spent, _) = tenant.settled();
        assert!(billed <= spent, "round {round}: {billed} was billed, and the ledger has {spent}");
        assert!(spent <= tenant.cap, "round {round}: {spent} of {}", tenant.cap);
        cut += answers.iter().filter(|answer| answer.is_none()).count();
        exhausted += usize::from(answers.iter().flatten().any(|answer| answer.status == 402));
        tenants.push((tenant, spent));
    }
    println!("{cut} calls were cut off, {exhausted} budgets used up, {} USD billed", drill.upstream.billed());
    assert!(cut > 0 && drill.upstream.billed() > Usd::ZERO, "there was no load");
    // Later starts have changed nothing, and the service goes on as before.
    for (tenant, spent) in &tenants {
        assert_eq!(tenant.settled().0, *spent, "{}", tenant.model);
    }
    let tenant = drill.tenant("after-all", "0.1");
    drill.upstream.script(&tenant.model, Script::tokens(5, 7));
    assert_eq!(good(&drill.ask(&tenant, vec![tenant.call(&json!({}))])), 1);
    assert_eq!(tenant.settled().0, drill.billed(&tenant));
    assert!(drill.upstream.bill().iter().any(|call| call.end == End::Cancelled), "no call was under way at a kill");
}
