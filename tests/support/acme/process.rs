//! A program of another project that a test needs running.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::super::eventually;

/// A program that is stopped when the test is over.
pub struct Helper {
    child: Child,
}

impl Helper {
    /// Starts a program and waits until all these addresses answer. What it says
    /// goes to a file.
    #[track_caller]
    pub fn start(command: &mut Command, package: &str, said: &Path, addresses: &[&str]) -> Self {
        let log = std::fs::File::create(said).expect("a file for what it says");
        let errors = log.try_clone().expect("the same file");
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("{program}: {error}; install it: apt-get install {package}"));
        eventually(&format!("{program} listens"), || {
            if let Some(status) = child.try_wait().expect("a child") {
                panic!("{program} ended: {status}\n{}", std::fs::read_to_string(said).unwrap_or_default());
            }
            addresses.iter().all(|address| TcpStream::connect(address).is_ok()).then_some(())
        });
        Self { child }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
