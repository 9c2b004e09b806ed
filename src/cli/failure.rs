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
        eprintln!("agentd: {}", plain(&self.detail));
        // One fault is what the detail says already.
        if self.errors.len() > 1 {
            for FieldError { pointer, detail } in &self.errors {
                eprintln!("  {}: {}", plain(pointer), plain(detail));
            }
        }
        if let Some(hint) = &self.hint {
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

    fn is_for_now(&self) -> bool {
        matches!(self.status, 429 | 503)
    }
}
