//! Where a verb gets a password from: typed twice on a terminal, a file, or
//! made up. Never an argument, which everybody on the machine can read.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::failure::Failure;
use crate::users::Password;

/// Bytes of a file that are looked at.
const MOST: u64 = 4096;

#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct PasswordSource {
    /// File that holds the password; - for standard input
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Make a password up, and print it once
    #[arg(long, conflicts_with = "password_file")]
    pub generate_password: bool,
}

/// A password, and whether nobody knows it yet.
pub(super) struct Chosen {
    pub password: Password,
    pub generated: bool,
}

impl PasswordSource {
    /// The password for a user, which is good enough.
    pub(super) fn get(&self, user: &str) -> Result<Chosen, Failure> {
        if self.generate_password {
            return Ok(Chosen { password: Password::generate(), generated: true });
        }
        let password = match &self.password_file {
            Some(path) => from_file(path)?,
            None if std::io::stdin().is_terminal() => return typed(user),
            None => {
                let what = "nobody can be asked for a password here: give --password-file FILE (- is standard input), \
                            or --generate-password";
                return Err(Failure::Usage(what.into()));
            }
        };
        password.check(user).map_err(|fault| Failure::Usage(format!("the password {fault}")))?;
        Ok(Chosen { password, generated: false })
    }
}

fn from_file(path: &PathBuf) -> Result<Password, Failure> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(MOST).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::other(format_args!("the password in {} cannot be read: {error}", path.display())))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains(['\n', '\r']) {
        return Err(Failure::Usage(format!("{} must hold the password in one line", path.display())));
    }
    Ok(Password::new(line.to_owned()))
}

/// Asks until it is good enough and typed twice the same.
fn typed(user: &str) -> Result<Chosen, Failure> {
    loop {
        let password = Password::new(hidden(&format!("Password for {user} (at least 12 characters): "))?);
        if let Err(fault) = password.check(user) {
            eprintln!("It {fault}.");
            continue;
        }
        if hidden("The same again: ")? == password.reveal() {
            return Ok(Chosen { password, generated: false });
        }
        eprintln!("These were not the same.");
    }
}

/// Reads a line that is not shown.
fn hidden(prompt: &str) -> Result<String, Failure> {
    eprint!("{prompt}");
    let _ = std::io::stderr().flush();
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).map_err(Failure::other)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    quiet.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(&stdin, OptionalActions::Now, &quiet).map_err(Failure::other)?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    let restored = tcsetattr(&stdin, OptionalActions::Now, &before);
    if read.map_err(Failure::other)? == 0 {
        return Err(Failure::other("nothing was typed"));
    }
    restored.map_err(Failure::other)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
