//! `agentd cert`: the certificates of the running service.

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::control::{Control, Rows, Service, read};
use super::exit;
use super::failure::Failure;
use super::output::{Column, field, plain, print_list, print_one};
use crate::config::CertName;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    control: Control,
}

#[derive(Subcommand)]
enum Verb {
    /// List certificates: where each comes from, when it ends, what is wrong
    #[command(after_help = "Examples:\n  agentd cert list\n  agentd cert list --json | jq '.data[].problem'")]
    List,
    /// Renew a certificate now, whether or not it is due, and wait for it
    #[command(after_help = "Examples:\n  agentd cert renew\n  agentd cert renew agents.example.com --no-wait")]
    Renew {
        /// Which; may be left out where there is only one
        #[arg(value_parser = name)]
        name: Option<String>,
        /// Print the job's id and do not wait for its end
        #[arg(long)]
        no_wait: bool,
    },
    /// Give the accounts with certificate authorities other keys
    #[command(after_help = "Example:\n  agentd cert rotate-account-key")]
    RotateAccountKey,
    /// Revoke a certificate for good; another is ordered at once
    #[command(after_help = "Example:\n  agentd cert revoke agents.example.com --reason key-compromise")]
    Revoke {
        /// Which
        #[arg(value_parser = name)]
        name: String,
        /// Why
        #[arg(long, value_enum, default_value_t = Reason::Unspecified)]
        reason: Reason,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Reason {
    Unspecified,
    KeyCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
}

const FIRST: [&str; 6] = ["name", "source", "status", "not_after", "issuer", "problem"];
const COLUMNS: [Column; 6] = [
    ("NAME", |row| field(row, "name")),
    ("SOURCE", |row| field(row, "source")),
    ("STATUS", |row| field(row, "status")),
    ("VALID UNTIL", |row| field(row, "not_after")),
    ("NEXT ATTEMPT", |row| field(row, "next_attempt_at")),
    ("PROBLEM", problem),
];

/// What went wrong, or else what clients may object to.
fn problem(row: &Value) -> String {
    let warnings = row["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    match row["problem"].as_str() {
        Some(_) => field(row, "problem"),
        None => plain(&warnings.collect::<Vec<_>>().join("; ")),
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let json = arguments.control.json;
    arguments.control.run(async |service| match &arguments.verb {
        Verb::List => {
            print_list(&Rows { rows: service.rows("/admin/certificates").await?, next_cursor: None }, json, &COLUMNS)
        }
        Verb::Renew { name, no_wait } => renew(&service, name.as_deref(), *no_wait, json).await,
        Verb::RotateAccountKey => {
            let text = service.send(service.request(Method::POST, "/admin/acme-accounts/rotate-keys")).await?;
            if json {
                say!("{}", text.trim_end());
                return Ok(());
            }
            match read::<Value>(&text)?["directories"].as_array().map(Vec::as_slice) {
                None | Some([]) => say!("there is no account with an authority"),
                Some(all) => all.iter().for_each(|directory| {
                    say!("the account with {} has another key", plain(directory.as_str().unwrap_or_default()));
                }),
            }
            Ok(())
        }
        Verb::Revoke { name, reason } => {
            let reason = reason.to_possible_value().map(|value| value.get_name().replace('-', "_"));
            let request = service.request(Method::POST, &path(name, "revoke")).json(&json!({ "reason": reason }));
            let text = service.send(request).await?;
            if json {
                return print_one(&text, json, &FIRST);
            }
            say!("the certificate of {} is revoked; another is being ordered", plain(name));
            Ok(())
        }
    })
}

fn name(text: &str) -> Result<String, String> {
    CertName::read(text.trim()).map(|name| name.to_string())
}

fn path(name: &str, verb: &str) -> String {
    // A star and the colons of an address are taken as they are.
    format!("/admin/certificates/{name}/{verb}")
}

async fn renew(service: &Service, name: Option<&str>, no_wait: bool, json: bool) -> Result<(), Failure> {
    let name = match name {
        Some(name) => name.to_owned(),
        None => only(service).await?,
    };
    let text = service.send(service.request(Method::POST, &path(&name, "renew"))).await?;
    let job = field(&read::<Value>(&text)?, "job_id");
    if no_wait {
        say!("{job}");
        return Ok(());
    }
    let job = service.ended_job(&job).await?;
    let rows = service.rows("/admin/certificates").await?;
    let state = rows.iter().find(|row| read::<Value>(row.get()).is_ok_and(|row| field(&row, "name") == name));
    match (job["status"].as_str(), state) {
        (Some("succeeded"), Some(state)) => print_one(state.get(), json, &FIRST),
        (_, Some(state)) if json => {
            say!("{}", state.get());
            Err(Failure::Told(exit::FAILED))
        }
        _ => Err(Failure::other(format_args!("no certificate for {name}: {}", field(&job["error"], "message")))),
    }
}

/// The name of the only certificate that can be renewed.
async fn only(service: &Service) -> Result<String, Failure> {
    let rows = service.rows("/admin/certificates").await?;
    let rows = rows.iter().map(|row| read::<Value>(row.get())).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = rows.iter().filter(|row| row["source"] == "acme").map(|row| field(row, "name")).collect();
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Failure::other("no certificate is ordered by ACME: tls.mode and acme.domains say for which names")),
        several => Err(Failure::Usage(format!("say which: {}", several.join(", ")))),
    }
}
