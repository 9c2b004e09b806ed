//! Where the database is. A name that SQLite would take for something else than
//! a file is refused, and a link is followed: what is locked, and what is beside
//! the database, is where the file really lies.

use std::path::{Path, PathBuf};

use super::reader::Reader;
use super::sections::aliased;
use crate::text::visible;

const KEY: &str = "data.database";

/// Reads `data.database`; `agentd.db` in the data folder where it is not set.
pub(super) fn read(reader: &mut Reader<'_>, dir: &Path) -> PathBuf {
    let key = aliased(KEY, "AGENT_DB_PATH", "The database file; agentd.db in data.dir when not set.");
    let set = reader.optional::<PathBuf>(key);
    let path = set.clone().unwrap_or_else(|| dir.join("agentd.db"));
    let outcome = match &set {
        Some(path) => is_a_file_name(path).and_then(|()| followed(path)),
        None => followed(&path),
    };
    outcome.unwrap_or_else(|fault| {
        reader.fault_at_key(if set.is_some() { KEY } else { "data.dir" }, fault);
        path
    })
}

fn is_a_file_name(path: &Path) -> Result<(), String> {
    let text = path.to_string_lossy();
    let shown = visible(&text);
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("file:") || lower.starts_with(":memory:") || lower.starts_with("sqlite:") {
        return Err(format!("{KEY} is {shown}, a URI or a name that is no file; write the path of a file alone"));
    }
    if text.contains('?') {
        return Err(format!("{KEY} is {shown}; parameters behind ? are not taken, write the path of a file alone"));
    }
    if path.file_name().is_none() || text.ends_with('/') {
        return Err(format!("{KEY} is {shown}, which names no file; write the path of one, such as /data/agentd.db"));
    }
    Ok(())
}

/// The file that a link leads to.
fn followed(path: &Path) -> Result<PathBuf, String> {
    if !path.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
        return Ok(path.to_owned());
    }
    path.canonicalize().map_err(|error| {
        let to = path.read_link().unwrap_or_default();
        format!(
            "the database {} is a link to {}, which cannot be used: {error}; mount or restore that file, or remove the link",
            path.display(),
            to.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_files_are_taken() {
        for path in ["jobs.db", "./jobs.db", "/data/agentd.db", "/data/file:x", "../x.db"] {
            assert_eq!(is_a_file_name(Path::new(path)), Ok(()), "{path}");
        }
        for path in
            ["file:x.db", "FILE:/x.db?mode=memory", ":memory:", "sqlite:x.db", "/x.db?mode=ro", "/data/", "..", "/"]
        {
            assert!(is_a_file_name(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_link_is_followed_to_its_end() {
        let place = tempfile::tempdir().expect("a folder");
        let real = place.path().canonicalize().expect("a path");
        let at = |name: &str| real.join(name);
        std::fs::write(at("real.db"), "x").expect("written");
        std::os::unix::fs::symlink("real.db", at("one.db")).expect("a link");
        std::os::unix::fs::symlink("one.db", at("two.db")).expect("a link");
        std::os::unix::fs::symlink("nothing.db", at("dangling.db")).expect("a link");
        assert_eq!(followed(&at("two.db")), Ok(at("real.db")));
        assert_eq!(followed(&at("real.db")), Ok(at("real.db")));
        assert_eq!(followed(&at("none.db")), Ok(at("none.db")));
        assert!(followed(&at("dangling.db")).expect_err("refused").contains("is a link to nothing.db"));
    }
}
