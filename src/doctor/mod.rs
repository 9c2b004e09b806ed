//! Whether what the service needs is there, above all for HTTPS by ACME, and
//! what to do where it is not. It changes nothing, needs no running service,
//! and ends within [`LONGEST`], whatever does not answer.
//!
//! It connects to addresses that the administrator's own names lead to without
//! asking the guard of `outbound`: to look whether those are this machine is
//! what it is for, and nothing that is answered is shown to anybody else.

mod backups;
mod caa;
mod directory;
mod host;
mod names;
mod ports;

use std::time::Duration;

use serde::Serialize;

use crate::clock::Clock;
use crate::config::{Config, TlsMode};
use crate::outbound::{BuildError, Options, Outbound};
use crate::tls;

/// How long all of it takes at most.
pub const LONGEST: Duration = Duration::from_secs(20);
/// How long each group of checks may take; they run side by side, those of the
/// records on authorities after the others.
const EACH: Duration = Duration::from_secs(7);

/// What is valid for less should have been renewed.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It may be meant so, or cannot be seen from here.
    Warn,
    /// It does not work so.
    Fail,
}

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is.
    pub state: State,
    /// What was looked at.
    pub what: String,
    /// What was seen.
    pub detail: String,
    /// What to do; none where nothing has to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { state: State::Ok, what: what.into(), detail: detail.into(), advice: None }
    }

    /// Perhaps not as it should be.
    pub fn warn(what: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Warn, what: what.into(), detail: detail.into(), advice: Some(advice.into()) }
    }

    /// It does not work so.
    pub fn fail(what: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Fail, what: what.into(), detail: detail.into(), advice: Some(advice.into()) }
    }
}

/// Whether the service runs, as far as it can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// As this process.
    Running(u32),
    /// It does not run.
    Absent,
    /// It may, and cannot be looked at: it hangs, or its socket may not be
    /// opened.
    Unknown,
}

/// Looks at everything that a configuration needs.
pub async fn examine(config: &Config, service: Service, clock: &Clock) -> Vec<Finding> {
    let mut findings = examine_the_rest(config, service, clock).await;
    findings.push(backups::examine(config));
    findings
}

async fn examine_the_rest(config: &Config, service: Service, clock: &Clock) -> Vec<Finding> {
    let host = {
        let data = config.data.clone();
        let looking = tokio::task::spawn_blocking(move || host::examine(&data, service));
        within("this machine", async { looking.await.unwrap_or_default() })
    };
    if config.tls.mode != TlsMode::Acme {
        let mut findings = host.await;
        findings.push(without_acme(config, clock));
        findings.extend(ports::listening(config, service));
        return findings;
    }
    let outbound = match outbound(config) {
        Ok(outbound) => outbound,
        Err(error) => {
            let mut findings = host.await;
            findings.push(Finding::fail("authorities", error.to_string(), "name a PEM file with certificates in it"));
            return findings;
        }
    };
    let acme = &config.acme;
    let directories = directory::examine(&outbound, acme, clock);
    let names = names::examine(&outbound, acme);
    let (mut findings, (directories, seen), names) = tokio::join!(host, directories, names);
    findings.extend(directories);
    findings.extend(names);
    findings.extend(ports::listening(config, service));
    let caa = within("CAA", caa::examine(&outbound, acme, &seen));
    let reached = within("ports from outside", ports::reached(&outbound, config, service));
    let (caa, reached) = tokio::join!(caa, reached);
    findings.extend(caa.into_iter().chain(reached));
    findings
}

fn without_acme(config: &Config, clock: &Clock) -> Finding {
    let what = "certificate";
    match config.tls.mode {
        TlsMode::Off => Finding::ok(what, "none: tls.mode is off, so this is plain HTTP"),
        TlsMode::SelfSigned => Finding::ok(what, "the service's own, which browsers do not trust"),
        TlsMode::Files | TlsMode::Acme => match tls::files::load(&config.tls, clock.now()) {
            Err(fault) => Finding::fail(what, fault.to_string(), "mend that; agentd check reads them again"),
            Ok(shown) if shown.not_after < clock.now().plus(SOON) => {
                let detail = format!("from files, valid until {} only", shown.not_after);
                Finding::warn(what, detail, "put new files in place; they are taken up by themselves")
            }
            Ok(shown) if !shown.warnings.is_empty() => {
                let detail = format!("from files: {}", shown.warnings.join("; "));
                Finding::warn(what, detail, "put files in place that clients accept; they are taken up by themselves")
            }
            Ok(shown) => Finding::ok(what, format!("from files, valid until {}", shown.not_after)),
        },
    }
}

/// The way out as the service has it, which also trusts the directories'
/// authorities.
fn outbound(config: &Config) -> Result<Outbound, BuildError> {
    let options = Options {
        allow: Vec::new(),
        nameservers: config.outbound.nameservers.clone(),
        extra_ca: config.outbound.extra_ca.clone(),
    };
    let outbound = Outbound::new(options, &prometheus::Registry::new())?;
    config.acme.ca_file.as_deref().map_or(Ok(outbound.clone()), |ca_file| outbound.trusting("acme.ca_file", ca_file))
}

/// The findings, or that there were none in time.
async fn within(what: &str, looking: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    let late = || {
        let detail = format!("no answer within {} s", EACH.as_secs());
        vec![Finding::fail(what, detail, "look at the network, the name servers and the disk of this machine")]
    };
    tokio::time::timeout(EACH, looking).await.unwrap_or_else(|_| late())
}
