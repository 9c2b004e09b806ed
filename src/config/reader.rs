//! Takes values out of the sources, remembers where each came from, and
//! collects every fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::Sources;
use super::credentials::{self, Credentials};
use super::document::{self, Item};
use super::fault::Fault;
use super::links;
use super::setting::{OrOff, Setting};
use crate::text::{Oddity, did_you_mean, near, visible};

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
    /// Keys whose value could not be read.
    faulty: BTreeSet<&'static str>,
    warnings: Vec<String>,
}

/// What is left when everything has been read.
pub(super) struct Read {
    pub shown: Vec<Shown>,
    pub warnings: Vec<String>,
    /// What is worth a line and nothing to worry about.
    pub notes: Vec<String>,
}

/// A value as a source has it.
struct Given {
    text: String,
    origin: Origin,
    /// Whether the file has it without quotation marks, as a number or a boolean.
    bare: bool,
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
            faulty: BTreeSet::new(),
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

    /// A span within bounds. One of zero is refused where it would let everything fail.
    pub(super) fn span(&mut self, key: Key, default: Duration, bounds: RangeInclusive<Duration>) -> Duration {
        let span = self.value(key, default);
        if !bounds.contains(&span) {
            let (path, least, most) = (key.path, bounds.start().show(), bounds.end().show());
            self.fault_at_key(path, format!("{path} must be from {least} to {most}, not {}", span.show()));
        }
        span
    }

    /// The same for what can be switched off, with a least span alone.
    pub(super) fn span_or_off(&mut self, key: Key, default: Duration, least: Duration) -> Option<Duration> {
        let span = Option::from(self.value(key, OrOff::On(default)));
        if let Some(span) = span.filter(|span: &Duration| *span < least) {
            let (path, least) = (key.path, least.show());
            self.fault_at_key(path, format!("{path} must be at least {least}, or off, not {}", span.show()));
        }
        span
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
        let Given { text, origin, bare } = self.given(key, T::LIST)?;
        match self.parsed(key.path, &text, bare) {
            Ok(value) => Some((value, origin)),
            Err(fault) => {
                self.faulty.insert(key.path);
                self.fault(&origin, fault);
                None
            }
        }
    }

    /// The value of a text, or what is wrong with it.
    fn parsed<T: Setting>(&self, path: &str, text: &str, bare: bool) -> Result<T, String> {
        let is_secret = self.secrets.contains(path);
        // A secret in a wrong place is not repeated, nor is one in the right place.
        let repeat = T::REPEAT && !is_secret;
        match odd::<T>(text) {
            Some(odd) if repeat => return Err(format!("{path} is {}, and {odd}", visible(text))),
            Some(odd @ Oddity::Quotes) if is_secret => {
                let file = "where they belong to the secret, name a file that holds it with";
                return Err(format!("{path}: {odd}; {file} {path}_file"));
            }
            Some(odd) => return Err(format!("{path}: {odd}")),
            None => {}
        }
        if T::QUOTED && bare {
            return Err(format!("{path} must be a string: write it in quotation marks, as {text:?}"));
        }
        T::parse(text).ok_or_else(|| {
            let not = if repeat { format!(", not {}", visible(text)) } else { String::new() };
            T::why(text).map_or_else(|| format!("{path} must be {}{not}", T::EXPECTED), |why| format!("{path} {why}"))
        })
    }

    fn given(&mut self, key: Key, list: bool) -> Option<Given> {
        let given = |text: String, origin| Some(Given { text, origin, bare: false });
        if let Some((_, flag, value)) = self.sources.flags.iter().find(|(path, _, _)| *path == key.path) {
            return given(value.clone(), Origin::Flag(flag));
        }
        let name = variable(key.path);
        // What Kubernetes sets for a service says nothing about a setting.
        let own = self.variable(&name).filter(|value| !links::is_of_a_service(&name, value));
        let alias = key.alias.and_then(|alias| self.variable(alias).map(|value| (alias, value)));
        match (own, alias) {
            (Some(own), Some((alias, other))) if own != other => {
                let what = format!("differs from {alias}; set only one of them");
                self.faults.push(Fault::new(format!("environment {name}"), what));
                return given(own, Origin::Environment(name));
            }
            (Some(own), _) => return given(own, Origin::Environment(name)),
            (None, Some((alias, value))) => return given(value, Origin::Environment(alias.into())),
            (None, None) => {}
        }
        let item = self.file.get(key.path)?.clone();
        let origin = Origin::File(item.place);
        let text = item.text.or(item.list.filter(|_| list));
        if text.is_none() {
            let kind = item.kind;
            self.fault(&origin, format!("{} must be one value, not {kind}", key.path));
        }
        text.map(|text| Given { text, origin, bare: item.bare })
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

    /// That a key is of no use without another; nothing where that one is set and
    /// only wrong.
    pub(super) fn fault_without(&mut self, key: &str, needed: &[&str], what: String) {
        if !needed.iter().any(|needed| self.faulty.contains(needed)) {
            self.fault_at_key(key, what);
        }
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// The faults of what was read so far; keys that nobody asked for are none.
    pub(super) fn faults(self) -> Result<(), Vec<Fault>> {
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }

    /// What was read, or every fault; keys that nobody asked for are faults.
    pub(super) fn finish(mut self) -> Result<Read, Vec<Fault>> {
        self.refuse_unknown_keys();
        self.warn_of_unused_credentials();
        let links = self.refuse_unknown_variables();
        let notes = match links.as_slice() {
            [] => Vec::new(),
            links => {
                vec![format!("ignoring variables that Kubernetes or Docker sets for a service: {}", links.join(", "))]
            }
        };
        if self.faults.is_empty() {
            Ok(Read { shown: self.shown, warnings: self.warnings, notes })
        } else {
            Err(self.faults)
        }
    }

    fn refuse_unknown_keys(&mut self) {
        for (path, item) in self.file.iter().filter(|(path, _)| !self.known.contains(path.as_str())) {
            let section = format!("{path}.");
            let what = if self.known.iter().any(|known| known.starts_with(&section)) {
                format!("{path:?} is a section: write [{path}] above its keys")
            } else {
                format!("unknown key {path:?}{}", nearest(path, self.known.iter().copied()))
            };
            self.faults.push(Fault::new(item.place.clone(), what));
        }
    }

    fn warn_of_unused_credentials(&mut self) {
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
    }

    /// A variable of ours that is misspelt would leave its setting at the default,
    /// such as another data folder. Those that Kubernetes and Docker set for a
    /// service called agentd are handed back.
    fn refuse_unknown_variables(&mut self) -> Vec<String> {
        let names: BTreeSet<_> = self.known.iter().map(|path| variable(path)).collect();
        let mut links = Vec::new();
        for name in self.variables("AGENTD_") {
            let value = self.sources.environment.get(&name).map_or("", String::as_str);
            if links::is_of_a_service(&name, value) {
                links.push(name);
            } else if !names.contains(&name) && name != "AGENTD_CONFIG" {
                let near = nearest(&name, names.iter().map(String::as_str));
                self.faults.push(Fault::new(format!("environment {name}"), format!("unknown variable{near}")));
            }
        }
        links
    }
}

/// The name of a key in the environment.
fn variable(path: &str) -> String {
    format!("AGENTD_{}", path.to_ascii_uppercase().replace('.', "_"))
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match near(name, known) {
        None => "; agentd check --show lists the known keys".into(),
        near => did_you_mean(near),
    }
}

/// What is odd about a value, or about one of a list.
fn odd<T: Setting>(text: &str) -> Option<Oddity> {
    if T::LIST { text.split(',').find_map(|part| Oddity::of(part.trim_matches(' '))) } else { Oddity::of(text) }
}
