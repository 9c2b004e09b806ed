//! Around every request: its id, its line in the log, its place in the metrics,
//! and the last word on how an error looks.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, web};
use futures_util::FutureExt as _;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

use super::cors::Cors;
use super::route::{WrongMethod, has_openai_errors, path_of};
use super::{Hsts, LocalPeer, Problem, Rate, client_address};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Among a request's extensions: what is known of its caller, for its line in
/// the log and the headers of its answer.
#[derive(Clone, Debug)]
pub struct KnownCaller {
    /// The tenant's row number.
    pub no: i64,
    /// The tenant's id.
    pub tenant: String,
    /// The public id of the key.
    pub key: String,
    /// How it stands with its rate limit, where there is one.
    pub rate: Option<Rate>,
}

/// Counters of the HTTP side.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
}

impl HttpMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("http_requests_total", "Requests answered, by route, method and status."),
            &["method", "route", "status"],
        )?;
        let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let seconds = HistogramVec::new(
            HistogramOpts::new("http_request_duration_seconds", "Time to the head of the answer, by route.")
                .buckets(buckets),
            &["method", "route"],
        )?;
        let in_flight = IntGauge::new("http_requests_in_flight", "Requests that wait for their answer.")?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        Ok(Self { requests, seconds, in_flight })
    }
}

/// The middleware.
///
/// # Errors
/// Only those that the server itself handles.
pub async fn observe<B: MessageBody + 'static>(
    metrics: web::Data<HttpMetrics>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let start = Instant::now();
    let id = request_id(&request);
    let cors = request.app_data::<web::Data<Cors>>().cloned();
    let in_flight = InFlight::new(&metrics.in_flight);
    let asked = (request.method().clone(), request.path().to_owned());
    // A handler that panics fails alone, and whoever called is answered.
    let outcome = AssertUnwindSafe(async { next.call(request).await }).catch_unwind().await;
    drop(in_flight);
    let mut response = match outcome {
        Ok(Ok(response)) => response.map_into_boxed_body(),
        Ok(Err(error)) => return Err(error),
        Err(panic) => return Err(panicked(&metrics, asked, &id, start, &*panic)),
    };
    let cause = finish_error(&mut response, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    // What a tenant has put into a job is never more than its declared type.
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let hsts = response.request().conn_data::<Hsts>().map(|Hsts(value)| value.clone());
    if let Some(value) = hsts {
        response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, value);
    }
    let rate = response.request().extensions().get::<KnownCaller>().and_then(|caller| caller.rate);
    if let Some(rate) = rate {
        rate.write(response.headers_mut());
    }
    if let Some(cors) = cors {
        cors.finish(&mut response);
    }
    let seconds = start.elapsed().as_secs_f64();
    count(&metrics, &response, seconds);
    log(&response, &id, seconds, cause.as_deref());
    Ok(response)
}

/// What is answered, counted and logged where a handler has panicked. The request
/// has gone with it.
fn panicked(
    metrics: &HttpMetrics,
    (method, path): (Method, String),
    id: &str,
    start: Instant,
    panic: &(dyn Any + Send),
) -> actix_web::Error {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let cause = text.unwrap_or("no message");
    let duration_ms = (start.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    metrics.requests.with_label_values(&[bounded_method(method.as_str()), "none", "500"]).inc();
    tracing::error!(
        target: "agentd::request",
        %method,
        path,
        status = 500,
        duration_ms,
        request_id = id,
        cause,
        "the handler of a request panicked"
    );
    let mut response = Problem::internal("a handler panicked").response(id);
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    InternalError::from_response("a handler panicked", response).into()
}

/// Counts a request until its answer, also one whose client hangs up before.
struct InFlight(IntGauge);

impl InFlight {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The client's id when it is harmless to print, else a new one.
fn request_id(request: &ServiceRequest) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let harmless = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    given.filter(harmless).map_or_else(new_request_id, str::to_owned)
}

fn new_request_id() -> String {
    format!("{:032x}", u128::from_ne_bytes(crate::id::random_bytes()))
}

/// Gives an error its final body; what the log should know of its cause.
fn finish_error(response: &mut ServiceResponse, id: &str) -> Option<String> {
    let status = response.status();
    if status.as_u16() < 400 {
        return None;
    }
    let error = response.response().error()?;
    let openai = has_openai_errors(response.request());
    let answer = |problem: &Problem| {
        let body = if openai { problem.openai_response() } else { problem.response(id) };
        (body, problem.cause().map(str::to_owned))
    };
    let (body, cause) = if let Some(problem) = error.as_error::<Problem>() {
        answer(problem)
    } else if let Some(wrong) = error.as_error::<WrongMethod>() {
        (wrong.response(id, openai), None)
    } else {
        answer(&foreign_error(status, error))
    };
    *response.response_mut() = body;
    cause
}

/// An error of the framework, such as a path parameter that is no id.
fn foreign_error(status: StatusCode, error: &actix_web::Error) -> Problem {
    if status.is_server_error() {
        Problem::internal(error)
    } else {
        Problem::new(status, "bad_request", error.to_string())
    }
}

fn count(metrics: &HttpMetrics, response: &ServiceResponse, seconds: f64) {
    let pattern = response.request().match_pattern().map(path_of);
    let route = pattern.as_deref().unwrap_or("none");
    let method = bounded_method(response.request().method().as_str());
    metrics.requests.with_label_values(&[method, route, response.status().as_str()]).inc();
    metrics.seconds.with_label_values(&[method, route]).observe(seconds);
}

/// A client can send any word as a method; a label must not grow with them.
fn bounded_method(method: &str) -> &str {
    match method {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => method,
        _ => "other",
    }
}

fn log(response: &ServiceResponse, id: &str, seconds: f64, cause: Option<&str>) {
    let request = response.request();
    let fields = request.extensions().get::<KnownCaller>().cloned();
    let (tenant, key) = fields.map(|fields| (fields.tenant, fields.key)).unzip();
    let peer = request.conn_data::<LocalPeer>();
    let key = key.or_else(|| peer.map(|_| "local".to_owned()));
    let (peer_uid, peer_pid) = (peer.map(|peer| peer.uid), peer.and_then(|peer| peer.pid));
    let status = response.status().as_u16();
    let duration_ms = (seconds * 1e6).round() / 1e3;
    let trace_id = trace_id(request);
    let address = client_address(request);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "agentd::request",
                method = %request.method(),
                path = request.path(),
                status,
                duration_ms,
                address = %address,
                tenant,
                key,
                peer_uid,
                peer_pid,
                request_id = id,
                trace_id,
                cause,
                "request"
            )
        };
    }
    let quiet = matches!(request.path(), "/health" | "/api/v1/health" | "/ready" | "/metrics");
    match status {
        // 503 is an answer, not a fault: whoever caused it has logged it once.
        503 => line!(warn),
        500.. => line!(error),
        _ if quiet => line!(debug),
        _ => line!(info),
    }
}

/// The trace that this request is part of (W3C Trace Context).
fn trace_id(request: &actix_web::HttpRequest) -> Option<&str> {
    let parent = request.headers().get("traceparent")?.to_str().ok()?;
    let id = parent.strip_prefix("00-")?.get(..32)?;
    let valid = parent.len() == 55 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && id != "0".repeat(32);
    valid.then_some(id)
}

#[cfg(test)]
mod tests {
    use actix_web::middleware::from_fn;
    use actix_web::{App, test};

    use super::*;

    async fn panics() -> &'static str {
        panic!("on purpose")
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_with_500_and_fails_alone() {
        let metrics = HttpMetrics::new(&Registry::new()).expect("metrics");
        let app = App::new().app_data(web::Data::new(metrics.clone())).wrap(from_fn(observe));
        let app = app.route("/bad", web::get().to(panics)).route("/good", web::get().to(|| async { "fine" }));
        let app = test::init_service(app).await;
        let request = test::TestRequest::get().uri("/bad").insert_header(("x-request-id", "seen")).to_request();
        let error = test::try_call_service(&app, request).await.expect_err("the server makes the answer of it");
        let answer = error.error_response();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.headers().get("x-request-id").and_then(|id| id.to_str().ok()), Some("seen"));
        let body = actix_web::body::to_bytes(answer.into_body()).await.unwrap_or_default();
        let problem: serde_json::Value = serde_json::from_slice(&body).expect("a problem");
        assert_eq!((&problem["code"], &problem["request_id"]), (&"internal".into(), &"seen".into()));
        assert!(!problem.to_string().contains("on purpose"), "the cause is for the log alone");
        let good = test::call_service(&app, test::TestRequest::get().uri("/good").to_request()).await;
        assert_eq!(good.status(), StatusCode::OK);
        assert_eq!(metrics.in_flight.get(), 0);
        assert_eq!(metrics.requests.with_label_values(&["GET", "none", "500"]).get(), 1);
    }
}
