//! Where a verb gets a password from: typed twice on a terminal, a file, or
//! made up. Never an argument, which everybody on the machine can read.

use std::io::{BufRead, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;

use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

use super::failure::Failure;
use crate::text::read_utf8;
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
                let what = "this is not a terminal where a password could be asked for: give --password-file FILE (- is standard input), \
                            or --generate-password";
                return Err(Failure::Usage(what.into()));
            }
        };
        password.check(user).map_err(|fault| Failure::Usage(format!("the password {fault}")))?;
        Ok(Chosen { password, generated: false })
    }
}

fn from_file(path: &PathBuf) -> Result<Password, Failure> {
    let read = if path.as_os_str() == "-" {
        read_utf8(std::io::stdin().take(MOST))
    } else {
        std::fs::File::open(path).and_then(|file| read_utf8(file.take(MOST)))
    };
    let text = read
        .map_err(|error| Failure::other(format_args!("the password in {} cannot be read: {error}", path.display())))?;
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
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).map_err(Failure::other)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
    quiet.local_modes.insert(LocalModes::ECHONL);
    // The signal of Ctrl-C would leave the terminal as it is here. So that and
    // Ctrl-\ end a line, and what they usually do is done once it is as before.
    let interrupts = [SpecialCodeIndex::VINTR, SpecialCodeIndex::VQUIT].map(|code| before.special_codes[code]);
    quiet.special_codes[SpecialCodeIndex::VEOL] = interrupts[0];
    quiet.special_codes[SpecialCodeIndex::VEOL2] = interrupts[1];
    tcsetattr(&stdin, OptionalActions::Now, &quiet).map_err(Failure::other)?;
    // Not before: somebody may be quick.
    eprint!("{prompt}");
    let _ = std::io::stderr().flush();
    let read = line(&mut stdin.lock(), interrupts);
    let restored = tcsetattr(&stdin, OptionalActions::Now, &before);
    let Some(line) = read.map_err(Failure::other)? else {
        eprintln!();
        let _ = kill_process(getpid(), Signal::INT);
        return Err(Failure::other("interrupted"));
    };
    restored.map_err(Failure::other)?;
    if line.is_empty() {
        return Err(Failure::other("nothing was typed"));
    }
    let line = String::from_utf8(line).map_err(|_| Failure::other("what was typed is no text in UTF-8"))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// A line with its end, empty where there is nothing more; `None` where one of
/// `interrupts` came first. A 0 among them is a key that the terminal has not.
fn line(input: &mut impl BufRead, interrupts: [u8; 2]) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let read = input.fill_buf()?;
        let ends = |byte: &u8| *byte == b'\n' || *byte != 0 && interrupts.contains(byte);
        let Some(place) = read.iter().position(ends) else {
            let length = read.len();
            line.extend_from_slice(read);
            input.consume(length);
            if length == 0 {
                return Ok(Some(line));
            }
            continue;
        };
        let last = read[place];
        line.extend_from_slice(&read[..=place]);
        input.consume(place + 1);
        return Ok((last == b'\n').then_some(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_where_it_is_interrupted() {
        let read = |mut text: &[u8]| line(&mut text, [3, 0]).expect("it can be read");
        assert_eq!(read(b"one\ntwo\n"), Some(b"one\n".to_vec()));
        assert_eq!(read(b"on\x03e\n"), None);
        assert_eq!(read(b"a\0b"), Some(b"a\0b".to_vec()), "a key that is not there interrupts nothing");
        assert_eq!(read(b""), Some(Vec::new()));
    }
}
