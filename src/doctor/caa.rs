//! Who may give certificates for a name, by its zone (RFC 8659, RFC 8657).

use futures_util::future::join_all;

use super::Finding;
use super::directory::Seen;
use crate::config::{AcmeSection, CertName, ChallengeKind};
use crate::outbound::{Caa, Outbound, OutboundError};

/// Tags that authorities know; a critical record with another one forbids.
const KNOWN: &[&str] = &["issue", "issuewild", "issuemail", "issuevmc", "iodef", "contactemail", "contactphone"];

pub(super) async fn examine(outbound: &Outbound, acme: &AcmeSection, directories: &[Seen]) -> Vec<Finding> {
    let names = acme.domains.iter().filter_map(|name| match name {
        CertName::Dns(name) => Some(name.as_str()),
        CertName::Ip(_) => None,
    });
    join_all(names.map(|name| one(outbound, acme, directories, name))).await
}

async fn one(outbound: &Outbound, acme: &AcmeSection, directories: &[Seen], name: &str) -> Finding {
    let what = format!("CAA {name}");
    let (wildcard, base) = match name.strip_prefix("*.") {
        Some(base) => (true, base),
        None => (false, name),
    };
    let (at, records) = match relevant(outbound, base).await {
        Ok(Some(found)) => found,
        Ok(None) => return Finding::ok(what, "no records, so every authority may"),
        Err(error) => {
            let advice = "the zone's name servers have to answer questions for CAA records, also where there are \
                          none: without an answer no authority gives a certificate";
            return Finding::fail(what, error.to_string(), advice);
        }
    };
    let known: Vec<_> = directories.iter().filter(|seen| !seen.identities.is_empty()).collect();
    if known.is_empty() {
        let detail = format!("{at} has records ({}), and no directory says who it is", shown(&records));
        return Finding::warn(what, detail, "look whether they name your authority");
    }
    for (place, seen) in known.iter().enumerate() {
        if let Err(why) = verdict(&records, wildcard, &seen.identities, &acme.challenges) {
            let tag = if wildcard { "issuewild" } else { "issue" };
            let detail = format!("{at}: {why}; {} is {}", seen.host, seen.identities.join(", "));
            let advice = format!("add to the zone: {at}. CAA 0 {tag} \"{}\"", seen.identities[0]);
            // The later ones are only asked when the first fails.
            let finding = if place == 0 { Finding::fail } else { Finding::warn };
            return finding(what, detail, advice);
        }
    }
    Finding::ok(what, format!("{at} allows {}", known[0].identities.join(", ")))
}

/// The records that count for a name: its own, or those of the nearest name
/// above it that has any.
async fn relevant(outbound: &Outbound, name: &str) -> Result<Option<(String, Vec<Caa>)>, OutboundError> {
    let mut at = name;
    loop {
        let records = outbound.caa(at).await?;
        if !records.is_empty() {
            return Ok(Some((at.to_owned(), records)));
        }
        match at.split_once('.') {
            Some((_, above)) if !above.is_empty() => at = above,
            _ => return Ok(None),
        }
    }
}

/// Whether one of these identities may give a certificate; else why not.
fn verdict(records: &[Caa], wildcard: bool, identities: &[String], challenges: &[ChallengeKind]) -> Result<(), String> {
    if let Some(record) = records.iter().find(|record| record.critical && !KNOWN.contains(&record.tag.as_str())) {
        return Err(format!("a critical record {:?}, which authorities need not know", record.tag));
    }
    let of = |tag: &str| records.iter().filter(|record| record.tag == tag).collect::<Vec<_>>();
    let mut counting = if wildcard { of("issuewild") } else { Vec::new() };
    if counting.is_empty() {
        counting = of("issue");
    }
    if counting.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = counting.iter().filter(|record| names_one(&record.value, identities)).collect();
    if named.iter().any(|record| allows_way(&record.value, challenges)) {
        return Ok(());
    }
    let said = shown(counting.iter().copied());
    if named.is_empty() {
        return Err(format!("only these may: {said}"));
    }
    Err(format!("none of acme.challenges may be used: {said}"))
}

fn names_one(value: &str, identities: &[String]) -> bool {
    let name = value.split(';').next().unwrap_or_default().trim().trim_end_matches('.');
    identities.iter().any(|identity| identity.trim_end_matches('.').eq_ignore_ascii_case(name))
}

/// Whether a record allows one of these ways to prove (RFC 8657, 4). The
/// account that it may name is not looked at: it may not exist yet.
fn allows_way(value: &str, challenges: &[ChallengeKind]) -> bool {
    let parameters = value.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let mut ways = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("validationmethods"));
    ways.all(|(_, methods)| {
        let listed = |kind: &ChallengeKind| methods.split(',').any(|method| method.trim() == kind.name());
        challenges.iter().any(listed)
    })
}

fn shown<'a>(records: impl IntoIterator<Item = &'a Caa>) -> String {
    records.into_iter().map(|record| format!("{} {:?}", record.tag, record.value)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(tag: &str, value: &str) -> Caa {
        Caa { critical: false, tag: tag.into(), value: value.into() }
    }

    fn allowed(records: &[(&str, &str)], wildcard: bool) -> bool {
        let records: Vec<_> = records.iter().map(|(tag, value)| record(tag, value)).collect();
        verdict(&records, wildcard, &["letsencrypt.org".into()], &[ChallengeKind::Http01]).is_ok()
    }

    #[test]
    fn records_are_read_as_the_standard_says() {
        for (records, plain, wild) in [
            (&[][..], true, true),
            (&[("iodef", "mailto:a@b")], true, true),
            (&[("issue", "letsencrypt.org")], true, true),
            (&[("issue", " LetsEncrypt.org ; x=y")], true, true),
            (&[("issue", "other.example")], false, false),
            (&[("issue", ";")], false, false),
            (&[("issue", "other.example"), ("issue", "letsencrypt.org")], true, true),
            (&[("issuewild", "letsencrypt.org")], true, true),
            (&[("issuewild", ";")], true, false),
            (&[("issue", ";"), ("issuewild", "letsencrypt.org")], false, true),
            (&[("issue", "letsencrypt.org; validationmethods=dns-01")], false, false),
            (&[("issue", "letsencrypt.org; validationmethods=dns-01,http-01")], true, true),
            (&[("issue", "letsencrypt.org; accounturi=https://x/1")], true, true),
        ] {
            assert_eq!((allowed(records, false), allowed(records, true)), (plain, wild), "{records:?}");
        }
        let critical = Caa { critical: true, ..record("tbs", "x") };
        assert!(verdict(&[critical], false, &["letsencrypt.org".into()], &[]).is_err());
    }

    proptest! {
        #[test]
        fn no_value_lets_in_who_is_not_named(value in "[a-z.;= ,]{0,40}") {
            prop_assume!(!value.contains("ca.test"));
            prop_assert!(verdict(&[record("issue", &value)], false, &["ca.test".into()], &[ChallengeKind::Http01]).is_err());
        }
    }
}
