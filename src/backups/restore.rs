//! Restoring, without a service: everything is looked through before anything
//! is touched, and what was there is moved aside, never deleted.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::archive::{self, CONFIGURATION, Manifest, SECRETS as IN_ARCHIVE, Small, Unpacked};
use super::error::{BackupError, io_at};
use super::keys::Keys;
use super::make::Partial;
use super::pace::Pace;
use super::state::Identity;
use super::{SECRETS, state};
use crate::clock::Timestamp;
use crate::db::{DbFile, FolderLock, LOCK, folder_of, schema_of_this_binary};
use crate::vault::{self, Key, KeyId};

/// The file that says that a restore is under way.
const MARK: &str = "restore-under-way";

/// Where a service's files are.
#[derive(Clone, Debug)]
pub struct Place {
    /// The data folder.
    pub data: PathBuf,
    /// The database file.
    pub database: PathBuf,
}

/// Where the secrets come from that the database is worth little without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// The backup's own, or those that the data folder has.
    Usual,
    /// A copy of the folder, which somebody has kept.
    Folder(PathBuf),
    /// None: the service makes new ones, and whatever the old ones protect is lost.
    New,
}

impl Secrets {
    /// What a command line says.
    #[must_use]
    pub fn of(folder: Option<&Path>, new: bool) -> Self {
        match folder {
            Some(folder) => Self::Folder(folder.into()),
            None if new => Self::New,
            None => Self::Usual,
        }
    }
}

/// How to restore.
#[derive(Clone)]
pub struct How {
    /// Whether a database that is there already may be moved aside.
    pub force: bool,
    /// Which secrets go with it.
    pub secrets: Secrets,
    /// The master key of the configuration, where it is not with the secrets.
    pub master_key: Option<String>,
}

/// What to restore.
#[derive(Clone)]
pub struct Wanted {
    /// The backup.
    pub from: PathBuf,
    /// How.
    pub how: How,
    /// The highest timeline that is known of this instance, from elsewhere.
    pub timeline: u32,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// Where the old data are now.
    pub moved_to: Option<PathBuf>,
    /// Whether secrets came with the backup.
    pub with_secrets: bool,
    /// Where the configuration of the backup lies, to be compared.
    pub configuration: Option<PathBuf>,
}

/// Unpacks a backup's database into a new file and looks it through, as far as
/// it can be without a service.
///
/// # Errors
/// When it could not be restored here.
pub(super) fn try_out(from: &Path, keys: &Keys, database: &Path, pace: Pace) -> Result<Unpacked, BackupError> {
    let unpacked = archive::unpack(from, keys, Some(database), pace)?;
    let found = unpacked.manifest.schema;
    refuse_newer(found)?;
    let mut file = DbFile::open(database)?;
    if pace == Pace::Half {
        file = file.at_half_speed()?;
    }
    file.check()?;
    let same = file.read(state::identity)?.is_some_and(|identity| identity.instance == unpacked.manifest.instance);
    if file.schema()? != found || !same {
        return Err(BackupError::Damaged(format!("{}: the database in it is another one's", from.display())));
    }
    Ok(unpacked)
}

/// Refuses a schema that this binary does not know.
pub(super) fn refuse_newer(found: i32) -> Result<(), BackupError> {
    let known = schema_of_this_binary();
    if found > known { Err(BackupError::Newer { found, known }) } else { Ok(()) }
}

/// Looks whether a backup could be restored, in a folder for what is in the way
/// meanwhile.
///
/// # Errors
/// Why it could not.
pub fn verify(from: &Path, keys: &Keys, beside: &Path) -> Result<Manifest, BackupError> {
    let copy = Partial::new(beside, "agentd-verify");
    try_out(from, keys, copy.path(), Pace::Full).map(|unpacked| unpacked.manifest)
}

/// Refuses what a restore would refuse before it reads the backup, so that none is
/// fetched in vain. What it finds may be otherwise a moment later.
///
/// # Errors
/// When a service runs, or there is a database and that is not to be moved aside.
pub fn refuse_early(place: &Place, force: bool, now: Timestamp) -> Result<(), BackupError> {
    // A lock would make the folder, and nothing is to be left where none was.
    if place.data.exists() {
        drop(lock(place)?);
    }
    refuse_occupied(place, force, now).map(drop)
}

/// Refuses to take the place of a database that is there, unless that is wanted;
/// whether there is one.
fn refuse_occupied(place: &Place, force: bool, now: Timestamp) -> Result<bool, BackupError> {
    let occupied = place.database.try_exists().map_err(io_at("cannot look at", &place.database))?;
    if occupied && !force {
        return Err(BackupError::Refused(format!(
            "there is a database already, {}; with --force it is moved aside, into {}",
            place.database.display(),
            aside(place.folder(), now).display()
        )));
    }
    Ok(occupied)
}

/// Restores a backup.
///
/// # Errors
/// Why it was not; then everything is as it was.
pub fn restore(wanted: &Wanted, keys: &Keys, place: &Place, now: Timestamp) -> Result<Restored, BackupError> {
    let _locks = lock(place)?;
    let occupied = refuse_occupied(place, wanted.how.force, now)?;
    let copy = Partial::new(place.folder(), "restore");
    let unpacked = try_out(&wanted.from, keys, copy.path(), Pace::Full)?;
    let there = if occupied { identity_of(&place.database) } else { None };
    let secrets = secrets(wanted, &unpacked, place, there.as_ref())?;
    let sealed_with = DbFile::open(copy.path())?.read(vault::needed_key)?;
    if wanted.how.secrets != Secrets::New {
        has_master_key(wanted, sealed_with, secrets.as_deref(), place)?;
    }
    let timeline = next_timeline(wanted, &unpacked.manifest, there.as_ref())?;
    DbFile::open(copy.path())?.change(|tx| {
        if wanted.how.secrets == Secrets::New && sealed_with.is_some() {
            vault::forget(tx)?;
        }
        state::begin_timeline(tx, timeline)
    })?;
    give(copy.path(), owner(&place.data)?)?;

    let mark = Mark::set(&place.data)?;
    let exchanged = exchange(place, secrets.as_deref(), copy, now);
    mark.remove();
    let moved = exchanged?;
    let configuration = keep_configuration(&unpacked.small, &place.data)?;
    let with_secrets = unpacked.small.iter().any(|(name, _)| name.starts_with(IN_ARCHIVE));
    Ok(Restored { manifest: unpacked.manifest, moved_to: moved.to(), with_secrets, configuration })
}

/// Puts the new in the place of the old; if that fails, the old is there again.
fn exchange(place: &Place, secrets: Option<&[Small]>, copy: Partial, now: Timestamp) -> Result<Moved, BackupError> {
    let moved = Moved::aside(place, secrets.is_some(), now)?;
    // The secrets first: a database that finds none would have new ones made.
    let placed = put(place, secrets.unwrap_or_default()).and_then(|()| copy.finish(&place.database));
    if let Err(error) = placed {
        moved.back();
        return Err(error);
    }
    Ok(moved)
}

/// Lies in the data folder while files are exchanged. Where it is found, that was
/// cut short, and a service that started would begin an instance of its own.
struct Mark(PathBuf);

impl Mark {
    fn set(data: &Path) -> Result<Self, BackupError> {
        let path = data.join(MARK);
        write(&path, b"a restore was begun and has not come to its end: do it again\n", owner(data)?)?;
        fs::File::open(data).and_then(|folder| folder.sync_all()).map_err(io_at("cannot write", data))?;
        Ok(Self(path))
    }

    fn remove(self) {
        if let Err(error) = fs::remove_file(&self.0) {
            eprintln!(
                "agentd: {} could not be removed: {error}; remove it before the service is started",
                self.0.display()
            );
        }
    }
}

/// Whether a restore into a data folder was cut short.
#[must_use]
pub fn was_cut_short(data: &Path) -> bool {
    data.join(MARK).exists()
}

impl Place {
    /// The folder of the database.
    fn folder(&self) -> &Path {
        folder_of(&self.database)
    }
}

/// Locks that the service's user can take later.
fn lock(place: &Place) -> Result<Vec<FolderLock>, BackupError> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
    let mut locks = vec![FolderLock::acquire(&place.data)?];
    let owner = owner(&place.data)?;
    give(&place.data.join(LOCK), owner)?;
    if real(place.folder()) != real(&place.data) {
        locks.push(FolderLock::acquire(place.folder())?);
        give(&place.folder().join(LOCK), owner)?;
    }
    Ok(locks)
}

/// Whose database this is; one that cannot be read is perhaps why somebody
/// restores.
fn identity_of(database: &Path) -> Option<Identity> {
    DbFile::open(database).ok()?.read(state::identity).ok()?
}

/// Which secrets are written; `None`: what is there stays.
///
/// Those that lie there are taken for a copy that somebody has put there, but
/// not when they are of another instance, such as one that was just installed.
fn secrets(
    wanted: &Wanted,
    unpacked: &Unpacked,
    place: &Place,
    there: Option<&Identity>,
) -> Result<Option<Vec<Small>>, BackupError> {
    let foreign = there.is_some_and(|there| there.instance != unpacked.manifest.instance);
    let own: Vec<_> = unpacked.small.iter().filter(|(name, _)| name.starts_with(IN_ARCHIVE)).cloned().collect();
    match &wanted.how.secrets {
        Secrets::Folder(folder) => read_secrets(folder).map(Some),
        Secrets::New => Ok(Some(Vec::new())),
        Secrets::Usual if !own.is_empty() => Ok(Some(own)),
        Secrets::Usual if place.data.join(SECRETS).is_dir() && !foreign => Ok(None),
        Secrets::Usual => Err(BackupError::Refused(format!(
            "{} is not encrypted, so it holds no secrets, and without them its API keys and certificates are useless: \
             say where the copy of {}/{SECRETS} is that you have kept with --secrets, or go on without it with \
             --new-secrets",
            wanted.from.display(),
            place.data.display()
        ))),
    }
}

/// A service that finds another master key than the one that its database
/// belongs to does not start; better to know before.
fn has_master_key(
    wanted: &Wanted,
    sealed_with: Option<KeyId>,
    secrets: Option<&[Small]>,
    place: &Place,
) -> Result<(), BackupError> {
    let Some(id) = sealed_with else { return Ok(()) };
    let name = format!("{IN_ARCHIVE}{}", vault::MASTER_KEY);
    let there = || fs::read_to_string(place.data.join(SECRETS).join(vault::MASTER_KEY)).ok();
    let text = match (&wanted.how.master_key, secrets) {
        (Some(text), _) => Some(text.clone()),
        (None, Some(files)) => {
            files.iter().find(|(known, _)| *known == name).map(|(_, text)| String::from_utf8_lossy(text).into_owned())
        }
        (None, None) => there(),
    };
    let found = text.and_then(|text| Key::parse(text.trim()).ok()).map(|key| key.id());
    if found == Some(id) {
        return Ok(());
    }
    let found = found.map_or_else(|| "is not there".into(), |other| format!("is another one, {other}"));
    Err(BackupError::Refused(format!(
        "the certificates' keys and other secrets in {} are sealed with the master key {id}, and the master key that would \
         go with them {found}: say where the copy of {SECRETS}/ is that you have kept with --secrets, or go on without \
         them with --new-secrets",
        wanted.from.display()
    )))
}

fn read_secrets(folder: &Path) -> Result<Vec<Small>, BackupError> {
    let mut files = Vec::new();
    for path in fs::read_dir(folder).map_err(io_at("cannot read", folder))?.flatten().map(|entry| entry.path()) {
        if let (true, Some(name)) = (path.is_file(), path.file_name().and_then(|name| name.to_str())) {
            files.push((format!("{IN_ARCHIVE}{name}"), fs::read(&path).map_err(io_at("cannot read", &path))?));
        }
    }
    if files.is_empty() {
        return Err(BackupError::Refused(format!("{} holds no secrets", folder.display())));
    }
    Ok(files)
}

/// Higher than any that anybody has seen, so that nobody else takes himself for
/// the one that lives on.
fn next_timeline(wanted: &Wanted, manifest: &Manifest, there: Option<&Identity>) -> Result<u32, BackupError> {
    let mut highest = manifest.timeline.max(wanted.timeline);
    if let Some(there) = there.filter(|there| there.instance == manifest.instance) {
        highest = highest.max(there.timeline);
    }
    highest.checked_add(1).ok_or_else(|| BackupError::Refused("its timeline is at its end".into()))
}

fn aside(folder: &Path, now: Timestamp) -> PathBuf {
    let at: String = now.to_string().chars().filter(char::is_ascii_digit).take(14).collect();
    folder.join(format!("before-restore-{at}"))
}

/// What was in the way, and where it is now.
struct Moved(Vec<(PathBuf, PathBuf)>);

impl Moved {
    /// Moves the database away with all that belongs to it, also a log without
    /// one, which would be taken for the new one's, and the secrets where there
    /// are others. Each within its own folder, so that nothing has to be copied.
    fn aside(place: &Place, secrets: bool, now: Timestamp) -> Result<Self, BackupError> {
        let with = |suffix: &str| {
            let mut path = place.database.clone().into_os_string();
            path.push(suffix);
            PathBuf::from(path)
        };
        let mut files: Vec<_> = ["-wal", "-shm", "-journal", ""].map(with).into();
        if secrets {
            files.push(place.data.join(SECRETS));
        }
        let mut moved = Self(Vec::new());
        for path in files.into_iter().filter(|path| path.symlink_metadata().is_ok()) {
            if let Err(error) = moved.one(&path, place, now) {
                moved.back();
                return Err(error);
            }
        }
        Ok(moved)
    }

    fn one(&mut self, path: &Path, place: &Place, now: Timestamp) -> Result<(), BackupError> {
        let Some(name) = path.file_name() else { return Ok(()) };
        let to = aside(folder_of(path), now);
        let fault = || io_at("cannot move the old data to", &to);
        match fs::DirBuilder::new().mode(0o700).create(&to) {
            Ok(()) => give(&to, owner(&place.data)?)?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && !self.0.is_empty() => {}
            Err(error) => return Err(fault()(error)),
        }
        let target = to.join(name);
        fs::rename(path, &target).map_err(fault())?;
        self.0.push((path.into(), target));
        Ok(())
    }

    /// As it was.
    fn back(&self) {
        for (from, to) in self.0.iter().rev() {
            if from.is_dir() {
                let _ = fs::remove_dir_all(from);
            }
            if let Err(error) = fs::rename(to, from) {
                eprintln!("agentd: {} could not be moved back to {}: {error}", to.display(), from.display());
            }
        }
    }

    fn to(&self) -> Option<PathBuf> {
        self.0.last().and_then(|(_, to)| Some(to.parent()?.to_owned()))
    }
}

/// Who restores as root does it for the service's user.
pub(super) type Owner = (u32, u32);

pub(super) fn owner(data: &Path) -> Result<Owner, BackupError> {
    let found = fs::metadata(data).map_err(io_at("cannot look at", data))?;
    Ok((found.uid(), found.gid()))
}

pub(super) fn give(path: &Path, (user, group): Owner) -> Result<(), BackupError> {
    std::os::unix::fs::chown(path, Some(user), Some(group))
        .map_err(io_at("cannot give to the owner of the data folder", path))
}

/// Lays down secrets; none: those that are there stay.
fn put(place: &Place, files: &[Small]) -> Result<(), BackupError> {
    if files.is_empty() {
        return Ok(());
    }
    let (folder, owner) = (place.data.join(SECRETS), owner(&place.data)?);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(io_at("cannot make", &folder))?;
    give(&folder, owner)?;
    for (name, content) in files {
        write(&folder.join(name.trim_start_matches(IN_ARCHIVE)), content, owner)?;
    }
    fs::File::open(&folder).and_then(|folder| folder.sync_all()).map_err(io_at("cannot write", &folder))
}

fn write(path: &Path, content: &[u8], owner: Owner) -> Result<(), BackupError> {
    let partial = path.with_extension("partial");
    let written = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(content)?;
        file.sync_all()
    };
    written().map_err(io_at("cannot write", &partial))?;
    give(&partial, owner)?;
    fs::rename(&partial, path).map_err(io_at("cannot write", path))
}

/// Lays the configuration of the backup beside the data: the one that is in use
/// may be right for this machine.
fn keep_configuration(small: &[Small], data: &Path) -> Result<Option<PathBuf>, BackupError> {
    let Some((_, content)) = small.iter().find(|(name, _)| name == CONFIGURATION) else { return Ok(None) };
    let path = data.join("restored-agentd.toml");
    write(&path, content, owner(data)?)?;
    Ok(Some(path))
}
