//! Plain HTTP beside HTTPS: what ACME's `http-01` asks for (RFC 8555, 8.3), and
//! for everything else where HTTPS is.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr as _;
use std::time::Duration;

use actix_http::body::BoxBody;
use actix_http::error::DispatchError;
use actix_http::header::{ALLOW, CONTENT_TYPE, HOST, LOCATION};
use actix_http::{HttpMessage as _, HttpService, KeepAlive, Method, Request, Response, StatusCode};
use actix_web::dev::{ServiceFactory, fn_service};
use tokio::net::TcpStream;

use super::front::LINGER;
use crate::tls::HttpChallenges;

/// Time that a client has to say what it wants.
const HEAD_TIME: Duration = Duration::from_secs(5);
const CHALLENGE: &str = "/.well-known/acme-challenge/";

/// The service of one worker.
pub(super) fn service(
    challenges: HttpChallenges,
    https_port: u16,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()> {
    let answer = move |request: Request| {
        let answer = answer(&request, &challenges, https_port);
        async move { Ok::<_, std::convert::Infallible>(answer) }
    };
    // A connection is good for one request: nobody has two questions here.
    HttpService::build()
        .keep_alive(KeepAlive::Disabled)
        .client_request_timeout(HEAD_TIME)
        .client_disconnect_timeout(LINGER)
        .h1_allow_half_closed(false)
        .h1(fn_service(answer))
        .tcp()
}

fn answer(request: &Request, challenges: &HttpChallenges, https_port: u16) -> Response<BoxBody> {
    if let Some(token) = request.path().strip_prefix(CHALLENGE) {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let refused = Response::build(StatusCode::METHOD_NOT_ALLOWED).insert_header((ALLOW, "GET, HEAD")).finish();
            return refused.map_into_boxed_body();
        }
        return match challenges.get(token) {
            Some(text) => plain(StatusCode::OK, text),
            None => plain(StatusCode::NOT_FOUND, "no challenge with this token is under way\n".into()),
        };
    }
    let mut hosts = request.headers().get_all(HOST);
    let host = match (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) {
        (Some(host), None) => without_port(host),
        _ => None,
    };
    let target = request.uri().path_and_query().map(ToString::to_string).filter(|target| target.starts_with('/'));
    let (Some(host), Some(target)) = (host, target) else {
        return plain(StatusCode::BAD_REQUEST, "the request does not say which host it is for\n".into());
    };
    let location = match https_port {
        443 => format!("https://{host}{target}"),
        port => format!("https://{host}:{port}{target}"),
    };
    let sent_on = Response::build(StatusCode::PERMANENT_REDIRECT).insert_header((LOCATION, location)).finish();
    sent_on.map_into_boxed_body()
}

fn plain(status: StatusCode, text: String) -> Response<BoxBody> {
    Response::build(status).insert_header((CONTENT_TYPE, "text/plain; charset=utf-8")).body(text).map_into_boxed_body()
}

/// The host of a `Host` header: a name or an address, and nothing that could
/// lead anywhere else.
fn without_port(header: &str) -> Option<&str> {
    let (host, port) = match header.rsplit_once(':') {
        // The colons of an address in brackets are not that of a port.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (header, None),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && u16::from_str(port).is_ok();
    let known = if let Some(inner) = host.strip_prefix('[') {
        inner.strip_suffix(']').is_some_and(|address| Ipv6Addr::from_str(address).is_ok())
    } else {
        Ipv4Addr::from_str(host).is_ok() || is_name(host)
    };
    (known && port.is_none_or(is_port)).then_some(host)
}

fn is_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for (header, host) in [
            ("agents.example.com", "agents.example.com"),
            ("agents.example.com.", "agents.example.com."),
            ("AGENTS.example.com:80", "AGENTS.example.com"),
            ("my_host:8080", "my_host"),
            ("192.0.2.7:80", "192.0.2.7"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("[2001:db8::1]:80", "[2001:db8::1]"),
        ] {
            assert_eq!(without_port(header), Some(host), "{header}");
        }
        for header in [
            "",
            ":80",
            "a b",
            "user@example.com",
            "example.com/path",
            "example.com\\path",
            "example.com#",
            "example.com?",
            "example..com",
            "-a.example",
            "example.com:",
            "example.com:http",
            "example.com:+80",
            "example.com:99999",
            "a:b:80",
            "2001:db8::1",
            "[2001:db8::1",
            "[::1]x:80",
            "[example.com]",
            "bücher.example",
        ] {
            assert_eq!(without_port(header), None, "{header}");
        }
        assert_eq!(without_port(&"a".repeat(64)), None);
    }

    #[test]
    fn a_challenge_is_answered_as_long_as_it_is_under_way() {
        let challenges = HttpChallenges::default();
        let ask = |method: Method, token: &str| {
            let path = format!("/.well-known/acme-challenge/{token}");
            let request = actix_http::test::TestRequest::with_uri(&path).method(method).finish();
            answer(&request, &challenges, 443)
        };
        assert_eq!(ask(Method::GET, "t").status(), StatusCode::NOT_FOUND);
        challenges.set("t".into(), "t.thumbprint".into());
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(ask(method, "t").status(), StatusCode::OK);
        }
        assert_eq!(ask(Method::GET, "T").status(), StatusCode::NOT_FOUND);
        assert_eq!(ask(Method::POST, "t").status(), StatusCode::METHOD_NOT_ALLOWED);
        let (_, body) = ask(Method::GET, "t").into_parts();
        let body = actix_http::body::to_bytes(body).now_or_never().expect("it is there").expect("a body");
        assert_eq!(body, "t.thumbprint");
        challenges.remove("t");
        assert_eq!(ask(Method::GET, "t").status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn the_usual_port_is_not_said() {
        let request = actix_http::test::TestRequest::with_uri("/a?b").insert_header((HOST, "a.example:80")).finish();
        let sent_on = answer(&request, &HttpChallenges::default(), 443);
        assert_eq!(sent_on.headers().get(LOCATION).expect("a place"), "https://a.example/a?b");
    }

    proptest! {
        /// Whatever the header says, the address leads to the host that was said.
        #[test]
        fn what_is_taken_is_one_host(header in "[a-z0-9.:/@\\[\\]?#%\\\\ -]{0,30}") {
            if let Some(host) = without_port(&header) {
                let url = url::Url::parse(&format!("https://{host}:8443/x"));
                // A name such as 1.2.3 is no name to URLs, so that leads nowhere.
                if let Ok(url) = url {
                    prop_assert_eq!(url.path(), "/x");
                    prop_assert_eq!(url.port(), Some(8443));
                    prop_assert_eq!(url.username(), "");
                    prop_assert!(header.starts_with(host));
                }
            }
        }
    }
}
