//! `Idempotency-Key`: the same request twice is done once.
//!
//! The row is written in the transaction of the work itself, so there is no
//! moment at which the work is done and the key not known, or the other way
//! round; two at once meet in the writer, and the second sees the first's row.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;

use super::Problem;
use crate::clock::Timestamp;
use crate::db::{self, Tx, params};

/// How long an answer is kept.
const KEPT: std::time::Duration = std::time::Duration::from_hours(24);
/// The scope of the administrator's requests; tenants have their row number.
pub const ADMIN_SCOPE: i64 = 0;

/// A request's key and what it asks for.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    scope: i64,
    key: String,
    fingerprint: [u8; 32],
}

/// An answer as it was given the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// HTTP status.
    pub status: u16,
    /// JSON body.
    pub body: String,
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: do the work and [`store`](IdempotencyKey::store) its answer.
    Never,
    /// It was used for the same request.
    Before(Stored),
    /// It was used for another request.
    Otherwise,
}

/// What came of a request that creates something.
pub enum Created<T> {
    /// It was done.
    New(T),
    /// It had been done before.
    Replayed(Stored),
    /// The key was used for another request.
    KeyReused,
}

impl IdempotencyKey {
    /// The request's key, if it has one.
    ///
    /// # Errors
    /// When the header is not 1 to 255 printable ASCII characters.
    pub fn of(request: &HttpRequest, scope: i64, body: &Bytes) -> Result<Option<Self>, Problem> {
        let Some(value) = request.headers().get("idempotency-key") else { return Ok(None) };
        // to_str lets tabs through.
        let printable = |key: &&str| (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte != b'\t');
        let key = value.to_str().ok().filter(printable);
        let key = key.ok_or_else(|| {
            Problem::bad_request(
                "invalid_idempotency_key",
                "Idempotency-Key must be 1 to 255 printable ASCII characters",
            )
        })?;
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for part in [request.method().as_str(), request.path()] {
            digest.update(part.as_bytes());
            digest.update(b"\n");
        }
        digest.update(body);
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest.finish().as_ref());
        Ok(Some(Self { scope, key: key.to_owned(), fingerprint }))
    }

    /// Looks the key up; what is older than a day does not count.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn seen(&self, tx: &Tx<'_>, now: Timestamp) -> Result<Seen, db::Error> {
        let found = tx.one(
            "SELECT fingerprint, created_at, status, body FROM idempotency WHERE scope = ?1 AND key = ?2",
            params![self.scope, self.key],
            |row| {
                let stored = Stored { status: row.get(2)?, body: row.get(3)? };
                Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, i64>(1)?, stored))
            },
        )?;
        Ok(match found {
            Some((_, at, _)) if now.since(Timestamp::from_micros(at)) >= KEPT => Seen::Never,
            Some((fingerprint, _, stored)) if fingerprint == self.fingerprint => Seen::Before(stored),
            Some(_) => Seen::Otherwise,
            None => Seen::Never,
        })
    }

    /// Keeps the answer, in the transaction of the work.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn store(&self, tx: &Tx<'_>, now: Timestamp, answer: &Stored) -> Result<(), db::Error> {
        tx.execute(
            "INSERT INTO idempotency (scope, key, fingerprint, created_at, status, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (scope, key) DO UPDATE SET fingerprint = excluded.fingerprint,
                 created_at = excluded.created_at, status = excluded.status, body = excluded.body",
            params![self.scope, self.key, self.fingerprint, now.micros(), answer.status, answer.body],
        )?;
        Ok(())
    }
}

/// 422 for a key that was used for another request.
#[must_use]
pub fn reused() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency_key_reused",
        "this Idempotency-Key was used for another request",
    )
    .with_hint("use a new key for a new request; a key is remembered for 24 hours")
}

/// Does `work` once per idempotency key and keeps its answer, if it is one to be
/// kept; `None` when the work finds nothing to do it on.
///
/// # Errors
/// When the database fails.
pub fn once<T, A: Into<Option<Stored>>>(
    tx: &Tx<'_>,
    key: Option<&IdempotencyKey>,
    now: Timestamp,
    answer: impl Fn(&T) -> A,
    work: impl FnOnce() -> Result<Option<T>, db::Error>,
) -> Result<Option<Created<T>>, db::Error> {
    if let Some(key) = key {
        match key.seen(tx, now)? {
            Seen::Before(stored) => return Ok(Some(Created::Replayed(stored))),
            Seen::Otherwise => return Ok(Some(Created::KeyReused)),
            Seen::Never => {}
        }
    }
    let Some(value) = work()? else { return Ok(None) };
    if let (Some(key), Some(answer)) = (key, answer(&value).into()) {
        key.store(tx, now, &answer)?;
    }
    Ok(Some(Created::New(value)))
}

/// The stored answer again, without its body.
#[must_use]
pub fn replay(stored: &Stored) -> HttpResponseBuilder {
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::CREATED);
    let mut response = HttpResponse::build(status);
    response.insert_header(("Idempotency-Replayed", "true")).content_type("application/json");
    response
}

/// Forgets up to `limit` keys that are older than a day; how many it was.
///
/// # Errors
/// When the database cannot be written.
pub fn forget_old(tx: &Tx<'_>, now: Timestamp, limit: usize) -> Result<usize, db::Error> {
    let before = now.micros() - i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX);
    tx.execute(
        "DELETE FROM idempotency WHERE (scope, key) IN
             (SELECT scope, key FROM idempotency WHERE created_at < ?1 LIMIT ?2)",
        params![before, limit],
    )
}

/// Forgets a deleted tenant's keys.
///
/// # Errors
/// When the database cannot be written.
pub fn forget_scope(tx: &Tx<'_>, scope: i64, limit: usize) -> Result<usize, db::Error> {
    tx.execute(
        "DELETE FROM idempotency WHERE (scope, key) IN
             (SELECT scope, key FROM idempotency WHERE scope = ?1 LIMIT ?2)",
        params![scope, limit],
    )
}
