//! Whom a backup is encrypted for, and who opens it.
//!
//! The service has a key of its own beside those of the settings: without it, it
//! could not try out whether its backups can be restored. It lies with the other
//! secrets of the data folder, where whoever could read it has everything anyway.

use std::io::Read;
use std::path::Path;

use age::secrecy::ExposeSecret as _;
use age::{DecryptError, Decryptor, Encryptor};

use super::error::{BackupError, io_at};
use super::name::Name;
use crate::config::Recipient;
use crate::text::read_file;
use crate::vault::kept;

/// The file of the service's own key, in the folder of secrets.
const OWN: &str = "backup.identity";

/// What is said of an encrypted backup, behind its name, where there is no key at all.
const NO_KEY: &str = "is encrypted: give the file of the age key that opens it with --identity";

/// Keys for reading and writing backups.
#[derive(Default)]
pub struct Keys {
    /// Nobody: backups are not encrypted.
    recipients: Vec<Recipient>,
    identities: Vec<age::x25519::Identity>,
}

impl Keys {
    /// Those of a service; makes its own when it needs one and has none.
    ///
    /// # Errors
    /// When the file of its own cannot be read or written.
    pub fn of_service(secrets: &Path, recipients: &[Recipient]) -> Result<Self, BackupError> {
        let mut keys = Self { recipients: recipients.to_vec(), identities: Vec::new() };
        let path = secrets.join(OWN);
        match read_file(&path) {
            Ok(text) => keys.add(&text, &path)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if !recipients.is_empty() {
                    keys.identities.push(make(&path)?);
                }
            }
            Err(error) => return Err(io_at("cannot read", &path)(error)),
        }
        Ok(keys)
    }

    /// Those that are at hand for reading: the service's own, if it is there, and
    /// those of a file as `age-keygen` makes it.
    ///
    /// # Errors
    /// When a file cannot be read or holds no key.
    pub fn for_reading(secrets: &Path, file: Option<&Path>) -> Result<Self, BackupError> {
        let mut keys = Self::of_service(secrets, &[])?;
        if let Some(path) = file {
            let text = read_file(path).map_err(io_at("cannot read", path))?;
            keys.add(&text, path)?;
        }
        Ok(keys)
    }

    fn add(&mut self, text: &str, path: &Path) -> Result<(), BackupError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let before = self.identities.len();
        for line in lines {
            let wrong = |_| {
                BackupError::Locked(format!(
                    "{} holds something that is no age key (AGE-SECRET-KEY-1…)",
                    path.display()
                ))
            };
            self.identities.push(line.parse().map_err(wrong)?);
        }
        if self.identities.len() == before {
            return Err(BackupError::Locked(format!("{} holds no age key (AGE-SECRET-KEY-1…)", path.display())));
        }
        Ok(())
    }

    /// Whether what is written is encrypted.
    pub(super) fn encrypts(&self) -> bool {
        !self.recipients.is_empty()
    }

    pub(super) fn encryptor(&self) -> Option<Encryptor> {
        let own: Vec<_> = self.identities.iter().map(age::x25519::Identity::to_public).collect();
        let theirs = self.recipients.iter().map(Recipient::get);
        let all = theirs.chain(&own).map(|recipient| recipient as &dyn age::Recipient);
        self.encrypts().then(|| Encryptor::with_recipients(all).ok()).flatten()
    }

    /// Refuses what no key at hand could open, as far as its name says; only the
    /// backup itself tells whom it is for.
    pub(super) fn refuse_unreadable(&self, name: &Name) -> Result<(), BackupError> {
        if name.encrypted && self.identities.is_empty() {
            return Err(BackupError::Locked(format!("{name} {NO_KEY}")));
        }
        Ok(())
    }

    pub(super) fn decrypt<R: Read>(&self, from: R) -> Result<age::stream::StreamReader<R>, BackupError> {
        let decryptor = Decryptor::new(from).map_err(|error| decrypting(&error))?;
        let identities = self.identities.iter().map(|identity| identity as &dyn age::Identity);
        decryptor.decrypt(identities).map_err(|error| match error {
            DecryptError::NoMatchingKeys if self.identities.is_empty() => {
                BackupError::Locked(NO_KEY.into())
            }
            DecryptError::NoMatchingKeys => {
                BackupError::Locked("is encrypted for somebody else: none of the keys at hand opens it; --identity names the file of another".into())
            }
            error => decrypting(&error),
        })
    }
}

fn decrypting(error: &DecryptError) -> BackupError {
    BackupError::Damaged(error.to_string())
}

fn make(path: &Path) -> Result<age::x25519::Identity, BackupError> {
    let identity = age::x25519::Identity::generate();
    kept::make(path, identity.to_string().expose_secret()).map_err(BackupError::Refused)?;
    Ok(identity)
}
