//! The one shape of every error: `application/problem+json` (RFC 9457).

use std::fmt;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use schemars::JsonSchema;
use serde::Serialize;

use crate::db;

/// An error as a client sees it: what is wrong, where, and what to do.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    detail: String,
    hint: Option<String>,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    /// Whether the same request would be paid for once more.
    paid: bool,
    /// Whether the same request would fail again.
    no_retry: bool,
    /// For the log only, never for the client.
    cause: Option<String>,
}

/// One fault in a request's body or parameters.
#[derive(Clone, Debug, Serialize, JsonSchema, PartialEq, Eq)]
pub struct FieldError {
    /// Where: a JSON pointer into the body, or a parameter's name.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

/// The body of every error (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct ProblemBody<'a> {
    /// `urn:agentd:problem:` and the code.
    r#type: String,
    /// The status in words.
    title: &'a str,
    /// The HTTP status again.
    #[schemars(range(min = 400, max = 599))]
    status: u16,
    /// What it is, for programs; stays the same from version to version.
    code: &'a str,
    /// What is wrong, for people.
    detail: &'a str,
    /// What to do about it, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    /// Names the request in the service's log.
    request_id: &'a str,
    /// The faults one by one, with their places.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

/// The body of an error on the routes that speak `OpenAI`'s interface.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct OpenAiError {
    error: OpenAiFault,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
struct OpenAiFault {
    /// What is wrong and what to do about it, for people.
    message: String,
    /// The kind of error, by which `OpenAI`'s clients choose their exception.
    r#type: &'static str,
    /// The field or parameter in which the fault lies.
    param: Option<String>,
    /// What it is, for programs; stays the same from version to version.
    code: &'static str,
}

impl Problem {
    /// A problem with its HTTP status, its stable code, and what is wrong.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            status,
            code,
            detail: detail.into(),
            hint: None,
            errors: Vec::new(),
            retry_after: None,
            paid: false,
            no_retry: false,
            cause: None,
        }))
    }

    /// 400: the request cannot be understood or breaks a rule.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 400 with the field in which the fault lies.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let error = FieldError { pointer: pointer.into(), detail: detail.into() };
        let problem = Self::bad_request("invalid_request", error.to_string());
        problem.with_errors(vec![error])
    }

    /// 400 for an option that the interface names and this version does not have.
    #[must_use]
    pub fn not_available(pointer: &str, what: &str) -> Self {
        let detail = format!("this version of agentd does not have {what} yet");
        let error = FieldError { pointer: pointer.into(), detail: detail.clone() };
        Self::bad_request("not_available", detail).with_errors(vec![error])
    }

    /// 401: no credential that counts. Never says which part was wrong.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "a valid credential is required")
            .with_hint("send the API key as X-API-Key or Authorization: Bearer, the admin key as X-Admin-Key")
    }

    /// 403: a credential that counts, but not for this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404 for the thing named by `what`, also when it belongs to someone else.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
    }

    /// 409: the thing is in a state that does not allow this.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// The same, its places below `pointer`: for one of many in a body.
    #[must_use]
    pub fn within(mut self, pointer: &str) -> Self {
        let names_place = self.0.errors.first().is_some_and(|first| self.0.detail.starts_with(&first.pointer));
        self.0.detail = format!("{pointer}{}{}", if names_place { "" } else { ": " }, self.0.detail);
        if self.0.errors.is_empty() {
            self.0.errors.push(FieldError { pointer: pointer.to_owned(), detail: self.0.detail.clone() });
        } else {
            for error in &mut self.0.errors {
                error.pointer.insert_str(0, pointer);
            }
        }
        self
    }

    /// The same, its places where the client wrote what is wrong: `place` gives
    /// those that have another name there.
    #[must_use]
    pub fn renamed(mut self, place: impl Fn(&str) -> Option<String>) -> Self {
        for error in &mut self.0.errors {
            let Some(named) = place(&error.pointer) else { continue };
            if let Some(rest) = self.0.detail.strip_prefix(error.pointer.as_str()) {
                self.0.detail = format!("{named}{rest}");
            }
            error.pointer = named;
        }
        self
    }

    /// 503 with when to try again.
    pub fn unavailable(code: &'static str, detail: impl Into<String>, retry_after: u64) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).with_retry_after(retry_after)
    }

    /// 500: a fault of ours; the cause goes to the log only.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the service met an error of its own")
            .with_hint("the log has the cause under this request id")
            .with_cause(cause)
    }

    /// What the client can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The faults one by one.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }

    /// Seconds after which another attempt makes sense.
    #[must_use]
    pub fn with_retry_after(self, seconds: u64) -> Self {
        self.with_retry_in(Duration::from_secs(seconds))
    }

    /// The same, exact to the millisecond.
    #[must_use]
    pub fn with_retry_in(mut self, pause: Duration) -> Self {
        self.0.retry_after = Some(pause);
        self
    }

    /// The same request would fail again, so clients must not send it again by
    /// themselves.
    #[must_use]
    pub fn do_not_retry(mut self) -> Self {
        self.0.no_retry = true;
        self
    }

    /// What has failed is paid for all the same, so nobody may send it again
    /// without having decided to.
    #[must_use]
    pub fn paid_for(mut self) -> Self {
        self.0.paid = true;
        self
    }

    /// What the log is told besides.
    #[must_use]
    pub fn with_cause(mut self, cause: impl fmt::Display) -> Self {
        self.0.cause = Some(cause.to_string());
        self
    }

    /// What only the log may know.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// The faults one by one.
    #[must_use]
    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    /// What is wrong.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The answer, carrying the request's id.
    #[must_use]
    pub fn response(&self, request_id: &str) -> HttpResponse {
        let parts = &self.0;
        let body = ProblemBody {
            r#type: format!("urn:agentd:problem:{}", parts.code),
            title: parts.status.canonical_reason().unwrap_or("Error"),
            status: parts.status.as_u16(),
            code: parts.code,
            detail: &parts.detail,
            hint: parts.hint.as_deref(),
            request_id,
            errors: &parts.errors,
        };
        self.finish("application/problem+json", &body)
    }

    /// The answer in the form that clients of `OpenAI`'s interface read.
    #[must_use]
    pub fn openai_response(&self) -> HttpResponse {
        self.finish("application/json", &self.openai_error())
    }

    /// The body of that answer.
    #[must_use]
    pub fn openai_error(&self) -> OpenAiError {
        let parts = &self.0;
        let kind = match parts.status.as_u16() {
            401 => "authentication_error",
            402 => "insufficient_quota",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let message = match &parts.hint {
            Some(hint) => format!("{}; {hint}", parts.detail),
            None => parts.detail.clone(),
        };
        // `/messages/0/role` is written messages[0].role there.
        let param = parts.errors.first().map(|error| {
            let steps = error.pointer.trim_start_matches(['/', '?']).split('/');
            steps.fold(String::new(), |path, step| match step.parse::<usize>() {
                Ok(place) => format!("{path}[{place}]"),
                Err(_) if path.is_empty() => step.to_owned(),
                Err(_) => format!("{path}.{step}"),
            })
        });
        let param = param.filter(|param| !param.is_empty());
        OpenAiError { error: OpenAiFault { message, r#type: kind, param, code: parts.code } }
    }

    /// Seconds after which another attempt makes sense, where they are known.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        self.0.retry_after.map(|pause| pause.as_secs() + u64::from(pause.subsec_nanos() > 0))
    }

    /// Whether the same request would be paid for once more.
    #[must_use]
    pub fn is_paid_for(&self) -> bool {
        self.0.paid
    }

    fn finish(&self, media: &'static str, body: &impl Serialize) -> HttpResponse {
        let parts = &self.0;
        let mut response = HttpResponse::build(parts.status);
        response.insert_header((header::CONTENT_TYPE, media));
        if let Some(seconds) = self.retry_after() {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Some(pause) = parts.retry_after.filter(|pause| pause.subsec_millis() > 0) {
            // OpenAI's clients prefer this one.
            response.insert_header(("Retry-After-Ms", pause.as_millis().to_string()));
        }
        if parts.paid || parts.no_retry {
            // OpenAI's clients send what failed with 429 or 5xx again by themselves, unless they are told this.
            response.insert_header(("X-Should-Retry", "false"));
        }
        if parts.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"agentd\"");
            response.insert_header((header::WWW_AUTHENTICATE, scheme));
        }
        if parts.code == "payload_too_large" || parts.code == "request_timeout" {
            // What is left of the body will not be read.
            response.force_close();
        }
        response.body(serde_json::to_vec(body).unwrap_or_default())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.detail)
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "the body" } else { &self.pointer };
        write!(f, "{place}: {}", self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    /// Replaced by the request observer, which knows the request's id.
    fn error_response(&self) -> HttpResponse<BoxBody> {
        self.response("")
    }
}

impl From<db::Error> for Problem {
    fn from(error: db::Error) -> Self {
        use db::Error;
        let unavailable = |code, detail: &str| Self::unavailable(code, detail, 5).with_cause(&error);
        match &error {
            Error::Full => unavailable("disk_full", "the disk is full; nothing was changed"),
            Error::ReadOnly(_) => unavailable("disk_read_only", "the disk does not accept writes; nothing was changed"),
            Error::Io(_) | Error::Damaged(_) => {
                unavailable("storage_unavailable", "the database cannot be used; nothing was changed")
            }
            Error::Overloaded => unavailable("overloaded", "too much waits for the database"),
            Error::Deadline(_) => unavailable("query_timeout", "the query took too long")
                .with_hint("narrow the filters or ask for a smaller page"),
            Error::Closed => unavailable("draining", "the service is shutting down"),
            Error::Panicked(_) | Error::Constraint(_) | Error::Sql(_) => Self::internal(&error),
        }
    }
}
