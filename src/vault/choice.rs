//! Which master key is used: where one may lie, and whether it is the one that
//! the database belongs to.

use std::path::{Path, PathBuf};

use super::kept;
use super::key::{Key, KeyId};
use crate::config::{DataSection, Secret};
use crate::db;

/// The master key's file in `secrets/`.
pub const MASTER_KEY: &str = "master.key";
/// The one that takes its place, while everything is sealed anew.
const NEXT: &str = "master.key.new";

/// Why the sealed values cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A key is configured, and is none.
    #[error("{setting} {what}")]
    Unusable {
        /// Which setting, or which file.
        setting: String,
        /// What is wrong with it.
        what: String,
    },
    /// None of the keys is the one that the database belongs to.
    #[error(
        "the secrets in the database are sealed with the master key {wanted}, which is not here: {}. Put that key \
         back from where you keep it; or restore an encrypted backup, which has it inside; or give the sealed secrets \
         up with agentd admin forget-secrets: certificates and their accounts are then ordered anew", .looked.join("; ")
    )]
    Missing {
        /// The key that is wanted.
        wanted: KeyId,
        /// What was found in each place.
        looked: Vec<String>,
    },
    /// It has the right id and does not open what it should.
    #[error("the database's mark of the master key {0} has been changed: the database is damaged; restore a backup")]
    Damaged(KeyId),
    /// A secret cannot be opened with the key of the database.
    #[error("the secret {name:?} in the database cannot be opened: {what}; restore a backup")]
    Unsealable {
        /// Which one.
        name: String,
        /// Why.
        what: String,
    },
    /// A file cannot be read or written.
    #[error("{0}")]
    File(String),
    /// The database failed.
    #[error("the secrets in the database could not be read or written: {0}")]
    Database(#[from] db::Error),
}

/// The keys that there are.
#[derive(Debug)]
pub(super) struct Keys {
    pub configured: Option<Key>,
    pub previous: Option<Key>,
    /// In `secrets/`; not fatal where it is not asked for.
    pub kept: Result<Option<Key>, String>,
    pub next: Option<Key>,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Choice {
    /// This one it is.
    Use(Key),
    /// There is none yet, and need not be.
    Make,
    /// A rotation was cut short after everything was sealed anew: the file
    /// takes its place.
    Promote(Key),
    /// Everything is sealed anew, with `to` or with one that is made.
    Change { from: Key, to: Option<Key> },
}

/// The file that keeps the key where none is configured.
pub(super) fn kept_file(data: &Path) -> PathBuf {
    kept::folder(data).join(MASTER_KEY)
}

pub(super) fn next_file(data: &Path) -> PathBuf {
    kept::folder(data).join(NEXT)
}

impl Keys {
    /// Looks in every place.
    pub(super) fn look(data: &DataSection) -> Result<Self, Fault> {
        let file = |path: PathBuf| -> Result<Option<Key>, String> {
            let read = |text: String| Key::parse(&text).map_err(|fault| format!("{} {fault}", path.display()));
            kept::read(&path)?.map(read).transpose()
        };
        Ok(Self {
            configured: configured("data.master_key", &data.master_key)?,
            previous: configured("data.previous_master_key", &data.previous_master_key)?,
            kept: file(kept_file(&data.dir)),
            // One that was cut short while it was written was never used.
            next: file(next_file(&data.dir)).unwrap_or_default(),
        })
    }

    /// Compares them with the key that the database is sealed with, if it is.
    pub(super) fn choose(self, wanted: Option<KeyId>, data: &Path) -> Result<Choice, Fault> {
        let missing = wanted.map(|wanted| Fault::Missing { wanted, looked: self.places(data) });
        let is_configured = self.configured.is_some();
        let own = match (self.configured, self.kept) {
            (Some(key), _) => Some(key),
            (None, Ok(kept)) => kept,
            (None, Err(what)) => {
                return self
                    .next
                    .filter(|next| Some(next.id()) == wanted)
                    .map_or(Err(Fault::File(what)), |next| Ok(Choice::Promote(next)));
            }
        };
        let (Some(wanted), Some(missing)) = (wanted, missing) else {
            return Ok(own.map_or(Choice::Make, Choice::Use));
        };
        let is_it = |key: &Key| key.id() == wanted;
        match (own, self.next, self.previous) {
            (Some(own), _, _) if is_it(&own) => Ok(Choice::Use(own)),
            (_, Some(next), _) if is_it(&next) && !is_configured => Ok(Choice::Promote(next)),
            (to, _, Some(from)) if is_it(&from) => Ok(Choice::Change { from, to }),
            _ => Err(missing),
        }
    }

    /// What was found where, for people.
    fn places(&self, data: &Path) -> Vec<String> {
        let which = |key: &Option<Key>| {
            key.as_ref().map_or_else(|| "nothing".to_owned(), |key| format!("the key {}", key.id()))
        };
        let path = kept_file(data);
        let kept = match &self.kept {
            Ok(key) => format!("{} has {}", path.display(), which(key)),
            Err(what) => what.clone(),
        };
        let is = |name: &str, key: &Option<Key>| key.as_ref().map(|key| format!("{name} is the key {}", key.id()));
        let mut looked: Vec<_> = is("data.master_key", &self.configured).into_iter().collect();
        looked.extend(is("data.previous_master_key", &self.previous));
        looked.push(kept);
        looked
    }
}

fn configured(setting: &str, secret: &Secret) -> Result<Option<Key>, Fault> {
    let unusable = |what: String| Fault::Unusable { setting: setting.into(), what };
    let text = secret.resolve().map_err(|what| unusable(format!(": {what}")))?;
    text.map(|text| Key::parse(&text).map_err(|fault| unusable(fault.to_string()))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(key: &Key) -> Key {
        Key::parse(&key.reveal()).expect("the same")
    }

    fn keys(configured: Option<&Key>, previous: Option<&Key>, kept: Option<&Key>, next: Option<&Key>) -> Keys {
        let copy = |key: Option<&Key>| key.map(copy);
        Keys { configured: copy(configured), previous: copy(previous), kept: Ok(copy(kept)), next: copy(next) }
    }

    fn told(keys: Keys, wanted: Option<&Key>) -> String {
        match keys.choose(wanted.map(Key::id), Path::new("/data")) {
            Ok(Choice::Use(key)) => format!("use {}", key.id()),
            Ok(Choice::Make) => "make".into(),
            Ok(Choice::Promote(key)) => format!("promote {}", key.id()),
            Ok(Choice::Change { from, to }) => {
                format!("change {} {}", from.id(), to.map_or("made".into(), |to| to.id().to_string()))
            }
            Err(Fault::Missing { .. }) => "missing".into(),
            Err(other) => other.to_string(),
        }
    }

    #[test]
    fn each_case_has_its_answer() {
        let [a, b] = [Key::generate().expect("a key"), Key::generate().expect("a key")];
        let (ida, idb) = (a.id(), b.id());
        let cases = [
            (keys(None, None, None, None), None, "make".to_owned()),
            (keys(None, None, Some(&a), None), None, format!("use {ida}")),
            (keys(Some(&a), None, Some(&b), None), None, format!("use {ida}")),
            (keys(None, None, Some(&a), Some(&b)), Some(&a), format!("use {ida}")),
            (keys(None, None, Some(&a), Some(&b)), Some(&b), format!("promote {idb}")),
            (keys(None, None, None, Some(&b)), Some(&b), format!("promote {idb}")),
            (keys(Some(&a), None, None, Some(&b)), Some(&b), "missing".to_owned()),
            (keys(None, None, None, None), Some(&a), "missing".to_owned()),
            (keys(None, None, Some(&b), None), Some(&a), "missing".to_owned()),
            (keys(Some(&b), None, Some(&a), None), Some(&a), "missing".to_owned()),
            (keys(Some(&b), Some(&a), None, None), Some(&a), format!("change {ida} {idb}")),
            (keys(Some(&b), Some(&a), None, None), Some(&b), format!("use {idb}")),
            (keys(None, Some(&a), None, None), Some(&a), format!("change {ida} made")),
            (keys(None, Some(&a), Some(&b), None), Some(&a), format!("change {ida} {idb}")),
        ];
        for (place, (keys, wanted, answer)) in cases.into_iter().enumerate() {
            assert_eq!(told(keys, wanted), answer, "case {place}");
        }
    }

    #[test]
    fn a_damaged_file_is_no_reason_to_make_another() {
        let key = Key::generate().expect("a key");
        let damaged = || Keys { kept: Err("the file is mistyped".into()), ..keys(None, None, None, None) };
        assert_eq!(told(damaged(), None), "the file is mistyped");
        assert_eq!(told(damaged(), Some(&key)), "the file is mistyped");
        let keys = Keys { kept: Err("the file is mistyped".into()), ..keys(None, None, None, Some(&key)) };
        assert_eq!(told(keys, Some(&key)), format!("promote {}", key.id()));
    }

    #[test]
    fn it_is_said_what_was_found_where() {
        let [a, b] = [Key::generate().expect("a key"), Key::generate().expect("a key")];
        let fault = keys(None, None, Some(&b), None).choose(Some(a.id()), Path::new("/data")).expect_err("missing");
        let text = fault.to_string();
        for part in [a.id().to_string(), b.id().to_string(), "/data/secrets/master.key".into(), "forget-secrets".into()]
        {
            assert!(text.contains(&part), "{part} in {text}");
        }
    }
}
