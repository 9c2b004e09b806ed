//! `agentd model`: providers of language models, and what stands for their models.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::control::{Control, Service, read};
use super::failure::Failure;
use super::line::plain_name;
use super::output::{Column, field, plain, print_one, table};
use crate::text::read_utf8;

/// Bytes of a key's file that are looked at.
const KEY_BYTES: u64 = 8192;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    control: Control,
}

#[derive(Subcommand)]
enum Verb {
    /// List providers and aliases, and how they are
    #[command(after_help = "Examples:\n  agentd model list\n  agentd model list --json | jq '.providers[].breakers'")]
    List,
    /// Set up a provider: any service that speaks OpenAI's interface
    #[command(after_help = "Examples:\n  agentd model provider local --base-url http://127.0.0.1:11434/v1\n  \
                            agentd model provider mistral --base-url https://api.mistral.ai/v1 --key-file /root/mistral.key\n\n\
                            A key that is not given stays as it is. It counts at once.")]
    Provider {
        /// What it is called here
        #[arg(value_parser = plain_name)]
        name: String,
        /// Where it is, with the path that its routes are below
        #[arg(long, value_name = "URL", value_parser = super::line::http_url)]
        base_url: String,
        /// File that holds its key; - for standard input
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// It has the interface of responses
        #[arg(long)]
        responses: bool,
    },
    /// Say what an alias stands for: the first is asked, the next ones when it fails
    #[command(after_help = "Example:\n  agentd model route default openai/gpt-4.1-mini local/llama3.2")]
    Route {
        /// What clients write for the model
        #[arg(value_parser = plain_name)]
        alias: String,
        /// Each a provider and its model, parted by a slash
        #[arg(required = true, value_name = "PROVIDER/MODEL")]
        targets: Vec<String>,
    },
    /// Remove a provider with its key, or an alias
    #[command(after_help = "Examples:\n  agentd model remove provider mistral\n  agentd model remove route cheap")]
    Remove {
        /// Which of them
        what: What,
        /// Its name
        #[arg(value_parser = plain_name)]
        name: String,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    Provider,
    Route,
}

const PROVIDER: [&str; 4] = ["name", "base_url", "has_key", "responses"];
const ROUTE: [&str; 2] = ["alias", "targets"];
const PROVIDERS: [Column; 5] = [
    ("PROVIDER", |row| field(row, "name")),
    ("WHERE", |row| field(row, "base_url")),
    ("KEY", |row| yes(&row["has_key"])),
    ("CONFIGURED", |row| yes(&row["configured"])),
    ("STATE", state),
];
const ROUTES: [Column; 3] =
    [("ALIAS", |row| field(row, "alias")), ("STANDS FOR", targets), ("CONFIGURED", |row| yes(&row["configured"]))];

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let json = arguments.control.json;
    arguments.control.run(async |service| match &arguments.verb {
        Verb::List => list(&service, json).await,
        Verb::Provider { name, base_url, key_file, responses } => {
            let mut body = json!({ "base_url": base_url, "responses": responses });
            if let Some(path) = key_file {
                body["api_key"] = key(path)?.into();
            }
            let request = service.request(Method::PUT, &format!("/admin/models/providers/{name}"));
            let answer = service.send(request.json(&body)).await?;
            let mut provider: Value = read(&answer)?;
            warn(&provider);
            provider.as_object_mut().and_then(|fields| fields.remove("warnings"));
            print_one(if json { answer } else { provider.to_string() }.as_str(), json, &PROVIDER)
        }
        Verb::Route { alias, targets } => {
            let targets = targets.iter().map(|target| split(target)).collect::<Result<Vec<_>, _>>()?;
            let request = service.request(Method::PUT, &format!("/admin/models/routes/{alias}"));
            print_one(&service.send(request.json(&json!({ "targets": targets }))).await?, json, &ROUTE)
        }
        Verb::Remove { what, name } => {
            let list = match what {
                What::Provider => "providers",
                What::Route => "routes",
            };
            let path = format!("/admin/models/{list}/{name}");
            service.send(service.request(Method::DELETE, &path)).await?;
            if !json {
                say!("{name} is removed");
            }
            Ok(())
        }
    })
}

async fn list(service: &Service, json: bool) -> Result<(), Failure> {
    let text = service.get("/admin/models").await?;
    if json {
        say!("{text}");
        return Ok(());
    }
    let setup: Value = read(&text)?;
    let rows = |name: &str| setup[name].as_array().cloned().unwrap_or_default();
    let (providers, routes) = (rows("providers"), rows("routes"));
    if providers.is_empty() {
        eprintln!("no provider of models is set up; agentd model provider NAME --base-url URL sets one up");
        return Ok(());
    }
    say!("{}", table(&providers, &PROVIDERS));
    providers.iter().for_each(warn);
    if !routes.is_empty() {
        say!("\n{}", table(&routes, &ROUTES));
    }
    Ok(())
}

/// Says what is probably wrong with a provider, where it does not disturb who reads the answer.
fn warn(provider: &Value) {
    for warning in provider["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("warning: {}: {}", field(provider, "name"), plain(warning));
    }
}

/// Which of a provider's models are left alone.
fn state(provider: &Value) -> String {
    let open = |(model, state): (&String, &Value)| (state != "closed").then(|| plain(model));
    let open: Vec<_> = provider["breakers"].as_object().into_iter().flatten().filter_map(open).collect();
    if open.is_empty() { "ok".into() } else { format!("left alone: {}", open.join(", ")) }
}

fn targets(route: &Value) -> String {
    let target = |target: &Value| format!("{}/{}", field(target, "provider"), field(target, "model"));
    let targets = route["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
    targets.iter().map(target).collect::<Vec<_>>().join(", then ")
}

fn yes(value: &Value) -> String {
    if value == true { "yes" } else { "no" }.into()
}

fn split(target: &str) -> Result<Value, Failure> {
    match target.split_once('/') {
        Some((provider, model)) if !provider.is_empty() && !model.is_empty() => {
            Ok(json!({ "provider": provider, "model": model }))
        }
        _ => Err(Failure::Usage(format!("{target:?} is not PROVIDER/MODEL, such as openai/gpt-4.1-mini"))),
    }
}

/// Never an argument, which everybody on the machine can read.
fn key(path: &Path) -> Result<String, Failure> {
    let read = if path.as_os_str() == "-" {
        read_utf8(std::io::stdin().take(KEY_BYTES))
    } else {
        std::fs::File::open(path).and_then(|file| read_utf8(file.take(KEY_BYTES)))
    };
    let text =
        read.map_err(|error| Failure::other(format_args!("the key in {} cannot be read: {error}", path.display())))?;
    match text.trim() {
        "" => Err(Failure::Usage(format!("the key in {} is empty", path.display()))),
        key => Ok(key.to_owned()),
    }
}
