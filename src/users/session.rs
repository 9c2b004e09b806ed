//! `/admin/session`: signing in and out.

use actix_web::http::header::{self, HeaderMap, HeaderName, SET_COOKIE};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Users;
use super::password::Password;
use crate::auth::{Role, SignedIn, set_cookie};
use crate::clock::Timestamp;
use crate::http::header::list;
use crate::http::openapi::Answer;
use crate::http::query::NoQuery;
use crate::http::{AdminJson, Open, Problem, Routes, client_address};

/// The routes of this file.
pub(super) fn routes() -> Routes {
    let session = || Answer::json::<SessionView>("The session.");
    Routes::of("Users", "People who administer the service, for the administrator.")
        .with(Method::POST, "/admin/session", log_in, |it| {
            it.named("logIn", "Sign in")
                .about(
                    "The answer sets a cookie; requests that change something also need `csrf_token` as \
                        `X-CSRF-Token`. A session ends after an hour without a request, and after twelve hours. \
                        After ten wrong passwords in a minute an address has to wait.",
                )
                .answer(StatusCode::CREATED, session())
                .problems(StatusCode::UNAUTHORIZED, &["unauthorized"])
                .problems(StatusCode::FORBIDDEN, &["forbidden"])
                .problems(StatusCode::TOO_MANY_REQUESTS, &["too_many_attempts", "too_many_logins"])
                .problems(StatusCode::INTERNAL_SERVER_ERROR, &["internal"])
                .problems(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &["disk_full", "disk_read_only", "draining", "overloaded", "query_timeout", "storage_unavailable"],
                )
        })
        .with(Method::GET, "/admin/session", get, |it| {
            it.named("getSession", "Who is signed in")
                .about("For those who have a session; the admin key has none.")
                .answer(StatusCode::OK, session())
                .problems(StatusCode::NOT_FOUND, &["not_found"])
        })
        .with(Method::DELETE, "/admin/session", log_out, |it| {
            it.named("logOut", "Sign out")
                .answer(StatusCode::NO_CONTENT, Answer::empty("There is no session any more."))
        })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LogIn")]
struct LogInBody {
    name: String,
    /// Whatever was set.
    #[schemars(with = "String")]
    password: Password,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Session")]
struct SessionView {
    /// What requests that change something send as `X-CSRF-Token`.
    csrf_token: String,
    user: SessionUser,
    /// When it ends at the latest.
    expires_at: Timestamp,
}

#[derive(Serialize, JsonSchema)]
struct SessionUser {
    name: String,
    role: Role,
}

async fn log_in(
    _: Open,
    users: web::Data<Users>,
    request: HttpRequest,
    _: NoQuery,
    body: AdminJson<LogInBody>,
) -> Result<HttpResponse, Problem> {
    if from_elsewhere(request.headers()) {
        // Nobody is to be signed in as somebody else without noticing.
        return Err(Problem::forbidden("a page from elsewhere cannot sign anybody in"));
    }
    let LogInBody { name, password } = body.value;
    let made = users.log_in(&name, password, client_address(&request)).await?;
    let cookie = set_cookie(Some(&made.token), is_secure(&users, &request));
    let view = SessionView {
        csrf_token: made.token.csrf(users.auth.hasher()),
        user: SessionUser { name: made.user, role: made.role },
        expires_at: made.ends_at,
    };
    let mut answer = HttpResponse::Created();
    Ok(answer.insert_header((SET_COOKIE, cookie)).insert_header(("Cache-Control", "no-store")).json(view))
}

async fn get(signed_in: SignedIn, users: web::Data<Users>, _: NoQuery) -> Result<HttpResponse, Problem> {
    let session = signed_in.session.ok_or_else(|| Problem::not_found("session"))?;
    let view = SessionView {
        csrf_token: session.token.csrf(users.auth.hasher()),
        user: SessionUser { name: session.entry.user.clone(), role: session.entry.role },
        expires_at: session.entry.ends_at,
    };
    Ok(HttpResponse::Ok().insert_header(("Cache-Control", "no-store")).json(view))
}

async fn log_out(
    signed_in: SignedIn,
    users: web::Data<Users>,
    request: HttpRequest,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    if let Some(session) = &signed_in.session {
        users.log_out(&session.entry).await?;
    }
    let cookie = set_cookie(None, is_secure(&users, &request));
    Ok(HttpResponse::NoContent().insert_header((SET_COOKIE, cookie)).finish())
}

/// Whether the browser speaks TLS, to the service or to a proxy before it. Who
/// says so falsely gets a cookie that is of less use.
fn is_secure(users: &Users, request: &HttpRequest) -> bool {
    // Of several proxies the first one has seen the browser.
    let schemes = list(request.headers(), HeaderName::from_static("x-forwarded-proto"));
    users.secure || schemes.first().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
}

/// Whether a browser says that another site's page sends this.
fn from_elsewhere(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(header::HeaderValue::as_bytes);
    !matches!(site, None | Some(b"same-origin" | b"none"))
}
