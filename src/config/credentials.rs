//! Secrets that systemd hands over as credentials (`systemd.exec(5)`): files
//! named as the keys, in a folder that only the service can read.

use std::collections::BTreeMap;
use std::path::Path;

/// Names of all credentials, with their text or why it cannot be read.
pub(super) type Credentials = BTreeMap<String, Result<String, String>>;

/// What lies in the folder; nothing where there is none.
pub(super) fn read(folder: Option<&Path>) -> Credentials {
    let Some(entries) = folder.and_then(|folder| std::fs::read_dir(folder).ok()) else { return BTreeMap::new() };
    let files = entries.flatten().filter(|entry| entry.path().is_file());
    let read = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let text = std::fs::read(entry.path()).map_err(|error| error.to_string());
        let text = text.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()));
        Some((name, text))
    };
    files.filter_map(read).collect()
}
