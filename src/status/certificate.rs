//! When certificates are a worry, and what to do about them.

use super::{LATE, Warning};
use crate::clock::Timestamp;
use crate::config::CertName;
use crate::tls::acme::{CertificateState, CertificateStatus};
use crate::tls::{Certificates, Source};

/// What can be told of those that are shown, without looking anything up.
pub(super) fn in_short(certificates: &Certificates, wanted: &[CertName], now: Timestamp) -> Vec<Warning> {
    let shown = certificates.all();
    // One that is made here is made again here, and nobody trusts it anyway.
    let trusted = shown.iter().filter(|shown| shown.source != Source::SelfSigned);
    let mut warnings: Vec<_> = trusted
        .filter_map(|shown| {
            let names = shown.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            ending(&names, shown.source == Source::Files, shown.not_after, now)
        })
        .collect();
    warnings.extend(certificates.files_problem().map(|problem| unusable(&problem.what)));
    let has = |name: &CertName| shown.iter().any(|it| it.source == Source::Acme && it.names.contains(name));
    warnings.extend(wanted.iter().filter(|name| !has(name)).map(|name| missing(&name.to_string(), None)));
    warnings
}

/// What is wrong with a certificate, if anything.
pub(super) fn warning(state: &CertificateState, now: Timestamp) -> Option<Warning> {
    let CertificateState { name, source, .. } = state;
    let ends = || ending(name, *source == "files", state.not_after?, now);
    match state.status {
        _ if *source == "self_signed" => None,
        CertificateStatus::Missing => Some(missing(name, state.problem.as_deref())),
        CertificateStatus::Revoked => {
            let what = format!("the certificate of {name} was revoked");
            Some(Warning::new(what, "another is being ordered; agentd cert list says how far it is"))
        }
        CertificateStatus::Failing if *source == "files" => state.problem.as_deref().map(unusable),
        CertificateStatus::Failing => {
            let problem = state.problem.as_deref().unwrap_or("nobody knows why");
            let what = format!("the certificate of {name} could not be renewed: {problem}");
            let next = state.next_attempt_at.map_or_else(String::new, |next| format!(" (next at {next})"));
            Some(Warning::new(what, format!("it is tried again{next}; agentd cert renew {name} tries at once")))
        }
        CertificateStatus::Valid | CertificateStatus::Expired => ends(),
    }
}

/// That the files as they are now cannot be shown.
fn unusable(what: &str) -> Warning {
    Warning::new(
        format!("the certificate from before is shown, and a restart would fail: {what}"),
        "put good files in the place of tls.cert_file and tls.key_file; they are taken up by themselves",
    )
}

/// What clients may object to in a certificate that they are shown.
pub(super) fn objections(state: &CertificateState) -> impl Iterator<Item = Warning> {
    let todo = "put files in place that clients accept; they are taken up by themselves";
    state.warnings.iter().map(move |what| Warning::new(format!("the certificate of {}: {what}", state.name), todo))
}

fn missing(name: &str, problem: Option<&str>) -> Warning {
    let what = format!("there is no certificate for {name} yet, so clients do not trust the service");
    let what = problem.map_or(what.clone(), |problem| format!("{what}: {problem}"));
    Warning::new(
        what,
        format!("it is being ordered; agentd cert list says how far it is, agentd cert renew {name} tries now"),
    )
}

fn ending(names: &str, from_files: bool, until: Timestamp, now: Timestamp) -> Option<Warning> {
    if now.plus(LATE) < until {
        return None;
    }
    let end = if until <= now { "ended" } else { "ends soon," };
    let what = format!("the certificate of {names} {end} at {until}");
    let todo = if from_files {
        "put a new one in the place of tls.cert_file and tls.key_file; it is taken up by itself"
    } else {
        "agentd cert list says why it has not been renewed"
    };
    Some(Warning::new(what, todo))
}
