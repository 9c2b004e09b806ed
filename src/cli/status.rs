//! `agentd status`: how the running service is, for the people who look after it.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use super::control::{Control, read};
use super::failure::Failure;
use super::output::{field, plain};
use super::{exit, print_line};
use crate::clock::{Timestamp, system_now};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  agentd status\n  agentd status --json | jq .warnings\n  agentd status --ready\n\n\
                        Exit codes: 0 all is well, 1 there are warnings, 69 the service does not run; with\n\
                        --ready 0 work is taken and done, 75 it is not."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    control: Control,
    /// Print nothing when work is taken and done, else why not, for health checks
    #[arg(long, conflicts_with = "json")]
    ready: bool,
}

/// What is worked with; the rest is printed as it comes.
#[derive(Deserialize)]
struct Report {
    warnings: Vec<Warning>,
}

#[derive(Deserialize)]
struct Warning {
    what: String,
    todo: String,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    if arguments.ready {
        let outcome = arguments.control.run(async |service| service.get("/ready").await.map(drop));
        return outcome.err().map_or(ExitCode::SUCCESS, Failure::report);
    }
    let mut warnings = false;
    let outcome = arguments.control.run(async |service| {
        let text = service.get("/admin/status").await?;
        let report: Report = read(&text)?;
        warnings = !report.warnings.is_empty();
        if arguments.control.json {
            say!("{}", text.trim_end());
        } else {
            print(&read(&text)?, &report.warnings);
        }
        Ok(())
    });
    match outcome {
        Ok(()) if warnings => ExitCode::from(exit::FAILED),
        Ok(()) => ExitCode::SUCCESS,
        Err(failure @ Failure::Unreachable { .. }) => {
            let code = failure.report();
            eprintln!("systemctl status agentd says whether it runs, journalctl -u agentd -n 50 what it said last");
            code
        }
        Err(failure) => failure.report(),
    }
}

fn print(report: &Value, warnings: &[Warning]) {
    let line = |name: &str, text: String| print_line(format_args!("{name:<12}{text}"));
    let state = field(report, "state");
    let since = report["uptime_seconds"].as_u64().map_or_else(String::new, |seconds| format!(" for {}", span(seconds)));
    line("service", format!("agentd {}, {state}{since}", field(report, "version")));
    line("address", field(report, "address"));
    line("data", field(report, "data_dir"));
    line("setup", if report["in_setup"] == true { "not done".into() } else { "done".into() });
    let certificates = report["tls"]["certificates"].as_array().map_or(&[][..], Vec::as_slice);
    if certificates.is_empty() {
        line("certificate", format!("none (tls.mode is {})", field(&report["tls"], "mode")));
    }
    for it in certificates {
        line("certificate", certificate(it));
    }
    let queue = &report["queue"];
    let oldest = match queue["oldest_since"].as_str() {
        Some(_) => format!(", the oldest since {}", field(queue, "oldest_since")),
        None => String::new(),
    };
    let [running, waiting, delayed] = ["running", "waiting", "delayed"].map(|name| field(queue, name));
    line("queue", format!("{running} running, {waiting} waiting{oldest}, {delayed} for later"));
    let storage = &report["storage"];
    let [database, log, free] = ["database_bytes", "log_bytes", "free_bytes"].map(|name| bytes(&storage[name]));
    line("storage", format!("database {database}, its log {log}, {free} free on the disk"));
    line(
        "backup",
        match report["last_backup"]["name"].as_str() {
            Some(_) => backup(&report["last_backup"]),
            None => "none yet".into(),
        },
    );
    for Warning { what, todo } in warnings {
        say!("\nwarning: {}\n  what to do: {}", plain(what), plain(todo));
    }
    if warnings.is_empty() {
        say!("\nall is well");
    }
}

fn backup(it: &Value) -> String {
    let at = it["at"].as_str().and_then(Timestamp::parse);
    let ago = at.map_or_else(String::new, |at| format!("{} ago, ", span(system_now().since(at).as_secs())));
    format!("{ago}{}, {}", field(it, "name"), bytes(&it["bytes"]))
}

fn certificate(it: &Value) -> String {
    let name = field(it, "name");
    let Some(until) = it["not_after"].as_str().and_then(Timestamp::parse) else {
        return format!("{name}, {}, next attempt {}", field(it, "status"), field(it, "next_attempt_at"));
    };
    let left = until.since(system_now()).as_secs();
    let left = if left == 0 { "it has ended".into() } else { format!("{} left", span(left)) };
    let next = match it["next_attempt_at"].as_str() {
        Some(_) => format!(", next renewal {}", field(it, "next_attempt_at")),
        None => String::new(),
    };
    let issuer =
        if it["source"] == "self_signed" { "self-signed".into() } else { format!("by {}", field(it, "issuer")) };
    format!("{name}, {}, {issuer}, until {} ({left}){next}", field(it, "status"), field(it, "not_after"))
}

/// A span as people say it, in its two greatest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (1..=9, _, _) => format!("{days} d {hours} h"),
        _ => format!("{days} d"),
    }
}

fn bytes(value: &Value) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut left = value.as_u64().unwrap_or(0);
    let mut unit = 0;
    while left >= 10 * 1024 && unit + 1 < UNITS.len() {
        left /= 1024;
        unit += 1;
    }
    format!("{left} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_are_read_at_a_glance() {
        let spans = [5, 65, 3_725, 90_061, 864_000].map(span);
        assert_eq!(spans, ["5 s", "1 min", "1 h 2 min", "1 d 1 h", "10 d"]);
        let sizes = [0, 10_239, 10_240, 52_428_800, 53_687_091_200_u64].map(|size| bytes(&size.into()));
        assert_eq!(sizes, ["0 bytes", "10239 bytes", "10 KiB", "50 MiB", "50 GiB"]);
    }
}
