//! The route table. A handler's first argument says who may call it, so a
//! handler without an authorisation does not compile, and the table can list
//! every route with its policy.

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{Error, FromRequest, Handler, HttpRequest, HttpResponse, Responder, dev, web};

use super::openapi::{self, Describe, Operation};
use super::{Problem, cors};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Everyone.
    Open,
    /// The administrator: by the admin key, over the control socket, or as a
    /// user of the console, whose role the handler looks at.
    Admin,
    /// This machine: loopback without a proxy, or the control socket.
    Local,
    /// A tenant's key with this scope.
    Tenant(&'static str),
    /// Loopback, the control socket, the admin key, or the metrics token.
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

/// Arguments that can tell a client what they mean.
pub trait Described: Guarded {
    /// What follows from the policy and the arguments.
    fn operation() -> Operation;
}

macro_rules! guarded {
    ($($rest:ident),*) => {
        impl<First: Authorise + 'static, $($rest: FromRequest + 'static),*> Guarded for (First, $($rest,)*) {
            const POLICY: Policy = First::POLICY;
        }

        impl<First: Authorise + 'static, $($rest: FromRequest + Describe + 'static),*> Described for (First, $($rest,)*) {
            fn operation() -> Operation {
                let operation = Operation::new(First::POLICY);
                $(let operation = $rest::describe(operation);)*
                operation
            }
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

pub(super) struct Entry {
    pub(super) method: Method,
    pub(super) path: &'static str,
    policy: Policy,
    make: MakeRoute,
    /// The heading that it is described under.
    pub(super) tag: &'static str,
    /// None for HEAD, and where nobody described it.
    pub(super) operation: Option<Operation>,
    /// Whether its errors have the form that clients of `OpenAI`'s interface read.
    pub(super) openai: bool,
}

/// Among a resource's data: its errors have `OpenAI`'s form.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenAiErrors;

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
pub struct Routes {
    entries: Vec<Entry>,
    tags: Vec<(&'static str, &'static str)>,
}

impl Routes {
    /// No routes yet, and the heading that they will be described under. Of
    /// several with one heading the first one's description counts.
    #[must_use]
    pub fn of(tag: &'static str, description: &'static str) -> Self {
        Self { entries: Vec::new(), tags: vec![(tag, description)] }
    }

    /// Adds a route with what its policy and arguments do not tell a client;
    /// GET answers HEAD too.
    #[must_use]
    pub fn with<F, Args>(
        self,
        method: Method,
        path: &'static str,
        handler: F,
        describe: impl FnOnce(Operation) -> Operation,
    ) -> Self
    where
        F: Handler<Args> + Send + Sync,
        Args: Described + 'static,
        F::Output: Responder + 'static,
    {
        let mut routes = self.add(method, path, handler);
        if let Some(entry) = routes.entries.last_mut() {
            entry.operation = Some(describe(Args::operation()));
        }
        routes
    }

    /// Adds a route that nothing is said of; a test does not accept that.
    #[must_use]
    pub fn add<F, Args>(mut self, method: Method, path: &'static str, handler: F) -> Self
    where
        F: Handler<Args> + Send + Sync,
        Args: Guarded + 'static,
        F::Output: Responder + 'static,
    {
        let make: MakeRoute = Arc::new(move |method| web::route().method(method).to(handler.clone()));
        let tag = self.tags.first().map_or("", |(tag, _)| tag);
        let entry =
            |method, make| Entry { method, path, policy: Args::POLICY, make, tag, operation: None, openai: false };
        if method == Method::GET {
            self.entries.push(entry(Method::HEAD, make.clone()));
        }
        self.entries.push(entry(method, make));
        self
    }

    /// Errors of all these routes have the form that clients of `OpenAI`'s
    /// interface read.
    #[must_use]
    pub fn with_openai_errors(mut self) -> Self {
        self.entries.iter_mut().for_each(|entry| entry.openai = true);
        self
    }

    /// Joins another feature's routes to these.
    #[must_use]
    pub fn and(mut self, mut other: Self) -> Self {
        self.entries.append(&mut other.entries);
        other.tags.retain(|(tag, _)| !self.tags.iter().any(|(known, _)| known == tag));
        self.tags.append(&mut other.tags);
        self
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(super) fn tags(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.tags.iter().copied()
    }

    /// All described routes as an OpenAPI 3.1 document.
    #[must_use]
    pub fn document(&self) -> serde_json::Value {
        openapi::document(self)
    }

    /// Every route with its policy.
    #[must_use]
    pub fn list(&self) -> Vec<RouteInfo> {
        let info =
            |entry: &Entry| RouteInfo { method: entry.method.to_string(), path: entry.path, policy: entry.policy };
        self.entries.iter().map(info).collect()
    }

    /// Registers everything, with problems for unknown paths and methods.
    pub fn configure(&self, config: &mut web::ServiceConfig) {
        let mut by_path: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in &self.entries {
            by_path.entry(entry.path).or_default().push(entry);
        }
        // The router tries paths one after the other: those without parameters
        // are compared as text, so they come first.
        let (fixed, varying): (Vec<_>, Vec<_>) = by_path.into_iter().partition(|(path, _)| !path.contains('{'));
        for (path, entries) in fixed.into_iter().chain(varying) {
            let allowed: Vec<_> = entries.iter().map(|entry| entry.method.as_str()).collect();
            let methods: Arc<[Method]> = entries.iter().map(|entry| entry.method.clone()).collect();
            let allowed = allowed.join(", ");
            let mut resource = web::resource(path);
            // The administrator and the metrics are not for web pages.
            if entries.iter().all(|entry| matches!(entry.policy, Policy::Open | Policy::Tenant(_))) {
                resource = resource.app_data(cors::ForPages);
            }
            if entries.iter().any(|entry| entry.openai) {
                resource = resource.app_data(OpenAiErrors);
            }
            for entry in entries {
                resource = resource.route((entry.make)(entry.method.clone()));
            }
            let other = move |request: HttpRequest| ready(other_method(&request, &methods, &allowed));
            config.service(resource.default_service(web::to(other)));
        }
        config.default_service(web::to(|| ready(no_route())));
    }
}

fn no_route() -> Result<HttpResponse, Problem> {
    Err(Problem::new(StatusCode::NOT_FOUND, "no_route", "there is nothing at this path"))
}

fn other_method(request: &HttpRequest, methods: &[Method], allowed: &str) -> Result<HttpResponse, Error> {
    match cors::preflight(request, methods) {
        Some(answer) => Ok(answer?),
        None => Ok(wrong_method(request, allowed)?),
    }
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
