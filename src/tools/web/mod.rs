//! The tools that read the web. All of them go out through the guard.

mod budget;
mod charset;
mod content;
mod failure;
mod fetch;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod html;
mod page;
mod places;
mod refresh;
mod robots;
mod rules;
mod search;
mod writer;

use std::time::Duration;

use url::Url;

use crate::jobs::Registry;
use crate::outbound::Outbound;

pub use search::{Provider, SearchKey};

/// What the tools that read the web are told by.
pub struct Options {
    /// Bytes of a page, as it arrives and unpacked.
    pub page_bytes: usize,
    /// Time for a page, redirects included.
    pub page_time: Duration,
    /// Whether robots.txt is asked for and obeyed.
    pub robots: bool,
    /// Who answers searches, with the way to get there.
    pub search: Option<Search>,
}

/// The search provider.
pub struct Search {
    /// Which one, with its key.
    pub provider: Provider,
    /// Where it is; none: its usual address.
    pub base: Option<Url>,
    /// The way there.
    pub outbound: Outbound,
}

pub(super) fn register(registry: &mut Registry, outbound: Outbound, options: Options) -> Result<(), String> {
    let Options { page_bytes, page_time, robots, search } = options;
    let robots = robots.then(|| robots::Robots::new(outbound.clone()));
    registry.add(fetch::tool(fetch::Fetch { outbound, robots, page_bytes, page_time }))?;
    registry.add(search::tool(search))
}
