//! The rule for migrations, held by a test: expand, and contract later.
//!
//! The binary before must still work on the schema after (see
//! `docs/decisions/0034-expand-and-contract.md`). So a migration adds, and what it
//! takes away must say by which version nobody needed it any more:
//!
//! ```sql
//! -- contract: nobody reads jobs.colour, since 0.4.0
//! ALTER TABLE jobs DROP COLUMN colour;
//! ```
//!
//! What the rule does not know counts as forbidden.

use std::collections::BTreeSet;

/// A statement with what was said before it.
#[derive(Debug)]
struct Statement {
    /// Words, names and signs in lower case; texts as `'`.
    tokens: Vec<String>,
    /// Where it begins, from 1.
    line: usize,
    /// What the comment `-- contract:` before it says.
    contract: Option<String>,
}

/// Parts a script into its statements, as SQLite does.
fn statements(sql: &str) -> Vec<Statement> {
    let mut all = Vec::new();
    let mut comments: Vec<&str> = Vec::new();
    let mut current: Option<Statement> = None;
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let line = sql.len() - rest.len();
        let taken = token(rest, first);
        let (text, after) = rest.split_at(taken);
        rest = after;
        if text.starts_with("--") && current.is_none() {
            comments.push(text.trim_start_matches('-').trim());
        }
        if first.is_whitespace() || text.starts_with("--") || text.starts_with("/*") {
            continue;
        }
        let statement = current.get_or_insert_with(|| Statement {
            tokens: Vec::new(),
            line: sql[..line].matches('\n').count() + 1,
            contract: contract(&std::mem::take(&mut comments)),
        });
        if text != ";" {
            let name = text.trim_matches(['"', '`', '[', ']']);
            statement.tokens.push(if first == '\'' { "'".into() } else { name.to_lowercase() });
            continue;
        }
        statement.tokens.push(";".into());
        if statement.is_whole() {
            statement.tokens.pop();
            all.extend(current.take().filter(|statement| !statement.tokens.is_empty()));
        }
    }
    all.extend(current);
    all
}

/// How many bytes the token has that begins here.
fn token(rest: &str, first: char) -> usize {
    let until = |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |place| from + place + end.len());
    match first {
        // A doubled quote ends one text and begins the next, which is as good.
        '\'' => until("'", 1),
        '"' => until("\"", 1),
        '`' => until("`", 1),
        '[' => until("]", 1),
        '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
        '/' if rest.starts_with("/*") => until("*/", 2),
        _ => {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let length = rest.find(|c| !word(c)).unwrap_or(rest.len());
            length.max(first.len_utf8())
        }
    }
}

/// The last comment that begins so, with the lines after it.
fn contract(comments: &[&str]) -> Option<String> {
    let from = comments.iter().rposition(|line| line.starts_with("contract:"))?;
    Some(comments[from..].join(" ")["contract:".len()..].trim().to_owned())
}

impl Statement {
    /// Whether the `;` that was just read ends it; in a trigger only one after
    /// its END does.
    fn is_whole(&self) -> bool {
        let create = self.tokens.first().is_some_and(|word| word == "create");
        let is_trigger = create && self.tokens.iter().take(3).any(|word| word == "trigger");
        !is_trigger || self.tokens.ends_with(&[";".into(), "end".into(), ";".into()])
    }
}

/// What one migration has made so far.
#[derive(Default)]
struct Made {
    tables: BTreeSet<String>,
    columns: BTreeSet<(String, String)>,
}

/// The rule, with the tables that there are.
#[derive(Default)]
struct Rule {
    /// Those of earlier migrations.
    tables: BTreeSet<String>,
}

impl Rule {
    /// Goes through a migration; what is wrong with it, one line each. With
    /// `frozen` nothing is, since it was released before there was a rule.
    fn hold(&mut self, name: &str, sql: &str, frozen: bool) -> Vec<String> {
        let mut made = Made::default();
        let mut faults = Vec::new();
        for statement in statements(sql) {
            let words: Vec<&str> = statement.tokens.iter().map(String::as_str).collect();
            let fault = self.fault(&words, &mut made);
            let place = format!("{name}.sql:{}", statement.line);
            match (fault, &statement.contract) {
                (None, None) => {}
                (None, Some(_)) => faults.push(format!("{place}: takes nothing away, so it needs no `-- contract:`")),
                (Some(_), Some(said)) => faults.extend(unclear(said).map(|why| format!("{place}: {why}"))),
                (Some(why), None) => faults.push(format!(
                    "{place}: {why}. The binary before this migration must still work after it: add now, and take \
                     away in a later release. If no released binary needs it any more, write before the statement \
                     `-- contract: WHAT NOBODY USES, since VERSION`."
                )),
            }
        }
        self.tables.extend(made.tables);
        if frozen { Vec::new() } else { faults }
    }

    /// Why the binary before would not work after a statement.
    fn fault(&self, words: &[&str], made: &mut Made) -> Option<String> {
        let old = |table: &str, made: &Made| self.tables.contains(table) && !made.tables.contains(table);
        match words {
            ["create", "table", rest @ ..] | ["create", "virtual", "table", rest @ ..] => {
                let table = name(rest);
                if old(table, made) {
                    return Some(format!("table {table} is there already"));
                }
                made.tables.insert(table.to_owned());
                self.blocks_deletes(rest, made)
            }
            ["create", "unique", "index", rest @ ..] => {
                let table = after(rest, "on")?;
                old(table, made).then(|| format!("a UNIQUE index on {table} forbids rows that it may write"))
            }
            ["create", "trigger", rest @ ..] => {
                let table = after(rest, "on")?;
                old(table, made).then(|| format!("a trigger on {table} changes what its writes do"))
            }
            ["alter", "table", table, rest @ ..] if old(table, made) => self.altered(table, rest, made),
            ["alter", "table", _, "rename", "to", table] => {
                made.tables.insert((*table).to_owned());
                None
            }
            ["create", "view" | "index", ..] | ["alter", "table", ..] => None,
            ["drop", "table", rest @ ..] if made.tables.contains(name(rest)) => None,
            ["drop", kind @ ("table" | "view" | "trigger"), rest @ ..] => {
                Some(format!("it may use the {kind} {}", name(rest)))
            }
            ["drop", "index", rest @ ..] => Some(format!("its statements may name the index {}", name(rest))),
            ["replace", ..] => Some("REPLACE deletes rows that it wrote".into()),
            ["insert", rest @ ..] => {
                let table = after(rest, "into")?;
                let rewrites = rest.contains(&"replace") || rest.windows(2).any(|pair| pair == ["do", "update"]);
                (rewrites && old(table, made)).then(|| format!("it may rely on the rows of {table} that are replaced"))
            }
            ["update", rest @ ..] => {
                let table = if rest.first() == Some(&"or") { rest.get(2) } else { rest.first() }?;
                let set = assigned(rest);
                let fills = !set.is_empty()
                    && set.iter().all(|column| made.columns.contains(&((*table).to_owned(), column.clone())));
                (old(table, made) && !fills).then(|| {
                    format!("UPDATE of {table} sets more than the columns that this migration adds, and it reads those")
                })
            }
            ["delete", "from", table, ..] => old(table, made).then(|| format!("it may need the rows of {table}")),
            _ => Some(format!("the rule does not know `{}`", words.join(" "))),
        }
    }

    /// The same for `ALTER TABLE` of a table that was there before.
    fn altered(&self, table: &str, rest: &[&str], made: &mut Made) -> Option<String> {
        let rest = match rest {
            ["add", "column", rest @ ..] | ["add", rest @ ..] => rest,
            ["rename", "to", ..] => return Some(format!("it uses the table {table} by that name")),
            ["rename", ..] => return Some(format!("it uses a column of {table} by its old name")),
            ["drop", ..] => return Some(format!("it uses the column of {table} that is dropped")),
            _ => return Some(format!("the rule does not know this change of {table}")),
        };
        let column = rest.first()?;
        made.columns.insert((table.to_owned(), (*column).to_owned()));
        let has = |words: &[&str]| rest.windows(words.len()).any(|found| found == words);
        if has(&["not", "null"]) && (!has(&["default"]) || has(&["default", "null"])) {
            return Some(format!("it writes rows of {table} without {column}, which is NOT NULL and has no DEFAULT"));
        }
        if has(&["check"]) || has(&["unique"]) {
            return Some(format!("it writes rows of {table} without looking at the new condition on {column}"));
        }
        self.blocks_deletes(rest, made)
    }

    /// A reference to a table of before keeps the binary before from deleting
    /// its rows, unless it says what becomes of them.
    fn blocks_deletes(&self, words: &[&str], made: &Made) -> Option<String> {
        for (place, _) in words.iter().enumerate().filter(|(_, word)| **word == "references") {
            let clause = &words[place..];
            let ends = clause.iter().position(|word| *word == ",").unwrap_or(clause.len());
            let table = clause.get(1)?;
            let says = clause[..ends].windows(3).any(|it| matches!(it, ["on", "delete", "cascade" | "set"]));
            if self.tables.contains(*table) && !made.tables.contains(*table) && !says {
                return Some(format!(
                    "it deletes rows of {table}, which this reference forbids without ON DELETE CASCADE or SET NULL"
                ));
            }
        }
        None
    }
}

/// A name after `IF [NOT] EXISTS`.
fn name<'a>(words: &[&'a str]) -> &'a str {
    match words {
        ["if", "not", "exists", name, ..] | ["if", "exists", name, ..] | [name, ..] => name,
        [] => "",
    }
}

fn after<'a>(words: &[&'a str], what: &str) -> Option<&'a str> {
    let place = words.iter().position(|word| *word == what)?;
    words.get(place + 1).copied()
}

/// The columns that an UPDATE sets.
fn assigned(words: &[&str]) -> Vec<String> {
    let from = words.iter().position(|word| *word == "set").map_or(words.len(), |place| place + 1);
    let (mut columns, mut depth, mut begins) = (Vec::new(), 0, true);
    for word in &words[from..] {
        if depth == 0 && ["where", "from", "returning", "order", "limit"].contains(word) {
            break;
        }
        if std::mem::take(&mut begins) {
            columns.push((*word).to_owned());
        }
        match *word {
            "(" => depth += 1,
            ")" => depth -= 1,
            "," if depth == 0 => begins = true,
            _ => {}
        }
    }
    columns
}

/// What is wrong with what a `-- contract:` says.
fn unclear(said: &str) -> Option<String> {
    let version = |text: &str| -> Option<Vec<u64>> {
        let parts: Vec<u64> = text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        (parts.len() == 3).then_some(parts)
    };
    let told =
        said.rsplit_once("since ").map(|(what, since)| (what.trim_matches([' ', ',']), since.trim_end_matches('.')));
    let Some((what, since)) = told.and_then(|(what, since)| Some((what, version(since)?))) else {
        return Some("`-- contract:` must end with `since VERSION`, such as `since 0.4.0`".into());
    };
    if what.is_empty() {
        return Some("`-- contract:` must say what no released binary uses any more".into());
    }
    let ahead = version(env!("CARGO_PKG_VERSION")).is_some_and(|current| since > current);
    ahead.then(|| "`-- contract:` names a version that has not been released".into())
}

mod tests;
