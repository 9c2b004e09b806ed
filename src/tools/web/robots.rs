//! robots.txt of the hosts that pages are fetched from.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use url::Url;

use super::failure;
use super::rules::Rules;
use crate::clock::Clock;
use crate::jobs::{ErrorClass, Failure};
use crate::outbound::{Fetched, Limits, Outbound, OutboundError, Request};

/// The name that a robots.txt calls us by.
const TOKEN: &str = "agentd";
/// What is read of a robots.txt; RFC 9309 asks for no more than this.
const LIMITS: Limits = Limits {
    bytes: 500 << 10,
    cut: true,
    first_byte: Duration::from_secs(10),
    total: Duration::from_secs(15),
    redirects: 5,
};
/// How long one is kept, and how many bytes of them all.
const KEPT_FOR: Duration = Duration::from_secs(3600);
const KEPT_BYTES: u64 = 8 << 20;

/// Asks for robots.txt, and remembers it for a while.
pub(super) struct Robots {
    outbound: Outbound,
    known: Cache<String, Arc<Rules>>,
}

impl Robots {
    pub(super) fn new(outbound: Outbound) -> Self {
        let weight =
            |origin: &String, rules: &Arc<Rules>| u32::try_from(origin.len() + rules.weight()).unwrap_or(u32::MAX);
        let known = Cache::builder().max_capacity(KEPT_BYTES).weigher(weight).time_to_live(KEPT_FOR).build();
        Self { outbound, known }
    }

    /// Whether a page may be fetched.
    pub(super) async fn check(&self, url: &Url, clock: &Clock) -> Result<(), Failure> {
        let origin = url.origin().ascii_serialization();
        let host = url.host_str().unwrap_or_default();
        let rules = match self.known.get(&origin) {
            Some(rules) => rules,
            None => {
                let rules = Arc::new(self.ask(&origin, host, clock).await?);
                self.known.insert(origin, rules.clone());
                rules
            }
        };
        if rules.allow(&url[url::Position::BeforePath..url::Position::AfterQuery]) {
            return Ok(());
        }
        Err(Failure::permanent("robots_disallowed", format!("the robots.txt of {host} does not allow this page")))
    }

    /// Asks a host for its rules. What RFC 9309 calls unavailable allows
    /// everything: there is none, or redirects that lead nowhere. What it calls
    /// unreachable allows nothing for now.
    async fn ask(&self, origin: &str, host: &str, clock: &Clock) -> Result<Rules, Failure> {
        let request = Request::get(format!("{origin}/robots.txt")).accept("text/plain");
        let answer = match self.outbound.send(request, &LIMITS).await {
            Ok(answer) => answer,
            // The page itself may not be reached either.
            Err(error) if is_blocked(&error, host) => {
                return Err(failure::of_outbound(&error));
            }
            Err(
                OutboundError::TooManyRedirects(_)
                | OutboundError::InvalidUrl(_)
                | OutboundError::UnsupportedScheme(_)
                | OutboundError::Blocked { .. },
            ) => return Ok(Rules::default()),
            Err(error) => return Err(failure::of_outbound(&error)),
        };
        if answer.status.is_success() {
            return Ok(Rules::read(whole_lines(&answer), TOKEN));
        }
        match failure::class_of(&answer, clock.now()) {
            ErrorClass::Permanent => Ok(Rules::default()),
            class => {
                let message = format!("robots.txt was answered with {}, so the page is not asked for", answer.status);
                Err(Failure { class, code: "robots_unavailable".into(), message })
            }
        }
    }
}

/// Whether it is this host that may not be reached, and not one that a redirect
/// leads to.
fn is_blocked(error: &OutboundError, host: &str) -> bool {
    matches!(error, OutboundError::Blocked { host: blocked, .. } if blocked == host)
}

/// A rule that was cut off would mean another one.
fn whole_lines(answer: &Fetched) -> &[u8] {
    if !answer.cut {
        return &answer.body;
    }
    let end = answer.body.iter().rposition(|byte| matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1);
    &answer.body[..end]
}
