//! `agentd budget`: what the service and its tenants may spend and have spent.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::control::{Control, Service, read};
use super::failure::Failure;
use super::names;
use super::output::{Column, field, print_one, table};
use crate::budgets::OnExhausted;
use crate::money::Usd;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    control: Control,
}

#[derive(Subcommand)]
enum Verb {
    /// Show how budgets stand: a tenant's, or the service's with the last alerts
    #[command(after_help = "Examples:\n  agentd budget show\n  agentd budget show --tenant Acme\n  \
                            agentd budget show --tenant Acme --session chat-7")]
    Show {
        /// The tenant: its id, or its name when no other has the same; none: the service
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// A session of the tenant, by its name
        #[arg(long, value_name = "NAME", requires = "tenant")]
        session: Option<String>,
    },
    /// Set what a tenant may spend; what is not named stays as it is
    #[command(after_help = "Examples:\n  agentd budget set --tenant Acme --day 5 --month 50\n  \
                            agentd budget set --tenant Acme --month off --on-exhausted clamp")]
    Set {
        /// The tenant: its id, or its name when no other has the same; may be left out when there is only one
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        #[command(flatten)]
        limits: Limits,
    },
}

#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct Limits {
    /// In a day, in US dollars, or off for no limit
    #[arg(long, value_name = "USD|off", value_parser = limit, allow_negative_numbers = true)]
    day: Option<Limit>,
    /// In a calendar month
    #[arg(long, value_name = "USD|off", value_parser = limit, allow_negative_numbers = true)]
    month: Option<Limit>,
    /// In one session; off: what the service allows
    #[arg(long, value_name = "USD|off", value_parser = limit, allow_negative_numbers = true)]
    session: Option<Limit>,
    /// What happens to a call that cannot be paid: reject, clamp, downgrade or pause
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    on_exhausted: Option<OnExhausted>,
}

/// An amount, or none.
#[derive(Clone, Copy, Debug)]
struct Limit(Option<Usd>);

fn limit(text: &str) -> Result<Limit, String> {
    if text == "off" || text == "none" {
        return Ok(Limit(None));
    }
    text.parse().map(|amount| Limit(Some(amount))).map_err(|fault: crate::money::NoAmount| format!("{fault}, or off"))
}

fn policy(text: &str) -> Result<OnExhausted, String> {
    serde_json::from_value(json!(text)).map_err(|_| "must be reject, clamp, downgrade or pause".to_owned())
}

const FIRST: [&str; 4] = ["day_usd", "month_usd", "session_usd", "on_exhausted"];
const STANDING: [Column; 6] = [
    ("BUDGET", |row| field(row, "scope")),
    ("LIMIT", |row| field(row, "limit_usd")),
    ("SPENT", |row| field(row, "spent_usd")),
    ("RESERVED", |row| field(row, "reserved_usd")),
    ("LEFT", |row| field(row, "left_usd")),
    ("RESETS", |row| field(row, "resets_at")),
];
const ALERTS: [Column; 6] = [
    ("AT", |row| field(row, "at")),
    ("BUDGET", |row| field(row, "scope")),
    ("TENANT", names::tenant),
    ("KEY", names::key),
    ("PERCENT", |row| field(row, "percent")),
    ("SPENT", |row| field(row, "spent_usd")),
];

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let json = arguments.control.json;
    arguments.control.run(async |service| match &arguments.verb {
        Verb::Show { tenant: None, .. } => show_service(&service, json).await,
        Verb::Show { tenant: Some(tenant), session } => show(&service, tenant, session.as_deref(), json).await,
        Verb::Set { tenant, limits } => set(&service, tenant.as_deref(), limits, json).await,
    })
}

async fn show_service(service: &Service, json: bool) -> Result<(), Failure> {
    let text = service.get("/admin/budget").await?;
    if json {
        return print_one(&text, json, &[]);
    }
    let budget: Value = read(&text)?;
    say!("{}", table(&[budget["day"].clone()], &STANDING));
    let mut alerts = budget["alerts"].as_array().cloned().unwrap_or_default();
    if !alerts.is_empty() {
        names::add(service, &mut alerts).await?;
        say!("\n{}", table(&alerts, &ALERTS));
    }
    Ok(())
}

async fn show(service: &Service, tenant: &str, session: Option<&str>, json: bool) -> Result<(), Failure> {
    let id = service.tenant_id(Some(tenant)).await?;
    let acting = service.acting_for(id);
    let mut request = acting.request(Method::GET, "/v1/budget");
    if let Some(session) = session {
        request = request.query(&[("session", session)]);
    }
    let text = acting.send(request).await?;
    if json {
        return print_one(&text, json, &[]);
    }
    let budget: Value = read(&text)?;
    let none = Vec::new();
    // The command line calls with no key.
    let rows = budget["data"].as_array().unwrap_or(&none).iter().filter(|row| row["scope"] != "key").cloned();
    say!("{}", table(&rows.collect::<Vec<_>>(), &STANDING));
    say!("\non_exhausted  {}", field(&budget, "on_exhausted"));
    Ok(())
}

async fn set(service: &Service, tenant: Option<&str>, limits: &Limits, json: bool) -> Result<(), Failure> {
    let path = format!("/admin/tenants/{}/budget", service.tenant_id(tenant).await?);
    let mut budget: Value = read(&service.get(&path).await?)?;
    for (name, limit) in [("day_usd", limits.day), ("month_usd", limits.month), ("session_usd", limits.session)] {
        if let Some(Limit(amount)) = limit {
            budget[name] = json!(amount);
        }
    }
    if let Some(policy) = limits.on_exhausted {
        budget["on_exhausted"] = json!(policy);
    }
    let text = service.send(service.request(Method::PUT, &path).json(&budget)).await?;
    print_one(&text, json, &FIRST)
}
