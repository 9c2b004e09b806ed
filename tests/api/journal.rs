//! What systemd's journal gets: lines with their priority (sd-daemon(3)), by which
//! `journalctl -p warning` finds them. A pipe stands for the journal here.

use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _};
use std::net::TcpStream;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Setup, eventually};

/// A pipe, and what systemd would say of it.
fn journal() -> (BufReader<PipeReader>, PipeWriter, String) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let file = rustix::fs::fstat(&writer).expect("it is a file");
    let name = format!("{}:{}", file.st_dev, file.st_ino);
    (BufReader::new(reader), writer, name)
}

/// Priority and content of the next line of the log.
fn next(reader: &mut BufReader<PipeReader>) -> (String, Value) {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    let (priority, rest) = line.split_at_checked(3).unwrap_or_else(|| panic!("{line:?}"));
    (priority.to_owned(), serde_json::from_str(rest).unwrap_or_else(|error| panic!("{line:?}: {error}")))
}

/// The next line that says this.
fn until(reader: &mut BufReader<PipeReader>, what: &str) -> (String, Value) {
    loop {
        let (priority, line) = next(reader);
        if line["message"].as_str().is_some_and(|message| message.contains(what)) {
            return (priority, line);
        }
    }
}

#[test]
fn each_line_of_the_log_has_its_priority() {
    let (mut reader, writer, name) = journal();
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data").to_string_lossy().into_owned();
    let setup = Setup::real().env("JOURNAL_STREAM", &name);
    let mut command = setup.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    let mut child = command.stdout(writer).spawn().expect("it starts");
    drop(command);
    let (priority, ready) = until(&mut reader, "ready");
    assert_eq!((priority.as_str(), &ready["level"]), ("<6>", &Value::from("INFO")));
    let mut client = TcpStream::connect(ready["address"].as_str().expect("an address")).expect("a connection");
    client.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 80\r\n").expect("sent");
    let (priority, warning) = until(&mut reader, "not HTTP");
    assert_eq!((priority.as_str(), &warning["level"]), ("<4>", &Value::from("WARN")));
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    until(&mut reader, "stopped");
    assert!(eventually("it ends", || child.try_wait().expect("a child")).success());
}

#[test]
fn why_a_start_failed_is_an_error() {
    let (reader, writer, name) = journal();
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().to_string_lossy().into_owned();
    let setup = Setup::real().env("JOURNAL_STREAM", &name).env("AGENTD_JOBS_CONCURRENCY", "many");
    let mut command = setup.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    let mut child = command.stderr(writer).spawn().expect("it starts");
    drop(command);
    let lines: Vec<_> = reader.lines().map(|line| line.expect("text")).collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(78));
    assert!(!lines.is_empty() && lines.iter().all(|line| line.starts_with("<3>")), "{lines:?}");
}

#[test]
fn nothing_is_marked_where_nobody_reads_it() {
    let (_reader, _writer, name) = journal();
    let server = Setup::real().env("JOURNAL_STREAM", &name).start();
    assert!(server.log().iter().all(|line| line.starts_with('{')), "{:?}", server.log());
}
