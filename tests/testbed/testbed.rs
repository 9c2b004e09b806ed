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
use agentd::clock::{Clock, Timestamp, system_now};
use agentd::jobs::{Call, Class, ErrorClass, Failure, Handler, Outcome, Run};
use serde_json::{Value, json};

/// Names the file with the clock's offset in microseconds, read at each look.
const CLOCK_FILE: &str = "TESTBED_CLOCK_FILE";
/// How often a handler looks whether it may go on.
const LOOK: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    agentd::cli::main(Extras { clock: clock(), handlers: handlers() })
}

fn clock() -> Option<Clock> {
    let file = PathBuf::from(std::env::var_os(CLOCK_FILE)?);
    Some(Clock::from_fn(move || Timestamp::from_micros(system_now().micros() + offset(&file))))
}

fn offset(file: &Path) -> i64 {
    std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn handlers() -> Vec<Handler> {
    vec![
        handler("test.panic", blocking(|_| panic!("a panic on purpose"))),
        handler("test.panic_inline", Run::Inline(|_| panic!("a panic on purpose"))),
        handler("test.panic_async", Run::Async(Box::new(|_| Box::pin(async { panic!("a panic on purpose") })))),
        handler("test.loop", blocking(loop_for_ever)),
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
        strict(),
    ]
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

/// Looks at nothing, least of all at `call.stop`.
fn loop_for_ever(_: &Call) -> Outcome {
    loop {
        std::thread::sleep(LOOK);
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
    Err(Failure { class: ErrorClass::RateLimited(after), code: "too_many", message: "come back later".into() })
}
