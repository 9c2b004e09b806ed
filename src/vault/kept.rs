//! Secrets that lie as files in the data folder's `secrets/`, where only their
//! owner can read them.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::db::folder_of;
use crate::id::random_bytes;

/// The folder of such files in a data folder.
#[must_use]
pub fn folder(data: &Path) -> PathBuf {
    data.join("secrets")
}

/// A secret that nobody configured: made at the first start and kept.
///
/// # Errors
/// When its file cannot be read or written, or is empty.
pub fn secret(data: &Path, name: &str) -> Result<String, String> {
    let path = folder(data).join(name);
    if let Some(text) = read(&path)? {
        return Ok(text);
    }
    let secret: String = [0; 2].map(|_: u8| format!("{:032x}", u128::from_ne_bytes(random_bytes()))).concat();
    make(&path, &secret)?;
    Ok(secret)
}

/// What a file holds; `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, String> {
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Err(_)) => Err(format!("the secret {} is not UTF-8; restore it from a backup", path.display())),
        Ok(Ok(text)) if !text.trim().is_empty() => Ok(Some(text.trim().to_owned())),
        Ok(Ok(_)) => Err(format!("the secret {} is empty; restore it from a backup", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("the secret {} cannot be read: {error}", path.display())),
    }
}

/// Writes a secret that was not there.
///
/// # Errors
/// When it cannot be written.
pub fn make(path: &Path, secret: &str) -> Result<(), String> {
    write(path, secret).map_err(|error| format!("the secret {} cannot be written: {error}", path.display()))?;
    tracing::info!(path = %path.display(), "made a secret that was not configured");
    Ok(())
}

/// Writes a secret: all of it is on the disk, or nothing.
pub(super) fn write(path: &Path, secret: &str) -> io::Result<()> {
    let folder = folder_of(path);
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    rename(Path::new(&partial), path)
}

/// Puts one file in the place of another, on the disk when this returns.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    std::fs::File::open(folder_of(to))?.sync_all()
}
