//! `agentd restore`, and what other verbs need that work without a service.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::ConfigFile;
use super::control::as_installed;
use super::failure::Failure;
use super::output::plain;
use crate::backups::restore::{self, How, Place, Restored, Secrets, Wanted};
use crate::backups::{BackupError, Keys, Name, SECRETS, fetch};
use crate::clock::system_now;
use crate::config::{self, Config};
use crate::outbound::Outbound;
use crate::s3::Bucket;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  sudo systemctl stop agentd && sudo agentd restore latest --force && sudo systemctl start agentd\n  \
                        sudo agentd restore s3:latest --identity key.txt\n  \
                        agentd restore ./agentd-1f0c9a3e-t1-s6-20300131T093000.000Z.tar.zst.age --identity key.txt --data-dir data\n\n\
                        Everything is looked through before anything is touched, and what was there is moved aside, not \
                        deleted. Without --config it works on what is installed, as agentd doctor does."
)]
pub(super) struct Arguments {
    /// A file; latest, the newest of the folder of backups; s3:latest or s3:NAME of the bucket
    backup: String,
    /// Move a database that is there already aside
    #[arg(long)]
    force: bool,
    /// File of the age key that opens it; else the service's own, or the one of the configuration
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// A copy of the folder secrets/, for a backup that is not encrypted
    #[arg(long, value_name = "DIR", conflicts_with = "new_secrets")]
    secrets: Option<PathBuf>,
    /// Go on without the old secrets: API keys and certificates of the backup become useless
    #[arg(long)]
    new_secrets: bool,
    /// The instance, where a bucket has backups of several
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Data folder of the service
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: ConfigFile,
}

/// How long a bucket is asked before something that does not need it.
const LISTING: Duration = Duration::from_secs(15);

/// What verbs know that work without a service.
pub(super) struct Offline {
    pub config: Config,
}

impl Offline {
    /// Reads what the service would read.
    pub(super) fn load(config: Option<&Path>, data_dir: Option<&Path>) -> Result<Self, Failure> {
        let (sources, _) = as_installed(config, data_dir);
        let config = config::load(&sources).map_err(Failure::Configuration)?.config;
        Ok(Self { config })
    }

    /// What opens backups: the service's own key and that of the administrator.
    pub(super) fn keys(&self, identity: Option<&Path>) -> Result<Keys, BackupError> {
        let file = identity.or(self.config.backup.identity_file.as_deref());
        Keys::for_reading(&self.config.data.dir.join(SECRETS), file)
    }

    /// Where the service's files are.
    pub(super) fn place(&self) -> Place {
        Place { data: self.config.data.dir.clone(), database: self.config.data.database.clone() }
    }

    /// What a command line says of restoring.
    pub(super) fn how(&self, force: bool, secrets: Option<&Path>, new_secrets: bool) -> Result<How, Failure> {
        let master_key = self.config.data.master_key.resolve().map_err(Failure::other)?;
        Ok(How { force, secrets: Secrets::of(secrets, new_secrets), master_key })
    }

    /// Where backups are sent to.
    pub(super) fn bucket(&self) -> Result<Bucket, Failure> {
        let section = self.config.s3.as_ref();
        let section = section.ok_or_else(|| Failure::other("no bucket is configured: backup.s3_bucket names it"))?;
        let outbound = Outbound::new(self.config.outbound.clone().into(), &prometheus::Registry::new());
        Bucket::new(section, &outbound.map_err(Failure::other)?).map_err(Failure::other)
    }
}

/// Runs what waits for others.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::other)?;
    Ok(runtime.block_on(work))
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    // What is made holds secrets.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let offline = Offline::load(arguments.file.config.as_deref(), arguments.data_dir.as_deref())?;
    let restored = restore(arguments, &offline)?;
    if arguments.json {
        say!(
            "{}",
            json!({ "restored": restored.manifest, "moved_to": restored.moved_to, "configuration": restored.configuration })
        );
    } else {
        tell(&restored, &offline.config);
        say!("start the service: systemctl start agentd, or agentd serve");
    }
    Ok(())
}

fn restore(arguments: &Arguments, offline: &Offline) -> Result<Restored, Failure> {
    let config = &offline.config;
    let keys = offline.keys(arguments.identity.as_deref()).map_err(Failure::other)?;
    restore::refuse_early(&offline.place(), arguments.force, system_now()).map_err(Failure::other)?;
    let (from, timeline, fetched) = match arguments.backup.strip_prefix("s3:") {
        None => {
            let from = find(arguments, &config.backup.dir).map_err(Failure::other)?;
            let timeline = highest_timeline(&from, arguments, offline);
            (from, timeline, None)
        }
        Some(name) => {
            let (file, timeline) = fetched(name, arguments, offline)?;
            (file.path().to_owned(), timeline, Some(file))
        }
    };
    let how = offline.how(arguments.force, arguments.secrets.as_deref(), arguments.new_secrets)?;
    let wanted = Wanted { from, how, timeline };
    let restored = restore::restore(&wanted, &keys, &offline.place(), system_now()).map_err(Failure::other);
    drop(fetched);
    restored
}

/// Backups of a folder.
fn names(folder: &Path) -> Vec<Name> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The newest of a folder, or the file that is named.
fn find(arguments: &Arguments, folder: &Path) -> Result<PathBuf, BackupError> {
    let place = folder.display().to_string();
    if arguments.backup != "latest" {
        let file = PathBuf::from(&arguments.backup);
        if !file.exists() {
            let what = format!(
                "there is no file {}: name one with its path, or latest for the newest in {place}, or s3:NAME for one of \
                 the bucket",
                file.display()
            );
            return Err(BackupError::Refused(what));
        }
        return Ok(file);
    }
    let names = fetch::in_order(names(folder), arguments.instance.as_deref(), system_now(), &place)?;
    let newest = names.last().map(|name| folder.join(name.to_string()));
    newest.ok_or_else(|| BackupError::Refused(format!("there is no backup in {place}")))
}

/// The highest timeline that the folder and the bucket know of a backup's
/// instance: what is restored must be after it. A bucket that cannot be asked
/// keeps nobody from restoring.
fn highest_timeline(from: &Path, arguments: &Arguments, offline: &Offline) -> u32 {
    let instance = from.file_name().and_then(|name| name.to_str()?.parse::<Name>().ok()).map(|name| name.instance);
    let mut known = names(&offline.config.backup.dir);
    if offline.config.s3.is_some() {
        let listed = offline.bucket().and_then(|bucket| {
            let listing = async {
                tokio::time::timeout(LISTING, fetch::names(&bucket, arguments.instance.as_deref(), system_now())).await
            };
            let late = |_| Failure::other("it did not answer in time");
            block_on(listing)?.map_err(late)?.map_err(Failure::other)
        });
        match listed {
            Ok(names) => known.extend(names),
            Err(failure) => {
                eprintln!("agentd: whether another host goes on with this instance could not be seen in the bucket:");
                let _ = failure.report();
            }
        }
    }
    let same = known.into_iter().filter(|name| instance.as_ref().is_none_or(|instance| name.instance == *instance));
    same.map(|name| name.timeline).max().unwrap_or(0)
}

/// One of the bucket, in a file that goes away again, and the highest timeline
/// that the bucket has.
fn fetched(name: &str, arguments: &Arguments, offline: &Offline) -> Result<(fetch::Fetched, u32), Failure> {
    let bucket = offline.bucket()?;
    let data = &offline.config.data.dir;
    block_on(async {
        let names = fetch::names(&bucket, arguments.instance.as_deref(), system_now()).await?;
        let wanted = match name {
            "latest" => names.last(),
            name => names.iter().find(|known| known.to_string() == name),
        };
        let missing = || BackupError::Refused(format!("there is no {name} in {}", bucket.describe()));
        let wanted = wanted.ok_or_else(missing)?;
        let timeline = names.iter().map(|name| name.timeline).max().unwrap_or(0);
        Ok((fetch::into_folder(&bucket, wanted, data).await?, timeline))
    })?
    .map_err(|error: BackupError| Failure::other(error))
}

pub(super) fn tell(restored: &Restored, config: &Config) {
    let manifest = &restored.manifest;
    say!("restored what instance {} had at {}", plain(&manifest.instance), manifest.created_at);
    if let Some(path) = &restored.moved_to {
        say!("what was there is in {}; delete it when all is well", path.display());
    }
    if !restored.with_secrets {
        say!("the backup held no secrets; those in {} are used", config.data.dir.join(SECRETS).display());
    }
    if let Some(path) = &restored.configuration {
        say!("its configuration is in {}: compare it with the one in use", path.display());
    }
}
