//! The tables of docs/configuration.md and the package's list of all settings,
//! made from the declarations of the keys.
//! `UPDATE=1 cargo test --lib app::table` writes them anew.

use std::path::Path;

use super::reload::LIVE;
use crate::config::{self, Shown, Sources};

const FILE: &str = "docs/configuration.md";
/// Every setting, as a file that could be used.
const REFERENCE: &str = "packaging/debian/agentd.toml.reference";
/// What the package puts into /etc.
const SHIPPED: &str = "packaging/debian/agentd.toml";
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

/// Every setting with its default, all of them off.
fn reference(keys: &[Shown]) -> String {
    let mut made = "# Every setting of agentd and its default. What you want otherwise goes into\n\
                    # /etc/agentd/agentd.toml, below its section. Made from the program.\n"
        .to_owned();
    let mut sections: Vec<&str> = Vec::new();
    for (section, _) in keys.iter().filter_map(|key| key.key.split_once('.')) {
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    for section in sections {
        made.extend(["\n[", section, "]\n"]);
        for (key, name) in keys.iter().filter_map(|key| Some((key, key.key.strip_prefix(section)?.strip_prefix('.')?)))
        {
            made.extend(["\n# ", key.doc, "\n", &line(name, key), "\n"]);
        }
    }
    made
}

/// A key with its default as TOML, as a comment.
fn line(name: &str, Shown { key, value, .. }: &Shown) -> String {
    // In the package the unit says where the data is.
    let value = if *key == "data.dir" { "/var/lib/agentd" } else { value };
    let plain = value.parse::<u64>().is_ok() || value.parse::<bool>().is_ok();
    match value {
        "(not set)" => format!("#{name} ="),
        "(none)" => format!("#{name} = []"),
        value if plain => format!("#{name} = {value}"),
        list if list.contains(", ") => {
            format!("#{name} = [{}]", list.split(", ").map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", "))
        }
        text => format!("#{name} = {text:?}"),
    }
}

fn in_project(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn load(text: &str) -> config::Loaded {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("agentd.toml");
    std::fs::write(&file, text).expect("written");
    config::load(&Sources { file: Some(file), ..Sources::default() }).expect("it is valid")
}

#[test]
fn the_reference_says_what_the_code_says() {
    let defaults = config::load(&Sources::default()).expect("the defaults are valid").shown;
    let (path, made) = (in_project(REFERENCE), reference(&defaults));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &made).expect("written");
    }
    let text = std::fs::read_to_string(&path).expect("the file");
    assert!(made == text, "{REFERENCE} differs; UPDATE=1 cargo test --lib app::table writes it");

    // Switched on, each line says what counts without it.
    let on = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') && !key.ends_with('=') => key.to_owned(),
        _ => line.to_owned(),
    };
    let mut now = load(&text.lines().map(on).collect::<Vec<_>>().join("\n")).shown;
    for key in &mut now {
        key.origin = config::Origin::Default;
        if key.key == "data.dir" {
            key.value = "data".into();
        }
    }
    assert_eq!(now, defaults);
}

/// A file in /etc whose text another version changes makes dpkg ask whoever has
/// changed it too, and setup changes it: unattended upgrades would stop there.
/// So this one says nothing that changes with a version.
#[test]
fn the_shipped_file_is_valid_and_stays_as_it_is() {
    let text = std::fs::read_to_string(in_project(SHIPPED)).expect("the file");
    let loaded = load(&text);
    assert_eq!((loaded.config.server.listen.to_string(), loaded.warnings), ("127.0.0.1:8443".into(), Vec::new()));
    assert_eq!(loaded.config.tls.mode, config::TlsMode::SelfSigned);
    insta::assert_snapshot!("shipped", text);
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
