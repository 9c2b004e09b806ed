//! What runs jobs: handlers in a registry that `app` fills. This room knows
//! none of them, and of agents only the handler's name.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::steps::Steps;
use super::types::JobId;
use crate::budgets::Payer;
use crate::clock::Clock;
use crate::http::FieldError;

/// The handler of submissions with `mode: "agent"`; it is no tool.
pub const AGENT: &str = "agent";

/// What a handler gives back: JSON, or how it failed.
pub type Outcome = Result<String, Failure>;

/// One attempt, as its handler sees it.
#[derive(Clone, Debug)]
pub struct Call {
    /// The job.
    pub job: JobId,
    /// Whose it is: row number.
    pub tenant: i64,
    /// Who pays for what it does.
    pub payer: Payer,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// JSON that fits the handler's schema.
    pub input: Arc<str>,
    /// Set when the attempt is no longer wanted: cancelled, out of time, or the
    /// service stops. Whoever works long must look at it.
    pub stop: CancellationToken,
    /// The time.
    pub clock: Clock,
    /// Records the steps that the handler takes itself.
    pub steps: Steps,
}

/// Whether a handler changes anything outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Class {
    /// It only reads or computes: doing it twice does no harm.
    Read,
    /// It changes something.
    Write,
}

/// The future of a handler that waits.
pub type OutcomeFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// How a handler is run.
pub enum Run {
    /// Takes microseconds and never waits: called where it stands.
    Inline(fn(&Call) -> Outcome),
    /// Computes for long: on a thread of its own. When it does not stop in
    /// time the job goes on without it.
    Blocking(Arc<dyn Fn(&Call) -> Outcome + Send + Sync>),
    /// Waits for others: a task, dropped when it does not stop in time.
    Async(Box<dyn Fn(Call) -> OutcomeFuture + Send + Sync>),
}

/// A handler and what must be known before it is called.
pub struct Handler {
    /// Its name, such as `web.fetch`.
    pub name: &'static str,
    /// What it does, for people and models.
    pub description: &'static str,
    /// Whether it changes anything.
    pub class: Class,
    /// JSON Schema of its input; `true` for anything.
    pub input_schema: Value,
    /// The longest attempt when the client does not say.
    pub timeout: Duration,
    /// Attempts at the same time; none: as many as there are.
    pub concurrency: Option<usize>,
    /// How it is run.
    pub run: Run,
}

struct Registered {
    handler: Arc<Handler>,
    /// Whether clients and agents can name it.
    tool: bool,
    /// Made when it is first needed: it takes memory, and most services use few
    /// tools. None inside when the schema allows anything.
    validator: OnceLock<Option<jsonschema::Validator>>,
}

/// All handlers.
#[derive(Default)]
pub struct Registry {
    handlers: Vec<Registered>,
    by_name: HashMap<&'static str, usize>,
}

impl Registry {
    /// Adds a handler: a tool, unless it is the one of agents.
    ///
    /// # Errors
    /// When its name is taken: a fault of ours.
    pub fn add(&mut self, handler: Handler) -> Result<(), String> {
        let tool = handler.name != AGENT;
        self.register(handler, tool)
    }

    /// Adds a handler that only the service itself calls.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_internal(&mut self, handler: Handler) -> Result<(), String> {
        self.register(handler, false)
    }

    fn register(&mut self, handler: Handler, tool: bool) -> Result<(), String> {
        if self.by_name.insert(handler.name, self.handlers.len()).is_some() {
            return Err(format!("two handlers are named {}", handler.name));
        }
        self.handlers.push(Registered { handler: Arc::new(handler), tool, validator: OnceLock::new() });
        Ok(())
    }

    /// A handler's place, by its name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// A tool's place, by its name.
    #[must_use]
    pub fn find_tool(&self, name: &str) -> Option<usize> {
        self.find(name).filter(|place| self.handlers[*place].tool)
    }

    /// The handler at a place that [`find`](Self::find) gave.
    #[must_use]
    pub fn get(&self, place: usize) -> Arc<Handler> {
        self.handlers[place].handler.clone()
    }

    /// Those that a client can name.
    pub fn tools(&self) -> impl Iterator<Item = &Handler> {
        self.handlers.iter().filter(|registered| registered.tool).map(|registered| &*registered.handler)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Handler> {
        self.handlers.iter().map(|registered| &*registered.handler)
    }

    /// What of an input does not fit the handler's schema; empty when it fits.
    #[must_use]
    pub fn faults(&self, place: usize, input: &str) -> Vec<FieldError> {
        let registered = &self.handlers[place];
        let Some(validator) = registered.validator.get_or_init(|| validator(&registered.handler)) else {
            return Vec::new();
        };
        let value: Value = match serde_json::from_str(input) {
            Ok(value) => value,
            Err(error) => return vec![FieldError { pointer: "/input".into(), detail: error.to_string() }],
        };
        let fault = |error: jsonschema::ValidationError<'_>| FieldError {
            pointer: format!("/input{}", error.instance_path()),
            // The library quotes the whole instance; a long one helps no one.
            detail: shorten(&error.to_string(), 300),
        };
        validator.iter_errors(&value).take(20).map(fault).collect()
    }

    /// The known name that was probably meant.
    #[must_use]
    pub fn nearest(&self, name: &str) -> Option<&'static str> {
        crate::text::near(name, self.tools().map(|handler| handler.name))
    }
}

/// What holds an input against a schema. One that is no schema takes nothing: a
/// fault of ours, which the tests of the tools would find.
fn validator(handler: &Handler) -> Option<jsonschema::Validator> {
    if handler.input_schema == Value::Bool(true) {
        return None;
    }
    let made = jsonschema::validator_for(&handler.input_schema).or_else(|error| {
        tracing::error!(handler = handler.name, "the handler's schema is none: {error}");
        jsonschema::validator_for(&Value::Bool(false))
    });
    made.ok()
}

/// A text of at most so many characters.
pub(super) fn shorten(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let start: String = text.chars().take(longest).collect();
    format!("{start}…")
}
