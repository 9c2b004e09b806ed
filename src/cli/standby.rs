//! `agentd standby`: a second host that can take the place of the first one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

use super::ConfigFile;
use super::exit;
use super::failure::Failure;
use super::output::plain;
use super::restore::{Offline, tell};
use crate::backups::restore::{How, Restored, refuse_early};
use crate::backups::standby::{Failed, Pulled, Standby, When};
use crate::clock::system_now;

/// How long taking over waits for a last look at the bucket.
const LAST_LOOK: Duration = Duration::from_secs(20);
/// What the package calls its units.
const SERVICE: &str = "agentd.service";
const TIMER: &str = "agentd-standby.timer";
const FETCHING: &str = "agentd-standby.service";

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Print JSON, for scripts
    #[arg(long, global = true)]
    json: bool,
    /// Data folder of the service
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// File of the age key that opens the backups
    #[arg(long, value_name = "FILE", global = true)]
    identity: Option<PathBuf>,
    /// The instance to follow, where a bucket has backups of several
    #[arg(long, value_name = "ID", global = true)]
    instance: Option<String>,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Subcommand)]
enum Verb {
    /// Fetch the newest backup and try it out; agentd-standby.timer does it each minute
    #[command(
        after_help = "Examples:\n  systemctl enable --now agentd-standby.timer\n  agentd standby pull --identity key.txt"
    )]
    Pull {
        /// Leave a backup alone for an hour that could not be used; what the timer does
        #[arg(long)]
        scheduled: bool,
    },
    /// Show what is at hand, and how old it is
    #[command(after_help = "Example:\n  sudo agentd standby status --json")]
    Status,
    /// Take the place of the first host: restore what is at hand and start the service
    #[command(after_help = "Example:\n  sudo agentd standby promote\n\n\
                            First make sure that the other host is off, or cannot be reached by clients. It looks once more \
                            whether the bucket has something newer, and goes on with what is at hand when that cannot be \
                            reached.")]
    Promote {
        /// Move a database that is there already aside
        #[arg(long)]
        force: bool,
        /// A copy of the folder secrets/, for backups that are not encrypted
        #[arg(long, value_name = "DIR", conflicts_with = "new_secrets")]
        secrets: Option<PathBuf>,
        /// Go on without the old secrets
        #[arg(long)]
        new_secrets: bool,
        /// Do not start the service
        #[arg(long)]
        no_start: bool,
    },
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let offline = Offline::load(arguments.file.config.as_deref(), arguments.data_dir.as_deref())?;
    let standby = Standby::of(&offline.config.data.dir);
    match &arguments.verb {
        Verb::Status => status(&standby, arguments.json),
        Verb::Pull { scheduled } => {
            let when = if *scheduled { When::Scheduled } else { When::Now };
            let (pulled, newer) = pull(arguments, &offline, &standby, when)?;
            if arguments.json {
                say!("{}", json!({ "pulled": pulled, "newer": newer }));
            } else {
                say!("{} is at hand{}", plain(&pulled.name), if newer { "" } else { " already" });
            }
            Ok(())
        }
        Verb::Promote { force, secrets, new_secrets, no_start } => {
            let how = offline.how(*force, secrets.as_deref(), *new_secrets)?;
            refuse_early(&offline.place(), *force, system_now()).map_err(Failure::other)?;
            let following = Following::stop();
            let promoted = promote(arguments, &offline, &standby, how);
            if promoted.is_err() {
                following.go_on();
            }
            let (pulled, restored) = promoted?;
            let lost = system_now().since(pulled.created_at).as_secs();
            if arguments.json {
                say!(
                    "{}",
                    json!({ "restored": restored.manifest, "lost_seconds": lost, "moved_to": restored.moved_to })
                );
            } else {
                tell(&restored, &offline.config);
                say!("what the other host was told in its last {lost} s before now is not in it");
            }
            if *no_start { Ok(()) } else { start() }
        }
    }
}

fn status(standby: &Standby, json: bool) -> Result<(), Failure> {
    let pulled = standby.pulled().map_err(Failure::other)?;
    let problem = standby.failed().map_err(Failure::other)?;
    if pulled.is_none() && problem.is_none() {
        return Err(Failure::other(
            "nothing has been fetched yet: agentd standby pull does, agentd-standby.timer each minute",
        ));
    }
    if json {
        say!("{}", json!(Standing { pulled: pulled.as_ref(), problem: problem.as_ref() }));
    } else if let Some(Pulled { name, created_at, pulled_at }) = &pulled {
        let age = system_now().since(*created_at).as_secs();
        say!("{}, made {created_at} ({age} s ago), fetched {pulled_at}", plain(name));
    }
    match problem {
        None => Ok(()),
        Some(_) if json => Err(Failure::Told(exit::FAILED)),
        Some(Failed { name, what, at, .. }) => {
            let older = if pulled.is_some() { "" } else { "; nothing older is at hand" };
            Err(Failure::other(format_args!("{} could not be used at {at}: {}{older}", plain(&name), plain(&what))))
        }
    }
}

/// What is at hand, and what is wrong, for programs.
#[derive(Serialize)]
struct Standing<'a> {
    #[serde(flatten)]
    pulled: Option<&'a Pulled>,
    problem: Option<&'a Failed>,
}

fn pull(arguments: &Arguments, offline: &Offline, standby: &Standby, when: When) -> Result<(Pulled, bool), Failure> {
    let keys = offline.keys(arguments.identity.as_deref()).map_err(Failure::other)?;
    let bucket = offline.bucket()?;
    let pulling = standby.pull(&bucket, arguments.instance.as_deref(), &keys, when, system_now());
    super::restore::block_on(pulling)?.map_err(Failure::other)
}

fn promote(
    arguments: &Arguments,
    offline: &Offline,
    standby: &Standby,
    how: How,
) -> Result<(Pulled, Restored), Failure> {
    last_look(arguments, offline, standby);
    let keys = offline.keys(arguments.identity.as_deref()).map_err(Failure::other)?;
    standby.promote(&keys, &offline.place(), how, system_now()).map_err(Failure::other)
}

/// What cannot be had now must not keep anybody from taking over.
fn last_look(arguments: &Arguments, offline: &Offline, standby: &Standby) {
    let look = || -> Result<(), Failure> {
        let keys = offline.keys(arguments.identity.as_deref()).map_err(Failure::other)?;
        let bucket = offline.bucket()?;
        let pulling = standby.pull(&bucket, arguments.instance.as_deref(), &keys, When::Now, system_now());
        let late = |_| Failure::other(format_args!("it took longer than {} s", LAST_LOOK.as_secs()));
        let timed = async { tokio::time::timeout(LAST_LOOK, pulling).await };
        super::restore::block_on(timed)?.map_err(late)?.map(drop).map_err(Failure::other)
    };
    if let Err(failure) = look() {
        eprintln!("agentd: whether there is a newer backup could not be seen, so what is at hand is taken:");
        let _ = failure.report();
    }
}

/// Whether the timer fetches what is new.
struct Following(bool);

impl Following {
    /// What fetches now would be in the way. Where there is no systemd, or no timer,
    /// nothing does.
    fn stop() -> Self {
        if !has_systemd() {
            return Self(false);
        }
        let was_active = systemctl(&["is-active", "--quiet", TIMER]);
        let _ = systemctl(&["stop", "--quiet", TIMER, FETCHING]);
        Self(was_active)
    }

    /// A host that has not taken over must not fall behind from now on.
    fn go_on(self) {
        if self.0 && !systemctl(&["start", "--quiet", TIMER]) {
            eprintln!("agentd: {TIMER} does not start again: systemctl status {TIMER} says why");
        }
    }
}

fn has_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

fn systemctl(arguments: &[&str]) -> bool {
    Command::new("systemctl").args(arguments).status().is_ok_and(|status| status.success())
}

/// Lets systemd start the service, where it runs this machine.
fn start() -> Result<(), Failure> {
    if !has_systemd() {
        say!("start the service: agentd serve");
        return Ok(());
    }
    // Where there is no timer nobody fetches anything.
    let _ = systemctl(&["disable", "--now", "--quiet", TIMER]);
    if systemctl(&["enable", "--now", "--quiet", SERVICE]) {
        say!("the service runs");
        return Ok(());
    }
    Err(Failure::other(format_args!("{SERVICE} does not start: systemctl status {SERVICE} says why")))
}
