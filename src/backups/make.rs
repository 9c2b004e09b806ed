//! Making one: copied while the service works, looked through, packed, and read
//! back from the disk before it is called a backup.

use std::fs;
use std::path::{Path, PathBuf};

use super::archive::{self, CONFIGURATION, Manifest, SECRETS, Small};
use super::error::{BackupError, io_at};
use super::keys::Keys;
use super::name::Name;
use super::pace::Pace;
use super::state;
use crate::clock::Timestamp;
use crate::db::{Db, DbFile, folder_of, free_bytes};
use crate::vault::{self, Key, KeyId};

/// Files that are not whole yet end like this.
const PARTIAL: &str = "partial";
/// A secret is no longer than this.
const SECRET_BYTES: u64 = 1 << 16;

/// What a backup is made of, and where it goes.
pub(super) struct Source {
    pub db: Db,
    /// The folder of the backups.
    pub dir: PathBuf,
    /// The folder of the secrets that go with them.
    pub secrets: PathBuf,
    /// The configuration file, where there is one.
    pub configuration: Option<PathBuf>,
    pub keys: Keys,
}

/// A backup that was made.
pub(super) struct Made {
    pub name: Name,
    pub bytes: u64,
    pub database_bytes: u64,
}

/// A file that goes away again unless it becomes what it was to be.
pub(super) struct Partial(PathBuf);

impl Partial {
    pub(super) fn new(dir: &Path, what: &str) -> Self {
        let partial = Self(dir.join(format!(".{what}.{PARTIAL}")));
        partial.remove();
        partial
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// With what the database's engine may have left beside it, which it would
    /// take for a part of the next file of this name.
    fn remove(&self) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let mut path = self.0.clone().into_os_string();
            path.push(suffix);
            let _ = fs::remove_file(path);
        }
    }

    /// Gives it its name, for good.
    pub(super) fn finish(self, path: &Path) -> Result<(), BackupError> {
        fs::rename(&self.0, path).map_err(io_at("cannot write", path))?;
        let folder = folder_of(path);
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_at("cannot write", folder))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The folder, which only its owner may look into, without what a process that
/// was killed has left in it.
pub(super) fn clear(dir: &Path) -> Result<(), BackupError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_at("cannot make the folder", dir))?;
    let entries = fs::read_dir(dir).map_err(io_at("cannot read the folder", dir))?;
    let is_left = |path: &PathBuf| {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        hidden && path.file_name().is_some_and(|name| name.to_string_lossy().contains(PARTIAL))
    };
    for path in entries.flatten().map(|entry| entry.path()).filter(is_left) {
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
    }
    Ok(())
}

/// Makes one. Blocks for as long as it takes; `go_on` is asked now and then.
pub(super) fn make(source: &Source, at: Timestamp, go_on: &dyn Fn() -> bool) -> Result<Made, BackupError> {
    clear(&source.dir)?;
    enough_space(source)?;
    let stopped = || if go_on() { Ok(()) } else { Err(BackupError::Stopped) };
    let copy = Partial::new(&source.dir, "copy");
    source.db.copy_to(copy.path(), go_on).map_err(|error| match error {
        crate::db::Error::Closed => BackupError::Stopped,
        crate::db::Error::Full => io_at("", &source.dir)(std::io::ErrorKind::StorageFull.into()),
        error => error.into(),
    })?;
    stopped()?;
    let file = DbFile::open(copy.path())?.at_half_speed()?;
    file.check()?;
    let schema = file.schema()?;
    let identity =
        file.read(state::identity)?.ok_or_else(|| BackupError::Refused("the database has no name yet".into()))?;
    let sealed_with = file.read(vault::key_id)?;
    drop(file);
    stopped()?;
    let hashed = archive::hash(copy.path())?;
    let manifest = Manifest::new(identity, schema, at, &hashed);
    let name = Name {
        instance: Name::instance_of(&manifest.instance),
        timeline: manifest.timeline,
        schema,
        at,
        encrypted: source.keys.encrypts(),
    };
    let small = small_files(source)?;
    fits(&small, sealed_with)?;
    let packed = Partial::new(&source.dir, &name.to_string());
    let bytes = archive::pack(packed.path(), &source.keys, &manifest, copy.path(), &small)?;
    drop(copy);
    stopped()?;
    // What counts is what comes back from the disk.
    archive::unpack(packed.path(), &source.keys, None, Pace::Half)?;
    packed.finish(&source.dir.join(name.to_string()))?;
    Ok(Made { name, bytes, database_bytes: hashed.bytes })
}

/// The master key may have been changed since the copy was taken.
fn fits(small: &[Small], sealed_with: Option<KeyId>) -> Result<(), BackupError> {
    let name = format!("{SECRETS}{}", vault::MASTER_KEY);
    let text = small.iter().find(|(known, _)| *known == name).map(|(_, text)| String::from_utf8_lossy(text));
    // Where it is in the configuration it is not among the files.
    let found = text.and_then(|text| Key::parse(text.trim()).ok()).map(|key| key.id());
    if found.is_some() && sealed_with.is_some() && found != sealed_with {
        return Err(BackupError::Refused("the master key was changed while the backup was made".into()));
    }
    Ok(())
}

/// The copy and what is packed of it lie beside each other for a while.
fn enough_space(source: &Source) -> Result<(), BackupError> {
    let (database, log) = source.db.file_bytes();
    let needed = database + log + database / 2;
    let free = free_bytes(&source.dir).unwrap_or(u64::MAX);
    if free < needed {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        return Err(BackupError::Full(format!(
            "a backup needs up to {} MiB in {}, where {} MiB are free; free some space, or set backup.dir to another disk",
            mib(needed),
            source.dir.display(),
            mib(free)
        )));
    }
    Ok(())
}

/// The secrets and the configuration, for encrypted backups.
fn small_files(source: &Source) -> Result<Vec<Small>, BackupError> {
    if !source.keys.encrypts() {
        return Ok(Vec::new());
    }
    let mut small = Vec::new();
    if let Some(path) = &source.configuration {
        small.push((CONFIGURATION.to_owned(), fs::read(path).map_err(io_at("cannot read", path))?));
    }
    let entries = match fs::read_dir(&source.secrets) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(small),
        Err(error) => return Err(io_at("cannot read", &source.secrets)(error)),
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let kept = path.extension().is_none_or(|extension| extension != PARTIAL);
        let short = fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() <= SECRET_BYTES);
        if let (true, Some(name)) = (kept && short, path.file_name().and_then(|name| name.to_str())) {
            small.push((format!("{SECRETS}{name}"), fs::read(&path).map_err(io_at("cannot read", &path))?));
        }
    }
    Ok(small)
}
