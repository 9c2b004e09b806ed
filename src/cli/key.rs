//! `agentd key`: API keys of a tenant.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::control::{Control, Service, read};
use super::failure::Failure;
use super::output::{Column, field, print_list, print_one};
use crate::clock::{Timestamp, system_now};
use crate::config::parse_span;

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
    /// Make a key; prints it, this once
    #[command(after_help = "Examples:\n  agentd key create --tenant Acme --name backend\n  \
                            agentd key create --tenant Acme --name reports --scope jobs:read --expires 30d\n  \
                            KEY=$(agentd key create --tenant Acme --name ci --test)")]
    Create {
        /// For people
        #[arg(long)]
        name: String,
        /// What it may do, such as jobs:read; may be given again; none: everything
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// When it stops counting: after a span such as 30d, or at a time such as 2030-01-31T09:30:00Z
        #[arg(long, value_name = "SPAN|TIME", value_parser = expiry)]
        expires: Option<Timestamp>,
        #[arg(long, help = "A key that begins with agk_test_, with the same rights")]
        test: bool,
    },
    /// List a tenant's keys, newest first
    #[command(after_help = "Example:\n  agentd key list --tenant Acme")]
    List {
        /// Rows at most
        #[arg(long, default_value_t = 50, value_parser = super::line::rows, allow_negative_numbers = true)]
        limit: usize,
    },
    /// Show one key, without its secret, which is not kept
    #[command(after_help = "Example:\n  agentd key show --tenant Acme uuQwHQxz1Gm2")]
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Take a key away, at once and for good
    #[command(after_help = "Example:\n  agentd key revoke --tenant Acme uuQwHQxz1Gm2")]
    Revoke {
        #[command(flatten)]
        which: Which,
    },
    /// Make a new key in the place of one, which stops counting; prints the new one, this once
    #[command(after_help = "Examples:\n  agentd key rotate --tenant Acme uuQwHQxz1Gm2\n  \
                            agentd key rotate --tenant Acme uuQwHQxz1Gm2 --grace 1h      # both count for an hour")]
    Rotate {
        #[command(flatten)]
        which: Which,
        /// How long the old key still counts, such as 1h; none: no longer
        #[arg(long, value_name = "SPAN", value_parser = super::line::span, allow_negative_numbers = true)]
        grace: Option<std::time::Duration>,
    },
}

#[derive(clap::Args)]
struct Which {
    #[arg(value_name = "KEY_ID", value_parser = key_id, help = "The key's id, as agentd key list shows it")]
    key: String,
}

const FIRST: [&str; 4] = ["key_id", "name", "prefix", "status"];
const COLUMNS: [Column; 6] = [
    ("KEY", |row| field(row, "key_id")),
    ("NAME", |row| field(row, "name")),
    ("STATUS", |row| field(row, "status")),
    ("SCOPES", |row| field(row, "scopes")),
    ("EXPIRES", |row| field(row, "expires_at")),
    ("LAST USED", |row| field(row, "last_used_at")),
];

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let json = arguments.control.json;
    arguments.control.run(async |service| {
        let tenant = service.tenant_id(arguments.tenant.as_deref()).await?;
        let keys = format!("/admin/tenants/{tenant}/keys");
        match &arguments.verb {
            Verb::Create { name, scopes, expires, test } => {
                let mut body = Map::from_iter([("name".to_owned(), json!(name)), ("test".to_owned(), json!(test))]);
                if !scopes.is_empty() {
                    body.insert("scopes".into(), json!(scopes));
                }
                if let Some(end) = expires {
                    body.insert("expires_at".into(), json!(end));
                }
                make(&service, &keys, &body.into(), json).await
            }
            Verb::List { limit } => print_list(&service.list(&keys, &[], *limit).await?, json, &COLUMNS),
            Verb::Show { which } => print_one(&service.get(&format!("{keys}/{}", which.key)).await?, json, &FIRST),
            Verb::Revoke { which } => {
                let revoke = service.request(Method::POST, &format!("{keys}/{}/revoke", which.key));
                let text = service.send(revoke).await?;
                if json {
                    return print_one(&text, json, &FIRST);
                }
                let revoked: Value = read(&text)?;
                say!("{} ({}) is revoked", field(&revoked, "key_id"), field(&revoked, "name"));
                Ok(())
            }
            Verb::Rotate { which, grace } => {
                let body = grace.map_or_else(|| json!({}), |grace| json!({ "grace_seconds": grace.as_secs() }));
                make(&service, &format!("{keys}/{}/rotate", which.key), &body, json).await
            }
        }
    })
}

/// Makes a key and prints its secret: the one time that it is seen.
async fn make(service: &Service, path: &str, body: &Value, json: bool) -> Result<(), Failure> {
    let text = service.send(service.request(Method::POST, path).json(body)).await?;
    if json {
        return print_one(&text, json, &FIRST);
    }
    let made: Value = read(&text)?;
    say!("{}", field(&made, "api_key"));
    eprintln!("this is the key {}; keep it now, it is not shown again", field(&made, "key_id"));
    Ok(())
}

fn key_id(text: &str) -> Result<String, String> {
    let is_id = (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_id {
        Ok(text.to_owned())
    } else {
        Err("must be a key's id, such as uuQwHQxz1Gm2; agentd key list shows them".into())
    }
}

fn expiry(text: &str) -> Result<Timestamp, String> {
    let end = parse_span(text).map(|span| system_now().plus(span)).or_else(|| Timestamp::parse(text));
    end.ok_or_else(|| "must be a span such as 30d, or a time such as 2030-01-31T09:30:00Z".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_span_or_a_time() {
        assert_eq!(expiry("2030-01-31T09:30:00Z").map(|end| end.to_string()), Ok("2030-01-31T09:30:00.000000Z".into()));
        let (before, end) = (system_now(), expiry("30d").expect("a span"));
        assert!(end >= before.plus(std::time::Duration::from_hours(30 * 24)));
        assert!(expiry("soon").is_err());
    }

    #[test]
    fn a_key_is_named_by_its_id_only() {
        assert_eq!(key_id("uuQwHQxz1Gm2"), Ok("uuQwHQxz1Gm2".into()));
        for wrong in ["", "..", "a/b", "agk_live_uuQwHQxz1Gm2_secret"] {
            assert!(key_id(wrong).is_err(), "{wrong}");
        }
    }
}
