//! `agentd reload`: the running service reads its configuration again.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;

use super::control::{Control, read};
use super::failure::Failure;
use super::output::plain;

/// The service answers within 20 s, whatever happens.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  agentd reload\n  systemctl reload agentd\n\n\
                        When anything is wrong with the configuration, nothing changes, and the exit code is 78. What \
                        counts only after a restart is named.")]
pub(super) struct Arguments {
    #[command(flatten)]
    control: Control,
}

#[derive(Deserialize)]
struct Reloaded {
    changed: Vec<String>,
    needs_restart: Vec<String>,
    warnings: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let json = arguments.control.json;
    arguments.control.run(async |service| {
        let request = service.request(Method::POST, "/admin/reload").timeout(DEADLINE);
        let text = service.send_within(request).await?;
        if json {
            say!("{}", text.trim_end());
            return Ok(());
        }
        let Reloaded { changed, needs_restart, warnings } = read(&text)?;
        for warning in &warnings {
            eprintln!("warning: {}", plain(warning));
        }
        match changed.as_slice() {
            [] => say!("reloaded; nothing that counts at once has changed"),
            keys => say!("reloaded; these count now: {}", keys.join(", ")),
        }
        if !needs_restart.is_empty() {
            say!("these count after a restart (systemctl restart agentd): {}", needs_restart.join(", "));
        }
        Ok(())
    })
}
