//! The whole service in this process, on a database of its own; jobs are
//! accepted and never started, so nothing is done that an input asks for.
//! It starts from a request for each route of the interface's document, so that
//! no route is left to luck.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use actix_http::Request;
use actix_web::body::BoxBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode, Uri, header};
use actix_web::middleware::from_fn;
use actix_web::rt::System;
use actix_web::test::{TestRequest, init_service};
use actix_web::{App as HttpApp, Error};
use agentd::app::{App, Extras, Start};
use agentd::config::{self, Sources};
use agentd::db::Progress;
use agentd::http::observe;
use futures_util::future::LocalBoxFuture;

use crate::parsers::scratch;

const KEY: &str = "fuzz-key-of-the-default-tenant";
const ADMIN: &str = "fuzz-key-of-the-administrator";

type Answer = LocalBoxFuture<'static, Result<ServiceResponse<BoxBody>, Error>>;

struct House {
    system: actix_web::rt::SystemRunner,
    call: Box<dyn Fn(Request) -> Answer>,
    _jobs_on: tokio::runtime::Runtime,
}

thread_local! {
    static HOUSE: OnceCell<House> = const { OnceCell::new() };
}

impl House {
    fn new() -> Self {
        let data = scratch().join("data");
        let environment = BTreeMap::from([
            ("AGENT_API_KEY", KEY),
            ("AGENT_ADMIN_KEY", ADMIN),
            ("AGENTD_DATA_DIR", data.to_str().expect("a path")),
            // Whatever is sent, it is looked at, as if a proxy had sent it on.
            ("RATE_LIMIT_ENABLED", "false"),
            ("AGENTD_SERVER_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8"),
            ("CORS_ALLOW_ORIGINS", "https://app.example.com"),
            // What does not start never ends, so nobody may wait for it.
            ("AGENTD_JOBS_WAIT", "1ms"),
        ]);
        let environment = environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let sources = Sources { environment, ..Sources::default() };
        let loaded = config::load(&sources).expect("a configuration");
        let config = loaded.config;
        let jobs_on = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let jobs_on = jobs_on.expect("a runtime");
        let handle = jobs_on.handle().clone();
        let start = Start { sources, shown: loaded.shown, progress: Progress::default() };
        let app = jobs_on.block_on(App::build(&config, start, Extras::default(), handle)).expect("the services");
        let system = System::new();
        let service = system
            .block_on(init_service(HttpApp::new().configure(|routes| app.configure(routes)).wrap(from_fn(observe))));
        let service = Rc::new(service);
        let call = move |request| -> Answer {
            let answer = service.call(request);
            Box::pin(async move { answer.await.map(|answer| answer.map_into_boxed_body()) })
        };
        Self { system, call: Box::new(call), _jobs_on: jobs_on }
    }
}

/// A request as it stands on the wire, without its version: `METHOD path`, the
/// headers, an empty line, the body. Nothing may fail in this service, and every
/// refusal is whole in one of the two forms that errors have.
pub fn request(input: &[u8]) {
    let Some(request) = read(input) else { return };
    let head = request.method() == Method::HEAD;
    let readiness = request.uri().path() == "/ready";
    HOUSE.with(|house| {
        let house = house.get_or_init(House::new);
        house.system.block_on(async {
            let answer = (house.call)(request).await.unwrap_or_else(|error| panic!("no answer: {error}"));
            let status = answer.status();
            let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
            let kind = kind.as_ref().map_or(&[][..], HeaderValue::as_bytes);
            // A stream goes on for as long as its job.
            if kind.starts_with(b"text/event-stream") {
                return;
            }
            let body = actix_web::body::to_bytes(answer.into_body()).await.unwrap_or_default();
            if readiness && status == StatusCode::SERVICE_UNAVAILABLE {
                unready(&body, head);
            } else if head {
                assert!(!status.is_server_error(), "answered with {status}");
            } else if !status.is_success() && !status.is_redirection() {
                refused(status, kind, &body);
            }
        });
    });
}

/// No job is started here, and that is all that the service has to say against itself.
fn unready(body: &[u8], head: bool) {
    if head {
        return;
    }
    let body: serde_json::Value = serde_json::from_slice(body).expect("what fails is told in JSON");
    let parts: Vec<_> = body["failing"].as_array().expect("what fails").iter().map(|it| &it["part"]).collect();
    assert_eq!(parts, ["executor"], "{body}");
}

/// A problem, or where clients of `OpenAI`'s interface call, an error as they read it.
fn refused(status: StatusCode, kind: &[u8], body: &[u8]) {
    let body: serde_json::Value = serde_json::from_slice(body).expect("a refusal is JSON");
    match kind {
        b"application/problem+json" => {
            // What is done in the background is not started here.
            assert!(!status.is_server_error() || body["code"] == "starting", "{status}: {body}");
            assert_eq!(body["status"], status.as_u16(), "{body}");
            assert!(body["code"].is_string() && body["detail"].is_string(), "{body}");
        }
        b"application/json" => {
            let error = &body["error"];
            assert!(error["message"].is_string() && error["type"].is_string(), "{body}");
            let code = error["code"].as_str().expect("a code");
            // A provider that an input has set up does not answer, and that is its fault.
            assert!(!status.is_server_error() || code.starts_with("provider_"), "{status}: {body}");
        }
        _ => panic!("refused with {status} as {}: {body}", kind.escape_ascii()),
    }
}

/// Requests for the routes that the interface's document has, as `request` reads
/// them: each with its example bodies, and once more with all that may be asked
/// in the query.
pub fn seeds() -> Vec<String> {
    let document = agentd::app::routes().document();
    let mut seeds = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        // Ids of nothing, in the form that jobs and tenants have.
        let path = path.replace("{id}", "01a1fb36-2f27-7000-a9b7-f7dc26716a17").replace(['{', '}'], "");
        for (method, operation) in item.as_object().expect("operations") {
            let line = format!("{} {path}", method.to_ascii_uppercase());
            let content = &operation["requestBody"]["content"];
            let examples = content["application/json"]["examples"].as_object().into_iter().flatten();
            let bodies: Vec<_> = examples.map(|(_, example)| example["value"].to_string()).collect();
            seeds.extend(bodies.iter().map(|body| format!("{line}\n\n{body}")));
            let query = operation["parameters"].as_array().into_iter().flatten();
            let query: Vec<_> = query
                .filter(|it| it["in"] == "query")
                .map(|it| format!("{}=1", it["name"].as_str().unwrap_or_default()))
                .collect();
            seeds.push(line.clone());
            if !query.is_empty() {
                seeds.push(format!("{line}?{}\n\n{}", query.join("&"), bodies.first().map_or("", String::as_str)));
            }
        }
    }
    seeds
}

fn read(input: &[u8]) -> Option<Request> {
    let end = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let (head, body) = input.split_at(end);
    let body = body.get(2..).unwrap_or_default();
    let mut lines = str::from_utf8(head).ok()?.lines();
    let (method, path) = lines.next()?.split_once(' ')?;
    let uri = Uri::try_from(path).ok().filter(|_| path.starts_with('/'))?;
    let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let mut request = TestRequest::default()
        .peer_addr(peer)
        .method(Method::from_bytes(method.as_bytes()).ok()?)
        .uri(&uri.to_string());
    request = request.insert_header(("X-API-Key", KEY)).insert_header(("X-Admin-Key", ADMIN));
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        request = request.append_header((name, HeaderValue::from_str(value.trim()).ok()?));
    }
    Some(request.set_payload(body.to_vec()).to_request())
}
