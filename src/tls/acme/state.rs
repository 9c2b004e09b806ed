//! How certificates stand, for those who look after them.

use schemars::JsonSchema;
use serde::Serialize;

use super::super::facts::Facts;
use super::super::{FilesProblem, Shown, Source};
use super::sql::Row;
use super::{Inner, Why, next, parsed};
use crate::clock::Timestamp;
use crate::config::CertName;
use crate::db;

/// How a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum CertificateStatus {
    /// It is valid, and nothing is wrong.
    Valid,
    /// It is valid, but it could not be renewed, or the files as they are now cannot be used.
    Failing,
    /// There is none yet.
    Missing,
    /// It is over.
    Expired,
    /// It was revoked.
    Revoked,
}

/// A certificate.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Certificate")]
pub struct CertificateState {
    /// What it is for; several parted by commas where it comes from files.
    pub name: String,
    /// Where it comes from.
    #[schemars(extend("enum" = ["acme", "files", "self_signed"]))]
    pub source: &'static str,
    /// How it stands.
    pub status: CertificateStatus,
    /// Who issued it.
    pub issuer: Option<String>,
    /// Its number, in hexadecimal.
    pub serial: Option<String>,
    /// Not valid before.
    pub not_before: Option<Timestamp>,
    /// Not valid after.
    pub not_after: Option<Timestamp>,
    /// The directory that it was ordered from.
    pub directory: Option<String>,
    /// When the next attempt is due; by ACME only.
    pub next_attempt_at: Option<Timestamp>,
    /// Why it is due then.
    pub why: Option<Why>,
    /// From when the authority suggests to renew it.
    pub suggested_from: Option<Timestamp>,
    /// Until when.
    pub suggested_until: Option<Timestamp>,
    /// Attempts that failed since the last success.
    pub failures: u32,
    /// Since when they fail.
    pub failing_since: Option<Timestamp>,
    /// What went wrong the last time.
    pub problem: Option<String>,
    /// When that was.
    pub problem_at: Option<Timestamp>,
    /// What clients may object to in a certificate from files.
    pub warnings: Vec<String>,
}

impl Inner {
    pub(super) async fn states(&self) -> Result<Vec<CertificateState>, db::Error> {
        let now = self.clock.now();
        let mut states = Vec::new();
        let settings = self.current();
        for name in settings.iter().flat_map(|settings| &settings.section.domains) {
            let row = self.row(name).await?;
            states.push(ordered(name, &row, now));
        }
        let others = self.certificates.all();
        let problem = self.certificates.files_problem();
        let others = others.iter().filter(|shown| shown.source != Source::Acme);
        states
            .extend(others.map(|shown| other(shown, problem.as_ref().filter(|_| shown.source == Source::Files), now)));
        Ok(states)
    }

    pub(super) async fn state(&self, name: &CertName) -> Result<CertificateState, db::Error> {
        let row = self.row(name).await?;
        Ok(ordered(name, &row, self.clock.now()))
    }
}

fn ordered(name: &CertName, row: &Row, now: Timestamp) -> CertificateState {
    let parsed = parsed(name, row);
    let (due, why) = next(name, row, now);
    let status = match &parsed {
        None => CertificateStatus::Missing,
        Some(_) if row.revoked_at.is_some() => CertificateStatus::Revoked,
        Some(parsed) if parsed.validity.until <= now => CertificateStatus::Expired,
        Some(_) if row.failures > 0 => CertificateStatus::Failing,
        Some(_) => CertificateStatus::Valid,
    };
    let validity = parsed.as_ref().map(|parsed| parsed.validity);
    CertificateState {
        name: name.to_string(),
        source: "acme",
        status,
        issuer: parsed.as_ref().map(|parsed| parsed.issuer.clone()),
        serial: parsed.as_ref().map(|parsed| parsed.serial.clone()),
        not_before: validity.map(|validity| validity.from),
        not_after: validity.map(|validity| validity.until),
        directory: row.issued.as_ref().map(|stored| stored.directory.clone()),
        // What has no certificate is due since ever.
        next_attempt_at: Some(due.max(Timestamp::from_micros(0))).filter(|due| due.micros() > 0),
        why: Some(why),
        suggested_from: row.window.map(|window| window.start),
        suggested_until: row.window.map(|window| window.end),
        failures: row.failures,
        failing_since: row.failing_since,
        problem: row.problem.clone(),
        problem_at: row.problem_at,
        warnings: Vec::new(),
    }
}

fn other(shown: &Shown, problem: Option<&FilesProblem>, now: Timestamp) -> CertificateState {
    let status = match problem {
        _ if shown.not_after <= now => CertificateStatus::Expired,
        Some(_) => CertificateStatus::Failing,
        None => CertificateStatus::Valid,
    };
    let facts = shown.key.cert.first().and_then(|leaf| Facts::of(leaf).ok());
    let names: Vec<_> = shown.names.iter().map(ToString::to_string).collect();
    CertificateState {
        name: names.join(", "),
        source: if shown.source == Source::Files { "files" } else { "self_signed" },
        status,
        issuer: facts.as_ref().map(|facts| facts.issuer.clone()),
        serial: facts.map(|facts| facts.serial),
        not_before: Some(shown.not_before),
        not_after: Some(shown.not_after),
        directory: None,
        next_attempt_at: None,
        why: None,
        suggested_from: None,
        suggested_until: None,
        failures: 0,
        failing_since: problem.map(|problem| problem.at),
        problem: problem.map(|problem| problem.what.clone()),
        problem_at: problem.map(|problem| problem.at),
        warnings: shown.warnings.clone(),
    }
}
