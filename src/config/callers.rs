//! The sections on who may call, how often, and from where.

use std::time::Duration;

use super::reader::Reader;
use super::sections::aliased;
use super::setting::{List, Seconds};
use crate::net::WebOrigin;

/// `[limits]`
#[derive(Clone, Debug)]
pub struct LimitsSection {
    /// Requests in a minute for each key; `None` where nothing is limited.
    pub requests_per_minute: Option<u32>,
}

impl LimitsSection {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let limited = reader.value(
            aliased("limits.rate", "RATE_LIMIT_ENABLED", "Whether requests are limited by rate, by key and by tenant."),
            true,
        );
        let per_minute = reader.value(
            aliased(
                "limits.requests_per_minute",
                "RATE_LIMIT_PER_MIN",
                "Requests in a minute for each key of a tenant without a quota of its own.",
            ),
            120_usize,
        );
        Self { requests_per_minute: limited.then(|| u32::try_from(per_minute).unwrap_or(u32::MAX)) }
    }
}

/// What web pages from elsewhere are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Pages from anywhere.
    Any,
    /// Those that are listed.
    Listed(Vec<WebOrigin>),
}

/// `[cors]`
#[derive(Clone, Debug)]
pub struct CorsSection {
    /// Pages that may call for any tenant.
    pub origins: Origins,
    /// Whether browsers may send cookies and the like along.
    pub credentials: bool,
    /// Methods that pages may use; `None` for all that a route has.
    pub methods: Option<Vec<String>>,
    /// Headers that pages may send; `None` for all.
    pub headers: Option<Vec<String>>,
    /// How long browsers may remember a permission.
    pub max_age: Duration,
}

impl CorsSection {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let origins = aliased(
            "cors.origins",
            "CORS_ALLOW_ORIGINS",
            "Web pages that may call for any tenant, parted by commas, or * for all; beside each tenant's own list.",
        );
        let methods =
            aliased("cors.methods", "CORS_ALLOW_METHODS", "Methods that web pages may use, or * for all of a route.");
        let headers = aliased("cors.headers", "CORS_ALLOW_HEADERS", "Headers that web pages may send, or * for all.");
        Self {
            origins: reader.value(origins, Origins::Listed(Vec::new())),
            credentials: reader.value(
                aliased("cors.credentials", "CORS_ALLOW_CREDENTIALS", "Whether browsers may send credentials along."),
                false,
            ),
            methods: all_but_star(reader.value(methods, star())),
            headers: all_but_star(reader.value(headers, star())),
            max_age: reader
                .value(
                    aliased("cors.max_age", "CORS_MAX_AGE", "How long browsers may remember what is allowed."),
                    Seconds(Duration::from_secs(600)),
                )
                .0,
        }
    }

    pub(super) fn check(&self, reader: &mut Reader<'_>) {
        if self.origins == Origins::Any && self.credentials {
            let what = "cors.origins = \"*\" together with cors.credentials would let every web page act for whoever \
                        visits it; name the origins";
            reader.fault_at_key("cors.origins", what.into());
        }
        if self.max_age > Duration::from_secs(86_400) {
            reader
                .fault_at_key("cors.max_age", "cors.max_age must be at most 1d; 0s: browsers remember nothing".into());
        }
    }
}

fn star() -> List<String> {
    List(vec!["*".into()])
}

fn all_but_star(List(names): List<String>) -> Option<Vec<String>> {
    (!names.iter().any(|name| name == "*")).then_some(names)
}
