//! `agentd batch`: batches of calls to language models, of a tenant.

use clap::Subcommand;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::control::{Control, Rows, Service, read};
use super::failure::Failure;
use super::output::{Column, field, print_list, print_one};
use crate::clock::Timestamp;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// The tenant: its id, or its name when no other has the same; may be left out when there is only one
    #[arg(long, value_name = "TENANT", global = true)]
    tenant: Option<String>,
    #[command(flatten)]
    control: Control,
}

#[derive(Subcommand)]
enum Verb {
    /// List batches, the newest first
    #[command(after_help = "Example:\n  agentd batch list --tenant Acme")]
    List {
        /// Rows at most
        #[arg(long, default_value_t = 50, value_parser = super::line::rows, allow_negative_numbers = true)]
        limit: usize,
    },
    /// Show one batch: how far it is, its files, what is wrong with its input
    #[command(after_help = "Example:\n  agentd batch show --tenant Acme batch_01a1fb1ce4e770009b1aace7e35e343e")]
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// End a batch; what has been answered is kept
    #[command(after_help = "Example:\n  agentd batch cancel --tenant Acme batch_01a1fb1ce4e770009b1aace7e35e343e")]
    Cancel {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(clap::Args)]
struct Which {
    #[arg(value_name = "BATCH_ID", value_parser = batch_id, help = "The batch's id, as agentd batch list shows it")]
    batch: String,
}

fn batch_id(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("batch_").unwrap_or_default();
    let good = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if good {
        Ok(text.to_owned())
    } else {
        Err("must be a batch's id, batch_ and 32 hexadecimal digits; agentd batch list shows them".into())
    }
}

/// Rows that one request asks for.
const PAGE: usize = 100;
const FIRST: [&str; 7] =
    ["id", "status", "endpoint", "request_counts", "input_file_id", "output_file_id", "error_file_id"];
const COLUMNS: [Column; 6] = [
    ("BATCH", |row| field(row, "id")),
    ("STATUS", |row| field(row, "status")),
    ("ENDPOINT", |row| field(row, "endpoint")),
    ("DONE", |row| {
        format!("{}/{}", field(&row["request_counts"], "completed"), field(&row["request_counts"], "total"))
    }),
    ("FAILED", |row| field(&row["request_counts"], "failed")),
    ("CREATED", |row| moment(&row["created_at"])),
];

fn moment(seconds: &Value) -> String {
    let moment = |seconds: i64| Timestamp::from_micros(seconds.saturating_mul(1_000_000)).to_string();
    let text = seconds.as_i64().map(moment).unwrap_or_default();
    text.split_once('.').map_or(text.clone(), |(whole, _)| format!("{whole}Z"))
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let json = arguments.control.json;
    arguments.control.run(async |service| {
        let service = service.acting_for(service.tenant_id(arguments.tenant.as_deref()).await?);
        match &arguments.verb {
            Verb::List { limit } => print_list(&list(&service, *limit).await?, json, &COLUMNS),
            Verb::Show { which } => print_one(&service.get(&which.path()).await?, json, &FIRST),
            Verb::Cancel { which } => {
                let text = service.send(service.request(Method::POST, &format!("{}/cancel", which.path()))).await?;
                if json {
                    return print_one(&text, json, &FIRST);
                }
                match read::<Value>(&text)?["status"].as_str() {
                    Some("cancelled") => say!("the batch is cancelled"),
                    _ => say!("the batch has been told to end; agentd batch show tells when it has"),
                }
                Ok(())
            }
        }
    })
}

impl Which {
    fn path(&self) -> String {
        format!("/v1/batches/{}", self.batch)
    }
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Box<RawValue>>,
    last_id: Option<String>,
    has_more: bool,
}

async fn list(service: &Service, limit: usize) -> Result<Rows, Failure> {
    let mut listed = Rows { rows: Vec::new(), next_cursor: None };
    loop {
        let wanted = (limit - listed.rows.len()).min(PAGE);
        let mut request = service.request(Method::GET, "/v1/batches").query(&[("limit", wanted)]);
        if let Some(after) = listed.next_cursor.take() {
            request = request.query(&[("after", after)]);
        }
        let page: Page = read(&service.send(request).await?)?;
        listed.rows.extend(page.data);
        listed.next_cursor = page.last_id.filter(|_| page.has_more);
        if listed.next_cursor.is_none() || listed.rows.len() >= limit {
            return Ok(listed);
        }
    }
}
