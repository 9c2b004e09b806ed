//! The TOML file as scalars and lists with their places.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::fault::Fault;

/// A scalar in the file.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// As text, whatever its TOML type; `None` for what is no scalar.
    pub text: Option<String>,
    /// The scalars of an array, parted by commas.
    pub list: Option<String>,
    /// `file:line:column`.
    pub place: String,
}

/// Reads a file into dotted keys.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Item>, Fault> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::new(name.to_string(), format!("cannot be read: {error}")))?;
    let place = |offset: usize| {
        let (line, column) = line_and_column(&text, offset);
        format!("{name}:{line}:{column}")
    };
    let table = DeTable::parse(&text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        Fault::new(place(start), error.message().to_owned())
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
        items.insert(path, Item { text: scalar(value.get_ref()), list, place: place(key.span().start) });
    }
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
