//! The service with handlers that misbehave on purpose and a clock that a test
//! can set. Everything else is the shipped code: the harness starts this
//! program where a test needs what no shipped handler does.
//!
//! It is an example target, so no release carries it, and it is not called
//! `main.rs`, which cargo would also take for a test of its own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agentd::app::Extras;
use agentd::budgets::{Budgets, Payer, Planned, Refused, Spent, Tokens};
use agentd::clock::{Clock, Timestamp, system_now, system_ticks};
use agentd::db::migrate::Migration;
use agentd::jobs::{Call, Class, Failure, Handler, Outcome, Run};
use serde_json::{Value, json};

/// Names the file with the offsets of the wall clock and of the monotonic clock in
/// microseconds, read at each look.
const CLOCK_FILE: &str = "TESTBED_CLOCK_FILE";
/// Names a file with SQL that is one more migration.
const MIGRATION_FILE: &str = "TESTBED_MIGRATION_FILE";
/// How often a handler looks whether it may go on.
const LOOK: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    agentd::cli::main(Extras { clock: clock(), handlers: handlers(), paying: Some(paying), migrations: migrations() })
}

/// A migration that only this program knows, to see what a long one does.
fn migrations() -> Vec<Migration> {
    let Some(file) = std::env::var_os(MIGRATION_FILE) else { return Vec::new() };
    let sql = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("the migration's file: {error}"));
    Migration::unapplied("V9000__testbed", &sql).into_iter().collect()
}

fn clock() -> Option<Clock> {
    let file = PathBuf::from(std::env::var_os(CLOCK_FILE)?);
    let passed = file.clone();
    let now = move || Timestamp::from_micros(system_now().micros() + offsets(&file).0);
    let ticks = move || system_ticks() + Duration::from_micros(offsets(&passed).1.unsigned_abs());
    Some(Clock::of(now, ticks))
}

fn offsets(file: &Path) -> (i64, i64) {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn handlers() -> Vec<Handler> {
    vec![
        handler("test.panic", blocking(|_| panic!("a panic on purpose"))),
        handler("test.panic_inline", Run::Inline(|_| panic!("a panic on purpose"))),
        handler("test.panic_async", Run::Async(Box::new(|_| Box::pin(async { panic!("a panic on purpose") })))),
        handler("test.loop", blocking(loop_for_ever)),
        handler("test.hog", hogging()),
        handler("test.obey", blocking(obey)),
        handler("test.obey_async", Run::Async(Box::new(|call| Box::pin(obey_async(call))))),
        handler("test.sleep", Run::Async(Box::new(|call| Box::pin(sleep(call))))),
        handler("test.gate", Run::Async(Box::new(|call| Box::pin(gate(call))))),
        single(),
        handler("test.flaky", Run::Inline(flaky)),
        handler("test.permanent", Run::Inline(|_| Err(Failure::permanent("out_of_order", "it is broken")))),
        handler("test.rate_limited", Run::Inline(rate_limited)),
        handler("test.huge", blocking(|_| Ok(format!("\"{}\"", "x".repeat(50 << 20))))),
        handler("test.invalid", Run::Inline(|_| Ok("{\"not\": json}".into()))),
        handler("test.abort", blocking(|_| std::process::abort())),
        handler("test.count", Run::Inline(count)),
        handler("test.steps", Run::Async(Box::new(|call| Box::pin(steps(call))))),
        strict(),
    ]
}

/// Handlers that pay.
fn paying(budgets: &Budgets) -> Vec<Handler> {
    let budgets = budgets.clone();
    let run = move |call: Call| -> agentd::jobs::handler::OutcomeFuture { Box::pin(spend(budgets.clone(), call)) };
    vec![handler("test.spend", Run::Async(Box::new(run)))]
}

/// Reserves `amount` and settles `cost` (released when that is null), held until
/// the file `gate` is there, if one is named. `key` and `session` pay too. With
/// `pause` it waits when it cannot be paid.
async fn spend(budgets: Budgets, call: Call) -> Outcome {
    let input = input(&call);
    let usd = |name: &str| input[name].as_str().and_then(|text| text.parse().ok());
    let text = |name: &str| input[name].as_str().map(Into::into);
    let own = call.payer.clone();
    let payer = Payer { key: text("key").or(own.key), session: text("session").or(own.session), ..own };
    let model = text("model").unwrap_or_else(|| "test".into());
    let amount = usd("amount").unwrap_or_default();
    let planned = Planned { model, provider: "test".into(), purpose: "test.spend", amount };
    let reservation = match budgets.reserve(&payer, planned).await {
        Ok(reservation) => reservation,
        Err(Refused::Exhausted(exhausted)) if input["pause"] == true => {
            return Err(Failure { message: exhausted.to_string(), ..Failure::budget(exhausted.resets_at) });
        }
        Err(Refused::Exhausted(exhausted)) => {
            let problem = budgets.problem(Refused::Exhausted(exhausted.clone()));
            return Err(Failure::permanent(problem.code(), exhausted.to_string()));
        }
        Err(Refused::Database(error)) => return Err(Failure::retryable("database", error.to_string())),
    };
    gate(call).await?;
    match usd("cost") {
        Some(cost) => {
            let tokens = Tokens { input: 10, cached: 4, output: 5, reasoning: 2 };
            reservation.settle(Spent { cost, tokens, counted_by_provider: true });
        }
        None => reservation.release(),
    }
    Ok(json!({ "left": budgets.left(&payer).map(|left| left.to_string()) }).to_string())
}

fn handler(name: &'static str, run: Run) -> Handler {
    Handler {
        name,
        description: "For tests only.",
        class: Class::Write,
        input_schema: Value::Bool(true),
        timeout: Duration::from_secs(60),
        concurrency: None,
        run,
    }
}

fn blocking(run: impl Fn(&Call) -> Outcome + Send + Sync + 'static) -> Run {
    Run::Blocking(Arc::new(run))
}

fn single() -> Handler {
    let run = Run::Async(Box::new(|call| Box::pin(gate(call))));
    Handler { concurrency: Some(1), ..handler("test.single", run) }
}

fn strict() -> Handler {
    let schema = json!({
        "type": "object",
        "properties": { "count": { "type": "integer", "minimum": 1, "maximum": 10 } },
        "required": ["count"],
        "additionalProperties": false
    });
    Handler { input_schema: schema, ..handler("test.strict", Run::Inline(|call| Ok(call.input.to_string()))) }
}

fn input(call: &Call) -> Value {
    serde_json::from_str(&call.input).unwrap_or_default()
}

/// Adds a line to the file that the input names: how often it was called. Fails
/// in a way that may pass until that is as often as `until`.
fn count(call: &Call) -> Outcome {
    use std::io::Write as _;
    let input = input(call);
    let file = input["file"].as_str().unwrap_or_default();
    let add = || {
        let mut lines = std::fs::OpenOptions::new().create(true).append(true).open(file)?;
        writeln!(lines, "{}", call.attempt)?;
        std::fs::read_to_string(file).map(|lines| lines.lines().count() as u64)
    };
    let calls = add().map_err(|error| Failure::permanent("no_file", error.to_string()))?;
    if calls < input["until"].as_u64().unwrap_or(0) {
        return Err(Failure::retryable("not_yet", "not yet"));
    }
    Ok(json!({ "calls": calls }).to_string())
}

/// Takes the steps that the input lists, each `{tool, input}`, one after the
/// other or at the same time; a step of its own comes first.
async fn steps(call: Call) -> Outcome {
    let input = input(&call);
    let wanted = input["steps"].as_array().cloned().unwrap_or_default();
    let number = json!(wanted.len());
    call.step("plan", "test", &number, async { Ok(number.to_string()) }).await?;
    let taken = wanted.iter().map(|step| call.tool(step["tool"].as_str().unwrap_or_default(), &step["input"]));
    let mut outputs = Vec::new();
    if input["parallel"] == true {
        for outcome in futures_util::future::join_all(taken).await {
            outputs.push(outcome?);
        }
    } else {
        for step in taken {
            outputs.push(step.await?);
        }
    }
    Ok(format!("[{}]", outputs.join(",")))
}

/// Looks at nothing, least of all at `call.stop`.
fn loop_for_ever(_: &Call) -> Outcome {
    loop {
        std::thread::sleep(LOOK);
    }
}

fn hogging() -> Run {
    Run::Async(Box::new(|call| {
        Box::pin(async move {
            hog(&call);
            Ok("null".into())
        })
    }))
}

/// Keeps a thread of the jobs' runtime, as no handler should, until the file
/// that the input names is there.
fn hog(call: &Call) {
    if let Some(file) = input(call)["gate"].as_str() {
        while !Path::new(file).exists() {
            std::thread::sleep(LOOK);
        }
    }
}

/// Stops when told to, with an error: what an honest handler does whose work
/// is cut short.
fn obey(call: &Call) -> Outcome {
    while !call.stop.is_cancelled() {
        std::thread::sleep(LOOK);
    }
    Err(Failure::retryable("told_to_stop", "the handler was told to stop"))
}

async fn obey_async(call: Call) -> Outcome {
    call.stop.cancelled().await;
    Err(Failure::permanent("told_to_stop", "the handler was told to stop"))
}

async fn sleep(call: Call) -> Outcome {
    let seconds = input(&call)["seconds"].as_f64().unwrap_or(0.0);
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    Ok(json!({ "slept": seconds }).to_string())
}

/// Ends once the file that the input names is there; at once without one.
async fn gate(call: Call) -> Outcome {
    if let Some(file) = input(&call)["gate"].as_str() {
        while !Path::new(file).exists() {
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(json!({ "attempt": call.attempt }).to_string())
}

/// Fails in a way that may pass until attempt `until`.
fn flaky(call: &Call) -> Outcome {
    let input = input(call);
    if u64::from(call.attempt) >= input["until"].as_u64().unwrap_or(1) {
        return Ok(json!({ "attempt": call.attempt }).to_string());
    }
    let padding = usize::try_from(input["padding"].as_u64().unwrap_or(0)).unwrap_or(0);
    Err(Failure::retryable("not_yet", format!("not before attempt {}{}", input["until"], "-".repeat(padding))))
}

/// Is told to come back later at the first attempt.
fn rate_limited(call: &Call) -> Outcome {
    if call.attempt > 1 {
        return Ok(json!({ "attempt": call.attempt }).to_string());
    }
    let after = Duration::from_secs_f64(input(call)["after"].as_f64().unwrap_or(0.0));
    Err(Failure::rate_limited("too_many", after, "come back later"))
}
