//! The command line as somebody types it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Server, Setup};

/// What a command said, and how it ended.
#[derive(Clone, Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// The shipped program with these arguments and nothing of our environment.
pub fn agentd(arguments: &[&str]) -> Command {
    Setup::real().command(arguments)
}

/// Runs a command to its end, with this on its standard input.
#[track_caller]
pub fn say(command: &mut Command, input: &str) -> Said {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // It may end without reading.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

impl Server {
    /// The program, told where this service is.
    pub fn verb(&self, arguments: &[&str]) -> Command {
        let mut command = agentd(arguments);
        command.arg("--data-dir").arg(self.data());
        command
    }

    /// Runs a verb on this service.
    #[track_caller]
    pub fn agentd(&self, arguments: &[&str]) -> Said {
        say(&mut self.verb(arguments), "")
    }

    /// Runs a verb that must succeed; its standard output.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> String {
        self.agentd(arguments).ok()
    }

    /// Runs a verb with `--json`, which must succeed.
    #[track_caller]
    pub fn ask_json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
        self.agentd(&arguments).json()
    }

    /// The control socket where nobody says otherwise.
    pub fn socket(&self) -> std::path::PathBuf {
        self.data().join("control.sock")
    }
}

impl Said {
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    #[track_caller]
    pub fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out:?}"))
    }

    /// What was said on standard error by a command that must end with `code`.
    #[track_caller]
    pub fn refused(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.out, "", "what goes wrong is said on standard error");
        self.err
    }
}

/// Sends one request over a socket's file; status and body.
#[track_caller]
pub fn over(socket: &Path, head: &str, headers: &[&str], body: &str) -> (u16, Value) {
    use std::io::Read as _;
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("a connection");
    stream.set_read_timeout(Some(super::PATIENCE)).expect("a timeout");
    let headers = headers.iter().fold(String::new(), |all, header| all + header + "\r\n");
    let length = body.len();
    let request =
        format!("{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or(Value::String(body.into())))
}
