//! The guide in docs/: its commands do what it says.
//!
//! A block marked `console run` is run here, each file's in order, in a shell
//! and a folder of their own; lines that do not begin with `$` are what a
//! command must print, `…` standing for anything. A comment `# exits N` says
//! how it ends. `console systemd` needs root and systemd: tests/package runs it.
//! `console elsewhere` needs programs of others: of these the verbs are looked at.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Setup, cli::say};

const FILES: [&str; 11] = [
    "first-hour",
    "install",
    "certificates",
    "hardening",
    "troubleshooting",
    "security-model",
    "secrets",
    "backups",
    "containers",
    "models",
    "monitoring",
];
/// Ports that the guide shows, each taken by a free one here.
const PORTS: [&str; 2] = ["8000", "8443"];

struct Block {
    line: usize,
    mark: String,
    text: String,
}

/// A command with what it must print.
#[derive(Default)]
struct Step {
    command: String,
    prints: Vec<String>,
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(docs().join(name).with_extension("md")).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn blocks(name: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (place, line) in read(name).lines().enumerate() {
        match line.strip_prefix("```") {
            Some(mark) if !open => {
                blocks.push(Block { line: place + 1, mark: mark.into(), text: String::new() });
                open = true;
            }
            Some(_) => open = false,
            None if open => {
                let block = blocks.last_mut().expect("a block");
                writeln!(block.text, "{line}").expect("written");
            }
            None => {}
        }
    }
    blocks
}

/// The commands of a block; a here-document belongs to its command.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = None;
    for line in text.lines() {
        let step = steps.last_mut();
        match (line.strip_prefix("$ "), step) {
            (None, Some(step)) if inside.is_some() => {
                step.command.extend(["\n", line]);
                inside = inside.filter(|end| line != *end);
            }
            (None, Some(step)) => step.prints.push(line.into()),
            (Some(command), _) => {
                inside = command.split_once("<<'").and_then(|(_, rest)| rest.split('\'').next());
                steps.push(Step { command: command.into(), prints: Vec::new() });
            }
            (None, None) => panic!("a block begins with what is no command: {line}"),
        }
    }
    steps
}

/// A script that runs the commands, with what each prints in a file.
fn script(steps: &[Step]) -> String {
    // The service is told to end, and waited for.
    let mut script = "set -u\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n".to_owned();
    for (place, Step { command, .. }) in steps.iter().enumerate() {
        let exit: u8 = match command.split_once("# exits ") {
            Some((_, code)) => code.trim().parse().expect("an exit code"),
            None => 0,
        };
        let shown = command.replace('\'', "");
        writeln!(script, "{{ {command}\n}} > out.{place} 2>&1; code=$?").expect("written");
        writeln!(script, "[ $code = {exit} ] || {{ echo '{shown}' ended with $code: ; cat out.{place}; exit 1; }}")
            .expect("written");
        if command.ends_with('&') {
            // Nobody can use it before it is ready.
            let waiting = format!("until grep -q '\"ready\"' out.{place}; do");
            writeln!(script, "{waiting} kill -0 $! || {{ cat out.{place}; exit 1; }}; sleep 0.02; done")
                .expect("written");
        }
    }
    script
}

/// Whether a line fits a pattern in which `…` stands for anything.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.trim().strip_prefix(first) else { return false };
    let mut last = first;
    for part in parts {
        let Some(found) = rest.find(part) else { return false };
        (rest, last) = (&rest[found + part.len()..], part);
    }
    // What ends without an ellipsis ends there.
    pattern.ends_with('…') || rest.is_empty() || (!last.is_empty() && line.trim().ends_with(last))
}

fn try_it(name: &str) {
    let mut text: String =
        blocks(name).iter().filter(|it| it.mark == "console run").map(|it| it.text.as_str()).collect();
    if text.is_empty() {
        return;
    }
    for port in PORTS {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        text = text.replace(&format!(":{port}"), &format!(":{free}"));
    }
    let steps = steps(&text);
    let folder = TempDir::new().expect("a folder");
    let programs = Path::new(env!("CARGO_BIN_EXE_agentd")).parent().expect("a folder").display();
    let mut shell = Command::new("bash");
    shell.args(["-c", &script(&steps)]).current_dir(folder.path()).env_clear();
    shell.env("PATH", format!("{programs}:/usr/bin:/bin")).env("HOME", folder.path());
    let said = say(&mut shell, "");
    assert_eq!(said.code, 0, "docs/{name}.md: {}{}", said.out, said.err);
    for (place, step) in steps.iter().enumerate() {
        let printed = std::fs::read_to_string(folder.path().join(format!("out.{place}"))).expect("what it printed");
        let mut lines = printed.lines();
        for pattern in &step.prints {
            let found = lines.any(|line| fits(pattern, line));
            assert!(found, "docs/{name}.md: {} does not print {pattern:?}:\n{printed}", step.command);
        }
    }
}

#[test]
fn the_commands_of_the_first_hour_work() {
    try_it("first-hour");
}

#[test]
fn the_commands_on_certificates_work() {
    try_it("certificates");
}

#[test]
fn the_commands_on_backups_work() {
    try_it("backups");
}

#[test]
fn the_commands_on_secrets_work() {
    try_it("secrets");
}

#[test]
fn the_commands_on_hardening_work() {
    try_it("hardening");
}

#[test]
fn the_commands_on_troubles_work() {
    try_it("troubleshooting");
    try_it("security-model");
}

#[test]
fn the_commands_on_monitoring_work() {
    try_it("monitoring");
}

#[test]
fn the_commands_on_models_work() {
    try_it("models");
}

#[test]
fn every_block_says_what_it_is() {
    for name in FILES {
        for Block { line, mark, text } in blocks(name) {
            let known = ["console run", "console systemd", "console elsewhere", "sh", "text", "toml", "ini"]
                .contains(&mark.as_str());
            assert!(known, "docs/{name}.md:{line}: a block marked {mark:?}");
            if mark.starts_with("console") {
                assert!(text.starts_with("$ "), "docs/{name}.md:{line}: commands begin with $");
            }
        }
    }
}

#[test]
fn the_settings_that_are_shown_exist() {
    for name in FILES {
        for Block { line, text, .. } in blocks(name).into_iter().filter(|it| it.mark == "toml") {
            let folder = TempDir::new().expect("a folder");
            let file = folder.path().join("agentd.toml");
            // Who copied a true one could never open a backup.
            let recipient = age::x25519::Identity::generate().to_public().to_string();
            std::fs::write(&file, text.replace("age1…", &recipient)).expect("written");
            let said = say(&mut Setup::real().command(&["check", "--config", &file.to_string_lossy()]), "");
            // Files that it names are not here.
            let wrong = ["unknown key", " must be "].iter().any(|fault| said.err.contains(fault));
            assert!(!wrong && [0, 78].contains(&said.code), "docs/{name}.md:{line}: {said:?}");
        }
    }
}

#[test]
fn the_verbs_that_are_shown_exist() {
    for name in FILES {
        let marks = ["console systemd", "console elsewhere"];
        for Block { line, text, .. } in blocks(name).into_iter().filter(|it| marks.contains(&it.mark.as_str())) {
            for step in steps(&text) {
                // `docker exec` and `kubectl exec` have the command at their end.
                let inside = step.command.contains(" exec ").then(|| step.command.rfind(" agentd ")).flatten();
                let command = &step.command[inside.unwrap_or(0)..];
                let mut words = command.split_whitespace().skip_while(|word| *word == "sudo");
                if words.next() != Some("agentd") {
                    continue;
                }
                let verbs: Vec<_> =
                    words.take_while(|word| word.bytes().all(|c| c.is_ascii_lowercase() || c == b'-')).collect();
                let verbs: Vec<_> = verbs.into_iter().take(2).filter(|word| !word.starts_with('-')).collect();
                let said = say(&mut Setup::real().command(&[verbs.as_slice(), &["--help"]].concat()), "");
                assert_eq!(said.code, 0, "docs/{name}.md:{line}: {}: {}", step.command, said.err);
            }
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
    };
    for name in FILES.iter().chain(&["operations", "configuration"]) {
        for link in read(name).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let path = docs().join(if file.is_empty() { format!("{name}.md") } else { file.into() });
            assert!(path.exists(), "docs/{name}.md links to {link}");
            if !fragment.is_empty() {
                let text = std::fs::read_to_string(&path).expect("a file");
                let found = text.lines().any(|line| line.starts_with('#') && anchor(line) == fragment);
                assert!(found, "docs/{name}.md links to {link}");
            }
        }
    }
}
