//! One data folder, one process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::OpenError;

/// The file in a folder that is locked.
pub const LOCK: &str = "agentd.lock";

/// The right to use a data folder, held for as long as this lives. The kernel
/// takes it back when the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Makes the folder when it is not there (mode 0700) and takes the lock.
    ///
    /// # Errors
    /// When another process has it (named by its pid) or the folder cannot be
    /// written.
    pub fn acquire(folder: &Path) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Folder { folder: PathBuf::from(folder), source };
        make_folder(folder).map_err(unusable)?;
        let path = folder.join(LOCK);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                return Err(OpenError::Locked { folder: folder.into(), pid: pid.trim().into() });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        file.set_len(0).map_err(unusable)?;
        file.rewind().map_err(unusable)?;
        writeln!(file, "{}", std::process::id()).map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_process_is_told_the_first_ones_pid() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = FolderLock::acquire(folder.path()).expect("the first gets it");
        match FolderLock::acquire(folder.path()) {
            Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
            other => panic!("expected a refusal, got {other:?}"),
        }
        drop(first);
        FolderLock::acquire(folder.path()).expect("free again");
    }
}
