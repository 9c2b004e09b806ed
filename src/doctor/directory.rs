//! The ACME directories: whether they answer, what they want, and whether this
//! machine's clock agrees with theirs.

use std::time::Duration;

use futures_util::future::join_all;
use hyper::header::DATE;
use serde::Deserialize;
use url::Url;

use super::{EACH, Finding};
use crate::clock::Clock;
use crate::config::{AcmeSection, Secret};
use crate::outbound::{Fetched, Limits, Outbound, OutboundError, Request};

/// A clock further off makes certificates look expired, or not valid yet.
const CLOCK_OFF: Duration = Duration::from_secs(60);
const LIMITS: Limits = Limits {
    bytes: 256 << 10,
    cut: false,
    first_byte: Duration::from_secs(6),
    total: Duration::from_secs(7),
    redirects: 3,
};

/// What one says of itself.
pub(super) struct Seen {
    pub host: String,
    /// What it is called in CAA records.
    pub identities: Vec<String>,
}

/// RFC 8555, 7.1.1.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    #[serde(rename = "newNonce")]
    _new_nonce: String,
    #[serde(rename = "newAccount")]
    _new_account: String,
    #[serde(rename = "newOrder")]
    _new_order: String,
    #[serde(default)]
    meta: Meta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    caa_identities: Vec<String>,
    external_account_required: bool,
    profiles: serde_json::Map<String, serde_json::Value>,
}

/// Whether somebody else's clock was seen, and how far ahead of it ours is.
type Offset = Option<i64>;

pub(super) async fn examine(outbound: &Outbound, acme: &AcmeSection, clock: &Clock) -> (Vec<Finding>, Vec<Seen>) {
    let directories = join_all(acme.directories.iter().map(|url| one(outbound, url, acme, clock)));
    let staging = async {
        let url = acme.staging.as_ref()?;
        Some(one(outbound, url, acme, clock).await.0)
    };
    let (directories, staging) = tokio::join!(directories, staging);
    let (mut findings, mut seen, mut offset) = (Vec::new(), Vec::new(), None);
    for (finding, directory, off) in directories {
        findings.push(finding);
        seen.extend(directory);
        offset = offset.or(off);
    }
    // Certificates are had without it.
    findings.extend(staging.filter(|finding| finding.advice.is_some()).map(|finding| Finding {
        state: super::State::Warn,
        what: format!("staging {}", finding.what),
        ..finding
    }));
    findings.push(clock_finding(offset));
    (findings, seen)
}

async fn one(outbound: &Outbound, url: &Url, acme: &AcmeSection, clock: &Clock) -> (Finding, Option<Seen>, Offset) {
    let what = format!("directory {url}");
    let host = url.host_str().unwrap_or_default().to_owned();
    let request = Request::get(url.as_str()).accept("application/json");
    let asked = outbound.allowing(url);
    let fetched = tokio::time::timeout(EACH, asked.send(request, &LIMITS)).await;
    let fetched = match fetched.unwrap_or(Err(OutboundError::Timeout { what: "the whole answer", limit: EACH })) {
        Ok(fetched) => fetched,
        Err(error) => return (Finding::fail(what, error.to_string(), advice(&error, &host)), None, None),
    };
    let offset = offset(&fetched, clock);
    let wrong = |detail: String| {
        let advice = "look whether acme.directories has the right URL: browsers show JSON there";
        (Finding::fail(what.clone(), detail, advice), None, offset)
    };
    if fetched.status != hyper::StatusCode::OK {
        return wrong(format!("it answers {}", fetched.status));
    }
    let directory: Directory = match serde_json::from_slice(&fetched.body) {
        Ok(directory) => directory,
        Err(error) => return wrong(format!("what it answers is no directory: {error}")),
    };
    let finding = wanted(&what, &directory.meta, acme);
    (finding, Some(Seen { host, identities: directory.meta.caa_identities }), offset)
}

/// Whether it gets what it wants.
fn wanted(what: &str, meta: &Meta, acme: &AcmeSection) -> Finding {
    if meta.external_account_required && matches!(acme.eab_key, Secret::Unset) {
        let advice = "it has given you a key id and a key: set acme.eab_kid and acme.eab_key_file";
        return Finding::fail(what, "it wants an external account binding, and there is none", advice);
    }
    if let Some(profile) = acme.profile.as_ref().filter(|profile| !meta.profiles.contains_key(*profile)) {
        let offered: Vec<_> = meta.profiles.keys().cloned().collect();
        let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
        let detail = format!("it does not offer the profile {profile:?} (it offers: {offered})");
        return Finding::warn(what, detail, "change or remove acme.profile");
    }
    Finding::ok(what, "it answers")
}

fn advice(error: &OutboundError, host: &str) -> String {
    match error {
        OutboundError::Tls(..) => {
            "for an authority of your own, name its root certificate in acme.ca_file; else look at this machine's \
             clock, and whether something between breaks TLS open"
                .into()
        }
        OutboundError::HostNotFound(_) | OutboundError::Dns(..) => {
            format!("this machine cannot look it up: look at /etc/resolv.conf and outbound.nameservers (dig {host})")
        }
        OutboundError::Blocked { .. } | OutboundError::TooManyRedirects(_) => {
            "it sends elsewhere: write the URL that it sends to into acme.directories".into()
        }
        _ => format!(
            "this machine cannot reach it: look at the firewall for outgoing connections (curl -v https://{host}/)"
        ),
    }
}

fn offset(fetched: &Fetched, clock: &Clock) -> Offset {
    let text = fetched.headers.get(DATE)?.to_str().ok()?;
    let theirs = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second();
    Some(clock.now().micros() / 1_000_000 - theirs)
}

fn clock_finding(offset: Offset) -> Finding {
    let advice = "let it be set: timedatectl set-ntp true";
    match offset {
        None => Finding::warn(
            "clock",
            "no directory answered, so there is nothing to compare it with",
            "timedatectl shows it",
        ),
        Some(seconds) if seconds.unsigned_abs() > CLOCK_OFF.as_secs() => {
            let way = if seconds > 0 { "ahead" } else { "behind" };
            let detail =
                format!("{} s {way} of the directory's: certificates look expired or not valid yet", seconds.abs());
            Finding::fail("clock", detail, advice)
        }
        Some(_) => Finding::ok("clock", "agrees with the directory's"),
    }
}
