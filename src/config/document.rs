//! The TOML file as scalars and lists with their places.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::fault::Fault;
use crate::text::{Oddity, visible};

/// A scalar in the file.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// As text, whatever its TOML type; `None` for what is no scalar.
    pub text: Option<String>,
    /// The scalars of an array, separated by commas.
    pub list: Option<String>,
    /// Whether it is a number or a boolean.
    pub bare: bool,
    /// What it is, in JSON's words.
    pub kind: &'static str,
    /// `file:line:column`.
    pub place: String,
}

/// Reads a file into dotted keys.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Item>, Fault> {
    let name = path.display();
    let text = text(path)?;
    let place = |offset: usize| {
        let (line, column) = line_and_column(&text, offset);
        format!("{name}:{line}:{column}")
    };
    let table = DeTable::parse(&text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        Fault::new(place(start), syntax(error.message()))
    })?;
    let mut items = BTreeMap::new();
    collect("", table.get_ref(), &place, &mut items);
    Ok(items)
}

fn collect(prefix: &str, table: &DeTable<'_>, place: &dyn Fn(usize) -> String, items: &mut BTreeMap<String, Item>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        if let DeValue::Table(inner) = value.get_ref() {
            collect(&path, inner, place, items);
            continue;
        }
        let list = match value.get_ref() {
            DeValue::Array(array) => array.iter().map(|value| scalar(value.get_ref())).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        let list = list.map(|list| list.join(","));
        let (bare, kind) = kind(value.get_ref());
        items.insert(path, Item { text: scalar(value.get_ref()), list, bare, kind, place: place(key.span().start) });
    }
}

/// Whether a value is written without quotation marks, and what it is.
fn kind(value: &DeValue<'_>) -> (bool, &'static str) {
    match value {
        DeValue::String(_) => (false, "a string"),
        DeValue::Integer(_) | DeValue::Float(_) => (true, "a number"),
        DeValue::Boolean(_) => (true, "a boolean"),
        DeValue::Datetime(_) => (true, "a date"),
        DeValue::Array(_) => (false, "an array"),
        DeValue::Table(_) => (false, "an object"),
    }
}

/// The file's text. Editors of Windows mark UTF-8 at its beginning.
fn text(path: &Path) -> Result<String, Fault> {
    let name = || path.display().to_string();
    if let Some(odd) = Oddity::of(&path.to_string_lossy()) {
        let shown = visible(&path.to_string_lossy());
        return Err(Fault::new(
            "configuration file".into(),
            format!("its path (--config, AGENTD_CONFIG) is {shown}, and {odd}"),
        ));
    }
    let bytes = std::fs::read(path).map_err(|error| Fault::new(name(), unreadable(&error)))?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Fault::new(name(), "is UTF-16: save it as UTF-8".into()));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let (line, column) = line_and_column(&good, good.len());
        Fault::new(
            format!("{}:{line}:{column}", name()),
            "there is a byte that is not UTF-8: save the file as UTF-8".into(),
        )
    })?;
    Ok(text.to_owned())
}

/// What is wrong with the form of the file. The line itself may hold a secret.
fn syntax(message: &str) -> String {
    let hint = match message {
        "duplicate key" => "; it is set above already",
        _ => "; it is TOML: sections are written [name], strings in quotation marks, and lists [\"a\", \"b\"]",
    };
    format!("{message}{hint}")
}

fn unreadable(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    let todo = match error.kind() {
        ErrorKind::NotFound => "correct --config or AGENTD_CONFIG, or put the file there",
        ErrorKind::PermissionDenied => "let this user read it, or use sudo",
        ErrorKind::IsADirectory => "name the file in it",
        _ => "correct --config or AGENTD_CONFIG",
    };
    format!("cannot be read: {error}; {todo}")
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}
