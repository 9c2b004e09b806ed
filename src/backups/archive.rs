//! The file of a backup: a tar, packed by zstd, encrypted by age if it is for
//! somebody. Each of the three is a format that other programs read too, so a
//! backup can be opened without agentd:
//! `age -d -i KEY FILE.age | zstd -d | tar x`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use serde::{Deserialize, Serialize};

use super::error::{BackupError, io_at};
use super::keys::Keys;
use super::pace::{Pace, Paced};
use super::state::Identity;
use crate::clock::Timestamp;
use crate::db::{folder_of, free_bytes};
use crate::id::hex;

/// The version of this layout.
const FORMAT: u32 = 1;
/// How hard zstd tries: its own default.
const LEVEL: i32 = 3;
/// A manifest or a secret is not longer.
const SMALL: u64 = 1 << 20;
const MANIFEST: &str = "manifest.json";
const DATABASE: &str = "agentd.db";
/// The folder of secrets in the archive.
pub(super) const SECRETS: &str = "secrets/";
/// The configuration file in the archive.
pub(super) const CONFIGURATION: &str = "agentd.toml";

/// What is in a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the layout.
    pub format: u32,
    /// The instance's id.
    pub instance: String,
    /// How often it has been restored, from 1.
    pub timeline: u32,
    /// The version of the database's schema.
    pub schema: i32,
    /// The agentd that made it.
    pub agentd: String,
    /// When it was begun.
    pub created_at: Timestamp,
    /// The size of the database, in bytes.
    pub database_bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub database_sha256: String,
}

impl Manifest {
    pub(super) fn new(identity: Identity, schema: i32, created_at: Timestamp, database: &Hashed) -> Self {
        Self {
            format: FORMAT,
            instance: identity.instance,
            timeline: identity.timeline,
            schema,
            agentd: env!("CARGO_PKG_VERSION").into(),
            created_at,
            database_bytes: database.bytes,
            database_sha256: database.sha256.clone(),
        }
    }
}

/// A small file beside the database: its place in the archive, and its content.
pub(super) type Small = (String, Vec<u8>);

/// How many bytes a file has, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hashed {
    pub bytes: u64,
    pub sha256: String,
}

/// A new file for its owner alone, whatever the umask: it holds everybody's data,
/// and not every verb has set one.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Reads a file to its end.
pub(super) fn hash(path: &Path) -> Result<Hashed, BackupError> {
    let file = File::open(path).map_err(io_at("cannot read", path))?;
    let mut sink = HashOnly::default();
    let bytes = io::copy(&mut Paced::new(file, Pace::Half), &mut sink).map_err(io_at("cannot read", path))?;
    Ok(Hashed { bytes, sha256: sink.hex() })
}

struct HashOnly(Context);

impl Default for HashOnly {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl HashOnly {
    fn hex(self) -> String {
        let digest: Digest = self.0.finish();
        hex(digest.as_ref())
    }
}

impl Write for HashOnly {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is under the tar and zstd.
enum Outer {
    Plain(BufWriter<File>),
    Age(Box<age::stream::StreamWriter<BufWriter<File>>>),
}

impl Write for Outer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Age(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Age(stream) => stream.flush(),
        }
    }
}

/// Writes a backup into a new file, down to the disk; its size. The small files
/// go in only when it is encrypted.
pub(super) fn pack(
    into: &Path,
    keys: &Keys,
    manifest: &Manifest,
    database: &Path,
    small: &[Small],
) -> Result<u64, BackupError> {
    let fault = |error| io_at("cannot write", into)(error);
    let file = BufWriter::with_capacity(1 << 20, create(into).map_err(fault)?);
    let outer = match keys.encryptor() {
        Some(encryptor) => Outer::Age(Box::new(encryptor.wrap_output(file).map_err(fault)?)),
        None => Outer::Plain(file),
    };
    let encrypted = matches!(outer, Outer::Age(_));
    let mut zstd = zstd::Encoder::new(outer, LEVEL).map_err(fault)?;
    zstd.include_checksum(true).map_err(fault)?;
    let mut tar = tar::Builder::new(zstd);
    let text = serde_json::to_vec_pretty(manifest).map_err(|error| fault(error.into()))?;
    append(&mut tar, MANIFEST, text.len() as u64, &text[..], manifest.created_at).map_err(fault)?;
    for (name, content) in small.iter().filter(|_| encrypted) {
        append(&mut tar, name, content.len() as u64, &content[..], manifest.created_at).map_err(fault)?;
    }
    let source = File::open(database).map_err(io_at("cannot read", database))?;
    append(&mut tar, DATABASE, manifest.database_bytes, Paced::new(source, Pace::Half), manifest.created_at)
        .map_err(fault)?;
    let outer = tar.into_inner().and_then(zstd::Encoder::finish).map_err(fault)?;
    let file = match outer {
        Outer::Plain(file) => file,
        Outer::Age(stream) => stream.finish().map_err(fault)?,
    };
    let file = file.into_inner().map_err(|error| fault(error.into_error()))?;
    file.sync_all().map_err(fault)?;
    Ok(file.metadata().map_err(fault)?.len())
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    bytes: u64,
    content: impl Read,
    at: Timestamp,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(at.micros() / 1_000_000).unwrap_or(0));
    tar.append_data(&mut header, name, content)
}

/// A backup that was read.
#[derive(Debug)]
pub struct Unpacked {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The small files in it.
    pub(super) small: Vec<Small>,
}

/// Reads a backup to its end and holds it against its manifest. The database
/// goes into a new file, or nowhere.
pub(super) fn unpack(from: &Path, keys: &Keys, database: Option<&Path>, pace: Pace) -> Result<Unpacked, BackupError> {
    let file = BufReader::with_capacity(1 << 20, File::open(from).map_err(io_at("cannot read", from))?);
    let read = read(Paced::new(file, pace), keys, database);
    if let (Err(_), Some(path)) = (&read, database) {
        let _ = std::fs::remove_file(path);
    }
    read.map_err(|error| name_it(error, from))
}

/// Errors of reading are the backup's, whatever made them.
fn damaged(error: &io::Error) -> BackupError {
    let what =
        if error.kind() == io::ErrorKind::UnexpectedEof { "it ends too early".into() } else { error.to_string() };
    BackupError::Damaged(what)
}

fn name_it(error: BackupError, from: &Path) -> BackupError {
    match error {
        BackupError::NotABackup(what) => {
            BackupError::NotABackup(format!("{} is no backup of agentd: {what}", from.display()))
        }
        BackupError::Damaged(what) => BackupError::Damaged(format!("{}: {what}", from.display())),
        BackupError::Locked(what) => BackupError::Locked(format!("{} {what}", from.display())),
        other => other,
    }
}

/// The first bytes of what zstd and age write.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const AGE: &[u8] = b"age-encryption.org/";

pub(super) fn read(mut from: impl Read, keys: &Keys, database: Option<&Path>) -> Result<Unpacked, BackupError> {
    let mut start = vec![0; AGE.len()];
    let mut filled = 0;
    while filled < start.len() {
        match from.read(&mut start[filled..]).map_err(|error| damaged(&error))? {
            0 => break,
            bytes => filled += bytes,
        }
    }
    start.truncate(filled);
    let whole = io::Cursor::new(start.clone()).chain(from);
    if start.starts_with(ZSTD) {
        entries(whole, database)
    } else if start == AGE {
        entries(keys.decrypt(whole)?, database)
    } else {
        Err(BackupError::NotABackup("it begins with other bytes".into()))
    }
}

fn entries(from: impl Read, database: Option<&Path>) -> Result<Unpacked, BackupError> {
    let zstd = zstd::Decoder::new(from).map_err(|error| damaged(&error))?;
    let mut tar = tar::Archive::new(zstd);
    let (mut manifest, mut small, mut found) = (None::<Manifest>, Vec::new(), None);
    for entry in tar.entries().map_err(|error| damaged(&error))? {
        let mut entry = entry.map_err(|error| damaged(&error))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(BackupError::NotABackup(format!("{name:?} in it is no file")));
        }
        match (name.as_str(), &manifest) {
            (MANIFEST, None) => manifest = Some(read_manifest(&content(&mut entry, &name)?)?),
            (DATABASE, Some(manifest)) => found = Some(read_database(&mut entry, manifest, database)?),
            (name, Some(_)) if is_small(name) => small.push((name.to_owned(), content(&mut entry, name)?)),
            _ => return Err(BackupError::NotABackup(format!("{name:?} is not expected in it"))),
        }
    }
    // What stands behind the tar is read too: the checksum of zstd, the end of age.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(|error| damaged(&error))?;
    match (manifest, found) {
        (Some(manifest), Some(())) => Ok(Unpacked { manifest, small }),
        _ => Err(BackupError::Damaged("it ends too early".into())),
    }
}

/// Whether a small file may have this name; it becomes one of a file on disk.
fn is_small(name: &str) -> bool {
    let plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    name == CONFIGURATION || name.strip_prefix(SECRETS).is_some_and(plain)
}

fn content(entry: &mut impl Read, name: &str) -> Result<Vec<u8>, BackupError> {
    let mut bytes = Vec::new();
    entry.take(SMALL + 1).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
    if bytes.len() as u64 > SMALL {
        return Err(BackupError::NotABackup(format!("{name:?} in it is too long")));
    }
    Ok(bytes)
}

fn read_manifest(bytes: &[u8]) -> Result<Manifest, BackupError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let wrong = |error: serde_json::Error| BackupError::NotABackup(format!("{MANIFEST} in it: {error}"));
    let version: Version = serde_json::from_slice(bytes).map_err(wrong)?;
    if version.format != FORMAT {
        let what =
            format!("its layout has version {}, this agentd reads {FORMAT}; a newer agentd made it", version.format);
        return Err(BackupError::NotABackup(what));
    }
    serde_json::from_slice(bytes).map_err(wrong)
}

fn read_database(entry: &mut impl Read, manifest: &Manifest, into: Option<&Path>) -> Result<(), BackupError> {
    // No more than it says, and nothing that there is no room for.
    let entry = entry.take(manifest.database_bytes.saturating_add(1));
    if let Some(path) = into {
        enough_space(path, manifest.database_bytes)?;
    }
    let mut hashing = Hashing { inner: entry, hash: HashOnly::default() };
    let bytes = match into {
        None => io::copy(&mut hashing, &mut io::sink()).map_err(|error| damaged(&error))?,
        Some(path) => {
            let mut file = create(path).map_err(io_at("cannot write", path))?;
            let bytes = copy_to_file(&mut hashing, &mut file, path)?;
            file.sync_all().map_err(io_at("cannot write", path))?;
            bytes
        }
    };
    let hash = hashing.hash.hex();
    if bytes != manifest.database_bytes || hash != manifest.database_sha256 {
        return Err(BackupError::Damaged("the database in it is not the one that was put in".into()));
    }
    Ok(())
}

fn enough_space(path: &Path, needed: u64) -> Result<(), BackupError> {
    let folder = folder_of(path);
    let free = free_bytes(folder).unwrap_or(u64::MAX);
    if free < needed {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let (needed, free, place) = (mib(needed), mib(free), folder.display());
        return Err(BackupError::Full(format!(
            "the database in it needs {needed} MiB in {place}, where {free} MiB are free"
        )));
    }
    Ok(())
}

/// Like `io::copy`, and keeps apart whose error it is.
fn copy_to_file(from: &mut impl Read, into: &mut File, path: &Path) -> Result<u64, BackupError> {
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        let read = from.read(&mut buffer).map_err(|error| damaged(&error))?;
        if read == 0 {
            return Ok(bytes);
        }
        into.write_all(&buffer[..read]).map_err(io_at("cannot write", path))?;
        bytes += read as u64;
    }
}

struct Hashing<R> {
    inner: R,
    hash: HashOnly,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.hash.0.update(&into[..read]);
        Ok(read)
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
