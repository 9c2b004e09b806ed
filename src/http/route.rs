//! The route table. A handler's first argument says who may call it, so a
//! handler without an authorisation does not compile, and the table can list
//! every route with its policy.

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{Error, FromRequest, Handler, HttpMessage as _, HttpRequest, HttpResponse, Responder, dev, web};

use super::nearest::{Meant, Paths};
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
    /// Whether the last parameter of its path also takes slashes.
    tail: bool,
}

/// Among a resource's data, or a request's where there is no resource: its errors have `OpenAI`'s form.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenAiErrors;

/// Whether the errors of a request have `OpenAI`'s form.
pub(super) fn has_openai_errors(request: &HttpRequest) -> bool {
    request.app_data::<OpenAiErrors>().is_some() || request.extensions().contains::<OpenAiErrors>()
}

/// How the pattern of a parameter that takes slashes ends.
const TAIL: &str = ":.+}";

/// A pattern of the router as the table has it.
pub(super) fn path_of(pattern: String) -> String {
    if pattern.ends_with(TAIL) { pattern.replace(TAIL, "}") } else { pattern }
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
        let entry = |method, make| Entry {
            method,
            path,
            policy: Args::POLICY,
            make,
            tag,
            operation: None,
            openai: false,
            tail: false,
        };
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

    /// The last parameter of the path that was added last also takes slashes: names of models have them.
    #[must_use]
    pub fn tail(mut self) -> Self {
        let path = self.entries.last().map(|entry| entry.path);
        self.entries.iter_mut().filter(|entry| Some(entry.path) == path).for_each(|entry| entry.tail = true);
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
        let mut paths = Paths::default();
        for (path, entries) in fixed.into_iter().chain(varying) {
            let openai = entries.iter().any(|entry| entry.openai);
            let tail = entries.iter().any(|entry| entry.tail);
            paths.add(path, openai, tail);
            let allowed: Vec<_> = entries.iter().map(|entry| entry.method.as_str()).collect();
            let methods: Arc<[Method]> = entries.iter().map(|entry| entry.method.clone()).collect();
            let allowed = allowed.join(", ");
            let mut resource = match path.strip_suffix('}').filter(|_| tail) {
                Some(path) => web::resource(format!("{path}{TAIL}")),
                None => web::resource(path),
            };
            // The administrator and the metrics are not for web pages.
            if entries.iter().all(|entry| matches!(entry.policy, Policy::Open | Policy::Tenant(_))) {
                resource = resource.app_data(cors::ForPages);
            }
            if openai {
                resource = resource.app_data(OpenAiErrors);
            }
            for entry in entries {
                resource = resource.route((entry.make)(entry.method.clone()));
            }
            let other = move |request: HttpRequest| ready(other_method(&request, &methods, &allowed));
            config.service(resource.default_service(web::to(other)));
        }
        let paths = Arc::new(paths);
        config.default_service(web::to(move |request: HttpRequest| ready(no_route(&request, &paths))));
    }
}

/// What an unknown path answers: to everyone, so that the page that calls it can read what is wrong.
fn no_route(request: &HttpRequest, paths: &Paths) -> Result<HttpResponse, Problem> {
    request.extensions_mut().insert(cors::ForPages);
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    if let Some(answer) = cors::preflight(request, &methods) {
        return answer;
    }
    let problem = Problem::new(StatusCode::NOT_FOUND, "no_route", "there is nothing at this path");
    let meant = paths.meant(request.path());
    if matches!(meant, Meant::OpenAi(_)) {
        request.extensions_mut().insert(OpenAiErrors);
    }
    Err(match meant {
        Meant::OpenAi(Some(path)) | Meant::Own(path) => problem.with_hint(format!("did you mean {path}?")),
        Meant::OpenAi(None) => {
            let known = paths.of_openai().join(", ");
            problem.with_hint(format!("the routes of OpenAI's interface that this service has are {known}"))
        }
        Meant::Nothing => problem,
    })
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
    pub(super) fn response(&self, request_id: &str, openai: bool) -> HttpResponse {
        let mut response = if openai { self.problem.openai_response() } else { self.problem.response(request_id) };
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
        self.response("", false)
    }
}
