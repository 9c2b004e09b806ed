//! The route table. A handler's first argument says who may call it, so a
//! handler without an authorisation does not compile, and the table can list
//! every route with its policy.

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Responder, dev, web};

use super::Problem;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Everyone.
    Open,
    /// The holder of the admin key.
    Admin,
    /// A tenant's key with this scope.
    Tenant(&'static str),
    /// Loopback, the admin key, or the metrics token.
    Metrics,
}

/// An extractor that lets a request through or refuses it.
pub trait Authorise: FromRequest {
    /// What it asks for.
    const POLICY: Policy;
}

/// The extractor of routes that everyone may call.
#[derive(Clone, Copy, Debug)]
pub struct Open;

impl FromRequest for Open {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(_: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        ready(Ok(Self))
    }
}

impl Authorise for Open {
    const POLICY: Policy = Policy::Open;
}

/// Arguments of a handler, the first of which authorises.
pub trait Guarded: FromRequest {
    /// The first argument's policy.
    const POLICY: Policy;
}

macro_rules! guarded {
    ($($rest:ident),*) => {
        impl<First: Authorise + 'static, $($rest: FromRequest + 'static),*> Guarded for (First, $($rest,)*) {
            const POLICY: Policy = First::POLICY;
        }
    };
}
guarded!();
guarded!(B);
guarded!(B, C);
guarded!(B, C, D);
guarded!(B, C, D, E);
guarded!(B, C, D, E, F);

type MakeRoute = Arc<dyn Fn(Method) -> actix_web::Route + Send + Sync>;

struct Entry {
    method: Method,
    path: &'static str,
    policy: Policy,
    make: MakeRoute,
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// The HTTP method.
    pub method: String,
    /// The path with its parameters in braces.
    pub path: &'static str,
    /// Who may call it.
    pub policy: Policy,
}

/// All routes of the service, collected from the features.
#[derive(Default)]
pub struct Routes(Vec<Entry>);

impl Routes {
    /// Adds a route; GET answers HEAD too.
    #[must_use]
    pub fn add<F, Args>(mut self, method: Method, path: &'static str, handler: F) -> Self
    where
        F: Handler<Args> + Send + Sync,
        Args: Guarded + 'static,
        F::Output: Responder + 'static,
    {
        let make: MakeRoute = Arc::new(move |method| web::route().method(method).to(handler.clone()));
        if method == Method::GET {
            let (policy, make) = (Args::POLICY, make.clone());
            self.0.push(Entry { method: Method::HEAD, path, policy, make });
        }
        self.0.push(Entry { method, path, policy: Args::POLICY, make });
        self
    }

    /// Joins another feature's routes to these.
    #[must_use]
    pub fn and(mut self, mut other: Self) -> Self {
        self.0.append(&mut other.0);
        self
    }

    /// Every route with its policy.
    #[must_use]
    pub fn list(&self) -> Vec<RouteInfo> {
        let info =
            |entry: &Entry| RouteInfo { method: entry.method.to_string(), path: entry.path, policy: entry.policy };
        self.0.iter().map(info).collect()
    }

    /// Registers everything, with problems for unknown paths and methods.
    pub fn configure(&self, config: &mut web::ServiceConfig) {
        let mut by_path: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in &self.0 {
            by_path.entry(entry.path).or_default().push(entry);
        }
        // The router tries paths one after the other: those without parameters
        // are compared as text, so they come first.
        let (fixed, varying): (Vec<_>, Vec<_>) = by_path.into_iter().partition(|(path, _)| !path.contains('{'));
        for (path, entries) in fixed.into_iter().chain(varying) {
            let allowed: Vec<_> = entries.iter().map(|entry| entry.method.as_str()).collect();
            let allowed = allowed.join(", ");
            let mut resource = web::resource(path);
            for entry in entries {
                resource = resource.route((entry.make)(entry.method.clone()));
            }
            config.service(
                resource.default_service(web::to(move |request: HttpRequest| ready(wrong_method(&request, &allowed)))),
            );
        }
        config.default_service(web::to(|| ready(no_route())));
    }
}

fn no_route() -> Result<HttpResponse, Problem> {
    Err(Problem::new(StatusCode::NOT_FOUND, "no_route", "there is nothing at this path"))
}

fn wrong_method(request: &HttpRequest, allowed: &str) -> Result<HttpResponse, WrongMethod> {
    let detail = format!("{} is not possible here; possible are {allowed}", request.method());
    Err(WrongMethod {
        problem: Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail),
        allowed: allowed.to_owned(),
    })
}

/// A problem that also carries the `Allow` header.
#[derive(Debug)]
pub(super) struct WrongMethod {
    problem: Problem,
    allowed: String,
}

impl WrongMethod {
    pub(super) fn response(&self, request_id: &str) -> HttpResponse {
        let mut response = self.problem.response(request_id);
        if let Ok(allowed) = header::HeaderValue::from_str(&self.allowed) {
            response.headers_mut().insert(header::ALLOW, allowed);
        }
        response
    }
}

impl std::fmt::Display for WrongMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.problem.fmt(f)
    }
}

impl actix_web::ResponseError for WrongMethod {
    fn status_code(&self) -> StatusCode {
        StatusCode::METHOD_NOT_ALLOWED
    }

    fn error_response(&self) -> HttpResponse {
        self.response("")
    }
}
