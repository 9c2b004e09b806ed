//! The command line: one file per verb.

/// Prints a line for people. When nobody reads any more (`agentd … | head`) the
/// program ends quietly instead of panicking.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::print_line(format_args!($($text)*)) };
}

mod check;
mod demo;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::Extras;

/// Exit codes, those of sysexits.h where it has one.
pub mod exit {
    /// The service or the verb failed.
    pub const FAILED: u8 = 1;
    /// Something that it needs is not there, such as the port.
    pub const UNAVAILABLE: u8 = 69;
    /// The same may work later.
    pub const TRY_AGAIN: u8 = 75;
    /// The configuration must be changed first.
    pub const CONFIGURATION: u8 = 78;
}

/// A self-hosted agent service: durable jobs over HTTP.
#[derive(Parser)]
#[command(name = "agentd", version, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 ok, 1 failed, 2 wrong usage, 69 something is not available, \
                        75 try again later, 78 the configuration is wrong.")]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the service until it is told to stop
    Serve(serve::Arguments),
    /// Start a service on a fresh folder, do some real work in it, leave it running
    Demo(demo::Arguments),
    /// Check the configuration, as starting does
    Check(check::Arguments),
    /// Print the version
    Version,
}

/// Which configuration file a verb reads.
#[derive(clap::Args)]
struct ConfigFile {
    /// Configuration file; none: defaults and the environment
    #[arg(long, value_name = "FILE", env = "AGENTD_CONFIG")]
    config: Option<PathBuf>,
}

/// Runs the verb of the command line.
#[must_use]
pub fn main(extras: Extras) -> ExitCode {
    // The allocator asks for pages of 2 MiB, most of which then lie idle: a
    // service at rest would take twice the memory. Where the kernel refuses,
    // it is only that memory.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    match Line::parse().verb {
        Verb::Serve(arguments) => serve::run(&arguments, extras),
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Version => {
            say!("agentd {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}

/// Says on standard error what went wrong.
fn fail(code: u8, what: impl std::fmt::Display) -> ExitCode {
    eprintln!("agentd: {what}");
    ExitCode::from(code)
}

fn print_line(line: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}
