//! `agentd openapi`: the interface's description, from the code; no service is
//! asked.

use std::path::PathBuf;

use super::failure::Failure;
use crate::app;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  agentd openapi --output openapi.json\n  agentd openapi | jq -r '.paths | keys[]'")]
pub(super) struct Arguments {
    /// Write it to this file instead of to standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&app::routes().document()).map_err(Failure::other)?;
    let Some(path) = &arguments.output else {
        say!("{text}");
        return Ok(());
    };
    let written = std::fs::write(path, text + "\n");
    written.map_err(|error| Failure::other(format_args!("{} cannot be written: {error}", path.display())))
}
