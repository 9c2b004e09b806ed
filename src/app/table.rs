//! The tables of docs/configuration.md, made from the declarations of the keys.
//! `UPDATE=1 cargo test --lib app::table` writes them anew.

use std::path::Path;

use super::reload::LIVE;
use crate::config::{self, Shown, Sources};

const FILE: &str = "docs/configuration.md";
const HEAD: &str = "| Key | Set by | Default | Counts after | Meaning |\n|---|---|---|---|---|\n";

/// What stands between `<!-- keys of X -->` and `<!-- end -->`.
fn table(of: &str, keys: &[Shown], secrets: &[&str]) -> String {
    if of == "older names" {
        let mut names: Vec<_> = keys.iter().filter_map(|key| Some((key.alias?, key.key))).collect();
        names.sort_unstable();
        let rows = names.iter().map(|(name, key)| format!("| `{name}` | `{key}` |\n"));
        return "| Name | Key |\n|---|---|\n".to_owned() + &rows.collect::<String>();
    }
    let rows = keys.iter().filter(|key| key.key.split_once('.').is_some_and(|(section, _)| section == of));
    HEAD.to_owned() + &rows.map(|key| row(key, secrets.contains(&key.key))).collect::<String>()
}

fn row(key: &Shown, secret: bool) -> String {
    let variable = format!("`AGENTD_{}`", key.key.to_ascii_uppercase().replace('.', "_"));
    let older = key.alias.map(|alias| format!(", `{alias}`")).unwrap_or_default();
    let credential = if secret { format!(", credential `{}`", key.key) } else { String::new() };
    let default = match key.value.trim_matches(['(', ')']) {
        plain @ ("not set" | "none") => plain.to_owned(),
        value => format!("`{value}`"),
    };
    let live = LIVE.contains(&key.key) || key.key.starts_with("acme.");
    let counts = if live { "reload" } else { "restart" };
    let Shown { key, doc, .. } = key;
    format!("| `{key}` | {variable}{older}{credential} | {default} | {counts} | {doc} |\n")
}

/// The file with its tables made anew.
fn made(text: &str) -> String {
    let loaded = config::load(&Sources::default()).expect("the defaults are valid");
    let secrets = loaded.config.secrets().map(|(key, _)| key);
    let mut parts = text.split("<!-- keys of ");
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (of, rest) = part.split_once(" -->\n").expect("a section's name");
        let (_, behind) = rest.split_once("<!-- end -->").expect("an end");
        for piece in ["<!-- keys of ", of, " -->\n", &table(of, &loaded.shown, &secrets), "<!-- end -->", behind] {
            made += piece;
        }
    }
    made
}

#[test]
fn the_tables_say_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let text = std::fs::read_to_string(&path).expect("the file");
    let made = made(&text);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &made).expect("written");
        return;
    }
    let differs = made.lines().zip(text.lines()).find(|(made, is)| made != is);
    assert!(made == text, "{FILE} differs; UPDATE=1 cargo test --lib app::table writes it: {differs:?}");
}

#[test]
fn every_key_is_in_a_table() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE)).expect("the file");
    for key in config::load(&Sources::default()).expect("the defaults are valid").shown {
        assert!(text.contains(&format!("\n| `{}` |", key.key)), "no table of {FILE} has {}", key.key);
    }
}
