//! `agentd serve`

use std::path::PathBuf;
use std::process::ExitCode;

use super::{ConfigFile, exit, fail};
use crate::app::{BuildError, Extras};
use crate::config::{self, Sources};
use crate::db::OpenError;
use crate::serve::{self, ControlError, ServeError};
use crate::telemetry::log;
use crate::tls;
use crate::{backups, db, vault};

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
    // Whatever is made holds keys or jobs: nobody else may read it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let outcome = serve::run(&loaded, sources, extras);
    drop(guard);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(code(&error), error),
    }
}

fn code(error: &ServeError) -> u8 {
    match error {
        ServeError::Listen { .. } => exit::UNAVAILABLE,
        ServeError::Build(BuildError::Open(OpenError::Locked { .. })) | ServeError::Control(ControlError::Taken(_)) => {
            exit::TRY_AGAIN
        }
        ServeError::Build(
            BuildError::Open(OpenError::Folder { source, .. }) | BuildError::Tls(tls::Fault::Unkept { source, .. }),
        )
        | ServeError::Control(ControlError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::StorageFull =>
        {
            exit::TRY_AGAIN
        }
        ServeError::Build(
            BuildError::Vault(vault::Fault::Database(fault)) | BuildError::Backups(backups::OpenError::Database(fault)),
        ) => {
            if *fault == db::Error::Full {
                exit::TRY_AGAIN
            } else {
                exit::FAILED
            }
        }
        // Starting again would meet the same; somebody has to change something.
        ServeError::Control(_)
        | ServeError::HandedOver(_)
        | ServeError::Build(
            BuildError::Secret(_)
            | BuildError::Vault(_)
            | BuildError::Outbound(_)
            | BuildError::Tls(_)
            | BuildError::Acme(_)
            | BuildError::Backups(_)
            | BuildError::Bucket(_)
            | BuildError::CutShort(_)
            | BuildError::Open(
                OpenError::Folder { .. }
                | OpenError::Foreign
                | OpenError::Newer { .. }
                | OpenError::Migration { .. }
                | OpenError::Inconsistent { .. }
                | OpenError::Damaged { .. },
            ),
        ) => exit::CONFIGURATION,
        ServeError::Build(_) | ServeError::Runtime(_) => exit::FAILED,
    }
}
