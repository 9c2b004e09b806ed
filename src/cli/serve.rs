//! `agentd serve`

use std::path::PathBuf;
use std::process::ExitCode;

use super::{ConfigFile, exit, fail};
use crate::app::{BuildError, Extras};
use crate::config::{self, Config, Sources};
use crate::db::{self, OpenError};
use crate::models;
use crate::serve::{self, ControlError, ServeError};
use crate::telemetry::log;
use crate::tls;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  agentd serve\n  agentd serve --listen 127.0.0.1:8000 --data-dir /var/lib/agentd\n  agentd serve --config /etc/agentd/agentd.toml"
)]
pub(super) struct Arguments {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Folder of everything that is kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) fn run(arguments: &Arguments, extras: Extras) -> ExitCode {
    let mut sources = Sources::of_process(arguments.file.config.clone());
    if let Some(listen) = &arguments.listen {
        sources.flags.push(("server.listen", "--listen", listen.clone()));
    }
    if let Some(dir) = &arguments.data_dir {
        sources.flags.push(("data.dir", "--data-dir", dir.to_string_lossy().into_owned()));
    }
    let loaded = match config::load(&sources) {
        Ok(loaded) => loaded,
        Err(faults) => return super::check::report(&faults),
    };
    let guard = match log::start(&loaded.config.log) {
        Ok(guard) => guard,
        Err(error) => return fail(exit::FAILED, format_args!("logging could not be started: {error}")),
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    for note in &loaded.notes {
        tracing::info!("{note}");
    }
    // Whatever is made holds keys or jobs: nobody else may read it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let outcome = serve::run(&loaded, sources, extras);
    drop(guard);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(code(&error, &loaded.config), error),
    }
}

fn code(error: &ServeError, config: &Config) -> u8 {
    match error {
        ServeError::Listen { .. } => exit::UNAVAILABLE,
        ServeError::Build(BuildError::Open(OpenError::Locked { .. })) | ServeError::Control(ControlError::Taken(_)) => {
            exit::TRY_AGAIN
        }
        ServeError::Build(error) => built(error, config),
        ServeError::Control(ControlError::Io { source, .. }) if is_full(source) => exit::TRY_AGAIN,
        // Starting again would meet the same; somebody has to change something.
        ServeError::Control(_) | ServeError::HandedOver(_) | ServeError::Files(_) => exit::CONFIGURATION,
        ServeError::Runtime(_) => exit::FAILED,
    }
}

fn built(error: &BuildError, config: &Config) -> u8 {
    let full = match error {
        BuildError::Open(OpenError::Folder { source, .. }) | BuildError::Tls(tls::Fault::Unkept { source, .. }) => {
            is_full(source)
        }
        BuildError::Open(OpenError::Full { .. }) => true,
        // These say which file could not be written and not why.
        BuildError::Secret(_) | BuildError::Vault(_) | BuildError::Backups(_) => {
            db::free_bytes(&config.data.dir).is_some_and(|free| free < db::NONE_LEFT)
        }
        _ => false,
    };
    match (full, error.database(), error) {
        (true, ..) => exit::TRY_AGAIN,
        (_, Some(db::Error::ReadOnly(_)), _) => exit::CONFIGURATION,
        (_, Some(_), _)
        | (_, _, BuildError::Internal(_) | BuildError::Budgets(_) | BuildError::Models(models::OpenError::Metric(_))) => {
            exit::FAILED
        }
        // Starting again would meet the same; somebody has to change something.
        _ => exit::CONFIGURATION,
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}
