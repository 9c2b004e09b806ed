//! What went wrong on the way to a certificate, for people.

use std::time::Duration;

use instant_acme::{Error, Problem};

use super::client::is;
use crate::db;

/// Characters of what an authority says that are kept.
const SAID: usize = 600;

/// What a fault means for what is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The authority does not know our account, or does not accept it any more.
    AccountLost,
    /// It was not content with the proof; another kind may do.
    Proof,
    /// It could not be asked, or wants to be asked later; what is under way may
    /// still come to an end.
    Later,
    /// Anything else.
    Other,
}

/// What an account can be refused for.
const REFUSES: &str =
    "look whether it wants an external account binding, and whether acme.eab_kid and acme.eab_key are right";

/// Why there is no certificate.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub kind: Kind,
    pub what: String,
    /// How long the authority asked to be left alone.
    pub pause: Option<Duration>,
}

impl Fault {
    pub(super) fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), pause: None }
    }

    pub(super) fn of(error: Error) -> Self {
        match error {
            Error::Api(problem) => Self::new(kind(&problem), words(&problem)),
            Error::Timeout(_) => Self::new(Kind::Later, "the authority took too long"),
            Error::Json(_) => Self::new(Kind::Later, "the directory answered with something that is no ACME"),
            Error::Other(error) => Self::new(Kind::Later, shortened(&error.to_string())),
            Error::Str(what) => Self::new(Kind::Later, format!("the directory's answer is incomplete: {what}")),
            other => Self::new(Kind::Other, shortened(&other.to_string())),
        }
    }

    /// What a request for an account or an order is refused for has nothing to do
    /// with a proof, whatever it is called.
    pub(super) fn of_request(error: Error) -> Self {
        let said = match &error {
            Error::Api(problem) if kind(problem) == Kind::Proof => problem.to_string(),
            _ => return Self::of(error),
        };
        let advice = "the authority refuses our account";
        Self::new(Kind::Other, format!("{}; {advice}: {REFUSES}", shortened(&said)))
    }

    /// What a request is refused for that needs nothing but an account: one that
    /// was deactivated or revoked is `unauthorized` (RFC 8555, 7.3.6).
    pub(super) fn of_account(error: Error) -> Self {
        match &error {
            Error::Api(problem) if is(problem, "unauthorized") || is(problem, "accountDoesNotExist") => {
                Self::new(Kind::AccountLost, shortened(&problem.to_string()))
            }
            _ => Self::of_request(error),
        }
    }

    /// An account that has just been made is not lost.
    pub(super) fn after_registering(self) -> Self {
        if self.kind != Kind::AccountLost {
            return self;
        }
        let what = format!("{}; the authority refuses a new account too: {REFUSES}", self.what);
        Self { kind: Kind::Other, what, ..self }
    }

    /// Whether a problem would meet any other request as well.
    pub(super) fn is_of_all(problem: &Problem) -> bool {
        matches!(kind(problem), Kind::Later | Kind::AccountLost)
    }

    pub(super) fn within(mut self, place: &str) -> Self {
        self.what = format!("{place}: {}", self.what);
        self
    }

    pub(super) fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    pub(super) fn with_pause(mut self, pause: Option<Duration>) -> Self {
        self.pause = self.pause.or(pause);
        self
    }

    /// This one, or another where it says nothing.
    pub(super) fn or(self, other: impl FnOnce() -> Self) -> Self {
        if self.what.is_empty() { other() } else { self }
    }

    /// Several as one.
    pub(super) fn all(faults: Vec<Self>) -> Self {
        let kind = if faults.iter().all(|fault| fault.kind == Kind::Proof) { Kind::Proof } else { Kind::Other };
        let pause = faults.iter().filter_map(|fault| fault.pause).max();
        let what: Vec<_> = faults.into_iter().map(|fault| fault.what).collect();
        Self { kind, what: what.join("; "), pause }
    }
}

impl From<db::Error> for Fault {
    fn from(error: db::Error) -> Self {
        Self::new(Kind::Other, format!("the database failed: {error}"))
    }
}

fn kind(problem: &Problem) -> Kind {
    const LATER: [&str; 4] = ["rateLimited", "serverInternal", "badNonce", "orderNotReady"];
    const PROOF: [&str; 5] = ["unauthorized", "connection", "dns", "tls", "incorrectResponse"];
    if is(problem, "accountDoesNotExist") {
        return Kind::AccountLost;
    }
    if LATER.iter().any(|kind| is(problem, kind)) {
        return Kind::Later;
    }
    // Another kind of proof helps, but not where the name itself is refused.
    if PROOF.iter().any(|kind| is(problem, kind)) { Kind::Proof } else { Kind::Other }
}

/// What an authority says, and what it means.
pub(super) fn words(problem: &Problem) -> String {
    let mut said: Vec<String> = problem.detail.clone().into_iter().collect();
    said.extend(problem.subproblems.iter().map(ToString::to_string));
    let said = if said.is_empty() { "no reason was given".to_owned() } else { shortened(&said.join("; ")) };
    let kind = problem.r#type.as_deref().unwrap_or_default().rsplit(':').next().unwrap_or_default();
    let advice = match kind {
        "dns" => "; look whether the name has an A or AAAA record in the DNS that leads here",
        // Some look the name up only when they connect.
        _ if said.to_ascii_lowercase().contains("could not resolve") => {
            "; look whether the name has an A or AAAA record in the DNS that leads here"
        }
        "connection" => "; look whether the ports 80 and 443 of this machine can be reached from outside",
        "unauthorized" | "incorrectResponse" => {
            "; look whether the name leads to this machine and nothing answers before it"
        }
        "caa" => "; a CAA record of the domain allows other authorities only",
        "rateLimited" => "; it is tried again when the authority allows it",
        "externalAccountRequired" => "; set acme.eab_kid and acme.eab_key to what the authority has given you",
        "userActionRequired" => "; the authority wants something of you: read what it says",
        "rejectedIdentifier" => "; the authority gives no certificate for this name",
        _ => "",
    };
    if kind.is_empty() { said } else { format!("{said} ({kind}){advice}") }
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(SAID).collect();
    if text.chars().count() > SAID {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str, detail: &str) -> Problem {
        let text = serde_json::json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail });
        serde_json::from_value(text).expect("a problem")
    }

    fn fault(name: &str, detail: &str) -> Fault {
        Fault::of(Error::Api(problem(name, detail)))
    }

    #[test]
    fn what_an_authority_says_decides_what_is_done_next() {
        assert_eq!(fault("accountDoesNotExist", "gone").kind, Kind::AccountLost);
        for name in ["unauthorized", "connection", "dns", "tls", "incorrectResponse"] {
            assert_eq!(fault(name, "no").kind, Kind::Proof, "{name}: another kind of proof may do");
        }
        for name in ["rateLimited", "serverInternal", "badNonce", "orderNotReady"] {
            assert_eq!(fault(name, "no").kind, Kind::Later, "{name}: what is under way is kept");
        }
        for name in ["unauthorized", "accountDoesNotExist"] {
            assert_eq!(Fault::of_account(Error::Api(problem(name, "no"))).kind, Kind::AccountLost, "{name}");
        }
        assert_eq!(Fault::of_account(Error::Api(problem("rateLimited", "no"))).kind, Kind::Later);
        for name in ["rejectedIdentifier", "caa", "malformed", "somethingNew"] {
            assert_eq!(fault(name, "no").kind, Kind::Other, "{name}");
        }
    }

    #[test]
    fn it_is_said_what_to_do() {
        assert!(fault("dns", "NXDOMAIN for a.example").what.starts_with("NXDOMAIN for a.example (dns); look whether"));
        assert!(fault("connection", "could not resolve a.example").what.contains("in the DNS"));
        assert!(fault("externalAccountRequired", "no").what.contains("acme.eab_kid"));
        let long = fault("malformed", &format!("\u{1b}[2J{}", "x".repeat(5000))).what;
        assert!(long.chars().count() < 700 && !long.contains('\u{1b}'), "{long}");
    }

    #[test]
    fn several_faults_are_one_with_the_longest_pause() {
        let hour = Duration::from_secs(3600);
        let proofs = vec![fault("dns", "a").within("by http-01"), fault("tls", "b").with_pause(Some(hour))];
        let all = Fault::all(proofs);
        assert_eq!((all.kind, all.pause), (Kind::Proof, Some(hour)));
        assert!(all.what.contains("by http-01: a") && all.what.contains("; b"), "{}", all.what);
        assert_eq!(Fault::all(vec![fault("dns", "a"), fault("caa", "b")]).kind, Kind::Other);
    }
}
