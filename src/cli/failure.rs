//! Why a verb did not do what was asked: what is said about it, and the exit
//! code.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Deserialize;

use super::output::plain;
use super::{exit, fail};
use crate::config::Fault;

pub(super) enum Failure {
    /// What the command line asks for makes no sense.
    Usage(String),
    /// The configuration cannot be read.
    Configuration(Vec<Fault>),
    /// The configuration says that there is no control socket.
    NoSocket,
    /// Nobody answers on the control socket.
    Unreachable { socket: PathBuf, why: io::ErrorKind, text: String },
    /// The service says no.
    Refused(Box<Refusal>),
    /// Anything else.
    Other(String),
    /// It has been told already.
    Told(u8),
}

/// An error of the service, as its interface describes it.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    status: u16,
    pub code: String,
    detail: String,
    hint: Option<String>,
    request_id: Option<String>,
    #[serde(default)]
    errors: Vec<FieldError>,
}

#[derive(Debug, Deserialize)]
struct FieldError {
    pointer: String,
    detail: String,
}

impl Failure {
    pub(super) fn other(what: impl std::fmt::Display) -> Self {
        Self::Other(what.to_string())
    }

    /// Whether the same may work in a moment.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(refusal) => refusal.is_for_now(),
            _ => false,
        }
    }

    /// Says it on standard error.
    pub(super) fn report(self) -> ExitCode {
        match self {
            Self::Told(code) => ExitCode::from(code),
            Self::Usage(what) => fail(exit::USAGE, what),
            Self::Configuration(faults) => super::check::report(&faults),
            Self::NoSocket => fail(
                exit::CONFIGURATION,
                "the configuration says server.control_socket = off, so the service cannot be reached from here",
            ),
            Self::Unreachable { socket, why, text } => {
                let advice = match why {
                    io::ErrorKind::PermissionDenied => "only its owner, its group and root may use it: try sudo",
                    _ => {
                        "start it (systemctl start agentd, or agentd serve), or say where it is with --data-dir or --socket"
                    }
                };
                fail(exit::UNAVAILABLE, format_args!("no service at {}: {text}; {advice}", socket.display()))
            }
            Self::Refused(refusal) => refusal.report(),
            Self::Other(what) => fail(exit::FAILED, what),
        }
    }
}

/// What is not there, and the verb that lists it.
const LISTS: [(&str, &str); 10] = [
    ("tenant", "agentd tenant list shows all tenants"),
    ("key", "agentd key list --tenant TENANT shows its keys"),
    ("job", "agentd job list shows the jobs"),
    ("batch", "agentd batch list --tenant TENANT shows its batches"),
    ("user", "agentd admin list shows all users"),
    ("certificate", "agentd cert list shows all certificates"),
    ("backup", "agentd backup list shows all backups"),
    ("provider", "agentd model list shows all providers"),
    ("alias", "agentd model list shows all aliases"),
    ("price", "agentd price list --own shows the prices that were set here"),
];

impl Refusal {
    /// An answer that is no problem: one in the form of OpenAI's interface, or what
    /// something between here and the service might give.
    pub(super) fn unknown(status: u16, text: &str) -> Self {
        let envelope = serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
        let error = |name: &str| envelope["error"][name].as_str().map(str::to_owned);
        let detail = error("message").unwrap_or_else(|| format!("the service answered {status}: {text}"));
        let code = error("code").unwrap_or_default();
        Self { status, code, detail, hint: None, request_id: None, errors: Vec::new() }
    }

    fn report(&self) -> ExitCode {
        eprintln!("agentd: {}", plain(&without_pointer(&self.detail)));
        // One fault is what the detail says already.
        if self.errors.len() > 1 {
            for FieldError { pointer, detail } in &self.errors {
                eprintln!("  {}: {}", plain(&place(pointer)), plain(detail));
            }
        }
        if let Some(hint) = self.hint.as_deref().or_else(|| self.where_to_look()) {
            eprintln!("hint: {}", plain(hint));
        }
        if let (500.., Some(id)) = (self.status, &self.request_id) {
            eprintln!("the service's log has more under request_id {}", plain(id));
        }
        ExitCode::from(match self.code.as_str() {
            "configuration_invalid" => exit::CONFIGURATION,
            _ if self.is_for_now() => exit::TRY_AGAIN,
            _ => exit::FAILED,
        })
    }

    /// The verb that lists what there is, where something is not.
    fn where_to_look(&self) -> Option<&'static str> {
        if self.status != 404 {
            return None;
        }
        let noun = self.detail.strip_prefix("there is no such ")?;
        LISTS.iter().find(|(of, _)| *of == noun).map(|(_, hint)| *hint)
    }

    fn is_for_now(&self) -> bool {
        matches!(self.status, 429 | 503)
    }
}

/// A message as people read it who know no JSON pointers: `/name: must …` is about
/// the name, `?status: must …` about a flag.
fn without_pointer(detail: &str) -> String {
    match detail.split_once(": ") {
        Some((pointer, rest)) if pointer.starts_with(['/', '?']) && !pointer.contains(' ') => {
            format!("{}: {rest}", place(pointer))
        }
        _ => detail.to_owned(),
    }
}

fn place(pointer: &str) -> String {
    match pointer.split_at_checked(1) {
        Some(("?", name)) => format!("--{}", name.replace('_', "-")),
        Some(("/", path)) if !path.is_empty() => path.to_owned(),
        _ => pointer.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_written_for_people() {
        for (said, plain) in [
            ("/name: must not be empty", "name: must not be empty"),
            ("/targets/0/provider: there is no provider \"x\"", "targets/0/provider: there is no provider \"x\""),
            ("?created_after: must be a time", "--created-after: must be a time"),
            ("there is no such job", "there is no such job"),
            ("the input does not fit: /input: x", "the input does not fit: /input: x"),
            ("/: must be an object", "/: must be an object"),
        ] {
            assert_eq!(without_pointer(said), plain);
        }
    }

    #[test]
    fn what_is_not_there_says_where_to_look() {
        let refusal = |status, detail: &str| Refusal {
            status,
            code: "not_found".into(),
            detail: detail.into(),
            hint: None,
            request_id: None,
            errors: Vec::new(),
        };
        assert!(refusal(404, "there is no such job").where_to_look().is_some_and(|hint| hint.contains("job list")));
        assert_eq!(refusal(404, "there is nothing at this path").where_to_look(), None);
        assert_eq!(refusal(400, "there is no such job").where_to_look(), None);
    }
}
