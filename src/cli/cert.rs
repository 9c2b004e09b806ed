//! `agentd cert`: the certificates of the running service.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::control::{Control, Rows, Service, read};
use super::exit;
use super::failure::Failure;
use super::output::{Column, field, plain, print_list, print_one};

/// How often it is asked whether a certificate has been issued.
const ASK_EVERY: Duration = Duration::from_millis(300);

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
        name: Option<String>,
        /// Print the job's id and do not wait for its end
        #[arg(long)]
        no_wait: bool,
    },
    /// Revoke a certificate for good; another is ordered at once
    #[command(after_help = "Example:\n  agentd cert revoke agents.example.com --reason key-compromise")]
    Revoke {
        /// Which
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
    ("PROBLEM", |row| field(row, "problem")),
];

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let json = arguments.control.json;
    arguments.control.run(async |service| match &arguments.verb {
        Verb::List => print_list(&Rows { rows: all(&service).await?, next_cursor: None }, json, &COLUMNS),
        Verb::Renew { name, no_wait } => renew(&service, name.as_deref(), *no_wait, json).await,
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

async fn all(service: &Service) -> Result<Vec<Box<RawValue>>, Failure> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Box<RawValue>>,
    }
    Ok(read::<List>(&service.get("/admin/certificates").await?)?.data)
}

fn path(name: &str, verb: &str) -> String {
    // A star and the colons of an address are taken as they are.
    format!("/admin/certificates/{}/{verb}", name.trim().to_ascii_lowercase())
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
    let job = loop {
        let text = service.get(&format!("/admin/jobs/{job}")).await?;
        let job: Value = read(&text)?;
        if !job["finished_at"].is_null() {
            break job;
        }
        tokio::time::sleep(ASK_EVERY).await;
    };
    let rows = all(service).await?;
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
    let rows = all(service).await?;
    let rows = rows.iter().map(|row| read::<Value>(row.get())).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = rows.iter().filter(|row| row["source"] == "acme").map(|row| field(row, "name")).collect();
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Failure::other("no certificate is ordered by ACME: tls.mode and acme.domains say for which names")),
        several => Err(Failure::Usage(format!("say which: {}", several.join(", ")))),
    }
}
