//! `agentd migrate`: the schema of the database.

use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};

use super::control::Location;
use super::exit;
use super::failure::Failure;
use super::line::whole_number;
use super::output::{Column, field, table};
use crate::db::history;
use crate::db::migrate::{Migration, newest};
use crate::db::prepared;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show which migrations the database has seen; works whether or not the service runs
    #[command(
        after_help = "Examples:\n  agentd migrate status\n  agentd migrate status --data-dir /var/lib/agentd --json\n\n\
                            applied: done; pending: the next start does it; changed: done with another text than this \
                            agentd has; unknown: done by a newer agentd. With the latter two this agentd does not start."
    )]
    Status(Status),
    /// Look whether this agentd, or one with an older schema, can use the database
    #[command(after_help = "Examples:\n  agentd migrate check\n  agentd migrate check --schema 5\n\n\
                            It ends with 0 when it can, also when there is no database yet, and with 78 when it \
                            cannot; then it names the snapshot to restore. The package asks this before an older \
                            version replaces a newer one.")]
    Check(Check),
    /// Copy the database before an upgrade, while the service runs
    #[command(after_help = "Examples:\n  sudo -u agentd agentd migrate prepare --data-dir /var/lib/agentd\n\n\
                            The package does this before it restarts the service, so that the start which migrates has \
                            less to do. Without it, that start makes the copy. Where there is nothing to migrate, nothing is copied.")]
    Prepare(Prepare),
}

#[derive(clap::Args)]
struct Status {
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: Location,
}

#[derive(clap::Args)]
struct Check {
    /// Newest schema version that is known [default: this agentd's]
    #[arg(long, value_name = "NUMBER", value_parser = schema, allow_negative_numbers = true)]
    schema: Option<i32>,
    #[command(flatten)]
    location: Location,
}

#[derive(clap::Args)]
struct Prepare {
    #[command(flatten)]
    location: Location,
}

const COLUMNS: [Column; 4] = [
    ("VERSION", |row| field(row, "version")),
    ("NAME", |row| field(row, "name")),
    ("APPLIED", |row| field(row, "applied_at")),
    ("STATUS", |row| field(row, "status")),
];

pub(super) fn run(arguments: &Arguments, more: &[Migration]) -> Result<(), Failure> {
    match &arguments.verb {
        Verb::Status(arguments) => status(arguments),
        Verb::Check(arguments) => check(arguments, more),
        Verb::Prepare(arguments) => prepare(arguments, more),
    }
}

fn status(arguments: &Status) -> Result<(), Failure> {
    let database = arguments.location.places()?.database;
    if !is_there(&database)? {
        return Err(Failure::other(format_args!(
            "there is no database at {} yet: agentd serve makes it; --data-dir says where else to look",
            database.display()
        )));
    }
    let history = history::read(&database).map_err(|error| unreadable(&database, &error))?;
    let rows: Vec<Value> = history
        .into_iter()
        .map(|row| {
            json!({ "version": row.version, "name": row.name, "applied_at": row.applied_at, "status": row.state.name() })
        })
        .collect();
    if arguments.json {
        say!("{}", json!({ "data": rows }));
    } else {
        say!("{}", table(&rows, &COLUMNS));
    }
    Ok(())
}

fn check(arguments: &Check, more: &[Migration]) -> Result<(), Failure> {
    let database = arguments.location.places()?.database;
    if !is_there(&database)? {
        return Ok(());
    }
    let known = arguments.schema.unwrap_or_else(|| newest(more));
    let Some(newer) = history::newer_than(&database, known).map_err(|error| unreadable(&database, &error))? else {
        return Ok(());
    };
    let (path, found) = (database.display(), newer.found);
    eprintln!("agentd: the database {path} has schema version {found}, and an agentd that knows {known} cannot use it");
    match newer.snapshot {
        Some(snapshot) => eprintln!(
            "restore the snapshot from before the upgrade first: {}; what was written since is not in it",
            snapshot.display()
        ),
        None => eprintln!("there is no snapshot beside it that such an agentd could use: restore a backup first"),
    }
    Err(Failure::Told(exit::CONFIGURATION))
}

fn prepare(arguments: &Prepare, more: &[Migration]) -> Result<(), Failure> {
    let database = arguments.location.places()?.database;
    if is_there(&database)? {
        // It holds keys and jobs: nobody else may read it.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let made = prepared::prepare(&database, more);
        if let Some(path) = made.map_err(|error| Failure::other(format_args!("nothing is prepared: {error}")))? {
            say!("copied to {}", path.display());
        }
    }
    Ok(())
}

fn schema(text: &str) -> Result<i32, String> {
    whole_number(text, 0, i32::MAX, "from 0")
}

fn is_there(database: &Path) -> Result<bool, Failure> {
    database.try_exists().map_err(|error| unreadable(database, &error))
}

fn unreadable(database: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::other(format_args!("the database {} cannot be read: {error}", database.display()))
}
