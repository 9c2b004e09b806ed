//! The order of the rooms, held against the imports: a module may use those
//! below it, never one above and never one beside it.

#![allow(clippy::expect_used, reason = "a test says what it expected")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// From the top. ARCHITECTURE.md shows the same list.
const LEVELS: &[&[&str]] = &[
    &["cli"],
    &["serve", "doctor"],
    &["app"],
    &["status"],
    &["agents", "tools", "health", "docs", "setup", "tls", "backups"],
    &["models"],
    &["jobs"],
    &["budgets"],
    &["tenants", "users"],
    &["auth"],
    &["limits", "s3"],
    &["http", "outbound", "telemetry", "vault"],
    &["db", "config"],
    &["id", "money", "net", "pem", "text"],
    &["clock"],
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The room that a file belongs to.
fn room(path: &Path) -> String {
    let below = path.strip_prefix("src").expect("below src");
    let first = below.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Code without comments and without what is only compiled for tests.
fn code(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    lines.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn arrows() -> BTreeMap<(String, String), Vec<String>> {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let mut arrows: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for file in files {
        let from = room(&file);
        if from == "lib" || from == "main" || file.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a file");
        for place in code(&text).split("crate::").skip(1) {
            // `use crate::{a, b::c}` names several rooms.
            let list = place.strip_prefix('{').map_or(place, |list| list.split("};").next().unwrap_or(list));
            let names: Vec<&str> = if place.starts_with('{') { list.split(',').collect() } else { vec![place] };
            for name in names {
                let to: String = name
                    .trim()
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_')
                    .collect();
                if !to.is_empty() && to != from {
                    arrows.entry((from.clone(), to)).or_default().push(file.display().to_string());
                }
            }
        }
    }
    arrows
}

fn level(room: &str) -> usize {
    let found = LEVELS.iter().position(|level| level.contains(&room));
    found.unwrap_or_else(|| panic!("{room} is not in the list of rooms"))
}

#[test]
fn arrows_go_down_only() {
    let mut wrong = Vec::new();
    for ((from, to), files) in arrows() {
        if level(&from) >= level(&to) {
            wrong.push(format!("{from} → {to} in {files:?}"));
        }
    }
    assert!(wrong.is_empty(), "arrows that do not go down:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_engine_uses_the_database_library() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    for file in files.iter().filter(|file| !file.starts_with("src/db")) {
        let text = std::fs::read_to_string(file).expect("a file");
        assert!(!code(&text).contains("rusqlite"), "{} uses rusqlite", file.display());
    }
}

/// A migration may add a column, and the binary before it must still work.
#[test]
fn no_statement_depends_on_the_number_of_columns() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    for file in files.iter().filter(|file| !file.starts_with("src/db") && !file.ends_with("tests.rs")) {
        let text = std::fs::read_to_string(file).expect("a file");
        let code = code(&text).replace("\\\n", " ");
        let words: Vec<&str> = code.split_whitespace().map(|word| word.trim_start_matches('"')).collect();
        for (place, word) in words.iter().enumerate() {
            let at = |step: usize| words.get(place + step).copied().unwrap_or_default();
            assert!(!(*word == "SELECT" && at(1) == "*"), "{}: name the columns of SELECT", file.display());
            let positional = *word == "INTO" && ["VALUES", "SELECT"].contains(&at(2));
            assert!(!positional, "{}: name the columns of INSERT INTO {}", file.display(), at(1));
        }
    }
}

#[test]
fn files_stay_readable() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    for file in files {
        let lines = std::fs::read_to_string(&file).expect("a file").lines().count();
        assert!(lines <= 520, "{} has {lines} lines; split it", file.display());
    }
}
