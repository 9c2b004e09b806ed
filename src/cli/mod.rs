//! The command line: one file per verb.

/// Prints a line for people. When nobody reads any more (`agentd … | head`) the
/// program ends quietly instead of panicking.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::print_line(format_args!($($text)*)) };
}

/// Like the standard one, but it does not panic where standard error cannot be written.
macro_rules! eprintln {
    () => { $crate::cli::say_error(format_args!("")) };
    ($($text:tt)*) => { $crate::cli::say_error(format_args!($($text)*)) };
}

mod admin;
mod backup;
mod batch;
mod budget;
mod cert;
mod check;
mod completions;
mod control;
mod demo;
mod doctor;
mod failure;
mod job;
mod key;
mod line;
mod man;
mod master_key;
mod migrate;
mod model;
mod names;
mod openapi;
mod output;
mod password;
mod price;
mod reload;
mod restore;
mod serve;
mod setup;
mod standby;
mod status;
mod tenant;
mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustix::process::Signal;

use crate::app::Extras;
use crate::db::limit;
use crate::telemetry::journal;
use failure::Failure;

/// Exit codes, those of sysexits.h where it has one.
pub mod exit {
    /// The service or the verb failed.
    pub const FAILED: u8 = 1;
    /// The command line makes no sense.
    pub const USAGE: u8 = 2;
    /// Something that it needs is not there, such as the port, or the service.
    pub const UNAVAILABLE: u8 = 69;
    /// The same may work later.
    pub const TRY_AGAIN: u8 = 75;
    /// The configuration must be changed first.
    pub const CONFIGURATION: u8 = 78;
    /// Ctrl-C, as shells count it.
    pub const INTERRUPTED: u8 = 130;
}

/// A self-hosted agent service: durable jobs over HTTP.
#[derive(Parser)]
#[command(name = "agentd", version, arg_required_else_help = true)]
#[command(after_help = "Most verbs work on the running service, over its control socket, and need no key.\n\n\
                        Examples:\n  agentd serve --data-dir /var/lib/agentd\n  agentd tenant create Acme\n  \
                        agentd job submit --tenant Acme --tool echo --input '{\"hello\": \"world\"}' --wait\n\n\
                        Exit codes: 0 ok, 1 failed, 2 wrong usage, 69 something is not available (the service, \
                        the port), 75 try again later, 78 the configuration is wrong.")]
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
    /// Give a fresh service its domain, certificate, first user and first key
    Setup(setup::Arguments),
    /// Show how the service is, and what to do about what is wrong
    Status(status::Arguments),
    /// Read the configuration of the running service again
    Reload(reload::Arguments),
    /// Look whether what the service needs is there: names, ports, directories, clock, disk
    Doctor(doctor::Arguments),
    /// Make and list users, give them new passwords; change the master key
    Admin(admin::Arguments),
    /// Make, list, suspend, delete tenants
    Tenant(tenant::Arguments),
    /// Make, list, rotate, revoke API keys
    Key(key::Arguments),
    /// Show and set what may be spent
    Budget(budget::Arguments),
    /// Submit, list, follow, cancel jobs
    Job(job::Arguments),
    /// Providers of language models, and what stands for their models
    Model(model::Arguments),
    /// Show and set what language models cost
    Price(price::Arguments),
    /// List, show, cancel batches of calls to language models
    Batch(batch::Arguments),
    /// List, renew, revoke certificates
    Cert(cert::Arguments),
    /// Make, list, verify backups
    Backup(backup::Arguments),
    /// Put a backup in place of the data, while the service is stopped
    Restore(restore::Arguments),
    /// Follow another host's backups, and take its place
    Standby(standby::Arguments),
    /// The schema of the database
    Migrate(migrate::Arguments),
    /// Print the interface's description for programs (OpenAPI 3.1)
    Openapi(openapi::Arguments),
    /// Print what a shell needs to complete these verbs
    Completions(completions::Arguments),
    /// Write the manual pages, one for each verb
    #[command(hide = true)]
    Man(man::Arguments),
    /// Print the version
    Version(version::Arguments),
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
    survive_the_limit_of_file_sizes();
    match line::parse::<Line>().verb {
        Verb::Serve(arguments) => serve::run(&arguments, extras),
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Setup(arguments) => finish(setup::run(&arguments)),
        Verb::Status(arguments) => status::run(&arguments),
        Verb::Reload(arguments) => finish(reload::run(&arguments)),
        Verb::Doctor(arguments) => doctor::run(&arguments),
        Verb::Admin(arguments) => finish(admin::run(&arguments)),
        Verb::Tenant(arguments) => finish(tenant::run(&arguments)),
        Verb::Key(arguments) => finish(key::run(&arguments)),
        Verb::Budget(arguments) => finish(budget::run(&arguments)),
        Verb::Job(arguments) => finish(job::run(&arguments)),
        Verb::Model(arguments) => finish(model::run(&arguments)),
        Verb::Price(arguments) => finish(price::run(&arguments)),
        Verb::Cert(arguments) => finish(cert::run(&arguments)),
        Verb::Backup(arguments) => finish(backup::run(&arguments)),
        Verb::Batch(arguments) => finish(batch::run(&arguments)),
        Verb::Restore(arguments) => finish(restore::run(&arguments)),
        Verb::Standby(arguments) => finish(standby::run(&arguments)),
        Verb::Migrate(arguments) => finish(migrate::run(&arguments, &extras.migrations)),
        Verb::Openapi(arguments) => finish(openapi::run(&arguments)),
        Verb::Completions(arguments) => {
            completions::run(&arguments);
            ExitCode::SUCCESS
        }
        Verb::Man(arguments) => finish(man::run(&arguments)),
        Verb::Version(arguments) => {
            version::run(&arguments);
            ExitCode::SUCCESS
        }
    }
}

/// A file that becomes larger than the process may write (`ulimit -f`) would end
/// it without a word. With a handler of the signal the write fails instead.
fn survive_the_limit_of_file_sizes() {
    use tokio::signal::unix::{SignalKind, signal};
    if limit::of_file_size().is_none() {
        return;
    }
    // The handler stays when the runtime has gone.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let take = |runtime: tokio::runtime::Runtime| {
        let _on = runtime.enter();
        signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
    };
    if let Err(error) = runtime.and_then(take) {
        eprintln!("agentd: SIGXFSZ cannot be taken: {error}");
    }
}

fn finish(outcome: Result<(), Failure>) -> ExitCode {
    outcome.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}

/// Says on standard error what went wrong.
fn fail(code: u8, what: impl std::fmt::Display) -> ExitCode {
    say_error(format_args!("{}agentd: {what}", journal::before_errors()));
    ExitCode::from(code)
}

/// A line on standard error. Where that cannot be written there is nobody to tell.
fn say_error(line: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn print_line(line: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) => {}
        // Whoever reads has had enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            eprintln!("agentd: standard output cannot be written: {error}");
            std::process::exit(1);
        }
    }
}
