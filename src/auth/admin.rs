//! The extractors for whoever administers the service: with the admin key, over
//! the control socket, or signed in as a user of the console.

use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::Arc;

use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{FromRequest, HttpRequest, dev};

use super::sessions::{Session, SessionToken};
use super::{Auth, Role, caller, local};
use crate::http::{Authorise, Policy, Problem, client_address, is_forwarded};

/// The cookie's name over TLS: browsers send it back to this host only, and
/// never unencrypted.
const COOKIE: &str = "__Host-agentd";
/// The cookie's name over plain HTTP, where browsers refuse the other.
const PLAIN_COOKIE: &str = "agentd-session";
/// The header that has to come with a cookie that changes something.
const CSRF: &str = "x-csrf-token";

/// Whoever may read (as a viewer) and change (as an admin) this.
#[derive(Clone, Copy, Debug)]
pub struct Admin;

/// Whoever may read (as a viewer) and change (as an operator) this.
#[derive(Clone, Copy, Debug)]
pub struct Operator;

/// Whoever administers the service, in whatever role.
pub struct SignedIn {
    /// The session that they have come with; the admin key and the control
    /// socket have none.
    pub session: Option<Presented>,
}

/// A session with its token.
pub struct Presented {
    /// The session.
    pub entry: Arc<Session>,
    /// What the cookie holds.
    pub token: SessionToken,
}

/// This machine: over loopback and through no proxy, or over the control socket.
#[derive(Clone, Copy, Debug)]
pub struct OnThisMachine;

macro_rules! authorise {
    ($type:ty, $policy:expr, $check:expr) => {
        impl Authorise for $type {
            const POLICY: Policy = $policy;
        }

        impl FromRequest for $type {
            type Error = Problem;
            type Future = Ready<Result<Self, Problem>>;

            fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
                ready($check(request))
            }
        }
    };
}
authorise!(Admin, Policy::Admin, |request| signed_in(request, Role::Admin).map(|_| Self));
authorise!(Operator, Policy::Admin, |request| signed_in(request, Role::Operator).map(|_| Self));
authorise!(SignedIn, Policy::Admin, |request| signed_in(request, Role::Viewer).map(|session| Self { session }));
authorise!(OnThisMachine, Policy::Local, |request| on_this_machine(request).map(|()| Self));

/// Who administers; a user needs the role `to_change` for what changes something.
pub(super) fn signed_in(request: &HttpRequest, to_change: Role) -> Result<Option<Presented>, Problem> {
    if local::is_local(request)? {
        return Ok(None);
    }
    let auth = caller::auth(request)?;
    if let Some(key) = caller::text(request.headers(), "x-admin-key") {
        return if auth.is_admin_key(key) { Ok(None) } else { Err(wrong(auth, client_address(request))) };
    }
    by_cookie(request, auth, to_change).map(Some)
}

fn by_cookie(request: &HttpRequest, auth: &Auth, to_change: Role) -> Result<Presented, Problem> {
    let token =
        cookie(request.headers(), auth.secure).and_then(SessionToken::read).ok_or_else(Problem::unauthorized)?;
    let find = |mac| auth.sessions.find(&mac, auth.clock.now());
    let session = find(token.mac(&auth.hasher)).or_else(|| token.mac_before(&auth.hasher).and_then(find));
    let session = session.ok_or_else(Problem::unauthorized)?;
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(Presented { entry: session, token });
    }
    let proven = caller::text(request.headers(), CSRF).is_some_and(|csrf| token.proves(&auth.hasher, csrf));
    if !proven {
        let problem = Problem::new(StatusCode::FORBIDDEN, "csrf_token_wrong", "this needs the session's CSRF token");
        return Err(problem.with_hint("send csrf_token of GET /admin/session as X-CSRF-Token"));
    }
    if session.role < to_change {
        let problem = Problem::forbidden(format!("this needs the role {}", to_change.name()));
        return Err(problem.with_hint(format!("{} is {}", session.user, session.role.name())));
    }
    Ok(Presented { entry: session, token })
}

fn wrong(auth: &Auth, address: IpAddr) -> Problem {
    auth.throttle.wrong(address).map_or_else(Problem::unauthorized, too_many_attempts)
}

/// 429 for an address that has presented too many wrong credentials.
#[must_use]
pub fn too_many_attempts(seconds: u64) -> Problem {
    let detail = "too many wrong credentials from this address";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", detail).with_retry_after(seconds)
}

fn on_this_machine(request: &HttpRequest) -> Result<(), Problem> {
    // What a proxy on this machine passes on comes from somewhere else.
    let here = client_address(request).is_loopback() && !is_forwarded(request.headers());
    if local::is_local(request)? || here {
        return Ok(());
    }
    let problem = Problem::forbidden("this is possible from the service's own machine only");
    Err(problem.with_hint("sign in to that machine and run agentd setup there"))
}

/// The session's cookie. Over TLS only the one that no other host can have set.
fn cookie(headers: &HeaderMap, secure: bool) -> Option<&str> {
    let lines = || headers.get_all(header::COOKIE).filter_map(|line| line.to_str().ok());
    let pairs = || lines().flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let named = |wanted: &str| pairs().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    named(COOKIE).or_else(|| named(PLAIN_COOKIE).filter(|_| !secure))
}

/// The header that gives a browser its cookie, or takes it away where there is
/// no token.
#[must_use]
pub fn set_cookie(token: Option<&SessionToken>, secure: bool) -> String {
    let (name, mark) = if secure { (COOKIE, "; Secure") } else { (PLAIN_COOKIE, "") };
    match token {
        Some(token) => format!("{name}={}; Path=/{mark}; HttpOnly; SameSite=Strict", token.reveal()),
        None => format!("{name}=; Path=/{mark}; HttpOnly; SameSite=Strict; Max-Age=0"),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        for (line, found) in [
            ("__Host-agentd=a", Some("a")),
            ("x=1; __Host-agentd=a; y=2", Some("a")),
            ("agentd-session=b; __Host-agentd=a", Some("a")),
            ("agentd-session=b", Some("b")),
            ("x__Host-agentd=a; =; ;", None),
            ("__Host-agentd", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(header::COOKIE, HeaderValue::from_static(line));
            assert_eq!(cookie(&headers, false), found, "{line}");
            assert_eq!(cookie(&headers, true), found.filter(|found| *found == "a"), "{line}");
        }
    }
}
