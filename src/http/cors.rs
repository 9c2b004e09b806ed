//! Web pages from elsewhere: which of them may call, and what their browsers
//! are told of it.
//!
//! A browser asks before (the preflight) without saying for whom, so that is
//! answered from the lists of all tenants; the request itself is held to the
//! list of its own tenant.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use actix_web::dev::ServiceResponse;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};

use super::{KnownCaller, Problem};
use crate::config::{CorsSection, Origins};
use crate::net::WebOrigin;

/// What pages may read beside the few headers that they always may.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-Id, Location, Retry-After, \
     X-Should-Retry, Idempotency-Replayed, Age, X-Cost-Usd, X-Budget-Remaining-Usd, X-Model-Used, X-Fallbacks, X-Agentd-Overhead-Ms",
);

/// Bytes of an origin that can be on a list: scheme, host name (RFC 1035: 253)
/// and port.
const LONGEST_ORIGIN: usize = 300;

/// Among a resource's data, or a request's where there is no resource: pages from elsewhere may call it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForPages;

/// The lists. One per process, behind an `Arc`.
#[derive(Debug)]
pub struct Cors {
    settings: RwLock<Arc<CorsSection>>,
    tenants: RwLock<HashMap<i64, HashSet<WebOrigin>>>,
}

impl Cors {
    /// The service's own list; tenants add theirs.
    #[must_use]
    pub fn new(settings: CorsSection) -> Self {
        Self { settings: RwLock::new(Arc::new(settings)), tenants: RwLock::default() }
    }

    /// Sets the service's own list and rules.
    pub fn configure(&self, settings: CorsSection) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    fn settings(&self) -> Arc<CorsSection> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets a tenant's list; an empty one forgets the tenant.
    pub fn set(&self, tenant: i64, origins: Vec<WebOrigin>) {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        if origins.is_empty() {
            tenants.remove(&tenant);
        } else {
            tenants.insert(tenant, origins.into_iter().collect());
        }
    }

    /// Whether a page may call, for a tenant, or for any while it is not known
    /// for which.
    fn allows(&self, tenant: Option<i64>, origin: &str) -> bool {
        let settings = self.settings();
        let listed = match &settings.origins {
            Origins::Any => return true,
            // No name of a host is so long, and hashing takes time by length.
            Origins::Listed(_) if origin.len() > LONGEST_ORIGIN => return false,
            Origins::Listed(origins) => origins,
        };
        // Schemes and hosts have no case, and not every shell writes them in lower case as the web does.
        let origin = origin.to_ascii_lowercase();
        let origin = origin.as_str();
        if listed.iter().any(|listed| listed.as_str() == origin) {
            return true;
        }
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        match tenant {
            Some(no) => tenants.get(&no).is_some_and(|list| list.contains(origin)),
            None => tenants.values().any(|list| list.contains(origin)),
        }
    }

    /// Whether any page from elsewhere may call at all.
    fn is_used(&self) -> bool {
        let none = matches!(&self.settings().origins, Origins::Listed(origins) if origins.is_empty());
        !none || !self.tenants.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Holds a request with a tenant's key to that tenant's list.
    ///
    /// # Errors
    /// 403 when it comes from a page that is not on it.
    pub fn check(&self, request: &HttpRequest, tenant: i64) -> Result<(), Problem> {
        match origin(request) {
            Some(origin) if !is_own(request, origin) && !self.allows(Some(tenant), origin) => Err(refused()),
            _ => Ok(()),
        }
    }

    /// Tells the browser on every answer of a resource for pages whether the
    /// page may read it.
    pub(super) fn finish(&self, response: &mut ServiceResponse) {
        if !is_for_pages(response.request()) || !self.is_used() {
            return;
        }
        let tenant = response.request().extensions().get::<KnownCaller>().map(|caller| caller.no);
        let origin = origin(response.request()).filter(|origin| self.allows(tenant, origin));
        let origin = origin.and_then(|origin| HeaderValue::from_str(origin).ok());
        let headers = response.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin else { return };
        let settings = self.settings();
        let any = settings.origins == Origins::Any;
        let origin = if any { HeaderValue::from_static("*") } else { origin };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if settings.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    fn preflight(&self, request: &HttpRequest, methods: &[Method]) -> Result<HttpResponse, Problem> {
        if !origin(request).is_some_and(|origin| self.allows(None, origin)) {
            return Err(refused());
        }
        let settings = self.settings();
        let wanted = |method: &&str| {
            let own = settings.methods.as_ref();
            own.is_none_or(|own| own.iter().any(|own| own.eq_ignore_ascii_case(method)))
        };
        let methods: Vec<&str> = methods.iter().map(Method::as_str).filter(wanted).collect();
        let mut response = HttpResponse::NoContent();
        response
            .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, methods.join(", ")))
            .insert_header((header::ACCESS_CONTROL_MAX_AGE, settings.max_age.as_secs()))
            .append_header((header::VARY, "Access-Control-Request-Method, Access-Control-Request-Headers"));
        if let Some(headers) = allowed_headers(&settings, request.headers()) {
            response.insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, headers));
        }
        Ok(response.finish())
    }
}

/// Those that are asked for where all are allowed: a star would not count for
/// requests with credentials, nor ever for `Authorization`.
fn allowed_headers(settings: &CorsSection, asked: &HeaderMap) -> Option<HeaderValue> {
    match &settings.headers {
        None => {
            let names = super::header::list(asked, header::ACCESS_CONTROL_REQUEST_HEADERS);
            HeaderValue::from_str(&names.join(",")).ok().filter(|names| !names.is_empty())
        }
        Some(own) => HeaderValue::from_str(&own.join(", ")).ok(),
    }
}

fn is_for_pages(request: &HttpRequest) -> bool {
    request.app_data::<ForPages>().is_some() || request.extensions().contains::<ForPages>()
}

/// The answer to a browser that asks before; `None` for any other request.
pub(super) fn preflight(request: &HttpRequest, methods: &[Method]) -> Option<Result<HttpResponse, Problem>> {
    const ASKED: HeaderName = header::ACCESS_CONTROL_REQUEST_METHOD;
    let asks = request.method() == Method::OPTIONS && request.headers().contains_key(ASKED);
    if !asks || origin(request).is_none() || !is_for_pages(request) {
        return None;
    }
    Some(request.app_data::<web::Data<Cors>>()?.preflight(request, methods))
}

fn refused() -> Problem {
    let detail = "the web page that sends this is not among those that may";
    Problem::new(StatusCode::FORBIDDEN, "origin_not_allowed", detail)
        .with_hint("PUT /admin/tenants/{id}/origins lists a tenant's pages")
}

/// What is no text is an origin too, one that nobody has listed.
fn origin(request: &HttpRequest) -> Option<&str> {
    request.headers().get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("null"))
}

/// Browsers name the origin also when a page calls the service that it came from.
fn is_own(request: &HttpRequest, origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    // A shell's origin may have the same host, and is not the service's.
    if !["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web)) {
        return false;
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let bare = |name: &str| name.strip_suffix(default_port).unwrap_or(name).to_ascii_lowercase();
    host.is_some_and(|host| bare(host) == bare(authority))
}
