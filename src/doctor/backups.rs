//! Whether what is lost would come back.

use super::Finding;
use crate::config::Config;

/// As far as the settings tell; whether they work, the backups themselves show.
pub(super) fn examine(config: &Config) -> Finding {
    let what = "backups";
    let section = &config.backup;
    if section.every.is_none() {
        return Finding::warn(what, "are made only when somebody asks for them", "set backup.every, such as \"24h\"");
    }
    if section.recipients.is_empty() {
        let detail =
            "are not encrypted, so they do not hold the secrets, without which API keys and certificates are lost";
        return Finding::warn(what, detail, "set backup.recipients, or keep a copy of the folder secrets/ elsewhere");
    }
    if config.s3.is_none() {
        return Finding::warn(what, "stay on this machine", "set backup.s3_bucket, or copy backup.dir elsewhere");
    }
    Finding::ok(what, "are made, encrypted, and sent elsewhere")
}
