//! `agentd tenant`: tenants of the running service.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::control::{Control, Service, read};
use super::failure::Failure;
use super::output::{Column, confirm, field, print_list, print_one};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    control: Control,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a tenant; prints its id
    #[command(after_help = "Example:\n  agentd tenant create Acme")]
    Create {
        /// For people; two tenants may have the same
        name: String,
    },
    /// List tenants, newest first
    #[command(after_help = "Examples:\n  agentd tenant list\n  agentd tenant list --json | jq -r '.data[].tenant_id'")]
    List {
        /// Rows at most
        #[arg(long, default_value_t = 50, value_parser = super::line::rows, allow_negative_numbers = true)]
        limit: usize,
    },
    /// Show one tenant
    #[command(after_help = "Example:\n  agentd tenant show Acme")]
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Refuse a tenant's keys and let its jobs wait, until it is resumed
    #[command(after_help = "Example:\n  agentd tenant suspend Acme\n\n\
                            Jobs that run already go on; agentd job cancel ends them.")]
    Suspend {
        #[command(flatten)]
        which: Which,
    },
    /// Let a suspended tenant go on
    #[command(after_help = "Example:\n  agentd tenant resume Acme")]
    Resume {
        #[command(flatten)]
        which: Which,
    },
    /// Give a tenant another name
    #[command(after_help = "Example:\n  agentd tenant rename Acme 'Acme Ltd'")]
    Rename {
        #[command(flatten)]
        which: Which,
        /// The new name
        name: String,
    },
    /// Delete a tenant with its keys and jobs, for good
    #[command(
        after_help = "Examples:\n  agentd tenant delete Acme\n  agentd tenant delete Acme --yes      # in a script"
    )]
    Delete {
        #[command(flatten)]
        which: Which,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(clap::Args)]
struct Which {
    /// Its id, or its name when no other has the same
    tenant: String,
}

const FIRST: [&str; 4] = ["tenant_id", "name", "status", "cohort"];
const COLUMNS: [Column; 4] = [
    ("TENANT", |row| field(row, "tenant_id")),
    ("NAME", |row| field(row, "name")),
    ("STATUS", |row| field(row, "status")),
    ("CREATED", |row| field(row, "created_at")),
];

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let json = arguments.control.json;
    arguments.control.run(async |service| match &arguments.verb {
        Verb::Create { name } => create(&service, name, json).await,
        Verb::List { limit } => print_list(&service.list("/admin/tenants", &[], *limit).await?, json, &COLUMNS),
        Verb::Show { which } => {
            let path = which.path(&service).await?;
            print_one(&service.get(&path).await?, json, &FIRST)
        }
        Verb::Suspend { which } => {
            change(&service, which, &json!({ "status": "suspended" }), json, |name| {
                format!("{name} is suspended: its keys are refused and its jobs wait")
            })
            .await
        }
        Verb::Resume { which } => {
            change(&service, which, &json!({ "status": "active" }), json, |name| format!("{name} is active")).await
        }
        Verb::Rename { which, name } => {
            change(&service, which, &json!({ "name": name }), json, |name| format!("its name is {name} now")).await
        }
        Verb::Delete { which, yes } => delete(&service, which, *yes, json).await,
    })
}

impl Which {
    async fn path(&self, service: &Service) -> Result<String, Failure> {
        Ok(format!("/admin/tenants/{}", service.tenant_id(Some(&self.tenant)).await?))
    }
}

async fn create(service: &Service, name: &str, json: bool) -> Result<(), Failure> {
    let request = service.request(Method::POST, "/admin/tenants").json(&json!({ "name": name }));
    let text = service.send(request).await?;
    if json {
        return print_one(&text, json, &FIRST);
    }
    let made: Value = read(&text)?;
    say!("{}", field(&made, "tenant_id"));
    eprintln!("made; agentd key create --tenant {} --name NAME gives it a key", field(&made, "tenant_id"));
    Ok(())
}

async fn change(
    service: &Service,
    which: &Which,
    body: &Value,
    json: bool,
    told: impl FnOnce(&str) -> String,
) -> Result<(), Failure> {
    let path = which.path(service).await?;
    let text = service.send(service.request(Method::PATCH, &path).json(body)).await?;
    if json {
        return print_one(&text, json, &FIRST);
    }
    say!("{}", told(&field(&read(&text)?, "name")));
    Ok(())
}

async fn delete(service: &Service, which: &Which, yes: bool, json: bool) -> Result<(), Failure> {
    let path = which.path(service).await?;
    let tenant: Value = read(&service.get(&path).await?)?;
    let name = field(&tenant, "name");
    if !yes {
        confirm(&format!("Delete the tenant {name} ({}) with its keys and jobs?", field(&tenant, "tenant_id")))?;
    }
    service.send(service.request(Method::DELETE, &path)).await?;
    if !json {
        say!("{name} is deleted");
    }
    Ok(())
}
