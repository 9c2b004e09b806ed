use super::super::migrate;
use super::*;

/// Released before there was the rule.
const FROZEN: i32 = 5;

#[test]
fn the_binary_before_works_after_every_migration() {
    let mut migrations = migrate::embedded();
    migrations.sort_by_key(refinery::Migration::version);
    let mut rule = Rule::default();
    let faults: Vec<String> = migrations
        .iter()
        .flat_map(|it| {
            let name = format!("migrations/main/V{:04}__{}", it.version(), it.name());
            rule.hold(&name, it.sql().expect("a text"), it.version() <= FROZEN)
        })
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(rule.tables.contains("jobs") && rule.tables.contains("user_sessions"), "{:?}", rule.tables);
}

/// What the rule says to a migration after one with some tables.
fn said(sql: &str) -> String {
    let mut rule = Rule::default();
    rule.hold(
        "V0001__first",
        "CREATE TABLE jobs (no INTEGER PRIMARY KEY, colour TEXT); CREATE TABLE keys (id TEXT);",
        true,
    );
    rule.hold("V0002__second", sql, false).join("\n")
}

#[test]
fn what_adds_is_let_through() {
    let adds = [
        "CREATE TABLE notes (no INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE CHECK (text <> ''));",
        "CREATE TABLE notes (x TEXT); CREATE UNIQUE INDEX notes_x ON notes (x); DELETE FROM notes; UPDATE notes SET x = 1;",
        "CREATE TABLE notes (job_no INTEGER REFERENCES jobs (no) ON DELETE CASCADE, x TEXT);",
        "CREATE TABLE notes (x TEXT); CREATE TRIGGER t AFTER INSERT ON notes BEGIN DELETE FROM jobs; DROP x; END;",
        "ALTER TABLE jobs ADD COLUMN size INTEGER;",
        "ALTER TABLE jobs ADD size INTEGER NOT NULL DEFAULT 0;",
        "ALTER TABLE jobs ADD COLUMN size INTEGER;\nUPDATE jobs SET size = max(1, no), \"size\" = 2 WHERE no > 3;",
        "CREATE INDEX jobs_colour ON jobs (colour) WHERE colour IS NOT NULL;",
        "CREATE VIEW coloured AS SELECT no FROM jobs;",
        "INSERT INTO keys (id) VALUES ('DROP TABLE jobs; it''s a text');",
        "INSERT INTO keys (id) VALUES ('x') ON CONFLICT DO NOTHING;",
        "CREATE TABLE old (x TEXT); ALTER TABLE old RENAME TO new; DROP TABLE new;",
        "/* DROP TABLE jobs; */ -- DROP TABLE jobs;\n",
    ];
    for sql in adds {
        assert_eq!(said(sql), "", "{sql}");
    }
}

#[test]
fn each_kind_of_taking_away_is_caught() {
    let takes = [
        ("DROP TABLE jobs;", "the table jobs"),
        ("drop table if exists \"jobs\";", "the table jobs"),
        ("DROP VIEW coloured;", "the view coloured"),
        ("DROP TRIGGER painted;", "the trigger painted"),
        ("DROP INDEX jobs_colour;", "the index jobs_colour"),
        ("ALTER TABLE jobs DROP COLUMN colour;", "column of jobs that is dropped"),
        ("ALTER TABLE jobs RENAME TO works;", "jobs by that name"),
        ("ALTER TABLE jobs RENAME COLUMN colour TO shade;", "by its old name"),
        ("ALTER TABLE jobs RENAME colour TO shade;", "by its old name"),
        ("ALTER TABLE jobs ADD COLUMN size INTEGER NOT NULL;", "NOT NULL and has no DEFAULT"),
        ("ALTER TABLE jobs ADD COLUMN size INTEGER NOT NULL DEFAULT NULL;", "NOT NULL and has no DEFAULT"),
        ("ALTER TABLE jobs ADD COLUMN size INTEGER CHECK (size > 0);", "new condition on size"),
        ("ALTER TABLE jobs ADD COLUMN key_no INTEGER REFERENCES keys (id);", "ON DELETE CASCADE"),
        (
            "CREATE TABLE notes (job_no INTEGER REFERENCES jobs (no), y REFERENCES keys ON DELETE CASCADE);",
            "rows of jobs",
        ),
        ("CREATE TABLE jobs (no INTEGER);", "there already"),
        ("CREATE UNIQUE INDEX one ON jobs (colour);", "UNIQUE index on jobs"),
        ("CREATE TRIGGER t AFTER UPDATE OF colour ON jobs BEGIN SELECT 1; END;", "trigger on jobs"),
        ("UPDATE jobs SET colour = lower(colour, 'x');", "UPDATE of jobs"),
        ("UPDATE OR IGNORE jobs SET colour = 'red';", "UPDATE of jobs"),
        ("ALTER TABLE jobs ADD size INTEGER; UPDATE jobs SET size = (SELECT 1, 2), colour = 3;", "UPDATE of jobs"),
        ("UPDATE jobs SET (colour, no) = (1, 2);", "UPDATE of jobs"),
        ("DELETE FROM jobs WHERE no = 1;", "rows of jobs"),
        ("INSERT OR REPLACE INTO jobs (no) VALUES (1);", "rows of jobs"),
        ("INSERT INTO jobs (no) VALUES (1) ON CONFLICT (no) DO UPDATE SET colour = 1;", "rows of jobs"),
        ("REPLACE INTO jobs (no) VALUES (1);", "REPLACE"),
        ("PRAGMA journal_mode = DELETE;", "does not know"),
        ("CREATE TABLE n (x TEXT);\nDROP TABLE jobs", "V0002__second.sql:2"),
    ];
    for (sql, what) in takes {
        let said = said(sql);
        assert!(
            said.contains(what) && said.contains("`-- contract: WHAT NOBODY USES, since VERSION`"),
            "{sql}: {said:?}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_contract_says_what_and_since_when() {
    let drop = "ALTER TABLE jobs DROP COLUMN colour;";
    assert_eq!(
        said(&format!("-- The colour is told by the tool.\n-- contract: nobody reads it, since 0.1.0\n{drop}")),
        ""
    );
    assert_eq!(said(&format!("-- contract: nobody reads\n-- jobs.colour, since 0.0.9.\n{drop}")), "");
    let unclear = [
        ("-- contract: nobody reads it", "must end with"),
        ("-- contract: nobody reads it, since always", "must end with"),
        ("-- contract: since 0.1.0", "must say what"),
        ("-- contract: nobody will read it, since 99.0.0", "not been released"),
    ];
    for (comment, what) in unclear {
        let said = said(&format!("{comment}\n{drop}"));
        assert!(said.contains(what), "{comment}: {said:?}");
    }
    // One comment is for one statement.
    assert!(said(&format!("-- contract: nobody reads it, since 0.1.0\n{drop}\nDROP TABLE keys;")).contains("sql:3"));
    assert!(said("-- contract: nobody, since 0.1.0\nCREATE TABLE n (x TEXT);").contains("takes nothing away"));
}
