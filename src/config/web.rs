//! The sections for going out and for the tools that read the web.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::reader::Reader;
use super::sections::{Secret, aliased, key};
use super::setting::{Bytes, HOUR, INSTANT, List, Setting};
use super::target::{Nameserver, Target};

/// `[outbound]`
#[derive(Clone, Debug)]
pub struct OutboundSection {
    /// Targets inside that may be reached.
    pub allow: Vec<Target>,
    /// Name servers to ask; none: the host's.
    pub nameservers: Vec<SocketAddr>,
    /// A PEM file of certificate authorities to trust beside the usual ones.
    pub extra_ca: Option<PathBuf>,
}

impl OutboundSection {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let allow = key(
            "outbound.allow",
            "Private addresses, networks and names that tools may reach, each with or without a port.",
        );
        let nameservers = key("outbound.nameservers", "Name servers to ask; those of /etc/resolv.conf when not set.");
        let extra_ca =
            key("outbound.extra_ca", "A PEM file of certificate authorities to trust beside those of the host.");
        let allow: Vec<Target> = reader.value(allow, List(Vec::new())).0;
        for target in allow.iter().filter(|target| target.is_vast()) {
            reader.warn(format!(
                "outbound.allow has {target}: every tenant reaches this machine and the networks behind it, with \
                 the metadata service of a cloud; name the targets that are meant, with their ports"
            ));
        }
        Self {
            allow,
            nameservers: reader
                .value(nameservers, List(Vec::<Nameserver>::new()))
                .0
                .into_iter()
                .map(|it| it.0)
                .collect(),
            extra_ca: reader.optional(extra_ca),
        }
    }
}

/// Who answers `web.search`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchProvider {
    /// api.tavily.com
    Tavily,
    /// api.search.brave.com
    Brave,
    /// A `SearXNG` of the administrator's.
    Searxng,
}

impl Setting for SearchProvider {
    const EXPECTED: &'static str = "tavily, brave or searxng";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "tavily" => Some(Self::Tavily),
            "brave" => Some(Self::Brave),
            "searxng" => Some(Self::Searxng),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Tavily => "tavily",
            Self::Brave => "brave",
            Self::Searxng => "searxng",
        }
        .into()
    }
}

impl Setting for Url {
    const EXPECTED: &'static str = "an http or https URL without a user, a query or a fragment";
    const REPEAT: bool = false;

    fn parse(text: &str) -> Option<Self> {
        let url = Self::parse(text).ok()?;
        let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        (matches!(url.scheme(), "http" | "https") && bare && url.fragment().is_none()).then_some(url)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// `[web]`
#[derive(Clone, Debug)]
pub struct WebSection {
    /// Bytes of a page, as it arrives and unpacked.
    pub page_bytes: usize,
    /// Time for a page, redirects included.
    pub page_time: Duration,
    /// Whether robots.txt is asked for and obeyed.
    pub robots: bool,
    /// Who answers searches; none: whoever a key is given for.
    pub search_provider: Option<SearchProvider>,
    /// Where that one is, if not at its usual address.
    pub search_url: Option<Url>,
    /// Tavily's key.
    pub tavily_api_key: Secret,
    /// Brave's key.
    pub brave_api_key: Secret,
}

impl WebSection {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let page_bytes = key("web.page_bytes", "Bytes that a page may have, as it arrives and unpacked.");
        let page_bytes = reader.value(page_bytes, Bytes(2 << 20));
        let page_time = key("web.page_time", "Time for a page, redirects included.");
        let provider = key("web.search_provider", "Who answers web.search: tavily, brave or searxng.");
        let search_url = key("web.search_url", "Where the search provider is: needed for searxng, usual otherwise.");
        Self {
            page_bytes: usize::try_from(page_bytes.0).unwrap_or(usize::MAX),
            page_time: reader.span(page_time, Duration::from_secs(30), INSTANT..=HOUR),
            robots: reader.value(key("web.robots", "Whether robots.txt is asked for and obeyed."), true),
            search_provider: reader.optional(provider),
            search_url: reader.optional(search_url),
            tavily_api_key: Secret::read(
                reader,
                aliased("web.tavily_api_key", "TAVILY_API_KEY", "The key for Tavily."),
                key("web.tavily_api_key_file", "A file that holds it."),
            ),
            brave_api_key: Secret::read(
                reader,
                key("web.brave_api_key", "The key for Brave Search."),
                key("web.brave_api_key_file", "A file that holds it."),
            ),
        }
    }

    pub(super) fn check(&self, reader: &mut Reader<'_>) {
        if !(1024..=64 << 20).contains(&self.page_bytes) {
            reader.fault_at_key("web.page_bytes", "web.page_bytes must be from 1KiB to 64MiB".into());
        }
        for (key, secret) in [("web.tavily_api_key", &self.tavily_api_key), ("web.brave_api_key", &self.brave_api_key)]
        {
            match secret.resolve() {
                // It is sent as a header.
                Ok(Some(text)) if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                    reader.fault_at_key(key, format!("{key} holds characters that no key has"));
                }
                Ok(_) => {}
                Err(fault) => reader.fault_at_key(&format!("{key}_file"), fault),
            }
        }
        let missing = match self.provider() {
            Some(SearchProvider::Tavily) if matches!(self.tavily_api_key, Secret::Unset) => "web.tavily_api_key",
            Some(SearchProvider::Brave) if matches!(self.brave_api_key, Secret::Unset) => "web.brave_api_key",
            Some(SearchProvider::Searxng) if self.search_url.is_none() => "web.search_url",
            _ => return,
        };
        let what = format!("web.search_provider needs {missing} too");
        reader.fault_without("web.search_provider", &[missing], what);
    }

    /// The key for whoever answers searches, with where it is set; none where
    /// that one has no key.
    #[must_use]
    pub fn search_key(&self) -> Option<(&'static str, &Secret)> {
        match self.provider()? {
            SearchProvider::Tavily => Some(("web.tavily_api_key", &self.tavily_api_key)),
            SearchProvider::Brave => Some(("web.brave_api_key", &self.brave_api_key)),
            SearchProvider::Searxng => None,
        }
    }

    /// Who answers searches: whoever is named, else whoever a key is given for.
    #[must_use]
    pub fn provider(&self) -> Option<SearchProvider> {
        let set = |secret: &Secret| !matches!(secret, Secret::Unset);
        let by_key = || match (set(&self.tavily_api_key), set(&self.brave_api_key)) {
            (true, _) => Some(SearchProvider::Tavily),
            (false, true) => Some(SearchProvider::Brave),
            (false, false) => None,
        };
        self.search_provider.or_else(by_key)
    }
}
