//! What systemd is told and hands over, where nothing but its protocol is
//! needed; tests/systemd has the rest.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::support::raw::Raw;
use crate::support::server::{long_enough, run};
use crate::support::{PATIENCE, Server, Setup, eventually};

/// systemd's end of the notify socket.
struct Notified {
    socket: UnixDatagram,
    lines: VecDeque<String>,
    folder: TempDir,
}

impl Notified {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        Self { socket, lines: VecDeque::new(), folder }
    }

    fn told(&self, setup: Setup) -> Setup {
        setup.env("NOTIFY_SOCKET", &self.folder.path().join("notify").to_string_lossy())
    }

    /// The lines up to one that begins so, which must come.
    #[track_caller]
    fn until(&mut self, begins: &str) -> Vec<String> {
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut seen = Vec::new();
        loop {
            while let Some(line) = self.lines.pop_front() {
                let found = line.starts_with(begins);
                seen.push(line);
                if found {
                    return seen;
                }
            }
            let mut buffer = [0; 4096];
            let count = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}, not {begins}: {seen:?}"));
            self.lines.extend(String::from_utf8_lossy(&buffer[..count]).lines().map(str::to_owned));
        }
    }

    /// What has come and was not looked at yet.
    fn drain(&mut self) -> Vec<String> {
        self.socket.set_nonblocking(true).expect("set");
        let mut buffer = [0; 4096];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(count) => {
                    self.lines.extend(String::from_utf8_lossy(&buffer[..count]).lines().map(str::to_owned));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.socket.set_nonblocking(false).expect("set");
        self.lines.drain(..).collect()
    }
}

#[test]
fn readiness_status_and_stopping_are_told() {
    let mut systemd = Notified::new();
    let mut server = systemd.told(Setup::real()).start();
    let told = systemd.until("STATUS=serving");
    assert_eq!(told[0], "READY=1", "{told:?}");
    let status =
        format!("STATUS=serving on {}; jobs: 0 running, 0 waiting; the service is not set up", server.address());
    assert!(told[1].starts_with(&status), "{told:?}");
    server.stop();
    let told = systemd.until("STATUS=stopping");
    assert!(told.iter().any(|line| line == "STOPPING=1"), "{told:?}");
    // 20 s to drain and 30 s to close.
    assert!(told.iter().any(|line| line == "EXTEND_TIMEOUT_USEC=50000000"), "{told:?}");
}

#[test]
fn the_status_follows_the_queue() {
    let mut systemd = Notified::new();
    let server = systemd.told(Setup::testbed()).env("WATCHDOG_USEC", "200000").start();
    let gate = server.gate("gate");
    let client = server.client();
    let job = client.submit("test.gate", &json!({ "gate": gate.path() }));
    let told = systemd.until(&format!("STATUS=serving on {}; jobs: 1 running", server.address()));
    assert!(told.iter().any(|line| line == "WATCHDOG=1"), "{told:?}");
    gate.open();
    client.finished(&job);
    systemd.until(&format!("STATUS=serving on {}; jobs: 0 running", server.address()));
}

#[test]
fn a_start_that_fails_says_why_and_never_that_it_is_ready() {
    let mut systemd = Notified::new();
    let other = Server::real();
    let data = systemd.folder.path().join("data");
    let arguments = ["serve", "--listen", &other.address(), "--data-dir", &data.to_string_lossy()];
    let (code, said) = run(&mut systemd.told(Setup::real()).command(&arguments));
    assert_eq!(code, 69, "{said}");
    let told = systemd.until("STATUS=failed: cannot listen");
    assert!(!told.iter().any(|line| line == "READY=1"), "{told:?}");
}

#[test]
fn the_watchdog_is_not_fed_while_the_jobs_runtime_hangs() {
    let mut systemd = Notified::new();
    let server = systemd.told(Setup::testbed()).env("WATCHDOG_USEC", "100000").start();
    systemd.until("WATCHDOG=1");
    let gate = server.gate("gate");
    let client = server.client();
    let threads = std::thread::available_parallelism().map_or(8, std::num::NonZero::get);
    let hog = || client.submit("test.hog", &json!({ "gate": gate.path() }));
    let jobs: Vec<_> = (0..threads + 4).map(|_| hog()).collect();
    server.wait_for_log("that it hangs", |line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("the runtime of the jobs does not answer"))
    });
    systemd.drain();
    // Four times as long as it takes to be fed.
    long_enough();
    let told = systemd.drain();
    assert!(!told.iter().any(|line| line == "WATCHDOG=1"), "{told:?}");
    gate.open();
    systemd.until("WATCHDOG=1");
    for job in jobs {
        client.finished(&job);
    }
}

#[test]
fn a_long_migration_asks_for_more_time() {
    let mut systemd = Notified::new();
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("slow.sql");
    // Some seconds of work.
    let sql = "CREATE TABLE slow AS WITH RECURSIVE n(x) AS
               (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 20000000) SELECT max(x) AS x FROM n;";
    std::fs::write(&file, sql).expect("written");
    let mut server = systemd.told(Setup::testbed()).env("TESTBED_MIGRATION_FILE", &file.to_string_lossy()).start();
    let told = systemd.until("READY=1");
    assert!(told.iter().any(|line| line == "EXTEND_TIMEOUT_USEC=60000000"), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with("STATUS=bringing the database")), "{told:?}");
    server.unchecked();
}

/// The service with sockets of ours as its third and following ones, as systemd
/// hands them over.
struct Handed {
    command: Command,
    folder: TempDir,
}

impl Handed {
    /// One socket, or the same one again under each name.
    fn over(socket: impl Into<OwnedFd>, names: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let agentd = env!("CARGO_BIN_EXE_agentd");
        let again = (0..names.len()).fold(String::new(), |all, place| all + &format!("{}<&0 ", place + 3));
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("export LISTEN_PID=$$; exec \"$0\" \"$@\" {again}</dev/null"));
        command.args([agentd, "serve", "--data-dir"]).arg(folder.path().join("data"));
        command.env_clear().env("PATH", "/usr/bin:/bin");
        command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        // Passed on as the standard input, which other tests' children do not
        // inherit.
        command.stdin(Stdio::from(socket.into())).stdout(Stdio::null()).stderr(Stdio::piped());
        Self { command, folder }
    }

    /// Starts it where it is expected to refuse: exit code and standard error.
    fn refused(mut self) -> (i32, String) {
        let output = self.command.output().expect("it runs");
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn start(mut self) -> Running {
        Running { child: self.command.spawn().expect("it starts"), _folder: self.folder }
    }
}

struct Running {
    child: Child,
    _folder: TempDir,
}

impl Running {
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("sent");
        let child = &mut self.child;
        let status = eventually("it ends", || child.try_wait().expect("a child"));
        assert!(status.success(), "{status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn asked(address: SocketAddr) -> Raw {
    let mut raw = Raw::connect(&address.to_string());
    raw.send("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    raw
}

#[test]
fn a_socket_of_systemd_is_served_and_keeps_who_comes_meanwhile() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    for _ in 0..2 {
        let mut early = asked(address);
        let service = Handed::over(listener.try_clone().expect("a copy"), &["https"]).start();
        let answer = early.read_to_end();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        service.stop();
    }
}

#[test]
fn sockets_that_nobody_knows_what_to_do_with_are_refused() {
    let tcp = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let anywhere = TcpListener::bind("0.0.0.0:0").expect("a port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    for (handed, why) in [
        (Handed::over(tcp(), &["agentd.socket"]), "FileDescriptorName=https"),
        (Handed::over(tcp(), &["https", "https"]), "more than one socket named \"https\""),
        (Handed::over(udp, &["https"]), "is no TCP socket"),
        (Handed::over(anywhere, &["https"]), "is not a loopback address"),
    ] {
        let (code, said) = handed.refused();
        assert_eq!(code, 78, "{said}");
        assert!(said.contains(why), "{said}");
    }
}

/// The names of the units are those that the program looks for.
#[test]
fn the_socket_units_say_what_their_sockets_are_for() {
    for (unit, name) in [("agentd.socket", "https"), ("agentd-http.socket", "http")] {
        let text = std::fs::read_to_string(Path::new("systemd").join(unit)).expect("the unit");
        assert!(text.contains(&format!("\nFileDescriptorName={name}\n")), "{unit}");
    }
}
