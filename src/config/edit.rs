//! Changing a configuration file in place: comments and order stay, and the
//! file is only replaced by one that the service would start with.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};
use toml_edit::{DocumentMut, Item, Table, Value};

use super::{Fault, Loaded, Sources, load};
use crate::text::read_file;

/// Why a file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file cannot be read or replaced.
    #[error("{}: {what}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It has faults already, or would have them.
    #[error("the configuration would have faults")]
    Faults(Vec<Fault>),
}

/// A file being changed.
#[derive(Debug)]
pub struct FileEdit {
    path: PathBuf,
    document: DocumentMut,
    before: String,
}

impl FileEdit {
    /// Reads a file; one that is not there is empty.
    ///
    /// # Errors
    /// When it cannot be read or is no TOML.
    pub fn open(path: &Path) -> Result<Self, EditError> {
        // Where it is a link, what it leads to is replaced.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let before = match read_file(&path) {
            Ok(text) => text,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(EditError::Io { path, what: "cannot be read", source }),
        };
        match before.parse() {
            Ok(document) => Ok(Self { path, document, before }),
            Err(error) => {
                let line = before[..error.span().map_or(0, |span| span.start)].matches('\n').count() + 1;
                let fault = Fault::new(format!("{}:{line}", path.display()), error.message().to_owned());
                Err(EditError::Faults(vec![fault]))
            }
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets a key of a section, where it says something else.
    ///
    /// # Errors
    /// When the section is no section there.
    pub fn set(&mut self, section: &str, key: &str, value: impl Into<Value>) -> Result<(), EditError> {
        let mut value: Value = value.into();
        let table = self.document.entry(section).or_insert_with(|| Item::Table(Table::new()));
        let Some(table) = table.as_table_like_mut() else {
            let fault = Fault::new(self.path.display().to_string(), format!("{section} must be a section"));
            return Err(EditError::Faults(vec![fault]));
        };
        match table.get_mut(key).and_then(Item::as_value_mut) {
            Some(there) if same(there, &value) => {}
            Some(there) => {
                // With the comment behind it.
                *value.decor_mut() = there.decor().clone();
                *there = value;
            }
            None => {
                table.insert(key, Item::Value(value));
            }
        }
        Ok(())
    }

    /// Whether anything has been changed.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.document.to_string() != self.before
    }

    /// Replaces the file, when the service would start with what it becomes;
    /// else nothing is changed. `sources` are those of the service; their file
    /// is this one.
    ///
    /// # Errors
    /// When it would not, or the file cannot be replaced.
    pub fn save(self, sources: &Sources) -> Result<Loaded, EditError> {
        let Self { path, document, .. } = self;
        let text = document.to_string();
        let io = |what| {
            let path = path.clone();
            move |source| EditError::Io { path, what, source }
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let partial = folder.join(format!(".{name}.{}", std::process::id()));
        let _removed = Removed(partial.clone());
        write_as(&partial, &path, &text).map_err(io("cannot be replaced"))?;
        let sources = Sources { file: Some(partial.clone()), ..sources.clone() };
        let loaded = load(&sources).map_err(|faults| {
            let (from, to) = (partial.display().to_string(), path.display().to_string());
            EditError::Faults(faults.into_iter().map(|fault| fault.in_file(&from, &to)).collect())
        })?;
        std::fs::rename(&partial, &path).map_err(io("cannot be replaced"))?;
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("may be lost by a crash"))?;
        Ok(loaded)
    }
}

/// Whether two values say the same, however they are written.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::String(one), Value::String(other)) => one.value() == other.value(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other.iter()).all(|(one, other)| same(one, other))
        }
        _ => one.to_string().trim() == other.to_string().trim(),
    }
}

/// Writes a file with the mode and the owner of another one.
fn write_as(partial: &Path, like: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(partial)?;
    if let Ok(found) = std::fs::metadata(like) {
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != (found.uid(), found.gid()) {
            rustix::fs::fchown(&file, Some(Uid::from_raw(found.uid())), Some(Gid::from_raw(found.gid())))?;
        }
        file.set_permissions(std::fs::Permissions::from_mode(found.mode() & 0o7777))?;
    } else {
        // The service has to read it, whatever the mask of whoever makes it; there
        // are no secrets in what is written here.
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A file that goes away with this, if it is still there.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edited(text: &str, set: impl FnOnce(&mut FileEdit)) -> Result<String, EditError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agentd.toml");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("a mode");
        let mut edit = FileEdit::open(&path)?;
        set(&mut edit);
        let outcome = edit.save(&Sources::default());
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777, 0o640, "the mode stays");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left behind");
        let now = std::fs::read_to_string(&path).expect("text");
        if outcome.is_err() {
            assert_eq!(now, text, "nothing is changed");
        }
        outcome.map(|_| now)
    }

    #[test]
    fn comments_and_order_stay() {
        let text = "# About\n[server] # here\n# listen = \"127.0.0.1:8000\"\nlisten = \"127.0.0.1:1\" # where\n\n\
                    [log]\nlevel = \"info\"\n# the end\n";
        let set = |edit: &mut FileEdit| {
            edit.set("server", "listen", "127.0.0.1:2").expect("set");
            edit.set("tls", "mode", "self_signed").expect("set");
            edit.set("log", "level", "info").expect("set");
        };
        let now = edited(text, set).expect("changed");
        let expected = text
            .replace("127.0.0.1:1\"", "127.0.0.1:2\"")
            .replace("# the end\n", "\n[tls]\nmode = \"self_signed\"\n# the end\n");
        assert_eq!(now, expected);
    }

    #[test]
    fn inline_and_dotted_sections_are_found() {
        let dotted = "server.listen = \"127.0.0.1:1\"\ntls = { mode = \"off\" }\n";
        let set = |edit: &mut FileEdit| {
            edit.set("server", "listen", "127.0.0.1:2").expect("set");
            edit.set("tls", "mode", "self_signed").expect("set");
        };
        let now = edited(dotted, set).expect("changed");
        assert_eq!(now, "server.listen = \"127.0.0.1:2\"\ntls = { mode = \"self_signed\" }\n");
    }

    #[test]
    fn a_file_with_which_the_service_would_not_start_is_not_written() {
        for (text, wrong) in [("[server]\nlisten = \"127.0.0.1:1\"\n", "nonsense"), ("[nonsense]\na = 1\n", "off")] {
            let refused = edited(text, |edit| edit.set("tls", "mode", wrong).expect("set"));
            let Err(EditError::Faults(faults)) = refused else { panic!("{refused:?}") };
            assert!(faults[0].to_string().contains("/agentd.toml:"), "{faults:?}");
        }
        assert!(matches!(edited("[server\n", |_| ()), Err(EditError::Faults(_))));
    }

    #[test]
    fn what_says_the_same_is_no_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agentd.toml");
        std::fs::write(&path, "[tls]\nmode   =  'acme' # so\n[acme]\ndomains=['a.example' ]\n").expect("written");
        let mut edit = FileEdit::open(&path).expect("read");
        edit.set("tls", "mode", "acme").expect("set");
        edit.set("acme", "domains", toml_edit::Array::from_iter(["a.example"])).expect("set");
        assert!(!edit.is_changed());
        edit.set("tls", "mode", "off").expect("set");
        assert!(edit.is_changed());
    }

    proptest! {
        #[test]
        fn a_value_is_read_back_whatever_is_in_it(value in "\\PC{0,40}|[\\x00-\\x7f]{0,10}") {
            let folder = tempfile::tempdir().expect("a folder");
            let mut edit = FileEdit::open(&folder.path().join("none.toml")).expect("an empty file");
            edit.set("acme", "email", value.as_str()).expect("set");
            let read: DocumentMut = edit.document.to_string().parse().expect("TOML");
            prop_assert_eq!(read["acme"]["email"].as_str(), Some(value.as_str()));
            prop_assert_eq!(read.as_table().len(), 1);
        }
    }
}
