//! Who pays for what a request asks for.

use actix_web::HttpRequest;

use crate::auth::{Caller, ModelsUse};
use crate::budgets::Payer;
use crate::http::Problem;

/// Names the session that a call belongs to.
const SESSION: &str = "x-session-id";
/// Characters that a session's name may have.
const LONGEST: usize = 128;
/// What acts for a tenant on this machine has no key of its own.
const NO_KEY: &str = "local";

/// Who pays for a request: the caller, by the session that it names in
/// `X-Session-Id`, if any.
///
/// # Errors
/// When that is no name of a session: 1 to 128 printable ASCII characters.
pub fn payer(caller: &Caller<ModelsUse>, request: &HttpRequest) -> Result<Payer, Problem> {
    let session = request.headers().get(SESSION).map(|value| session(value.as_bytes())).transpose()?;
    Ok(Payer {
        tenant: caller.tenant.no,
        key: Some(&*caller.key.id).filter(|id| *id != NO_KEY).map(Into::into),
        session: session.map(Into::into),
        job: None,
    })
}

fn session(value: &[u8]) -> Result<&str, Problem> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    text.filter(|text| (1..=LONGEST).contains(&text.len())).ok_or_else(|| {
        let detail = format!("X-Session-Id must be 1 to {LONGEST} printable ASCII characters");
        Problem::bad_request("invalid_request", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_a_short_printable_name() {
        assert_eq!(session(b"order 12/a").ok(), Some("order 12/a"));
        let longest = [b'a'; LONGEST];
        assert!(session(&longest).is_ok());
        for wrong in [&b""[..], b"a\tb", "é".as_bytes(), b"\xff", &[b'a'; LONGEST + 1]] {
            assert!(session(wrong).is_err(), "{wrong:?}");
        }
    }
}
