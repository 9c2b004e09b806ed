//! The extractors that authorise a request.

use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::sync::Arc;

use actix_web::http::header::HeaderMap;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev, web};

use super::admin::signed_in;
use super::{Auth, KeyEntry, Role, Scope, Tenant, local};
use crate::http::header::credentials;
use crate::http::{Authorise, KnownCaller, Policy, Problem, client_address, is_forwarded};

/// A tenant's key with scope `S`.
#[derive(Clone, Debug)]
pub struct Caller<S> {
    /// Whose key it is.
    pub tenant: Tenant,
    /// The key, for what outlives the request that it opened.
    pub key: Arc<KeyEntry>,
    scope: PhantomData<S>,
}

impl<S: Scope> Authorise for Caller<S> {
    const POLICY: Policy = Policy::Tenant(S::NAME);
}

impl<S: Scope> FromRequest for Caller<S> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        ready(caller(request, S::NAME).map(|key| Self { tenant: key.tenant, key, scope: PhantomData }))
    }
}

fn caller(request: &HttpRequest, scope: &str) -> Result<Arc<KeyEntry>, Problem> {
    let auth = auth(request)?;
    if let Some(entry) = local::acting_for(request, auth)? {
        return Ok(entry);
    }
    let presented = presented_key(request.headers()).ok_or_else(Problem::unauthorized)?;
    let now = auth.clock.now();
    let entry = auth.authenticate(presented, client_address(request), now).ok_or_else(Problem::unauthorized)?;
    let (rate, admitted) = auth.limits.request(&entry.limits, &entry.requests, now);
    request.extensions_mut().insert(KnownCaller {
        no: entry.tenant.no,
        tenant: entry.tenant.id.to_string(),
        key: entry.id.clone(),
        rate,
    });
    admitted?;
    auth.cors.check(request, entry.tenant.no)?;
    if entry.is_suspended() || !entry.scopes.allow(scope) {
        return Err(Problem::forbidden("this credential may not do this"));
    }
    Ok(entry)
}

/// Whoever may read the metrics: this machine, the control socket, the metrics token, the admin key.
#[derive(Clone, Copy, Debug)]
pub struct MetricsReader;

impl Authorise for MetricsReader {
    const POLICY: Policy = Policy::Metrics;
}

impl FromRequest for MetricsReader {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        ready(metrics_reader(request).map(|()| Self))
    }
}

fn metrics_reader(request: &HttpRequest) -> Result<(), Problem> {
    // What a proxy on this machine passes on comes from somewhere else.
    if local::is_local(request)? || (client_address(request).is_loopback() && !is_forwarded(request.headers())) {
        return Ok(());
    }
    let auth = auth(request)?;
    if bearer(request.headers()).is_some_and(|presented| auth.is_metrics_token(presented)) {
        return Ok(());
    }
    signed_in(request, Role::Viewer).map(drop)
}

pub(super) fn auth(request: &HttpRequest) -> Result<&web::Data<Auth>, Problem> {
    request.app_data::<web::Data<Auth>>().ok_or_else(|| Problem::internal("no authentication is set up"))
}

fn presented_key(headers: &HeaderMap) -> Option<&str> {
    text(headers, "x-api-key").or_else(|| bearer(headers))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    credentials(headers, "bearer")
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().filter(|text| !text.is_empty())
}
