//! Takes values out of the sources, remembers where each came from, and
//! collects every fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use super::Sources;
use super::credentials::{self, Credentials};
use super::document::{self, Item};
use super::fault::Fault;
use super::setting::Setting;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The file, with line and column.
    File(String),
    /// A variable of the environment.
    Environment(String),
    /// A credential that systemd handed over.
    Credential(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) => f.write_str(place),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Credential(name) => write!(f, "credential {name}"),
            Self::Flag(flag) => write!(f, "command line {flag}"),
        }
    }
}

/// A key as `check --show` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The key in the file.
    pub key: &'static str,
    /// The name that older systems use for it in the environment.
    pub alias: Option<&'static str>,
    /// Its value; secrets masked.
    pub value: String,
    /// Where that comes from.
    pub origin: Origin,
    /// What it is for.
    pub doc: &'static str,
}

/// A key's declaration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Section and name in the file.
    pub path: &'static str,
    /// The name that older systems use for it in the environment.
    pub alias: Option<&'static str>,
    /// What it is for.
    pub doc: &'static str,
}

/// The sources while they are being read.
pub(super) struct Reader<'a> {
    sources: &'a Sources,
    file: BTreeMap<String, Item>,
    credentials: Credentials,
    known: BTreeSet<&'static str>,
    secrets: BTreeSet<&'static str>,
    shown: Vec<Shown>,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: &'a Sources) -> Result<Self, Vec<Fault>> {
        let file = match &sources.file {
            Some(path) => document::read(path).map_err(|fault| vec![fault])?,
            None => BTreeMap::new(),
        };
        Ok(Self {
            sources,
            file,
            credentials: credentials::read(sources.credentials.as_deref()),
            known: BTreeSet::new(),
            secrets: BTreeSet::new(),
            shown: Vec::new(),
            faults: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// A value, or its default.
    pub(super) fn value<T: Setting>(&mut self, key: Key, default: T) -> T {
        match self.find::<T>(key) {
            Some((value, origin)) => {
                self.show(key, value.show(), origin);
                value
            }
            None => {
                self.show(key, default.show(), Origin::Default);
                default
            }
        }
    }

    /// A value that has no default.
    pub(super) fn optional<T: Setting>(&mut self, key: Key) -> Option<T> {
        let found = self.find::<T>(key);
        let (value, origin) = found.map_or((None, Origin::Default), |(value, origin)| (Some(value), origin));
        let shown = value.as_ref().map_or_else(|| "(not set)".into(), Setting::show);
        self.show(key, shown, origin);
        value
    }

    /// A value that is never shown, with where it comes from.
    pub(super) fn secret(&mut self, key: Key) -> Option<(String, Origin)> {
        self.secrets.insert(key.path);
        let found = self.credential(key).or_else(|| self.find::<String>(key));
        let origin = found.as_ref().map_or(Origin::Default, |(_, origin)| origin.clone());
        self.show(key, if found.is_some() { "(secret)" } else { "(not set)" }.into(), origin);
        found
    }

    /// A secret among the credentials. What is in the weaker sources is looked at
    /// all the same, so that a fault there is told.
    fn credential(&mut self, key: Key) -> Option<(String, Origin)> {
        let origin = Origin::Credential(key.path);
        let text = match self.credentials.get(key.path)? {
            Ok(text) if !text.trim().is_empty() => text.clone(),
            Ok(_) => {
                self.fault(&origin, "is empty".into());
                return None;
            }
            Err(error) => {
                let what = format!("cannot be read: {error}");
                self.fault(&origin, what);
                return None;
            }
        };
        self.find::<String>(key);
        Some((text, origin))
    }

    fn show(&mut self, key: Key, value: String, origin: Origin) {
        self.shown.push(Shown { key: key.path, alias: key.alias, value, origin, doc: key.doc });
    }

    /// The strongest source that has the key.
    fn find<T: Setting>(&mut self, key: Key) -> Option<(T, Origin)> {
        self.known.insert(key.path);
        let (text, origin) = self.text(key, T::LIST)?;
        match T::parse(&text) {
            Some(value) => Some((value, origin)),
            None => {
                let why = T::why(&text).unwrap_or_else(|| format!("must be {}", T::EXPECTED));
                self.fault(&origin, format!("{} {why}", key.path));
                None
            }
        }
    }

    fn text(&mut self, key: Key, list: bool) -> Option<(String, Origin)> {
        if let Some((_, flag, value)) = self.sources.flags.iter().find(|(path, _, _)| *path == key.path) {
            return Some((value.clone(), Origin::Flag(flag)));
        }
        let name = variable(key.path);
        let own = self.variable(&name);
        let alias = key.alias.and_then(|alias| self.variable(alias).map(|value| (alias, value)));
        match (own, alias) {
            (Some(own), Some((alias, other))) if own != other => {
                let what = format!("says something else than {alias}; set only one of them");
                self.faults.push(Fault::new(format!("environment {name}"), what));
                return Some((own, Origin::Environment(name)));
            }
            (Some(own), _) => return Some((own, Origin::Environment(name))),
            (None, Some((alias, value))) => return Some((value, Origin::Environment(alias.into()))),
            (None, None) => {}
        }
        let item = self.file.get(key.path)?.clone();
        let origin = Origin::File(item.place);
        let text = item.text.or(item.list.filter(|_| list));
        if text.is_none() {
            self.fault(&origin, format!("{} must be one value, not a list or a date", key.path));
        }
        text.map(|text| (text, origin))
    }

    /// A variable; an empty one counts as not set, as container files write it.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.sources.environment.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// A folder that systemd has made for the service; the first where there are
    /// more (`systemd.exec(5)`).
    pub(super) fn folder(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).and_then(|folders| folders.split(':').next().map(PathBuf::from))
    }

    /// Whether nobody has set a key that has been read.
    pub(super) fn is_default(&self, key: &str) -> bool {
        self.shown.iter().any(|shown| shown.key == key && shown.origin == Origin::Default)
    }

    /// Names of variables that begin so and are set.
    pub(super) fn variables(&self, prefix: &str) -> Vec<String> {
        let set = self.sources.environment.iter().filter(|(name, value)| name.starts_with(prefix) && !value.is_empty());
        set.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn fault(&mut self, origin: &Origin, what: String) {
        self.faults.push(Fault::new(origin.to_string(), what));
    }

    pub(super) fn fault_at_key(&mut self, key: &str, what: String) {
        let origin = self.shown.iter().find(|shown| shown.key == key).map(|shown| shown.origin.clone());
        self.fault(&origin.unwrap_or(Origin::Default), what);
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// The faults of what was read so far; keys that nobody asked for are none.
    pub(super) fn faults(self) -> Result<(), Vec<Fault>> {
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }

    /// What was read, or every fault; keys that nobody asked for are faults.
    pub(super) fn finish(mut self) -> Result<(Vec<Shown>, Vec<String>), Vec<Fault>> {
        for (path, item) in &self.file {
            if !self.known.contains(path.as_str()) {
                let near = nearest(path, self.known.iter().copied());
                self.faults.push(Fault::new(item.place.clone(), format!("unknown key {path:?}{near}")));
            }
        }
        // One that a setting names as a file, such as a private key, is in use.
        let is_named = |name: &str| {
            let path = self.sources.credentials.as_ref().map(|folder| folder.join(name).display().to_string());
            self.shown.iter().any(|shown| Some(&shown.value) == path.as_ref())
        };
        let unused = |name: &&String| !self.secrets.contains(name.as_str()) && !is_named(name);
        for name in self.credentials.keys().filter(unused) {
            let near = nearest(name, self.secrets.iter().copied());
            self.warnings.push(format!("credential {name} has no effect{near}"));
        }
        let names: BTreeSet<_> = self.known.iter().map(|path| variable(path)).collect();
        for name in self.variables("AGENTD_") {
            if names.contains(&name) || name == "AGENTD_CONFIG" {
                continue;
            }
            let near = nearest(&name, names.iter().map(String::as_str));
            let section = |path: &&str| {
                let section = path.split('.').next().unwrap_or(path);
                name.starts_with(&variable(&format!("{section}.")))
            };
            if self.known.iter().any(section) {
                self.faults.push(Fault::new(format!("environment {name}"), format!("unknown variable{near}")));
            } else {
                // Kubernetes sets such names for a service called agentd.
                self.warnings.push(format!("environment {name} has no effect{near}"));
            }
        }
        if self.faults.is_empty() { Ok((self.shown, self.warnings)) } else { Err(self.faults) }
    }
}

/// The name of a key in the environment.
fn variable(path: &str) -> String {
    format!("AGENTD_{}", path.to_ascii_uppercase().replace('.', "_"))
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let scored = known.map(|other| (strsim::jaro_winkler(name, other), other));
    match scored.max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((score, near)) if score > 0.7 => format!("; did you mean {near:?}?"),
        _ => "; agentd check --show lists the known keys".into(),
    }
}
