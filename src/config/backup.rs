//! `[backup]`, but for where copies are sent to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Reader;
use super::sections::key;
use super::setting::{DAY, List, MINUTE, Setting};

/// Whom backups are encrypted for: the public half of an age key.
#[derive(Clone)]
pub struct Recipient(age::x25519::Recipient);

impl Recipient {
    /// The recipient, for the library.
    #[must_use]
    pub fn get(&self) -> &age::x25519::Recipient {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn parse_for_tests(text: &str) -> Self {
        Self::parse(text).expect("a recipient")
    }
}

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Setting for Recipient {
    const EXPECTED: &'static str = "an age recipient such as age1…, the public half of what age-keygen makes";
    const REPEAT: bool = false;

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// `[backup]`
#[derive(Clone, Debug)]
pub struct BackupSection {
    /// How often one is made; none: only when asked for.
    pub every: Option<Duration>,
    /// The folder that they are kept in.
    pub dir: PathBuf,
    /// How many of the newest are kept.
    pub keep: usize,
    /// For how many days the last one of each day is kept beside those.
    pub keep_days: usize,
    /// Whom they are encrypted for; nobody: they are not.
    pub recipients: Vec<Recipient>,
    /// A key that opens backups of another host, for restoring and following it.
    pub identity_file: Option<PathBuf>,
    /// How often the newest is restored to see that it can be; none: never.
    pub drill_every: Option<Duration>,
}

/// Shorter, the machine would do little else.
const SHORTEST: Duration = MINUTE;

impl BackupSection {
    pub(super) fn read(reader: &mut Reader<'_>, data: &Path) -> Self {
        let every = key("backup.every", "How often a backup is made: a span such as 24h, or off.");
        let dir = key("backup.dir", "Folder of the backups; backups in data.dir when not set.");
        let keep = key("backup.keep", "How many of the newest backups are kept.");
        let keep_days = key("backup.keep_days", "For how many days the last backup of each day is kept as well.");
        let recipients = key(
            "backup.recipients",
            "Age keys that backups are encrypted for; only encrypted ones hold the secrets and the configuration.",
        );
        let identity = key(
            "backup.identity_file",
            "File of an age key that opens backups, on a host that restores or follows those of another.",
        );
        let drill = key("backup.drill_every", "How often the newest backup is restored as a test: a span, or off.");
        Self {
            every: reader.span_or_off(every, DAY, SHORTEST),
            dir: reader.optional(dir).unwrap_or_else(|| data.join("backups")),
            keep: reader.value(keep, 3),
            keep_days: reader.value(keep_days, 7),
            recipients: reader.value(recipients, List(Vec::new())).0,
            identity_file: reader.optional(identity),
            drill_every: reader.span_or_off(drill, 30 * DAY, SHORTEST),
        }
    }
}
