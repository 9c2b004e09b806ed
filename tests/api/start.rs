//! Starting where it cannot be: each refusal has its exit code and says what
//! to do.

use std::path::Path;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::server::run;
use crate::support::{Server, Setup};

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

/// A data folder as a service that has ended leaves it.
fn used() -> TempDir {
    let mut server = Server::real();
    server.tenant("a");
    server.stop();
    server.into_folder()
}

fn database(data: &Path) -> Connection {
    Connection::open(data.join("agentd.db")).expect("the database opens")
}

#[test]
fn a_taken_port_is_told() {
    let server = Server::real();
    let other = folder();
    let data = other.path().join("data");
    let arguments = ["serve", "--listen", &server.address(), "--data-dir", &data.to_string_lossy()];
    let (code, said) = run(&mut Setup::real().command(&arguments));
    assert_eq!(code, 69, "{said}");
    assert!(said.contains(&server.address()) && said.contains("another program has it"), "{said}");
    assert!(!data.exists(), "the data is not touched before the port is had");
}

#[test]
fn a_data_folder_in_use_is_told_with_the_pid() {
    let server = Server::real();
    let (code, said) = Setup::real().refused(&server.data());
    assert_eq!(code, 75, "{said}");
    assert!(said.contains(&format!("in use by process {}", server.pid())), "{said}");
    server.admin().get("/admin/tenants").expect(200);
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let place = folder();
    let file = place.path().join("file");
    std::fs::write(&file, "a regular file").expect("written");
    for data in [file.join("data"), file.clone()] {
        let (code, said) = Setup::real().refused(&data);
        assert_eq!(code, 78, "{said}");
        assert!(said.contains("cannot be used") && said.contains(&*data.to_string_lossy()), "{said}");
    }
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let place = used();
    let data = place.path().join("data");
    let sql = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
               VALUES (9999, 'future', '2100-01-01T00:00:00Z', '1')";
    database(&data).execute(sql, []).expect("a row");
    let (code, said) = Setup::real().refused(&data);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("schema version 9999") && said.contains("install the newer agentd"), "{said}");
    let kept: i64 =
        database(&data).query_row("SELECT count(*) FROM tenants WHERE no > 0", [], |row| row.get(0)).expect("a count");
    assert_eq!(kept, 1);
}

#[test]
fn somebody_elses_database_is_refused_and_not_touched() {
    let place = folder();
    let data = place.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    database(&data).execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").expect("a table");
    let before = std::fs::read(data.join("agentd.db")).expect("a file");
    let (code, said) = Setup::real().refused(&data);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("not one of agentd's"), "{said}");
    assert!(std::fs::read(data.join("agentd.db")).expect("a file") == before, "not a byte of it may change");
}

#[test]
fn a_file_that_is_no_database_is_refused_and_not_touched() {
    let place = folder();
    let data = place.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    let text = "not a database, but long enough to have been one: ".repeat(100);
    std::fs::write(data.join("agentd.db"), &text).expect("written");
    let (code, said) = Setup::real().refused(&data);
    assert!(code != 0, "{said}");
    assert!(said.contains("database"), "{said}");
    assert_eq!(std::fs::read_to_string(data.join("agentd.db")).expect("a file"), text);
}

#[test]
fn an_edited_migration_is_refused() {
    let place = used();
    let data = place.path().join("data");
    database(&data).execute("UPDATE refinery_schema_history SET checksum = '1'", []).expect("a row");
    let (code, said) = Setup::real().refused(&data);
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("could not be brought to this version"), "{said}");
}

#[test]
fn an_empty_secret_is_told() {
    let place = used();
    let data = place.path().join("data");
    let secrets = data.join("secrets");
    std::fs::create_dir_all(&secrets).expect("a folder");
    std::fs::write(secrets.join("admin.key"), "\n").expect("written");
    let (code, said) = Setup::real().without_env("AGENT_ADMIN_KEY").refused(&data);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("admin.key") && said.contains("is empty"), "{said}");
}

#[test]
fn the_lock_of_a_killed_process_is_free() {
    let mut server = Server::real();
    server.kill();
    server.start_again(|setup| setup);
    server.admin().get("/admin/tenants").expect(200);
}
