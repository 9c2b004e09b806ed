//! `agentd check`: the same reading of the configuration as at start.

use std::process::ExitCode;

use super::{ConfigFile, exit, fail};
use crate::clock::Clock;
use crate::config::{self, Fault, Shown, Sources, TlsMode};
use crate::telemetry::journal;
use crate::tls;
use crate::vault::{self, Standing};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  agentd check --config /etc/agentd/agentd.toml\n  agentd check --show")]
pub(super) struct Arguments {
    /// Show every key, its value (secrets masked) and where it comes from
    #[arg(long)]
    show: bool,
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match config::load(&Sources::of_process(arguments.file.config.clone())) {
        Err(faults) => report(&faults),
        Ok(loaded) => {
            if arguments.show {
                say!("{}", table(&loaded.shown));
            }
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            for note in &loaded.notes {
                eprintln!("note: {note}");
            }
            if loaded.config.tls.mode == TlsMode::Files {
                match tls::files::load(&loaded.config.tls, Clock::system().now()) {
                    Ok(shown) => {
                        shown.warnings.iter().for_each(|warning| eprintln!("warning: the certificate: {warning}"));
                    }
                    Err(fault) => {
                        eprintln!("error: {fault}");
                        return fail(exit::CONFIGURATION, "the configuration has 1 fault");
                    }
                }
            }
            match vault::examine(&loaded.config.data) {
                Ok(Standing::Unseen(why)) => eprintln!("warning: the database cannot be looked at: {why}"),
                Ok(Standing::Elsewhere(id)) => {
                    eprintln!(
                        "warning: the master key {id} cannot be seen from here; as a credential of the unit it need not"
                    );
                }
                Ok(Standing::Here(_) | Standing::Unused | Standing::Changes) => {}
                Err(fault) => {
                    eprintln!("error: {fault}");
                    return fail(exit::CONFIGURATION, "the service would not start");
                }
            }
            say!("the configuration is valid");
            ExitCode::SUCCESS
        }
    }
}

/// Says every fault.
pub(super) fn report(faults: &[Fault]) -> ExitCode {
    let before = journal::before_errors();
    for fault in faults {
        eprintln!("{before}error: {fault}");
    }
    let count = faults.len();
    eprintln!("{before}agentd: the configuration has {count} fault{}", if count == 1 { "" } else { "s" });
    ExitCode::from(exit::CONFIGURATION)
}

fn table(shown: &[Shown]) -> String {
    let width = |column: fn(&Shown) -> usize| shown.iter().map(column).max().unwrap_or(0);
    let (key, value) = (width(|row| row.key.len()), width(|row| row.value.chars().count()));
    let line = |row: &Shown| format!("{:key$}  {:value$}  {}", row.key, row.value, row.origin);
    shown.iter().map(line).collect::<Vec<_>>().join("\n")
}
