//! The agentd binary: parse the command line, hand over.

use std::process::ExitCode;

fn main() -> ExitCode {
    agentd::cli::main(agentd::app::Extras::default())
}
