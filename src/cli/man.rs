//! `agentd man`: the manual pages, from the same words as `--help`.

use std::path::PathBuf;

use clap::CommandFactory as _;

use super::failure::Failure;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  agentd man /usr/share/man/man1")]
pub(super) struct Arguments {
    /// Folder that they are written to
    dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let dir = arguments.dir.display();
    // The verb `help` of each verb would be a page of its own.
    let command = super::Line::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, &arguments.dir)
        .map_err(|error| Failure::other(format_args!("the manual pages cannot be written to {dir}: {error}")))
}
