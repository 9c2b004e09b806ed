//! What the Debian package asks of the program: tests/package has the rest.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::cli::{Said, agentd, say};
use crate::support::{Server, Setup};

/// A folder with the file of one more migration.
fn more(sql: &str) -> (TempDir, String) {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("more.sql");
    std::fs::write(&file, sql).expect("written");
    let path = file.to_string_lossy().into_owned();
    (folder, path)
}

fn snapshots(server: &Server) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(server.data().join("snapshots"));
    entries.into_iter().flatten().map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn a_database_that_is_too_new_is_told_with_the_snapshot_to_restore() {
    let mut server = Server::testbed();
    let check = |server: &Server, more: &[&str]| -> Said {
        let data = server.data().to_string_lossy().into_owned();
        say(&mut agentd(&[&["migrate", "check", "--data-dir", &data], more].concat()), "")
    };
    assert_eq!(check(&server, &[]).code, 0, "while it runs");
    assert_eq!(check(&server, &["--schema", "1"]).code, 78);

    let (_folder, file) = more("CREATE TABLE more (x INTEGER) STRICT;");
    server.stop();
    server.start_again(|setup| setup.env("TESTBED_MIGRATION_FILE", &file));
    for runs in [true, false] {
        if !runs {
            server.stop();
        }
        let said = check(&server, &[]).refused(78);
        let snapshot = snapshots(&server).pop().expect("a snapshot");
        assert!(said.contains("has schema version 9000"), "{said}");
        assert!(said.contains(&snapshot.display().to_string()), "{said}");
        assert_eq!(check(&server, &["--schema", "9000"]).code, 0);
    }
    // Nothing that it could use.
    let said = check(&server, &["--schema", "1"]).refused(78);
    assert!(said.contains("there is no snapshot"), "{said}");

    let nowhere = TempDir::new().expect("a folder");
    let said = say(&mut agentd(&["migrate", "check", "--data-dir", &nowhere.path().to_string_lossy()]), "");
    assert_eq!((said.code, std::fs::read_dir(nowhere.path()).expect("a folder").count()), (0, 0));
}

#[test]
fn a_snapshot_that_was_prepared_is_the_one_that_the_upgrade_keeps() {
    let mut server = Server::testbed();
    let (_folder, file) = more("CREATE TABLE more (x INTEGER) STRICT;");
    let prepare = |server: &Server| -> String {
        let data = server.data().to_string_lossy().into_owned();
        let mut command = Setup::testbed().env("TESTBED_MIGRATION_FILE", &file).command(&["migrate", "prepare"]);
        say(command.args(["--data-dir", &data]), "").ok()
    };
    let said = prepare(&server);
    let prepared = snapshots(&server).pop().expect("it has been copied");
    assert!(said.contains(&prepared.display().to_string()), "{said}");
    // In none of what has been copied.
    let tenant = server.tenant("late");
    server.stop();
    server.start_again(|setup| setup.env("TESTBED_MIGRATION_FILE", &file));
    let kept = snapshots(&server);
    assert_eq!(kept, [prepared.with_extension("db")]);
    let snapshot = rusqlite::Connection::open(&kept[0]).expect("the snapshot");
    let named: i64 = snapshot
        .query_row("SELECT count(*) FROM tenants WHERE name = 'late'", [], |row| row.get(0))
        .expect("the tenants");
    assert_eq!(named, 1, "{tenant}");
    drop(snapshot);
    // There is nothing left to migrate.
    assert_eq!(prepare(&server), "");
    assert_eq!(snapshots(&server).len(), 1);
}

#[test]
fn each_verb_has_a_manual_page() {
    let folder = TempDir::new().expect("a folder");
    say(&mut agentd(&["man", &folder.path().to_string_lossy()]), "").ok();
    let pages = std::fs::read_dir(folder.path()).expect("a folder").map(|page| page.expect("a page").file_name());
    let pages: BTreeSet<String> = pages.map(|name| name.to_string_lossy().into_owned()).collect();
    for page in ["agentd.1", "agentd-serve.1", "agentd-job-submit.1", "agentd-migrate-check.1"] {
        assert!(pages.contains(page), "{pages:?}");
    }
    assert!(!pages.iter().any(|page| page.contains("help") || page.contains("-man")), "{pages:?}");
    let text = std::fs::read_to_string(folder.path().join("agentd.1")).expect("text");
    assert!(text.starts_with(".ie") && text.contains(".TH agentd 1"), "{text}");
    let nowhere = folder.path().join("nowhere");
    say(&mut agentd(&["man", &nowhere.to_string_lossy()]), "").refused(1);
}
