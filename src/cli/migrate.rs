//! `agentd migrate`: the schema of the database.

use clap::Subcommand;
use serde_json::{Value, json};

use super::control::Location;
use super::failure::Failure;
use super::output::{Column, field, table};
use crate::db::history;

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
}

#[derive(clap::Args)]
struct Status {
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: Location,
}

const COLUMNS: [Column; 4] = [
    ("VERSION", |row| field(row, "version")),
    ("NAME", |row| field(row, "name")),
    ("APPLIED", |row| field(row, "applied_at")),
    ("STATUS", |row| field(row, "status")),
];

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Verb::Status(status) = &arguments.verb;
    let database = status.location.places()?.database;
    let path = database.display();
    let unreadable =
        |error: &dyn std::fmt::Display| Failure::other(format_args!("the database {path} cannot be read: {error}"));
    if !database.try_exists().map_err(|error| unreadable(&error))? {
        return Err(Failure::other(format_args!(
            "there is no database at {path} yet: agentd serve makes it; --data-dir says where else to look"
        )));
    }
    let history = history::read(&database).map_err(|error| unreadable(&error))?;
    let rows: Vec<Value> = history
        .into_iter()
        .map(|row| {
            json!({ "version": row.version, "name": row.name, "applied_at": row.applied_at, "status": row.state.name() })
        })
        .collect();
    if status.json {
        say!("{}", json!({ "data": rows }));
    } else {
        say!("{}", table(&rows, &COLUMNS));
    }
    Ok(())
}
