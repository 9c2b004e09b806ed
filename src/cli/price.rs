//! `agentd price`: what language models cost.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::control::{Control, Service, read};
use super::failure::Failure;
use super::line::time;
use super::output::{Column, field, print_one, table};
use crate::http::path_segment;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    control: Control,
}

#[derive(Subcommand)]
enum Verb {
    /// List what models cost, in US dollars
    #[command(after_help = "Examples:\n  agentd price list\n  agentd price list --own\n  \
                            agentd price list --json | jq '.data[] | select(.counts).model'")]
    List {
        /// Only prices that were set here
        #[arg(long)]
        own: bool,
    },
    /// Set what a model costs, in the place of what the service comes with
    #[command(after_help = "Examples:\n  agentd price set gpt-4o-mini --input 0.15 --cached 0.075 --output 0.6\n  \
                            agentd price set local/llama3.2 --input 0 --output 0 --context-tokens 131072\n  \
                            agentd price set whisper-1 --minute 0.006 --from 2030-01-01T00:00:00Z\n\n\
                            It counts for calls that begin after this. What is not given is not kept.")]
    Set {
        /// The provider's name for it, or PROVIDER/MODEL for one provider alone
        model: String,
        #[command(flatten)]
        price: Box<Price>,
    },
    /// Remove what was set, so that the price that the service comes with counts again
    #[command(after_help = "Examples:\n  agentd price remove gpt-4o-mini\n  \
                            agentd price remove gpt-4o-mini --from 2030-01-01T00:00:00Z")]
    Remove {
        /// As it was set
        model: String,
        /// Only the price that counts from this moment
        #[arg(long, value_name = "TIME", value_parser = moment)]
        from: Option<String>,
    },
}

#[derive(clap::Args)]
struct Price {
    /// A million tokens of input
    #[arg(long, value_name = "USD", value_parser = super::line::usd, allow_negative_numbers = true)]
    input: Option<String>,
    /// A million tokens of input that the provider had cached
    #[arg(long, value_name = "USD", value_parser = super::line::usd, allow_negative_numbers = true)]
    cached: Option<String>,
    /// A million tokens of output
    #[arg(long, value_name = "USD", value_parser = super::line::usd, allow_negative_numbers = true)]
    output: Option<String>,
    /// A million tokens of audio that is sent
    #[arg(long, value_name = "USD", value_parser = super::line::usd, allow_negative_numbers = true)]
    audio_input: Option<String>,
    /// A million tokens of audio that is made
    #[arg(long, value_name = "USD", value_parser = super::line::usd, allow_negative_numbers = true)]
    audio_output: Option<String>,
    /// A minute of audio, for models that are paid by time
    #[arg(long, value_name = "USD", value_parser = super::line::usd, allow_negative_numbers = true)]
    minute: Option<String>,
    /// A million characters, for models that are paid by them
    #[arg(long, value_name = "USD", value_parser = super::line::usd, allow_negative_numbers = true)]
    characters: Option<String>,
    /// Each call, besides
    #[arg(long, value_name = "USD", value_parser = super::line::usd, allow_negative_numbers = true)]
    call: Option<String>,
    /// Tokens that input and output may have together
    #[arg(long, value_name = "N", value_parser = super::line::count, allow_negative_numbers = true)]
    context_tokens: Option<u64>,
    /// Tokens that one output may have
    #[arg(long, value_name = "N", value_parser = super::line::count, allow_negative_numbers = true)]
    output_tokens: Option<u64>,
    /// Tokens that an image counts as, at most
    #[arg(long, value_name = "N", value_parser = super::line::count, allow_negative_numbers = true)]
    image_tokens: Option<u64>,
    /// The moment that it counts from, in RFC 3339; from ever when left out
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<String>,
}

const ONE: [&str; 5] = ["model", "origin", "counts", "effective_from", "price"];
const COLUMNS: [Column; 6] = [
    ("MODEL", |row| field(row, "model")),
    ("INPUT", input),
    ("CACHED", |row| field(&row["price"], "cached_input_usd_per_million")),
    ("OUTPUT", |row| field(&row["price"], "output_usd_per_million")),
    ("FROM", |row| field(row, "effective_from")),
    ("ORIGIN", origin),
];

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let json = arguments.control.json;
    arguments.control.run(async |service| match &arguments.verb {
        Verb::List { own } => list(&service, *own, json).await,
        Verb::Set { model, price } => {
            price.refuse_unpriced()?;
            let request = service.request(Method::PUT, &path(model)).json(&price.body());
            print_one(&service.send(request).await?, json, &ONE)
        }
        Verb::Remove { model, from } => {
            let request = service.request(Method::DELETE, &path(model));
            let from: Vec<_> = from.iter().map(|from| ("effective_from", from)).collect();
            service.send(request.query(&from)).await?;
            if !json {
                say!("the price of {model} is removed");
            }
            Ok(())
        }
    })
}

impl Price {
    fn refuse_unpriced(&self) -> Result<(), Failure> {
        let ways = [&self.input, &self.minute, &self.characters].iter().filter(|way| way.is_some()).count();
        if ways == 1 {
            return Ok(());
        }
        Err(Failure::Usage("say what is paid for: exactly one of --input, --minute and --characters".into()))
    }

    fn body(&self) -> Value {
        let texts = [
            ("effective_from", &self.from),
            ("input_usd_per_million", &self.input),
            ("cached_input_usd_per_million", &self.cached),
            ("output_usd_per_million", &self.output),
            ("audio_input_usd_per_million", &self.audio_input),
            ("audio_output_usd_per_million", &self.audio_output),
            ("audio_usd_per_minute", &self.minute),
            ("characters_usd_per_million", &self.characters),
            ("call_usd", &self.call),
        ];
        let numbers = [
            ("context_tokens", self.context_tokens),
            ("output_tokens", self.output_tokens),
            ("image_tokens", self.image_tokens),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?))));
        let numbers = numbers.into_iter().filter_map(|(name, number)| Some((name.to_owned(), json!(number?))));
        texts.chain(numbers).collect::<Map<_, _>>().into()
    }
}

fn moment(text: &str) -> Result<String, String> {
    time(text).map(|_| text.to_owned())
}

async fn list(service: &Service, own: bool, json: bool) -> Result<(), Failure> {
    let text = service.get("/admin/models/prices").await?;
    let mut prices: Value = read(&text)?;
    let rows = prices["data"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let rows: Vec<_> = rows.into_iter().filter(|row| !own || row["origin"] == "own").collect();
    if json {
        prices["data"] = rows.into();
        say!("{prices}");
        return Ok(());
    }
    say!("{}", table(&rows, &COLUMNS));
    eprintln!(
        "US dollars for a million tokens, but where it says otherwise; as of {}, from {}",
        field(&prices, "as_of"),
        field(&prices, "source")
    );
    Ok(())
}

fn input(row: &Value) -> String {
    let price = &row["price"];
    if !price["audio_usd_per_minute"].is_null() {
        return format!("{} a minute", field(price, "audio_usd_per_minute"));
    }
    if !price["characters_usd_per_million"].is_null() {
        return format!("{} for characters", field(price, "characters_usd_per_million"));
    }
    field(price, "input_usd_per_million")
}

fn origin(row: &Value) -> String {
    let counts = if row["counts"] == true { "" } else { ", does not count now" };
    format!("{}{counts}", field(row, "origin"))
}

/// Where a model's price is; names have slashes in them.
fn path(model: &str) -> String {
    format!("/admin/models/prices/{}", path_segment(model))
}
