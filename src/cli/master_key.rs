//! `agentd admin …-master-key` and `forget-secrets`: the key that seals the
//! secrets in the database.

use reqwest::Method;
use serde_json::Value;

use super::control::{Control, Service, read};
use super::exit;
use super::failure::Failure;
use super::output::{confirm, field};
use crate::app::{BuildError, offline};
use crate::config;
use crate::db::OpenError;
use crate::vault::{self, Key, Standing};

pub(super) const ROTATE_HELP: &str = "Example:\n  agentd admin rotate-master-key\n\n\
    The service makes the key, seals everything anew and replaces secrets/master.key in its data folder. Backups from \
    before need the key from before.";
pub(super) const NEW_HELP: &str = "Example:\n  (umask 077; agentd admin new-master-key > /etc/agentd/master.key)\n\n\
    Put it into data.master_key_file, and the one before into data.previous_master_key_file; after a restart \
    everything is sealed with the new one.";
pub(super) const FORGET_HELP: &str = "Example:\n  systemctl stop agentd; agentd admin forget-secrets\n\n\
    For when the master key is lost for good and no encrypted backup has it. Private keys of certificates and the \
    accounts with their authorities are given up; the next start makes a new master key and orders anew.";

/// Has the running service change its key.
pub(super) async fn rotate(service: &Service, json: bool) -> Result<(), Failure> {
    let text = service.send(service.request(Method::POST, "/admin/master-key/rotate")).await?;
    if json {
        say!("{}", text.trim_end());
        return Ok(());
    }
    let rotated: Value = read(&text)?;
    let of = |name| field(&rotated, name);
    say!(
        "the master key is {} now, in place of {}; secrets sealed anew: {}",
        of("key_id"),
        of("previous_key_id"),
        of("secrets")
    );
    eprintln!("keep a copy of secrets/master.key where no backup of the database is");
    Ok(())
}

/// Prints a new key.
pub(super) fn new() -> Result<(), Failure> {
    let key = Key::generate().map_err(|fault| Failure::other(format_args!("a new master key {fault}")))?;
    say!("{}", key.reveal());
    Ok(())
}

/// Gives up what cannot be opened any more.
pub(super) fn forget(control: &Control, yes: bool) -> Result<(), Failure> {
    let loaded = config::load(&control.location.sources()).map_err(Failure::Configuration)?;
    let config = loaded.config;
    let path = config.data.database.display();
    let there = config.data.database.try_exists();
    if !there.map_err(|error| Failure::other(format_args!("the database {path} cannot be looked at: {error}")))? {
        return Err(Failure::other(format_args!("there is no database at {path}; --data-dir says where else to look")));
    }
    if !yes {
        let state = match vault::examine(&config.data) {
            Ok(Standing::Here(id)) => format!("Its master key {id} is here and opens them."),
            Ok(_) => "Nothing is sealed in it.".to_owned(),
            Err(fault) => format!("{fault}."),
        };
        confirm(&format!("{state} Give up every sealed secret in {path} for good?"))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::other)?;
    let forgotten = runtime.block_on(offline::forget_secrets(&config)).map_err(|error| {
        let code =
            if matches!(error, BuildError::Open(OpenError::Locked { .. })) { exit::TRY_AGAIN } else { exit::FAILED };
        eprintln!("agentd: {error}");
        Failure::Told(code)
    })?;
    say!("given up: {forgotten}; the next start makes what is needed anew");
    Ok(())
}
