//! What a client asks for, checked against everything that is known before the
//! disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::executor::can_pay;
use super::handler::AGENT;
use super::json::compact;
use super::types::{Backoff, JobId, JobRow, NewJob, OnConflict, Options, SYSTEM};
use super::{Inner, Jobs};
use crate::budgets::session_name;
use crate::clock::Timestamp;
use crate::http::Problem;
use crate::money::Usd;
use crate::text::did_you_mean;

/// The body of a submission. The last fields are options that the interface
/// names and this version does not have; they are refused by name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SubmitJob", description = "What is to be done, and how.")]
pub(super) struct SubmitBody {
    /// Left out: `tool`.
    #[schemars(extend("enum" = ["tool", "agent", null]))]
    mode: Option<String>,
    /// Mode `tool`: which one, by its name at `/v1/tools`.
    tool: Option<String>,
    /// Mode `tool`: what its schema asks for; left out: an empty object.
    // `null` is an input; only what is left out is none.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<serde_json::Value>", extend("default" = {}))]
    input: Option<Box<RawValue>>,
    /// Higher starts first within the tenant.
    #[serde(default)]
    priority: i8,
    /// Not before this time; in the past means at once. Not together with `delay`.
    run_at: Option<Timestamp>,
    /// Seconds to wait before it may start.
    #[schemars(range(min = 0, max = 2_592_000))]
    delay: Option<f64>,
    /// Seconds for one attempt; left out: what the tool allows.
    #[schemars(range(min = 0.001, max = 2_592_000))]
    timeout: Option<f64>,
    /// Seconds from submission to the end, waiting included; longer than `delay`.
    #[schemars(range(min = 0.001, max = 2_592_000))]
    total_timeout: Option<f64>,
    /// Attempts before it is given up; left out: 3.
    #[schemars(range(min = 1, max = 100))]
    max_attempts: Option<u32>,
    /// The pauses between attempts.
    backoff: Option<Backoff>,
    /// Up to 16 strings of your own; keys of 1 to 64 letters, digits or any of
    /// `_-.`, values of up to 512 bytes.
    #[schemars(extend("maxProperties" = 16, "propertyNames" = { "pattern": "^[A-Za-z0-9_.-]{1,64}$" }))]
    metadata: Option<BTreeMap<String, String>>,
    /// Mode `agent`: what it is to do.
    goal: Option<String>,
    #[schemars(skip)]
    messages: Option<IgnoredAny>,
    /// Mode `agent`: the tools that it may use.
    tools: Option<Vec<String>>,
    /// The session that pays for it too.
    #[schemars(length(min = 1, max = 128), extend("pattern" = r"^[^\u0000-\u001F\u007F-\u009F]*$"))]
    session_id: Option<String>,
    /// Of the tenant's jobs with the same key one runs at a time, the others wait.
    #[schemars(length(min = 1, max = 128), extend("pattern" = r"^[^\u0000-\u001F\u007F-\u009F]*$"))]
    concurrency_key: Option<String>,
    /// What happens when an open job has the same key; left out: `enqueue`.
    on_conflict: Option<OnConflict>,
    /// What it may spend over all its attempts, in US dollars; left out: as much
    /// as the tenant.
    #[schemars(with = "Option<String>", extend("pattern" = r"^[0-9]{1,9}(\.[0-9]{1,9})?$"))]
    budget_usd: Option<Usd>,
    #[schemars(skip)]
    callback_url: Option<IgnoredAny>,
}

fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// Seconds that any span in a submission may have: thirty days.
const LONGEST_SPAN: f64 = 30.0 * 24.0 * 3600.0;

/// A handler's place and name, and the input for it.
type Wanted = (usize, &'static str, Arc<str>);

impl Jobs {
    /// Checks a submission against everything that is known before the disk.
    pub(super) fn check(&self, tenant: i64, body: SubmitBody) -> Result<NewJob, Problem> {
        refuse_later_options(&body)?;
        let (tool, name, input) = match body.mode.as_deref() {
            None | Some("tool") => self.tool(&body)?,
            Some("agent") => self.agent(&body)?,
            Some(_) => return Err(Problem::invalid("/mode", "must be \"tool\" or \"agent\"")),
        };
        let mut faults = self.0.registry.faults(tool, &input);
        if name == AGENT {
            // What an agent is given stands in the body itself.
            for fault in &mut faults {
                fault.pointer = fault.pointer.trim_start_matches("/input").to_owned();
            }
        }
        if let Some(first) = faults.first() {
            let detail = format!("the input does not fit {name}: {first}");
            return Err(Problem::bad_request("invalid_input", detail)
                .with_errors(faults)
                .with_hint("GET /v1/tools shows each tool's schema"));
        }
        let created_at = self.0.clock.now();
        let on_conflict = on_conflict(&body)?;
        Ok(NewJob {
            id: JobId(self.0.ids.next()),
            tenant,
            tool: name,
            priority: body.priority,
            due_at: due_at(&body, created_at)?,
            appointed: body.run_at.is_some(),
            created_at,
            options: options(&body)?,
            metadata: metadata(body.metadata)?,
            on_conflict,
            concurrency_key: concurrency_key(body.concurrency_key)?,
            retry_of: None,
            input,
        })
    }

    /// The same job, paid for by this key too, where its tool can spend something.
    pub(super) fn paid_by(&self, key: &str, mut job: NewJob) -> NewJob {
        let registry = &self.0.registry;
        if registry.find(job.tool).is_some_and(|tool| can_pay(&registry.get(tool))) {
            job.options.key = Some(key.into());
        }
        job
    }

    fn agent(&self, body: &SubmitBody) -> Result<Wanted, Problem> {
        let Some(place) = self.0.registry.find(AGENT) else {
            return Err(Problem::not_available("/mode", "mode \"agent\""));
        };
        for (pointer, given) in [("/tool", body.tool.is_some()), ("/input", body.input.is_some())] {
            if given {
                return Err(Problem::invalid(pointer, "belongs to mode \"tool\"; an agent is given a goal"));
            }
        }
        let Some(goal) = &body.goal else {
            return Err(Problem::invalid("/goal", "is missing; say what the agent is to do"));
        };
        let mut input = serde_json::json!({ "goal": goal });
        if let Some(tools) = &body.tools {
            input["tools"] = tools.as_slice().into();
        }
        Ok((place, AGENT, input.to_string().into()))
    }

    fn tool(&self, body: &SubmitBody) -> Result<Wanted, Problem> {
        for (pointer, given) in [("/goal", body.goal.is_some()), ("/tools", body.tools.is_some())] {
            if given {
                return Err(Problem::invalid(pointer, "belongs to mode \"agent\""));
            }
        }
        let Some(name) = &body.tool else {
            return Err(Problem::invalid("/tool", "is missing").with_hint("GET /v1/tools lists the tools"));
        };
        let registry = &self.0.registry;
        let Some(tool) = registry.find_tool(name) else {
            let detail = format!("there is no tool {name:?}{}", did_you_mean(registry.nearest(name)));
            let error = crate::http::FieldError { pointer: "/tool".into(), detail: detail.clone() };
            return Err(Problem::bad_request("unknown_tool", detail)
                .with_errors(vec![error])
                .with_hint("GET /v1/tools lists the tools"));
        };
        let input = match &body.input {
            Some(input) => compact(input.get()),
            None => "{}".into(),
        };
        Ok((tool, registry.get(tool).name, input))
    }
}

impl Inner {
    /// A job of the service's own: one attempt, of which one runs at a time for
    /// each `key`.
    pub(super) fn own(&self, handler: &'static str, input: &serde_json::Value, key: String) -> NewJob {
        let created_at = self.clock.now();
        NewJob {
            id: JobId(self.ids.next()),
            tenant: SYSTEM,
            tool: handler,
            priority: 0,
            due_at: created_at,
            appointed: false,
            created_at,
            options: Options { max_attempts: 1, ..Options::default() },
            metadata: None,
            on_conflict: OnConflict::Reject,
            concurrency_key: Some(key.into()),
            retry_of: None,
            input: input.to_string().into(),
        }
    }

    /// A tenant's job that the service itself has thought of.
    pub(super) fn of_tenant(&self, tenant: i64, id: JobId, handler: &'static str, input: &serde_json::Value) -> NewJob {
        NewJob {
            id,
            tenant,
            options: Options::default(),
            concurrency_key: None,
            on_conflict: OnConflict::default(),
            ..self.own(handler, input, String::new())
        }
    }

    /// A new job that does a finished one again, with the same input and
    /// options; `None` when this version does not have its tool.
    pub(super) fn again(&self, row: JobRow) -> Option<NewJob> {
        let created_at = self.clock.now();
        Some(NewJob {
            id: JobId(self.ids.next()),
            tenant: row.tenant,
            tool: self.registry.get(self.registry.find(&row.tool)?).name,
            priority: row.priority,
            due_at: created_at,
            appointed: false,
            created_at,
            options: row.options,
            metadata: row.metadata.and_then(|metadata| serde_json::to_string(&metadata).ok()),
            concurrency_key: row.concurrency_key,
            on_conflict: OnConflict::Enqueue,
            retry_of: Some(row.id),
            input: row.input.get().into(),
        })
    }
}

fn refuse_later_options(body: &SubmitBody) -> Result<(), Problem> {
    let later = [("messages", body.messages), ("callback_url", body.callback_url)];
    match later.iter().find(|(_, given)| given.is_some()) {
        Some((name, _)) => Err(Problem::not_available(&format!("/{name}"), &format!("option {name:?}"))),
        None => Ok(()),
    }
}

fn due_at(body: &SubmitBody, now: Timestamp) -> Result<Timestamp, Problem> {
    match (body.run_at, body.delay) {
        (Some(_), Some(_)) => Err(Problem::invalid("/delay", "give either run_at or delay, not both")),
        (Some(at), None) => Ok(at.max(now)),
        (None, Some(delay)) => {
            span("/delay", delay, 0.0)?;
            Ok(now.plus(super::retry::seconds_to_span(delay)))
        }
        (None, None) => Ok(now),
    }
}

fn concurrency_key(key: Option<String>) -> Result<Option<Arc<str>>, Problem> {
    let Some(key) = key else { return Ok(None) };
    if (1..=128).contains(&key.chars().count()) && !key.chars().any(char::is_control) {
        return Ok(Some(key.into()));
    }
    Err(Problem::invalid("/concurrency_key", "must be 1 to 128 characters, none of them a control character"))
}

fn on_conflict(body: &SubmitBody) -> Result<OnConflict, Problem> {
    if body.on_conflict.is_some() && body.concurrency_key.is_none() {
        return Err(Problem::invalid("/on_conflict", "says nothing without a concurrency_key"));
    }
    Ok(body.on_conflict.unwrap_or_default())
}

fn options(body: &SubmitBody) -> Result<Options, Problem> {
    let defaults = Options::default();
    for (pointer, value) in [("/timeout", body.timeout), ("/total_timeout", body.total_timeout)] {
        if let Some(value) = value {
            span(pointer, value, 0.001)?;
        }
    }
    if let (Some(delay), Some(total)) = (body.delay, body.total_timeout)
        && delay >= total
    {
        return Err(Problem::invalid("/total_timeout", "must be longer than delay, or the job can never start"));
    }
    let max_attempts = body.max_attempts.unwrap_or(defaults.max_attempts);
    if !(1..=100).contains(&max_attempts) {
        return Err(Problem::invalid("/max_attempts", "must be a whole number from 1 to 100"));
    }
    let backoff = body.backoff.unwrap_or(defaults.backoff);
    span("/backoff/initial", backoff.initial, 0.0)?;
    span("/backoff/max", backoff.max, 0.0)?;
    if !(1.0..=100.0).contains(&backoff.factor) {
        return Err(Problem::invalid("/backoff/factor", "must be a number from 1 to 100"));
    }
    let session = body.session_id.as_deref().map(session_name).transpose();
    Ok(Options {
        timeout: body.timeout,
        total_timeout: body.total_timeout,
        max_attempts,
        backoff,
        budget: body.budget_usd,
        session: session.map_err(|fault| Problem::invalid("/session_id", fault))?,
        key: None,
    })
}

fn span(pointer: &str, seconds: f64, least: f64) -> Result<(), Problem> {
    if (least..=LONGEST_SPAN).contains(&seconds) {
        return Ok(());
    }
    Err(Problem::invalid(pointer, format!("must be a number of seconds from {least} to {LONGEST_SPAN}")))
}

fn metadata(metadata: Option<BTreeMap<String, String>>) -> Result<Option<String>, Problem> {
    let Some(metadata) = metadata.filter(|metadata| !metadata.is_empty()) else { return Ok(None) };
    if metadata.len() > 16 {
        return Err(Problem::invalid("/metadata", "may have at most 16 entries"));
    }
    for (key, value) in &metadata {
        let named = (1..=64).contains(&key.len())
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        if !named {
            return Err(Problem::invalid(
                "/metadata",
                format!("the key {key:?} must be 1 to 64 letters, digits, or any of _ - ."),
            ));
        }
        if value.len() > 512 {
            return Err(Problem::invalid(format!("/metadata/{key}"), "may have at most 512 bytes"));
        }
    }
    serde_json::to_string(&metadata).map(Some).map_err(Problem::internal)
}
