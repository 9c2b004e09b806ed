//! `agentd setup`: from a fresh installation to a service with a domain, a
//! certificate, a first user and a first key. Run again after a failure it goes
//! on where it can.

mod answers;
mod running;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use toml_edit::Array;

use super::control::Control;
use super::exit;
use super::failure::Failure;
use super::output::{field, plain};
use super::password::Chosen;
use crate::config::{EditError, FileEdit, Sources};
use answers::{Answers, Plan};
use running::{Made, Running, Seen};

/// The configuration file of an installed service.
const FILE: &str = "/etc/agentd/agentd.toml";

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  sudo agentd setup --domain agents.example.com --email ops@example.com\n  \
                        sudo agentd setup --answers answers.toml\n  \
                        sudo agentd setup --domain agents.example.com --email ops@example.com --accept-terms \
                        --generate-password\n\n\
                        What is not said is asked for on a terminal. A file of answers is TOML and has the flags' \
                        names as keys, with _ for -: domain, email, accept_terms, admin, password_file, …\n\n\
                        It changes the configuration file (/etc/agentd/agentd.toml unless --config names another), \
                        restarts the service, makes the first user, a tenant and its key, and follows the \
                        certificate's order. What was made up is printed once. It ends with 75 when the \
                        certificate is not there yet; the service goes on trying.")]
pub(super) struct Arguments {
    #[command(flatten)]
    answers: Answers,
    /// File with answers to what no flag says
    #[arg(long = "answers", value_name = "FILE")]
    answers_file: Option<PathBuf>,
    /// Leave the running service alone: somebody else restarts it
    #[arg(long)]
    no_restart: bool,
    /// How long to follow the certificate's order; it goes on by itself afterwards
    #[arg(long, value_name = "SPAN", default_value = "3m", value_parser = super::line::span)]
    wait: Duration,
    #[command(flatten)]
    control: Control,
}

/// What is known at the end.
struct Outcome {
    made: Option<Made>,
    /// Whether the service runs with the new configuration.
    is_live: bool,
    /// What of the certificates was seen.
    certificates: Seen,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let from_file = arguments.answers_file.as_deref().map(Answers::read).transpose()?;
    let plan = arguments.answers.clone().over(from_file.unwrap_or_default()).plan()?;
    let (control, file, sources) = arguments.control.with_file(Path::new(FILE));
    control.run(async |service| {
        let running = Running::new(service);
        let before = running.look().await?;
        // Asked for before anything is changed, and only when it is needed.
        let is_first = before.as_ref().is_none_or(|before| before.in_setup);
        let password = if is_first { Some(plan.password.get(plan.admin.as_str())?) } else { None };
        let changed = configure(&file, &plan, &sources)?;
        let what = if changed { "has been changed" } else { "says all this already" };
        eprintln!("{} {what}", file.display());
        // What has been changed counts after a restart.
        let current = before.as_ref().is_some_and(|before| !changed && before.is_current(&plan));
        let outcome = bring_up(&running, &plan, (before.is_some(), current), password.as_ref(), arguments).await?;
        tell(&plan, &outcome, password.as_ref(), control.json);
        // All that is left goes on by itself.
        if outcome.certificates.is_waiting { Err(Failure::Told(exit::TRY_AGAIN)) } else { Ok(()) }
    })
}

/// Writes what was answered; whether that changed anything.
fn configure(file: &Path, plan: &Plan, sources: &Sources) -> Result<bool, Failure> {
    let told = |error: EditError| match error {
        EditError::Faults(faults) => Failure::Configuration(faults),
        EditError::Io { ref source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            Failure::other(format_args!("{error}; only root may change it: try sudo"))
        }
        error @ EditError::Io { .. } => Failure::other(error),
    };
    let mut edit = FileEdit::open(file).map_err(told)?;
    let mut set = |section, key, value: toml_edit::Value| edit.set(section, key, value).map_err(told);
    set("server", "listen", plan.listen.to_string().into())?;
    set("server", "http_listen", plan.http_listen.to_string().into())?;
    set("tls", "mode", "acme".into())?;
    let domains: Array = plan.domains.iter().map(ToString::to_string).collect();
    set("acme", "domains", domains.into())?;
    set("acme", "email", plan.email.as_str().into())?;
    if let Some(directory) = &plan.directory {
        set("acme", "directories", Array::from_iter([directory.as_str()]).into())?;
    }
    if let Some(ca_file) = &plan.ca_file {
        set("acme", "ca_file", ca_file.to_string_lossy().into_owned().into())?;
    }
    let changes = edit.is_changed();
    // Also what was there before must be something to start with.
    if changes {
        for warning in edit.save(sources).map_err(told)?.warnings {
            eprintln!("warning: {}", plain(&warning));
        }
    }
    Ok(changes)
}

/// Brings the service to what the file says, and makes what it lacks.
async fn bring_up(
    running: &Running,
    plan: &Plan,
    (is_running, is_current): (bool, bool),
    password: Option<&Chosen>,
    arguments: &Arguments,
) -> Result<Outcome, Failure> {
    let is_live = is_current || (!arguments.no_restart && running.restart(is_running)?);
    let now = if is_live && !is_current { running.until_current(plan).await? } else { running.must_look().await? };
    let made = match password {
        Some(password) if now.in_setup => Some(running.complete(plan, password).await?),
        _ => None,
    };
    // Seen this once, so it is shown before anything else can go wrong.
    if !arguments.control.json {
        tell_made(plan, made.as_ref(), password);
    }
    let certificates = if is_live { running.follow(plan, arguments.wait).await } else { Seen::default() };
    Ok(Outcome { made, is_live, certificates })
}

/// The password, where it was made up here and nobody has seen it.
fn generated<'a>(made: Option<&Made>, password: Option<&'a Chosen>) -> Option<&'a str> {
    password.filter(|chosen| chosen.generated && made.is_some()).map(|chosen| chosen.password.reveal())
}

fn tell_made(plan: &Plan, made: Option<&Made>, password: Option<&Chosen>) {
    line("console", &plan.address());
    let Some(made) = made else { return line("admin", "there was one already; agentd admin list shows who") };
    line("admin", &plain(&made.admin));
    if let Some(password) = generated(Some(made), password) {
        line("password", &format!("{password}  (shown this once)"));
    }
    line("tenant", &format!("{}  {}", plain(&plan.tenant), plain(&made.tenant_id)));
    line("API key", &format!("{}  (shown this once)", plain(&made.key)));
}

fn line(name: &str, text: &str) {
    super::print_line(format_args!("{name:<12}{text}"));
}

fn tell(plan: &Plan, outcome: &Outcome, password: Option<&Chosen>, json: bool) {
    if json {
        let made = outcome.made.as_ref();
        let value = json!({
            "address": plan.address(),
            "admin": made.map(|made| &made.admin),
            "password": generated(made, password),
            "tenant_id": made.map(|made| &made.tenant_id),
            "key": made.map(|made| &made.key),
            "needs_restart": !outcome.is_live,
            "certificates": outcome.certificates.rows,
        });
        say!("{value}");
        return;
    }
    for row in &outcome.certificates.rows {
        line("certificate", &certificate(row));
    }
    if !outcome.is_live {
        say!("\nThe service still runs as it was configured before. Restart it (systemctl restart agentd); then");
        say!("agentd status shows how it is, and agentd cert list how far the certificate is.");
    } else if outcome.certificates.is_waiting {
        say!("\nThe certificate is not there yet. The service goes on trying by itself;");
        say!("agentd cert list shows how far it is, agentd status whether anything is wrong.");
    }
}

fn certificate(row: &Value) -> String {
    match row["not_after"].as_str() {
        Some(_) => format!("{}, until {}", field(row, "name"), field(row, "not_after")),
        None => format!("{}, not there yet", field(row, "name")),
    }
}
