//! What verbs print: tables and cards for people.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{Table, presets};
use serde_json::Value;

use super::control::{Rows, read};
use super::failure::Failure;
use crate::clock::Timestamp;

/// A column: its head, and what it shows of a row.
pub(super) type Column = (&'static str, fn(&Value) -> String);

/// Prints a list as a table, or as the service's JSON.
pub(super) fn print_list(listed: &Rows, json: bool, columns: &[Column]) -> Result<(), Failure> {
    if json {
        let rows: Vec<_> = listed.rows.iter().map(|row| row.get()).collect();
        let next = serde_json::json!(listed.next_cursor);
        say!("{{\"data\":[{}],\"next_cursor\":{next}}}", rows.join(","));
        return Ok(());
    }
    print_rows(&listed.values()?, listed, columns);
    Ok(())
}

/// Prints the rows of a list as a table, and that there are more.
pub(super) fn print_rows(rows: &[Value], listed: &Rows, columns: &[Column]) {
    say!("{}", table(rows, columns));
    if listed.next_cursor.is_some() {
        eprintln!("there are more; --limit says how many to show");
    }
}

/// Prints one thing as a card, or as the service's JSON.
pub(super) fn print_one(text: &str, json: bool, first: &[&str]) -> Result<(), Failure> {
    if json {
        say!("{}", text.trim_end());
    } else {
        say!("{}", card(&read::<Value>(text)?, first));
    }
    Ok(())
}

/// Rows below one another, in columns that line up.
pub(super) fn table(rows: &[Value], columns: &[Column]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(columns.iter().map(|(head, _)| *head));
    for row in rows {
        table.add_row(columns.iter().map(|(_, cell)| cell(row)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// An object's fields below one another: the named ones first, then what else
/// there is. What is not set is left out.
fn card(value: &Value, first: &[&str]) -> String {
    let empty = serde_json::Map::new();
    let fields = value.as_object().unwrap_or(&empty);
    let named = first.iter().filter_map(|name| fields.get_key_value(*name));
    let rest = fields.iter().filter(|(name, _)| !first.contains(&name.as_str()));
    let set: Vec<_> = named.chain(rest).filter(|(_, value)| !value.is_null()).collect();
    let width = set.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&String, &Value)| format!("{name:width$}  {}", shown(value));
    set.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What a cell shows of a field.
pub(super) fn field(row: &Value, name: &str) -> String {
    shown(&row[name])
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => time(text).unwrap_or_else(|| plain(text)),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().map(shown).collect::<Vec<_>>().join(", ")
        }
        other => plain(&other.to_string()),
    }
}

/// A time to the second, which is what people read.
fn time(text: &str) -> Option<String> {
    let (whole, _) = text.split_once('.').filter(|(whole, _)| whole.len() == 19)?;
    Timestamp::parse(text).map(|_| format!("{whole}Z"))
}

/// A text without what would steer the terminal that it is shown on.
pub(super) fn plain(text: &str) -> String {
    // The latter ones turn the direction of what follows around.
    let steers = |character: char| {
        character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|character| if steers(character) { char::REPLACEMENT_CHARACTER } else { character }).collect()
}

/// Goes on only when somebody says yes.
pub(super) fn confirm(question: &str) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage(
            "this is not a terminal where it could be confirmed: --yes does it without asking".into(),
        ));
    }
    eprint!("{} [y/N] ", plain(question));
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    stdin.read_line(&mut answer).map_err(Failure::other)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::other("nothing was done")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_line_up_whatever_the_script() {
        let rows =
            [json!({ "a": "x", "b": 1 }), json!({ "a": "日本", "b": null }), json!({ "a": "-", "b": ["p", "q"] })];
        let columns: [Column; 2] = [("A", |row| field(row, "a")), ("B", |row| field(row, "b"))];
        assert_eq!(table(&rows, &columns), "A     B\nx     1\n日本  -\n-     p, q");
    }

    #[test]
    fn a_card_begins_with_what_is_named() {
        let value = json!({ "z": 1, "at": "2026-01-02T03:04:05.678901Z", "a": { "b": "c" }, "n": null });
        assert_eq!(card(&value, &["z", "missing"]), "z   1\na   {\"b\":\"c\"}\nat  2026-01-02T03:04:05Z");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\n\u{9b}c"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
        assert_eq!(shown(&json!({ "a": "\u{9b}" })), "{\"a\":\"\u{fffd}\"}");
    }
}
